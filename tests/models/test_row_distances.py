"""Nearest rows and sums of distances, against plain searches; blocks change nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.models.metrics import row_distances
from tisseract.models.metrics.row_distances import drawn_rows, encoded, nearest_rows, sums_by_group


def plain_nearest(x: np.ndarray, row: int, k: int) -> list[tuple[float, int]]:
    """Every distance by its definition, then sorted by distance and row."""
    others = [(float(np.sqrt(((x[j] - x[row]) ** 2).sum())), j) for j in range(len(x)) if j != row]
    return sorted(others)[:k]


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(3, 60),
    d=st.integers(1, 4),
    levels=st.integers(1, 5),
    block=st.sampled_from([8, 400, 2**25]),
    seed=st.integers(0, 9),
)
def test_nearest_rows_are_those_of_a_plain_search(
    n: int, d: int, levels: int, block: int, seed: int
) -> None:
    """Integers on few levels: many ties and many equal rows, so spares run out too."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, levels, (n, d)).astype(float)
    k = int(rng.integers(1, n))
    rows = drawn_rows(n, max(1, n // 2), seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_distances, "BLOCK_BYTES", block)
        patch.setattr(row_distances, "SPARE", 2)
        distance, neighbor = nearest_rows(x, rows, k)
    for i, row in enumerate(rows.tolist()):
        wanted = plain_nearest(x, row, k)
        assert neighbor[i].tolist() == [j for _, j in wanted]
        assert distance[i].tolist() == pytest.approx([a for a, _ in wanted], abs=1e-12)


def test_rows_far_from_the_origin_keep_their_order() -> None:
    """Expanded squares of such rows have lost every digit that tells neighbors apart."""
    x = 1e9 + np.random.default_rng(0).normal(size=(120, 3)) * 10.0
    x[0] = -1e9
    _, neighbor = nearest_rows(x, np.arange(120), 5)
    for row in range(120):
        assert neighbor[row].tolist() == [j for _, j in plain_nearest(x, row, 5)]


@pytest.mark.parametrize("block", [8, 1000, 2**25])
def test_sums_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    rng = np.random.default_rng(1)
    x, codes = rng.normal(size=(80, 3)), rng.integers(0, 4, 80)
    monkeypatch.setattr(row_distances, "BLOCK_BYTES", block)
    rows = drawn_rows(80, 30, 5)
    apart = np.sqrt(((x[rows, None] - x[None]) ** 2).sum(axis=2))
    wanted = np.stack([apart[:, codes == g].sum(axis=1) for g in range(4)], axis=1)
    np.testing.assert_allclose(sums_by_group(x, codes, 4, rows), wanted, rtol=1e-12)


def test_samples_are_seeded_sorted_and_without_repeats() -> None:
    rows = drawn_rows(100, 20, 3)
    assert np.array_equal(rows, drawn_rows(100, 20, 3))
    assert len(np.unique(rows)) == 20
    assert np.array_equal(rows, np.sort(rows))
    assert drawn_rows(10, 20, 0).tolist() == list(range(10))
    with pytest.raises(InvalidArgument, match="sample=0"):
        drawn_rows(10, 0, 0)


def test_labels_must_be_there() -> None:
    names, codes = encoded(["b", "a", "b"], 3)
    assert (names.tolist(), codes.tolist()) == (["a", "b"], [1, 0, 1])
    with pytest.raises(InvalidArgument, match=r"one label for each of 3 cells, but got shape \(2,"):
        encoded(["a", "b"], 3)
    with pytest.raises(InvalidArgument, match="got none for 1 of 3, the first at row 1"):
        encoded(np.array([0.0, np.nan, 1.0]), 3)
    with pytest.raises(InvalidArgument, match="a batch for every cell, but got none for 1 of 2"):
        encoded(np.array(["a", None], dtype=object), 2, "batch")


def test_too_few_rows() -> None:
    with pytest.raises(InvalidArgument, match=r"more than 3 cells.*got 3"):
        nearest_rows(np.zeros((3, 1)), np.arange(3), 3)
