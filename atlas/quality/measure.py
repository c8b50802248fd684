"""Count the quality of a section in one pass over its rows, some whole tiles at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .histogram import Distribution, LogHistogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..quadtree import TileTable
    from ..section_arrays import RowArray

__all__ = ["Areas", "Measured", "StoredRows", "measure"]

Areas = Callable[[int, int], "NDArray[np.float64]"]
"""Areas in square micrometers of the cells of the rows start:stop; NaN where one is not known."""

_STRETCH = 1 << 16  # rows of which everything is held: some 6 MB
_PIXELS = 64  # of the longer side of the picture
_CELLS_PER_PIXEL = 2  # so that a lattice of spots leaves no stripes
_POSITIONS = "tables/table/obsm/spatial"
_X = "tables/table/X"
_CONTROLS = "tables/controls/X"


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows of a section as they are stored, stretch by stretch."""

    array: Callable[[str], RowArray]
    """Opens an array by its path in the section."""
    tiles: TileTable
    """Tiles of the section."""
    bounds: tuple[float, float, float, float]
    """xmin, ymin, xmax, ymax of the positions."""
    paths: Mapping[str, Any]
    """Paths of the arrays that there are."""

    @property
    def has_controls(self) -> bool:
        """Whether control features are stored apart from the genes."""
        return f"{_CONTROLS}/indptr" in self.paths

    def depth(self, start: int, stop: int) -> NDArray[np.float64]:
        """(m,) sums of stored values."""
        if "tisseract/depth" not in self.paths:
            return self._sums(_X, start, stop)
        return self.array("tisseract/depth").read([(start, stop)])

    def genes(self, start: int, stop: int) -> NDArray[np.int64]:
        """(m,) stored values, all above zero."""
        return np.diff(self.array(f"{_X}/indptr").read([(start, stop + 1)]))

    def positions(self, start: int, stop: int) -> NDArray[np.float64]:
        """(m, 2) x, y."""
        return self.array(_POSITIONS).read([(start, stop)])

    def controls(self, start: int, stop: int) -> NDArray[np.float64]:
        """(m,) sums of control features."""
        return self._sums(_CONTROLS, start, stop)

    def _sums(self, matrix: str, start: int, stop: int) -> NDArray[np.float64]:
        ptr = self.array(f"{matrix}/indptr").read([(start, stop + 1)])
        if ptr[-1] == ptr[0]:
            return np.zeros(stop - start)
        data = self.array(f"{matrix}/data").read([(int(ptr[0]), int(ptr[-1]))])
        ends = np.concatenate([[0.0], np.cumsum(data, dtype=np.float64)])
        return np.diff(ends[ptr - ptr[0]])

    def stretches(self) -> Iterator[tuple[int, int]]:
        """Yield runs of tiles (first, stop) of some ten thousand rows at most, or of one tile."""
        ptr, first = self.tiles.ptr, 0
        while first < len(self.tiles):
            stop = int(np.searchsorted(ptr, ptr[first] + _STRETCH, side="right")) - 1
            stop = min(max(stop, first + 1), len(self.tiles))
            yield first, stop
            first = stop


@dataclass(frozen=True, slots=True)
class Measured:
    """What one pass over the rows counted."""

    columns: Mapping[str, NDArray[np.float64]]
    """(T,) numbers of each tile by name; they add up to those of the section."""
    counts: Distribution
    """Sum of stored values of each cell."""
    genes: Distribution
    """Genes above zero of each cell."""
    area: Distribution | None
    """Area of each cell in square micrometers."""
    preview: NDArray[np.float32]
    """(2, height, width) cells of each pixel, and the sum of their stored values."""


def measure(rows: StoredRows, areas: Areas | None = None) -> Measured:
    """Read depth, pointers and positions of all rows once.

    Parameters
    ----------
    rows : StoredRows
        The section.
    areas : callable, optional
        Asked for ascending stretches.

    Returns
    -------
    Measured
        Memory: some 10 MB, and 100 bytes a tile.
    """
    tally = _Tally(rows, areas)
    for first, stop in rows.stretches():
        tally.add(first, stop)
    return tally.measured()


