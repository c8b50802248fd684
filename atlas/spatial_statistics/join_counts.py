"""Mean and variance of the edges between labels over all ways to shuffle the labels."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from .moments import graph_moments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .labels import Labels
    from .row_graph import RowGraph

__all__ = ["join_count_moments"]


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
        Exact up to the rounding of the last step. Memory: 16 bytes a cell.
    """
    moments = graph_moments(graph, normalized=False, threads=threads)
    out, into = moments.row_sums, moments.column_sums
    m, reverse = int(moments.s0), int(moments.reciprocal)
    from_one, to_one = int(out @ out) - m, int(into @ into) - m
    chain = 2 * (int(out @ into) - reverse)
    apart = m * m - m - reverse - from_one - to_one - chain
    counts = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.categories))
    n, c = int(counts.sum()), counts.size

    def chance(*cells: int) -> Fraction:
        """Chance that as many given cells are of the labels, falling factorials over n's."""
        total = _falling(n, sum(cells_of for cells_of in cells[1::2]))
        ways = 1
        for size, times in zip(cells[::2], cells[1::2], strict=True):
            ways *= _falling(size, times)
        return Fraction(ways, total) if total else Fraction(0)

    mean, variance = np.zeros((c, c)), np.zeros((c, c))
    for a, na in enumerate(counts.tolist()):
        for b, nb in enumerate(counts.tolist()):
            if a == b:
                pair = chance(na, 2)
                square = (m + reverse) * pair + apart * chance(na, 4)
                square += (from_one + to_one + chain) * chance(na, 3)
            else:
                pair = chance(na, 1, nb, 1)
                square = m * pair + apart * chance(na, 2, nb, 2)
                square += from_one * chance(na, 1, nb, 2) + to_one * chance(na, 2, nb, 1)
            mean[a, b] = m * pair
            variance[a, b] = square - (m * pair) ** 2
    return mean, variance


def _falling(n: int, k: int) -> int:
    """N (n - 1) ... (n - k + 1)."""
    product = 1
    for i in range(k):
        product *= n - i
    return product
