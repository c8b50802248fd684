"""Features that are no genes: `info` lists their tables, `gene` says where they are."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tisseract.cli import main
from tisseract.ingest.source import ApartFeatures, MatrixCounts

from ..sections import make_raw, make_store, random_counts


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    matrix = random_counts(60, 5, 0)
    raw = make_raw(n_obs=60, counts=matrix[:, :3])
    blanks = ApartFeatures(("Blank-1", "Blank-2"), ("Blank Codeword",) * 2, np.array([3, 4]))
    raw = replace(raw, counts=MatrixCounts(matrix), apart={"controls": blanks})
    folder = tmp_path_factory.mktemp("apart")
    make_store(folder, {"bare": make_raw(n_obs=20, n_vars=3), "s1": raw})
    return str(folder / "atlas")


def test_info_lists_elements_and_tables(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", place, "--section", "s1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["apart"] == ["controls"]
    for kind in ("points", "shapes", "images", "labels", "notes"):
        assert not facts[kind]
    assert main(["info", place, "--section", "s1"]) == 0
    assert "apart" in capsys.readouterr().out


@pytest.mark.parametrize(
    "asked", [["gene", "Blank-1"], ["query", "--genes", "Blank-1"], ["query", "--obs", "FILTER"]]
)
def test_a_control_is_told(
    place: str, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *rest = [one.replace("FILTER", "`counts:Blank-1` > 0") for one in asked]
    assert main([verb, place, *rest]) == 1
    told = capsys.readouterr().err
    assert "'Blank-1', which is of the table 'controls' beside the genes of section 's1'" in told
    assert main(["gene", place, "Blank-9"]) == 1
    assert "table" not in capsys.readouterr().err


# pandas 3.1 deprecates what anndata calls.
@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")
def test_export_names_what_it_leaves_out(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", place, "-o", str(tmp_path / "out.h5ad"), "--missing", "zero"]) == 0
    assert "left out, as they are no genes: controls of s1" in capsys.readouterr().err
