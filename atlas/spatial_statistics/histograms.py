"""How many neighbors cells have, and how far away they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InvalidArgument
from .restricted import check_mask, restrict
from .row_graph import map_blocks

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ..graph.edges import Edges
    from .row_graph import RowGraph

__all__ = [
    "DegreeHistogram",
    "EdgeLengthHistogram",
    "degree_histogram",
    "edge_length_histogram",
]


@dataclass(frozen=True, slots=True, eq=False)
class DegreeHistogram:
    """Cells by their number of neighbors."""

    counts: NDArray[np.int64]
    """(largest degree + 1,) cells that have this many neighbors."""

    @property
    def n_obs(self) -> int:
        """Cells."""
        return int(self.counts.sum())

    @property
    def n_edges(self) -> int:
        """Edges, each direction on its own."""
        return int(np.arange(self.counts.size) @ self.counts)

    @property
    def mean(self) -> float:
        """Neighbors of a cell, on average."""
        return self.n_edges / self.n_obs

    @property
    def n_isolated(self) -> int:
        """Cells without a neighbor of their own; others may still name them."""
        return int(self.counts[0])

    def to_frame(self) -> pd.DataFrame:
        """Return a table: degree, n_cells."""
        import pandas as pd

        return pd.DataFrame({"degree": np.arange(self.counts.size), "n_cells": self.counts})

    def __str__(self) -> str:
        used = np.flatnonzero(self.counts)
        return (
            f"degrees: {self.n_obs:,} cells, {self.n_edges:,} edges, {used[0]} to {used[-1]} "
            f"neighbors a cell, {self.mean:.2f} on average, {self.n_isolated:,} cells with none"
        )


def degree_histogram(
    graph: RowGraph, *, cells: NDArray[np.bool_] | None = None, threads: int | None = None
) -> DegreeHistogram:
    """Count the cells that have 0, 1, 2 ... neighbors.

    Parameters
    ----------
    graph : RowGraph
        Read once; the neighbors counted are those in a cell's own row.
    cells : (n_obs,) bool, optional
        Only these cells and the edges between them, such as those of a graph built with a mask.
    threads : int, optional
        One a core without; makes no difference to the result.

    Returns
    -------
    DegreeHistogram
        Memory: the blocks in work, nothing per cell.

    Examples
    --------
    >>> from tisseract.atlas.graph.edges import Edges
    >>> class Path:  # 0 - 1 - 2
    ...     n_obs, row_ptr = 3, (0, 2, 3)
    ...     def edges(self, runs):
    ...         rows = {(0, 2): [[1], [0, 2]], (2, 3): [[1]]}[runs[0]]
    ...         indices = np.concatenate(rows).astype(np.int32)
    ...         indptr = np.cumsum([0, *map(len, rows)])
    ...         return Edges(indptr, indices, np.ones(indices.size))
    >>> print(degree_histogram(Path()))
    degrees: 3 cells, 4 edges, 1 to 2 neighbors a cell, 1.33 on average, 0 cells with none
    """
    total = np.zeros(1, np.int64)
    kept = check_mask(cells, graph.n_obs)

    def count(first_row: int, edges: Edges) -> NDArray[np.int64]:
        degree = np.diff(edges.indptr)
        if kept is not None:
            degree = degree[kept[first_row : first_row + degree.size]]
        return np.bincount(degree, minlength=1).astype(np.int64, copy=False)

    for counts in map_blocks(restrict(graph, kept), count, threads):
        longer, shorter = (counts, total) if counts.size > total.size else (total, counts)
        longer[: shorter.size] += shorter
        total = longer
    return DegreeHistogram(total)


@dataclass(frozen=True, slots=True, eq=False)
class EdgeLengthHistogram:
    """Edges by length, in the units of the graph's distances; each direction on its own."""

    counts: NDArray[np.int64]
    """(m,) edges in each bin; the last bin holds its right end, the others do not."""
    bins: NDArray[np.float64]
    """(m + 1,) ends of the bins, ascending."""
    n: int
    """Edges, those outside of the bins included."""
    total: float
    """Sum of all lengths."""
    min: float
    """Shortest edge; NaN without edges."""
    max: float
    """Longest edge; NaN without edges."""

    @property
    def mean(self) -> float:
        """Mean length; NaN without edges."""
        return self.total / self.n if self.n else math.nan

    def to_frame(self) -> pd.DataFrame:
        """Return a table: start and stop of each bin, n_edges."""
        import pandas as pd

        return pd.DataFrame(
            {"start": self.bins[:-1], "stop": self.bins[1:], "n_edges": self.counts}
        )

    def __str__(self) -> str:
        return (
            f"edge lengths: {self.n:,} edges, {self.min:.6g} to {self.max:.6g}, "
            f"{self.mean:.6g} on average"
        )


