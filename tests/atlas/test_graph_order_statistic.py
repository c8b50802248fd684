"""Order statistics over blocks equal those of the numbers in one array, bit for bit."""

import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tisseract.atlas.errors import Corrupt, InvalidArgument
from tisseract.atlas.graph import order_statistic
from tisseract.atlas.graph.order_statistic import order_statistics, percentile
from tisseract.atlas.quadtree import Runs

TINY = float(np.nextafter(0.0, 1.0))
LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True)
class Numbers:
    """Numbers of the rows of a section, one a row."""

    all: NDArray[np.float64]

    def __call__(self, runs: Runs) -> NDArray[np.float64]:
        return np.concatenate([self.all[start:stop] for start, stop in runs])


@dataclass
class Visits:
    """Visits blocks in a shuffled order, as workers finish them, and counts the passes."""

    seed: int = 0
    passes: int = 0
    largest: int = field(default=0)

    def __call__(
        self, function: Callable[[Runs], object], blocks: Sequence[Runs]
    ) -> Iterable[object]:
        self.passes += 1
        there = pickle.loads(pickle.dumps(function))
        order = np.random.default_rng(self.seed).permutation(len(blocks))
        for b in order:
            result: Any = there(blocks[b])
            self.largest = max(self.largest, *(part.bins.size for part in result))
            yield result


def cut_blocks(n: int, cuts: Iterable[int]) -> list[list[tuple[int, int]]]:
    """Cut n rows into blocks."""
    ends = sorted({0, n, *(cut for cut in cuts if cut < n)})
    return [[(a, b)] for a, b in pairwise(ends)]


def assert_exact(values: NDArray[np.float64], cuts: Iterable[int], qs: Iterable[float]) -> None:
    """Compare all ranks with sorting, and percentiles with NumPy."""
    numbers, blocks = Numbers(values), cut_blocks(values.size, cuts)
    found = order_statistics(numbers, range, blocks, Visits(1))
    assert np.array(found).tobytes() == (np.sort(values) + 0.0).tobytes()
    for q in qs:
        expected = float(np.percentile(values, q))
        ours = percentile(numbers, q, blocks, Visits(2))
        assert np.float64(ours).tobytes() == np.float64(expected + 0.0).tobytes()


lengths = st.one_of(
    st.floats(0, 1e300),
    st.floats(0, 1),
    st.sampled_from([0.0, -0.0, TINY, 3 * TINY, 1e-308, 1.0, float(np.nextafter(1.0, 2.0)), 1e300]),
)


@given(
    values=st.lists(lengths, min_size=1, max_size=60),
    cuts=st.lists(st.integers(1, 59), max_size=5),
    qs=st.lists(st.floats(0, 100), max_size=4),
    bins=st.sampled_from([(2, 3), (4, 4), (8, 64), (2**15, 2**18)]),
)
@settings(max_examples=200, deadline=None)
def test_blocks_do_not_show(
    values: list[float], cuts: list[int], qs: list[float], bins: tuple[int, int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_statistic, "_BLOCK_BINS", bins[0])
        patch.setattr(order_statistic, "_ALL_BINS", bins[1])
        assert_exact(np.array(values), cuts, [0, 25, 50, 99, 100, *qs])


@given(n=st.integers(1, 400), q=st.floats(0, 100), seed=st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_percentiles_equal_numpy(n: int, q: float, seed: int) -> None:
    values = np.random.default_rng(seed).gamma(2.0, 10.0, n)
    ours = percentile(Numbers(values), q, cut_blocks(n, [n // 3, n // 2]))
    assert ours == np.percentile(values, q)


def test_two_passes_and_small_tables_for_many_numbers() -> None:
    values = np.random.default_rng(0).gamma(2.0, 10.0, 1_500_000)
    visits = Visits()
    blocks = cut_blocks(values.size, range(0, values.size, 250_000))
    assert percentile(Numbers(values), 99.0, blocks, visits) == np.percentile(values, 99.0)
    assert visits.passes == 2
    assert visits.largest <= 2**15


def test_one_pass_where_numbers_repeat() -> None:
    values = np.random.default_rng(0).integers(0, 5000, 300_000) / 7
    visits = Visits()
    blocks = cut_blocks(values.size, [1, 100_000])
    assert percentile(Numbers(values), 31.4, blocks, visits) == np.percentile(values, 31.4)
    assert visits.passes == 1


@pytest.mark.parametrize("spread", [1, 2**20, 2**40])
def test_passes_are_bounded_for_any_numbers(spread: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers as near to each other as can be, and numbers of all magnitudes."""
    monkeypatch.setattr(order_statistic, "_BLOCK_BINS", 2**3)
    monkeypatch.setattr(order_statistic, "_ALL_BINS", 2**4)
    bits = np.uint64(0x3FF0 << 48) + np.arange(4096, dtype=np.uint64) * np.uint64(spread)
    values = np.concatenate([bits.view(np.float64), np.geomspace(1e-300, 1e300, 4096)])
    visits = Visits()
    assert_exact(values, [1000, 5000], [73.1])
    order_statistics(Numbers(values), lambda n: [n // 3], cut_blocks(8192, [77]), visits)
    assert visits.passes <= 63 / 3 + 1


def test_infinity_is_a_number_like_others() -> None:
    values = np.array([np.inf, 2.0, np.inf, LARGEST])
    found = order_statistics(Numbers(values), range, [[(0, 4)]])
    assert found == [2.0, LARGEST, np.inf, np.inf]
    assert percentile(Numbers(values), 90, [[(0, 4)]]) == np.inf


@pytest.mark.parametrize("wrong", [np.nan, -1.0, -np.inf])
def test_what_is_no_length_is_refused(wrong: float) -> None:
    with pytest.raises(Corrupt, match="at least zero"):
        percentile(Numbers(np.array([1.0, wrong, 2.0])), 50, [[(0, 3)]])


@pytest.mark.parametrize("q", [-0.1, 100.5, np.nan, True, "5"])
def test_what_is_no_percentile_is_refused(q: Any) -> None:
    with pytest.raises(InvalidArgument, match="from 0 to 100"):
        percentile(Numbers(np.ones(3)), q, [[(0, 3)]])


def test_no_numbers() -> None:
    nothing = Numbers(np.empty(0))
    assert percentile(nothing, 50, [[(0, 0)]]) is None
    assert percentile(nothing, 50, []) is None
    assert order_statistics(nothing, lambda _: (), []) == []


def test_ranks_that_are_not_there() -> None:
    with pytest.raises(InvalidArgument, match="ranks from 0 to 2"):
        order_statistics(Numbers(np.ones(3)), lambda _: [3], [[(0, 3)]])
