"""Highly variable genes from streamed sums, against scanpy on the whole matrix."""

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.store import AtlasStore
from tisseract.models.genes.loess import loess_curve
from tisseract.models.genes.plan import plan_features
from tisseract.models.genes.variable import VariableGenes, variable_genes

from ..sections import make_raw, make_store

TOP = 40
# what scanpy and what it imports warn of is not ours to mend
OF_OTHERS = pytest.mark.filterwarnings("ignore")


def skewed(n_obs: int, seed: int, genes: np.ndarray) -> Any:
    """Counts with dispersions of their own, some far out."""
    rng, shared = np.random.default_rng(seed), np.random.default_rng(5)
    mean = np.exp(shared.normal(0.0, 1.2, 300))[genes]
    shape = shared.gamma(1.0, 1.0, 300)[genes] + 0.1
    rate = rng.gamma(shape, mean / shape, (n_obs, len(genes)))
    return make_raw(
        counts=sp.csr_matrix(rng.poisson(rate).astype(np.float32)),
        positions=rng.random((n_obs, 2)) * 100.0,
        genes=[f"Gene{g:03d}" for g in genes],
        obs={},
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    raws = {
        "a": skewed(400, 1, np.arange(200)),
        "b": skewed(300, 2, np.arange(200)),
        "c": skewed(350, 3, np.arange(100, 300)),
    }
    return make_store(tmp_path_factory.mktemp("skewed"), raws)


def sections_of(store: AtlasStore, names: str) -> list[Any]:
    return [store.section(name) for name in names]


# -- against scanpy --------------------------------------------------------------------------


class OwnLoess:
    """Ours in the place of scikit-misc, where that is not installed."""

    def __init__(self, x: np.ndarray, y: np.ndarray, span: float, degree: int) -> None:
        assert degree == 2
        self.outputs = types.SimpleNamespace(fitted_values=loess_curve(x, y, span=span))

    def fit(self) -> None:
        """Nothing is left to do."""


@pytest.fixture
def scanpy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """scanpy, its per-batch means rounded once instead of once a row.

    Its running means differ in the last bit between genes of equal totals; the curve's vertices
    follow such ties, which moves its numbers by up to 1 %.
    """
    sc = pytest.importorskip("scanpy")
    if importlib.util.find_spec("skmisc") is None:
        fake = types.ModuleType("skmisc.loess")
        fake.__dict__["loess"] = OwnLoess
        monkeypatch.setitem(sys.modules, "skmisc", types.ModuleType("skmisc"))
        monkeypatch.setitem(sys.modules, "skmisc.loess", fake)
    module = importlib.import_module("scanpy.preprocessing._highly_variable_genes")
    aggregate = module.aggregate

    def rounded_once(adata: Any, by: str, func: Any) -> Any:
        found = aggregate(adata, by=by, func=func)
        for i, name in enumerate(found.obs_names):
            x = adata.X[(adata.obs[by].astype(str) == name).to_numpy()].toarray().astype(float)
            found.layers["mean"][i] = x.sum(axis=0) / len(x)
            found.layers["var"][i] = ((x**2).sum(axis=0) - x.sum(axis=0) ** 2 / len(x)) / (
                len(x) - 1
            )
        return found

    monkeypatch.setattr(module, "aggregate", rounded_once)
    return sc


def joined(store: AtlasStore, names: str, policy: str) -> Any:
    import anndata as ad
    import pandas as pd

    parts = []
    for section in sections_of(store, names):
        part = ad.AnnData(
            section.counts().astype(np.float64), var=pd.DataFrame(index=section.panel.symbol)
        )
        part.obs_names = [f"{section.name}{i}" for i in range(section.n_obs)]
        parts.append(part)
    join = "inner" if policy == "intersection" else "outer"
    return ad.concat(parts, join=join, label="batch", keys=list(names), fill_value=0)


def aligned(found: VariableGenes, names: Any) -> VariableGenes:
    """The same rows in another order."""
    at = {name: i for i, name in enumerate(found.symbol)}
    order = np.array([at[name] for name in names])
    fields = ("chosen", "mean", "spread", "standardized", "rank", "n_sections")
    return VariableGenes(*(getattr(found, f)[order] for f in fields))


@pytest.mark.slow
@OF_OTHERS
@pytest.mark.parametrize("policy", ["intersection", "union"])
@pytest.mark.parametrize("names", ["a", "ab", "abc"])
def test_seurat_v3_equals_scanpy(store: AtlasStore, scanpy: Any, names: str, policy: Any) -> None:
    whole = joined(store, names, policy)
    wanted = scanpy.pp.highly_variable_genes(
        whole,
        flavor="seurat_v3",
        n_top_genes=TOP,
        batch_key="batch" if len(names) > 1 else None,
        inplace=False,
    )
    found = aligned(
        variable_genes(sections_of(store, names), n_top_genes=TOP, genes=policy, block_rows=128),
        whole.var_names,
    )
    np.testing.assert_allclose(found.mean, wanted["means"], rtol=1e-12)
    np.testing.assert_allclose(found.spread, wanted["variances"], rtol=1e-6)
    np.testing.assert_allclose(found.standardized, wanted["variances_norm"], rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(found.rank, wanted["highly_variable_rank"])
    differ = np.flatnonzero(found.chosen != wanted["highly_variable"].to_numpy())
    # genes of equal rank at the border are taken in the order in which they stand
    assert len({(found.rank[k], found.n_sections[k]) for k in differ}) <= 1


@pytest.mark.slow
@OF_OTHERS
@pytest.mark.parametrize("policy", ["intersection", "union"])
@pytest.mark.parametrize("names", ["a", "ab", "abc"])
def test_seurat_equals_scanpy(store: AtlasStore, scanpy: Any, names: str, policy: Any) -> None:
    whole = joined(store, names, policy)
    found = aligned(
        variable_genes(
            sections_of(store, names),
            flavor="seurat",
            n_top_genes=TOP,
            genes=policy,
            target_depth=100.0,
            block_rows=128,
        ),
        whole.var_names,
    )
    scanpy.pp.normalize_total(whole, target_sum=100.0)
    scanpy.pp.log1p(whole)
    wanted = scanpy.pp.highly_variable_genes(
        whole,
        flavor="seurat",
        n_top_genes=TOP,
        batch_key="batch" if len(names) > 1 else None,
        inplace=False,
    )
    np.testing.assert_allclose(found.mean, wanted["means"], rtol=1e-6)
    np.testing.assert_allclose(found.spread, wanted["dispersions"], rtol=1e-6)
    np.testing.assert_allclose(found.standardized, wanted["dispersions_norm"], rtol=1e-6, atol=1e-9)
    assert np.array_equal(found.chosen, wanted["highly_variable"])


@pytest.mark.real
@pytest.mark.slow
@OF_OTHERS
@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat"])
def test_real_tissue_equals_scanpy(
    real_data: Path, tmp_path: Path, scanpy: Any, flavor: Any
) -> None:
    """Five thousand genes of cortex: the same 2,000, the same numbers."""
    import anndata as ad

    cortex: Any = ad.read_h5ad(real_data / "dlpfc" / "151673.h5ad")
    raw = make_raw(
        counts=sp.csr_matrix(cortex.X, dtype=np.float32),
        positions=cortex.obsm["spatial"].astype(float),
        genes=[f"Gene{k:04d}" for k in range(cortex.n_vars)],
        obs={},
    )
    section = make_store(tmp_path, {"cortex": raw}, tile_cells=1024).section("cortex")
    found = variable_genes([section], flavor=flavor, n_top_genes=2000, target_depth=1e3)
    at = {name: i for i, name in enumerate(section.panel.symbol)}
    columns = np.array([at[name] for name in found.symbol])
    whole = ad.AnnData(section.counts(genes=columns).astype(np.float64))
    if flavor == "seurat":
        scanpy.pp.normalize_total(whole, target_sum=1e3)
        scanpy.pp.log1p(whole)
    wanted = scanpy.pp.highly_variable_genes(whole, flavor=flavor, n_top_genes=2000, inplace=False)
    name = "variances_norm" if flavor == "seurat_v3" else "dispersions_norm"
    np.testing.assert_allclose(found.standardized, wanted[name], rtol=1e-6, atol=1e-9)
    assert np.array_equal(found.chosen, wanted["highly_variable"])


# -- without scanpy --------------------------------------------------------------------------


def test_v3_is_the_formula_on_the_whole_matrix(store: AtlasStore) -> None:
    section = store.section("a")
    found = variable_genes([section], n_top_genes=TOP, block_rows=64)
    x = section.counts().toarray().astype(np.float64)
    mean, variance = x.mean(axis=0), x.var(axis=0, ddof=1)
    deviation = np.sqrt(10.0 ** loess_curve(np.log10(mean), np.log10(variance)))
    z = np.minimum((x - mean) / deviation, np.sqrt(len(x)))
    assert (((x - mean) / deviation) > np.sqrt(len(x))).any(), "nothing was clipped"
    np.testing.assert_allclose(found.standardized, (z**2).sum(axis=0) / (len(x) - 1), rtol=1e-9)
    assert found.chosen.sum() == TOP
    assert found.standardized[found.chosen].min() >= found.standardized[~found.chosen].max()


@pytest.mark.parametrize("rows", [1_000_000, 97, 7])
def test_blocks_do_not_matter(store: AtlasStore, rows: int) -> None:
    sections = sections_of(store, "abc")
    exact = variable_genes(sections, n_top_genes=TOP)
    again = variable_genes(sections, n_top_genes=TOP, block_rows=rows)
    assert again.standardized.tobytes() == exact.standardized.tobytes()
    close = variable_genes(sections, flavor="seurat", n_top_genes=TOP)
    near = variable_genes(sections, flavor="seurat", n_top_genes=TOP, block_rows=rows)
    np.testing.assert_allclose(near.standardized, close.standardized, rtol=1e-10, atol=1e-12)
    assert np.array_equal(near.chosen, close.chosen)


def test_union_judges_what_one_section_measured(store: AtlasStore) -> None:
    sections = sections_of(store, "ac")
    shared = variable_genes(sections, n_top_genes=TOP)
    every = variable_genes(sections, n_top_genes=TOP, genes="union")
    assert (len(shared.symbol), len(every.symbol)) == (100, 300)
    alone = [int(name[4:]) < 100 for name in every.symbol]
    assert every.n_sections[alone].max() == 1


def test_a_section_of_one_cell_has_no_say(tmp_path: Path) -> None:
    raws = {"a": skewed(200, 1, np.arange(100)), "one": skewed(1, 2, np.arange(100))}
    store = make_store(tmp_path, raws)
    alone = variable_genes(sections_of(store, "a"), n_top_genes=10)
    both = variable_genes([store.section("a"), store.section("one")], n_top_genes=10)
    assert both.standardized == pytest.approx(alone.standardized / 2)


def test_expected_and_normalized_values(tmp_path: Path) -> None:
    raw = skewed(200, 1, np.arange(100))
    matrix = raw.counts.matrix.copy()
    matrix.data = np.log1p(matrix.data)
    positions = raw.positions
    genes = [f"Gene{g:03d}" for g in range(100)]
    logged = make_raw(counts=matrix, positions=positions, genes=genes, obs={}, values="log1p")
    plain = make_raw(
        counts=raw.counts.matrix, positions=positions, genes=genes, obs={}, values="normalized"
    )
    store = make_store(tmp_path, {"logged": logged, "plain": plain})
    first = variable_genes([store.section("logged")], flavor="seurat", n_top_genes=10)
    second = variable_genes([store.section("plain")], flavor="seurat", n_top_genes=10)
    np.testing.assert_allclose(first.standardized, second.standardized, rtol=1e-4, atol=1e-5)
    with pytest.raises(InvalidArgument, match=r"'seurat_v3' wants.*'logged' holds log1p"):
        variable_genes([store.section("logged")])


def test_bad_options_say_what_is_wanted(store: AtlasStore) -> None:
    sections = sections_of(store, "a")
    with pytest.raises(InvalidArgument, match="flavor of seurat_v3, seurat, but got 'cell_ranger'"):
        variable_genes(sections, flavor="cell_ranger")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="n_top_genes=0"):
        variable_genes(sections, n_top_genes=0)
    with pytest.raises(InvalidArgument, match="intersection or union, but got 'all'"):
        variable_genes(sections, genes="all")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=r"variance curve for section 'a'.*raise the span"):
        variable_genes(sections, span=0.01)


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat"])
def test_a_plan_takes_the_flavor(store: AtlasStore, flavor: Any) -> None:
    sections = sections_of(store, "ab")
    plan = plan_features(sections, n_top_genes=TOP, flavor=flavor)
    found = variable_genes(sections, flavor=flavor, n_top_genes=TOP, target_depth=plan.target_depth)
    assert plan.chosen.tolist() == np.flatnonzero(found.chosen).tolist()
    assert plan.chosen.tolist() != plan_features(sections, n_top_genes=TOP).chosen.tolist()
    with pytest.raises(InvalidArgument, match="wanted a flavor of variance, seurat_v3"):
        plan_features(sections, flavor="other")
