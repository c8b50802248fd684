"""Tables of vendors: text and Parquet give the same, and damage names its place."""

from __future__ import annotations

import gzip
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.source import CategoricalValues, NumericValues, StringValues
from tisseract.ingest.vendors import column_values, text_table
from tisseract.ingest.vendors.rings import largest_rings, ring_outlines, vertex_rings
from tisseract.ingest.vendors.table import open_table
from tisseract.ingest.vendors.transcripts import transcripts

FRAME = pd.DataFrame(
    {
        "id": ["007", "a", "b", "NA"] * 5,
        "x": np.arange(20) * 0.5,
        "n": np.arange(20),
        "kind": ["big", "small"] * 10,
        "flag": [True, False] * 10,
    }
)


def written(folder: Path, form: str, frame: pd.DataFrame = FRAME) -> Path:
    path = folder / f"table.{form}"
    if form == "parquet":
        frame.to_parquet(path, row_group_size=3)
    elif form == "tsv":
        frame.to_csv(path, sep="\t", index=False)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("form", ["csv", "csv.gz", "tsv", "parquet"])
class TestForms:
    def test_columns_are_those_of_pandas(self, tmp_path: Path, form: str) -> None:
        table = open_table(written(tmp_path, form))
        assert table.names == tuple(FRAME)
        assert table.n_rows == len(FRAME)
        assert table.strings("id").to_list() == FRAME["id"].tolist()
        np.testing.assert_array_equal(table.numbers("x"), FRAME["x"])
        obs = {name: column.read() for name, column in table.columns().items()}
        assert isinstance(obs["kind"], CategoricalValues)
        assert np.array(obs["kind"].categories)[obs["kind"].codes].tolist() == list(FRAME["kind"])
        assert isinstance(obs["n"], NumericValues)
        np.testing.assert_array_equal(obs["n"].values, FRAME["n"])

    def test_columns_of_numbers_come_in_one_pass(self, tmp_path: Path, form: str) -> None:
        table = open_table(written(tmp_path, form))
        passes: list[Any] = []

        class Watched:
            def batches(self, *asked: Any) -> Any:
                passes.append(asked)
                return table.batches(*asked)

        watched: Any = Watched()
        found = column_values.numbers_of(watched, "n", "x", "n")
        np.testing.assert_array_equal(found, FRAME[["n", "x", "n"]].to_numpy(float))
        assert len(passes) == 1

    def test_rows_are_taken_in_any_order(self, tmp_path: Path, form: str) -> None:
        rows = np.array([5, 0, 19])
        columns = open_table(written(tmp_path, form)).columns(["id", "x"], rows)
        columns = pickle.loads(pickle.dumps(columns))
        text, numbers = columns["id"].read(), columns["x"].read()
        assert isinstance(text, StringValues)
        assert text.to_list() == [FRAME["id"][k] for k in rows]
        assert isinstance(numbers, NumericValues)
        assert numbers.values.tolist() == [2.5, 0.0, 9.5]

    def test_batches_keep_the_order_of_the_question(self, tmp_path: Path, form: str) -> None:
        batches = list(open_table(written(tmp_path, form)).batches(["n", "id"]))
        assert batches[0].schema.names == ["n", "id"]
        assert sum(batch.num_rows for batch in batches) == len(FRAME)

    def test_unknown_column_names_near_ones(self, tmp_path: Path, form: str) -> None:
        table = open_table(written(tmp_path, form))
        for call in (table.strings, table.numbers, lambda name: table.columns([name])):
            with pytest.raises(InputError, match=r"column 'kinds'.*'kind'"):
                call("kinds")

    def test_transcripts_are_placed_and_named(self, tmp_path: Path, form: str) -> None:
        frame = pd.DataFrame(
            {"gx": [1.0, 2.0], "gy": [3.0, 4.0], "x": [7.0, 8.0], "x_source": [5, 6],
             "gene": ["A", "B"], "cell": ["c1", "none"]}
        )  # fmt: skip
        source = transcripts(
            open_table(written(tmp_path, form, frame)),
            x="gx", y="gy", gene="gene", cell="cell", no_cell=("none",), scale=2.0,
            flip=True,
        )  # fmt: skip
        found = pa.Table.from_batches(list(source.batches())).to_pandas()
        assert found["x"].tolist() == [2.0, 4.0]
        assert found["y"].tolist() == [-6.0, -8.0]
        assert found["x_source_source"].tolist() == [7.0, 8.0]
        assert found["x_source"].tolist() == [5, 6]
        assert found["cell"].isna().tolist() == [False, True]
        assert (source.feature_key, source.instance_key) == ("gene", "cell")


