"""Tables of labels keep what is written where numbers would lose it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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


@pytest.mark.parametrize("sep", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["csv", "tsv", "txt"])
def test_the_delimiter_is_that_of_the_file(tmp_path: Path, sep: str, ending: str) -> None:
    path = tmp_path / f"labels.{ending}"
    path.write_text("\n".join(sep.join(row) for row in (("cell id", "my type"), ("a", "b c"))))
    assert list(read_labels_file(path, {}).columns) == ["my_type"]
