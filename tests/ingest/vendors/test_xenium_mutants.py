"""Damaged Xenium files: each is read as it is, or refused with a name and a place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tisseract.ingest.reader import ReadOptions

from .mutants import run_mutants
from .xenium_bundle import KINDS
from .xenium_checks import READER

# 500 of each kind were run; `TISSERACT_MUTANTS=500` runs them again.
_N = int(os.environ.get("TISSERACT_MUTANTS", "10"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "write", "file"), KINDS, ids=[kind[0] for kind in KINDS])
def test_mutants(name: str, write: Any, file: str, tmp_path: Path) -> None:
    source = write(tmp_path / "source")
    report = run_mutants(source, file, READER, ReadOptions(), tmp_path / "scratch", n=_N)
    assert report.failures == []
    assert report.n == report.read + report.refused == _N
