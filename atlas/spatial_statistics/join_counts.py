"""Mean and variance of the edges between labels over all ways to shuffle the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .moments import graph_moments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .labels import Labels
    from .row_graph import RowGraph

__all__ = ["join_count_moments"]

type Integers = NDArray[Any]
"""Python's integers, of any size, in an array of objects."""


def join_count_moments(
    graph: RowGraph, labels: Labels, threads: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute mean and variance of the label counts under free exchange of labels.

    The square of a count is a sum over pairs of edges, whose expectation depends only on how the
    two edges meet: the same, reversed, from one cell, to one cell, one after the other, or apart.
    How often each happens follows from the degrees. Extends the join-count moments of Cliff and
    Ord, Spatial Processes (1981), chapter 2, to directed edges.

    Parameters
    ----------
    graph : RowGraph
        Without edges of unlabelled cells; read once.
    labels : Labels
        c labels.
    threads : int, optional
        One a core without.

    Returns
    -------
    mean, variance : (c, c) float64
        Exact up to the rounding of the last step. Memory: 16 bytes a cell. Time: that of
        reading the graph, and integers of any size for each pair of different label sizes.
    """
    moments = graph_moments(graph, normalized=False, threads=threads)
    out, into = moments.row_sums, moments.column_sums
    m, reverse = int(moments.s0), int(moments.reciprocal)
    from_one, to_one = int(out @ out) - m, int(into @ into) - m
    chain = 2 * (int(out @ into) - reverse)
    apart = m * m - m - reverse - from_one - to_one - chain
    counts = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.categories))
    # Labels of as many cells have the same moments: n cells have at most sqrt(2 n) sizes.
    sizes, place = np.unique(counts, return_inverse=True)
    mean, variance = np.zeros((2, sizes.size, sizes.size))
    chances = _Chances(int(counts.sum()))
    one, two = chances.falling(sizes, 1), chances.falling(sizes, 2)
    for row, (na, na2) in enumerate(zip(one, two, strict=True)):
        squares = chances.sum((m, na * one, 2), (apart, na2 * two, 4))
        squares += chances.sum((from_one, na * two, 3), (to_one, na2 * one, 3))
        mean[row], variance[row] = chances.moments(m * na * one, squares)
    squares = chances.sum((m + reverse, two, 2), (apart, chances.falling(sizes, 4), 4))
    squares += chances.sum((from_one + to_one + chain, chances.falling(sizes, 3), 3))
    own_mean, own_variance = chances.moments(m * two, squares)
    pairs = np.ix_(place, place)
    mean, variance = mean[pairs], variance[pairs]
    np.fill_diagonal(mean, own_mean[place])
    np.fill_diagonal(variance, own_variance[place])
    return mean, variance


@dataclass(frozen=True, slots=True)
class _Chances:
    """Chances that 2, 3 or 4 given cells are of given labels, as exact fractions.

    The numerators are Python's integers in arrays of objects; the denominators are those of n
    cells, 1 where there are too few of them: then no way exists either.
    """

    n: int
    """Cells that have a label."""

    def falling(self, sizes: NDArray[np.int64], k: int) -> Integers:
        """Ways to choose k cells of each size in order, ``size (size - 1) ... (size - k + 1)``."""
        exact = sizes.astype(object)
        product = exact - exact + 1
        for i in range(k):
            product = product * (exact - i)
        return np.asarray(product)

    def sum(self, *terms: tuple[int, Integers, int]) -> Integers:
        """Add up (times, ways, number of cells), over the denominator of four cells."""
        wider = {2: self._third * self._fourth, 3: self._fourth, 4: 1}
        return np.asarray(sum(times * wider[cells] * ways for times, ways, cells in terms))

    def moments(
        self, first: Integers, second: Integers
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and variance from numerators over the denominators of two and of four cells.

        Integers of any size are divided with one rounding.
        """
        pair, rest = self._pair, self._third * self._fourth
        variance = (second * pair - first * first * rest) / (pair * pair * rest)
        return (first / pair).astype(np.float64), variance.astype(np.float64)

    @property
    def _pair(self) -> int:
        return max(1, self.n * (self.n - 1))

    @property
    def _third(self) -> int:
        return max(1, self.n - 2)

    @property
    def _fourth(self) -> int:
        return max(1, self.n - 3)
