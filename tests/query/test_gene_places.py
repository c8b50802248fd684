"""SPARK-X, Lee's L, bivariate Moran's I and rasters against dense formulas."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse, stats

import tisseract as ts
from tisseract.atlas.errors import (
    BudgetExceeded,
    DerivedNotFound,
    GeneNotFound,
    InvalidArgument,
    SectionNotFound,
    UnitUnknown,
)
from tisseract.atlas.graph import open_graph, radius
from tisseract.atlas.section import Section
from tisseract.atlas.spatial_statistics import (
    colocalization,
    pair_statistics,
    spark_x,
    spatial_autocorrelation,
)
from tisseract.atlas.spatial_statistics.spark_x import KERNELS
from tisseract.atlas.storage import Storage
from tisseract.atlas.store import AtlasStore, open_store
from tisseract.query import gene, region

from ..atlas.store_fakes import WrappedStorage
from ..sections import make_raw, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    rng = np.random.default_rng(0)
    xy = rng.random((240, 2)) * 300
    rate = np.stack(
        [
            np.full(240, 2.0),
            xy[:, 0] / 60,
            2 + np.cos(xy[:, 1] / 15),
            (np.hypot(*(xy - 150).T) < 60) * 5.0,
            np.full(240, 0.3),
            xy[:, 0] / 80,
        ],
        axis=1,
    )
    counts = rng.poisson(rate).astype(np.float32)
    counts[:, 4] = 0.0
    raw = make_raw(positions=xy, counts=sparse.csr_matrix(counts), metadata={"timepoint": "E9"})
    more = make_raw(n_obs=200, n_vars=6, seed=3, metadata={"timepoint": "P7"})
    made = make_store(tmp_path_factory.mktemp("places"), {"s1": raw, "s2": more}, tile_cells=64)
    radius(made, "s1", 25.0).write("spatial")
    return made


@pytest.fixture(scope="module")
def section(store: AtlasStore) -> Section:
    return store.section("s1")


def values_of(section: Section, normalize: str | None) -> np.ndarray:
    dense = section.counts().toarray().astype(float)
    depth = section.depth()[:, None]
    return (
        np.log1p(dense * np.where(depth > 0, 1e4 / np.maximum(depth, 1), 0)) if normalize else dense
    )


def paper_spark_x(y: np.ndarray, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The statistic as the paper writes it: the trace of two n x n matrices, and its mixture."""
    n = len(y)
    center = np.eye(n) - 1 / n
    stat, p = np.empty((2, len(KERNELS)))
    x = xy - xy.mean(axis=0)
    widths = np.quantile(np.abs(x), [0.2, 0.4, 0.6, 0.8, 1.0], axis=0)
    spaces = [x, *(np.exp(-(x**2) / (2 * w * w)) for w in widths)]
    spaces += [np.cos(2 * np.pi * x / w) for w in widths]
    e = np.outer(y, y) / (y @ y)
    for k, space in enumerate(spaces):
        s = space - space.mean(axis=0)
        sigma = s @ np.linalg.inv(s.T @ s) @ s.T
        stat[k] = n * np.trace(e @ sigma)
        one = np.linalg.eigvalsh(center @ e @ center)[-1]
        two = np.linalg.eigvalsh(center @ sigma @ center)[-2:]
        assert two[0] == pytest.approx(1) and two[1] == pytest.approx(1)  # noqa: PT018
        p[k] = stats.chi2.sf(stat[k] / one, 2)
    return stat, p