class _Tally:
    """Numbers of the tiles and of the section while stretches are read."""

    def __init__(self, rows: StoredRows, areas: Areas | None) -> None:
        self.rows, self.areas = rows, areas
        names = ["n_obs", "n_counts", "n_genes", "n_empty", "n_duplicated"]
        names += ["n_controls"] if rows.has_controls else []
        names += ["area_um2", "n_area"] if areas is not None else []
        self.columns = {name: np.zeros(len(rows.tiles)) for name in names}
        self.columns["n_obs"][:] = rows.tiles.n_cells
        self.counts, self.genes, self.area = LogHistogram(), LogHistogram(), LogHistogram()
        self.picture = _Picture(rows.bounds, int(rows.tiles.ptr[-1]))

    def add(self, first: int, stop: int) -> None:
        """Count the tiles first:stop."""
        ptr = self.rows.tiles.ptr
        start, end = int(ptr[first]), int(ptr[stop])
        edges = ptr[first:stop] - start
        depth, genes = self.rows.depth(start, end), self.rows.genes(start, end)
        xy = self.rows.positions(start, end)
        found = {
            "n_counts": depth,
            "n_genes": genes,
            "n_empty": genes == 0,
            "n_duplicated": _repeated(xy),
        }
        if self.rows.has_controls:
            found["n_controls"] = self.rows.controls(start, end)
        if self.areas is not None:
            area = self.areas(start, end)
            self.area.add(area)
            found |= {"area_um2": np.nan_to_num(area), "n_area": np.isfinite(area)}
        for name, values in found.items():
            sums = np.add.reduceat(np.asarray(values, np.float64), edges)
            self.columns[name][first:stop] = sums
        self.counts.add(depth)
        self.genes.add(genes)
        self.picture.add(xy, depth)

    def measured(self) -> Measured:
        area = self.area.distribution() if self.areas is not None else None
        return Measured(
            self.columns,
            self.counts.distribution(),
            self.genes.distribution(),
            area,
            self.picture.pixels.astype(np.float32),
        )


def _repeated(xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(m,) whether a row lies exactly where another one before it does.

    Rows at one place are in one tile, so that looking at whole tiles finds all.
    """
    order = np.lexsort((xy[:, 1], xy[:, 0]))
    ordered = xy[order]
    found = np.zeros(xy.shape[0], bool)
    found[order[1:]] = (ordered[1:] == ordered[:-1]).all(axis=1)
    return found


class _Picture:
    """Cells and their values on a grid over the section, at most 64 pixels a side."""

    def __init__(self, bounds: tuple[float, float, float, float], n_obs: int) -> None:
        xmin, ymin, xmax, ymax = bounds
        wide, high = xmax - xmin, ymax - ymin
        pixels = min(_PIXELS, max(8, int((n_obs / _CELLS_PER_PIXEL) ** 0.5)))
        self.side = max(wide, high) / pixels or 1.0
        self.low = np.array([xmin, ymin])
        self.shape = (self._length(high), self._length(wide))
        self.pixels = np.zeros((2, *self.shape))

    def _length(self, extent: float) -> int:
        return min(_PIXELS, max(1, round(extent / self.side)))

    def add(self, xy: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Count some cells."""
        at = ((xy - self.low) / self.side).astype(np.int64)
        x, y = (np.clip(at[:, k], 0, self.shape[1 - k] - 1) for k in (0, 1))
        flat = y * self.shape[1] + x
        size = self.shape[0] * self.shape[1]
        self.pixels[0] += np.bincount(flat, minlength=size).reshape(self.shape)
        self.pixels[1] += np.bincount(flat, values, minlength=size).reshape(self.shape)
