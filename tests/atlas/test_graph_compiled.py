"""Compiled code that is kept on disk follows the functions it calls in other files."""

import importlib
import sys
from pathlib import Path

import pytest

CALLEE = """
from tisseract.atlas.graph.compiled import njit

_SHARE = {share}

@njit
def scaled(x):
    return x * _SHARE {more}
"""
CALLER = """
from callee_of_test import scaled
from tisseract.atlas.graph.compiled import njit

@njit
def twice(x):
    return scaled(scaled(x))
"""
NAMES = ("callee_of_test", "caller_of_test")


def run_twice(x: float) -> tuple[float, int]:
    """Result of a fresh import of the caller, and how often it had to be compiled."""
    for name in NAMES:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    twice = importlib.import_module(NAMES[1]).twice
    return float(twice(x)), sum(twice.stats.cache_misses.values())


def test_an_edit_of_a_callee_elsewhere_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # or an edit within a second goes unseen
    callee = tmp_path / f"{NAMES[0]}.py"
    (tmp_path / f"{NAMES[1]}.py").write_text(CALLER)
    callee.write_text(CALLEE.format(share="2.0", more=""))
    assert run_twice(1.0) == (4.0, 1)
    assert run_twice(1.0) == (4.0, 0)
    callee.write_text(CALLEE.format(share="3.0", more=""))
    assert run_twice(1.0) == (9.0, 1)
    callee.write_text(CALLEE.format(share="3.0", more="+ 1.0"))
    assert run_twice(1.0) == (13.0, 1)
    for name in NAMES:
        sys.modules.pop(name, None)
