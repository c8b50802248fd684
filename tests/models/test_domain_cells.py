"""Cells that take part in domains: quality control by default, masks, stored and lazy graphs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tisseract
from tisseract.atlas.derived_read import read_domains, read_embedding
from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.graph import knn
from tisseract.atlas.store import AtlasStore
from tisseract.ingest.source import ArrayColumn, MatrixCounts, RawSection
from tisseract.models import ari, find_domains
from tisseract.models.domains.cells import QC_FILTER, chosen_cells
from tisseract.models.domains.smoothing import majority
from tisseract.models.sampling.graph_source import GraphSource

from ..planted import N_LAYERS, planted, truth
from ..sections import make_store

N = 300


def some_cells(seed: int = 0) -> NDArray[np.bool_]:
    return np.asarray(np.random.default_rng(seed).random(N) > 0.2)


@pytest.mark.parametrize("key", [None, "near"])
def test_no_graph_names_a_cell_left_out(fresh_store: AtlasStore, key: str | None) -> None:
    knn(fresh_store, "a", n_neighs=6).write("near")
    fresh_store.refresh()
    mask = some_cells()
    graph = GraphSource(key, 6, {"a": mask}).open(fresh_store, "a").graph
    matrix = graph.rows([(3, 120), (150, N)])
    rows = np.concatenate([np.arange(3, 120), np.arange(150, N)])
    degree = np.diff(matrix.indptr)
    assert mask[matrix.indices].all()
    assert not degree[~mask[rows]].any()
    assert degree[mask[rows]].max() == 6


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "expression": {},
    "gnn": {"steps": 20, "device": "cpu", "max_rows": 40, "batch_cells": 100},
}


def disturbed(mask: NDArray[np.bool_]) -> tuple[RawSection, RawSection]:
    """A planted section, and the same with other counts in the cells left out."""
    raw = planted(N, seed=1)
    source = raw.counts
    assert isinstance(source, MatrixCounts)
    counts = source.matrix.copy()
    # the depth of all cells is kept: the mean depth that counts are brought to sees it
    counts[~mask] = np.random.default_rng(9).permuted(counts[~mask], axis=1)
    return raw, replace(raw, counts=MatrixCounts(counts))


@pytest.mark.parametrize("method", OPTIONS)
def test_cells_left_out_get_no_label_and_change_nothing(tmp_path: Path, method: Any) -> None:
    if method == "gnn":
        pytest.importorskip("torch_geometric")
    mask = some_cells()
    stores = [
        make_store(tmp_path / str(i), {"a": raw}, tile_cells=64)
        for i, raw in enumerate(disturbed(mask))
    ]
    here = mask[stores[0].section("a").source_rows()]
    found = []
    for store in stores:
        options = OPTIONS[method]
        table = find_domains(
            store, method, n_domains=N_LAYERS, mask={"a": here}, where="depth > 3", **options
        )
        found.append(read_domains(store, "domain", "a"))
        assert np.array_equal(found[-1].codes < 0, ~here)
        assert not found[-1].confidence[~here].any()
        assert set(found[-1].names[~here]) == {""}
        assert int(table.to_numpy().sum()) == here.sum()
        entry = store.derived("domains", "domain", "a")
        assert (entry.info["where"], entry.info["n_without"]) == ("depth > 3", int((~here).sum()))
        assert sum(entry.info["counts"].values()) == here.sum()
    kept, other = (read_embedding(store, "domain", "a")[here] for store in stores)
    np.testing.assert_allclose(kept.mean(axis=0), 0.0, atol=1e-4)
    # every bit: what was left out was read, and met nothing that counts
    assert np.array_equal(kept, other)
    assert np.array_equal(found[0].codes, found[1].codes)
    if method != "expression":
        assert ari(truth(stores[0], "a")[here], found[0].codes[here]) > 0.4


def test_resolutions_leave_the_same_cells_out(fresh_store: AtlasStore) -> None:
    mask = some_cells(1)
    find_domains(fresh_store, n_domains=4, resolutions=[2], mask={"a": mask})
    fine, coarse = (read_domains(fresh_store, key, "a") for key in ("domain", "domain_2"))
    assert np.array_equal(fine.codes < 0, ~mask)
    assert np.array_equal(coarse.codes < 0, ~mask)
    assert (coarse.confidence >= fine.confidence - 1e-6).all()


def test_votes_do_not_hang_on_blocks(fresh_store: AtlasStore) -> None:
    mask = some_cells(2)
    codes = np.random.default_rng(3).integers(0, 3, N).astype(np.int16)
    codes[~mask] = -1
    graph = GraphSource(None, 6, {"a": mask}).open(fresh_store, "a").graph
    whole = majority(graph, codes, 3)
    assert np.array_equal(whole < 0, ~mask)
    assert not np.array_equal(whole, codes)
    for rows in (1, 37, 299):
        assert np.array_equal(majority(graph, codes, 3, block_rows=rows), whole)


def test_a_mask_of_nothing_left_out_is_no_mask(fresh_store: AtlasStore) -> None:
    assert chosen_cells(fresh_store, ["a"]) == ({}, None)
    assert chosen_cells(fresh_store, ["a"], {}) == ({}, None)
    assert chosen_cells(fresh_store, ["a"], {"a": np.ones(N, bool)}, "n > 0") == ({}, "n > 0")


def test_cells_that_pass_quality_control_are_the_default(tmp_path: Path) -> None:
    good = np.random.default_rng(5).random(200) > 0.3
    raw = planted(200, seed=1)
    raws = {"a": replace(raw, obs={**raw.obs, "qc_pass": ArrayColumn.of(good)}), "b": raw}
    store = make_store(tmp_path, raws)
    passed = store.section("a").obs(columns=["qc_pass"], index=False)["qc_pass"].to_numpy()
    masks, told = chosen_cells(store, ["a", "b"])
    assert told == QC_FILTER
    assert masks.keys() == {"a"}
    assert np.array_equal(masks["a"], passed)
    table = find_domains(store, n_domains=2)
    assert table.sum().to_dict() == {"a": good.sum(), "b": 200}
    assert store.derived("domains", "domain", "a").info["where"] == QC_FILTER
    table = find_domains(store, n_domains=2, key_added="every", mask={})
    assert table.sum().to_dict() == {"a": 200, "b": 200}
    assert store.derived("domains", "every", "a").info["where"] is None


def test_wrong_masks_are_told(fresh_store: AtlasStore) -> None:
    with pytest.raises(InvalidArgument, match=r"300 True or False .*\(299,\)"):
        chosen_cells(fresh_store, ["a"], {"a": np.ones(299, bool)})
    numbers: Any = np.ones(N, np.int64)
    with pytest.raises(InvalidArgument, match="of int64"):
        chosen_cells(fresh_store, ["a"], {"a": numbers})
    with pytest.raises(InvalidArgument, match=r"none in a \(n > 5\)"):
        chosen_cells(fresh_store, ["a"], {"a": np.zeros(N, bool)}, "n > 5")
    with pytest.raises(InvalidArgument, match="is only its name here"):
        chosen_cells(fresh_store, ["a"], where="n > 5")


def test_a_filter_that_left_nobody_out_goes_with_the_run(tmp_path: Path) -> None:
    good = {"a": np.ones(200), "late": (np.arange(200) % 3 > 0).astype(np.float64)}
    raws = {}
    for seed, (name, values) in enumerate(good.items()):
        raw = planted(200, seed=seed)
        raws[name] = replace(raw, obs={**raw.obs, "good": ArrayColumn.of(values)})
    make_store(tmp_path, raws)
    atlas = tisseract.open(str(tmp_path / "atlas"), read_only=False)
    atlas.find_domains(n_domains=2, where="good == 1", sections=["a"])
    run = str(atlas.derived("embedding", "domain", "a").run)
    atlas.embed(run, key_added="domain", sections=["late"])
    place = f"{atlas.derived('embedding', 'domain', 'late').prefix}/provenance.json"
    facts = json.loads(atlas.storage.get(place, max_bytes=2**20))
    assert facts["parameters"]["where"] == "good == 1"
    kept = atlas.section("late").obs(columns=["good"], index=False)["good"].to_numpy() == 1
    rows = read_embedding(atlas, "domain", "late")
    np.testing.assert_allclose(rows[kept].mean(axis=0), 0.0, atol=1e-4)
    assert abs(rows.mean(axis=0)).max() > 1e-2
