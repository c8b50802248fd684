"""Sums by key, however the keys come and are merged."""

from __future__ import annotations

import numpy as np
import pytest

from tisseract.ingest.vendors import key_sums
from tisseract.ingest.vendors.key_sums import KeySums


@pytest.mark.parametrize("n_sums", [0, 2])
def test_merged_again_and_again(monkeypatch: pytest.MonkeyPatch, n_sums: int) -> None:
    monkeypatch.setattr(key_sums, "_PENDING", 8)
    rng = np.random.default_rng(3)
    found = KeySums(n_sums)
    taken = []
    for size in (0, 1, 5, 40, 3, 200, 7, 1):
        keys = rng.integers(-60, 60, size)
        values = [rng.integers(0, 9, size) for _ in range(n_sums)]
        found.add(keys, *values)
        taken.append((keys, *values))
    keys, *values = (np.concatenate(column) for column in zip(*taken, strict=True))
    wanted, owner = np.unique(keys, return_inverse=True)
    got, sums = found.result()
    assert got.tolist() == wanted.tolist()
    assert len(sums) == n_sums
    for total, column in zip(sums, values, strict=True):
        assert total.tolist() == np.bincount(owner, column).tolist()


def test_nothing_and_too_few_sums() -> None:
    found = KeySums(1)
    assert [part.size for part in (found.result()[0], *found.result()[1])] == [0, 0]
    with pytest.raises(ValueError, match="expected 1 sums, but got 0"):
        found.add(np.arange(3))
