"""Graphs of the sections of a loader: those of a key, or nearest neighbors made on the way."""

from typing import TYPE_CHECKING

from ...atlas.errors import DerivedNotFound
from ...atlas.graph import knn, open_graph
from .neighbor_sampler import EdgeRows
from .node_space import NodeSpace

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["open_edge_rows"]


def open_edge_rows(store: "AtlasStore", space: NodeSpace, graph: str | int) -> list[EdgeRows]:
    """Open one graph per section, in the order of the space.

    Parameters
    ----------
    store : AtlasStore
    space : NodeSpace
    graph : str or int
        Key of a committed graph, or how many nearest neighbors to find on the way.

    Returns
    -------
    list of EdgeRows

    Raises
    ------
    DerivedNotFound
        A section has no such graph.
    """
    if isinstance(graph, int):
        lazy = knn(store, list(space.sections), n_neighs=graph)
        return [lazy[name] for name in space.sections]
    try:
        return [open_graph(store, graph, name) for name in space.sections]
    except DerivedNotFound as error:
        raise DerivedNotFound(
            f"{error} Or give graph=6: six nearest neighbors, found on the way."
        ) from error
