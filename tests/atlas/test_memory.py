"""Byte budgets: read, printed, refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.atlas import memory
from tisseract.atlas.errors import BudgetExceeded, InvalidArgument
from tisseract.atlas.memory import (
    available_bytes,
    default_limit,
    format_bytes,
    parse_bytes,
    refuse_above,
)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1GiB", 2**30),
        ("512 MB", 512 * 10**6),
        (" 2.5 GiB ", int(2.5 * 2**30)),
        ("1kb", 1000),
        ("7", 7),
        ("7 B", 7),
        ("1T", 10**12),
        (2**33, 2**33),
        (np.int64(12), 12),
    ],
)
def test_amounts(text: str | int, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1 GiB", "1 XB", "1e9", "0", 0, -3, True, 1.5, "9" * 30]
)
def test_no_amounts(text: str) -> None:
    with pytest.raises(InvalidArgument, match="an amount of memory"):
        parse_bytes(text)


@given(st.integers(min_value=0, max_value=2**52))
def test_printed_amounts_are_close(amount: int) -> None:
    text = format_bytes(amount)
    if amount:
        assert parse_bytes(text.replace(",", "")) == pytest.approx(amount, rel=0.06)


def test_negative_amounts_print() -> None:
    assert format_bytes(-2048) == "-2.0 KiB"
    assert format_bytes(5 * 2**40).endswith("TiB")


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_bytes() > 0
    monkeypatch.delenv("TISSERACT_MEMORY_LIMIT", raising=False)
    assert 2**20 <= default_limit() <= 2 * 2**30
    assert parse_bytes(None) > 0
    monkeypatch.setenv("TISSERACT_MEMORY_LIMIT", "300 MiB")
    assert default_limit() == parse_bytes(None) == 300 * 2**20
    monkeypatch.delenv("TISSERACT_MEMORY_LIMIT")
    monkeypatch.setattr(memory, "_cgroup_bytes", lambda: 2**24)
    assert available_bytes() == 2**24
    assert default_limit() == 2**23


def test_refusal_names_the_work_the_figures_and_the_way_out() -> None:
    refuse_above(10, 10, "x", "y")
    with pytest.raises(BudgetExceeded) as caught:
        refuse_above(2**20, 2**30, "reading 3 sections", "select fewer genes")
    assert str(caught.value) == (
        "reading 3 sections needs about 1.0 GiB, but got a memory limit of 1.0 MiB; "
        "select fewer genes"
    )
    assert isinstance(caught.value, MemoryError)
