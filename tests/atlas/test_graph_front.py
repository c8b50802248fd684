"""The front of the graph engine: what is asked, what it costs, many sections, squidpy's form."""

import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tisseract.atlas.errors import InvalidArgument, SectionNotFound
from tisseract.atlas.graph import (
    GraphSpec,
    NeighborGraph,
    build_graphs,
    delaunay,
    describe_graph,
    grid,
    knn,
    open_graph,
    plan_graph,
    radius,
)
from tisseract.atlas.graph.interchange.points import PointSection, points_graph
from tisseract.atlas.graph.planning.plan import plan_blocks
from tisseract.atlas.quadtree import TileTable

from .graph_fakes import FakeStore
from .graph_kinds import SPECS, lattice_points, put_points


@pytest.fixture
def store(tmp_path: Path) -> FakeStore:
    """Two sections of 700 and 300 cells spread at random."""
    made = FakeStore.create(tmp_path / "atlas")
    rng = np.random.default_rng(8)
    put_points(made, "a", rng.random((700, 2)) * 1000)
    put_points(made, "b", rng.random((300, 2)) * 600)
    return made


# ---- what is asked ------------------------------------------------------------------------------


def test_parameters_of_plain_graphs_are_those_of_older_atlases() -> None:
    assert GraphSpec.knn(6).parameters() == {"n_neighs": 6}
    assert GraphSpec.grid().parameters() == {"lattice": "auto", "n_rings": 1}


@pytest.mark.parametrize("spec", [*SPECS, GraphSpec.grid("hex", n_rings=2, set_diag=True)])
def test_a_spec_is_read_back_from_its_parameters(spec: GraphSpec) -> None:
    assert GraphSpec.read(spec.kind, spec.parameters()) == spec
    assert GraphSpec.read(spec.kind, {**spec.parameters(), "mask": "sha256:0"}) == spec


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InvalidArgument) as caught:
        GraphSpec.of("knn", n_neighs=0, percentile=101, transform="spektral", n_rings=2, radius=-1)
    text = str(caught.value)
    for part in (
        "5 faults",
        "n_neighs must be a whole number of at least 1, but got 0",
        "percentile must be a number from 0 to 100, but got 101",
        "Did you mean 'spectral'?",
        "n_rings belongs to grid graphs, but got n_rings=2 for a knn graph",
        "but got -1",
    ):
        assert part in text


