"""Domains end to end on planted tissue: agreement, consistency, provenance, odd sections."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisseract.atlas.derived_read import read_domains, read_embedding
from tisseract.atlas.errors import (
    BudgetExceeded,
    CommitConflict,
    DerivedNotFound,
    InvalidArgument,
    ReadOnly,
    RunNotFound,
    SectionNotFound,
    StaleDerived,
)
from tisseract.atlas.graph import knn
from tisseract.atlas.snapshot import Change
from tisseract.atlas.store import AtlasStore, open_store
from tisseract.models import DomainBaseline, ExpressionBaseline, ari, find_domains
from tisseract.models.runs import load_run
from tisseract.models.sampling.graph_source import GraphSource

from ..planted import N_LAYERS, planted, truth
from ..sections import add_section, make_store

SMALL: dict[str, Any] = {
    "steps": 60,
    "n_hidden": 16,
    "n_layers": 3,
    "prior_hops": 3,
    "device": "cpu",
}


def agreement(store: AtlasStore, key: str) -> dict[str, float]:
    return {
        name: ari(truth(store, name), read_domains(store, key, name).codes)
        for name in store.derived_keys("domains")[key]
    }


@pytest.fixture(scope="module")
def labeled(planted_store: AtlasStore) -> AtlasStore:
    find_domains(planted_store, n_domains=N_LAYERS, key_added="plain", refine=False)
    find_domains(
        planted_store, "expression", n_domains=N_LAYERS, key_added="expression", refine=False
    )
    return planted_store


@pytest.fixture(scope="module")
def labeled_by_network(labeled: AtlasStore) -> AtlasStore:
    pytest.importorskip("torch_geometric")
    find_domains(labeled, "gnn", n_domains=N_LAYERS, key_added="gnn", **SMALL)
    return labeled


def test_neighbors_find_layers_and_cells_alone_do_not(labeled: AtlasStore) -> None:
    plain, alone = agreement(labeled, "plain"), agreement(labeled, "expression")
    assert plain["a"] > 0.7
    assert plain["b"] > 0.6
    assert max(alone.values()) < 0.4


def test_the_network_finds_layers(labeled_by_network: AtlasStore) -> None:
    found = agreement(labeled_by_network, "gnn")
    assert found["a"] > 0.7
    assert found["b"] > 0.6


def test_labels_mean_the_same_in_all_sections(labeled: AtlasStore) -> None:
    """One renaming of labels fits every section, though panel, depth and batch differ."""
    true = np.concatenate([truth(labeled, name) for name in ("a", "b", "tiny")])
    codes = np.concatenate(
        [read_domains(labeled, "plain", name).codes for name in ("a", "b", "tiny")]
    )
    assert ari(true, codes) > 0.7


def test_names_are_ordered_by_size(labeled: AtlasStore) -> None:
    table = find_domains(labeled, n_domains=N_LAYERS, key_added="sizes", refine=False)
    assert table.index.tolist() == ["0", "1", "2"]
    assert table.columns.tolist() == ["a", "b", "tiny"]
    total = table.sum(axis=1).tolist()
    assert total == sorted(total, reverse=True)
    assert sum(total) == 600 + 500 + 120
    labels = read_domains(labeled, "sizes", "b")
    assert labels.categories == ("0", "1", "2")
    assert np.bincount(labels.codes, minlength=3).tolist() == table["b"].tolist()
    assert labels.names[0] == str(labels.codes[0])


def test_same_seed_gives_the_same_labels(labeled: AtlasStore) -> None:
    first = read_domains(labeled, "plain", "a")
    find_domains(labeled, n_domains=N_LAYERS, key_added="again", refine=False)
    again = read_domains(labeled, "again", "a")
    assert np.array_equal(first.codes, again.codes)
    assert first.confidence.tobytes() == again.confidence.tobytes()


def test_histograms_count_the_labels_of_each_tile(labeled: AtlasStore) -> None:
    group = labeled.derived_group("domains", "plain", "a")
    tiles = labeled.section("a").tiles
    codes = group["codes"][:]
    for t, counts in enumerate(group["tile_hist"][:]):
        rows = slice(tiles.ptr[t], tiles.ptr[t + 1])
        assert np.bincount(codes[rows], minlength=N_LAYERS).tolist() == counts.tolist()


def test_provenance_leads_back_to_everything(labeled: AtlasStore) -> None:
    entry = labeled.derived("domains", "plain", "a")
    embedding = labeled.derived("embedding", "plain", "a")
    assert entry.inputs["section:a"] == labeled.section("a").attempt
    assert entry.inputs[embedding.name] == embedding.attempt
    assert entry.run is not None
    readout = load_run(labeled, entry.run, model="mixture")
    assert readout.config["encoder"] == embedding.run
    runs = {labeled.derived("domains", "plain", name).run for name in ("a", "b", "tiny")}
    assert runs == {entry.run}
    told = json.loads(labeled.storage.get(f"{entry.prefix}/provenance.json"))
    assert told["run"] == entry.run
    assert told["parameters"]["n_hops"] == 4
    assert told["seed"] == 0
    assert entry.info["counts"].keys() == {"0", "1", "2"}
    assert embedding.info["treatment"] == "library-size + log1p"


def test_the_mixture_of_a_run_gives_the_labels_again(labeled: AtlasStore) -> None:
    from tisseract.models.domains.mixture import Mixture

    entry = labeled.derived("domains", "plain", "b")
    run = load_run(labeled, str(entry.run))
    weights, shifted = run.weights, run.config["shifted"]
    mixture = Mixture(weights["weights"], weights["means"], weights["factors"])
    rows = read_embedding(labeled, "plain", "b")
    codes, confidence = mixture.assign(rows - weights["shifts"][shifted.index("b")])
    found = read_domains(labeled, "plain", "b")
    assert np.array_equal(codes, found.codes)
    assert np.array_equal(confidence, found.confidence)


def test_embeddings_are_centered_per_section(labeled: AtlasStore) -> None:
    for name in ("a", "b", "tiny"):
        values = read_embedding(labeled, "plain", name)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values.mean(axis=0), 0.0, atol=1e-4)
    runs = [(3, 10), (50, 51)]
    assert np.array_equal(
        read_embedding(labeled, "plain", "a", runs),
        read_embedding(labeled, "plain", "a")[[*range(3, 10), 50]],
    )


def test_a_stored_graph_gives_the_same_labels_and_is_recorded(fresh_store: AtlasStore) -> None:
    knn(fresh_store, "a", n_neighs=6).write("near")
    fresh_store.refresh()
    find_domains(fresh_store, n_domains=N_LAYERS, key_added="lazy")
    find_domains(fresh_store, n_domains=N_LAYERS, key_added="stored", graph_key="near")
    lazy, stored = (read_domains(fresh_store, key, "a").codes for key in ("lazy", "stored"))
    assert np.array_equal(lazy, stored)
    assert "graph/near/a" in fresh_store.derived("embedding", "stored", "a").inputs


def test_refinement_removes_stray_labels(labeled: AtlasStore) -> None:
    find_domains(labeled, n_domains=N_LAYERS, key_added="refined")
    assert labeled.derived("domains", "refined", "a").info["refine"]
    plain, refined = (read_domains(labeled, key, "a").codes for key in ("plain", "refined"))
    graph = knn(labeled, "a", n_neighs=6).rows([(0, 600)])
    rows = np.repeat(np.arange(600), np.diff(graph.indptr))

    def broken(codes: np.ndarray) -> int:
        return int((codes[rows] != codes[graph.indices]).sum())

    assert broken(refined) < broken(plain)


@pytest.mark.parametrize("method", ["plain", "gnn"])
def test_a_saved_model_labels_a_section_it_never_saw(tmp_path: Path, method: str) -> None:
    options: dict[str, Any] = {}
    if method == "gnn":
        pytest.importorskip("torch_geometric")
        options = SMALL
    store = make_store(tmp_path, {"a": planted(600, seed=1)}, tile_cells=128)
    find_domains(store, method, n_domains=N_LAYERS, key_added="one", **options)
    run = str(store.derived("embedding", "one", "a").run)
    add_section(store, "late", planted(400, seed=8, depth=0.7))
    find_domains(store, method, n_domains=N_LAYERS, key_added="two", run=run)
    found = agreement(store, "two")
    assert found.keys() == {"a", "late"}
    assert min(found.values()) > 0.6
    assert store.derived("embedding", "two", "late").run == run


def test_saved_and_loaded_models_embed_alike(labeled_by_network: AtlasStore) -> None:
    from tisseract.models import DomainGNN

    store = labeled_by_network
    entry = store.derived("embedding", "gnn", "a")
    loaded = DomainGNN.load(store, str(entry.run), device="cpu")
    with loaded.embedded(["a"]) as tables:
        again = tables["a"][0].read(0, 600)
    np.testing.assert_allclose(again, read_embedding(store, "gnn", "a"), rtol=1e-5, atol=1e-6)


def test_fit_embed_save_load_of_the_baseline(fresh_store: AtlasStore) -> None:
    model = DomainBaseline(fresh_store, n_hops=2, n_comps=5).fit()
    (entry,) = model.embed("mine", run="my-run")
    assert entry.info["n_dims"] == 10
    loaded = DomainBaseline.load(fresh_store, "my-run")
    assert loaded.parameters() == model.parameters()
    with loaded.embedded() as tables:
        assert np.array_equal(tables["a"][0].read(0, 300), read_embedding(fresh_store, "mine", "a"))
    with pytest.raises(InvalidArgument, match="'expression' is wanted, but got 'my-run'"):
        ExpressionBaseline.load(fresh_store, "my-run")
    with pytest.raises(RunNotFound, match="my-rum"):
        DomainBaseline.load(fresh_store, "my-rum")


@pytest.mark.parametrize("values", ["normalized", "log1p", "expected"])
def test_other_values_are_treated_as_what_they_are(tmp_path: Path, values: str) -> None:
    raw = planted(200, seed=1)
    store = make_store(tmp_path, {"a": planted(200, seed=1, values=values)})
    assert raw.values == "counts"
    find_domains(store, n_domains=N_LAYERS)
    info = store.derived("embedding", "domain", "a").info
    treated = {"normalized": "log1p", "log1p": "as stored", "expected": "library-size + log1p"}
    assert (info["values"], info["treatment"]) == (values, treated[values])


def test_a_small_limit_gives_the_same_domains(labeled: AtlasStore) -> None:
    options: dict[str, Any] = {"refine": False, "memory_limit": "160 MiB"}
    find_domains(labeled, n_domains=N_LAYERS, key_added="tight", **options)
    for name in ("a", "b"):
        tight, plain = (read_domains(labeled, key, name).codes for key in ("tight", "plain"))
        assert ari(tight, plain) > 0.99


@pytest.mark.parametrize("n_domains", [4000, "auto"])
def test_a_mixture_that_cannot_fit_is_refused_before_any_work(
    labeled: AtlasStore, n_domains: Any
) -> None:
    heard: list[Any] = []
    with pytest.raises(BudgetExceeded, match=r"stage 'mixture'.*n_comps"):
        find_domains(
            labeled,
            n_domains=n_domains,
            key_added="never",
            n_comps=30,
            n_hops=8,
            covariance="full",
            memory_limit="170 MiB",
            progress=lambda *about: heard.append(about),
        )
    assert heard == []


def test_odd_sections(tmp_path: Path) -> None:
    """Few genes, few cells, one lone cell: each gets labels."""
    raws = {
        "few": planted(60, n_genes=12),
        "one": planted(1, seed=4, n_genes=12),
        "pair": planted(2, seed=5, n_genes=12),
    }
    store = make_store(tmp_path, raws)
    table = find_domains(store, n_domains=2)
    assert table.sum().tolist() == [60, 1, 2]
    pytest.importorskip("torch_geometric")
    table = find_domains(store, "gnn", n_domains=2, key_added="gnn", **SMALL)
    assert table.sum().tolist() == [60, 1, 2]


def test_a_replaced_section_makes_labels_stale(fresh_store: AtlasStore) -> None:
    find_domains(fresh_store, n_domains=2)
    fresh_store.commit(Change(remove_sections=["a"]), "remove")
    add_section(fresh_store, "a", planted(200, seed=9))
    fresh_store.refresh()
    with pytest.raises((StaleDerived, DerivedNotFound)):
        read_domains(fresh_store, "domain", "a")


def test_wrong_calls(fresh_store: AtlasStore) -> None:
    before = fresh_store.version
    with pytest.raises(InvalidArgument, match="plain, gnn, expression is wanted, but got 'magic'"):
        find_domains(fresh_store, "magic", n_domains=2)
    with pytest.raises(InvalidArgument, match="n_domains=0"):
        find_domains(fresh_store, n_domains=0)
    odd: list[dict[str, Any]] = [
        {"n_domains": 2.5},
        {"n_domains": True},
        {"n_domains": "2"},
        {"n_domains": 3, "resolutions": [1.5]},
        {"n_domains": 3, "resolutions": [True]},
        {"n_domains": 3, "resolutions": [3]},
        {"n_domains": 2, "covariance": "diag"},
    ]
    for options in odd:
        with pytest.raises(InvalidArgument, match=r"is wanted|wanted (a )?whole"):
            find_domains(fresh_store, **options)
    with pytest.raises(InvalidArgument, match=r"between 1 and 300 components.*got 301"):
        find_domains(fresh_store, n_domains=301)
    with pytest.raises(SectionNotFound, match="'b'"):
        find_domains(fresh_store, n_domains=2, sections=["b"])
    with pytest.raises(DerivedNotFound, match="nothing"):
        find_domains(fresh_store, n_domains=2, graph_key="nothing")
    with pytest.raises(InvalidArgument, match="which is only its name here"):
        find_domains(fresh_store, n_domains=2, where="area > 3")
    with pytest.raises(InvalidArgument, match="before fit"):
        DomainBaseline(fresh_store).embed("x")
    with pytest.raises(ReadOnly):
        find_domains(open_store(fresh_store.url), n_domains=2)
    assert fresh_store.refresh().version == before


def test_plain_needs_no_torch(fresh_store: AtlasStore) -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['torch_geometric'] = None\n"
        "import tisseract.models as models\n"
        "assert 'numpy' not in vars(models)\n"
        "from tisseract.atlas.store import open_store\n"
        f"store = open_store({fresh_store.url!r}, read_only=False)\n"
        "print(models.find_domains(store, n_domains=2).sum().tolist())\n"
        "assert 'sklearn' not in sys.modules and 'safetensors' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[300]"


def test_a_replaced_section_outdates_the_key_but_not_the_saved_model(tmp_path: Path) -> None:
    raws = {"a": planted(300, seed=1), "b": planted(200, seed=2)}
    store = make_store(tmp_path, raws, tile_cells=128)
    find_domains(store, n_domains=N_LAYERS, key_added="one")
    run = str(store.derived("embedding", "one", "a").run)
    assert set(store.snapshot.runs[run].inputs) == {"section:a", "section:b"}
    before = store.version
    with pytest.raises(CommitConflict, match=r"than 'b' has.*use another key"):
        find_domains(store, n_domains=N_LAYERS, key_added="one", sections=["a"])
    assert store.version == before
    store.commit(Change(remove_sections=["a"]), "remove")
    add_section(store, "a", planted(250, seed=9))
    store.refresh()
    with pytest.raises(StaleDerived, match="section:a"):
        read_domains(store, "one", "b")
    find_domains(store, n_domains=N_LAYERS, key_added="two", run=run)
    assert read_domains(store, "two", "b").codes.size == 200
    (entry,) = DomainBaseline.load(store, run).embed("three", sections=["a"])
    assert store.derived("embedding", "three", "a") == entry
    find_domains(store, n_domains=N_LAYERS, key_added="one", overwrite=True)
    assert agreement(store, "one").keys() == {"a", "b"}


def test_what_a_key_names_is_replaced_only_when_asked(tmp_path: Path) -> None:
    raws = {"a": planted(300, seed=1), "b": planted(200, seed=2)}
    store = make_store(tmp_path, raws, tile_cells=128)
    DomainBaseline(store, n_hops=2, n_comps=5).fit().embed("mine", run="my-run")
    before = store.version
    with pytest.raises(CommitConflict, match="embedding 'mine' of one run"):
        find_domains(store, n_domains=2, key_added="mine", sections=["a"], overwrite=True)
    with pytest.raises(InvalidArgument, match=r"names an embedding of 'a', 'b'.*overwrite=True"):
        find_domains(store, n_domains=2, key_added="mine")
    with pytest.raises(InvalidArgument, match=r"no part of a saved model.*got n_hops"):
        find_domains(store, n_domains=2, run="my-run", n_hops=3)
    assert store.refresh().version == before
    assert store.derived("embedding", "mine", "a").run == "my-run"
    find_domains(store, n_domains=2, key_added="mine", sections=["a"], run="my-run", overwrite=True)
    with pytest.raises(CommitConflict, match="domains 'mine' of one run"):
        find_domains(store, n_domains=2, key_added="mine", sections=["b"], overwrite=True)
    find_domains(store, n_domains=3, key_added="lev", resolutions=[2])
    with pytest.raises(InvalidArgument, match="'lev_2', which names labels"):
        find_domains(store, n_domains=2, key_added="lev_2")
    find_domains(store, n_domains=2, key_added="lev_2", overwrite=True)


def test_a_run_remembers_its_sections_and_its_cells(tmp_path: Path) -> None:
    raws = {name: planted(200, seed=i) for i, name in enumerate("abc")}
    store = make_store(tmp_path, raws)
    mask = np.arange(200) % 4 != 0
    graph = GraphSource().keeping(store, ["a", "b"], {"a": mask}, "depth > 3")
    model = DomainBaseline(store, sections=["a", "b"], graph=graph, n_comps=5).fit()
    entry = model.embed("mine", run="kept")[0]
    told = json.loads(store.storage.get(f"{entry.prefix}/provenance.json"))["parameters"]
    assert (told["where"], told["sections"]) == ("depth > 3", ["a", "b"])
    store.commit(Change(remove_sections=["a"]), "Remove a")
    loaded = DomainBaseline.load(store, "kept")
    assert loaded.section_names == ["b"]
    assert loaded.parameters()["sections"] == ["a", "b"]
    assert loaded.graph.where == loaded.parameters()["where"] == "depth > 3"
    store.commit(Change(remove_sections=["b"]), "Remove b")
    loaded = DomainBaseline.load(store, "kept")
    assert loaded.parameters()["sections"] == ["a", "b"]
    with pytest.raises(InvalidArgument, match="none that this model was fitted on"):
        loaded.embed("again")


def test_neighbors_of_a_stored_graph_are_not_told_wrongly(fresh_store: AtlasStore) -> None:
    knn(fresh_store, "a", n_neighs=4).write("near")
    fresh_store.refresh()
    model = DomainBaseline(fresh_store, graph=GraphSource("near", 12), n_comps=5).fit()
    model.embed("mine", run="by-key")
    told = DomainBaseline.load(fresh_store, "by-key").parameters()
    assert (told["graph_key"], told["n_neighs"]) == ("near", None)
    assert told["graph"]["parameters"]["n_neighs"] == 4


def test_domains_report_their_stages(fresh_store: AtlasStore) -> None:
    told: dict[str, tuple[int, int]] = {}

    def progress(stage: str, done: int, total: int) -> None:
        told[stage] = done, total

    find_domains(fresh_store, n_domains=2, progress=progress)
    assert told["embed"] == told["label"] == told["refine"] == (300, 300)
    assert "cluster" in told
