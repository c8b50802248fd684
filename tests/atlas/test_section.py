import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from tisseract.atlas.errors import ColumnNotFound, Corrupt, FormatUnsupported, InvalidArgument
from tisseract.atlas.section import Section
from tisseract.ingest.source import NumericValues, RawSection

from ..sections import Expected, expected, make_raw, make_store, same, write_one

RUNS = [(0, 3), (3, 70), (255, 258), (600, 700)]
ROWS = np.concatenate([np.arange(a, b) for a, b in RUNS])


@pytest.fixture(scope="module")
def raw() -> RawSection:
    return make_raw(n_obs=700, n_vars=15, um_per_unit=0.5, y_axis="up", seed=3)


@pytest.fixture(scope="module")
def section(raw: RawSection, tmp_path_factory: pytest.TempPathFactory) -> Section:
    return write_one(tmp_path_factory.mktemp("one"), raw)


@pytest.fixture(scope="module")
def source(raw: RawSection, section: Section) -> Expected:
    return expected(raw, section)


def test_rows_equal_the_source(section: Section, source: Expected) -> None:
    assert same(section.counts(), source.counts)
    assert np.array_equal(section.positions(), source.positions)
    assert section.cell_ids().tolist() == source.ids
    assert np.array_equal(section.depth(), np.asarray(source.counts.sum(axis=1)).ravel())


def test_runs_pick_rows_and_genes_columns(section: Section, source: Expected) -> None:
    genes = np.array([7, 2])
    picked = section.counts(RUNS, genes)
    assert picked.dtype == np.float32
    assert same(picked, source.counts[ROWS][:, genes])
    assert np.array_equal(section.positions(RUNS), source.positions[ROWS])
    assert section.counts([]).shape == (0, 15)


def test_gene_columns_equal_the_source_in_any_order(section: Section, source: Expected) -> None:
    for genes in ([4], [9, 0, 9], list(range(15)), []):
        assert same(section.gene_columns(genes), source.counts[:, genes])
    with pytest.raises(InvalidArgument, match=r"must lie in 0..14, but got -1..3"):
        section.gene_columns([3, -1])


def test_obs_comes_back_with_its_kinds(section: Section, raw: RawSection, source: Expected) -> None:
    frame = section.obs(RUNS)
    order = section.source_rows()[ROWS]
    assert frame.index.tolist() == [source.ids[row] for row in ROWS]
    np.testing.assert_array_equal(frame.area, raw.obs["area"].read().values[order])  # type: ignore[union-attr]
    volume = raw.obs["volume"].read()
    assert isinstance(volume, NumericValues)
    assert volume.mask is not None
    assert frame.volume.isna().to_numpy().tolist() == volume.mask[order].tolist()
    assert frame.good.dtype == bool
    assert str(frame.sure.dtype) == "boolean"
    assert isinstance(frame.layer.dtype, pd.CategoricalDtype)
    codes = raw.obs["layer"].read().codes[order]  # type: ignore[union-attr]
    assert frame.layer.cat.codes.tolist() == codes.tolist()
    notes = raw.obs["note"].read().take(order).to_list()  # type: ignore[union-attr]
    assert [None if pd.isna(v) else v for v in frame.note] == notes


def test_obs_offers_unique_ids_or_none(section: Section) -> None:
    assert section.obs([(0, 2)], [], qualified=True).index[0].startswith("s1:cell-")
    plain = section.obs([(5, 8)], ["area"], index=False)
    assert plain.index.tolist() == [0, 1, 2]
    with pytest.raises(ColumnNotFound, match=r"obs column 'layr', but has none. Did you mean"):
        section.obs(columns=["layr"])


def test_blocks_cover_every_row_of_a_box(section: Section) -> None:
    xy = section.positions()
    low, high = np.quantile(xy, 0.3, axis=0), np.quantile(xy, 0.5, axis=0)
    inside = np.flatnonzero(((xy >= low) & (xy <= high)).all(axis=1))
    for table in (section.tiles, section.blocks):
        runs = table.runs(table.intersecting(*low, *high))
        assert set(inside) <= {row for a, b in runs for row in range(a, b)}
    assert section.bounds == (*xy.min(axis=0), *xy.max(axis=0))


def test_reading_a_region_touches_only_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = write_one(tmp_path, make_raw(n_obs=20_000, n_vars=30, obs={}))
    _ = section.tiles, section.blocks, section.counts([(0, 1)])
    kind = type(section._storage)
    read: list[tuple[str, int]] = []
    plain = kind.get_range

    def counting(self: object, key: str, start: int, length: int) -> bytes:
        read.append((key, length))
        body: bytes = plain(cast("Any", self), key, start, length)
        return body

    monkeypatch.setattr(kind, "get_range", counting)
    section.counts([(1000, 1256)])
    matrix = section._array("tables/table/X/data")
    one = matrix.compressed_bytes() / (len(matrix) / matrix.layout.chunk)
    assert sum(n for key, n in read if key.endswith("X/data/c/0")) < 3 * one
    assert len(read) <= 4


def test_a_section_travels_and_is_shared(section: Section, source: Expected) -> None:
    again = pickle.loads(pickle.dumps(section))
    assert len(pickle.dumps(section)) < 20_000
    with ThreadPoolExecutor(8) as pool:
        for matrix in pool.map(lambda k: again.counts([(k, k + 90)]), range(0, 600, 50)):
            assert matrix.shape == (90, 15)
    assert same(again.counts(), source.counts)


def test_the_group_raises_on_a_missing_chunk(tmp_path: Path) -> None:
    from zarr.errors import ChunkNotFoundError

    section = write_one(tmp_path, make_raw())
    path = section._storage.local_path(f"{section.entry.prefix}/tables/table/X/data/c/0")
    assert path is not None
    path.unlink()
    data: Any = section.group["tables/table/X/data"]
    with pytest.raises(ChunkNotFoundError):
        data[:]
    with pytest.raises(Corrupt, match="section 's1', array tables/table/X/data: chunk 0"):
        section.counts()


def test_a_lost_or_foreign_index_is_named(tmp_path: Path) -> None:
    store = make_store(tmp_path, {"s1": make_raw()})
    section = store.section("s1")
    path = section._storage.local_path(f"{section.entry.prefix}/tisseract/zarr.json")
    assert path is not None
    text = path.read_text()
    path.write_text(text.replace('"format": 1', '"format": 99'))
    with pytest.raises(FormatUnsupported, match="must have layout 1, but got 99"):
        store.section("s1").positions()
    path.write_text(text.replace('"n_obs": 300', '"n_obs": 301'))
    with pytest.raises(Corrupt, match="disagrees with the catalog"):
        store.section("s1").positions()
    path.write_text("{")
    with pytest.raises(Corrupt, match="is not readable"):
        store.section("s1").positions()
    path.unlink()
    with pytest.raises(Corrupt, match="is missing"):
        store.section("s1").positions()


@pytest.mark.parametrize("part", ["indptr", "indices"])
def test_pointers_from_another_section_are_refused(tmp_path: Path, part: str) -> None:
    wide = make_store(tmp_path / "a", {"s1": make_raw(n_vars=90)}).section("s1")
    store = make_store(tmp_path / "b", {"s1": make_raw(n_vars=12)})
    section = store.section("s1")
    name = f"tables/table/X/{part}/c/0"
    good = section._storage.local_path(f"{section.entry.prefix}/{name}")
    bad = wide._storage.local_path(f"{wide.entry.prefix}/{name}")
    assert good is not None
    assert bad is not None
    good.write_bytes(bad.read_bytes())
    with pytest.raises(Corrupt):
        section.counts()
