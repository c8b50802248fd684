"""CHAOS and PAS, against transcriptions of their definitions and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.models.metrics import continuity
from tisseract.models.metrics.continuity import chaos, pas


def published_chaos(x: np.ndarray, labels: np.ndarray) -> float:
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    total = 0.0
    for domain in np.unique(labels):
        member = z[labels == domain]
        if len(member) > 2:
            for i in range(len(member)):
                total += min(math.dist(member[i], m) for j, m in enumerate(member) if j != i)
    return total / len(x)


def published_pas(x: np.ndarray, labels: np.ndarray, k: int) -> float:
    abnormal = 0
    for i in range(len(x)):
        near = sorted((math.dist(x[i], x[j]), j) for j in range(len(x)) if j != i)[:k]
        abnormal += sum(labels[j] != labels[i] for _, j in near) > k / 2
    return abnormal / len(x)


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(12, 70),
    levels=st.integers(2, 8),
    n_domains=st.integers(2, 5),
    seed=st.integers(0, 99),
    rows=st.sampled_from([5, 1000]),
)
def test_equal_their_definitions(n: int, levels: int, n_domains: int, seed: int, rows: int) -> None:
    """Integer coordinates: lattices with ties, and cells at one place."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, levels, (n, 2)).astype(float)
    x[:2] = [[0.0, 0.0], [levels, levels]]
    labels = rng.integers(0, n_domains, n)
    labels[:2] = [0, 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(continuity, "BLOCK_ROWS", rows)
        assert chaos(x, labels) == pytest.approx(published_chaos(x, labels), abs=1e-12)
        assert pas(x, labels) == published_pas(x, labels, 10)
        assert pas(x, labels, n_neighs=5) == published_pas(x, labels, 5)


def test_halves_by_hand() -> None:
    """A 10 x 10 lattice cut in halves hangs together; a random labeling does not."""
    x = np.stack(np.meshgrid(np.arange(10.0), np.arange(10.0)), axis=-1).reshape(-1, 2)
    halves = (x[:, 0] > 4).astype(int)
    step = 1.0 / x[:, 0].std()
    assert chaos(x, halves) == pytest.approx(step)
    assert pas(x, halves) == 0.0
    random = np.random.default_rng(0).integers(0, 4, 100)
    assert chaos(x, random) > step
    assert pas(x, random) > 0.7


def test_six_of_ten_is_abnormal_and_five_is_not() -> None:
    """A cell amid ten neighbors at known distances."""
    x = np.array([[0.0, 0.0]] + [[1.0 + 0.01 * i, 0.0] for i in range(10)])
    for differing, stray in ((5, False), (6, True)):
        labels = np.array(["own"] + ["other"] * differing + ["own"] * (10 - differing))
        only_first = sum((labels[np.arange(11) != i] != labels[i]).sum() > 5 for i in range(1, 11))
        assert pas(x, labels) * 11 == pytest.approx(only_first + stray)


def test_domains_of_two_cells_add_nothing_but_count() -> None:
    x = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 0.0], [4.0, 5.0]])
    labels = ["a", "a", "a", "b", "b"]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    assert chaos(x, labels) == pytest.approx(3 * math.dist(z[0], z[1]) / 5)
    assert chaos(x[:3] * [1.0, 0.0], ["a"] * 3) == pytest.approx(1 / math.sqrt(2 / 3))


def test_a_sample_of_cells() -> None:
    rng = np.random.default_rng(1)
    x, labels = rng.random((500, 2)), rng.integers(0, 3, 500)
    assert pas(x, labels, sample=500) == pas(x, labels)
    assert pas(x, labels, sample=250, seed=3) == pytest.approx(pas(x, labels), abs=0.1)
    assert pas(x, labels, sample=50, seed=3) == pas(x, labels, sample=50, seed=3)


def test_wrong_calls() -> None:
    x = np.random.default_rng(0).random((12, 2))
    with pytest.raises(InvalidArgument, match="two domains or more, but got 1"):
        pas(x, np.zeros(12))
    with pytest.raises(InvalidArgument, match=r"more than 12 cells.*got 12"):
        pas(x, np.arange(12), n_neighs=12)
    with pytest.raises(InvalidArgument, match=r"each of 12 cells, but got shape \(4,\)"):
        chaos(x, [0, 1, 2, 3])
    with pytest.raises(InvalidArgument, match="some cells, but got none"):
        chaos(np.zeros((0, 2)), [])
    x[3] = np.inf
    with pytest.raises(InvalidArgument, match=r"finite positions.*first at row 3"):
        pas(x, np.arange(12))
    with pytest.raises(InvalidArgument, match="finite positions"):
        chaos(x, np.arange(12))
