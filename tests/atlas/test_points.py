"""Points: the sort on disk, row groups with boxes, damage, odd columns."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas import points_write
from tisseract.atlas.errors import Corrupt, InputError, InvalidArgument
from tisseract.atlas.morton import Frame
from tisseract.atlas.points import PointsInfo, PointsSource
from tisseract.atlas.points_read import RangeFile, StoredPoints
from tisseract.atlas.points_sort import CODE, SortPlan, plan_sort, sorted_tables
from tisseract.atlas.section import Section
from tisseract.atlas.storage import open_storage

from ..sections import make_raw, write_one


def batch_of(codes: list[int], start: int = 0) -> pa.RecordBatch:
    rows = pa.array(range(start, start + len(codes)), pa.int64())
    return pa.RecordBatch.from_arrays([rows, pa.array(codes, pa.uint64())], ["row", CODE])


@given(
    st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), min_size=1, max_size=30)),
    st.integers(0, 3),
    st.integers(16, 400),
)
@settings(max_examples=40, deadline=None)
def test_any_buckets_give_one_stable_order(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], levels: int, nbytes: int
) -> None:
    codes = np.array([code for part in parts for code in part], np.uint64)
    starts = np.cumsum([0, *map(len, parts)])
    batches = [batch_of(part, int(s)) for part, s in zip(parts, starts, strict=False)]
    scratch = tmp_path_factory.mktemp("sort")
    plan = SortPlan(levels, nbytes, nbytes)
    tables = list(sorted_tables(batches, plan, scratch))
    found = np.concatenate([np.zeros(0), *(t.column("row").to_numpy() for t in tables)])
    np.testing.assert_array_equal(found, np.argsort(codes, kind="stable"))
    assert not list(scratch.iterdir())


def test_more_memory_means_fewer_files() -> None:
    assert plan_sort(2**30, 2**28).levels > plan_sort(2**30, 2**32).levels
    assert plan_sort(2**50, 2**28).levels == 4


def test_points_that_are_stopped_leave_no_buckets(tmp_path: Path) -> None:
    asked: list[int] = []

    def check() -> None:
        asked.append(len(asked))
        if len(asked) > 1:  # the batch was read, a table is there
            raise KeyError("stopped")

    source = PointsSource(lambda: iter([pa.RecordBatch.from_pydict(rows(50))]), "gene")
    (scratch := tmp_path / "scratch").mkdir()
    frame = Frame.around(np.array([[0.0, 0.0], [900.0, 700.0]]))
    with pytest.raises(KeyError) as stopped:
        points_write.write_points(
            tmp_path, "dots", source, frame=frame, coordinate_system="microns", scratch=scratch,
            check=check,
        )  # fmt: skip
    assert not list(scratch.iterdir()), stopped  # which still holds the frames


def rows(n: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    genes = np.array(["Gene0", "Gene1", "BLANK", None], dtype=object)[rng.integers(0, 4, n)]
    return {
        "x": rng.random(n).astype(np.float32) * 900,
        "y": rng.random(n).astype(np.float32) * 700,
        "gene": genes,
        "cell_id": np.array([f"cell-{i}" for i in rng.integers(0, 300, n)], dtype=object),
        "qv": rng.random(n),
    }


def source_of(columns: dict[str, Any], step: int = 100, **given_: Any) -> PointsSource:
    n = len(columns["x"])

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, n, step):
            part = {k: pa.array(v[start : start + step]) for k, v in columns.items()}
            yield pa.RecordBatch.from_pydict(part)

    return PointsSource(batches, "gene", "cell_id", **given_)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_write, "_LEAST_GROUP", 32)
    monkeypatch.setattr(points_write, "_MOST_GROUP", 64)
    monkeypatch.setattr(points_write, "GROUPS_PER_PART", 3)


def written(tmp_path: Path, columns: dict[str, Any], **given_: Any) -> tuple[Section, StoredPoints]:
    section = write_one(tmp_path, make_raw(points={"tx": source_of(columns, **given_)}))
    return section, section.points["tx"]


def read_all(points: StoredPoints) -> pa.Table:
    names = points.schema.names
    requests = [(group, names) for group in range(points.info.n_groups)]
    return pa.Table.from_batches([batch for _, batch in points.read(requests)]).unify_dictionaries()


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("bounds", [None, (0.0, 0.0, 900.0, 700.0), (0.0, 0.0, 1.0, 1.0)])
def test_every_point_is_stored_once_in_tight_groups(tmp_path: Path, bounds: Any) -> None:
    columns = rows(1000)
    _, points = written(tmp_path, columns, bounds=bounds)
    table = read_all(points)
    assert points.info.n_points == points.rows.sum() == 1000
    assert points.rows.max() <= 64
    assert len(points.info.part_bytes) == -(-points.info.n_groups // 3) > 3
    found = table.to_pandas().sort_values("qv").reset_index(drop=True)
    order = np.argsort(columns["qv"])
    for name, values in columns.items():
        got = found[name].astype(object).where(found[name].notna(), None)
        assert got.tolist() == values[order].tolist(), name
    at = 0
    for box, n in zip(points.bounds, points.rows, strict=True):
        part = table.slice(at, int(n))
        xy = np.stack([part.column(a).to_numpy().astype(float) for a in "xy"], axis=1)
        np.testing.assert_array_equal(box, [*xy.min(axis=0), *xy.max(axis=0)])
        at += int(n)
    known = [g for g in columns["gene"] if g is not None]
    assert points.features == {g: known.count(g) for g in sorted(set(known), key=known.index)}
    # Groups are cut at squares: together they cover little more than the whole.
    if bounds == (0.0, 0.0, 900.0, 700.0):
        width, height = (points.bounds[:, 2:] - points.bounds[:, :2]).T
        assert (width * height).sum() < 1.2 * 900 * 700


def test_one_group_holds_few_points(tmp_path: Path) -> None:
    _, points = written(tmp_path, rows(10))
    assert points.rows.tolist() == [10]
    assert points.schema.field("x").type == pa.float32()
    assert points.info.as_json() == PointsInfo.of("tx", points.info.as_json()).as_json()


def test_no_points_are_fine_and_none_without_place_is_kept(tmp_path: Path) -> None:
    columns = rows(6)
    columns["x"][[1, 2]] = [np.nan, np.inf]
    section, points = written(tmp_path, columns)
    assert points.info.n_points == 4
    notes = section.group["tisseract/provenance"].attrs["notes"]
    assert notes == ["points 'tx': 2 points without a finite position left out"]
    empty = write_one(
        tmp_path / "empty",
        make_raw(points={"tx": source_of({k: v[:1] for k, v in rows(1).items()} | nowhere())}),
    )
    assert read_all(empty.points["tx"]).num_rows == 0


def nowhere() -> dict[str, Any]:
    return {"x": np.array([np.nan])}


def test_genes_beyond_a_full_dictionary_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points_write, "_FULL_DICTIONARY", 2)
    columns = rows(50)
    _, points = written(tmp_path, columns)
    found = read_all(points).to_pandas().sort_values("qv")["gene"].astype(object)
    expected = columns["gene"][np.argsort(columns["qv"])]
    assert found.where(found.notna(), None).tolist() == expected.tolist()


def test_categories_stay_categories_and_other_columns_what_they_are(tmp_path: Path) -> None:
    columns = rows(20) | {"fov": pa.array(["a", "b"] * 10).dictionary_encode()}
    _, points = written(tmp_path, columns, step=7)
    assert pa.types.is_dictionary(points.schema.field("fov").type)
    found = read_all(points).to_pandas().sort_values("qv")
    assert found["fov"].tolist() == [["a", "b"][i % 2] for i in np.argsort(columns["qv"])]


@pytest.mark.parametrize("name", ["", "a b", "a/b", ".hidden"])
def test_names_that_spatialdata_refuses_are_refused(tmp_path: Path, name: str) -> None:
    raw = make_raw(points={name: source_of(rows(3))})
    with pytest.raises(InvalidArgument, match="name"):
        write_one(tmp_path, raw)


def test_points_need_a_place(tmp_path: Path) -> None:
    columns = {k: v for k, v in rows(3).items() if k != "y"}
    with pytest.raises(InputError, match="column 'y'"):
        write_one(tmp_path, make_raw(points={"tx": source_of(columns)}))


@pytest.mark.parametrize("harm", ["cut", "flip", "gone"])
def test_damage_is_told(tmp_path: Path, harm: str) -> None:
    section, points = written(tmp_path, rows(500))
    path = tmp_path / "atlas" / section.entry.prefix / "points/tx/points.parquet/part.0.parquet"
    data = bytearray(path.read_bytes())
    if harm == "gone":
        path.unlink()
    else:
        data[len(data) // 4] ^= 0xFF
        path.write_bytes(data[:-100] if harm == "cut" else data)
    with pytest.raises(Corrupt, match=r"points 'tx' of section 's1'.*tisseract verify"):
        read_all(points)


@pytest.mark.parametrize(
    "wrong", [None, [], {}, {"n_points": 1}, {"n_points": "x"}, {"part_bytes": [1, 2]}]
)
def test_an_index_that_contradicts_itself_is_refused(tmp_path: Path, wrong: Any) -> None:
    _, points = written(tmp_path, rows(5))
    value = points.info.as_json() | wrong if wrong and "part_bytes" in wrong else wrong
    with pytest.raises(Corrupt):
        PointsInfo.of("tx", value)


def test_ranges_of_a_storage_read_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    file = RangeFile(open_storage(tmp_path), "a", 10)
    assert (file.seek(-3, 2), file.read(), file.seek(2), file.read(3), file.tell()) == (
        7, b"789", 2, b"234", 5,
    )  # fmt: skip
    assert file.readable()
    assert file.seekable()
    assert file.size() == 10
