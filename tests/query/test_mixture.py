"""Counts beside logarithms and micrometers beside pixels are never joined without a word."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.store import AtlasStore
from tisseract.query import EmptyAnswerWarning, MixedValuesWarning, export, region, select

from ..sections import make_raw, make_store

pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")
KINDS = ("composition", "counts", "expected", "log1p", "normalized")
N = 40


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    """Each section holds another kind of values under its name; `pixels` has no unit."""
    raws = {kind: make_raw(n_obs=N, n_vars=6, seed=k, values=kind) for k, kind in enumerate(KINDS)}
    raws["pixels"] = make_raw(n_obs=N, n_vars=6, seed=9, um_per_unit=None)
    return make_store(tmp_path_factory.mktemp("mixture"), raws)


def test_mixed_values_and_units_are_told_apart(store: AtlasStore, tmp_path: Path) -> None:
    chosen = select(store, section=["counts", "log1p", "pixels"])
    with pytest.warns(MixedValuesWarning, match=r"counts \(counts, pixels\), log1p \(log1p\).*um"):
        adata: Any = chosen.to_anndata(obs_columns=[])
    assert adata.obs["values"].astype(str).tolist() == ["counts"] * N + ["log1p"] * N + (
        ["counts"] * N
    )
    assert adata.obs["unit"].astype(str).tolist() == ["um"] * 2 * N + ["source"] * N
    with pytest.warns(MixedValuesWarning):
        export(select(store), tmp_path / "all.h5ad")
    with pytest.warns(MixedValuesWarning):
        sdata = chosen.to_spatialdata()
    assert set(sdata["table"].obs["values"]) == {"counts", "log1p"}
    plain: Any = select(store, section="log1p").to_anndata()
    assert not {"values", "unit"} & set(plain.obs)


def test_tables_with_genes_say_which_values_they_are(store: AtlasStore) -> None:
    chosen = select(store, genes=["Gene0"], section=["counts", "log1p"])
    with pytest.warns(MixedValuesWarning, match="several kinds"):
        table = chosen.to_pandas(["section"])
    assert table["values"].astype(str).tolist() == table["section"].astype(str).tolist()


def test_log1p_says_what_it_did_and_never_calls_logs_counts(store: AtlasStore) -> None:
    chosen = select(store, section=["counts", "expected", "log1p", "normalized"])
    with pytest.warns(MixedValuesWarning, match="log1p values left as stored"):
        adata: Any = chosen.to_anndata(normalize="log1p")
    assert "stored" in adata.layers
    assert "counts" not in adata.layers
    assert adata.uns["tisseract"]["normalized"] == {
        "counts": "log1p(counts per 10,000)",
        "expected": "log1p(counts per 10,000)",
        "log1p": "as stored",
        "normalized": "log1p(stored)",
    }
    rows = {name: (adata.obs["section"] == name).to_numpy() for name in chosen.runs}
    logs, stored = adata.X.toarray(), adata.layers["stored"].toarray()
    np.testing.assert_array_equal(logs[rows["log1p"]], stored[rows["log1p"]])
    np.testing.assert_allclose(logs[rows["normalized"]], np.log1p(stored[rows["normalized"]]))
    with pytest.raises(InvalidArgument, match=r"composition \(composition\)"):
        select(store).to_anndata(normalize="log1p")


def test_summaries_of_mixed_values_are_refused_within_a_group(store: AtlasStore) -> None:
    chosen = select(store, section=["counts", "log1p"])
    for func in ("mean", "sum"):
        with pytest.raises(InvalidArgument, match=r"counts \(counts\), log1p \(log1p\); group by"):
            chosen.aggregate("layer", func)
    assert len(chosen.aggregate("section")) == 2
    assert chosen.aggregate("layer", "fraction")["n_obs"].sum() == 2 * N
    with pytest.warns(MixedValuesWarning):
        chosen.aggregate("layer", normalize="log1p")


def test_an_answer_without_cells_keeps_its_genes(store: AtlasStore, tmp_path: Path) -> None:
    import spatialdata as sd

    empty = region(store, "counts", bbox=(1e6, 1e6, 2e6, 2e6))
    with pytest.warns(EmptyAnswerWarning, match=r"'counts' spans x .* \(um\)"):
        adata = empty.to_anndata()
    assert adata.shape == (0, 6)
    assert adata.varm["measured"].shape == (6, 0)
    adata.write_h5ad(tmp_path / "none.h5ad")
    export(empty, tmp_path / "none.zarr")  # told already
    assert sd.read_zarr(tmp_path / "none.zarr")["table"].shape == (0, 6)


def test_sections_without_symbols_say_that_a_symbol_was_not_looked_up(tmp_path: Path) -> None:
    from tisseract.atlas.errors import GeneNotFound
    from tisseract.query import UnmeasuredWarning, gene

    raws = {
        "named": make_raw(n_obs=N, genes=["MBP", "GFAP"], n_vars=2),
        "ids": make_raw(n_obs=N, genes=["ENSMUSG00000041607", "ENSMUSG00000020932"], n_vars=2),
    }
    store = make_store(tmp_path, raws)
    with pytest.warns(UnmeasuredWarning, match="MBP: ids list identifiers without symbols"):
        table = gene(store, "MBP").per_section()
    assert table.set_index("section")["fraction"].isna().to_dict() == {"ids": True, "named": False}
    with pytest.raises(GeneNotFound, match="ids list identifiers without symbols"):
        select(store, genes=["MBP"]).to_anndata()
    assert gene(store, "ENSMUSG00000041607").measured_in == ["ids"]


def test_a_gene_of_two_organisms_is_named_with_its_own(tmp_path: Path) -> None:
    from dataclasses import replace

    from tisseract.atlas.errors import GeneAmbiguous, GeneNotFound
    from tisseract.atlas.panel import Panel
    from tisseract.query import gene

    raws = {
        organism: replace(
            make_raw(n_obs=N, n_vars=2), panel=Panel.of(["ERBB2", "SOX2"], organism=organism)
        )
        for organism in ("human", "chicken")
    }
    store = make_store(tmp_path, raws)
    with pytest.raises(GeneAmbiguous, match=r"name the organism: '\w+:ERBB2'"):
        select(store, genes=["ERBB2"])
    assert gene(store, "ERBB2", organism="Homo sapiens").measured_in == ["human"]
    adata: Any = select(store, genes=["human:ERBB2"], section="human").to_anndata()
    assert adata.var["symbol"].tolist() == ["ERBB2"]
    with pytest.raises(GeneNotFound):
        select(store, genes=["mouse:ERBB2"])


def test_names_that_are_not_there_come_with_those_that_are(store: AtlasStore) -> None:
    from tisseract.atlas.errors import ColumnNotFound, SectionNotFound

    with pytest.raises(SectionNotFound, match="'composition', 'counts', 'expected'"):
        select(store, section="count")
    with pytest.raises(ColumnNotFound, match="fill in the column timepoint"):
        select(store, timepoint="E9.5")