def test_transcripts_at_places_that_are_no_numbers_name_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "parquet", pd.DataFrame({"x": ["a"], "y": [1], "gene": ["A"]}))
    source = transcripts(open_table(path), x="x", y="y", gene="gene")
    with pytest.raises(InputError, match=r"table\.parquet"):
        list(source.batches())


def test_columns_are_read_in_groups_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(column_values, "_GROUP_BYTES", 2 * 20 * column_values._ROW_BYTES)
    passes: list[Any] = []
    load = text_table._load

    def counted(table: Any, names: Any) -> Any:
        passes.append(names)
        return load(table, names)

    monkeypatch.setattr(text_table, "_load", counted)
    columns = open_table(written(tmp_path, "csv")).columns()
    for column in columns.values():
        column.read()
    assert passes == [("id", "x"), ("n", "kind"), ("flag",)]


def test_what_turns_to_text_further_down_is_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_table, "_BLOCK", 128)
    path = tmp_path / "a.csv"
    lines = [f"{k},{k}" for k in range(400)]
    lines[300:302] = ["0.5,R&D", "1,2"]
    path.write_text("n,m\n" + "\n".join(lines) + "\n")
    columns = open_table(path).columns()
    first, second = columns["n"].read(), columns["m"].read()
    assert isinstance(second, StringValues)
    assert second.to_list()[300] == "R&D"
    assert isinstance(first, NumericValues)
    assert first.values[299:302].tolist() == [299, 0.5, 1]


def test_transcripts_whose_first_block_misleads_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_table, "_BLOCK", 2048)
    path = tmp_path / "spots.csv"
    lines = [f"{k},2,G,5,NA,1.5,{k}" for k in range(3000)]
    lines[2500] = "1,2,G,12.75,7,R&D,3"
    path.write_text("x,y,gene,intensity,late,mixed,n\n" + "\n".join(lines) + "\n")
    source = transcripts(open_table(path), x="x", y="y", gene="gene")
    found = pa.Table.from_batches(list(source.batches())).to_pandas()
    assert found["intensity"].tolist() == [12.75 if k == 2500 else 5 for k in range(3000)]
    assert found["late"].dropna().tolist() == [7]
    assert found["mixed"].tolist()[2499:2501] == ["1.5", "R&D"]
    assert found["n"].dtype == np.int64


def test_a_cell_of_another_kind_is_no_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n3,x\n")
    with pytest.raises(InputError) as refused:
        open_table(path).numbers("b")
    assert "truncated" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["007", "12"], StringValues),
        (["-07", "12"], StringValues),
        (["12345678901234567890", "1"], StringValues),
        (["1234567890123456", "1.5"], StringValues),
        (["2024-01-31", "2024-02-01"], StringValues),
        (["2024-01-31 10:00:00", "2024-02-01 10:00:00"], StringValues),
        (["1234567890123456789", "1"], NumericValues),
        (["0", "0.5"], NumericValues),
        (["-0.5", " 12"], NumericValues),
        (["-0", "5"], NumericValues),
    ],
)
def test_words_that_numbers_would_lose_are_text(
    tmp_path: Path, words: list[str], kind: type
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,value\n" + "".join(f"{k},{w}\n" for k, w in enumerate(words * 20)))
    column = open_table(path).columns()["value"]
    values = column.read()
    text = isinstance(values, StringValues | CategoricalValues)
    assert text == (kind is StringValues) == (column.kind == "string")
    if isinstance(values, CategoricalValues):
        assert sorted(values.categories) == sorted(words)
    if isinstance(values, NumericValues):
        written = [type(value)(word) for word, value in zip(words, values.values, strict=False)]
        assert written == values.values[: len(words)].tolist()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Cell ID,Mid X um,Mid Y um\n1,2,3\n", ("Cell ID", "Mid X um", "Mid Y um")),
        ("Cell ID,Mid X um,Mid Y um\n", ("Cell ID", "Mid X um", "Mid Y um")),
        ("Cell ID;Area (um2, mean)\n1;25\n", ("Cell ID", "Area (um2, mean)")),
        ('"a, b"\tc\n1\t2\n', ("a, b", "c")),
        ('"a b" "c"\n1 2\n', ("a b", "c")),
        ("x,y\nr1,1,2\n", ("column_0", "x", "y")),
        ("Cell ID\n17\n", ("Cell ID",)),
    ],
)  # fmt: skip
def test_delimiters_have_a_rank(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    assert open_table(path).names == names


def test_one_name_twice_among_many_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",".join([*(f"g{k}" for k in range(60_000)), "g7"]) + "\n")
    started = time.process_time()
    with pytest.raises(InputError, match="'g7' twice"):
        open_table(path)
    assert time.process_time() - started < 3


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n3\n")
    with pytest.raises(InputError, match=r"a\.csv.*Row #3"):
        open_table(path).numbers("a")
    path.write_text("a,b\n1,2\n3,x\n")
    with pytest.raises(InputError, match=r"a\.csv.*Row #3.*'x'"):
        open_table(path).numbers("b")


