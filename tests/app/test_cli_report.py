"""`tisseract report`: the page, its name, its options, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tisseract.cli import main

from ..sections import make_raw, make_store


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    sections = {"s1": make_raw(seed=1), "s2": make_raw(seed=2, um_per_unit=None)}
    make_store(folder, sections)
    return str(folder / "atlas")


def test_report_has_a_default_name(
    atlas: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", atlas]) == 0
    captured = capsys.readouterr()
    assert "2 sections, 1 with warnings (no-unit 1) -> atlas.qc.html" in captured.out
    assert "report -> atlas.qc.html" in captured.err
    assert (tmp_path / "atlas.qc.html").stat().st_size > 5000


def test_report_in_json_and_quiet(
    atlas: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "qc.html"
    arguments = ["report", atlas, "-o", str(target), "--section", "s2", "--thumbnails", "image"]
    assert main([*arguments, "--json", "-q"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    facts = json.loads(captured.out)
    assert facts == {
        "output": str(target),
        "sections": 1,
        "warned": 1,
        "flags": {"no-unit": 1},
        "bytes": target.stat().st_size,
    }
    assert ">s1<" not in target.read_text(encoding="utf-8")
    assert main([*arguments, "-q"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "-q", "--force"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["-o", "qc.pdf"], 2, ".html"),
        (["-o", "nowhere/qc.html"], 2, "does not exist"),
        (["-o", "qc.html", "--section", "s3"], 1, "s3"),
        (["-o", "qc.html", "--thumbnails", "big"], 2, "density"),
    ],
)
def test_what_cannot_be_reported_is_said(
    atlas: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", atlas, *more]) == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