@pytest.mark.parametrize("normalize", [None, "log1p"])
def test_spark_x_is_the_formula_of_the_paper(section: Section, normalize: Any) -> None:
    found = spark_x(section, normalize=normalize)
    dense = values_of(section, normalize)
    for g in (0, 1, 2, 3, 5):
        stat, p = paper_spark_x(dense[:, g], section.positions())
        np.testing.assert_allclose(found.statistic[g], stat, rtol=1e-9)
        np.testing.assert_allclose(found.pvalue[g], p, rtol=1e-8)
        cauchy = stats.cauchy.sf(np.mean(stats.cauchy.isf(np.where(p > 0.999, 0.99, p))))
        np.testing.assert_allclose(found.combined[g], cauchy, rtol=1e-6)
    assert np.isnan(found.combined[4])
    known = np.delete(found.combined, 4)
    wanted = stats.false_discovery_control(known, method="by")
    np.testing.assert_allclose(np.delete(found.adjusted, 4), wanted)
    if normalize is None:
        assert found.combined[[1, 2, 3]].max() < 1e-3 < found.combined[0]
    few = spark_x(section, ["Gene3", "Gene1"], normalize=normalize)
    np.testing.assert_allclose(few.pvalue, found.pvalue[[3, 1]], rtol=1e-9)
    assert few.to_frame().index[0] in ("Gene1", "Gene3")


def test_spark_x_of_some_cells_and_of_a_line(section: Section, tmp_path: Path) -> None:
    kept = section.positions()[:, 0] > 100
    found = spark_x(section, cells=kept)
    _, p = paper_spark_x(
        section.counts().toarray()[kept, 2].astype(float), section.positions()[kept]
    )
    np.testing.assert_allclose(found.pvalue[2], p, rtol=1e-8)
    line = np.stack([np.arange(60.0), np.zeros(60)], axis=1)
    raw = make_raw(positions=line, counts=sparse.csr_matrix(np.arange(60.0)[:, None]))
    flat = make_store(tmp_path, {"s1": raw}).section("s1")
    y = flat.counts().toarray()[:, 0].astype(float)
    r2 = np.corrcoef(y, flat.positions()[:, 0])[0, 1] ** 2
    np.testing.assert_allclose(spark_x(flat).pvalue[0, 0], stats.chi2.sf(60 * r2, 1))
    with pytest.raises(BudgetExceeded):
        spark_x(section, memory_limit=100)
    with pytest.raises(InvalidArgument, match="3 or more"):
        spark_x(section, cells=np.arange(240) < 2)


def dense_weights(store: AtlasStore, kept: np.ndarray | None = None) -> np.ndarray:
    graph: Any = (open_graph(store, "spatial", "s1").to_csr().toarray() > 0).astype(float)
    if kept is not None:
        graph *= np.outer(kept, kept)
    degree = graph.sum(axis=1, keepdims=True)
    return np.asarray(graph / np.maximum(degree, 1))


def lee_and_moran(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> tuple[float, float, float]:
    """Lee (2001), equations 7 and 11, term by term."""
    zx, zy, n = x - x.mean(), y - y.mean(), len(x)
    size = np.sqrt((zx**2).sum() * (zy**2).sum())
    lee = n / (w.sum(axis=1) ** 2).sum() * ((w @ zx) * (w @ zy)).sum() / size
    moran = n / w.sum() * sum(zx[i] * w[i, j] * zy[j] for i, j in np.argwhere(w)) / size
    return lee, moran, float(np.corrcoef(x, y)[0, 1])


@pytest.mark.parametrize("normalize", [None, "log1p"])
@pytest.mark.parametrize("some", [False, True])
def test_colocalization_is_lees_formula(store: AtlasStore, normalize: Any, some: bool) -> None:
    section, graph = store.section("s1"), open_graph(store, "spatial", "s1")
    kept = section.positions()[:, 1] < 220 if some else None
    found = colocalization(graph, section, 1, normalize=normalize, cells=kept, threads=2)
    pairs = pair_statistics(graph, section, [1, 3, 5], normalize=normalize, cells=kept)
    values, w = values_of(section, normalize), dense_weights(store, kept)
    if kept is not None:
        values, w = values[kept], w[np.ix_(kept, kept)]
    for g in (0, 1, 2, 3, 5):
        wanted = lee_and_moran(values[:, 1], values[:, g], w)
        got = (found.lee[g], found.moran[g], found.pearson[g])
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)
    for a, x in enumerate((1, 3, 5)):
        for b, y in enumerate((1, 3, 5)):
            wanted = lee_and_moran(values[:, x], values[:, y], w)
            got = (pairs.lee[a, b], pairs.moran[a, b], pairs.pearson[a, b])
            np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)
    assert np.isnan(found.lee[4])
    few = colocalization(graph, section, 1, genes=np.array([5, 0]), normalize=normalize, cells=kept)
    np.testing.assert_allclose(few.lee, found.lee[[5, 0]], rtol=1e-9)