@dataclass(frozen=True, slots=True)
class _Extent:
    """Count, sum and extremes of the lengths of one block."""

    n: int
    total: float
    low: float
    high: float


def edge_length_histogram(
    graph: RowGraph,
    bins: int | Sequence[float] = 50,
    *,
    cells: NDArray[np.bool_] | None = None,
    threads: int | None = None,
) -> EdgeLengthHistogram:
    """Count the edges by length: `numpy.histogram` of all distances, without holding them.

    Parameters
    ----------
    graph : RowGraph
        Read once, or twice where `bins` is a number: the extremes must be known first.
    bins : int or sequence of float
        Number of equal bins from the shortest to the longest edge, or the ends of the bins.
    cells : (n_obs,) bool, optional
        Only these cells and the edges between them, such as those of a graph built with a mask.
    threads : int, optional
        One a core without; makes no difference to the result.

    Returns
    -------
    EdgeLengthHistogram
        Counts are exact. Memory: the blocks in work, nothing per cell.

    Raises
    ------
    InvalidArgument
        Bins that do not ascend, or fewer than one.

    Examples
    --------
    >>> from tisseract.atlas.graph.edges import Edges
    >>> class Pair:
    ...     n_obs, row_ptr = 2, (0, 2)
    ...     def edges(self, runs):
    ...         return Edges(np.arange(3), np.array([1, 0], np.int32), np.array([5.0, 5.0]))
    >>> edge_length_histogram(Pair(), [0, 4, 8]).counts.tolist()
    [0, 2]
    """
    graph = restrict(graph, check_mask(cells, graph.n_obs))
    if isinstance(bins, int):
        extent = _merge([found for found, _ in map_blocks(graph, partial(_measure, None), threads)])
        ends = _equal_ends(extent, bins)
    else:
        ends = _check_ends(bins)
    parts = list(map_blocks(graph, partial(_measure, ends), threads))
    extent = _merge([found for found, _ in parts])
    counts = np.sum([counts for _, counts in parts], axis=0, dtype=np.int64)
    return EdgeLengthHistogram(counts, ends, extent.n, extent.total, extent.low, extent.high)


def _check_ends(bins: Sequence[float]) -> NDArray[np.float64]:
    ends = np.asarray(bins, np.float64)
    if ends.ndim != 1 or ends.size < 2 or not (np.diff(ends) > 0).all():
        raise InvalidArgument(
            f"bins must be a number from 1, or two or more ascending ends, but got {bins!r}"
        )
    return ends


def _equal_ends(extent: _Extent, bins: int) -> NDArray[np.float64]:
    if bins < 1:
        raise InvalidArgument(f"bins must be a number from 1, or ascending ends, but got {bins}")
    low, high = (extent.low, extent.high) if extent.n else (0.0, 1.0)
    if low == high:  # as numpy.histogram does: a bin must have a width
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)


def _measure(
    ends: NDArray[np.float64] | None, first_row: int, edges: Edges
) -> tuple[_Extent, NDArray[np.int64]]:
    del first_row
    lengths = edges.distances.astype(np.float64, copy=False)
    if not lengths.size:
        extent = _Extent(0, 0.0, math.inf, -math.inf)
    else:
        low, high = float(lengths.min()), float(lengths.max())
        extent = _Extent(lengths.size, float(lengths.sum()), low, high)
    if ends is None:
        return extent, np.zeros(0, np.int64)
    return extent, np.histogram(lengths, ends)[0].astype(np.int64, copy=False)


def _merge(parts: list[_Extent]) -> _Extent:
    n = sum(part.n for part in parts)
    if not n:
        return _Extent(0, 0.0, math.nan, math.nan)
    return _Extent(
        n,
        math.fsum(part.total for part in parts),
        min(part.low for part in parts),
        max(part.high for part in parts),
    )
