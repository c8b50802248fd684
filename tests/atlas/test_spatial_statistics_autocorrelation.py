"""Moran's I and Geary's C of streamed graphs against their definitions on dense matrices."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from tisseract.atlas.errors import BudgetExceeded, GeneNotFound, InvalidArgument
from tisseract.atlas.section import Section
from tisseract.atlas.spatial_statistics import gene_batches, spatial_autocorrelation

from ..sections import make_raw, write_one
from .statistics_fakes import MatrixGraph, adjacency, cut, graphs, random_matrix

N = 90
type Mode = Literal["moran", "geary"]


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> Section:
    """90 cells; gene 0 is silent, gene 1 is 3 everywhere, gene 2 barely differs from 30,000."""
    rng = np.random.default_rng(5)
    counts = rng.poisson(1.2, (N, 9)).astype(np.float64)
    counts[:, 0], counts[:, 1] = 0, 3
    counts[:, 2] = 30_000 + rng.integers(0, 2, N)
    counts[:, 3] = rng.integers(1, 5, N)  # no zero
    raw = make_raw(counts=counts, n_obs=N)
    return write_one(tmp_path_factory.mktemp("statistics"), raw, tile_cells=16)


def definition(
    weights: NDArray[np.float64], x: NDArray[np.float64], mode: str
) -> NDArray[np.float64]:
    """I or C of each column of x, by the double sums."""
    n = x.shape[0]
    z = x - x.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        if mode == "moran":
            cross = np.einsum("ij,ig,jg->g", weights, z, z)
            found = n / weights.sum() * cross / (z**2).sum(axis=0)
        else:
            apart = np.einsum("ij,ijg->g", weights, (x[:, None] - x[None]) ** 2)
            found = (n - 1) * apart / (2 * weights.sum() * (z**2).sum(axis=0))
    return np.where(np.ptp(x, axis=0) == 0, np.nan, found)


def weigh(matrix: Any, transformation: bool) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = adjacency(matrix)
    if transformation:
        weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1)
    return weights


@pytest.mark.parametrize("transformation", [True, False])
@pytest.mark.parametrize("mode", ["moran", "geary"])
def test_statistics_are_their_definitions(
    section: Section, mode: Mode, transformation: bool
) -> None:
    matrix = random_matrix(N, 5, 1)
    matrix.data[:] = 0.0  # lengths do not matter
    found = spatial_autocorrelation(
        cut(matrix, 3, 40, 41), section, mode=mode, transformation=transformation
    )
    x = section.counts().toarray().astype(np.float64)
    expected = definition(weigh(matrix, transformation), x, mode)
    np.testing.assert_allclose(found.statistic, expected, rtol=1e-6)
    others = [0, 1, *range(3, 9)]
    np.testing.assert_allclose(found.statistic[others], expected[others], rtol=1e-11)
    assert np.isnan(found.statistic[:2]).all()
    assert found.genes == tuple(section.panel.name)


def test_statistics_of_the_same_graph_do_not_depend_on_blocks_threads_and_batches(
    section: Section, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = random_matrix(N, 5, 2)
    whole = spatial_autocorrelation(cut(matrix), section)
    for cuts, threads in (((30, 60), 2), (tuple(range(1, N)), 3)):
        other = spatial_autocorrelation(cut(matrix, *cuts), section, threads=threads)
        np.testing.assert_allclose(other.statistic, whole.statistic, rtol=1e-12)
        np.testing.assert_allclose(other.pval_norm, whole.pval_norm, rtol=1e-9)
        one = spatial_autocorrelation(cut(matrix, *cuts), section, threads=1)
        np.testing.assert_array_equal(one.statistic, other.statistic)
    monkeypatch.setattr(gene_batches, "_MOST_ENTRIES", 100)
    monkeypatch.setattr(gene_batches, "_READ_ENTRIES", 40)
    monkeypatch.setattr(gene_batches, "_CACHED_ENTRIES", 7)
    monkeypatch.setattr(gene_batches, "_CALL_ENTRIES", 1)
    batched = spatial_autocorrelation(cut(matrix), section)
    np.testing.assert_array_equal(batched.statistic, whole.statistic)


@settings(max_examples=40, deadline=None)
@given(graphs(N), st.booleans(), st.sampled_from(["moran", "geary"]))
def test_random_graphs_give_the_definition(
    section: Section, graph: MatrixGraph, transformation: bool, mode: Mode
) -> None:
    if graph.matrix.nnz == 0:
        return
    found = spatial_autocorrelation(
        graph, section, ["Gene3", "Gene4"], mode=mode, transformation=transformation
    )
    x = section.counts().toarray().astype(np.float64)[:, 3:5]
    expected = definition(weigh(graph.matrix, transformation), x, mode)
    np.testing.assert_allclose(found.statistic, expected, rtol=1e-9, atol=1e-12)


def test_genes_come_as_asked_by_any_of_their_names(section: Section) -> None:
    graph = cut(random_matrix(N, 5, 1), 30)
    whole = spatial_autocorrelation(graph, section)
    some = spatial_autocorrelation(graph, section, ["gene7", "Gene3"])
    assert some.genes == ("Gene7", "Gene3")
    np.testing.assert_array_equal(some.statistic, whole.statistic[[7, 3]])
    assert spatial_autocorrelation(graph, section, "Gene7").genes == ("Gene7",)
    with pytest.raises(GeneNotFound, match="Did you mean 'Gene7'"):
        spatial_autocorrelation(graph, section, "Gene77")


def test_log1p_is_that_of_the_other_readers(section: Section) -> None:
    matrix = random_matrix(N, 5, 1)
    found = spatial_autocorrelation(cut(matrix, 20), section, normalize="log1p")
    x = section.counts().toarray().astype(np.float64)
    logged = np.log1p(1e4 * x / x.sum(axis=1, keepdims=True))
    varied = np.ptp(logged, axis=0) > 1e-3
    expected = definition(weigh(matrix, True), logged, "moran")
    np.testing.assert_allclose(found.statistic[varied], expected[varied], rtol=1e-4)
    stored = logged.astype(np.float32).astype(np.float64)
    expected = definition(weigh(matrix, True), stored, "moran")
    np.testing.assert_allclose(found.statistic[varied], expected[varied], rtol=1e-6)


def test_values_that_are_no_counts(tmp_path: Path) -> None:
    matrix = random_matrix(50, 5, 1)
    counts = np.random.default_rng(0).random((50, 3))
    logged = write_one(tmp_path, make_raw(counts=counts, n_obs=50, values="log1p"))
    as_stored = spatial_autocorrelation(cut(matrix), logged)
    again = spatial_autocorrelation(cut(matrix), logged, normalize="log1p")
    np.testing.assert_array_equal(as_stored.statistic, again.statistic)


def test_cells_left_out(section: Section) -> None:
    matrix = random_matrix(N, 5, 1)
    kept = np.random.default_rng(0).random(N) < 0.7
    for normalize in (None, "log1p"):
        found = spatial_autocorrelation(
            cut(matrix, 20, 50), section, cells=kept, normalize=normalize
        )
        x = section.counts().toarray().astype(np.float64)
        if normalize:
            x = np.log1p(1e4 * x / x.sum(axis=1, keepdims=True)).astype(np.float32).astype(float)
        expected = definition(weigh(matrix[kept][:, kept], True), x[kept], "moran")
        np.testing.assert_allclose(found.statistic, expected, rtol=1e-5)
        assert found.n_obs == kept.sum()


def test_the_correction_is_that_of_scipy(section: Section) -> None:
    found = spatial_autocorrelation(cut(random_matrix(N, 5, 1)), section, two_tailed=True)
    known = ~np.isnan(found.pval_norm)
    wanted = stats.false_discovery_control(np.minimum(found.pval_norm[known], 1.0))
    np.testing.assert_allclose(found.pval_norm_fdr_bh[known], wanted)
    assert np.isnan(found.pval_norm_fdr_bh[~known]).all()
    one = spatial_autocorrelation(cut(random_matrix(N, 5, 1)), section)
    np.testing.assert_allclose(found.pval_norm, 2 * one.pval_norm)


def test_tables_put_the_strongest_first(section: Section) -> None:
    graph = cut(random_matrix(N, 5, 1))
    moran = spatial_autocorrelation(graph, section).to_frame()
    assert list(moran.columns) == ["I", "pval_norm", "var_norm", "pval_norm_fdr_bh"]
    assert moran["I"].dropna().is_monotonic_decreasing
    assert set(moran.index[-2:]) == {"Gene0", "Gene1"}
    geary = spatial_autocorrelation(graph, section, mode="geary")
    assert geary.to_frame()["C"].dropna().is_monotonic_increasing
    assert str(geary).startswith("Geary's C of 9 genes over 90 cells: ")


def test_a_complete_graph_has_nothing_to_test(section: Section) -> None:
    everyone = random_matrix(N, 1e9, 0)
    found = spatial_autocorrelation(cut(everyone), section, "Gene5")
    assert found.statistic[0] == pytest.approx(-1 / (N - 1))


def test_bad_arguments_are_refused(section: Section) -> None:
    graph = cut(random_matrix(N, 5, 1))
    with pytest.raises(InvalidArgument, match="mode 'moran' or 'geary'"):
        spatial_autocorrelation(graph, section, mode="moron")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="normalize=None or 'log1p'"):
        spatial_autocorrelation(graph, section, normalize="log")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="one or more genes"):
        spatial_autocorrelation(graph, section, [])
    with pytest.raises(InvalidArgument, match="a graph of the 90 cells"):
        spatial_autocorrelation(cut(random_matrix(9, 5, 1)), section)
    graph.section = SimpleNamespace(name="s2")  # type: ignore[attr-defined]
    with pytest.raises(InvalidArgument, match="got one of 90 cells of section 's2'"):
        spatial_autocorrelation(graph, section)
    graph = cut(random_matrix(N, 5, 1))
    with pytest.raises(InvalidArgument, match="a graph with edges"):
        spatial_autocorrelation(cut(random_matrix(N, 0, 1)), section)
    with pytest.raises(BudgetExceeded, match="spatial autocorrelation over 90 cells"):
        spatial_autocorrelation(graph, section, memory_limit="1 MiB")


def test_batches_hold_what_fits() -> None:
    sizes = np.array([5, 5, 5, 50, 1])
    entry = gene_batches.ENTRY_BYTES
    assert gene_batches.plan_batches(sizes, 50 * entry) == [(0, 3), (3, 4), (4, 5)]
    with pytest.raises(BudgetExceeded, match="the values of one gene"):
        gene_batches.plan_batches(sizes, 49 * entry)
