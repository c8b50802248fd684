"""What comes out: AnnData, SpatialData, tables and summaries against plain pandas."""

import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tisseract import get_anndata
from tisseract.atlas.errors import (
    AlreadyExists,
    BudgetExceeded,
    ColumnNotFound,
    GeneNotFound,
    InvalidArgument,
)
from tisseract.atlas.snapshot import Change
from tisseract.query import (
    UnmeasuredWarning,
    domains,
    export,
    gene,
    region,
    select,
    values,
)
from tisseract.query.expression.choice import choose_genes

from ..sections import make_raw, make_store

pytestmark = [
    # anndata asks pandas for an option that pandas 3 deprecates; ours is not to mend.
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option"),
    # The unit of section c_e10 is unknown; one test asks that this be said.
    pytest.mark.filterwarnings("ignore:positions are in several units"),
]
SHARED = [f"Gene{k}" for k in range(8)]


def keys_read(atlas: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of which ranges are read from now on."""
    read: list[str] = []
    kind = type(atlas.store.storage)
    real = kind.get_range

    def noting(storage: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        read.append(key)
        return real(storage, key, *args, **kwargs)

    monkeypatch.setattr(kind, "get_range", noting)
    return read


def dense(adata: Any) -> pd.DataFrame:
    return pd.DataFrame(adata.X.toarray(), index=adata.obs_names, columns=adata.var_names)


def test_anndata_holds_every_cell_label_and_presence(atlas: Any) -> None:
    with pytest.warns(UnmeasuredWarning, match="varm"):
        adata: Any = select(atlas.store).to_anndata()
    assert adata.obs_names.tolist() == atlas.cells.index.tolist()
    assert adata.obs_names.is_unique
    assert adata.obs.columns[0] == "section"
    assert adata.X.dtype == np.float32
    wanted: Any = atlas.counts[adata.var_names]
    pd.testing.assert_frame_equal(
        dense(adata), wanted.fillna(0).astype(np.float32), check_names=False
    )
    presence = adata.varm["measured"]
    assert not presence.loc["Sox2", "d_p7"]
    assert presence.loc["Sox2", "a_e9"]
    assert presence.loc["OnlyD"].tolist() == [False, False, False, True]
    assert adata.obs["dom"].astype(object).where(adata.obs["dom"].notna(), None).tolist() == (
        atlas.cells["dom"].tolist()
    )
    assert adata.obs["timepoint"].cat.categories.tolist() == ["E9.5", "E10.5", "P7"]
    np.testing.assert_array_equal(adata.obsm["spatial"], atlas.cells[["x", "y"]].to_numpy(float))
    about = adata.uns["tisseract"]
    assert about["snapshot"] == atlas.store.version
    assert about["spatial_unit"] == {"a_e9": "um", "b_e10": "um", "c_e10": "source", "d_p7": "um"}
    for name in ("area", "volume", "sure", "cell_type", "batch", "donor"):
        got = adata.obs[name].astype(object).where(adata.obs[name].notna(), None)
        want = atlas.cells[name].astype(object).where(atlas.cells[name].notna(), None)
        assert got.tolist() == want.tolist(), name


def test_anndata_survives_h5ad_and_reads_back(atlas: Any, tmp_path: Path) -> None:
    import anndata as ad

    path = export(select(atlas.store), tmp_path / "all.h5ad", missing="zero")
    adata = ad.read_h5ad(path)
    assert adata.n_obs == len(atlas.cells)
    assert adata.obs["section"].astype(str).tolist() == atlas.cells["section"].tolist()
    assert adata.varm["measured"].shape == (11, 4)
    with pytest.raises(AlreadyExists, match="overwrite"):
        export(select(atlas.store), path)
    export(select(atlas.store, section="a_e9"), path, overwrite=True)
    assert ad.read_h5ad(path).n_obs == 300
    assert [p.name for p in tmp_path.iterdir()] == ["all.h5ad"]


def test_missing_genes_are_never_silent_zeros(atlas: Any) -> None:
    selection = select(atlas.store, genes=["Sox2", "Gene1"])
    with pytest.raises(GeneNotFound, match="Sox2 is not measured in 1: d_p7"):
        selection.to_anndata()
    filled: Any = selection.to_anndata(missing="nan")
    pd.testing.assert_frame_equal(
        dense(filled), atlas.counts[["Sox2", "Gene1"]].astype(np.float32), check_names=False
    )
    dropped: Any = selection.to_anndata(missing="drop_sections")
    assert "d_p7" not in set(dropped.obs["section"])
    assert dropped.n_obs == len(atlas.cells) - (atlas.cells["section"] == "d_p7").sum()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnmeasuredWarning)
        zero: Any = selection.to_anndata(missing="zero")
    assert not zero.varm["measured"].loc["Sox2", "d_p7"]
    inner: Any = select(atlas.store).to_anndata(join="inner")
    assert inner.var_names.tolist() == SHARED
    with pytest.raises(InvalidArgument, match="missing="):
        selection.to_anndata(missing="maybe")  # type: ignore[arg-type]


def test_gene_names_are_checked_when_asked(atlas: Any) -> None:
    with pytest.raises(GeneNotFound, match="Did you mean 'Sox2'"):
        select(atlas.store, genes=["Soxx2"])
    adata: Any = select(atlas.store, genes=["gene3", "GENE1"], section="a_e9").to_anndata()
    assert adata.var_names.tolist() == ["gene3", "GENE1"]
    assert adata.var["symbol"].tolist() == ["Gene3", "Gene1"]
    np.testing.assert_array_equal(
        adata.X.toarray(), atlas.counts.loc[adata.obs_names, ["Gene3", "Gene1"]].to_numpy()
    )


def test_log1p_keeps_the_counts_and_uses_the_whole_depth(atlas: Any) -> None:
    adata: Any = select(atlas.store, genes=SHARED[:2], section="a_e9").to_anndata(normalize="log1p")
    counts = atlas.counts.loc[adata.obs_names]
    depth = counts.sum(axis=1).to_numpy()[:, None]
    own = counts[SHARED[:2]].to_numpy()
    wanted = np.log1p(np.divide(own * 1e4, depth, out=np.zeros_like(own), where=depth > 0))
    np.testing.assert_allclose(adata.X.toarray(), wanted, rtol=1e-6)
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), own)
    assert adata.uns["tisseract"]["normalize"] == "log1p"


def test_an_answer_above_the_limit_is_refused_before_it_is_read(
    atlas: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = keys_read(atlas, monkeypatch)
    for call in ("to_anndata", "to_spatialdata", "to_pandas"):
        with pytest.raises(BudgetExceeded, match=r"narrow the query.*larger memory_limit"):
            getattr(select(atlas.store), call)(memory_limit="1 MiB")
    assert not [key for key in read if "tables/table" in key]


def test_few_genes_of_all_cells_come_from_the_gene_order(
    atlas: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = keys_read(atlas, monkeypatch)
    adata: Any = select(atlas.store, genes=["Gene5"], section="a_e9").to_anndata(obs_columns=[])
    assert not [key for key in read if "table/X" in key]
    np.testing.assert_array_equal(
        adata.X.toarray().ravel(), atlas.counts.loc[adata.obs_names, "Gene5"].to_numpy()
    )


def test_pandas_carries_named_genes(atlas: Any) -> None:
    table = select(atlas.store, "area > 50", genes=["Gene2"]).to_pandas(["layer"])
    keep = atlas.cells["area"].astype(float) > 50
    assert table.columns.tolist() == ["section", "layer", "Gene2"]
    assert table.index.tolist() == atlas.cells.index[keep].tolist()
    np.testing.assert_array_equal(table["Gene2"], atlas.counts.loc[table.index, "Gene2"])


def test_spatialdata_is_plain_writes_and_reads_without_a_warning(
    atlas: Any, tmp_path: Path
) -> None:
    import spatialdata as sd

    selection = region(atlas.store, "a_e9", bbox=(10, 10, 60, 60))
    sdata = selection.to_spatialdata()
    assert list(sdata.shapes) == ["cells"]
    assert sdata.coordinate_systems == ["microns"]
    export(selection, tmp_path / "roi.zarr")
    back: Any = sd.read_zarr(tmp_path / "roi.zarr")
    assert back["table"].n_obs == selection.n_obs == len(back["cells"])
    assert back["table"].obs_names.tolist() == selection.obs.index.tolist()
    matched, _ = sd.match_element_to_table(back, "cells", "table")
    centers = np.stack([matched["cells"].geometry.x, matched["cells"].geometry.y], axis=1)
    np.testing.assert_allclose(centers, back["table"].obsm["spatial"])


def test_spatialdata_of_several_sections_keeps_them_apart(atlas: Any, tmp_path: Path) -> None:
    import spatialdata as sd

    selection = select(atlas.store, genes=SHARED, layer="L1")
    export(selection, tmp_path / "l1.zarr")
    back: Any = sd.read_zarr(tmp_path / "l1.zarr")
    assert sorted(back.shapes) == [f"{name}_cells" for name in atlas.store.section_names]
    units = {"c_e10": "source_units"}
    assert sorted(back.coordinate_systems) == [
        f"{name}_{units.get(name, 'microns')}" for name in atlas.store.section_names
    ]
    assert back["table"].n_obs == (atlas.cells["layer"] == "L1").sum()
    assert set(back["table"].obs["dom"].dropna()) <= {"cortex", "fiber tract", "ventricle"}


@pytest.mark.parametrize("func", ["mean", "sum", "fraction"])
@pytest.mark.parametrize("by", [["timepoint"], ["layer", "section"], ["dom"]])
def test_aggregate_equals_pandas_with_unmeasured_cells_left_out(
    atlas: Any, func: str, by: list[str]
) -> None:
    got = select(atlas.store).aggregate(by, func)  # type: ignore[arg-type]
    keys = [atlas.cells[name].where(atlas.cells[name].notna(), "?").rename(name) for name in by]
    values_ = (atlas.counts > 0).where(atlas.counts.notna()) if func == "fraction" else atlas.counts
    grouped = values_.astype(float).groupby(keys)
    wanted = grouped.sum(min_count=1) if func == "sum" else grouped.mean()
    got.index = got.index.map(_spelled)
    wanted.index = wanted.index.map(_spelled)
    assert set(got.index) == set(wanted.index)
    aligned = got.loc[wanted.index, wanted.columns]
    np.testing.assert_allclose(aligned.to_numpy(float), wanted.to_numpy(float), rtol=1e-6)
    sizes = atlas.cells.groupby(keys).size()
    sizes.index = sizes.index.map(_spelled)
    assert got["n_obs"].to_dict() == sizes.to_dict()
    if by == ["timepoint"]:
        assert got.index.tolist() == [("E9.5",), ("E10.5",), ("P7",)]


def _spelled(key: Any) -> tuple[str, ...]:
    parts = key if isinstance(key, tuple) else (key,)
    return tuple("?" if part is None or part != part else str(part) for part in parts)


def test_aggregate_corrects_for_depth_and_names_its_unit(atlas: Any) -> None:
    selection = select(atlas.store, genes=SHARED, section=["a_e9", "b_e10"])
    got = selection.aggregate("section", normalize="depth")
    for name in ("a_e9", "b_e10"):
        own = atlas.counts[atlas.cells["section"] == name]
        wanted = own[SHARED].sum() / own.sum().sum() * 1e4
        np.testing.assert_allclose(got.loc[name, SHARED].to_numpy(float), wanted, rtol=1e-6)
    assert got.attrs["unit"] == got.columns.name == "counts per 10,000 counts"
    logged = selection.aggregate("section", normalize="log1p")
    adata = selection.to_anndata(normalize="log1p")
    wanted_log = dense(adata).groupby(adata.obs["section"].astype(str).to_numpy()).mean()
    np.testing.assert_allclose(logged[SHARED], wanted_log[SHARED], rtol=1e-5)
    with pytest.raises(InvalidArgument, match="func="):
        selection.aggregate("section", "median")  # type: ignore[arg-type]
    with pytest.raises(ColumnNotFound):
        selection.aggregate("sektion")


def test_gene_summaries_equal_pandas_and_unmeasured_is_nan(
    atlas: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = keys_read(atlas, monkeypatch)
    view = gene(atlas.store, "sox2")
    table = view.per_section().set_index("section")
    assert view.measured_in == ["a_e9", "b_e10", "c_e10"]
    unmeasured: Any = table.loc["d_p7", ["n_nonzero", "mean_counts", "mean_log1p"]]
    assert unmeasured.isna().all()
    for name in view.measured_in:
        own = atlas.counts.loc[atlas.cells["section"] == name, "Sox2"]
        assert table.loc[name, "n"] == len(own)
        assert table.loc[name, "n_nonzero"] == (own > 0).sum()
        assert table.loc[name, "mean_counts"] == pytest.approx(own.mean())
    grouped = view.per_section(by="layer")
    a = grouped[(grouped["section"] == "a_e9") & (grouped["layer"] == "L2")].iloc[0]
    own = atlas.counts.loc[(atlas.cells["section"] == "a_e9") & (atlas.cells["layer"] == "L2")]
    assert a["mean_counts"] == pytest.approx(own["Sox2"].mean())
    depth = own.sum(axis=1)
    assert a["mean_log1p"] == pytest.approx(np.log1p(own["Sox2"] * 1e4 / depth.clip(1)).mean())
    assert not [key for key in read if "table/X" in key]
    np.testing.assert_array_equal(
        view.values("a_e9"), atlas.counts.loc[atlas.cells["section"] == "a_e9", "Sox2"]
    )
    with pytest.raises(GeneNotFound, match="3 did: a_e9"):
        view.values("d_p7")
    whole = view.per_section().set_index("section")["mean_log1p"]
    by_section = view.per_section(by="timepoint").set_index("section")["mean_log1p"]
    np.testing.assert_allclose(whole["a_e9"], by_section["a_e9"], rtol=1e-5)


def test_values_count_cells(atlas: Any) -> None:
    for column in ("timepoint", "donor", "layer", "dom", "good", "batch"):
        got = values(atlas.store, column)
        wanted: Any = atlas.cells[column].astype(object)
        wanted = wanted.where(wanted.notna(), None).value_counts(dropna=False)
        assert {_key(k): v for k, v in got.items()} == {_key(k): v for k, v in wanted.items()}
    assert values(atlas.store, "timepoint").index.tolist() == ["E9.5", "E10.5", "P7"]
    few = values(atlas.store, "layer", section="a_e9")
    assert few.sum() == 300


def _key(value: Any) -> Any:
    return None if value is None or bool(value != value) else value


def test_composition_of_domains(atlas: Any) -> None:
    view = domains(atlas.store)
    assert view.key == "dom"
    assert view.sections == ("a_e9", "d_p7")
    assert view.names == ["cortex", "fiber tract", "ventricle"]
    got = view.composition(by="timepoint", groupby="layer")
    assert list(got.columns) == ["timepoint", "domain", "layer", "n", "fraction"]
    labeled = atlas.cells[atlas.cells["dom"].notna()]
    wanted = labeled[labeled["layer"].notna()].groupby(["timepoint", "dom", "layer"]).size()
    for (time, domain, layer), n in wanted.items():
        row = got[(got["timepoint"] == time) & (got["domain"] == domain) & (got["layer"] == layer)]
        assert row["n"].item() == n
    np.testing.assert_allclose(got.groupby("timepoint")["fraction"].sum(), 1)
    with pytest.raises(ColumnNotFound, match="Did you mean 'dom'"):
        domains(atlas.store, "domm")


def test_export_refuses_unknown_endings(atlas: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"\.h5ad"):
        export(select(atlas.store), tmp_path / "all.xlsx")
    for name in ("cells.csv", "cells.parquet"):
        path = export(select(atlas.store, section="a_e9"), tmp_path / name)
        read = pd.read_csv(path) if name.endswith("csv") else pd.read_parquet(path)
        assert len(read) == 300


def test_sections_without_a_cell_of_the_answer_need_not_have_its_genes(tmp_path: Path) -> None:
    # In the statistics of b both values occur, and in none of its cells.
    both = {"u": np.array([0.0, 1.0]), "v": np.array([1.0, 0.0])}
    ones = {"u": np.ones(2), "v": np.ones(2)}
    raws = {
        name: make_raw(n_obs=2, n_vars=len(genes), genes=genes, obs=obs)
        for name, genes, obs in (("a", ["Sox2", "a"], ones), ("b", ["Sox2"], both))
    }
    selection = select(make_store(tmp_path, raws), "u == 1 and v == 1", genes=["a"])
    assert selection.sections == ["a", "b"]
    assert list(selection.runs) == ["a"]
    wanted: Any = selection.to_anndata()
    table = selection.to_pandas()
    np.testing.assert_array_equal(table["a"], wanted.X.toarray()[:, 0])
    for name in ("x.csv", "x.parquet"):
        assert export(selection, tmp_path / name).is_file()
    # Nor is it told that zeros of b mean nothing.
    where: dict[str, Any] = {
        "obs_value_filter": "u == 1 and v == 1",
        "var_value_filter": "feature_name == 'a'",
    }
    counted: Any = get_anndata(selection.store, **where)
    np.testing.assert_array_equal(counted.X.toarray(), wanted.X.toarray())


def test_genes_of_many_sections_take_memory_for_those_asked_alone(tmp_path: Path) -> None:
    n_vars, n_sections = 2000, 50
    store = make_store(tmp_path, {"s": make_raw(n_obs=20, n_vars=n_vars)})
    entry = store.snapshot.sections["s"]
    more = [replace(entry, section=f"s{k:02}", attempt=f"{k:032x}") for k in range(n_sections)]
    store.commit(Change(add_sections=more), "many")
    names = ["Gene7", "Gene3"]
    choose_genes(store, store.section_names, names)  # reads and keeps the panel
    tracemalloc.start()
    choice = choose_genes(store, store.section_names, names)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(choice.columns) == n_sections + 1
    assert all(columns.tolist() == [7, 3] for columns in choice.columns.values())
    assert peak < n_sections * n_vars
