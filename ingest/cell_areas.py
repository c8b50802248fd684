"""Areas of cells in square micrometers: from their boundaries, or from a column that says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ..atlas.section_arrays import RowArray
    from ..atlas.shapes import RingGroup

__all__ = ["BoundaryAreas", "area_column", "column_areas", "ring_areas"]

_STATED = ("Area.um2", "area_um2", "cell_area_um2", "Area_um2")
_BY_TECHNOLOGY = {"xenium": "cell_area"}
"""Columns without a unit in the name whose vendor documents square micrometers."""


def ring_areas(vertices: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(m,) areas that rings enclose, by the shoelace formula; the last vertex joins the first.

    Examples
    --------
    >>> import numpy as np
    >>> square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 3.0], [0.0, 3.0]])
    >>> ring_areas(square, np.array([4])).tolist()
    [6.0]
    """
    starts = np.cumsum(counts) - counts
    # Around the first vertex, so that far from the origin nothing is lost to rounding.
    local = vertices - np.repeat(vertices[starts], counts, axis=0)
    following = np.arange(1, vertices.shape[0] + 1)
    following[starts + counts - 1] = starts
    x, y = local[:, 0], local[:, 1]
    twice = np.add.reduceat(x * y[following] - x[following] * y, starts)
    areas: NDArray[np.float64] = np.abs(twice) / 2
    return areas


@dataclass(frozen=True, slots=True)
class BoundaryAreas:
    """Areas in row order in a scratch file, 4 bytes a cell: nothing is held."""

    path: Path
    """Scratch file; must not exist."""

    def passing(self, groups: Iterable[RingGroup]) -> Iterator[RingGroup]:
        """Hand on boundaries and note their areas; NaN for outlines that stand for none."""
        with self.path.open("xb") as file:
            for group in groups:
                areas = ring_areas(group.vertices, group.counts).astype(np.float32)
                areas[group.drawn] = np.nan
                file.write(memoryview(areas).cast("B"))
                yield group

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        """(m,) areas of the rows start:stop."""
        found = np.fromfile(self.path, np.float32, stop - start, offset=4 * start)
        return found.astype(np.float64)


def area_column(columns: Iterable[str], technology: str) -> str | None:
    """Name of the numeric column that holds square micrometers, by its name or its vendor.

    Examples
    --------
    >>> area_column(["cell_area", "x"], "Xenium"), area_column(["cell_area"], "merfish")
    ('cell_area', None)
    """
    known = [name for vendor, name in _BY_TECHNOLOGY.items() if vendor in technology.lower()]
    names = set(columns)
    return next((name for name in (*_STATED, *known) if name in names), None)


def column_areas(
    info: Mapping[str, Any], array: Callable[[str], RowArray], paths: Iterable[str]
) -> Callable[[int, int], NDArray[np.float64]]:
    """Read areas from a stored obs column; NaN where it is missing or not above zero."""
    path = str(info["path"])
    masked = f"{path}/mask" in set(paths)

    def read(start: int, stop: int) -> NDArray[np.float64]:
        values = array(f"{path}/values" if masked else path).read([(start, stop)])
        areas = values.astype(np.float64)
        if masked:
            areas[array(f"{path}/mask").read([(start, stop)])] = np.nan
        areas[~(areas > 0)] = np.nan
        return areas

    return read
