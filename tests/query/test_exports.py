"""Exports: what is joined in, the ring around an answer, and files written as they are read."""

import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

import tisseract
from tisseract.atlas.errors import (
    BudgetExceeded,
    DerivedNotFound,
    InvalidArgument,
    UnitUnknown,
)
from tisseract.atlas.store import AtlasStore
from tisseract.query import Box, export, select
from tisseract.query.exports.embeddings import PartialEmbeddingWarning

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option"),
    pytest.mark.filterwarnings("ignore::tisseract.query.UnmeasuredWarning"),
    pytest.mark.filterwarnings("ignore::tisseract.query.MixedValuesWarning"),
]
KNOWN = ["a_e9", "b_e10", "d_p7"]


@pytest.fixture
def store(derived_store: AtlasStore) -> AtlasStore:
    return derived_store


def _assert_same(one: Any, other: Any) -> None:
    """All parts of two AnnData, with their kinds of numbers; NaN equals NaN."""
    pd.testing.assert_frame_equal(one.obs, other.obs)
    pd.testing.assert_frame_equal(one.var, other.var)
    for part in ("layers", "obsm", "varm", "obsp"):
        mine, theirs = getattr(one, part), getattr(other, part)
        assert list(mine) == list(theirs), part
        for name in mine:
            _assert_array(mine[name], theirs[name])
    _assert_array(one.X, other.X)
    _assert_notes(one.uns, other.uns)


def _assert_array(mine: Any, theirs: Any) -> None:
    assert type(mine) is type(theirs)
    if isinstance(mine, pd.DataFrame):
        pd.testing.assert_frame_equal(mine, theirs)
    elif hasattr(mine, "indptr"):
        for part in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(getattr(mine, part), getattr(theirs, part))
            assert getattr(mine, part).dtype == getattr(theirs, part).dtype
    else:
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype


def _assert_notes(mine: Any, theirs: Any) -> None:
    assert type(mine) is type(theirs)
    if isinstance(mine, dict):
        assert mine.keys() == theirs.keys()
        for name in mine:
            _assert_notes(mine[name], theirs[name])
    elif isinstance(mine, np.ndarray):
        np.testing.assert_array_equal(mine, theirs)
    else:
        assert mine == theirs


def test_embeddings_and_confidence_stand_beside_their_cells(store: AtlasStore) -> None:
    chosen = select(store, "volume > 3", section=KNOWN)
    with pytest.warns(PartialEmbeddingWarning, match="'part' is left out.*b_e10, d_p7"):
        adata: Any = chosen.to_anndata(embeddings=True, confidence=True)
    assert sorted(adata.obsm) == ["X_gnn", "spatial"]
    start = 0
    for section, runs in chosen.runs.items():
        rows = np.concatenate([np.arange(a, b) for a, b in runs])
        n_obs = store.section(section).n_obs
        whole = np.random.default_rng(n_obs).random((n_obs, 3), np.float32)
        np.testing.assert_array_equal(adata.obsm["X_gnn"][start : start + len(rows)], whole[rows])
        start += len(rows)
    sure = adata.obs["dom_confidence"]
    assert (sure.notna() == adata.obs["dom"].notna()).all()
    assert set(sure.dropna()) == {1.0}
    named: Any = chosen.to_anndata(embeddings=["X_gnn"])
    np.testing.assert_array_equal(named.obsm["X_gnn"], adata.obsm["X_gnn"])


def test_an_embedding_that_is_not_everywhere_is_refused_by_name(store: AtlasStore) -> None:
    with pytest.raises(DerivedNotFound, match="b_e10, d_p7 have none"):
        select(store, section=KNOWN).to_anndata(embeddings="part")
    with pytest.raises(DerivedNotFound, match="gnn"):
        select(store, section=KNOWN).to_anndata(embeddings="gnm")


@pytest.mark.parametrize("um", [0.5, 3.0, 11.0])
def test_a_ring_in_micrometers_equals_brute_force(store: AtlasStore, um: float) -> None:
    chosen = select(store, section="d_p7", region=Box(20, 20, 50, 45))
    adata: Any = chosen.to_anndata(halo_um=um, obs_columns=[])
    everything: Any = select(store, section="d_p7").to_anndata(obs_columns=[])
    points = everything.obsm["spatial"]
    own = everything.obs_names.isin(chosen.obs.index)
    near = cKDTree(points[own]).query(points)[0] <= um
    assert list(adata.obs_names) == list(everything.obs_names[near])
    np.testing.assert_array_equal(adata.obs["in_region"], own[near])
    assert (everything.X[np.flatnonzero(near)] != adata.X).nnz == 0
    assert "um from the answer" in adata.uns["tisseract"]["halo"]


