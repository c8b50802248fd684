"""Exact order statistics of numbers that are never in memory together.

A pass counts the numbers of every block by the leading bits of their order, and keeps as many bits
as a table of bounded size can tell apart: all 64 where the numbers repeat (lattices) or are few,
about 24 for a hundred million lengths. The bin in which a wanted rank falls is then counted
again, by itself. Its few thousand numbers fit, so two passes end it; one where the first table
kept all bits. Counting cannot err, so the result depends neither on the borders of blocks nor on
the order in which they are visited, only the number of passes may.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, cast

import numpy as np

from ..errors import Corrupt, InvalidArgument

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..quadtree import Runs

__all__ = ["Run", "Values", "check_percentile", "order_statistics", "percentile", "run_serially"]

type Run = Callable[[Callable[[Runs], object], Sequence[Runs]], Iterable[object]]
"""Applies a function to the row runs of each block, in any order, and hands out the results."""

type _Span = tuple[int, int]
"""First and last bits of a range of numbers."""

type Values = Callable[[Runs], NDArray[np.float64] | Iterator[NDArray[np.float64]]]
"""Picklable; gives the numbers of some rows, none negative, in any shape and order, at once or
array by array."""

# Bins that a block may send: 0.5 MiB. Bins that are kept of all blocks: 4 MiB, a few times that
# while they are merged.
_BLOCK_BINS = 2**15
_ALL_BINS = 2**18
_INFINITY = 0x7FF0_0000_0000_0000


@dataclass(frozen=True, slots=True)
class _Histogram:
    """How often numbers begin with which bits; the bits of numbers >= 0 ascend as they do."""

    shift: int
    """Trailing bits that were cut off."""
    bins: NDArray[np.uint64]
    """(b,) leading bits, ascending."""
    counts: NDArray[np.int64]
    """(b,) numbers that begin with them."""

    @classmethod
    def of(
        cls, bits: NDArray[np.uint64], counts: NDArray[np.int64], *, cut: int, least: int, most: int
    ) -> _Histogram:
        """Count ascending bits, of which `cut` are cut off already.

        Cuts off `least` bits in all, and more only where there would be more than `most` bins.
        """
        further = max(least - cut, _excess_bits(bits, most))
        bits = bits >> np.uint64(further)
        first = np.flatnonzero(np.concatenate([[True], bits[1:] != bits[:-1]])[: bits.size])
        totals = np.add.reduceat(counts, first) if first.size else counts
        return cls(cut + further, bits[first], totals)

    @classmethod
    def merged(cls, parts: Sequence[_Histogram], most: int = _ALL_BINS) -> _Histogram:
        """Add up histograms at the coarsest resolution among them, or a coarser one."""
        cut = max(part.shift for part in parts)
        bits = np.concatenate([part.bins >> np.uint64(cut - part.shift) for part in parts])
        counts = np.concatenate([part.counts for part in parts])
        order = np.argsort(bits, kind="stable")
        return cls.of(bits[order], counts[order], cut=cut, least=cut, most=most)

    def locate(self, rank: int) -> tuple[_Span, int]:
        """Bin that a rank falls in, and the rank among the numbers of that bin."""
        cumulated = np.cumsum(self.counts)
        at = int(np.searchsorted(cumulated, rank, side="right"))
        low = int(self.bins[at]) << self.shift
        return (low, low + (1 << self.shift) - 1), rank - int(cumulated[at] - self.counts[at])


def _excess_bits(bits: NDArray[np.uint64], most: int) -> int:
    """Fewest trailing bits to cut off ascending numbers so that at most `most` differ."""
    differ = bits[1:] ^ bits[:-1]
    # Numbers that differ, less one: falls as more bits are cut off.
    return bisect_left(
        range(64), 1 - most, key=lambda cut: -int(np.count_nonzero(differ >> np.uint64(cut)))
    )


def run_serially(function: Callable[[Runs], object], blocks: Sequence[Runs]) -> Iterable[object]:
    """Apply a function to one block after the other."""
    return map(function, blocks)


def order_statistics(
    values: Values,
    ranks: Callable[[int], Sequence[int]],
    blocks: Sequence[Runs],
    run: Run = run_serially,
) -> list[float]:
    """Select numbers by rank among all numbers of all blocks.

    Parameters
    ----------
    values : callable
        Gives the numbers of some rows: float64, none negative, none NaN; infinity may be among
        them.
    ranks : callable
        Given how many numbers there are, tells the wanted ranks; 0 is the smallest number.
    blocks : sequence of row runs
        Together all rows once.
    run : callable
        How to visit the blocks.

    Returns
    -------
    list of float
        One number a rank, exact to the bit. The same for any blocks and order of visits.

    Raises
    ------
    Corrupt
        A number is negative or NaN.
    InvalidArgument
        There is no such rank.

    Notes
    -----
    One or two passes in practice, five at most: each pass tells apart at least 15 further bits.
    Memory: 48 bytes a number of an array in a task, some 16 MiB where results are added up.

    Examples
    --------
    >>> def lengths(runs):
    ...     return np.concatenate([np.arange(start, stop) / 4 for start, stop in runs])
    >>> order_statistics(lengths, lambda count: [0, count // 2], [[(0, 5)], [(5, 9)]])
    [0.0, 1.0]
    """
    (first,) = _count(values, ((0, _INFINITY),), blocks, run)
    wanted = list(ranks(count := int(first.counts.sum())))
    if any(not 0 <= rank < count for rank in wanted):
        raise InvalidArgument(f"ranks from 0 to {count - 1} are wanted, but got {wanted}")
    found = [first.locate(rank) for rank in wanted]
    while spans := tuple(dict.fromkeys(span for span, _ in found if span[0] != span[1])):
        tables = dict(zip(spans, _count(values, spans, blocks, run), strict=True))
        found = [
            tables[span].locate(rank) if span in tables else (span, rank) for span, rank in found
        ]
    bits = np.array([low for (low, _), _ in found], dtype=np.uint64)
    return [float(value) for value in bits.view(np.float64)]


def percentile(
    values: Values, q: float, blocks: Sequence[Runs], run: Run = run_serially
) -> float | None:
    """Compute a percentile as ``np.percentile(all_values, q)`` does, bit for bit.

    Parameters
    ----------
    values : callable
        See `order_statistics`.
    q : float
        0 to 100.
    blocks : sequence of row runs
    run : callable

    Returns
    -------
    float or None
        None when there are no numbers.

    Raises
    ------
    InvalidArgument, Corrupt

    Notes
    -----
    Passes and memory: see `order_statistics`. Linear interpolation between the two numbers around
    rank ``(n - 1) q / 100``, the method 7 of R. J. Hyndman and Y. Fan, The American Statistician
    50 (1996) 361-365; from the nearer of the two, as NumPy does, so that it is monotone in `q`.

    Examples
    --------
    >>> def lengths(runs):
    ...     return np.concatenate([np.arange(start, stop) / 4 for start, stop in runs])
    >>> percentile(lengths, 90, [[(0, 5)], [(5, 9)]]), np.percentile(np.arange(9) / 4, 90).item()
    (1.8, 1.8)
    """
    check_percentile(q)
    counts: list[int] = []

    def around(count: int) -> Sequence[int]:
        counts.append(count)
        below = math.floor((count - 1) * (q / 100))
        return (below, min(below + 1, count - 1)) if count else ()

    numbers = order_statistics(values, around, blocks, run)
    if not numbers:
        return None
    low, high = numbers
    position = (counts[0] - 1) * (q / 100)
    return _interpolated(low, high, position - math.floor(position))


def check_percentile(q: object) -> None:
    """Refuse what is no percentile.

    Raises
    ------
    InvalidArgument
        Not a number from 0 to 100.

    Examples
    --------
    >>> check_percentile(99.5)
    """
    if isinstance(q, bool) or not isinstance(q, Real) or not 0 <= float(q) <= 100:
        raise InvalidArgument(
            f"percentile must be a number from 0 to 100 (99 drops the longest hundredth of the "
            f"edges), but got {q!r}"
        )


def _interpolated(low: float, high: float, share: float) -> float:
    if low == high:  # also where both are infinite
        return low
    gap = high - low
    return high - gap * (1 - share) if share >= 0.5 else low + gap * share


def _count(
    values: Values, spans: tuple[_Span, ...], blocks: Sequence[Runs], run: Run
) -> list[_Histogram]:
    """Pass over the blocks: one histogram for each span of bits (first, last)."""
    none = _Histogram(0, np.empty(0, np.uint64), np.empty(0, np.int64))
    parts = [[none] for _ in spans]
    results = run(partial(_count_block, values, spans), blocks)
    for result in cast("Iterable[list[_Histogram]]", results):
        for pending, part in zip(parts, result, strict=True):
            pending.append(part)
            if sum(held.bins.size for held in pending) > 2 * _ALL_BINS:
                pending[:] = [_Histogram.merged(pending)]
    return [_Histogram.merged(pending) for pending in parts]


def _count_block(values: Values, spans: tuple[_Span, ...], runs: Runs) -> list[_Histogram]:
    given = values(runs)
    found: list[_Histogram] = []
    for numbers in [given] if isinstance(given, np.ndarray) else given:
        part = _count_numbers(numbers, spans, runs)
        pairs = zip(found, part, strict=True)
        found = [_Histogram.merged(pair, _BLOCK_BINS) for pair in pairs] if found else part
    return found or _count_numbers(np.empty(0), spans, runs)


def _count_numbers(
    values: NDArray[np.float64], spans: tuple[_Span, ...], runs: Runs
) -> list[_Histogram]:
    # Adding zero turns the negative one, whose bits are the largest of all, into the other.
    numbers = np.asarray(values, dtype=np.float64).ravel() + 0.0
    bits = numbers.view(np.uint64)
    if bits.size and bits.max() > _INFINITY:
        wrong = float(bits.max(keepdims=True).view(np.float64)[0])
        raise Corrupt(
            f"lengths of at least zero are wanted, but got {wrong} in rows {list(runs)}; "
            "run verify, then ingest the section again"
        )
    found: list[_Histogram] = []
    for low, high in spans:
        inside = bits
        if (low, high) != (0, _INFINITY):
            inside = bits[(bits >= np.uint64(low)) & (bits <= np.uint64(high))]
        ones = np.ones(inside.size, dtype=np.int64)
        found.append(_Histogram.of(np.sort(inside), ones, cut=0, least=0, most=_BLOCK_BINS))
    return found
