"""Packed strings: looking up, taking and hashing agree with Python's own strings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.atlas.section_columns import StringValues

WORDS = st.lists(st.text(max_size=6), max_size=30)


@given(WORDS, st.sets(st.text(max_size=6), max_size=30))
def test_rows_are_found_by_value(words: list[str], others: set[str]) -> None:
    listed = sorted(others)
    found = StringValues.from_strings(words).find_in(StringValues.from_strings(listed))
    assert found.tolist() == [listed.index(w) if w in others else -1 for w in words]


def test_strings_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StringValues, "hashes", lambda self: np.zeros(len(self), np.uint64))
    words = StringValues.from_strings(["a", "b", "c"])
    assert words.take(np.array([2, 0, 1])).find_in(words).tolist() == [2, 0, 1]
