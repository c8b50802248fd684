"""Exact edges within a radius of some rows, reading only what can matter.

Claim. No edge of a wanted row is missing if every cell of the section is among the wanted rows,
or passes by, or lies in a box apart from all patches of wanted rows by more than `search_reach`,
as `halo` promises. Proof. Let p be a cell in such a box b, and t a wanted row in a patch with box
c. By the monotony of rounding shown in `certificate`, the computed squared distance of t and p is
at least that of c and b, and this is greater than the rounded square of the reach. The reach
exceeds the radius, so its rounded square is at least that of the radius, and (t, p) is no edge.
Cells that pass by are compared; see `within`. []
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..edges import Edges
from .halo import Patches, read_patches, surround
from .within import count_within, crowding, fill_within, index_within, search_reach

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ...quadtree import Runs
    from ..edges import PositionSource
    from .grid_index import GridIndex

__all__ = ["Pairs", "Passing", "in_row_order", "least_square", "pairs_within"]

# Targets that share a cell in the mean, above which a grid stretched by far targets is split, and
# the number of targets below which it is not worth it.
_CROWDED = 64.0
_FEW_TARGETS = 256


@dataclass(frozen=True, slots=True)
class _Targets:
    """Consecutive wanted rows in a grid of their own."""

    first: int
    """Number of the first among the wanted rows."""
    grid: GridIndex
    box: NDArray[np.float64]

    def numbers(self, own: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the number in this grid of each passing point; negative where it is not in it."""
        inside = own - np.int32(self.first)
        inside[inside >= self.grid.x.size] = -1
        return inside


class Pairs:
    """Pairs of wanted rows and cells passing by, by their squared distance.

    Parameters
    ----------
    wanted : array (m, 2) float64
        Positions of the wanted rows, in row order.
    passing : Passing
        All cells that can be within the distance.
    low, high : float
        Bounds of the squared distance, both included.
    lift : float
        Added to the squared distances of the edges found.

    Notes
    -----
    Memory: 60 bytes a wanted row and 24 a cell passing by; `edges` adds 12 bytes an edge.
    """

    def __init__(
        self,
        wanted: NDArray[np.float64],
        passing: Passing,
        low: float,
        high: float,
        lift: float = 0.0,
    ) -> None:
        self._low, self._high, self._lift = low, high, lift
        self._reach = search_reach(math.sqrt(high))
        self._n_rows = wanted.shape[0]
        self._points, self._rows, self._own = passing
        self._targets = list(_split(wanted, self._reach))

    def counts(self) -> NDArray[np.int64]:
        """Return the number of edges of each wanted row, (m,)."""
        counts = np.zeros(self._n_rows, np.int64)
        for part in self._targets:
            count_within(
                self._points,
                part.numbers(self._own),
                part.grid,
                part.box,
                self._reach,
                self._low,
                self._high,
                counts[part.first : part.first + part.grid.x.size],
            )
        return counts

    def edges(self, counts: NDArray[np.int64] | None = None) -> Edges:
        """Return the edges of the wanted rows, columns ascending; `counts` if they are known."""
        counts = self.counts() if counts is None else counts
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        indices = np.empty(int(indptr[-1]), np.int32)
        distances = np.empty(int(indptr[-1]), np.float64)
        for part in self._targets:
            fill_within(
                self._points,
                self._rows,
                part.numbers(self._own),
                part.grid,
                part.box,
                self._reach,
                self._low,
                self._high,
                self._lift,
                indptr[part.first : part.first + part.grid.x.size].copy(),
                indices,
                distances,
            )
        return Edges(indptr, indices, distances)


def least_square(shortest: float) -> float:
    """Return the smallest float64 number whose rounded square root is at least `shortest`.

    The square root is monotone, so ``d2 >= least_square(s)`` says the same as ``sqrt(d2) >= s``.

    Examples
    --------
    >>> least_square(0.0), bool(np.sqrt(least_square(0.1)) >= 0.1)
    (0.0, True)
    """
    d2 = shortest * shortest
    while np.sqrt(d2) < shortest:
        d2 = float(np.nextafter(d2, np.inf))
    while d2 > 0.0 and np.sqrt(below := float(np.nextafter(d2, 0.0))) >= shortest:
        d2 = below
    return d2


class Passing(NamedTuple):
    """Cells in ascending row order."""

    xy: NDArray[np.float64]
    """(p, 2) positions."""
    row: NDArray[np.int32]
    """(p,) section rows."""
    own: NDArray[np.int32]
    """(p,) numbers among the wanted rows, or -1."""


def pairs_within(section: PositionSource, runs: Runs, shortest: float, longest: float) -> Pairs:
    """Read some rows and what is near them.

    Parameters
    ----------
    section : PositionSource
        The section.
    runs : sequence of (int, int)
        Wanted rows.
    shortest, longest : float
        Bounds of the distance, both included.
    """
    high = longest * longest
    own = read_patches(section, runs)
    band = surround(section, own, search_reach(longest)).band
    passing = in_row_order(Patches.concatenate([own, band]), own.xy.shape[0])
    return Pairs(own.xy, passing, least_square(shortest), high)


def in_row_order(patches: Patches, n_own: int) -> Passing:
    """Put patches in row order; the first `n_own` of their cells are the wanted rows."""
    order = np.argsort(patches.first_row)
    sizes = np.diff(patches.ptr)[order]
    shift = patches.ptr[order] - (np.cumsum(sizes) - sizes)
    at = np.arange(patches.xy.shape[0]) + np.repeat(shift, sizes)
    number = np.where(at < n_own, at, -1).astype(np.int32)
    return Passing(patches.xy[at], patches.rows()[at], number)


def _split(xy: NDArray[np.float64], reach: float) -> Iterator[_Targets]:
    """Divide the wanted rows until no grid is crowded; halves of a curve are compact."""
    waiting = [(0, xy.shape[0])] if xy.shape[0] else []
    while waiting:
        first, stop = waiting.pop()
        part = xy[first:stop]
        grid = index_within(part, reach)
        if stop - first > _FEW_TARGETS and crowding(grid, reach) > _CROWDED:
            half = (first + stop) // 2
            waiting += [(half, stop), (first, half)]
            continue
        yield _Targets(first, grid, np.concatenate([part.min(axis=0), part.max(axis=0)]))
