"""What feature_slice.h5 of Visium HD says beside its counts: layout and transforms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.image_sources import file_image, open_pixels
from ..guard import open_hdf5
from ..hdf5_heaps import check_heaps
from ..reader import faults_of
from .spaceranger_parts import within

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.images import Affine
    from ..reader import ReadOptions
    from ..source import ImageSource
    from .folder import Folder

__all__ = ["cytassist_affine", "find_slice", "slice_facts"]

_KEPT = ("sample_id", "sample_desc", "file_format", "transform_matrices", "hd_layout_json")
_LETTERS = 20_000
_FARTHEST_UM = 2.0


def find_slice(folder: Folder, bases: Sequence[str]) -> Path | None:
    """Find the file, None without one."""
    return folder.find(*within(bases, "feature_slice.h5"))


def slice_facts(path: Path) -> dict[str, object]:
    """Read the attributes of the file; its thousands of groups are left alone.

    Raises
    ------
    InputError
        It cannot be read.
    """
    what = "feature_slice.h5"
    check_heaps(path)
    # Attributes of the root reach nowhere: the walk over all groups is spared.
    with faults_of(path, what, parsing=True), open_hdf5(path, what, checked=True) as file:
        facts: dict[str, object] = {}
        for name in ("software_version", "filetype"):
            value = file.attrs.get(name)
            if isinstance(value, (str, bytes)):
                facts[name] = (value.decode() if isinstance(value, bytes) else value)[:_LETTERS]
        said = file.attrs.get("metadata_json", "{}")
        metadata = json.loads(said if isinstance(said, (str, bytes)) else "{}")
        if isinstance(metadata, dict):
            short = {name: metadata[name] for name in _KEPT if name in metadata}
            facts |= {k: v for k, v in short.items() if len(json.dumps(v)) < _LETTERS}
    return facts


def cytassist_affine(
    image: Path, facts: Mapping[str, object], unit: float, options: ReadOptions
) -> tuple[ImageSource | None, str]:
    """Place the CytAssist image by the transforms of the file, where an affine one comes near.

    Returns
    -------
    (image or None, note)

    Raises
    ------
    InputError
        The image cannot be read.
    """
    matrix = _to_pixels(facts.get("transform_matrices"))
    if matrix is None:
        return None, f"{image.name} is not written: feature_slice.h5 does not place it"
    with open_pixels(image) as pixels:
        _, height, width = pixels.shape
    x, y = np.meshgrid(np.linspace(0, width, 9), np.linspace(0, height, 9))
    points = np.column_stack([x.ravel(), y.ravel(), np.ones(x.size)])
    with np.errstate(over="ignore", invalid="ignore"):
        mapped = points @ matrix.T
    if not np.isfinite(mapped).all() or np.abs(mapped[:, 2]).min() < 1e-9:
        return None, f"{image.name} is not written: its transform is singular"
    there = mapped[:, :2] / mapped[:, 2:]
    fit = np.linalg.lstsq(points, there, rcond=None)[0]
    error = float(np.abs(points @ fit - there).max()) * unit
    if error > _FARTHEST_UM:
        return None, f"{image.name} is not written: no affine transform comes nearer {error:.3g} um"
    sign = -1.0 if options.y_axis == "up" else 1.0
    (a, d), (b, e), (c, f) = (fit * np.array([unit, sign * unit])).tolist()
    affine: Affine = ((a, b, c), (d, e, f))
    return file_image(image, affine), f"{image.name} placed to {error:.2g} um by feature_slice.h5"


def _to_pixels(matrices: object) -> NDArray[np.float64] | None:
    """CytAssist pixels to pixels of the full-resolution image, None when not said."""
    if not isinstance(matrices, dict):
        return None
    names = ("cytassist_colrow_to_spot_colrow", "spot_colrow_to_microscope_colrow")
    found: list[Any] = []
    for name in names:
        try:
            one = np.asarray(matrices.get(name), np.float64).ravel()
        except (TypeError, ValueError):
            return None
        if one.size != 9 or not np.isfinite(one).all():
            return None
        found.append(one.reshape(3, 3))
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite has no place
        return np.asarray(found[1] @ found[0], np.float64)