@pytest.mark.parametrize(
    "value", [0, -3, np.nan, np.inf, "30", True, (10,), (1, 2, 3), (5, 5), (-1, 4), (1, np.nan)]
)
def test_bad_radii_are_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="radius must be"):
        GraphSpec.within(value)
    with pytest.raises(InvalidArgument, match="radius must be"):
        GraphSpec.knn(6, radius=value)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("nearest", {}, "a graph 'knn', 'radius', 'delaunay' or 'grid' is wanted"),
        ("radius", {}, "a radius graph wants a radius"),
        ("delaunay", {"n_neighs": 6}, "n_neighs belongs to knn graphs"),
        ("grid", {"percentile": 50}, "percentile belongs to knn and radius and delaunay graphs"),
        ("grid", {"delaunay": True}, "ask for 'delaunay'"),
        ("grid", {"ring": 2}, "an option of graphs is wanted, but got ring=2"),
        ("knn", {"n_neigs": 6}, "Did you mean 'n_neighs' or 'n_rings'?"),
        ("knn", {"percentile": np.nan}, "percentile must be"),
        ("knn", {"set_diag": 2}, "set_diag must be True or False"),
        ("grid", {"lattice": "cube"}, "'cube'"),
    ],
)
def test_what_does_not_fit_is_named(kind: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        GraphSpec.of(kind, **options)
    assert words in str(caught.value)


# ---- what it costs ------------------------------------------------------------------------------


def tile_table(n_tiles: int, cells: int) -> TileTable:
    side = int(np.ceil(np.sqrt(n_tiles)))
    x, y = np.arange(n_tiles) % side, np.arange(n_tiles) // side
    boxes = np.column_stack([x, y, x + 1, y + 1]).astype(np.float64) * 500
    return TileTable(np.arange(0, n_tiles * cells + 1, cells), boxes)


@pytest.mark.parametrize(
    "spec",
    [
        *SPECS,
        GraphSpec.grid(n_rings=3),
        GraphSpec.within((20, 50), percentile=99),
        GraphSpec.knn(30, radius=40, percentile=95, symmetrize=True),
    ],
)
def test_large_sections_are_planned_quickly(spec: GraphSpec) -> None:
    plan_graph("warm", tile_table(4, 10), spec)  # loads compiled code
    for n_tiles, seconds in ((2_500, 1.0), (12_500, 5.0)):
        started = time.process_time()
        plan = plan_graph("huge", tile_table(n_tiles, 4_000), spec)
        assert time.process_time() - started < seconds
        assert plan.n_obs == n_tiles * 4_000
        assert plan.n_tasks < 50_000
        assert plan.row_ptr[0] == 0
        assert plan.row_ptr[-1] == plan.n_obs
        assert [a for a, _ in plan.blocks[1:]] == [b for _, b in plan.blocks[:-1]]
        assert plan.task_bytes < 128 * 2**20  # whatever the size of the section


def test_blocks_are_smaller_where_cells_are_dense() -> None:
    boxes = np.array([[i * 100.0, 0.0, i * 100.0 + 100, 100.0] for i in range(8)])
    boxes[:4] /= 10  # a hundred times denser
    tiles = TileTable(np.arange(0, 8 * 4_000 + 1, 4_000), boxes)
    plan = plan_graph("s", tiles, GraphSpec.within(5))
    widths = {last - first for first, last in plan.blocks}
    assert len(widths) > 1
    assert not plan.bounded
    assert "about" in str(plan).split("writes ")[1]


@pytest.mark.parametrize("spec", [*SPECS, GraphSpec.grid(n_rings=2), GraphSpec.grid("square")])
def test_bounds_of_edges_hold(spec: GraphSpec) -> None:
    points = (
        lattice_points(30) if spec.kind == "grid" else np.random.default_rng(5).random((900, 2))
    )
    points = points * (1.0 if spec.kind == "grid" else 1000.0)
    plan = plan_graph("s", PointSection.of(points, 128).tiles, spec)
    edges, _ = points_graph(points, spec)
    assert plan.bounded == (spec.kind != "radius")
    if plan.bounded:
        assert edges.indices.size <= plan.edges
    elif spec.percentile is None:
        assert edges.indices.size == pytest.approx(plan.edges, rel=0.25)


# ---- many sections ------------------------------------------------------------------------------


def test_a_graph_of_many_sections(store: FakeStore) -> None:
    graph = knn(store, n_neighs=6)
    assert graph.sections == ("a", "b")
    assert len(graph) == 2
    assert [one.plan.section for one in graph] == ["a", "b"]
    assert graph.plan.n_obs == 1000
    assert graph.plan.edges == 6000
    assert graph.plan.n_tasks == sum(plan.n_tasks for plan in graph.plan.sections)
    assert graph.plan.task_bytes == max(plan.task_bytes for plan in graph.plan.sections)
    assert "knn graph of 2 sections: n_neighs=6" in repr(graph)
    assert "knn graph of a" in graph.explain()
    assert "<td>a</td><td>700</td>" in graph._repr_html_()
    whole = graph.compute("a")
    ptr = store.section("a").tiles.ptr
    np.testing.assert_array_equal(graph.tile("a", 2).indices, whole[ptr[2] : ptr[3]].indices)
    np.testing.assert_array_equal(graph.rows("a", slice(5, 9)).indices, whole[5:9].indices)
    np.testing.assert_array_equal(graph.rows("a", [(5, 9)]).indices, whole[5:9].indices)
    np.testing.assert_array_equal(graph["a"].compute().indices, whole.indices)
    np.testing.assert_array_equal(graph.to_dask("b").compute().indices, graph.compute("b").indices)
    written = graph.write(key="near")
    assert [entry.section for entry in written] == ["a", "b"]
    again: NeighborGraph = pickle.loads(pickle.dumps(graph))
    np.testing.assert_array_equal(again.compute("a").data, whole.data)


def test_of_one_section_the_name_may_be_left_out(store: FakeStore) -> None:
    one = knn(store, "b", 4)
    np.testing.assert_array_equal(
        one.compute().indices, knn(store, ["a", "b"], 4)["b"].compute().indices
    )
    assert one.rows(slice(0, 3)).shape == (3, 300)
    assert one.row_ptr == one["b"].row_ptr
    both = knn(store, n_neighs=4)
    with pytest.raises(InvalidArgument, match="one of 2 sections"):
        both.compute()
    with pytest.raises(InvalidArgument, match="a tile of section 'a'"):
        both.tile("a")
    with pytest.raises(SectionNotFound, match="There are: 'a', 'b'"):
        both.tile("c", 0)
    with pytest.raises(InvalidArgument, match="step 2"):
        one.rows(slice(0, 9, 2))


def test_a_lattice_is_measured_once(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from tisseract.atlas.graph.lattices import source as lattice_graph

    module: Any = lattice_graph
    put_points(store, "lattice", lattice_points(20))
    measure = module.measure_lattice
    calls = []

    def counted(*args: Any) -> Any:
        calls.append(args)
        return measure(*args)

    monkeypatch.setattr(module, "measure_lattice", counted)
    graph = grid(store, "lattice")
    for tile in range(3):
        graph.tile(tile)
    graph.edges([(0, 5)])
    assert len(calls) == 1


@pytest.mark.parametrize("spec", SPECS)
def test_what_is_written_is_what_is_lazy(store: FakeStore, spec: GraphSpec) -> None:
    options: dict[str, Any] = dict(spec.parameters())
    entries = build_graphs(store, kind=spec.kind, key_added="k", **options)
    assert build_graphs(store, kind=spec.kind, key_added="k", **options) == entries
    for name in ("a", "b"):
        lazy = describe_graph(store, spec, name).compute()
        stored = open_graph(store, "k", name)
        assert stored.spec == spec
        assert stored.kind == spec.kind
        np.testing.assert_array_equal(stored.to_csr().indptr, lazy.indptr)
        np.testing.assert_array_equal(stored.to_csr().indices, lazy.indices)
        np.testing.assert_array_equal(stored.to_csr().data, lazy.data.astype(np.float32))


def test_options_choose_edges_as_they_say(store: FakeStore) -> None:
    """Each option against its definition on the dense matrix of the plain graph."""

    def dense(graph: NeighborGraph) -> NDArray[np.float64]:
        return np.asarray(graph.compute("a").toarray())

    plain = dense(knn(store, "a", 5))
    lengths = plain[plain > 0]
    middle = (lengths >= 10) & (lengths <= 30)
    assert 0 < middle.sum() < lengths.size
    wanted = np.where((plain >= 10) & (plain <= 30), plain, 0)
    np.testing.assert_array_equal(dense(knn(store, "a", 5, radius=(30, 10))), wanted)
    limit = np.percentile(lengths[middle], 80)
    wanted = np.where(wanted <= limit, wanted, 0)
    found = knn(store, "a", 5, radius=(10, 30), percentile=80)
    np.testing.assert_array_equal(dense(found), wanted)
    wanted = np.maximum(wanted, wanted.T)
    found = knn(store, "a", 5, radius=(10, 30), percentile=80, symmetrize=True)
    np.testing.assert_array_equal(dense(found), wanted)
    triangles = dense(delaunay(store, "a"))
    wanted = np.where(triangles <= 40, triangles, 0)
    np.testing.assert_array_equal(dense(delaunay(store, "a", radius=40)), wanted)


# ---- restricted cells ---------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [*SPECS, GraphSpec.grid("square")])
def test_a_masked_graph_is_that_of_the_kept_cells(store: FakeStore, spec: GraphSpec) -> None:
    put_points(store, "lattice", lattice_points(25))
    name = "lattice" if spec.kind == "grid" else "a"
    xy = store.section(name).xy
    keep = np.random.default_rng(1).random(len(xy)) < 0.7
    graph = describe_graph(store, spec, name, mask=keep, where="qc_pass")
    assert graph[name].plan.n_kept == keep.sum()
    matrix = graph.compute()
    assert not matrix[np.flatnonzero(~keep)].nnz
    edges, _ = points_graph(xy[keep], spec)
    alone = matrix[np.flatnonzero(keep)][:, np.flatnonzero(keep)]
    wanted = edges.to_csr(int(keep.sum()))
    np.testing.assert_array_equal(alone.indptr, wanted.indptr)
    np.testing.assert_array_equal(alone.indices, wanted.indices)
    np.testing.assert_array_equal(alone.data, wanted.data)


def test_masks_are_part_of_what_is_stored(store: FakeStore) -> None:
    keep = {"a": np.arange(700) % 2 == 0}
    first = build_graphs(store, n_neighs=3, mask=keep, where="qc_pass", key_added="m")
    parameters = first[0].info["parameters"]
    assert parameters["where"] == "qc_pass"
    assert parameters["mask"].startswith("sha256:")
    assert first[1].info["parameters"] == {"n_neighs": 3}  # b keeps all its cells
    assert build_graphs(store, n_neighs=3, mask=keep, where="qc_pass", key_added="m") == first
    assert open_graph(store, "m", "a").spec == GraphSpec.knn(3)
    other = {"a": np.arange(700) % 2 == 1}
    with pytest.raises(InvalidArgument, match="a new name is wanted"):
        build_graphs(store, n_neighs=3, mask=other, where="qc_pass", key_added="m")


def test_no_cell_kept_is_a_graph_without_edges(store: FakeStore) -> None:
    for spec in (*SPECS, GraphSpec.grid("square")):
        graph = describe_graph(store, spec, "b", mask=np.zeros(300, bool))
        assert graph.compute().nnz == 0, spec


def test_bad_masks_are_refused(store: FakeStore) -> None:
    with pytest.raises(InvalidArgument, match="a mask for each of 2 sections"):
        knn(store, mask=np.ones(700, bool))
    with pytest.raises(InvalidArgument, match="700 cells"):
        knn(store, "a", mask=np.ones(3, bool))
    with pytest.raises(InvalidArgument, match="booleans"):
        knn(store, "a", mask=np.ones(700))
    with pytest.raises(InvalidArgument, match="one of 'c'"):
        knn(store, mask={"c": np.ones(700, bool)})


# ---- points and constructors --------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS)
def test_threads_and_tiles_do_not_show_in_graphs_of_points(
    spec: GraphSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tisseract.atlas.graph.interchange import points
    from tisseract.atlas.graph.planning import plan

    xy = np.random.default_rng(9).random((600, 2)) * 700
    xy[:20] = xy[20:40]
    first, _ = points_graph(xy, spec, threads=1)
    of: Any = points.PointSection.of
    monkeypatch.setattr(of.__func__, "__defaults__", (32,))
    monkeypatch.setattr(plan, "_BLOCK_ROWS", 100)
    second, _ = points_graph(xy, spec, threads=3)
    np.testing.assert_array_equal(first.indptr, second.indptr)
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_array_equal(first.distances, second.distances)


def test_kinds_have_constructors(store: FakeStore) -> None:
    assert radius(store, "a", 30).spec == GraphSpec.within(30)
    assert delaunay(store, "a", radius=30).spec == GraphSpec.delaunay(radius=30)
    assert grid(store, "a", "hex", 2).spec == GraphSpec.grid("hex", n_rings=2)
    with pytest.raises(InvalidArgument, match="wants a radius"):
        radius(store, "a")
    misplaced: Any = 30
    with pytest.raises(InvalidArgument, match="names of sections are wanted, but got 30"):
        radius(store, misplaced, radius=30)


@settings(max_examples=50, deadline=None)
@given(
    cells=st.lists(st.integers(1, 90_000), min_size=1, max_size=40),
    degree=st.floats(0, 500),
)
def test_blocks_are_all_tiles_once_and_within_bounds(cells: list[int], degree: float) -> None:
    tiles = TileTable(np.cumsum([0, *cells]), np.zeros((len(cells), 4)))
    elements = np.random.default_rng(len(cells)).random(len(cells)) * degree
    blocks = plan_blocks(tiles, elements)
    assert [tile for first, stop in blocks for tile in range(first, stop)] == list(
        range(len(cells))
    )
    for first, stop in blocks:
        rows = tiles.ptr[stop] - tiles.ptr[first]
        held = np.dot(np.maximum(elements, 1.0)[first:stop], tiles.n_cells[first:stop])
        assert stop == first + 1 or (rows <= 65_536 and held <= 2**20 * (1 + 1e-9))
