"""Graphs through the store: lazy, written, read back, resumed, refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from tisseract.atlas.errors import (
    BudgetExceeded,
    Corrupt,
    DerivedNotFound,
    FormatUnsupported,
    InvalidArgument,
    ReadOnly,
    StaleDerived,
)
from tisseract.atlas.graph import GraphSpec, build_graphs, delaunay, grid, knn, open_graph
from tisseract.atlas.graph.disk import layout, stored
from tisseract.atlas.graph.edges import Edges
from tisseract.atlas.graph.planning import plan

from .graph_fakes import FakeStore, brute_force, morton_order, put_section, quadtree_section


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    """Three sections: 3,000 cells in many blocks, 40 cells, one cell."""
    monkeypatch.setattr(plan, "_BLOCK_ROWS", 700)
    made = FakeStore.create(tmp_path / "atlas")
    rng = np.random.default_rng(4)
    for name, n in (("big", 3000), ("few", 40), ("one", 1)):
        xy = rng.random((n, 2)) * 1000
        xy[: n // 20] = xy[0]  # cells at one position
        section = quadtree_section(xy[morton_order(xy)], 256)
        section.name = name
        put_section(made, section)
    return made


def assert_equal(found: Any, wanted: Any) -> None:
    """Compare sparse matrices, stored zeros included."""
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found.indptr, wanted.indptr)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.data, wanted.data)


def test_lazy_graph_is_the_definition(store: FakeStore) -> None:
    graph = knn(store, "big", 6)
    xy = store.section("big").xy
    rows, d2 = brute_force(xy, 6)
    matrix = graph.compute()
    order = np.argsort(rows, axis=1)
    np.testing.assert_array_equal(matrix.indices.reshape(-1, 6), np.take_along_axis(rows, order, 1))
    expected = np.sqrt(np.take_along_axis(d2, order, 1))
    np.testing.assert_array_equal(matrix.data.reshape(-1, 6), expected)
    assert matrix.has_canonical_format


def test_links_are_the_edges_without_their_lengths(store: FakeStore) -> None:
    build_graphs(store, sections=["big"], n_neighs=6)
    graph = open_graph(store, "spatial", "big")
    for runs in ([(0, 3000)], [(3, 9), (690, 1500), (2999, 3000)], []):
        indptr, indices = graph.links(runs)
        edges = graph.edges(runs)
        np.testing.assert_array_equal(indptr, edges.indptr)
        np.testing.assert_array_equal(indices, edges.indices)


def test_chunks_of_equally_many_edges_end_with_a_row(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_CHUNK_ROWS", 64)
    build_graphs(store, sections=["big"], n_neighs=6)
    graph = open_graph(store, "spatial", "big")
    assert graph.chunk_rows == 64
    assert {graph._array(0, name).layout.chunk for name in ("indices", "distances")} == {384}
    assert_equal(graph.to_csr(), knn(store, "big", 6).compute().astype(np.float32))
    monkeypatch.setattr(layout, "_MOST_EDGES", 100)
    build_graphs(store, sections=["few"], n_neighs=6, key_added="short")
    assert open_graph(store, "short", "few")._array(0, "indices").layout.chunk == 96


def test_tiles_rows_dask_and_whole_agree(store: FakeStore) -> None:
    graph = knn(store, "big", 6)
    whole = graph.compute()
    ptr = store.section("big").tiles.ptr
    assert_equal(graph.tile(3), whole[ptr[3] : ptr[4]])
    assert_equal(graph.rows([(5, 9), (2000, 2950)]), whole[np.r_[5:9, 2000:2950]])
    lazy = graph.to_dask()
    sums = lazy.map_blocks(lambda block: block.sum(axis=1), drop_axis=1, dtype=float)
    np.testing.assert_allclose(sums.compute(), graph.compute().sum(axis=1))
    assert lazy.shape == (3000, 3000)
    assert len(lazy.chunks[0]) == len(graph["big"].plan.blocks) > 3
    assert_equal(lazy.compute(), whole)


def test_printing_tells_the_cost_before_anything_is_read(store: FakeStore) -> None:
    section = store.section("big")
    text = repr(knn(store, "big", 6))
    assert section.rows_read == 0
    for part in ("knn graph of big", "3,000 cells", "tasks", "18,000 edges", "memory of a task"):
        assert part in text
    assert "block 0: tiles 0:" in knn(store, "big", 6).explain()


def test_build_commits_and_reads_back(store: FakeStore) -> None:
    before = store.version
    entries = build_graphs(store, n_neighs=6)
    assert [entry.section for entry in entries] == ["big", "few", "one"]
    assert store.version == before + 1
    for name in ("big", "few", "one"):
        lazy, read = knn(store, name, 6).compute(), open_graph(store, "spatial", name)
        np.testing.assert_array_equal(read.to_csr().indices, lazy.indices)
        np.testing.assert_array_equal(read.to_csr().indptr, lazy.indptr)
        np.testing.assert_array_equal(read.to_csr().data, lazy.data.astype(np.float32))
        assert read.nnz == lazy.nnz
    read = open_graph(store, "spatial", "big")
    runs = [(0, 1), (3, 4), (690, 1500), (2999, 3000)]
    assert_equal(read.rows(runs), knn(store, "big", 6).rows(runs).astype(np.float32))
    assert_equal(read.tile(0), knn(store, "big", 6).tile(0).astype(np.float32))
    assert read.rows([]).shape == (0, 3000)
    assert read.distance_unit == "micrometers"
    again = pickle.loads(pickle.dumps(read))
    assert_equal(again.tile(1), read.tile(1))


def test_stored_graph_is_plain_zarr(store: FakeStore) -> None:
    build_graphs(store, n_neighs=6, sections=["big"])
    group = store.derived_group("graph", "spatial", "big")
    lazy = knn(store, "big", 6).compute()
    parts = [np.asarray(group[f"blocks/{b}/indices"][:]) for b in range(len(group["blocks"]))]
    np.testing.assert_array_equal(np.concatenate(parts), lazy.indices)
    entry = store.derived("graph", "spatial", "big")
    provenance = json.loads(store.storage.get(f"{entry.prefix}/provenance.json"))
    assert provenance["inputs"] == dict(entry.inputs)
    assert provenance["parameters"] == {"kind": "knn", "n_neighs": 6}
    assert isinstance(group["blocks/0/indptr"], zarr.Array)


def test_tiles_and_workers_do_not_show(tmp_path: Path) -> None:
    xy = np.random.default_rng(1).random((2500, 2))
    xy = xy[morton_order(xy)]
    found = []
    for number, (tile_cells, limit) in enumerate([(64, "2 GiB"), (300, "70 MiB"), (4096, "1 GiB")]):
        made = FakeStore.create(tmp_path / str(number))
        put_section(made, quadtree_section(xy, tile_cells))
        build_graphs(made, n_neighs=5, memory_limit=limit)
        found.append(open_graph(made, "spatial", "S1").to_csr())
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].indptr, other.indptr)
        np.testing.assert_array_equal(found[0].indices, other.indices)
        np.testing.assert_array_equal(found[0].data, other.data)


def test_what_is_there_is_not_built_again(store: FakeStore) -> None:
    first = build_graphs(store, n_neighs=6)
    version = store.version
    store.section("big").rows_read = 0
    assert build_graphs(store, n_neighs=6) == first
    assert (store.version, store.section("big").rows_read) == (version, 0)
    other = build_graphs(store, n_neighs=4, overwrite=True)
    assert other[0].attempt != first[0].attempt
    section = store.section("big")
    put_section(store, section)
    assert build_graphs(store, n_neighs=4)[1:] == other[1:]


def test_a_build_cut_off_is_resumed(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from tisseract.atlas.graph.building import block_task, execute

    monkeypatch.setattr(execute, "_GROUP_GRAPHS", 1)
    write = layout.write_pieces

    def fail(folder: Path, block: int, indptr: Any, pieces: Any) -> layout.BlockReceipt:
        if indptr.size == 41:
            raise OSError("the disk went away")
        return write(folder, block, indptr, pieces)

    monkeypatch.setattr(block_task, "write_pieces", fail)
    with pytest.raises(OSError, match="went away") as caught:
        build_graphs(store, n_neighs=6)
    assert "section 'few'" in caught.value.__notes__[0]
    assert store.derived_keys("graph") == {"spatial": ["big"]}
    assert not list(store.storage.list("derived/graph/spatial/few"))
    first = store.derived("graph", "spatial", "big")
    monkeypatch.setattr(block_task, "write_pieces", write)
    assert build_graphs(store, n_neighs=6)[0] == first
    assert store.derived_keys("graph") == {"spatial": ["big", "few", "one"]}


def test_a_replaced_section_makes_its_graph_stale(store: FakeStore) -> None:
    knn(store, "few", 3).write("near")
    put_section(store, store.section("few"))
    with pytest.raises(StaleDerived, match="section 'few' was replaced"):
        open_graph(store, "near", "few")
    knn(store, "few", 3).write("near")
    assert open_graph(store, "near", "few").nnz == 120


def test_squidpy_form(store: FakeStore) -> None:
    form = knn(store, "big", 6).to_squidpy()
    assert form.connectivities.dtype == np.float32
    assert form.distances.dtype == np.float64
    assert form.distances.nnz < form.connectivities.nnz == 18_000  # cells at one position
    assert form.uns["params"] == {"coord_type": "generic", "n_neighbors": 6, "transform": None}
    assert knn(store, "few", 2).to_squidpy(set_diag=True).connectivities.diagonal().all()
    build_graphs(store, n_neighs=6)
    again = open_graph(store, "spatial", "big").to_squidpy()
    assert_equal(again.connectivities, form.connectivities)
    np.testing.assert_allclose(again.distances.data, form.distances.data, rtol=1e-7)


def test_progress_counts_every_task(store: FakeStore) -> None:
    told: list[tuple[str, int, int]] = []
    build_graphs(store, n_neighs=6, progress=lambda *event: told.append(event))
    total = sum(len(knn(store, name, 6)[name].plan.blocks) for name in ("big", "few", "one"))
    assert [event[1:] for event in told] == [(done, total) for done in range(1, total + 1)]
    told.clear()
    put_lattice(store, 40)
    build_graphs(
        store,
        kind="grid",
        key_added="g",
        sections=["lattice", "one"],
        progress=lambda *event: told.append(event),
    )
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1][1] <= told[-1][2]


def put_lattice(store: FakeStore, side: int) -> None:
    """Add a square lattice, `lattice`."""
    x, y = np.divmod(np.arange(side * side), side)
    xy = np.column_stack([x, y]).astype(np.float64) * 200
    section = quadtree_section(xy[morton_order(xy)], 256)
    section.name = "lattice"
    put_section(store, section)


def test_a_lattice_graph_needs_a_lattice(store: FakeStore) -> None:
    put_lattice(store, 30)
    version = store.version
    for kind in ("grid", "hex", "square"):
        with pytest.raises(InvalidArgument, match=r"'big', whose cells lie on none.*kind='knn'"):
            build_graphs(store, kind=kind, sections=["lattice", "big"][kind == "hex" :])
    with pytest.raises(InvalidArgument, match=r"'lattice', whose spots lie on a square one"):
        build_graphs(store, kind="hex", sections=["lattice"])
    with pytest.raises(InvalidArgument, match="lie on none"):
        grid(store, "big").compute()
    assert store.version == version
    (entry,) = build_graphs(store, kind="grid", sections=["lattice"])
    assert entry.info["facts"]["lattice_found"] == "square"


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "six"])
def test_counts_are_whole_numbers_of_at_least_one(store: FakeStore, value: object) -> None:
    with pytest.raises(InvalidArgument, match="n_neighs must be a whole number"):
        knn(store, "few", value)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="n_rings must be a whole number"):
        grid(store, "few", n_rings=value)  # type: ignore[arg-type]


def test_what_is_asked_wrongly_is_named(store: FakeStore) -> None:
    with pytest.raises(InvalidArgument, match="Did you mean 'radius'"):
        build_graphs(store, kind="radios")
    with pytest.raises(InvalidArgument, match="'cube'"):
        grid(store, "few", "cube")  # type: ignore[arg-type]
    with pytest.raises(DerivedNotFound):
        open_graph(store, "spatial", "few")
    with pytest.raises(InvalidArgument, match=r"got \(3, 2\)"):
        knn(store, "few", 2).rows([(3, 2)])
    with pytest.raises(InvalidArgument, match="after row 5"):
        knn(store, "few", 2).rows([(0, 5), (4, 6)])
    with pytest.raises(InvalidArgument, match="got 99"):
        knn(store, "few", 2).tile(99)
    with pytest.raises(BudgetExceeded, match="one block of a graph"):
        build_graphs(store, memory_limit="1 MiB")
    reader = FakeStore.open(store.url)
    with pytest.raises(ReadOnly):
        build_graphs(reader)


def test_hostile_graphs_are_refused(store: FakeStore) -> None:
    (entry,) = knn(store, "few", 2).write()
    path = Path(str(store.storage.local_path(entry.prefix)))
    root = json.loads((path / "zarr.json").read_text())

    def rewrite(**changes: object) -> None:
        attributes = {**root["attributes"]["tisseract"], **changes}
        text = json.dumps({**root, "attributes": {"tisseract": attributes}})
        (path / "zarr.json").write_text(text)

    for changes in (
        {"n_obs": 41},
        {"row_ptr": [0, 20, 10, 40]},
        {"row_ptr": [0, 39]},
        {"kind": 7},
        {"row_ptr": ["0", "40"]},
    ):
        rewrite(**changes)
        with pytest.raises(Corrupt):
            open_graph(store, "spatial", "few")
    rewrite(format="9")
    with pytest.raises(FormatUnsupported, match="upgrade"):
        open_graph(store, "spatial", "few")
    rewrite()
    edges = Edges(np.array([0, 1]), np.array([10**6], np.int32), np.zeros(1))
    whole = open_graph(store, "spatial", "few").edges([(0, 40)])
    beyond = Edges(whole.indptr, whole.indices + edges.indices, whole.distances)
    layout.write_pieces(path, 0, beyond.indptr, [beyond])
    with pytest.raises(Corrupt, match="columns within 40 cells"):
        stored.open_graph(store, "spatial", "few").to_csr()


def test_planning_fifty_million_cells_is_quick() -> None:
    import time

    from tisseract.atlas.quadtree import TileTable

    tiles = TileTable(np.arange(0, 50_000_001, 2500), np.zeros((20_000, 4)))
    started = time.perf_counter()
    planned = plan.plan_graph("huge", tiles, GraphSpec.knn(10))
    assert time.perf_counter() - started < 5
    assert planned.n_tasks < 50_000
    small = plan.plan_graph(
        "small", TileTable(tiles.ptr[:401], tiles.bounds[:400]), GraphSpec.knn(10)
    )
    assert planned.task_bytes == small.task_bytes


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["disk", "bucket"])
def test_a_cluster_gives_the_same_graph(tmp_path: Path, scheme: str) -> None:
    """Blocks go to any worker where all see the disk, whole sections where they stage uploads."""
    from distributed import Client

    url = tmp_path / "atlas" if scheme == "disk" else f"memory://graph-{tmp_path.name}"
    made = FakeStore.create(url)
    spots = np.stack(np.meshgrid(np.arange(60.0), np.arange(50.0)), axis=-1).reshape(-1, 2)
    xy = spots + np.random.default_rng(3).normal(0, 0.05, spots.shape)
    xy = xy[morton_order(xy)]
    for name in ("a", "b"):
        section = quadtree_section(xy, 256)
        section.name = name
        put_section(made, section)
    shaped: Any = {"kind": "delaunay", "percentile": 90}
    masks = {name: np.arange(3000) % 5 > 0 for name in ("a", "b")}
    with Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None) as c:
        entries = build_graphs(made, n_neighs=4, client=c)
        build_graphs(made, kind="square", key_added="g", client=c)
        build_graphs(made, **shaped, mask=masks, key_added="d", client=c)
    assert [entry.section for entry in entries] == ["a", "b"]
    for name in ("a", "b"):
        lazy = knn(made, name, 4).compute().astype(np.float32)
        assert_equal(open_graph(made, "spatial", name).to_csr(), lazy)
        assert open_graph(made, "g", name).facts["lattice_found"] == "square"
        lazy = delaunay(made, name, percentile=90, mask=masks[name]).compute()
        assert_equal(open_graph(made, "d", name).to_csr(), lazy.astype(np.float32))


def test_a_real_section_will_do(tmp_path: Path) -> None:
    """The same through a section written by ingest, in source units."""
    from scipy.sparse import csr_matrix

    from tisseract.atlas.panel import Panel
    from tisseract.atlas.section_columns import StringValues
    from tisseract.atlas.snapshot import Change, SectionEntry
    from tisseract.atlas.store import create_store
    from tisseract.ingest.partition import write_section
    from tisseract.ingest.source import ArrayColumn, MatrixCounts, RawSection

    n = 500
    made = create_store(tmp_path / "atlas")
    raw = RawSection(
        positions=np.random.default_rng(0).random((n, 2)) * 100,
        instance_ids=ArrayColumn.of(StringValues.from_strings([f"c{i}" for i in range(n)])),
        obs={},
        panel=Panel.of(["gene"]),
        counts=MatrixCounts(csr_matrix((n, 1), dtype=np.uint8)),
        radius=1.0,
    )
    with made.new_attempt("sections/S1", suffix=".zarr") as attempt:
        summary = write_section(
            raw, attempt.path, tile_cells=64, memory_limit=2**29, scratch=tmp_path
        )
        receipt = attempt.seal()
    entry = SectionEntry(
        section="S1",
        attempt=receipt.attempt,
        digest=receipt.digest,
        n_obs=n,
        n_vars=1,
        nnz=summary.nnz,
        nbytes=receipt.nbytes,
        n_tiles=summary.n_tiles,
        tile_cells=summary.tile_cells,
        panel=summary.panel,
        values="counts",
        um_per_unit=None,
        bounds=summary.bounds,
        fingerprint="x",
    )
    made.commit(Change(add_sections=[entry]), "one section")
    (written,) = knn(made, "S1", 5).write("near")
    read = open_graph(made, "near", "S1")
    rows, _ = brute_force(made.section("S1").positions(), 5)
    np.testing.assert_array_equal(read.to_csr().indices.reshape(-1, 5), np.sort(rows, axis=1))
    assert read.distance_unit == "source_units"
    assert dict(written.inputs) == {"section:S1": receipt.attempt}


def test_a_good_graph_is_not_replaced_unasked(store: FakeStore) -> None:
    (before,) = build_graphs(store, n_neighs=6, sections=["few"])
    with pytest.raises(InvalidArgument, match="section 'few' has a graph 'spatial' built with knn"):
        build_graphs(store, n_neighs=4, sections=["few"])
    assert store.snapshot.derived["graph/spatial/few"] == before
    (after,) = build_graphs(store, n_neighs=4, sections=["few"], overwrite=True)
    assert after.attempt != before.attempt


def test_threads_of_a_worker_share_the_limit(store: FakeStore) -> None:
    class Crowd:
        def nthreads(self) -> dict[str, int]:
            return {"a": 64}

    task = knn(store, "big", 6).plan.task_bytes
    crowd: Any = Crowd()
    with pytest.raises(BudgetExceeded, match="64 blocks of a graph at once in one worker"):
        build_graphs(store, sections=["big"], client=crowd, memory_limit=2 * task)
