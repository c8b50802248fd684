"""The loader of neighborhoods: the same batches from threads, processes and after a resume."""

# PyG is untyped.
# pyright: reportAttributeAccessIssue=false

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisseract.atlas.errors import BudgetExceeded, DerivedNotFound, InvalidArgument
from tisseract.atlas.graph import build_graphs, open_graph
from tisseract.atlas.store import AtlasStore

from ..sections import make_raw, make_store

torch = pytest.importorskip("torch")
pytest.importorskip("torch_geometric")

from tisseract.models import node_loader, tile_loader  # noqa: E402
from tisseract.models.components.projection import fit_components  # noqa: E402
from tisseract.models.sampling.atlas_loader import _told  # noqa: E402
from tisseract.models.sampling.loader_memory import Sizes, plan_loader  # noqa: E402
from tisseract.models.sampling.node_features import ScoreFeatures, plan_genes  # noqa: E402
from tisseract.models.sampling.pyg import Data, NodeLoader  # noqa: E402

NAMES = ["a", "b"]
KEY = "loader"
FIELDS = ("edge_index", "edge_attr", "n_id", "e_id", "input_id", "section")


@pytest.fixture(scope="module")
def store(planted_store: AtlasStore) -> AtlasStore:
    build_graphs(planted_store, sections=NAMES, key_added=KEY, n_neighs=6)
    return planted_store


def make(store: AtlasStore, **options: Any) -> Any:
    options = {"num_neighbors": [3, 2], "batch_size": 200, "seed": 5, **options}
    return node_loader(store, NAMES, graph=KEY, **options)


def same(first: Data, second: Data) -> bool:
    fields = (*FIELDS, "x") if "x" in first else FIELDS
    return (
        all(torch.equal(first[name], second[name]) for name in fields)
        and first.num_sampled_nodes == second.num_sampled_nodes
        and first.num_sampled_edges == second.num_sampled_edges
    )


@pytest.mark.filterwarnings("ignore:.*of edges and features are wanted")
@pytest.mark.parametrize("replace", [False, True])
def test_threads_workers_and_resuming_change_nothing(store: AtlasStore, replace: bool) -> None:
    plain = make(store, replace=replace, threads=0)
    epochs = [list(plain), list(plain)]
    assert len(epochs[0]) == len(plain) == 6
    for options in ({"threads": 1}, {"threads": 2, "cache_bytes": 200_000}, {"num_workers": 2}):
        other = make(store, replace=replace, **options)
        for epoch in epochs:
            assert all(same(a, b) for a, b in zip(epoch, other, strict=True))
        other.seek(1, 4)
        assert all(same(a, b) for a, b in zip(epochs[1][4:], other, strict=True))
    spawned = pickle.loads(pickle.dumps(plain.maker))  # what a spawned worker gets
    assert same(spawned((1, 3)), epochs[1][3])
    assert same(plain.load(0, 2), epochs[0][2])


def test_the_same_seeds_draw_anew_in_every_epoch(store: AtlasStore) -> None:
    first, second = (make(store, shuffle="none", features=None).load(e, 1) for e in (0, 1))
    assert torch.equal(first.input_id, second.input_id)
    assert not torch.equal(first.e_id[: len(second.e_id)], second.e_id[: len(first.e_id)])


def test_all_neighbors_equal_those_of_pygs_own_loader(store: AtlasStore) -> None:
    ours = make(store, num_neighbors=[-1, -1], features="raw")
    seeds = [data.input_id.tolist() for data in ours]
    theirs = NodeLoader(
        ours.data,
        node_sampler=ours.node_sampler,
        input_nodes=torch.arange(1100),
        transform=ours.node_sampler.attach_lengths,
        batch_sampler=seeds,
    )
    ours.seek(0)
    for a, b in zip(ours, theirs, strict=True):
        assert same(a, b)
        assert a.num_nodes == b.num_nodes
        assert a.batch_size == b.batch_size


def test_components_are_scores_of_the_chosen_genes(store: AtlasStore) -> None:
    genes = [f"Gene{i}" for i in range(8, 30)]
    loader = make(store, features="components", genes=genes, threads=1)
    sections = [store.section(name) for name in NAMES]
    plan = plan_genes(sections, genes)
    raw = make(store, genes=genes)
    fitted = fit_components(sections, plan, n_comps=30, block_rows=512)
    everything = np.concatenate([raw.maker.features.take(np.arange(1100))])
    for start, stop in ((0, 600), (600, 1100)):
        everything[start:stop] -= everything[start:stop].mean(axis=0)
    wanted = everything @ fitted.loadings
    for data in loader:
        np.testing.assert_allclose(data.x.numpy(), wanted[data.n_id], atol=1e-4)
    assert isinstance(loader.maker.features, ScoreFeatures)
    with pytest.raises(InvalidArgument, match="num_workers=0"):
        pickle.dumps(loader.maker)


def test_no_features(store: AtlasStore) -> None:
    data = make(store, features=None).load(0, 0)
    assert "x" not in data
    assert data.num_nodes == len(data.n_id)


def test_an_error_names_its_batch(store: AtlasStore) -> None:
    def fail(data: Data) -> Data:
        if data.input_id[0] == third:
            raise ZeroDivisionError
        return data

    third = make(store).load(0, 2).input_id[0]
    for options in ({"threads": 2}, {"threads": 0}):
        batches = iter(make(store, transform=fail, **options))
        assert len([next(batches), next(batches)]) == 2
        with pytest.raises(ZeroDivisionError) as caught:
            next(batches)
        assert caught.value.__notes__ == ["in batch 2 of epoch 0"]


