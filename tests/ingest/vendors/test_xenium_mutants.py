"""Damaged Xenium files: each is read as it is, or refused with a name and a place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tisseract.ingest.reader import ReadOptions

from .mutants import run_mutants, wanted
from .xenium_bundle import KINDS
from .xenium_checks import READER


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "write", "file"), KINDS, ids=[kind[0] for kind in KINDS])
def test_mutants(name: str, write: Any, file: str, tmp_path: Path) -> None:
    source, n = write(tmp_path / "source"), wanted(10)
    report = run_mutants(source, file, READER, ReadOptions(), tmp_path / "scratch", n=n)
    assert report.failures == []
    assert report.n == report.read + report.refused == n
