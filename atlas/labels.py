"""Label images as pyramids inside a SpatialData container, written band by band.

As `atlas.images`, but a coarser level takes one pixel of four: a mean of labels is no label.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError, InvalidArgument
from .images import (
    IDENTITY,
    Affine,
    Pixels,
    bands,
    check_name,
    create_level,
)
from .memory import refuse_above
from .raster_metadata import datasets_of, placement

if TYPE_CHECKING:
    import zarr

__all__ = ["LazyLabels", "label_shapes", "least_label_bytes", "write_labels"]

_BAND = 512  # rows, one chunk high
_SMALLEST = 256  # no level whose longer side would be below this
_OVERHEAD = 16 * 2**20


def label_shapes(height: int, width: int) -> list[tuple[int, int]]:
    """(y, x) of each level, the full resolution first.

    >>> label_shapes(1100, 700)
    [(1100, 700), (550, 350), (275, 175)]
    """
    shapes = [(height, width)]
    while max(shapes[-1]) // 2 >= _SMALLEST:
        h, w = shapes[-1]
        shapes.append((max(1, h // 2), max(1, w // 2)))
    return shapes


def least_label_bytes(pixels: Pixels) -> int:
    """Memory that writing labels takes: a band of 512 rows, and what the decoder holds."""
    band = _BAND * pixels.shape[2] * pixels.dtype.itemsize
    return pixels.held_bytes + 6 * band + _OVERHEAD


def write_labels(
    section: Path,
    name: str,
    pixels: Pixels,
    *,
    affine: Affine = IDENTITY,
    coordinate_system: str = "microns",
    memory_limit: int,
) -> None:
    """Write `labels/<name>` of the SpatialData container at `section`; holds a band of rows.

    Raises
    ------
    InvalidArgument
        Not one plane of whole numbers, or a name that SpatialData refuses.
    BudgetExceeded
        If a band of 512 rows does not fit into `memory_limit`.
    """
    check_name(name)
    planes, height, width = pixels.shape
    if planes != 1 or pixels.dtype.kind not in "iu" or min(height, width) < 1:
        raise InvalidArgument(
            f"expected labels as one plane of whole numbers, but got {pixels.dtype} of shape "
            f"{pixels.shape}"
        )
    refuse_above(
        memory_limit,
        least_label_bytes(pixels),
        f"writing labels of {width} x {height} pixels",
        "raise memory_limit, or write them in smaller chunks",
    )
    group = _group(section, name)
    shapes = label_shapes(height, width)
    shard = (_BAND, 4 * _BAND)
    level = create_level(group, 0, shapes[0], shard, pixels.dtype.name)
    for start, stop in bands(height, _BAND):
        level[start:stop] = pixels.rows(start, stop)[0]
    for number in range(1, len(shapes)):
        finer, (height, width) = level, shapes[number]
        level = create_level(group, number, shapes[number], shard, pixels.dtype.name)
        for start, stop in bands(height, _BAND):
            level[start:stop] = np.concatenate(
                [
                    np.asarray(finer[2 * (start + low) : 2 * (start + high)])[::2, ::2][
                        : high - low, :width
                    ]
                    for low, high in bands(stop - start, _BAND // 2)
                ]
            )
    _describe(group, name, shapes, placement(affine, coordinate_system, "yx"))


def _group(section: Path, name: str) -> zarr.Group:
    import zarr

    root = zarr.open_group(section, mode="a", zarr_format=3)
    labels = root.require_group("labels")
    if name in labels:
        raise InputError(f"{section.name}: expected one label image {name!r}, but got it twice")
    group = labels.create_group(name)
    # NGFF wants the names of all labels beside them.
    labels.attrs["ome"] = {"labels": sorted(labels.group_keys())}
    return group


def _describe(
    group: zarr.Group, name: str, shapes: list[tuple[int, int]], transform: dict[str, Any]
) -> None:
    multiscale: Any = {
        "name": name,
        "axes": [{"name": axis, "type": "space"} for axis in "yx"],
        "datasets": datasets_of(shapes),
        "coordinateTransformations": [transform],
    }
    group.attrs.update(
        {
            "ome": {
                "version": "0.5-dev-spatialdata",
                "multiscales": [multiscale],
                "image-label": {"version": "0.5"},
            },
            "spatialdata_attrs": {"version": "0.3"},
        }
    )


@dataclass(frozen=True, slots=True)
class LazyLabels:
    """A label image that is opened when it is written; small and picklable if its opener is."""

    open: Callable[[], AbstractContextManager[Pixels]]
    """Opens the pixels."""
    affine: Affine = IDENTITY
    """Pixels (x, y) to coordinates of the section."""

    @property
    def nbytes(self) -> int:
        """Uncompressed size of the full resolution; reads the header."""
        with self.open() as pixels:
            return int(np.prod(pixels.shape)) * pixels.dtype.itemsize

    def write(self, section: Path, name: str, *, coordinate_system: str, memory_limit: int) -> None:
        """Write `labels/<name>` of the container at `section`."""
        with self.open() as pixels:
            write_labels(
                section,
                name,
                pixels,
                affine=self.affine,
                coordinate_system=coordinate_system,
                memory_limit=memory_limit,
            )
