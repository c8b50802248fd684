"""Kind and scale of a section's lattice, found in passes of bounded memory.

A lattice edge is shorter than 1.3 times the median of all distances to the n nearest neighbors:
squidpy's rule, kept. The median is global, so it is selected exactly, 16 bits of the numbers'
order at a time, in four passes over the blocks; each leaves one small histogram, and nothing grows
with the number of cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..quadtree import Runs
    from .edges import PositionSource

__all__ = ["LatticeKind", "LatticeScale", "Run", "measure_lattice", "run_serially"]

type LatticeKind = Literal["hex", "square"]

type _Counts = tuple[NDArray[np.intp], NDArray[np.intp]]

type Run = Callable[[Callable[[Runs], object], Sequence[Runs]], Iterable[object]]
"""Applies a function to the row runs of each block, in any order, and hands out the results."""

_N_NEIGHS: dict[LatticeKind, int] = {"hex": 6, "square": 4}
_CUTOFF = 1.3  # squidpy's factor on the median
# Fifth nearest over fourth: 1 inside a hexagonal lattice, 1.41 inside a square one.
_GAP_D2 = 1.2**2
_DIGIT_BITS = 16
_DIGITS = 64 // _DIGIT_BITS


@dataclass(frozen=True, slots=True)
class LatticeScale:
    """What makes two cells of a lattice neighbors."""

    kind: LatticeKind
    """Hexagonal, six neighbors; or square, four."""
    n_neighs: int
    """Neighbors of a cell inside the lattice."""
    median: float
    """Median distance to the `n_neighs` nearest, over all cells, in the unit of the positions."""

    @property
    def cutoff(self) -> float:
        """Distance below which one of the `n_neighs` nearest is a neighbor."""
        return self.median * _CUTOFF


def run_serially(function: Callable[[Runs], object], blocks: Sequence[Runs]) -> Iterable[object]:
    """Apply a function to one block after the other."""
    return map(function, blocks)


def measure_lattice(
    section: PositionSource,
    kind: LatticeKind | Literal["auto"],
    blocks: Sequence[Runs],
    run: Run = run_serially,
) -> LatticeScale:
    """Find kind and scale of a lattice.

    Parameters
    ----------
    section : PositionSource
        The section.
    kind : {'hex', 'square', 'auto'}
        `auto` asks every cell whether its fifth neighbor is as near as its fourth; cells at the
        border may err, the majority does not.
    blocks : sequence of row runs
        Together all rows once.
    run : callable
        How to visit the blocks.

    Returns
    -------
    LatticeScale
        The same for any tiles, blocks and order of visits.
    """
    if kind == "auto":
        votes = cast("Iterable[int]", run(partial(_vote, section), blocks))
        kind = "hex" if sum(votes) >= 0 else "square"
    n_neighs = _N_NEIGHS[kind]
    count = section.n_obs * min(n_neighs, section.n_obs - 1)
    if count == 0:
        return LatticeScale(kind, n_neighs, 0.0)
    ranks = ((count - 1) // 2, count // 2)
    middle = _select(section, n_neighs, ranks, blocks, run)
    return LatticeScale(kind, n_neighs, float(np.mean(middle)))


def _vote(section: PositionSource, runs: Runs) -> int:
    """Cells that look hexagonal minus cells that look square."""
    from .nearest import ordered_d2

    d2 = ordered_d2(section, runs, 5).d2
    if d2.shape[1] < 5:
        return 0
    hexagonal = d2[:, 4] < _GAP_D2 * d2[:, 3]
    return int(2 * np.count_nonzero(hexagonal) - hexagonal.size)


def _select(
    section: PositionSource,
    n_neighs: int,
    ranks: tuple[int, int],
    blocks: Sequence[Runs],
    run: Run,
) -> list[float]:
    """Return the distances of two ranks (0 is the smallest) among all neighbor distances."""
    found = [(0, rank) for rank in ranks]  # bits so far, rank among the numbers that begin so
    for digit in range(_DIGITS):
        shift = 64 - _DIGIT_BITS * (digit + 1)
        prefixes = tuple(dict.fromkeys(prefix for prefix, _ in found))
        counts = np.zeros((len(prefixes), 2**_DIGIT_BITS), dtype=np.int64)
        counting = partial(_count_digits, section, n_neighs, prefixes, shift)
        results = cast("Iterable[list[_Counts]]", run(counting, blocks))
        for result in results:
            for total, (digits, times) in zip(counts, result, strict=True):
                total[digits] += times
        found = [_narrow(prefix, rank, counts[prefixes.index(prefix)]) for prefix, rank in found]
    bits = np.array([prefix for prefix, _ in found], dtype=np.uint64)
    return [float(distance) for distance in np.sqrt(bits.view(np.float64))]


def _narrow(prefix: int, rank: int, counts: NDArray[np.int64]) -> tuple[int, int]:
    """Append the digit in which a rank falls, and make the rank relative to it."""
    cumulated = np.cumsum(counts)
    digit = int(np.searchsorted(cumulated, rank, side="right"))
    return (prefix << _DIGIT_BITS) | digit, rank - int(cumulated[digit] - counts[digit])


def _count_digits(
    section: PositionSource, n_neighs: int, prefixes: tuple[int, ...], shift: int, runs: Runs
) -> list[_Counts]:
    """Count, for each prefix, the next 16 bits of the squared distances that begin with it.

    The bits of floating-point numbers >= 0 are ordered as the numbers are.
    """
    from .nearest import ordered_d2

    bits = ordered_d2(section, runs, n_neighs).d2.view(np.uint64).ravel()
    head = shift + _DIGIT_BITS
    results: list[_Counts] = []
    for prefix in prefixes:
        chosen = bits if head == 64 else bits[(bits >> np.uint64(head)) == np.uint64(prefix)]
        digits = (chosen >> np.uint64(shift)) & np.uint64(2**_DIGIT_BITS - 1)
        counts = np.bincount(digits.astype(np.intp), minlength=2**_DIGIT_BITS)
        present = np.flatnonzero(counts)
        results.append((present, counts[present]))
    return results
