"""Windows of one section, described block by block of its cells."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..cells.rows import RunArray, count, pairs_of
from .cells import blocks
from .features import Features
from .shares import ShareColumn
from .windows import Layout, WindowGrid, occupied

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

# Deviations below this are rounding.
_TINY = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The windows of one size of one section that hold enough cells."""

    grid: NDArray[np.int64]
    """(w, 2) column and row."""
    n_cells: NDArray[np.int64]
    """(w,)"""
    mean: NDArray[np.float64]
    """(w, d) of the cells' features, centered on the section."""
    spread: NDArray[np.float64]
    """(w, d) standard deviation of the cells' features."""
    shares: tuple[NDArray[np.float64], ...]
    """(w, K) for each column: share of the cells with each value."""


@dataclass(slots=True)
class _Sums:
    """Sums over the cells of each bin."""

    layout: Layout
    n: NDArray[np.float64]
    total: NDArray[np.float64]
    square: NDArray[np.float64]
    labels: list[NDArray[np.float64]]

    @classmethod
    def empty(cls, layout: Layout, width: int, columns: Sequence[ShareColumn]) -> "_Sums":
        b = len(layout.code)
        labels = [np.zeros((b, len(column.values))) for column in columns]
        return cls(layout, np.zeros(b), np.zeros((b, width)), np.zeros((b, width)), labels)

    def add(
        self,
        bins: NDArray[np.int64],
        values: NDArray[np.float64],
        codes: Sequence[NDArray[np.int64]],
    ) -> None:
        """Add cells in their bins (m, 2)."""
        import scipy.sparse as sp

        rows = self.layout.rows(bins)
        touched, place = np.unique(rows, return_inverse=True)
        m = len(rows)
        gather = sp.csr_array((np.ones(m), (place, np.arange(m))), shape=(len(touched), m))
        self.n[touched] += np.bincount(place, minlength=len(touched))
        self.total[touched] += gather @ values
        self.square[touched] += gather @ (values * values)
        for sums, code in zip(self.labels, codes, strict=True):
            known = code >= 0
            np.add.at(sums, (rows[known], code[known]), 1.0)

    def windows(self, center: NDArray[np.float64], least: int) -> Windows:
        pool = self.layout.pooling
        n = np.asarray(pool @ self.n)
        kept = np.flatnonzero(n >= least)
        pool, n = pool[kept], n[kept]
        mean = (pool @ self.total) / n[:, None]
        square = (pool @ self.square) / n[:, None]
        spread = np.sqrt(np.maximum(square - mean * mean, 0.0))
        spread[spread < _TINY * (1 + np.abs(mean))] = 0.0
        shares = tuple((pool @ sums) / n[:, None] for sums in self.labels)
        return Windows(self.layout.windows[kept], n.astype(np.int64), mean - center, spread, shares)


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """All that an index keeps of one section."""

    scale: float
    """Unit of the sizes, in the unit of the positions."""
    grids: tuple[WindowGrid, ...]
    windows: tuple[Windows, ...]
    center: NDArray[np.float64]
    """(d,) mean of the features over the section's cells."""
    n_cells: int


def walk(
    store: "AtlasStore",
    section: "Section",
    runs: RunArray,
    features: Features,
    columns: Sequence[ShareColumn],
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], list[NDArray[np.int64]]]]:
    """Positions, features and codes of rows, a block of cells at a time."""
    for part in blocks(runs):
        codes = [column.codes(store, section, part) for column in columns]
        values = features.read(section, part).astype(np.float64)
        yield section.positions(pairs_of(part)), values, codes


def describe_section(
    store: "AtlasStore",
    section: "Section",
    runs: RunArray,
    features: Features,
    columns: Sequence[ShareColumn],
    *,
    sizes: Sequence[float],
    scale: float,
    least: int,
) -> Described:
    """Describe the windows of a section; memory its windows and one block of cells.

    Parameters
    ----------
    store, section
        The section and its atlas.
    runs
        Cells that take part.
    features
        What a cell is described by.
    columns
        Labels of which windows keep the shares.
    sizes
        Sides of the windows.
    scale
        One unit of the sizes, in the unit of the positions.
    least
        Cells a window must hold.
    """
    xmin, ymin, *_ = section.bounds
    grids = tuple(WindowGrid(xmin, ymin, size * scale) for size in sizes)
    codes = [
        occupied((section.positions(pairs_of(part)) for part in blocks(runs)), grid)
        for grid in grids
    ]
    sums = [_Sums.empty(Layout.of(code), features.width, columns) for code in codes]
    center = np.zeros(features.width)
    for points, values, labels in walk(store, section, runs, features, columns):
        center += values.sum(axis=0)
        for grid, part in zip(grids, sums, strict=True):
            part.add(grid.bins(points), values, labels)
    n = count(runs)
    center /= max(n, 1)
    windows = tuple(part.windows(center, least) for part in sums)
    return Described(scale, grids, windows, center, n)
