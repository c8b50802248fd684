from pathlib import Path

import numpy as np
import pytest

from tisseract.atlas.statistics import log_norm, narrowest
from tisseract.ingest.source import ArrayColumn, CategoricalValues

from ..sections import expected, make_raw, write_one


def test_gene_statistics_equal_sums_over_the_rows_of_each_tile(tmp_path: Path) -> None:
    raw = make_raw(n_obs=900, n_vars=25)
    section = write_one(tmp_path, raw, tile_cells=50)
    counts = expected(raw, section).counts.toarray()
    genes = [3, 24, 0, 3]
    found = section.gene_statistics(genes)
    tiles = list(zip(section.tiles.ptr[:-1], section.tiles.ptr[1:], strict=True))
    parts = [counts[a:b][:, genes] for a, b in tiles]
    np.testing.assert_array_equal(found.sums, [part.sum(axis=0) for part in parts])
    np.testing.assert_array_equal(found.nnz, [(part > 0).sum(axis=0) for part in parts])
    np.testing.assert_array_equal(found.largest, [part.max(axis=0) for part in parts])


@pytest.mark.parametrize("values", ["counts", "expected", "normalized", "log1p", "composition"])
def test_totals_equal_the_formula_of_the_matrix(tmp_path: Path, values: str) -> None:
    raw = make_raw(n_obs=200, n_vars=10, values=values)
    section = write_one(tmp_path, raw)
    counts = expected(raw, section).counts.toarray().astype(np.float64)
    depth = counts.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        scaled = np.nan_to_num(counts / depth * 1e4)
    logged = {"counts": np.log1p(scaled), "expected": np.log1p(scaled)}.get(
        values, np.log1p(counts) if values == "normalized" else counts
    )
    totals = section.totals
    np.testing.assert_array_equal(totals.sums, counts.sum(axis=0))
    np.testing.assert_array_equal(totals.nnz, (counts > 0).sum(axis=0))
    np.testing.assert_array_equal(totals.largest, counts.max(axis=0))
    np.testing.assert_allclose(totals.logged, logged.sum(axis=0), rtol=1e-12)
    attributes = section.group["tisseract/totals/gene_log_sum"].attrs
    assert attributes["unit"] == f"sum over all cells of {log_norm(values).formula}"
    assert section.group["tisseract/stats/gene_max"].attrs["unit"]


def test_obs_statistics_equal_pandas(tmp_path: Path) -> None:
    raw = make_raw(n_obs=500, n_vars=3)
    section = write_one(tmp_path, raw, tile_cells=40)
    frame = section.obs()
    tile = np.repeat(np.arange(section.n_tiles), section.tiles.n_cells)
    by_tile = frame.groupby(tile, observed=False)
    area = section.obs_statistics("area")
    np.testing.assert_array_equal(area.low, by_tile.area.min())
    np.testing.assert_array_equal(area.high, by_tile.area.max())
    np.testing.assert_array_equal(area.nulls, by_tile.area.apply(lambda x: x.isna().sum()))
    layer = section.obs_statistics("layer")
    assert layer.categories == ("L1", "L2", "WM")
    assert layer.histogram is not None
    assert layer.categories is not None
    for code, name in enumerate(layer.categories):
        wanted = (frame.layer == name).groupby(tile).sum()
        np.testing.assert_array_equal(layer.histogram[:, code], wanted)
    sure = section.obs_statistics("sure")
    assert sure.histogram is not None
    total = sure.histogram.sum(axis=1) + sure.nulls
    np.testing.assert_array_equal(total, section.tiles.n_cells)
    note = section.obs_statistics("note")
    assert note.histogram is None
    assert int(note.nulls.sum()) == 100


def test_many_categories_have_no_histogram_but_keep_their_names(tmp_path: Path) -> None:
    names = tuple(f"clone {k}" for k in range(2000))
    codes = np.arange(300, dtype=np.int16)
    raw = make_raw(obs={"clone": ArrayColumn.of(CategoricalValues(codes, names))})
    section = write_one(tmp_path, raw)
    assert section.obs_statistics("clone").histogram is None
    assert section.categories("clone") == names
    assert "categories" not in section.entry.columns["clone"]
    assert section.entry.columns["clone"]["n_categories"] == 2000


def test_an_all_missing_column_has_no_extremes(tmp_path: Path) -> None:
    section = write_one(tmp_path, make_raw(obs={"x": np.full(300, np.nan)}))
    assert "min" not in section.entry.columns["x"]
    low = section.obs_statistics("x").low
    assert low is not None
    assert np.isnan(low).all()


def test_types_are_no_wider_than_needed() -> None:
    assert [narrowest(v).itemsize for v in (0, 255, 256, 65_535, 65_536, 2**32 - 1)] == [
        1, 1, 2, 2, 4, 4,
    ]  # fmt: skip
