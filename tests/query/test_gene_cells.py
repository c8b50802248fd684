"""Verbs of genes compute over the cells that take part: those passing QC, a filter's, or all."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tisseract as ts
from tisseract.atlas.errors import ColumnNotFound, InvalidArgument
from tisseract.atlas.graph import radius
from tisseract.atlas.panel import Panel
from tisseract.atlas.spatial_statistics import colocalization, spark_x, spatial_autocorrelation
from tisseract.atlas.store import AtlasStore
from tisseract.query import gene, select

from ..sections import make_raw, make_store

IDS = [f"ENSMUSG0000000000{k}" for k in range(6)]
SYMBOLS = [f"Gene{k}" if k else "" for k in range(6)]
WHERE = "kind == 'a'"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    rng = np.random.default_rng(0)
    xy = rng.random((200, 2)) * 300
    obs = {"qc_pass": rng.random(200) < 0.7, "kind": rng.choice(["a", "b"], 200).tolist()}
    one = make_raw(positions=xy, n_obs=200, n_vars=6, seed=1, obs=obs)
    one = replace(one, panel=Panel.of(IDS, organism="mouse", symbols=SYMBOLS))
    more = make_raw(n_obs=90, n_vars=6, seed=2, obs={"kind": ["b"] * 90})
    made = make_store(tmp_path_factory.mktemp("cells"), {"s1": one, "s2": more})
    radius(made, "s1", 40.0).write("spatial")
    return made


def flag(store: AtlasStore, name: str) -> np.ndarray:
    section = store.section("s1")
    if name == "all":
        return np.ones(section.n_obs, bool)
    if name == "where":
        return np.asarray(section.obs(columns=["kind"])["kind"] == "a")
    return section.obs(columns=["qc_pass"])["qc_pass"].to_numpy(bool)


CHOICES: dict[str, dict[str, Any]] = {
    "passing": {},
    "where": {"where": WHERE},
    "all": {"all_cells": True},
}


@pytest.mark.parametrize("choice", CHOICES)
def test_every_verb_computes_over_the_same_cells(store: AtlasStore, choice: str) -> None:
    how, kept = CHOICES[choice], flag(store, choice)
    view, section = gene(store, "Gene3"), store.section("s1")
    assert 0 < kept.sum() <= 200
    assert view.where("section", **how)["n"].iloc[0] == kept.sum()
    assert view.best_sections(9, **how).set_index("section").loc["s1", "n"] == kept.sum()
    image: Any = view.raster("s1", 30.0, how="sum", **how)
    assert int(image["n_cells"].sum()) == kept.sum()
    assert float(image.sum()) == view.vector("s1")[kept].sum()
    graph: Any = radius(store, "s1", radius=40.0)
    row = view.variability("s1", **how).iloc[0]
    moran = spatial_autocorrelation(graph, section, [IDS[3]], cells=kept)
    assert row["n"] == kept.sum()
    assert row["I"] == pytest.approx(moran.statistic[0])
    test = spark_x(section, [IDS[3]], cells=kept)
    assert row["pval_sparkx"] == pytest.approx(test.combined[0])
    found = colocalization(graph, section, 3, cells=kept)
    table = view.colocalized(None, "s1", **how).set_index("gene_id")
    assert table.loc[IDS[5], "L"] == pytest.approx(found.lee[5])
    for method in ("sparkx", "moran"):
        ranked = ts.tl.spatially_variable(store, sections="s1", method=method, **how)
        assert ranked.attrs["n"] == {"s1": kept.sum()}
        one: Any = ranked.set_index("gene_id").loc[IDS[3]]
        wanted = test.combined[0] if method == "sparkx" else moran.statistic[0]
        assert one["pval" if method == "sparkx" else "I"] == pytest.approx(wanted)
    pairs = ts.tl.coexpression(select(store, section="s1"), ["Gene3", "Gene5"], **how)
    assert pairs["n"].tolist() == [kept.sum()] * 2
    assert pairs["L"].iloc[0] == pytest.approx(found.lee[5])


def test_a_selection_that_speaks_of_quality_control_says_which_cells(store: AtlasStore) -> None:
    chosen = select(store, "not qc_pass", section="s1")
    failing = 200 - flag(store, "passing").sum()
    assert ts.tl.coexpression(chosen, ["Gene3", "Gene5"])["n"].iloc[0] == failing


def test_values_and_sections_answer_for_all_cells(store: AtlasStore) -> None:
    view = gene(store, "Gene3")
    assert len(view.values("s1")) == 200
    assert view.per_section()["n"].tolist() == [200, 90]
    assert select(store).aggregate("section", "count")["n_obs"].tolist() == [200, 90]


def test_sections_without_such_cells(store: AtlasStore) -> None:
    view = gene(store, "Gene3")
    spatial = view.variability(radius=40.0, where=WHERE).set_index("section")
    assert spatial.loc["s2", "n"] == 0
    assert np.isnan(spatial.loc["s2", ["I", "pval_sparkx"]].astype(float)).all()
    ranked = ts.tl.spatially_variable(store, where=WHERE)
    assert set(ranked["section"]) == {"s1"}
    assert view.colocalized(2, radius=40.0, where=WHERE).attrs["sections"] == ["s1"]
    image: Any = view.raster("s2", 50.0, where=WHERE)
    assert int(image["n_cells"].sum()) == 0
    for call in (view.colocalized, lambda *_, **k: ts.tl.spatially_variable(store, **k)):
        with pytest.raises(InvalidArgument, match="none of 2; widen where="):
            call(radius=40.0, where="false")


@pytest.mark.parametrize("verb", ["raster", "variability", "colocalized"])
def test_refusals(store: AtlasStore, verb: str) -> None:
    call = getattr(gene(store, "Gene3"), verb)
    arguments: dict[str, Any] = {"section" if verb == "raster" else "sections": "s1"}
    with pytest.raises(InvalidArgument, match="both"):
        call(**arguments, where=WHERE, all_cells=True)
    with pytest.raises(ColumnNotFound, match="Did you mean 'kind'"):
        call(**arguments, where="knid == 'a'")


def test_ranked_genes_have_their_symbol(store: AtlasStore) -> None:
    ranked = ts.tl.spatially_variable(store, sections="s1")
    assert list(ranked.columns[:3]) == ["section", "gene", "gene_id"]
    shown = dict(zip(ranked["gene_id"], ranked["gene"], strict=True))
    assert shown == {name: symbol or name for name, symbol in zip(IDS, SYMBOLS, strict=True)}
    one = ts.tl.spatially_variable(store, "Gene2", sections="s1")
    assert one[["gene", "gene_id"]].to_numpy().tolist() == [["Gene2", IDS[2]]]


def test_values_leave_out_cells_when_asked(store: AtlasStore) -> None:
    atlas = ts.open(store.url)
    assert atlas.values("kind", section="s1").sum() == 200
    assert atlas.values("kind", obs="qc_pass", section="s1").sum() == flag(store, "passing").sum()
