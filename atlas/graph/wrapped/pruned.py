"""Edges of a graph that are neither too short nor too long, by a bound or by a percentile."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InvalidArgument
from ..edges import Edges, stream_edges
from ..order_statistic import check_percentile, percentile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ...quadtree import Runs
    from ..edges import EdgeSource
    from ..order_statistic import Run

__all__ = ["PrunedEdges", "squidpy_percentile"]

# Lengths that are counted at once: six numbers of 8 bytes each while they are sorted.
_MOST_LENGTHS = 2**20


@dataclass(frozen=True, slots=True)
class PrunedEdges:
    """The edges of another source with ``shortest <= d <= longest``; then the shorter part of them.

    With a percentile, of the edges left those are kept that are at most as long as
    ``numpy.percentile`` of their lengths, each direction counted, float64, exact: two passes over
    the section find it (see `order_statistic`), whatever the tiles and blocks.

    Notes
    -----
    squidpy takes the percentile of all numbers stored in its distance matrix, which holds a zero
    on the diagonal for every cell and one for every edge that a radius has pruned before. So its
    99 is not the 99th percentile of the lengths, and moves with the number of neighbors. Here it
    is the percentile of the edges. `squidpy_percentile` converts: squidpy's q is the percentile

        100 * ((m + z - 1) * q / 100 - z) / (m - 1)

    of m edges where squidpy holds z zeros. squidpy also drops edges of length zero, between cells
    at one position; these are kept here.

    Examples
    --------
    A cap on the length of nearest-neighbor edges is ``PrunedEdges(KnnEdges(section, 10), 0, 30)``.
    """

    inner: EdgeSource
    """Where the edges come from."""
    shortest: float = 0.0
    """Least length of an edge, in the unit of the distances."""
    longest: float = math.inf
    """Greatest length of an edge."""
    percentile: float | None = None
    """0 to 100: of the edges within both bounds, this share is kept, the shortest first."""
    threshold: float | None = None
    """Greatest length by the percentile, once measured; 0 where there are no edges."""

    def __post_init__(self) -> None:
        if not 0 <= self.shortest <= self.longest:
            raise InvalidArgument(
                "lengths of edges must be bounded by 0 <= shortest <= longest, but got "
                f"{self.shortest!r} and {self.longest!r}"
            )
        if self.percentile is not None:
            check_percentile(self.percentile)

    @property
    def facts(self) -> dict[str, str | float]:
        """What was found out before, and the threshold of the percentile."""
        found = {} if self.threshold is None else {"threshold": self.threshold}
        return {**self.inner.facts, **found}

    def prepare(self, blocks: Sequence[Runs], run: Run) -> PrunedEdges:
        """Measure the percentile, so that tasks need not know each other's edges."""
        inner = self.inner.prepare(blocks, run)
        threshold = self.threshold
        if self.percentile is not None and threshold is None:
            lengths = partial(_lengths, inner, self.shortest, self.longest)
            threshold = percentile(lengths, self.percentile, blocks, run) or 0.0
        return replace(self, inner=inner, threshold=threshold)

    def edges(self, runs: Runs) -> Edges:
        """Return the edges of the rows that are left.

        Notes
        -----
        Memory: the edges of the inner source and 21 bytes for each of them.
        """
        return _within(self.inner.edges(runs), self.shortest, self._longest())

    def stream(self, runs: Runs, most_edges: int) -> tuple[NDArray[np.int64], Iterator[Edges]]:
        """Compute the edges that are left in pieces, where the inner source has many.

        Notes
        -----
        See `edges.stream_edges`. Edges that come in several pieces are computed twice: to count
        those that are left, and to hand them out.
        """
        longest, most = self._longest(), _piece(most_edges)
        inner, pieces = stream_edges(self.inner, runs, most)
        if int(inner[-1]) <= most:
            edges = Edges.concatenate([_within(piece, self.shortest, longest) for piece in pieces])
            return edges.indptr, iter([edges])
        counts = [np.diff(_within(piece, self.shortest, longest).indptr) for piece in pieces]
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(counts))])
        again = stream_edges(self.inner, runs, most)[1]
        return indptr, (_within(piece, self.shortest, longest) for piece in again)

    def _longest(self) -> float:
        """Greatest length of an edge that is left, by the bound and by the percentile."""
        if self.percentile is None:
            return self.longest
        if self.threshold is None:
            raise RuntimeError("the percentile must be measured first: call prepare")
        return min(self.longest, self.threshold)


def squidpy_percentile(q: float, *, n_edges: int, n_zeros: int) -> float | None:
    """Convert squidpy's percentile to that of the edges alone.

    squidpy keeps what is at most as long as the percentile of the lengths and some zeros; this is
    the percentile of the lengths alone that keeps the same edges.

    Parameters
    ----------
    q : float
        `percentile` as given to squidpy.
    n_edges : int
        Edges before the percentile prunes them, each direction counted.
    n_zeros : int
        Cells, and edges that squidpy's `radius` pruned before.

    Returns
    -------
    float or None
        None where squidpy's percentile falls on or next to a zero: it keeps no edge.

    Raises
    ------
    InvalidArgument

    Notes
    -----
    Where the result would fall right on a number, it is moved up by a millionth of the gap to the
    next one, so that rounding cannot drop the edges of that very length.

    Examples
    --------
    Six edges for each of 100 cells: squidpy's 99 drops 7 edges of 600, as 98.8 does.

    >>> q = squidpy_percentile(99, n_edges=600, n_zeros=100)
    >>> round(q, 3)
    98.833
    >>> print(squidpy_percentile(10, n_edges=600, n_zeros=100))
    None
    """
    check_percentile(q)
    if n_edges < 1 or n_zeros < 0:
        raise InvalidArgument(
            f"at least one edge and no fewer than 0 zeros are wanted, but got {n_edges} and "
            f"{n_zeros}"
        )
    rank = (n_edges + n_zeros - 1) * (q / 100) - n_zeros
    if abs(rank - round(rank)) < 1e-6:
        rank = round(rank) + 1e-6
    if rank < 0:
        return None
    return 100.0 if rank >= n_edges - 1 else 100 * rank / (n_edges - 1)


def _lengths(
    inner: EdgeSource, shortest: float, longest: float, runs: Runs
) -> Iterator[NDArray[np.float64]]:
    for piece in stream_edges(inner, runs, _MOST_LENGTHS)[1]:
        distances = piece.distances
        yield distances[(distances >= shortest) & (distances <= longest)].astype(np.float64)


def _piece(most_edges: int) -> int:
    """Edges of a piece of the inner source: a copy of those left lies beside them."""
    return max(1, most_edges // 2)


def _within(edges: Edges, shortest: float, longest: float) -> Edges:
    kept = (edges.distances >= shortest) & (edges.distances <= longest)
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept, dtype=np.int64)])
    return Edges(before[edges.indptr], edges.indices[kept], edges.distances[kept])
