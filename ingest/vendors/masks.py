"""Masks of segmentations that lie beside an output as image files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...atlas.image_sources import label_image, open_pixels

if TYPE_CHECKING:
    from pathlib import Path

    from ...atlas.images import Affine
    from .vendor import Survey

__all__ = ["add_mask"]


def add_mask(survey: Survey, name: str, path: Path, affine: Affine) -> None:
    """Add a mask to a survey; a file that is none, such as a picture of one, is noted instead.

    Parameters
    ----------
    survey : Survey
        Added to.
    name : str
        Of the element.
    path : Path
        The file; its header is read.
    affine : Affine
        Pixels (x, y) to coordinates of the section.

    Raises
    ------
    InputError
        The file is no image.
    """
    with open_pixels(path) as pixels:
        if pixels.shape[0] != 1 or pixels.dtype.kind not in "iu":
            survey.notes.append(f"{path.name} is no mask of whole numbers; left out")
            return
    survey.labels[name] = label_image(path, affine)
