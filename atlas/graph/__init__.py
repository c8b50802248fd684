"""Neighborhood graphs, tile by tile: exact, lazy, out of core.

``knn`` and ``grid`` describe the graph of one section without computing it; ``build_graphs``
builds and commits those of many; ``open_graph`` reads a committed one.
"""

from .build import build_graphs, write_graphs
from .neighbor_graph import NeighborGraph, grid, knn
from .plan import GraphPlan
from .squidpy_form import SquidpyGraph
from .stored import StoredGraph, open_graph

__all__ = [
    "GraphPlan",
    "NeighborGraph",
    "SquidpyGraph",
    "StoredGraph",
    "build_graphs",
    "grid",
    "knn",
    "open_graph",
    "write_graphs",
]
