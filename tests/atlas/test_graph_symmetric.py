"""A symmetric graph equals the union of the whole graph and its transpose."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tisseract.atlas.graph.edges import Edges
from tisseract.atlas.graph.lattices.source import LatticeEdges
from tisseract.atlas.graph.order_statistic import run_serially
from tisseract.atlas.graph.search.knn_source import KnnEdges
from tisseract.atlas.graph.wrapped import symmetric
from tisseract.atlas.graph.wrapped.masked import Mask, MaskedEdges, MaskedSection
from tisseract.atlas.graph.wrapped.pruned import PrunedEdges
from tisseract.atlas.graph.wrapped.symmetric import SymmetricEdges, TileSources

from .graph_fakes import FakeSection, cut_section, morton_order, quadtree_section
from .test_graph_nearest import SHAPES, make_points
from .test_graph_pruned import Ready, blocks_of

KINDS: dict[str, Any] = {
    "knn": lambda section: KnnEdges(section, 4),
    "capped": lambda section: PrunedEdges(KnnEdges(section, 5), longest=0.2),
    "percentile": lambda section: PrunedEdges(KnnEdges(section, 5), percentile=70),
}


def union(edges: Edges) -> tuple[list[tuple[int, int]], list[float]]:
    """Compute the union by definition: pairs in order of rows and columns, smaller distances."""
    found: dict[tuple[int, int], float] = {}
    rows = np.repeat(np.arange(edges.indptr.size - 1), np.diff(edges.indptr)).tolist()
    triples = zip(rows, edges.indices.tolist(), edges.distances.tolist(), strict=True)
    for i, j, d in triples:
        for pair in ((i, j), (j, i)):
            found[pair] = min(d, found.get(pair, np.inf))
    pairs = sorted(found)
    return pairs, [found[pair] for pair in pairs]


def prepare(source: Any, section: FakeSection, rows: int = 50) -> Any:
    """Prepare with blocks that cut tiles, and send the result elsewhere."""
    return pickle.loads(pickle.dumps(source.prepare(blocks_of(section, rows), run_serially)))


def assert_union(ready: Any, whole: Edges, rows: int) -> None:
    """Compare all rows at once, and some rows at a time."""
    n = whole.indptr.size - 1
    pairs, lengths = union(whole)
    starts = np.searchsorted([i for i, _ in pairs], np.arange(n + 1))
    some = [[(a, min(n, a + rows))] for a in range(0, n, rows)]
    scattered = [[(a, min(n, a + 2)) for a in range(first, n, 11)] for first in (0, 7) if first < n]
    for runs in [[(0, n)], *some, *scattered]:
        edges = ready.edges(runs)
        names = np.concatenate([np.arange(*run) for run in runs]).tolist()
        picked = [e for i in names for e in range(starts[i], starts[i + 1])]
        owner = np.repeat(names, np.diff(edges.indptr)).tolist()
        assert list(zip(owner, edges.indices.tolist(), strict=True)) == [pairs[e] for e in picked]
        assert edges.distances.tolist() == [lengths[e] for e in picked]


@given(
    shape=st.sampled_from(SHAPES),
    kind=st.sampled_from(sorted(KINDS)),
    n=st.integers(1, 90),
    cuts=st.lists(st.integers(1, 89), max_size=10),
    rows=st.integers(9, 60),
    chunk=st.sampled_from([2, 9, 512]),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_tiles_do_not_show(
    shape: str, kind: str, n: int, cuts: list[int], rows: int, chunk: int, seed: int
) -> None:
    xy = make_points(shape, n, seed)
    if seed % 2:
        xy = xy[np.random.default_rng(seed).permutation(n)]  # boxes overlap all over
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(symmetric, "_CHUNK", chunk)
        section = cut_section(xy, [cut for cut in cuts if cut < n])
        inner = KINDS[kind](section)
        whole = inner.prepare([[(0, n)]], run_serially).edges([(0, n)])
        assert_union(prepare(SymmetricEdges(inner, section), section, rows), whole, rows)


def lattice_with_holes(kind: str, seed: int) -> NDArray[np.float64]:
    """Spots of which some are missing and all are a little off, so that few distances are tied."""
    rng = np.random.default_rng(seed)
    column, row = (part.ravel() for part in np.meshgrid(np.arange(14.0), np.arange(14.0)))
    xy = np.column_stack([column, row])
    if kind == "hex":
        xy = np.column_stack([column + 0.5 * (row % 2), row * np.sqrt(3) / 2])
    xy = 100 * xy[rng.random(len(xy)) < 0.8]
    xy += rng.normal(0, 3, xy.shape)
    return np.asarray(xy[morton_order(xy)])


@pytest.mark.parametrize("kind", ["hex", "square"])
@pytest.mark.parametrize("n_rings", [1, 2, 3])
@pytest.mark.parametrize("tile_cells", [8, 64])
def test_rings(kind: Any, n_rings: int, tile_cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symmetric, "_CHUNK", 8)
    section = quadtree_section(lattice_with_holes(kind, 5), tile_cells)
    n = section.n_obs
    inner = LatticeEdges(section, kind, n_rings)
    whole = inner.prepare([[(0, n)]], run_serially).edges([(0, n)])
    ready = prepare(SymmetricEdges(inner, section), section)
    assert ready.facts["lattice_found"] == kind
    assert_union(ready, whole, 40)


@given(
    n=st.integers(1, 60),
    density=st.floats(0, 0.5),
    cuts=st.lists(st.integers(1, 59), max_size=8),
    rows=st.integers(1, 60),
    chunk=st.sampled_from([1, 5, 512]),
    seed=st.integers(0, 999),
)
@settings(max_examples=100, deadline=None)
def test_edges_that_lead_anywhere(
    n: int, density: float, cuts: list[int], rows: int, chunk: int, seed: int
) -> None:
    """Edges without any geometry, of other distances either way."""
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random((n, n)) < density, rng.integers(1, 4, (n, n)), 0).astype(np.float64)
    np.fill_diagonal(dense, 0)
    inner = Ready(csr_array(dense))
    section = cut_section(rng.random((n, 2)), [cut for cut in cuts if cut < n])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(symmetric, "_CHUNK", chunk)
        ready = prepare(SymmetricEdges(inner, section), section, rows)
        assert_union(ready, inner.edges([(0, n)]), rows)


def test_everybody_may_choose_the_same_cells() -> None:
    section = quadtree_section(np.zeros((3000, 2)), 512)
    ready = prepare(SymmetricEdges(KnnEdges(section, 2), section), section, 700)
    edges = ready.edges([(0, 3000)])
    assert np.diff(edges.indptr)[[0, 1, 2, 2999]].tolist() == [2999, 2999, 2, 2]
    np.testing.assert_array_equal(edges.indices[:2999], np.arange(1, 3000))


def test_fewer_sources_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the last chunk that leads into each tile: the properties above must notice."""
    monkeypatch.setattr(symmetric, "_CHUNK", 8)
    section = quadtree_section(make_points("uniform", 200, 1), 16)
    inner = KnnEdges(section, 4)
    whole = inner.edges([(0, 200)])
    ready = prepare(SymmetricEdges(inner, section), section)
    assert_union(ready, whole, 16)
    known = ready.sources
    last = np.zeros(known.chunks.size, dtype=np.bool_)
    last[known.ptr[1:] - 1] = True
    fewer = TileSources(known.ptr - np.arange(known.ptr.size), known.chunks[~last])
    with pytest.raises(AssertionError):
        assert_union(replace(ready, sources=fewer), whole, 16)


