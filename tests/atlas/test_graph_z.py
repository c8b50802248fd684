"""Neighbors between serial sections: the definition, trees in space, and the store."""

import pickle
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tisseract.atlas.errors import (
    BudgetExceeded,
    DerivedNotFound,
    InvalidArgument,
    SectionNotFound,
    StaleDerived,
    UnitUnknown,
)
from tisseract.atlas.graph.building.block_task import BlockTask
from tisseract.atlas.graph.edges import Edges
from tisseract.atlas.graph.planning import plan
from tisseract.atlas.graph.serial import nearest as z_nearest
from tisseract.atlas.graph.serial.build import unbuilt_pairs
from tisseract.atlas.graph.serial.graph import z_neighbors
from tisseract.atlas.graph.serial.pairs import ZPair, choose_pairs
from tisseract.atlas.graph.serial.placed import PlacedSection, check_transforms
from tisseract.atlas.graph.serial.source import ZKnnEdges, ZRadiusEdges, greatest_square
from tisseract.atlas.graph.serial.stored import open_z_graph, stored_z_pairs, z_key
from tisseract.atlas.snapshot import Change

from .graph_fakes import (
    FakeSection,
    FakeStore,
    cut_section,
    morton_order,
    put_section,
    quadtree_section,
)
from .test_graph_nearest import SHAPES, make_points
from .test_graph_radius import BlockSection
from .test_graph_real import read_sections


