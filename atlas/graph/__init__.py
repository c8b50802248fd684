"""Neighborhood graphs, tile by tile: exact, lazy, out of core.

``knn``, ``radius``, ``delaunay`` and ``grid`` describe the graphs of some sections and compute
nothing; ``build_graphs`` builds and commits them; ``open_graph`` reads a committed one.
``z_neighbors`` describes those between registered serial sections.
"""

from .building.build import unbuilt, write_graphs
from .building.build_many import build_graphs
from .constructors import delaunay, grid, knn, radius
from .disk.stored import StoredGraph, open_graph
from .interchange.squidpy_builder import squidpy_builder
from .interchange.squidpy_form import SquidpyGraph
from .neighbor_graph import NeighborGraph, chosen_sections, describe_graph
from .planning.plan import GraphPlan, plan_graph
from .planning.totals import GraphPlans
from .section_graph import SectionGraph
from .serial.graph import ZNeighbors, z_neighbors
from .serial.stored import StoredZGraph, open_z_graph
from .spec import GraphSpec

__all__ = [
    "GraphPlan",
    "GraphPlans",
    "GraphSpec",
    "NeighborGraph",
    "SectionGraph",
    "SquidpyGraph",
    "StoredGraph",
    "StoredZGraph",
    "ZNeighbors",
    "build_graphs",
    "chosen_sections",
    "delaunay",
    "describe_graph",
    "grid",
    "knn",
    "open_graph",
    "open_z_graph",
    "plan_graph",
    "radius",
    "squidpy_builder",
    "unbuilt",
    "write_graphs",
    "z_neighbors",
]