@pytest.mark.parametrize("n_hops", [1, 2])
def test_a_ring_of_the_graph_keeps_every_edge_that_leaves(store: AtlasStore, n_hops: int) -> None:
    chosen = select(store, "volume > 6", section=["a_e9", "d_p7"])
    adata: Any = chosen.to_anndata(graph="near", halo="graph", n_hops=n_hops)
    everything: Any = select(store, section=["a_e9", "d_p7"]).to_anndata(graph="near")
    edges = everything.obsp["near_connectivities"].tocsr()
    reached = everything.obs_names.isin(chosen.obs.index)
    own = reached.copy()
    for _ in range(n_hops):
        reached = reached | (edges.T @ reached.astype(float) > 0)
    assert list(adata.obs_names) == list(everything.obs_names[reached])
    np.testing.assert_array_equal(adata.obs["in_region"], own[reached])
    for name in ("near_connectivities", "near_distances"):
        wanted = everything.obsp[name].tocsr()[reached][:, reached]
        assert abs(adata.obsp[name] - wanted).max() == 0
    whole = np.asarray(edges.sum(axis=1)).ravel()[reached]
    inside = adata.obs["in_region"].to_numpy()
    kept = np.asarray(adata.obsp["near_connectivities"].sum(axis=1)).ravel()
    np.testing.assert_array_equal(kept[inside], whole[inside])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"halo": "graph"}, "graph= is wanted"),
        ({"halo": "ring"}, "halo='graph' is wanted"),
        ({"halo_um": -1.0}, "above 0"),
        ({"halo": "graph", "graph": "near", "halo_um": 3.0}, "got both"),
        ({"halo": "graph", "graph": "near", "n_hops": 0}, "at least 1"),
    ],
)
def test_rings_that_mean_nothing_are_refused(
    store: AtlasStore, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        select(store, section="a_e9").to_anndata(**options)
    with pytest.raises(UnitUnknown, match="c_e10"):
        select(store, section="c_e10").to_anndata(halo_um=5.0)


@pytest.mark.slow
def test_squidpy_runs_on_an_answer(store: AtlasStore) -> None:
    squidpy = pytest.importorskip("squidpy")
    adata: Any = select(store, section=KNOWN).to_anndata(graph="near")
    adata.obs["group"] = pd.Categorical(adata.obs["layer"].astype(object).fillna("none"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        squidpy.gr.spatial_autocorr(
            adata,
            connectivity_key="near_connectivities",
            mode="moran",
            genes=["Gene0", "Gene1"],
            n_perms=None,
            n_jobs=1,
            show_progress_bar=False,
        )
        squidpy.gr.nhood_enrichment(
            adata,
            "group",
            connectivity_key="near",
            n_perms=10,
            seed=0,
            n_jobs=1,
            show_progress_bar=False,
        )
    assert np.isfinite(adata.uns["moranI"]["I"]).all()
    assert adata.uns["group_nhood_enrichment"]["zscore"].shape[0] >= 3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalize": "log1p", "graph": "near", "embeddings": "gnn", "confidence": True},
        {"missing": "nan", "halo_um": 4.0, "obs_columns": ["timepoint", "note", "area"]},
    ],
)
def test_a_file_written_by_blocks_equals_the_answer(
    store: AtlasStore,
    tmp_path: Path,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tisseract.query.exports import prepare

    # Every section in many batches.
    monkeypatch.setattr(prepare, "_BATCH_BYTES", 10_000)
    chosen = select(store, "volume > 1 or volume is null", section=KNOWN)
    chosen.to_anndata(**options).write_h5ad(tmp_path / "whole.h5ad")
    export(chosen, tmp_path / "blocks.h5ad", **options)
    whole = anndata.read_h5ad(tmp_path / "whole.h5ad")
    blocks = anndata.read_h5ad(tmp_path / "blocks.h5ad")
    _assert_same(blocks, whole)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["blocks.h5ad", "whole.h5ad"]


def test_sections_of_several_kinds_and_no_cell_are_written_too(
    store: AtlasStore, tmp_path: Path
) -> None:
    everything = select(store)
    everything.to_anndata().write_h5ad(tmp_path / "whole.h5ad")
    everything.write(tmp_path / "blocks.h5ad")
    _assert_same(
        anndata.read_h5ad(tmp_path / "blocks.h5ad"), anndata.read_h5ad(tmp_path / "whole.h5ad")
    )
    nothing = select(store, "volume > 1000")
    nothing.write(tmp_path / "none.h5ad")
    assert anndata.read_h5ad(tmp_path / "none.h5ad").shape == (0, nothing.n_vars)


def test_a_file_may_be_larger_than_memory_and_is_never_half(
    store: AtlasStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tisseract.query.exports import h5ad_stream, prepare

    monkeypatch.setattr(prepare, "_FIXED_BYTES", 0)
    monkeypatch.setattr(prepare, "_BATCH_BYTES", 10_000)
    chosen = select(store, section=KNOWN)
    with pytest.raises(BudgetExceeded, match="write it to"):
        chosen.to_anndata(memory_limit="1 MiB")
    chosen.write(tmp_path / "all.h5ad", memory_limit="1 MiB")
    assert anndata.read_h5ad(tmp_path / "all.h5ad").n_obs == chosen.n_obs

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("disk full")

    monkeypatch.setattr(h5ad_stream, "aligned", fail)
    with pytest.raises(OSError, match="disk full"):
        chosen.write(tmp_path / "half.h5ad")
    assert [path.name for path in tmp_path.iterdir()] == ["all.h5ad"]


def test_arrow_and_polars_hold_the_table(store: AtlasStore) -> None:
    chosen = select(store, "volume > 3", genes=["Gene1"], section=KNOWN)
    frame = chosen.to_pandas()
    table = chosen.to_arrow()
    assert table.column_names == ["cell", *frame.columns]
    assert table.column("cell").to_pylist() == list(frame.index)
    for name in frame.columns:
        own = [None if pd.isna(value) else value for value in frame[name].tolist()]
        assert table.column(name).to_pylist() == own, name
    polars = pytest.importorskip("polars")
    assert chosen.to_polars(["volume"]).get_column("cell").to_list() == list(frame.index)
    assert isinstance(chosen.to_polars(), polars.DataFrame)


def test_embeddings_go_into_spatialdata(store: AtlasStore, tmp_path: Path) -> None:
    import spatialdata

    chosen = select(store, section="a_e9")
    target = chosen.write(
        tmp_path / "a.zarr", graph="near", embeddings=["gnn", "part"], confidence=True
    )
    table: Any = spatialdata.read_zarr(target)["table"]
    adata: Any = chosen.to_anndata(graph="near", embeddings=["gnn", "part"], confidence=True)
    for key in ("X_gnn", "X_part", "spatial"):
        np.testing.assert_array_equal(table.obsm[key], adata.obsm[key])
    assert abs(table.obsp["near_distances"] - adata.obsp["near_distances"]).max() == 0
    np.testing.assert_array_equal(table.obs["dom_confidence"], adata.obs["dom_confidence"])
    assert list(table.obs["dom"].astype(object)) == list(adata.obs["dom"].astype(object))


def test_the_command_writes_what_python_hands_out(store: AtlasStore, tmp_path: Path) -> None:
    from tisseract.cli import main

    where = str(store.storage.local_path())
    common = ["region", where, "--section", "a_e9", "--bbox", "20,20,60,60", "-q"]
    common += ["--run-json", "-", "--graph", "near", "-o"]
    words = ["--halo-hops", "2", "--embeddings", "all"]
    assert main([*common, str(tmp_path / "a.h5ad"), *words]) == 0
    chosen = tisseract.open(where).region(["a_e9"], bbox=(20, 20, 60, 60))
    chosen.to_anndata(graph="near", halo="graph", n_hops=2, embeddings=True).write_h5ad(
        tmp_path / "b.h5ad"
    )
    ours, theirs = (anndata.read_h5ad(tmp_path / f"{name}.h5ad") for name in "ab")
    _assert_same(ours, theirs)
    assert sorted(ours.obsm) == ["X_gnn", "X_part", "spatial"]
    for wrong in (["--halo-um", "3", "--halo-hops", "1"], ["--embeddings", "all"]):
        name = "c.h5ad" if "--halo-um" in wrong else "c.csv"
        assert main([*common, str(tmp_path / name), *wrong]) == 2
