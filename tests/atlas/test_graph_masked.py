"""The graph of some cells is that of a section which has these alone."""

import pickle
import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.graph.edges import Edges, stream_edges
from tisseract.atlas.graph.lattices.source import LatticeEdges
from tisseract.atlas.graph.order_statistic import run_serially
from tisseract.atlas.graph.search.knn_source import KnnEdges
from tisseract.atlas.graph.search.radius_source import RadiusEdges
from tisseract.atlas.graph.wrapped import mask as mask_module
from tisseract.atlas.graph.wrapped.masked import Mask, MaskedEdges, MaskedSection
from tisseract.atlas.graph.wrapped.pruned import PrunedEdges
from tisseract.atlas.quadtree import TileTable, tight_boxes

from .graph_fakes import FakeSection, cut_section, quadtree_section
from .test_graph_nearest import SHAPES, make_points

KINDS: dict[str, Any] = {
    "knn": lambda section: KnnEdges(section, 5),
    "grid": lambda section: LatticeEdges(section, "square", 2),
    "percentile": lambda section: PrunedEdges(KnnEdges(section, 4), percentile=80),
}


def make_mask(n: int, share: float, seed: int, stretch: int) -> NDArray[np.bool_]:
    """Mask of some share of the rows, in stretches."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.random(n // stretch + 1) < share, stretch)[:n]


def expected(xy: NDArray[np.float64], keep: NDArray[np.bool_], kind: str) -> list[dict[int, float]]:
    """Compute the graph of the kept cells alone; neighbors by section row."""
    rows: list[dict[int, float]] = [{} for _ in keep]
    if not keep.any():
        return rows
    alone = cut_section(xy[keep], [])
    n = alone.n_obs
    edges = KINDS[kind](alone).prepare([[(0, n)]], run_serially).edges([(0, n)])
    names = np.flatnonzero(keep).tolist()
    for i, name in enumerate(names):
        part = slice(edges.indptr[i], edges.indptr[i + 1])
        pairs = zip(edges.indices[part].tolist(), edges.distances[part].tolist(), strict=True)
        rows[name] = {names[j]: d for j, d in pairs}
    return rows


def assert_graph(source: Any, n: int, wanted: list[dict[int, float]], rows: int) -> None:
    """Compare all rows, asked for a few at a time and with gaps."""
    runs = [[(a, min(n, a + 3)), (min(n, a + 4), min(n, a + rows))] for a in range(0, n, rows)]
    asked = [[(a, b) for a, b in part if a < b] for part in runs]
    for part in [[(0, n)], *asked]:
        edges = source.edges(part)
        names = np.concatenate([np.arange(*run) for run in part])
        assert edges.indptr.size == names.size + 1
        for i, name in enumerate(names.tolist()):
            row = slice(edges.indptr[i], edges.indptr[i + 1])
            columns = edges.indices[row].tolist()
            assert columns == sorted(wanted[name])
            assert dict(zip(columns, edges.distances[row].tolist(), strict=True)) == wanted[name]


@given(
    shape=st.sampled_from(SHAPES),
    kind=st.sampled_from(sorted(KINDS)),
    n=st.integers(1, 130),
    share=st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]),
    stretch=st.sampled_from([1, 20]),
    cuts=st.lists(st.integers(1, 129), max_size=10),
    rows=st.integers(5, 60),
    step=st.sampled_from([8, 64, 512]),
    seed=st.integers(0, 999),
)
@settings(max_examples=150, deadline=None)
def test_excluded_cells_are_not_there(
    shape: str, kind: str, n: int, share: float, stretch: int, cuts: list[int], rows: int,
    step: int, seed: int,
) -> None:  # fmt: skip
    xy = make_points("lattice" if kind == "grid" else shape, n, seed)
    keep = make_mask(n, share, seed, stretch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_module, "_STEP", step)
        patch.setattr(mask_module, "_BYTES", step // 8)
        section = cut_section(xy, [cut for cut in cuts if cut < n])
        mask = Mask.of(keep)
        try:
            wanted = expected(xy, keep, kind)
        except InvalidArgument:  # what is left lies on no lattice
            return
        source = MaskedEdges(KINDS[kind](MaskedSection(section, mask)), mask)
        blocks = [[(a, min(n, a + rows))] for a in range(0, n, rows)]
        ready = pickle.loads(pickle.dumps(source.prepare(blocks, run_serially)))
        assert_graph(ready, n, wanted, rows)


@given(
    n=st.integers(0, 3000),
    share=st.sampled_from([0.0, 0.001, 0.5, 1.0]),
    stretch=st.sampled_from([1, 700]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_rows_there_and_back(n: int, share: float, stretch: int, seed: int) -> None:
    keep = make_mask(n, share, seed, stretch)
    mask = Mask.of(keep)
    assert mask.n_kept == keep.sum()
    everywhere = np.arange(n + 1)
    np.testing.assert_array_equal(
        mask.before(everywhere), np.concatenate([[0], np.cumsum(keep)])[everywhere]
    )
    names = np.flatnonzero(keep)
    order = np.random.default_rng(seed).permutation(names.size)
    np.testing.assert_array_equal(mask.rows(order), names[order])
    np.testing.assert_array_equal(mask.take([(0, n // 3), (n // 2, n)]),
                                  np.concatenate([keep[: n // 3], keep[n // 2 :]]))  # fmt: skip


def test_positions_and_tiles_are_those_of_the_kept() -> None:
    section = quadtree_section(make_points("uniform", 5000, 3), 64)
    keep = make_mask(5000, 0.3, 1, 100)
    some = MaskedSection(section, Mask.of(keep))
    np.testing.assert_array_equal(some.positions(), section.xy[keep])
    np.testing.assert_array_equal(some.positions([(3, 9), (700, 900)]),
                                  section.xy[keep][[*range(3, 9), *range(700, 900)]])  # fmt: skip
    tiles = some.tiles
    assert (tiles.n_cells > 0).all()
    assert len(tiles) < len(section.tiles)
    assert tiles.ptr[-1] == some.n_obs == keep.sum()
    for tile in range(len(tiles)):
        xy = some.positions(tiles.runs([tile]))
        x0, y0, x1, y1 = tiles.bounds[tile]
        assert x0 <= xy[:, 0].min() <= xy[:, 0].max() <= x1
        assert y0 <= xy[:, 1].min() <= xy[:, 1].max() <= y1


@dataclass
class BlockSection(FakeSection):
    """A section that also knows boxes of short row blocks, as real ones do."""

    @property
    def blocks(self) -> TileTable:
        ptr = np.append(np.arange(0, self.n_obs, 32), self.n_obs)
        return TileTable(ptr, tight_boxes(self.xy, ptr))


def test_row_blocks_are_those_of_the_kept() -> None:
    plain = quadtree_section(make_points("uniform", 6000, 3), 256)
    assert MaskedSection(plain, Mask.of(np.ones(6000, np.bool_))).blocks is None
    section = BlockSection(plain.xy, plain.tiles)
    keep = make_mask(6000, 0.4, 1, 50)
    mask = Mask.of(keep)
    some = MaskedSection(section, mask)
    blocks = some.blocks
    assert blocks is not None
    assert (blocks.n_cells > 0).all()
    for b in range(len(blocks)):
        xy = some.positions(blocks.runs([b]))
        assert (xy >= blocks.bounds[b, :2]).all()
        assert (xy <= blocks.bounds[b, 2:]).all()
    source = MaskedEdges(KnnEdges(some, 5), mask)
    assert_graph(source, 6000, expected(plain.xy, keep, "knn"), 1000)
    # Tables that were looked up do not travel.
    assert pickle.dumps(some) == pickle.dumps(MaskedSection(section, mask))


def test_few_kept_cells_do_not_read_the_section() -> None:
    section = quadtree_section(make_points("uniform", 60_000, 3), 512)
    keep = np.zeros(60_000, dtype=np.bool_)
    keep[::6000] = True
    some = MaskedSection(section, Mask.of(keep))
    assert some.positions().shape == (10, 2)
    assert section.rows_read <= 10 * 512


def test_masks_are_values() -> None:
    keep = make_mask(1000, 0.5, 0, 1)
    mask = Mask.of(keep)
    again = pickle.loads(pickle.dumps(Mask.of(keep.copy())))
    assert mask == again
    assert hash(mask) == hash(again)
    assert mask.digest.startswith("sha256:")
    keep[17] ^= True
    assert Mask.of(keep) != mask
    assert Mask.of(np.zeros(3, np.bool_)) != Mask.of(np.zeros(4, np.bool_))


def test_a_mask_is_small() -> None:
    mask = Mask.of(np.ones(1_000_000, dtype=np.bool_))
    assert len(pickle.dumps(mask)) < 1_000_000 / 8 * 1.2


def test_nobody_and_everybody() -> None:
    section = quadtree_section(make_points("uniform", 50, 3), 8)
    nobody = Mask.of(np.zeros(50, dtype=np.bool_))
    for make in KINDS.values():
        source = MaskedEdges(make(MaskedSection(section, nobody)), nobody)
        edges = source.prepare([[(0, 50)]], run_serially).edges([(2, 50)])
        assert edges.indptr.tolist() == [0] * 49
    everybody = Mask.of(np.ones(50, dtype=np.bool_))
    source = MaskedEdges(KINDS["knn"](MaskedSection(section, everybody)), everybody)
    whole = KINDS["knn"](section).edges([(0, 50)])
    np.testing.assert_array_equal(source.edges([(0, 50)]).indices, whole.indices)
    np.testing.assert_array_equal(source.edges([(0, 50)]).distances, whole.distances)


NEST = np.concatenate([np.zeros((500, 2)), make_points("uniform", 700, 0) + 1.0])


def wrapped(kind: str, section: FakeSection) -> Any:
    """Radius graphs of a nest, restricted, pruned, or both."""
    mask = Mask.of(np.arange(section.n_obs) % 7 > 0)
    inside: Any = MaskedSection(section, mask) if "masked" in kind else section
    source: Any = RadiusEdges(inside, 0.0, 0.05)
    if "pruned" in kind:
        source = PrunedEdges(source, 0.0, 0.05, 99)
    return MaskedEdges(source, mask) if "masked" in kind else source


@pytest.mark.parametrize("kind", ["masked", "pruned", "pruned and masked"])
def test_dense_nests_come_in_pieces_however_they_are_chosen(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("tisseract.atlas.graph.wrapped.pruned._MOST_LENGTHS", 3000)
    source = wrapped(kind, cut_section(NEST, [250, 600]))
    tracemalloc.start()
    source = source.prepare([[(0, 1200)]], run_serially)
    for runs in ([(0, 1200)], [(0, 2), (100, 499), (503, 1199)], [(0, 1)], [(900, 1000)]):
        indptr, pieces = stream_edges(source, runs, 5000)
        rows = 0
        for piece in pieces:
            own = indptr[rows : rows + piece.indptr.size]
            np.testing.assert_array_equal(piece.indptr, own - own[0])
            assert piece.indices.size == piece.distances.size <= 5000
            rows += piece.indptr.size - 1
        assert rows == indptr.size - 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 500 * 499 * (6 / 7) ** 2  # the edges of the nest, all at once
    for runs in ([(0, 1200)], [(0, 2), (100, 499), (503, 1199)]):
        whole = source.edges(runs)
        found = Edges.concatenate(list(stream_edges(source, runs, 5000)[1]))
        np.testing.assert_array_equal(found.indptr, whole.indptr)
        np.testing.assert_array_equal(found.indices, whole.indices)
        np.testing.assert_array_equal(found.distances, whole.distances)


def test_a_mask_of_another_length() -> None:
    section = quadtree_section(make_points("uniform", 50, 3), 8)
    with pytest.raises(InvalidArgument, match=r"mask of 50 cells is wanted for section 'S1'.* 49"):
        MaskedSection(section, Mask.of(np.ones(49, dtype=np.bool_)))


@pytest.mark.parametrize("wrong", [np.ones(5), np.ones((5, 1), np.bool_), np.arange(5)])
def test_what_is_no_mask(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="of booleans, but got"):
        Mask.of(wrong)


def test_facts_are_those_of_the_kept() -> None:
    section: FakeSection = quadtree_section(make_points("lattice", 400, 3), 16)
    mask = Mask.of(section.xy[:, 0] < 1.0)
    source = MaskedEdges(LatticeEdges(MaskedSection(section, mask), "auto", 1), mask)
    ready = source.prepare([[(0, 100)], [(100, 400)]], run_serially)
    assert ready.facts["lattice_found"] == "square"
    assert ready.facts["median_distance"] == pytest.approx(0.1)
