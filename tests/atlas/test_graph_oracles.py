"""All kinds of graphs on 500 point sets, tile by tile, against squidpy on the whole.

Where the answer is unique the edges are squidpy's. Where it is not: kNN may choose another
neighbor at the k-th distance; a Delaunay triangulation is checked in rational arithmetic instead.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from tisseract.atlas.graph.edges import Edges, EdgeSource
from tisseract.atlas.graph.lattices.source import LatticeEdges
from tisseract.atlas.graph.search.knn_source import KnnEdges
from tisseract.atlas.graph.search.radius_source import RadiusEdges
from tisseract.atlas.graph.triangulation.source import DelaunayEdges

from .graph_fakes import FakeSection, quadtree_section
from .test_graph_delaunay import assert_delaunay, assert_same, whole
from .test_graph_nearest import SHAPES, make_points
from .test_graph_real import compare, lengths, squidpy_builders

pytestmark = pytest.mark.slow
__all__ = ["squidpy_builders"]

TILES = (8, 64, 512, 4096)
# One set in five is large: the rest find what goes wrong, and find it small.
SIZES = st.one_of(*[st.integers(1, 60)] * 2, *[st.integers(61, 600)] * 2, st.integers(601, 5000))


def by_tiles(source: EdgeSource, section: FakeSection) -> Edges:
    """Edges of a section, some tiles computed alone and the rest in runs of eight."""
    ptr = section.tiles.ptr.tolist()
    cuts = sorted({*ptr[:4], *ptr[::8], ptr[-1]})
    blocks = [[rows] for rows in pairwise(cuts)]
    ready = source.prepare(blocks, map)
    return Edges.concatenate([ready.edges(block) for block in blocks])


def check_knn(section: FakeSection, k: int, squidpy: Any) -> None:
    xy, n = section.xy, section.n_obs
    ours = by_tiles(KnnEdges(section, k), section)
    if n <= k:  # squidpy fails
        assert np.diff(ours.indptr).tolist() == [n - 1] * n
        return
    # For k >= n / 2 squidpy's search is not the tree but |x|^2 + |y|^2 - 2 x y, which is wrong far
    # from the origin: the tree is asked itself.
    columns = NearestNeighbors(n_neighbors=k, algorithm="kd_tree").fit(xy).kneighbors()[1]
    compare("points", xy, k, ours.indices.reshape(n, k), columns)
    if k < n // 2:
        theirs = squidpy.KNNBuilder(n_neighs=k).build_graph(xy)[0]
        theirs.setdiag(0)
        theirs.eliminate_zeros()
        theirs.sort_indices()
        np.testing.assert_array_equal(theirs.indices.reshape(n, k), np.sort(columns, axis=1))
    exact = lengths(xy, ours.indices.reshape(n, k))
    np.testing.assert_allclose(ours.distances.reshape(n, k), exact, rtol=1e-6)


def check_radius(section: FakeSection, radius: float, squidpy: Any) -> None:
    ours = by_tiles(RadiusEdges(section, 0.0, radius), section)
    if section.n_obs < 12:  # see `check_knn`
        tree = NearestNeighbors(radius=radius, algorithm="kd_tree").fit(section.xy)
        theirs = tree.radius_neighbors_graph()
    else:
        theirs = squidpy.RadiusBuilder(radius=radius).build(section.xy)[0]
    theirs.sort_indices()
    np.testing.assert_array_equal(ours.indptr, theirs.indptr)
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    rows = np.repeat(np.arange(section.n_obs), np.diff(ours.indptr))
    exact = np.linalg.norm(section.xy[rows] - section.xy[ours.indices], axis=1)
    np.testing.assert_allclose(ours.distances, exact, rtol=1e-6)


def check_delaunay(section: FakeSection, shape: str, squidpy: Any) -> None:
    xy = section.xy
    ours = by_tiles(DelaunayEdges(section), section)
    assert_same(ours, whole(xy))
    # Blocks of eight and rows of tiles are symmetric only together.
    rows = np.repeat(np.arange(section.n_obs), np.diff(ours.indptr))
    forward = np.sort(rows * section.n_obs + ours.indices)
    backward = np.sort(ours.indices.astype(np.int64) * section.n_obs + rows)
    np.testing.assert_array_equal(forward, backward)
    if shape == "uniform" and section.n_obs > 3:  # in general position
        theirs = squidpy.DelaunayBuilder().build(xy)[0]
        theirs.sort_indices()
        np.testing.assert_array_equal(ours.indices, theirs.indices)
    elif section.n_obs < 150:
        assert_delaunay(xy)


def check_grid(section: FakeSection, squidpy: Any) -> None:
    source = LatticeEdges(section, "square", 2)
    ours = by_tiles(source, section)
    theirs = squidpy.GridBuilder(n_neighs=4, n_rings=2).build(section.xy)[1]
    theirs.sort_indices()
    if has_ties(section.xy, 4):
        return
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_array_equal(ours.distances, theirs.data)


def has_ties(xy: NDArray[np.float64], k: int) -> bool:
    """Tell whether the k nearest cells are a matter of choice for some cell."""
    from scipy.spatial import cKDTree

    found = cKDTree(xy).query(xy, k + 2)[0]
    return bool((found[:, k + 1] <= found[:, k] * (1 + 1e-9)).any())


@given(
    shape=st.sampled_from(SHAPES),
    n=SIZES,
    k=st.integers(1, 12),
    tile_cells=st.sampled_from(TILES),
    seed=st.integers(0, 2**32 - 1),
)
@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_five_hundred_point_sets(
    squidpy_builders: Any,
    shape: str,
    n: int,
    k: int,
    tile_cells: int,
    seed: int,
) -> None:
    xy: NDArray[np.float64] = make_points(shape, n, seed)
    section = quadtree_section(xy, tile_cells)
    check_knn(section, k, squidpy_builders)
    if n > 1:
        spread = np.ptp(xy, axis=0).max()
        # A number of few digits, so that distances of lattices tie with it.
        radius = float(np.float32(spread * np.sqrt(8.0 / n) / 2)) or 1.0
        check_radius(section, radius, squidpy_builders)
    check_delaunay(section, shape, squidpy_builders)
    if shape == "lattice" and n > 8:
        check_grid(section, squidpy_builders)
