"""Sums over the weights of a graph that the variances of spatial statistics need."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .row_graph import map_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..graph.edges import Edges
    from .row_graph import RowGraph

__all__ = ["GraphMoments", "graph_moments"]


@dataclass(frozen=True, slots=True, eq=False)
class GraphMoments:
    """Sums over a weight matrix w, whose weights are ones, or ones over the degree of the row."""

    normalized: bool
    """Whether rows sum to one (rows without edges to zero)."""
    s0: float
    """Sum of w_ij."""
    squares: float
    """Sum of w_ij squared."""
    reciprocal: float
    """Sum of w_ij w_ji over ordered pairs."""
    row_sums: NDArray[np.float64]
    """(n,) sum of w_ij over j."""
    column_sums: NDArray[np.float64]
    """(n,) sum of w_ji over j."""

    @property
    def s1(self) -> float:
        """Half the sum of (w_ij + w_ji) squared, as `libpysal.weights.W.s1`."""
        return self.squares + self.reciprocal

    @property
    def s2(self) -> float:
        """Sum of (row sum + column sum) squared, as `libpysal.weights.W.s2`."""
        ends = self.row_sums + self.column_sums
        return float(ends @ ends)


def graph_moments(graph: RowGraph, *, normalized: bool, threads: int | None = None) -> GraphMoments:
    """Sum weights, their squares and products with the reverse edges, in one pass over a graph.

    An edge whose reverse lies in another block waits until that block has come by. Cells are in
    space-filling order, so that what waits grows like the square root of the number of cells.

    Parameters
    ----------
    graph : RowGraph
        Read once.
    normalized : bool
        Divide each row by its degree.
    threads : int, optional
        One a core without; makes no difference to the result.

    Returns
    -------
    GraphMoments
        Memory: 16 bytes a cell, the waiting edges, and the blocks in work. Sums of ones are exact;
        others depend on the borders of the blocks in the last digits.
    """
    from .moment_kernels import add_columns  # brings numba

    n = graph.n_obs
    row_sums, column_sums = np.zeros(n), np.zeros(n)
    waiting = _Waiting(n)
    squares, reciprocal = [0.0], [0.0]

    def weigh(first_row: int, edges: Edges) -> _Block:
        return _weigh(n, normalized, first_row, edges)

    for block in map_blocks(graph, weigh, threads):
        stop = block.first_row + block.weight.size
        degree = np.diff(block.edges.indptr)
        row_sums[block.first_row : stop] = (degree > 0) if normalized else degree
        add_columns(block.edges.indptr, block.edges.indices, block.weight, column_sums)
        squares.append(float((degree * block.weight * block.weight).sum()))
        reciprocal.extend((block.reciprocal, 2.0 * waiting.meet(block, stop)))
    s0 = float(row_sums.sum())
    return GraphMoments(
        normalized, s0, math.fsum(squares), math.fsum(reciprocal), row_sums, column_sums
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Rows of a graph, and the edges that leave them."""

    first_row: int
    edges: Edges
    weight: NDArray[np.float64]
    """(m,) weight of the edges of each row."""
    reciprocal: float
    """Sum of w_ij w_ji inside of the block."""
    down: tuple[NDArray[np.int64], NDArray[np.float64]]
    """Keys and weights of edges to earlier blocks, by key."""
    up: tuple[NDArray[np.int64], NDArray[np.float64]]
    """Keys and weights of edges to later blocks, by key."""


def _weigh(n: int, normalized: bool, first_row: int, edges: Edges) -> _Block:
    from .moment_kernels import leaving_edges, reciprocal_products

    degree = np.diff(edges.indptr)
    weight = np.ones(degree.size)
    if normalized:
        np.divide(1.0, degree, out=weight, where=degree > 0)
    inside = reciprocal_products(first_row, edges.indptr, edges.indices, weight)
    keys, weights, n_down = leaving_edges(first_row, edges.indptr, edges.indices, weight, n)
    order = np.argsort(keys[n_down:], kind="stable")
    return _Block(
        first_row,
        edges,
        weight,
        inside,
        (keys[:n_down], weights[:n_down]),
        (keys[n_down:][order], weights[n_down:][order]),
    )


class _Waiting:
    """Edges from earlier to later blocks, by key: later row x n + earlier row."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._keys = np.zeros(0, np.int64)
        self._weights = np.zeros(0)

    def meet(self, block: _Block, stop: int) -> float:
        """Sum the products with edges of this block that lead back; then let its own wait."""
        here = int(np.searchsorted(self._keys, np.int64(stop) * self._n))
        keys, weights = self._keys[:here], self._weights[:here]
        back, back_weights = block.down
        at = np.searchsorted(keys, back)
        at[at == keys.size] = 0
        found = keys[at] == back if keys.size else np.zeros(back.size, bool)
        total = float((weights[at[found]] * back_weights[found]).sum())
        keys = np.concatenate([self._keys[here:], block.up[0]])
        order = np.argsort(keys, kind="stable")  # two ascending runs: a merge
        self._keys = keys[order]
        self._weights = np.concatenate([self._weights[here:], block.up[1]])[order]
        return total