@pytest.mark.parametrize(
    ("text", "match"),
    [("", "empty"), ("a,a\n1,2\n", "'a' twice"), ("\xff\xfe\0", "table")],
)
def test_no_table(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=match):
        open_table(path).numbers("b")


@pytest.mark.parametrize("text", ["a,b\n", "a,b"])
def test_a_header_alone_has_no_rows(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    table = open_table(path)
    assert (table.n_rows, table.numbers("a").tolist(), len(table.strings("b"))) == (0, [], 0)


def test_names_of_rows_as_r_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b'"x" "y"\n"r1" 1 2\n"r2" 3 4\n'))
    table = open_table(path)
    assert table.names == ("column_0", "x", "y")
    assert table.strings("column_0").to_list() == ["r1", "r2"]


class TestRings:
    IDS = StringValues.from_strings([f"c{k}" for k in range(6)])

    @pytest.mark.parametrize("form", ["csv", "parquet"])
    @pytest.mark.parametrize("at_once", [4, 1 << 19])
    def test_vertices_of_a_cell_form_a_ring(
        self, tmp_path: Path, form: str, at_once: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tisseract.ingest.vendors.rings._VERTICES", at_once)
        order = [3, 0, 1, 5, 9, 2]  # 9 is no cell of the matrix
        lengths = [3, 4, 5, 3, 3, 6]
        cells = np.repeat(order, lengths)
        frame = pd.DataFrame(
            {"cell_id": [f"c{k}" for k in cells], "vx": np.arange(24.0), "vy": np.arange(24.0) + 1}
        )
        table = open_table(written(tmp_path, form, frame))
        rings = vertex_rings(table, "cell_id", "vx", "vy", self.IDS)
        pieces = list(rings.pieces())
        assert np.concatenate([p.rows for p in pieces]).tolist() == [3, 0, 1, 5, -1, 2]
        assert np.concatenate([p.counts for p in pieces]).tolist() == lengths
        assert np.concatenate([p.vertices for p in pieces])[:, 0].tolist() == list(range(24))
        shapes = pa.concat_tables(list(ring_outlines(rings, self.IDS, scale=2.0).tables()))
        assert shapes["cell_id"].to_pylist() == ["c3", "c0", "c1", "c5", "c2"]

    def test_largest_part_of_a_geometry_is_taken(self) -> None:
        import shapely

        small, large = shapely.box(0, 0, 1, 1), shapely.box(5, 5, 9, 9)
        geometry = pa.array([shapely.MultiPolygon([small, large]).wkb, None, small.wkb])
        piece = largest_rings(geometry, np.array([4, 3, -1]))
        assert piece.rows.tolist() == [4, -1]
        assert piece.counts.tolist() == [5, 5]
        assert piece.vertices[:5].min() == 5.0
        assert piece.n_further == 1
        with pytest.raises(ValueError, match="no well-known binary"):
            largest_rings(pa.array([b"\x01\x03junk"]), np.array([0]))


def test_decimal_commas_are_told(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    path.write_text("cell;x\na;12121,66\nb;3,5\n")
    with pytest.raises(InputError, match=r"'12121,66'; numbers are written with decimal commas"):
        open_table(path).numbers("x")