def test_colocalized_genes_and_variability(store: AtlasStore) -> None:
    view = gene(store, "Gene1")
    table = view.colocalized(3)
    assert table["gene"].iloc[0] == "Gene5"
    assert "Gene1" not in set(table["gene"])
    assert table.attrs["sections"] == ["s1"]
    found = colocalization(open_graph(store, "spatial", "s1"), store.section("s1"), 1)
    assert table.set_index("gene").loc["Gene5", "L"] == pytest.approx(found.lee[5])
    by_radius = view.colocalized(None, ["s1"], radius=25.0, rank="moran")
    assert by_radius.set_index("gene").loc["Gene5", "I"] == pytest.approx(found.moran[5])
    assert len(by_radius) == 4  # Gene4 has no count
    both = view.colocalized(None, ["s1", "s2"], radius=25.0)
    assert both["n_sections"].max() == 2
    spatial = view.variability().set_index("section")
    one = spatial_autocorrelation(
        open_graph(store, "spatial", "s1"), store.section("s1"), ["Gene1"]
    )
    assert spatial.loc["s1", "I"] == pytest.approx(one.statistic[0])
    assert spatial["I"].isna().tolist() == [False, True]
    assert "no graph 'spatial', so no I: s2" in view.variability().attrs["note"]
    p: Any = spatial["pval_sparkx"]
    assert p["s1"] < 1e-6 < p["s2"]
    ranked = ts.tl.spatially_variable(store, sections="s1")
    assert set(ranked["gene"].iloc[:3]) <= {"Gene1", "Gene2", "Gene3", "Gene5"}
    moran = ts.tl.spatially_variable(store, ["Gene0", "Gene1"], method="moran")
    assert moran["gene"].tolist() == ["Gene1", "Gene0"]
    with pytest.raises(DerivedNotFound, match="other"):
        view.colocalized(key="other")
    with pytest.raises(InvalidArgument, match="rank"):
        view.colocalized(rank="size")  # type: ignore[arg-type]
    with pytest.raises(GeneNotFound, match="Did you mean"):
        gene(store, "Genel")


def test_coexpression_of_a_selection(store: AtlasStore) -> None:
    section = store.section("s1")
    chosen = region(store, "s1", bbox=(0, 0, 200, 300))
    table = ts.tl.coexpression(chosen, ["Gene1", "Gene5"], radius=25.0)
    xy = section.positions()
    kept = (xy[:, 0] <= 200) & (xy[:, 1] <= 300)
    values, w = values_of(section, "log1p")[kept], dense_weights(store, kept)[np.ix_(kept, kept)]
    lee, moran, pearson = lee_and_moran(values[:, 1], values[:, 5], w)
    assert len(table) == 2
    assert table.iloc[0][["gene", "neighbor", "n"]].tolist() == ["Gene1", "Gene5", kept.sum()]
    got = table.iloc[0][["L", "I", "r"]].astype(float)
    np.testing.assert_allclose(got, [lee, moran, pearson], rtol=1e-9)
    stored = ts.tl.coexpression(chosen, ["Gene1", "Gene5"])
    np.testing.assert_allclose(stored["L"], table["L"])
    with pytest.raises(InvalidArgument, match="two genes"):
        ts.tl.coexpression(chosen, ["Gene1"])