def test_leaving_early_leaves_no_thread(store: AtlasStore) -> None:
    import threading

    for _ in make(store):
        break
    assert not [t for t in threading.enumerate() if t.name.startswith("tisseract-batch")]


def test_memory_is_planned(store: AtlasStore) -> None:
    loader = make(store)
    assert "edges" in str(loader.memory)
    assert str(loader.memory) in str(loader)
    assert loader.memory.edges == loader.memory.edges_full
    assert open_graph(store, KEY, "a").nnz * 8 < loader.memory.edges_full
    with pytest.raises(BudgetExceeded, match="batch_size"):
        make(store, memory_limit="1 MiB")
    sizes = Sizes(10**6, 20.0, 60.0, 300, 100, 1000)
    options: dict[str, Any] = {"batch_size": 64, "fanouts": [5], "in_flight": 3}
    found = {
        cache: plan_loader(sizes, **options, cache_bytes=cache) for cache in (2000, 1100, 600, 150)
    }
    assert [(p.edges, p.features) for p in found.values()] == [
        (100, 1000), (100, 1000), (100, 500), (75, 75)
    ]  # fmt: skip
    limit = found[150].total + 300
    tight = plan_loader(sizes, **options, cache_bytes=2**30, memory_limit=limit)
    assert tight.total == limit
    assert (tight.edges, tight.features) == (100, 350)


def test_too_little_for_the_lanes_is_told_with_what_would_do(store: AtlasStore) -> None:
    sizes = Sizes(10**6, 20.0, 60.0, 300, 10**8, 2 * 10**8)
    options: dict[str, Any] = {"batch_size": 64, "fanouts": [5], "in_flight": 3}
    wide, narrow, blind = (
        plan_loader(sizes, **options, cache_bytes=2 * 10**8, lanes=lanes) for lanes in (64, 32, 0)
    )
    # of a million cells, 64 lanes want 786,432
    assert wide.wanted == 235_929_600
    assert narrow.wanted == wide.wanted // 2
    assert (wide.reads_again, narrow.reads_again) == (True, False)
    assert blind.wanted == 0
    with pytest.warns(UserWarning, match=r"lanes, but got 97.7 KiB.*raise cache_bytes") as told:
        make(store, cache_bytes=100_000)
    # 32 lanes of so few cells want as much
    assert "lanes=32" not in str(told[0].message)
    half_million = plan_loader(
        replace(sizes, n_nodes=500_000), **options, cache_bytes=10**8, lanes=64
    )
    assert _told(half_million, 500_000, 64).endswith("lanes=32, which mix less and want 225.0 MiB")
    assert "lanes=32" not in _told(half_million, 500_000, 32)
    make(store, cache_bytes=100_000, shuffle="cells")  # nobody expects better of it


@pytest.mark.memory
@pytest.mark.slow
def test_the_peak_stays_within_the_plan(tmp_path: Path) -> None:
    raw = make_raw(n_obs=30_000, n_vars=100, seed=0)
    build_graphs(make_store(tmp_path, {"S1": raw}, tile_cells=4096), n_neighs=10)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path / "atlas")],
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    assert found["kept"] < found["full"]  # some of it has to be read again
    assert found["peak"] <= found["planned"], found


_MEASURE = """
import json, resource, sys
from tisseract.atlas.store import open_store
from tisseract.models import node_loader

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

store = open_store(sys.argv[1])
options = dict(features="raw", num_neighbors=[10, 5], batch_size=256, block_rows=128)
next(iter(node_loader(store, **{**options, "batch_size": 16})))
before = peak()
loader = node_loader(store, **options, cache_bytes="3 MiB")
for data in loader:
    pass
memory = loader.memory
print(json.dumps({
    "peak": peak() - before,
    "planned": memory.total,
    "kept": memory.edges + memory.features,
    "full": memory.edges_full + memory.features_full,
}))
"""


@pytest.mark.parametrize("loader", [node_loader, tile_loader])
def test_without_a_stored_graph_one_found_on_the_way_is_named(
    loader: Any, planted_store: AtlasStore
) -> None:
    with pytest.raises(DerivedNotFound, match="Or give graph=6"):
        loader(planted_store, graph="nothing")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": -1}, "threads=-1"),
        ({"num_neighbors": []}, r"per hop is wanted, but got \[\]"),
        ({"num_neighbors": 10}, r"per hop is wanted, but got 10; .* such as \[10, 5\]"),
        ({"num_neighbors": [10, "5"]}, "per hop is wanted, but got"),
        ({"num_neighbors": [-2]}, "per hop is wanted, but got"),
        ({"memory_limit": "1 GBB"}, "1 GBB"),
        ({"cache_bytes": "much"}, "much"),
    ],
)
def test_what_means_nothing_is_refused_before_components_are_fitted(
    store: AtlasStore, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("tisseract.models.sampling.atlas_loader.open_features", read)
    with pytest.raises(InvalidArgument, match=message):
        make(store, features="components", **options)


def test_components_are_fitted_within_the_limit(
    store: AtlasStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tisseract.models.components import projection

    limits = []
    plan = projection.plan_pass

    def planned(sections: Any, n_genes: int, limit: int, **options: Any) -> Any:
        limits.append(limit)
        return plan(sections, n_genes, limit, **options)

    monkeypatch.setattr(projection, "plan_pass", planned)
    make(store, features="components", memory_limit="300 MiB")
    assert limits == [300 * 2**20]
    with pytest.raises(BudgetExceeded, match="choose fewer genes, or raise `memory_limit`"):
        make(store, features="components", memory_limit="100 KiB")
