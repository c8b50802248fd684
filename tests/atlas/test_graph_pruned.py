"""Pruning by length: bounds, percentiles of the whole section, and what squidpy makes of them."""

import pickle
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.graph.edges import Edges
from tisseract.atlas.graph.lattices.source import LatticeEdges
from tisseract.atlas.graph.order_statistic import run_serially
from tisseract.atlas.graph.search.knn_source import KnnEdges
from tisseract.atlas.graph.wrapped.pruned import PrunedEdges, squidpy_percentile
from tisseract.atlas.quadtree import Runs

from .graph_fakes import FakeSection, cut_section, quadtree_section
from .test_graph_nearest import SHAPES, make_points


@dataclass(frozen=True)
class Ready:
    """A graph that was computed elsewhere."""

    matrix: Any

    @property
    def facts(self) -> dict[str, str | float]:
        return {}

    def prepare(self, blocks: Any, run: Any) -> "Ready":
        del blocks, run
        return self

    def edges(self, runs: Runs) -> Edges:
        parts = []
        for start, stop in runs:
            part = self.matrix[start:stop]
            parts.append(Edges(part.indptr.astype(np.int64), part.indices, part.data))
        return Edges.concatenate(parts)


def blocks_of(section: FakeSection, rows: int) -> list[Runs]:
    """Blocks that cut tiles, last first, one of them of two runs."""
    n = section.n_obs
    blocks: list[Runs] = [[(a, min(n, a + rows))] for a in range(0, n, rows)]
    if len(blocks) > 2:
        blocks[0] = [*blocks[0], *blocks.pop(2)]
    return blocks[::-1]


def prepared(source: Any, section: FakeSection, rows: int = 50) -> Any:
    return pickle.loads(pickle.dumps(source.prepare(blocks_of(section, rows), run_serially)))


def matrix(source: Any, n: int) -> Any:
    return source.edges([(0, n)]).to_csr(n)


def assert_same(ours: Any, theirs: Any) -> None:
    theirs.sort_indices()
    np.testing.assert_array_equal(ours.indptr, theirs.indptr)
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-12)


