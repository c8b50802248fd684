"""Barcodes matched by hashes, against a dictionary; pitch and grid of turned arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InputError
from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.source import StringValues
from tisseract.ingest.vendors import parquet_table
from tisseract.ingest.vendors.spot_positions import (
    RowIndex,
    Spots,
    array_pitch,
    grid_step,
    place_spots,
)
from tisseract.ingest.vendors.spot_rows import spot_rows

words = st.lists(st.text("ACGT-1é", max_size=6), max_size=30)


@settings(max_examples=40, deadline=None)
@given(names=words.map(lambda found: list(dict.fromkeys(found))), asked=words)
def test_rows_are_those_of_a_dictionary(names: list[str], asked: list[str]) -> None:
    index = RowIndex.of(StringValues.from_strings(names), "barcodes")
    place = {name: k for k, name in enumerate(names)}
    found = index.find(StringValues.from_strings(asked)).tolist()
    assert found == [place.get(word, -1) for word in asked]


def test_equal_hashes_do_not_deceive(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one hash for all, only what is equal is found."""
    monkeypatch.setattr(StringValues, "hashes", lambda self: np.zeros(len(self), np.uint64))
    index = RowIndex.of(StringValues.from_strings(["a"]), "barcodes")
    assert index.find(StringValues.from_strings(["b", "a"])).tolist() == [-1, 0]


def test_names_twice_or_missing_are_refused() -> None:
    with pytest.raises(InputError, match="got 'a' twice"):
        RowIndex.of(StringValues.from_strings(["a", "b", "a"]), "barcodes")
    with pytest.raises(InputError, match="in every row"):
        RowIndex.of(StringValues.from_strings(["a", None]), "barcodes")


def spots(rows: np.ndarray, columns: np.ndarray, x: np.ndarray, y: np.ndarray) -> Spots:
    n = rows.size
    array = np.column_stack([x, y, rows, columns]).astype(np.float64)
    every = np.ones(n, bool)
    return Spots(every, every, rows.astype(np.int32), columns.astype(np.int32), array[:, :2], array)


@settings(max_examples=30, deadline=None)
@given(angle=st.floats(-3, 3), pitch=st.floats(5, 500), noise=st.floats(0, 0.02))
def test_pitch_and_grid_of_turned_arrays(angle: float, pitch: float, noise: float) -> None:
    row, k = np.divmod(np.arange(400), 20)
    column = 2 * k + row % 2
    rng = np.random.default_rng(0)
    x, y = column * pitch / 2, row * pitch * np.sqrt(3) / 2
    x, y = x + rng.normal(0, noise * pitch, 400), y + rng.normal(0, noise * pitch, 400)
    c, s = np.cos(angle), np.sin(angle)
    found = array_pitch(spots(row, column, c * x - s * y, s * x + c * y))
    assert found == pytest.approx(pitch, rel=2e-3)
    square = spots(row, k, c * k * pitch - s * row * pitch, s * k * pitch + c * row * pitch)
    assert grid_step(square) == pytest.approx(pitch)
    # A square array is no hexagonal one, and one row tells no pitch.
    assert array_pitch(square) is None
    assert grid_step(spots(row * 0, column, x, y)) is None


def test_columns_of_any_order_and_a_missing_one(tmp_path: Path) -> None:
    path = tmp_path / "tissue_positions.csv"
    path.write_text(
        "pxl_col_in_fullres,barcode,in_tissue,extra,array_row,array_col,pxl_row_in_fullres\n"
        "1.5,a,1,x,2,3,4.5\n"
    )
    names = StringValues.from_strings(["b", "a"])
    found = place_spots(path, RowIndex.of(names, "barcodes"))
    assert found.positions[1].tolist() == [1.5, 4.5]
    assert (found.array_row[1], found.array_col[1], found.in_tissue[1]) == (2, 3, True)
    drop = ReadOptions(reader_kwargs={"unplaced": "drop"})
    rows, notes = spot_rows(found, names, drop, path, what="spots", tissue_only=True)
    assert (rows.tolist(), notes) == ([1], ["1 spots without a position left out"])
    path.write_text("barcode,in_tissue,array_row\na,1,2\n")
    with pytest.raises(InputError, match="none called array_col, pxl_row"):
        place_spots(path, RowIndex.of(names, "barcodes"))


def test_a_header_of_a_table_that_pandas_wrote(tmp_path: Path) -> None:
    """The column of barcodes has no name there."""
    path = tmp_path / "tissue_positions.csv"
    path.write_text(
        ",in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres\na,1,2,3,4.5,1.5\n"
    )
    found = place_spots(path, RowIndex.of(StringValues.from_strings(["a"]), "barcodes"))
    assert found.positions.tolist() == [[1.5, 4.5]]


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_a_barcode_again_is_refused_wherever_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """In one batch, or in a later one; barcodes that the matrix lacks may come often."""
    path = tmp_path / "tissue_positions.parquet"
    names = ["a", "x", "x", "b", "c", "b"]
    columns = ("in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
    pq.write_table(pa.table({"barcode": names, **dict.fromkeys(columns, [1.0] * 6)}), path)
    defaults = (None, None, rows)
    monkeypatch.setattr(parquet_table.ParquetTable.batches, "__defaults__", defaults)
    index = RowIndex.of(StringValues.from_strings(["c", "b", "a"]), "barcodes")
    with pytest.raises(InputError, match="every barcode once, but got 'b' again"):
        place_spots(path, index)
