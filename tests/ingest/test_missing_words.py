"""Words of an h5ad that mean a missing value."""

from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from tisseract.ingest.h5ad import H5adReader
from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.source import CategoricalValues, StringValues

from . import h5ad_files as h5

READER = H5adReader()
UNIT = ReadOptions(um_per_unit=1.0)
REST = h5.N_CELLS - 6


@pytest.fixture
def path(tmp_path: Path) -> Path:
    text = ["tumor", "NA", "stroma", "NA", "None", "x"]
    file = h5.write_h5ad(tmp_path / "a.h5ad", obs={"text": [*text, *["y"] * REST]})
    with h5py.File(file, "a") as opened:
        codes = [2, 0, 1, 0, 0, -1, *[2] * REST]
        h5.write_categorical(opened["obs"], "label", codes, ["NA", "stroma", "tumor"])
    return file


def test_categories_that_look_missing_are_noted(path: Path) -> None:
    (note,) = [one for one in READER.inspect(path, UNIT).notes if "'label'" in one]
    assert "'NA' in 3 cells" in note
    assert '{"missing_values": ["NA"]}' in note


def test_words_become_missing(path: Path) -> None:
    options = replace(UNIT, reader_kwargs={"missing_values": ["NA"]})
    assert not [one for one in READER.inspect(path, options).notes if "'label'" in one]
    raw = READER.open(path, options)
    label = raw.obs["label"].read()
    assert isinstance(label, CategoricalValues)
    assert label.categories == ("stroma", "tumor")
    assert label.codes.tolist()[:7] == [1, -1, 0, -1, -1, -1, 1]
    text = raw.obs["text"].read()
    assert isinstance(text, StringValues)
    assert text.to_list()[:6] == ["tumor", None, "stroma", None, "None", "x"]


def test_what_is_no_list_of_words_is_a_fault(path: Path) -> None:
    options = replace(UNIT, reader_kwargs={"missing_values": [1]})
    assert "missing_values" in str(READER.inspect(path, options).faults[0])
