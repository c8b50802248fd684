"""Connected components of a graph, by union-find over a stream of its edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .restricted import check_mask, restrict
from .row_graph import map_blocks

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ..graph.edges import Edges
    from .row_graph import RowGraph

__all__ = ["ConnectedComponents", "connected_components"]


@dataclass(frozen=True, slots=True, eq=False)
class ConnectedComponents:
    """Sets of cells that edges join, whatever the direction of the edges (weak components)."""

    labels: NDArray[np.int32]
    """(n_obs,) component of each cell, numbered by their first row; -1 for cells left out."""
    sizes: NDArray[np.int64]
    """(n_components,) cells of each component."""
    restricted: bool = False
    """Whether the graph leaves out cells that are counted here, each as a component."""

    @property
    def n_components(self) -> int:
        """Number of components; a cell without any edge is one."""
        return self.sizes.size

    def to_frame(self) -> pd.DataFrame:
        """Return a table, largest first: component, n_cells."""
        import pandas as pd

        order = np.argsort(-self.sizes, kind="stable")
        return pd.DataFrame({"component": order, "n_cells": self.sizes[order]})

    def __str__(self) -> str:
        cells, largest = int(self.sizes.sum()), int(self.sizes.max())
        text = (
            f"components: {self.n_components:,} of {cells:,} cells, the largest of "
            f"{largest:,} ({largest / cells:.1%}), {int((self.sizes == 1).sum()):,} of "
            "one cell"
        )
        if self.restricted:
            text += "; the graph has some of the cells alone: give these as cells= to count them"
        return text


def connected_components(
    graph: RowGraph, *, cells: NDArray[np.bool_] | None = None, threads: int | None = None
) -> ConnectedComponents:
    """Find the connected components, as `scipy.sparse.csgraph.connected_components` (weak) does.

    Parameters
    ----------
    graph : RowGraph
        Read once, in threads; sets are joined in one thread, in the order of the rows.
    cells : (n_obs,) bool, optional
        Only these cells and the edges between them, such as those of a graph built with a mask.
    threads : int, optional
        One a core without; makes no difference to the result.

    Returns
    -------
    ConnectedComponents
        Memory: 4 bytes a cell, which become the labels, one more at the end, and the blocks in
        work.

    Examples
    --------
    >>> from tisseract.atlas.graph.edges import Edges
    >>> class Pairs:  # 0 -> 2, 1 alone
    ...     n_obs, row_ptr = 3, (0, 3)
    ...     def edges(self, runs):
    ...         return Edges(np.array([0, 1, 1, 1]), np.array([2], np.int32), np.ones(1))
    >>> found = connected_components(Pairs())
    >>> found.labels.tolist(), found.sizes.tolist()
    ([0, 1, 0], [2, 1])
    """
    from .union_find import component_sizes, join, number  # brings numba

    parent = np.arange(graph.n_obs, dtype=np.int32)
    kept = check_mask(cells, graph.n_obs)
    for first_row, edges in map_blocks(restrict(graph, kept), _with_row, threads):
        join(parent, first_row, edges.indptr, edges.indices)
    n = number(parent, np.ones(graph.n_obs, bool) if kept is None else kept)
    parameters = getattr(graph, "parameters", None) or getattr(
        getattr(graph, "plan", None), "parameters", {}
    )
    restricted = kept is None and "mask" in parameters
    return ConnectedComponents(parent, component_sizes(parent, n), restricted)


def _with_row(first_row: int, edges: Edges) -> tuple[int, Edges]:
    return first_row, edges