def plane_d2(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances in the plane of all cells of a from all cells of b."""
    dx, dy = b[:, 0] - a[:, 0, None], b[:, 1] - a[:, 1, None]
    return np.asarray(dx * dx + dy * dy)


def assert_knn(a: FakeSection, b: FakeSection, k: int, gap: float) -> None:
    """Compare with the definition, the first k under (d2, x, y, row); and with a tree in space."""
    edges = ZKnnEdges(a, b, k, gap).edges([(0, a.n_obs)])
    d2, k = plane_d2(a.xy, b.xy), min(k, b.n_obs)
    order = np.array([np.lexsort((b.xy[:, 1], b.xy[:, 0], line))[:k] for line in d2])
    rows = np.sort(order, axis=1)
    np.testing.assert_array_equal(edges.indptr, np.arange(a.n_obs + 1) * k)
    np.testing.assert_array_equal(edges.indices.reshape(-1, k), rows)
    lengths = np.sqrt(np.take_along_axis(d2, rows, axis=1) + gap * gap)
    np.testing.assert_array_equal(edges.distances.reshape(-1, k), lengths)
    space = [np.c_[part.xy, np.full(part.n_obs, z)] for part, z in ((a, 0.0), (b, gap))]
    found, _ = cKDTree(space[1]).query(space[0], range(1, k + 1))
    np.testing.assert_allclose(np.sort(lengths, axis=1), found, rtol=1e-9, atol=1e-12)


def assert_radius(a: FakeSection, b: FakeSection, radius: float, gap: float) -> Edges:
    """Compare with all pairs, bit by bit."""
    source = ZRadiusEdges(a, b, radius, gap)
    edges = source.edges([(0, a.n_obs)])
    d2 = plane_d2(a.xy, b.xy) + gap * gap
    near = d2 <= radius * radius
    np.testing.assert_array_equal(np.diff(edges.indptr), near.sum(axis=1))
    np.testing.assert_array_equal(edges.indices, np.nonzero(near)[1])
    np.testing.assert_array_equal(edges.distances, np.sqrt(d2[near]))
    np.testing.assert_array_equal(source.counts([(0, a.n_obs)]), near.sum(axis=1))
    return edges


@given(
    shapes=st.tuples(st.sampled_from(SHAPES), st.sampled_from(SHAPES)),
    n=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    k=st.integers(1, 12),
    gap=st.sampled_from([0.0, 0.1, 10.0]),
    tile_cells=st.tuples(st.sampled_from([1, 8, 64]), st.sampled_from([1, 8, 64])),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80, deadline=None)
def test_knn_between_any_sections(
    shapes: tuple[str, str],
    n: tuple[int, int],
    k: int,
    gap: float,
    tile_cells: tuple[int, int],
    seed: int,
) -> None:
    a, b = (quadtree_section(make_points(shapes[i], n[i], seed + i), tile_cells[i]) for i in (0, 1))
    assert_knn(a, b, k, gap)


@given(
    shapes=st.tuples(st.sampled_from(SHAPES), st.sampled_from(SHAPES)),
    n=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    radius=st.sampled_from([1e-3, 0.1, 0.3, 1.0, 500.0]),
    share=st.sampled_from([0.0, 0.5, 1.0, 1.1]),
    tile_cells=st.tuples(st.sampled_from([1, 8, 64]), st.sampled_from([1, 8, 64])),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80, deadline=None)
def test_radius_between_any_sections(
    shapes: tuple[str, str],
    n: tuple[int, int],
    radius: float,
    share: float,
    tile_cells: tuple[int, int],
    seed: int,
) -> None:
    a, b = (quadtree_section(make_points(shapes[i], n[i], seed + i), tile_cells[i]) for i in (0, 1))
    assert_radius(a, b, radius, share * radius)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile_cells", [64, 4096])
def test_thousands_of_cells(shape: str, tile_cells: int) -> None:
    a = quadtree_section(make_points(shape, 1500, 1), tile_cells)
    b = quadtree_section(make_points("uniform", 1200, 2), tile_cells)
    assert_knn(a, b, 10, 0.05)
    assert_knn(b, a, 10, 0.05)
    assert_radius(a, b, 0.06, 0.05)


def test_sections_side_by_side_are_searched_to_the_end() -> None:
    """No tile of one comes near the other: nothing is loaded at first, everything is open."""
    a = quadtree_section(make_points("uniform", 300, 1), 16)
    b = quadtree_section(make_points("uniform", 400, 2) + 1e4, 16)
    assert_knn(a, b, 5, 10.0)


def test_a_weaker_certificate_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    sections = [quadtree_section(make_points("uniform", 900, seed), 8) for seed in (1, 2)]
    monkeypatch.setattr(z_nearest, "_EXPECTED", 0.5)  # a thin band: the boxes apart decide
    assert_knn(sections[0], sections[1], 6, 0.1)
    monkeypatch.setattr(z_nearest, "SHRINK", 3.0)
    with pytest.raises(AssertionError):
        assert_knn(sections[0], sections[1], 6, 0.1)


def test_some_rows_are_rows_of_the_whole() -> None:
    a = quadtree_section(make_points("clusters", 400, 1), 16)
    b = cut_section(make_points("clusters", 300, 2), [7, 100, 222])
    runs = [(0, 1), (17, 60), (399, 400)]
    rows = np.concatenate([np.arange(start, stop) for start, stop in runs])
    for source in (ZKnnEdges(a, b, 4, 1.0), ZRadiusEdges(a, b, 50.0, 1.0)):
        whole = source.edges([(0, 400)]).to_csr(300)
        part = source.edges(runs).to_csr(300)
        assert_same(part, whole[rows])
        assert source.edges([]).indptr.tolist() == [0]
        assert source.prepare([], lambda *_: []) is source
        assert not source.facts
        assert_same(pickle.loads(pickle.dumps(source)).edges(runs).to_csr(300), part)


def assert_same(ours: Any, theirs: Any) -> None:
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours.indptr, theirs.indptr)
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_array_equal(ours.data, theirs.data)


@given(st.floats(0.0, 1e150), st.floats(0.0, 1.5))
@settings(max_examples=200, deadline=None)
def test_greatest_square_is_the_greatest(radius: float, share: float) -> None:
    gap = radius * share
    d2 = greatest_square(radius, gap)
    if d2 < 0.0:
        assert gap * gap > radius * radius
    else:
        assert d2 + gap * gap <= radius * radius < np.nextafter(d2, np.inf) + gap * gap


@given(st.lists(st.floats(-100, 100), min_size=6, max_size=6), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_mapped_boxes_hold_the_mapped_cells(numbers: list[float], seed: int) -> None:
    section = quadtree_section(make_points("offset", 80, seed), 8)
    a, b, c, d, e, f = numbers
    placed = PlacedSection(section, ((a, b, c), (d, e, f)))
    xy, tiles = placed.positions(), placed.tiles
    owner = tiles.owner(np.arange(80))
    assert (xy >= tiles.bounds[owner, :2]).all()
    assert (xy <= tiles.bounds[owner, 2:]).all()
    assert placed.blocks is None
    fine = PlacedSection(BlockSection(section.xy, section.tiles), placed.affine).blocks
    assert fine is not None
    owner = fine.owner(np.arange(80))
    assert (xy >= fine.bounds[owner, :2]).all()
    assert (xy <= fine.bounds[owner, 2:]).all()
    assert (placed.name, placed.n_obs) == (section.name, 80)


@pytest.mark.real
def test_real_sections_equal_a_tree_in_space(real_data: Path) -> None:
    """Two neighboring slices of cortex, taken for registered, 10 um apart."""
    folder = real_data / "dlpfc"
    points = [
        *read_sections(folder / "151673.h5ad", None).values(),
        *read_sections(folder / "151674.h5ad", None).values(),
    ]
    a, b = (quadtree_section(xy, 512) for xy in points)
    assert_knn(a, b, 6, 10.0)
    assert_knn(b, a, 6, 10.0)
    assert assert_radius(a, b, 300.0, 10.0).indices.size > a.n_obs


# -- sections of an atlas -----------------------------------------------------------------------


def put_z(
    store: FakeStore, name: str, xy: NDArray[np.float64], z: float | None, **metadata: Any
) -> None:
    """Commit a section at a height."""
    section = quadtree_section(xy[morton_order(xy)], 64)
    section.name = name
    put_section(store, section)
    entry = store.snapshot.sections[name]
    facts = {**metadata, **({} if z is None else {"z_um": z})}
    store.commit(
        Change(add_sections=[replace(entry, metadata=facts)], replace=True), f"height of {name}"
    )


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    """Three sections of one donor, 10 um apart, one of another, one without a height."""
    monkeypatch.setattr(plan, "_BLOCK_ROWS", 300)
    made = FakeStore.create(tmp_path / "atlas")
    rng = np.random.default_rng(7)
    for name, n, z, donor in (
        ("low", 900, 0.0, "a"),
        ("mid", 700, 10.0, "a"),
        ("top", 40, 20, "a"),
        ("other", 50, 10.0, "b"),
        ("flat", 30, None, "a"),
    ):
        put_z(made, name, rng.random((n, 2)) * 500, z, donor=donor)
    return made


def test_consecutive_sections_of_a_donor_are_neighbors(store: FakeStore) -> None:
    graphs = z_neighbors(store, 5)
    assert [(pair.section, pair.neighbor) for pair in graphs.pairs] == [
        *(("low", "mid"), ("mid", "low"), ("mid", "top"), ("top", "mid")),
    ]
    assert {pair.gap_um for pair in graphs.pairs} == {10.0}
    matrix = graphs["low", "mid"].compute()
    assert matrix.shape == (900, 700)
    assert_same(graphs.rows("low", "mid", [(100, 800)]), matrix[100:800])
    tiles = store.section("low").tiles
    for tile in (0, len(tiles) - 1):
        assert_same(graphs.tile("low", "mid", tile), matrix[slice(*tiles.runs([tile])[0])])
    with pytest.raises(InvalidArgument, match=f"0 to {len(tiles) - 1}, but got -1"):
        graphs["low", "mid"].tile(-1)
    blocks = graphs.to_dask("low", "mid")
    assert blocks.numblocks == (len(graphs["low", "mid"].row_ptr) - 1, 1)
    assert_same(blocks.compute().tocsr(), matrix)
    tree = cKDTree(store.section("mid").xy)
    found = tree.query(store.section("low").xy, 5)[0]
    np.testing.assert_allclose(
        np.sort(matrix.data.reshape(-1, 5), axis=1), np.sqrt(found**2 + 100.0)
    )


def test_which_pairs(store: FakeStore) -> None:
    entries = store.snapshot.sections
    assert choose_pairs(entries, pairs=[("top", "low"), ("top", "low")]) == (
        ZPair("top", "low", 20.0),
    )
    skipping = choose_pairs(entries, sections=["low", "top"])
    assert [pair.gap_um for pair in skipping] == [20.0, 20.0]
    put_z(store, "twin", np.random.default_rng(0).random((20, 2)), 10.0, donor="a")
    assert len(choose_pairs(store.snapshot.sections)) == 8
    assert len(choose_pairs(store.snapshot.sections, pairs=[("mid", "twin")])) == 1
    put_z(store, "far", np.random.default_rng(0).random((20, 2)), 99.0, donor="a")
    near = choose_pairs(store.snapshot.sections, max_gap_um=10)
    assert "far" not in {pair.section for pair in near}


def test_no_donor_is_no_series_unless_named(store: FakeStore) -> None:
    xy = np.random.default_rng(1).random((20, 2))
    for name, z, facts in (
        ("h1", 30.0, {"organism": "human"}),
        ("h2", 40.0, {"organism": "human", "donor": ""}),
        ("m1", 50.0, {"organism": "mouse"}),
    ):
        put_z(store, name, xy, z, **facts)
    entries = store.snapshot.sections
    assert {pair.section for pair in choose_pairs(entries)} == {"low", "mid", "top"}
    assert len(choose_pairs(entries, sections=["h1", "h2"])) == 2
    assert len(choose_pairs(entries, pairs=[("h1", "h2")])) == 1
    asked: list[dict[str, Any]] = [{"sections": ["h2", "m1"]}, {"pairs": [("m1", "h1")]}]
    for options in asked:
        with pytest.raises(InvalidArgument, match=r"sections of one organism .* 'mouse'"):
            z_neighbors(store, 3, **options)
    put_z(store, "m2", xy, 30.0, organism="mouse", donor="a")
    put_z(store, "top", xy, 20.0, organism="human", donor="a")
    with pytest.raises(InvalidArgument, match="sections of one organism"):
        z_neighbors(store, 3)


def test_sections_that_cannot_be_compared(store: FakeStore) -> None:
    with pytest.raises(InvalidArgument, match=r"z_um of every section .* 'flat'; fill the column"):
        z_neighbors(store, 5, sections=["low", "flat"])
    with pytest.raises(InvalidArgument, match="fill the column"):
        z_neighbors(store, 5, pairs=[("flat", "low")])
    with pytest.raises(InvalidArgument, match="two different sections"):
        z_neighbors(store, 5, pairs=[("low", "low")])
    with pytest.raises(InvalidArgument, match="none consecutive"):
        z_neighbors(store, 5, sections=["low", "other"])
    with pytest.raises(InvalidArgument, match="none nearer than 10 um"):
        z_neighbors(store, 5, max_gap_um=3.0)
    with pytest.raises(InvalidArgument, match="max_gap_um"):
        z_neighbors(store, 5, max_gap_um=0)
    with pytest.raises(InvalidArgument, match="got both"):
        z_neighbors(store, 5, sections=["low"], pairs=[("low", "mid")])
    with pytest.raises(SectionNotFound, match="Did you mean 'low'"):
        z_neighbors(store, 5, pairs=[("lov", "mid")])
    section = store.section("mid")
    section.um_per_unit = None
    put_section(store, section)
    with pytest.raises(UnitUnknown, match="um_per_unit"):
        z_neighbors(store, 5, sections=["low", "mid"])


def test_parameters_that_make_no_sense(store: FakeStore) -> None:
    wrongs: list[Any] = [{}, {"n_neighs": 3, "radius": 4.0}, {"n_neighs": 0}, {"n_neighs": True}]
    for wrong in wrongs:
        with pytest.raises(InvalidArgument, match="n_neighs"):
            z_neighbors(store, **wrong)
    radii: list[Any] = [0.0, -1.0, (5.0, 9.0), np.nan]
    for radius in radii:
        with pytest.raises(InvalidArgument, match="radius"):
            z_neighbors(store, radius=radius)
    flat, open_ended = [[1, 0, 0], [2, 0, 0]], [[1, 0, np.nan], [0, 1, 0]]
    matrices: list[Any] = [np.eye(3), flat, open_ended, "a map"]
    for matrix in matrices:
        with pytest.raises(InvalidArgument, match="2 x 3 matrix"):
            z_neighbors(store, 3, transforms={"low": matrix})
    with pytest.raises(SectionNotFound):
        check_transforms({"lo": np.eye(3)[:2]}, ["low"])


def test_printing_tells_the_cost_before_anything_is_read(store: FakeStore) -> None:
    graphs = z_neighbors(store, 5)
    assert store.section("low").rows_read == store.section("mid").rows_read == 0
    text = repr(graphs)
    for part in ("4 pairs of sections", "tasks", "edges", "memory of a task"):
        assert part in text
    assert "z-knn graph of low -> mid: n_neighs=5, gap_um=10.0" in graphs.explain()
    radius = z_neighbors(store, radius=30.0)["low", "mid"]
    assert "about" in repr(radius)
    assert 0.7 <= radius.plan.edges / radius.compute().nnz <= 1.4
    assert z_neighbors(store, radius=9.0)["low", "mid"].plan.edges == 0
    with pytest.raises(InvalidArgument, match="one of 4 pairs"):
        graphs.rows("low", "top", [(0, 1)])


@pytest.mark.parametrize("options", [{"n_neighs": 6}, {"radius": 40.0}, {"radius": 5.0}])
def test_written_graphs_read_back(store: FakeStore, options: dict[str, Any]) -> None:
    graphs = z_neighbors(store, **options)
    told: list[tuple[int, int]] = []
    before = store.version
    entries = graphs.write("z", progress=lambda _, done, total: told.append((done, total)))
    assert store.version == before + 1
    assert told[-1][0] == told[-1][1] == sum(graph.plan.n_tasks for graph in graphs) > 6
    assert [entry.name for entry in entries][:2] == ["zgraph/z..mid/low", "zgraph/z..low/mid"]
    for graph, entry in zip(graphs, entries, strict=True):
        section, neighbor = graph.pair.section, graph.pair.neighbor
        assert entry.inputs == {
            f"section:{name}": store.section(name).attempt for name in (section, neighbor)
        }
        read = open_z_graph(store, "z", section, neighbor)
        lazy = graph.compute().astype(np.float32)
        assert_same(read.to_csr(), lazy)
        assert_same(read.rows([(3, 9), (20, 37)]), lazy[np.r_[3:9, 20:37]])
        assert read.nnz == lazy.nnz
        assert read.row_ptr == graph.row_ptr
        assert_same(pickle.loads(pickle.dumps(read)).to_csr(), lazy)
    assert stored_z_pairs(store, "z") == sorted(graphs.graphs)
    assert f"{graphs['mid', 'top'].n_columns} cells" in repr(open_z_graph(store, "z", "mid", "top"))


def test_tiles_and_blocks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    points = [xy[morton_order(xy)] for xy in (rng.random((n, 2)) for n in (900, 700))]
    found = []
    for number, (tile_cells, rows) in enumerate([(8, 100), (100, 300), (4096, 65_536)]):
        monkeypatch.setattr(plan, "_BLOCK_ROWS", rows)
        a, b = (quadtree_section(xy, tile_cells) for xy in points)
        made = FakeStore.create(tmp_path / str(number))
        for section, name, z in ((a, "a", 1.0), (b, "b", 1.5)):
            put_z(made, name, section.xy, z, donor="a")
            made.shelf[name, made.snapshot.sections[name].attempt].tiles = section.tiles
        z_neighbors(made, 7).write()
        found.append([open_z_graph(made, "z", *pair).to_csr() for pair in (("a", "b"), ("b", "a"))])
    for other in found[1:]:
        assert_same(other[0], found[0][0])
        assert_same(other[1], found[0][1])


def test_transforms_register_sections(store: FakeStore) -> None:
    turn = np.array([[0.8, -0.6, 25.0], [0.6, 0.8, -40.0]])
    graph = z_neighbors(store, 4, pairs=[("low", "mid")], transforms={"mid": turn})["low", "mid"]
    xy = store.section("mid").xy
    placed = np.stack(
        [row[0] * xy[:, 0] + row[1] * xy[:, 1] + row[2] for row in turn.tolist()], axis=1
    )
    d2 = plane_d2(store.section("low").xy, placed)
    wanted = np.sort(np.sqrt(np.sort(d2, axis=1)[:, :4] + 100.0), axis=1)
    matrix = graph.compute()
    np.testing.assert_array_equal(np.sort(matrix.data.reshape(-1, 4), axis=1), wanted)
    graphs = z_neighbors(store, 4, pairs=[("low", "mid")], transforms={"mid": turn})
    graphs.write("moved")
    read = open_z_graph(store, "moved", "low", "mid")
    assert_same(read.to_csr(), matrix.astype(np.float32))
    assert read.parameters["transform_to"] == str(turn.tolist())
    radius = z_neighbors(store, radius=30.0, transforms={"mid": turn, "low": turn})
    plain = z_neighbors(store, radius=30.0)
    assert radius["low", "mid"].compute().nnz == plain["low", "mid"].compute().nnz


@pytest.mark.parametrize("replaced", ["low", "mid"])
def test_a_replaced_section_makes_its_pairs_stale(store: FakeStore, replaced: str) -> None:
    graphs = z_neighbors(store, 5)
    first = graphs.write("z")
    rng = np.random.default_rng(9)
    put_z(
        store, replaced, rng.random((100, 2)) * 500, 0.0 if replaced == "low" else 10.0, donor="a"
    )
    for section, neighbor in graphs.graphs:
        if replaced in (section, neighbor):
            with pytest.raises(StaleDerived, match=f"section .{replaced}. was replaced"):
                open_z_graph(store, "z", section, neighbor)
        else:
            assert open_z_graph(store, "z", section, neighbor).nnz > 0
    again = z_neighbors(store, 5).write("z")
    kept = [old.attempt == new.attempt for old, new in zip(first, again, strict=True)]
    assert kept == [replaced not in pair for pair in graphs.graphs]
    assert open_z_graph(store, "z", "low", "mid").nnz > 0


def test_one_name_means_one_thing(store: FakeStore) -> None:
    """A stale pair is not replaced by another kind while others keep what it was."""
    z_neighbors(store, 5).write("z")
    put_z(store, "low", np.random.default_rng(9).random((100, 2)) * 500, 0.0, donor="a")
    other = z_neighbors(store, 4, pairs=[("low", "mid")])
    with pytest.raises(InvalidArgument, match=r"'low' to 'mid' has .* 'mid' to 'top'.* keep"):
        other.write("z")
    assert unbuilt_pairs(store, list(other), "z", overwrite=True) == list(other)
    z_neighbors(store, 4).write("z", overwrite=True)
    assert open_z_graph(store, "z", "low", "mid").parameters["n_neighs"] == 4


def test_what_is_there_is_not_built_again(store: FakeStore) -> None:
    first = z_neighbors(store, 5).write()
    version, store.section("low").rows_read = store.version, 0
    assert z_neighbors(store, 5).write() == first
    assert (store.version, store.section("low").rows_read) == (version, 0)
    with pytest.raises(InvalidArgument, match="give another key"):
        z_neighbors(store, 6).write()
    other = z_neighbors(store, 6).write(overwrite=True)
    assert other[0].attempt != first[0].attempt
    with pytest.raises(BudgetExceeded):
        z_neighbors(store, 7).write("third", memory_limit="2 MiB")


def test_a_build_cut_off_is_resumed(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = z_neighbors(store, 5)
    ran: list[int] = []

    def failing(self: Any) -> Any:
        ran.append(self.block)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return real(self)

    real = BlockTask.__call__
    monkeypatch.setattr(BlockTask, "__call__", failing)
    monkeypatch.setattr("dask.system.CPU_COUNT", 1)
    with pytest.raises(KeyboardInterrupt):
        graphs.write()
    assert stored_z_pairs(store, "z") == []
    first = len(ran)
    graphs.write()
    assert len(ran) - first == sum(graph.plan.n_tasks for graph in graphs) - 2
    assert_same(
        open_z_graph(store, "z", "low", "mid").to_csr(),
        graphs["low", "mid"].compute().astype(np.float32),
    )


def test_graphs_in_a_bucket() -> None:
    made = FakeStore.create(f"memory://{uuid.uuid4().hex}")
    for name, z in (("a", 1.0), ("b", 1.5)):
        put_z(made, name, make_points("uniform", 300, int(z)), z, donor="d")
    graphs = z_neighbors(made, 3)
    graphs.write()
    for pair in (("a", "b"), ("b", "a")):
        read = open_z_graph(made, "z", *pair).to_csr()
        assert_same(read, graphs[pair].compute().astype(np.float32))


@pytest.mark.slow
def test_a_cluster_gives_the_same(store: FakeStore) -> None:
    from distributed import Client

    graphs = z_neighbors(store, 4)
    with Client(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as client:
        graphs.write("there", client=client)
        bucket = FakeStore.create(f"memory://{uuid.uuid4().hex}")
        for name, z in (("low", 0.0), ("mid", 10.0)):
            put_z(bucket, name, store.section(name).xy, z, donor="a")
        z_neighbors(bucket, 4).write("there", client=client)
    graphs.write("here")
    for pair in graphs.graphs:
        here = open_z_graph(store, "here", *pair).to_csr()
        assert_same(open_z_graph(store, "there", *pair).to_csr(), here)
    staged = open_z_graph(bucket, "there", "low", "mid").to_csr()
    assert_same(staged, open_z_graph(store, "here", "low", "mid").to_csr())


def test_names_of_graphs(store: FakeStore) -> None:
    with pytest.raises(DerivedNotFound):
        open_z_graph(store, "z", "low", "mid")
    for key in ("a..b", "a.", "", "a/b", "k" * 127):
        with pytest.raises(InvalidArgument):
            z_key(key, "mid")
