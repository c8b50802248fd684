"""A graph of some of the cells: what is left when the others are taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidArgument

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..graph.edges import Edges
    from ..quadtree import Runs
    from .row_graph import RowGraph

__all__ = ["RestrictedGraph", "check_mask", "restrict"]


@dataclass(frozen=True, slots=True, eq=False)
class RestrictedGraph:
    """A graph without the edges from and to the cells that are left out; rows keep their places."""

    graph: RowGraph
    """The whole graph."""
    kept: NDArray[np.bool_]
    """(n_obs,) whether a cell is kept."""

    @property
    def n_obs(self) -> int:
        """Cells, those left out included."""
        return self.graph.n_obs

    @property
    def row_ptr(self) -> tuple[int, ...]:
        """Borders of the blocks."""
        return self.graph.row_ptr

    def edges(self, runs: Runs) -> Edges:
        """Return the edges between cells that are kept."""
        from ..graph.edges import Edges

        whole = self.graph.edges(runs)
        rows = np.concatenate([self.kept[start:stop] for start, stop in runs])
        inside = np.repeat(rows, np.diff(whole.indptr)) & self.kept[whole.indices]
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(inside)])
        return Edges(before[whole.indptr], whole.indices[inside], whole.distances[inside])


def restrict(graph: RowGraph, kept: NDArray[np.bool_] | None) -> RowGraph:
    """Leave out the other cells; the graph itself where there are none."""
    return graph if kept is None or kept.all() else RestrictedGraph(graph, kept)


def check_mask(cells: Any, n_obs: int) -> NDArray[np.bool_] | None:
    """Return a mask over all cells, or None for all.

    Raises
    ------
    InvalidArgument
        Not one boolean a cell, or no cell at all.
    """
    if cells is None:
        return None
    kept = np.asarray(cells)
    if kept.dtype != np.bool_ or kept.shape != (n_obs,):
        raise InvalidArgument(
            f"cells must be {n_obs:,} booleans, one a cell, but got {kept.dtype} of shape "
            f"{kept.shape}"
        )
    if not kept.any():
        raise InvalidArgument(
            f"cells to compute with are wanted, but got a choice that keeps none of {n_obs:,}; "
            "choose some"
        )
    return kept
