"""The commands `index` and `similar` give what Python gives."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import tisseract
from tisseract.cli import main
from tisseract.testing import small_atlas

SECTION = "E10.5_e1"
CIRCLE = "80,80,60"


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = str(small_atlas(tmp_path_factory.mktemp("cli_similar"), n_cells=800).url)
    assert main(["index", url, "--window-um", "100,200", "-q", "--run-json", "-"]) == 0
    return url


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_index_and_search(atlas: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "index", atlas, "--window-um", "100,200", "--run-json", "-") == []
    place = ["--section", SECTION, "--circle", CIRCLE]
    file = tmp_path / "hits.csv"
    rows = ask(capsys, "similar", atlas, *place, "-k", "5", "--window-um", "100", "-o", str(file))
    opened = tisseract.open(atlas)
    like = opened.region(SECTION, circle=(80, 80, 60))
    wanted = opened.similar(like, k=5, window_um=100).table
    assert len(rows) == len(wanted) > 0
    assert [row["section"] for row in rows] == wanted["section"].tolist()
    assert [row["score"] for row in rows] == pytest.approx(wanted["score"].tolist())
    assert pd.read_csv(file)["xmin"].tolist() == pytest.approx(wanted["xmin"].tolist())
    again = ["similar", atlas, *place, "-o", str(file)]
    assert ask(capsys, *again, code=2)["error"]["message"].endswith("--overwrite to replace it")


def test_an_index_is_added_to_by_its_name_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = str(small_atlas(tmp_path, n_cells=400).url)
    opened = tisseract.open(url, read_only=False)
    opened.build_index("own", window_um=(100, 200), n_genes=30, n_dims=5)
    assert ask(capsys, "index", url, "--key", "own") == []  # the same parameters: nothing lacks
    assert "differ" in ask(capsys, "index", url, "--key", "own", "--window-um", "9", code=1)[
        "error"]["message"]  # fmt: skip


def test_gene_programmes(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    genes = tisseract.open(atlas).section(SECTION).panel.symbol[:2].tolist()
    names = genes if all(genes) else tisseract.open(atlas).section(SECTION).panel.gene_id[:2]
    rows = ask(capsys, "similar", atlas, "--genes", f"{names[0]}=1,{names[1]}=-1", "-k", "3")
    wanted = tisseract.open(atlas).similar(genes={names[0]: 1, names[1]: -1}, k=3).table
    assert [row["score"] for row in rows] == pytest.approx(wanted["score"].tolist())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "is wanted, one of the two"),
        (["--genes", "Sox2=x"], "weights like Sox2=1"),
        (["--circle", "1,2,3"], "--section is wanted with --circle"),
        (["--section", SECTION, "--circle", CIRCLE, "-o", "hits.txt"], ".geojson or .png"),
        (["--section", SECTION, "--circle", CIRCLE, "--bbox", "0,0,1,1"], "one place is wanted"),
    ],
)
def test_wrong_usage(
    atlas: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ask(capsys, "similar", atlas, *arguments, code=2)
    assert words in told["error"]["message"]


def test_a_missing_index_names_the_command(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--section", SECTION, "--circle", CIRCLE, "--key", "other"]
    told = ask(capsys, "similar", atlas, *place, code=1)
    assert "tisseract index" in told["error"]["message"]