@pytest.mark.parametrize("how", ["mean", "sum", "fraction"])
def test_raster_is_a_histogram(store: AtlasStore, how: Any) -> None:
    section = store.section("s1")
    view = gene(store, "gene3")
    image: Any = view.raster("s1", 20.0, how=how)
    xy, y = section.positions(), view.vector("s1")
    x0, y0, x1, _ = section.bounds
    edges = [y0 + 20.0 * np.arange(image.shape[0] + 1), x0 + 20.0 * np.arange(image.shape[1] + 1)]
    weight = y > 0 if how == "fraction" else y
    n = np.histogram2d(xy[:, 1], xy[:, 0], edges)[0]
    total = np.histogram2d(xy[:, 1], xy[:, 0], edges, weights=weight)[0]
    wanted = total if how == "sum" else np.where(n > 0, total / np.maximum(n, 1), np.nan)
    np.testing.assert_allclose(image, wanted)
    np.testing.assert_array_equal(image["n_cells"], n)
    assert image.sizes["x"] == int((x1 - x0) // 20) + 1
    assert float(image["x"][0]) == pytest.approx(x0 + 10)
    assert image.attrs["pixel_unit"] == "um"
    tree: Any = view.raster("s1", 20.0, how=how, scale_factors=[2, 3])
    assert list(tree.children) == ["scale0", "scale1", "scale2"]
    coarse: Any = view.raster("s1", 120.0, how=how)
    np.testing.assert_allclose(tree["scale2"]["image"], coarse)
    np.testing.assert_allclose(tree["scale2"]["image"]["x"], coarse["x"])


def test_rasters_that_make_no_sense(store: AtlasStore, tmp_path: Path) -> None:
    view = gene(store, "Gene3")
    wrongs: list[dict[str, Any]] = [
        {"um_per_px": 0},
        {"um_per_px": np.nan},
        {"how": "max"},
        {"scale_factors": [1]},
    ]
    for wrong in wrongs:
        with pytest.raises(InvalidArgument):
            view.raster("s1", **wrong)
    with pytest.raises(BudgetExceeded, match="larger um_per_px"):
        view.raster("s1", 0.001)
    with pytest.raises(SectionNotFound):
        view.raster("s9")
    other = make_store(tmp_path, {"s1": make_raw(n_obs=40, um_per_unit=None)})
    with pytest.raises(UnitUnknown):
        gene(other, "Gene3").raster("s1")
    assert gene(other, "Gene3").raster("s1", units="source").attrs["pixel_unit"] == "source units"


def test_one_gene_reads_little_more_than_its_vector(tmp_path: Path) -> None:
    n = 60_000
    rng = np.random.default_rng(0)
    counts = sparse.random(
        n, 12, 0.3, "csr", np.float32, rng, lambda size: rng.integers(1, 9, size)
    )
    raw = make_raw(positions=rng.random((n, 2)) * 1e4, counts=counts, obs={})
    make_store(tmp_path, {"s1": raw}, tile_cells=4096)
    opened = open_store(tmp_path / "atlas")
    section = opened.section("s1")
    for column in (0, 5, 11):
        fresh = open_store(tmp_path / "atlas")
        fresh.storage = counting = ByteCounting(fresh.storage)
        view = gene(fresh, f"Gene{column}")
        assert view.is_measured("s1")
        assert view.store.section("s1").obs_columns == {}  # reads the index: it is open now
        counting.read.clear()
        assert (view.vector("s1") > 0).sum() == section.totals.nnz[column]
        assert not any("table/X" in key for key, _ in counting.read)
        assert sum(size for _, size in counting.read) <= allowed(section, column)


def allowed(section: Section, column: int) -> float:
    """Twice the compressed bytes of the vector, and two chunks of each array."""
    parts = {name: section._array(f"tisseract/by_gene/{name}") for name in ("data", "indices")}
    pointers = section._array("tisseract/by_gene/indptr")
    first, stop = pointers.read([(column, column + 2)]).tolist()
    total = 2.0 * pointers.compressed_bytes([(column, column + 2)])
    for array in parts.values():
        chunk = array.layout.chunk
        touched = -(-stop // chunk) - first // chunk
        size = array.compressed_bytes([(first, stop)]) / touched
        total += 2 * size * (stop - first) / chunk + 2 * size
    return total


class ByteCounting(WrappedStorage):
    """Notes the key and the bytes of every read."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.read: list[tuple[str, int]] = []

    def call(self, verb: str, *args: Any, **options: Any) -> Any:
        answer = super().call(verb, *args, **options)
        if isinstance(answer, bytes):
            self.read.append((args[0], len(answer)))
        return answer
