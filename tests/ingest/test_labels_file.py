"""Tables of labels keep what is written where numbers would lose it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.annotate_labels import read_labels_file
from tisseract.ingest.source import BooleanValues, CategoricalValues, NumericValues


def test_words_stay_where_numbers_would_lose_them(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(
        "cell,code,big,day,number,whole,flag,part,none,na\n"
        "a,007,12345678901234567890,2024-01-31,1.5,3,True,4,,NA\n"
        "b,12,1,2024-02-01,2,4,False,,,1\n"
    )
    found = read_labels_file(path, {}).columns
    texts = {
        name: tuple(np.array(one.categories)[one.codes].tolist())
        for name, one in found.items()
        if isinstance(one, CategoricalValues)
    }
    assert texts == {
        "code": ("007", "12"),
        "big": ("12345678901234567890", "1"),
        "day": ("2024-01-31", "2024-02-01"),
        "na": ("NA", "1"),
    }
    numbers = {name: one for name, one in found.items() if isinstance(one, NumericValues)}
    assert set(numbers) == {"number", "whole", "part", "none"}
    assert numbers["number"].values.tolist() == [1.5, 2]
    assert numbers["whole"].values.dtype.kind == "i"
    assert isinstance(found["flag"], BooleanValues)


def test_names_of_rows_as_r_writes_them_are_the_ids(tmp_path: Path) -> None:
    path = tmp_path / "labels.tsv"
    path.write_text("type\tdepth\ncell0\ta\t1\ncell1\tb\t2\n")
    found = read_labels_file(path, {})
    assert found.ids.to_list() == ["cell0", "cell1"]
    assert list(found.columns) == ["type", "depth"]
    depth = found.columns["depth"]
    assert isinstance(depth, NumericValues)
    assert depth.values.tolist() == [1, 2]


@pytest.mark.parametrize("named", [None, "cells"])
def test_an_index_of_text_holds_the_ids(tmp_path: Path, named: str | None) -> None:
    """`adata.obs[["type"]].to_parquet()` names no index."""
    path = tmp_path / "labels.parquet"
    frame = pd.DataFrame({"type": ["x", "y"]}, index=pd.Index(["a-1", "b-1"], name=named))
    frame.to_parquet(path)
    found = read_labels_file(path, {})
    assert found.ids.to_list() == ["a-1", "b-1"]
    assert list(found.columns) == ["type"]
    frame.assign(cell_id=["c-1", "d-1"]).rename_axis(None).to_parquet(path)
    found = read_labels_file(path, {})
    assert found.ids.to_list() == ["c-1", "d-1"]
    assert list(found.columns) == ["type"]


def test_an_index_of_numbers_is_where_rows_stood(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pd.DataFrame({"name": ["a", "b"], "type": ["x", "y"]}, index=[7, 3]).to_parquet(path)
    found = read_labels_file(path, {})
    assert found.ids.to_list() == ["a", "b"]
    assert list(found.columns) == ["type"]


def test_ids_given_twice_name_the_option(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("cell,type\na,1\na,2\n")
    with pytest.raises(InputError, match=r"make them unique, or name another with `on`$"):
        read_labels_file(path, {})


@pytest.mark.parametrize("row", ["a,1,2,3", "a,1,2,3,4"])
def test_rows_longer_than_the_header_are_refused(tmp_path: Path, row: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"cell,type\n{row}\n{row}\n")
    with pytest.raises(InputError, match=r"labels\.csv"):
        read_labels_file(path, {})


@pytest.mark.parametrize("sep", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["csv", "tsv", "txt"])
def test_the_delimiter_is_that_of_the_file(tmp_path: Path, sep: str, ending: str) -> None:
    path = tmp_path / f"labels.{ending}"
    path.write_text("\n".join(sep.join(row) for row in (("cell id", "my type"), ("a", "b c"))))
    assert list(read_labels_file(path, {}).columns) == ["my_type"]
