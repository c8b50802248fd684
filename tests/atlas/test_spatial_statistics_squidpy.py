"""Statistics of streamed graphs against squidpy on the whole section."""

import warnings
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tisseract.atlas.graph import knn
from tisseract.atlas.section import Section
from tisseract.atlas.spatial_statistics import (
    co_occurrence,
    neighborhood_enrichment,
    spatial_autocorrelation,
)
from tisseract.atlas.spatial_statistics.labels import Labels, read_labels
from tisseract.atlas.store import AtlasStore

from ..sections import make_raw, make_store

# AnnData asks pandas for an option that pandas would rather forget.
PANDAS = "ignore:The 'future.infer_string' option:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(PANDAS)]

type Mode = Literal["moran", "geary"]
MODES: list[Mode] = ["moran", "geary"]


@pytest.fixture(scope="module")
def squidpy() -> Any:
    """squidpy.gr, which warns while it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("squidpy").gr


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    """1,500 cells of 25 genes in tiles of 64, labels missing here and there."""
    raw = make_raw(n_obs=1500, n_vars=25, seed=3)
    return make_store(tmp_path_factory.mktemp("squidpy"), {"s1": raw})


@pytest.fixture(scope="module")
def real(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    """A breast tumor section with its labels."""
    with h5py.File(real_data / "her2st" / "A1.h5ad") as file:
        x = file["X"]
        if isinstance(x, h5py.Group):
            shape = tuple(x.attrs["shape"])
            parts = (x["data"][:], x["indices"][:], x["indptr"][:])
            counts = csr_matrix(parts, shape=shape)
        else:
            counts = csr_matrix(x[:])
        xy = np.ascontiguousarray(file["obsm/spatial"][:, :2], dtype=np.float64)
        labels = first_labels(file["obs"])
    kept = np.argsort(-counts.getnnz(axis=0))[:300]
    raw = make_raw(counts=counts[:, np.sort(kept)], positions=xy, obs={"label": labels})
    return make_store(tmp_path_factory.mktemp("real"), {"s1": raw})


def first_labels(obs: h5py.Group) -> list[str | None]:
    """Labels of the first categorical column of 2 to 20 categories."""
    for name in obs:
        column = obs[name]
        if isinstance(column, h5py.Group) and 2 <= len(column["categories"]) <= 20:
            names = column["categories"].asstr()[:]
            return [None if c < 0 else str(names[c]) for c in column["codes"][:]]
    raise AssertionError("the section should have labels")


def to_anndata(
    section: Section, connectivities: Any, labels: Labels | None = None
) -> tuple[Any, Any]:
    """Section as squidpy wants it, without the cells that have no label; and which are left."""
    import anndata
    import pandas as pd

    kept = np.ones(section.n_obs, bool) if labels is None else labels.codes >= 0
    obs = pd.DataFrame(index=[str(i) for i in np.flatnonzero(kept)])
    if labels is not None:
        names = pd.Index(labels.categories)
        obs["label"] = pd.Categorical.from_codes(labels.codes[kept].tolist(), names)
    adata = anndata.AnnData(section.counts()[kept], obs=obs)
    adata.var_names = [str(name) for name in section.panel.name]
    adata.obsm["spatial"] = section.positions()[kept]
    adata.obsp["spatial_connectivities"] = csr_matrix(connectivities)[kept][:, kept]
    return adata, kept


def compare_autocorrelation(squidpy: Any, store: AtlasStore, mode: Mode, whole: bool) -> None:
    """With float64 weights to the last digits; with squidpy's own float32 ones, as they allow."""
    section, graph = store.section("s1"), knn(store, "s1", 6)
    ones = graph.to_squidpy().connectivities
    found = spatial_autocorrelation(graph, section, mode=mode, transformation=whole).to_frame()
    for dtype, limit in ((np.float64, 1e-9), (np.float32, 2e-5)):
        adata, _ = to_anndata(section, ones.astype(dtype))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant genes
            wanted = squidpy.spatial_autocorr(
                adata, mode=mode, transformation=whole, n_perms=None, copy=True
            )
        assert list(wanted.columns) == list(found.columns)
        wanted = wanted.loc[found.index]
        for name in wanted.columns:
            if name == "pval_norm_fdr_bh" and wanted["pval_norm"].isna().any():
                continue  # squidpy: all NaN as soon as one is
            ours, theirs = found[name].to_numpy(), wanted[name].to_numpy()
            np.testing.assert_allclose(ours, theirs, rtol=limit, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("transformation", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_autocorrelation_of_simulated_cells(
    squidpy: Any, simulated: AtlasStore, mode: Mode, transformation: bool
) -> None:
    compare_autocorrelation(squidpy, simulated, mode, transformation)


@pytest.mark.real
@pytest.mark.parametrize("mode", MODES)
def test_autocorrelation_of_a_real_section(squidpy: Any, real: AtlasStore, mode: Mode) -> None:
    compare_autocorrelation(squidpy, real, mode, True)


def compare_enrichment(squidpy: Any, store: AtlasStore, column: str) -> None:
    """Equal counts, and z-scores within the error of two permutation tests."""
    section, graph = store.section("s1"), knn(store, "s1", 6)
    labels = read_labels(section, column)
    adata, _ = to_anndata(section, graph.to_squidpy().connectivities, labels)
    n = 1000
    wanted = squidpy.nhood_enrichment(
        adata, "label", n_perms=n, seed=1, copy=True, show_progress_bar=False, n_jobs=1
    )
    found = neighborhood_enrichment(graph, section, column, n_perms=n)
    np.testing.assert_array_equal(found.counts, wanted.counts)
    z = found.zscore
    # The error of a z-score of n shuffles: that of its mean, and that of its deviation.
    error = np.sqrt(1 / n + z**2 / (2 * n))
    assert (np.abs(z - wanted.zscore) <= 5 * np.sqrt(2) * error).all()
    exact = neighborhood_enrichment(graph, section, column, n_perms=None).zscore
    assert (np.abs(exact - wanted.zscore) <= 5 * error).all()


@pytest.mark.parametrize("column", ["layer", "note"])
def test_enrichment_of_simulated_cells(squidpy: Any, simulated: AtlasStore, column: str) -> None:
    compare_enrichment(squidpy, simulated, column)


@pytest.mark.real
def test_enrichment_of_a_real_section(squidpy: Any, real: AtlasStore) -> None:
    compare_enrichment(squidpy, real, "label")


def compare_co_occurrence(
    squidpy: Any, section: Section, column: str, interval: NDArray[np.float64]
) -> None:
    labels = read_labels(section, column)
    adata, _ = to_anndata(section, csr_matrix((section.n_obs, section.n_obs)), labels)
    wanted, _ = squidpy.co_occurrence(adata, "label", interval=interval, copy=True)
    found = co_occurrence(section, column, interval)
    np.testing.assert_allclose(found.occurrence, wanted, rtol=1e-12)


def test_co_occurrence_of_simulated_cells(squidpy: Any, tmp_path: Path) -> None:
    # On quarters of a micrometer float32 is exact: squidpy and we see the same distances.
    xy = np.random.default_rng(0).integers(0, 4000, (1500, 2)) / 4.0
    store = make_store(tmp_path, {"s1": make_raw(n_obs=1500, n_vars=2, positions=xy)})
    for interval in (np.linspace(0, 900, 31), np.array([5.0, 10.0, 30.0, 31.0, 250.0])):
        for column in ("layer", "good"):
            compare_co_occurrence(squidpy, store.section("s1"), column, interval)


@pytest.mark.real
def test_co_occurrence_of_a_real_section(squidpy: Any, real: AtlasStore) -> None:
    section = real.section("s1")
    x0, y0, x1, y1 = section.bounds
    # Off every distance of the lattice, so that rounding to float32 moves no pair.
    interval = np.linspace(0.0, np.hypot(x1 - x0, y1 - y0), 20) * 1.0123456
    compare_co_occurrence(squidpy, section, "label", interval)