def test_rows_around_a_block_are_few() -> None:
    section = quadtree_section(make_points("uniform", 40_000, 2), 512)
    ready = prepare(SymmetricEdges(KnnEdges(section, 6), section), section, 10_000)
    counted = Counting(ready.inner)
    replace(ready, inner=counted).edges([(0, 10_000)])
    assert sum(counted.rows) < 2.2 * 10_000
    counted.rows.clear()
    replace(ready, inner=counted).edges([(0, 600)])
    assert max(counted.rows) <= 600  # a task never needs more memory than its rows


class Counting:
    """Passes questions on and counts the rows of each."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.rows: list[int] = []

    def edges(self, runs: Any) -> Edges:
        self.rows.append(sum(stop - start for start, stop in runs))
        found: Edges = self.inner.edges(runs)
        return found


def test_masked_and_symmetric() -> None:
    section = quadtree_section(make_points("clusters", 300, 2), 16)
    keep = np.random.default_rng(0).random(300) < 0.6
    mask = Mask.of(keep)
    cells = MaskedSection(section, mask)
    source = MaskedEdges(SymmetricEdges(KnnEdges(cells, 4), cells), mask)
    ready = prepare(source, section, 37)
    plain = MaskedEdges(KnnEdges(cells, 4), mask)
    assert_union(ready, plain.edges([(0, 300)]), 29)


def test_a_lonely_cell_and_no_rows() -> None:
    lonely = cut_section(np.zeros((1, 2)), [])
    ready = prepare(SymmetricEdges(KnnEdges(lonely, 3), lonely), lonely)
    assert ready.edges([(0, 1)]).indptr.tolist() == [0, 0]
    assert ready.edges([]).indptr.tolist() == [0]
    assert ready.edges([(0, 0)]).indptr.tolist() == [0]


def test_it_must_be_prepared_first() -> None:
    section = quadtree_section(make_points("uniform", 20, 1), 8)
    with pytest.raises(RuntimeError, match="prepare"):
        SymmetricEdges(KnnEdges(section, 3), section).edges([(0, 20)])