@given(
    shape=st.sampled_from(SHAPES),
    n=st.integers(1, 150),
    q=st.one_of(st.none(), st.floats(0, 100)),
    quantiles=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    cuts=st.lists(st.integers(1, 149), max_size=8),
    rows=st.integers(1, 150),
)
@settings(max_examples=120, deadline=None)
def test_the_shorter_part_of_the_edges_within_bounds(
    shape: str,
    n: int,
    q: float | None,
    quantiles: tuple[float, float],
    cuts: list[int],
    rows: int,
) -> None:
    section = cut_section(make_points(shape, n, 3), [cut for cut in cuts if cut < n])
    inner = KnnEdges(section, 5)
    whole = inner.edges([(0, n)])
    lengths = np.append(whole.distances, 0.0)
    shortest, longest = np.quantile(lengths, sorted(quantiles), method="nearest").tolist()
    kept = (whole.distances >= shortest) & (whole.distances <= longest)
    if q is not None and kept.any():
        kept &= whole.distances <= np.percentile(whole.distances[kept], q)
    source = prepared(PrunedEdges(inner, shortest, longest, q), section, rows)
    ours = source.edges([(0, n)])
    np.testing.assert_array_equal(ours.indices, whole.indices[kept])
    np.testing.assert_array_equal(ours.distances, whole.distances[kept])
    owner = np.repeat(np.arange(n), np.diff(whole.indptr))[kept]
    np.testing.assert_array_equal(np.diff(ours.indptr), np.bincount(owner, minlength=n))
    part = source.edges([(n // 3, n // 2)])
    rows_of_part = slice(ours.indptr[n // 3], ours.indptr[n // 2])
    np.testing.assert_array_equal(part.indices, ours.indices[rows_of_part])


def test_the_threshold_is_that_of_numpy() -> None:
    section = quadtree_section(make_points("clusters", 400, 1), 32)
    source = prepared(PrunedEdges(KnnEdges(section, 6), percentile=90), section)
    lengths = KnnEdges(section, 6).edges([(0, 400)]).distances
    assert source.facts == {"threshold": np.percentile(lengths, 90)}
    again = source.prepare([], run_serially)
    assert again.threshold == source.threshold


def test_zero_lengths_are_kept() -> None:
    section = quadtree_section(make_points("duplicates", 100, 1), 8)
    source = prepared(PrunedEdges(KnnEdges(section, 3), percentile=0), section)
    assert source.facts == {"threshold": 0.0}
    assert source.edges([(0, 100)]).indices.size > 0


def test_nothing_to_prune() -> None:
    lonely = cut_section(np.zeros((1, 2)), [])
    source = prepared(PrunedEdges(KnnEdges(lonely, 3), percentile=99), lonely)
    assert source.edges([(0, 1)]).indptr.tolist() == [0, 0]
    section = quadtree_section(make_points("uniform", 20, 1), 8)
    far = prepared(PrunedEdges(KnnEdges(section, 3), 50.0, 60.0, 99), section)
    assert far.edges([(0, 20)]).indices.size == 0


def test_facts_of_both(real_free_lattice: FakeSection) -> None:
    inner = LatticeEdges(real_free_lattice, "square", 2)
    source = prepared(PrunedEdges(inner, longest=1.0), real_free_lattice)
    assert source.facts["lattice_found"] == "square"
    assert set(source.edges([(0, 144)]).distances.tolist()) == {1.0}


@pytest.fixture
def real_free_lattice() -> FakeSection:
    return quadtree_section(make_points("lattice", 144, 0), 16)


def test_a_percentile_must_be_measured_first() -> None:
    section = quadtree_section(make_points("uniform", 20, 1), 8)
    with pytest.raises(RuntimeError, match="prepare"):
        PrunedEdges(KnnEdges(section, 3), percentile=99).edges([(0, 20)])


@pytest.mark.parametrize("bounds", [(-1.0, 5.0), (3.0, 2.0), (np.nan, 1.0), (0.0, np.nan)])
def test_bounds_that_cannot_be(bounds: tuple[float, float]) -> None:
    section = quadtree_section(make_points("uniform", 20, 1), 8)
    with pytest.raises(InvalidArgument, match="0 <= shortest <= longest"):
        PrunedEdges(KnnEdges(section, 3), *bounds)
    with pytest.raises(InvalidArgument, match="from 0 to 100"):
        PrunedEdges(KnnEdges(section, 3), percentile=101)


@pytest.fixture(scope="module")
def squidpy_builders() -> Any:
    """Builders of squidpy, which warns while it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("squidpy.gr.neighbors")


def squidpy_raw(builders: Any, xy: NDArray[np.float64], kind: str) -> tuple[Any, Any, Any]:
    """Adjacency and distances before the percentile, and squidpy's builder of them."""
    makers: dict[str, Any] = {
        "knn": lambda **kw: builders.KNNBuilder(n_neighs=6, **kw),
        "radius": lambda **kw: builders.RadiusBuilder(radius=(0.03, 0.12), **kw),
        "delaunay": lambda **kw: builders.DelaunayBuilder(radius=(0.0, 0.2), **kw),
    }
    make = makers[kind]
    adjacency, distances = make().build_graph(xy)
    for step in make().postprocessors()[:-1] if kind != "knn" else []:
        adjacency, distances = step(adjacency, distances)
    return adjacency, distances, make


def real_edges(distances: Any) -> Any:
    """The edges of squidpy's matrix, without the zeros on its diagonal and of pruned edges."""
    found = distances.copy()
    found.eliminate_zeros()
    found.sort_indices()
    return found


@pytest.mark.parametrize("kind", ["knn", "radius", "delaunay"])
@pytest.mark.parametrize("q", [100, 99.3, 80, 50, 30.5])
def test_squidpy_without_its_zeros_agrees(squidpy_builders: Any, kind: str, q: float) -> None:
    """squidpy's own pruning step, given the graph without zeros, finds the same edges."""
    n = 600
    section = quadtree_section(make_points("uniform", n, 4), 64)
    _, distances, _ = squidpy_raw(squidpy_builders, section.xy, kind)
    edges = real_edges(distances)
    adjacency = edges.copy()
    adjacency.data[:] = 1.0
    step = squidpy_builders.PercentilePostprocessor(q)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, expected = step(adjacency, edges.copy())
    source = prepared(PrunedEdges(Ready(edges), percentile=q), section)
    assert_same(matrix(source, n), real_edges(expected))


@pytest.mark.parametrize("kind", ["knn", "radius", "delaunay"])
@pytest.mark.parametrize("q", [100, 99, 97.5, 80, 60, 50, 20, 1])
@pytest.mark.parametrize("n", [101, 600])
def test_squidpy_with_its_zeros_is_another_percentile(
    squidpy_builders: Any, kind: str, q: float, n: int
) -> None:
    """The documented conversion gives the very edges that squidpy keeps."""
    section = quadtree_section(make_points("uniform", n, 4), 64)
    _, distances, make = squidpy_raw(squidpy_builders, section.xy, kind)
    _, expected = make(percentile=q).build(section.xy)
    edges = real_edges(distances)
    n_zeros = distances.nnz - edges.nnz
    assert n_zeros >= n
    ours = squidpy_percentile(q, n_edges=edges.nnz, n_zeros=n_zeros)
    if ours is None:
        assert real_edges(expected).nnz == 0
        return
    source = prepared(PrunedEdges(Ready(edges), percentile=ours), section)
    assert_same(matrix(source, n), real_edges(expected))
    theirs = np.percentile(distances.data, q)
    assert source.threshold == pytest.approx(theirs, rel=1e-5)


def test_nearest_neighbors_with_a_cap(squidpy_builders: Any) -> None:
    section = quadtree_section(make_points("uniform", 500, 8), 64)
    adjacency, distances = squidpy_builders.KNNBuilder(n_neighs=8).build_graph(section.xy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        squidpy_builders._filter_by_radius_interval(adjacency, distances, (0.0, 0.05))
    source = PrunedEdges(KnnEdges(section, 8), longest=0.05)
    assert_same(matrix(source, 500), real_edges(distances))


def test_what_cannot_be_converted() -> None:
    with pytest.raises(InvalidArgument, match="at least one edge"):
        squidpy_percentile(50, n_edges=0, n_zeros=5)
    assert squidpy_percentile(100, n_edges=1, n_zeros=3) == 100.0


def test_a_source_can_be_changed_like_a_value() -> None:
    section = quadtree_section(make_points("uniform", 20, 1), 8)
    source = replace(PrunedEdges(KnnEdges(section, 3), percentile=99), threshold=0.1)
    assert source.edges([(0, 20)]).distances.max() <= 0.1
