"""Graphs of every kind to ask for, and points to ask them of."""

import numpy as np
from numpy.typing import NDArray

from tisseract.atlas.graph import GraphSpec

from .graph_fakes import FakeStore, morton_order, put_section, quadtree_section

SPECS = [
    GraphSpec.knn(6),
    GraphSpec.knn(6, radius=60),
    GraphSpec.knn(5, symmetrize=True),
    GraphSpec.knn(5, percentile=80),
    GraphSpec.within(50),
    GraphSpec.within((20, 50)),
    GraphSpec.within(50, percentile=50),
    GraphSpec.delaunay(),
    GraphSpec.delaunay(radius=70),
    GraphSpec.delaunay(percentile=90),
]


def put_points(store: FakeStore, name: str, xy: NDArray[np.float64], tile_cells: int = 128) -> None:
    section = quadtree_section(xy[morton_order(xy)], tile_cells)
    section.name = name
    put_section(store, section)


def lattice_points(side: int) -> NDArray[np.float64]:
    x, y = np.divmod(np.arange(side * side), side)
    return np.column_stack([x, y]).astype(np.float64) * 100


def spread(seed: int, n: int) -> NDArray[np.float64]:
    """Points at random in a square of 1,000."""
    return np.random.default_rng(seed).random((n, 2)) * 1000
