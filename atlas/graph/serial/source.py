"""Edges from the cells of one section to the cells of another one, above or below it.

Both are planes at a constant gap dz, so the squared distance is ``(dx * dx + dy * dy) + dz * dz``
in float64, each operation rounded. The nearest in the plane are the nearest in space; ties are
broken by (x, y, row) of the neighbor, as within a section.

Radius. Rounding is monotone, hence ``d2 + dz * dz <= r * r`` says the same as ``d2 <= high``, where
`high` is the greatest number that fulfills it. With this bound the proof of `search.pairs` holds,
the wanted rows and the cells passing by being those of two sections.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..edges import Edges, cut_runs, n_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ...quadtree import Runs
    from ..edges import PositionSource
    from ..lattices.scale import Run
    from ..search.pairs import Pairs

__all__ = ["ZKnnEdges", "ZRadiusEdges", "greatest_square"]

_COUNTED_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class ZKnnEdges:
    """Edges from every cell of a section to its k nearest cells of another one."""

    section: PositionSource
    """The section with the rows."""
    neighbor: PositionSource
    """The section with the columns, in the same frame."""
    n_neighs: int
    """k, at least one."""
    gap_um: float
    """Distance of the two in z."""

    @property
    def facts(self) -> dict[str, str | float]:
        """Nothing has to be found out before the search."""
        return {}

    def prepare(self, blocks: Sequence[Runs], run: Run) -> ZKnnEdges:
        """Nothing has to be prepared; see `LatticeEdges.prepare`."""
        del blocks, run
        return self

    def edges(self, runs: Runs) -> Edges:
        """Return the edges of the rows; see `nearest`."""
        from .nearest import nearest_between, read_asking  # brings numba

        asking = read_asking(self.section, runs)
        d2, row, _, _ = nearest_between(asking, self.neighbor, self.n_neighs)
        order = np.argsort(row, axis=1)
        distances = np.sqrt(np.take_along_axis(d2, order, axis=1) + self.gap_um * self.gap_um)
        indptr = np.arange(row.shape[0] + 1, dtype=np.int64) * row.shape[1]
        return Edges(indptr, np.take_along_axis(row, order, axis=1).ravel(), distances.ravel())


@dataclass(frozen=True, slots=True)
class ZRadiusEdges:
    """Edges from every cell of a section to all cells of another one within a distance in space."""

    section: PositionSource
    """The section with the rows."""
    neighbor: PositionSource
    """The section with the columns, in the same frame."""
    radius: float
    """Greatest distance, included."""
    gap_um: float
    """Distance of the two in z."""

    @property
    def facts(self) -> dict[str, str | float]:
        """Nothing has to be found out before the search."""
        return {}

    def prepare(self, blocks: Sequence[Runs], run: Run) -> ZRadiusEdges:
        """Nothing has to be prepared; see `LatticeEdges.prepare`."""
        del blocks, run
        return self

    def counts(self, runs: Runs) -> NDArray[np.int64]:
        """Count the edges of each row, (m,); see `RadiusEdges.counts`."""
        parts = [np.zeros(0, np.int64)]
        for part in cut_runs(runs, _COUNTED_ROWS):
            pairs = self._pairs(part)
            parts.append(np.zeros(n_rows(part), np.int64) if pairs is None else pairs.counts())
        return np.concatenate(parts)

    def edges(self, runs: Runs) -> Edges:
        """Return the edges of the rows; see `search.pairs`."""
        pairs = self._pairs(runs)
        if pairs is None:
            none = np.zeros(n_rows(runs) + 1, np.int64)
            return Edges(none, np.empty(0, np.int32), np.empty(0))
        return pairs.edges()

    def stream(self, runs: Runs, most_edges: int) -> tuple[NDArray[np.int64], Iterator[Edges]]:
        """Compute the edges in pieces, where they are many; see `stream_edges`."""
        from ..search.radius_source import cut_by_edges

        pairs = self._pairs(runs)
        if pairs is None:
            return np.zeros(n_rows(runs) + 1, np.int64), iter([self.edges(runs)])
        counts = pairs.counts()
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        if int(indptr[-1]) <= most_edges:
            return indptr, iter([pairs.edges(counts)])
        return indptr, (self.edges(part) for part in cut_by_edges(runs, counts, most_edges))

    def _pairs(self, runs: Runs) -> Pairs | None:
        """Read the rows and what is near them; None where the gap is wider than the radius."""
        from ..search.halo import surround  # bring numba: only where neighbors are computed
        from ..search.pairs import Pairs, in_row_order
        from ..search.within import search_reach
        from .nearest import read_asking

        high = greatest_square(self.radius, self.gap_um)
        if high < 0.0:
            return None
        asking = read_asking(self.section, runs)
        band = surround(self.neighbor, asking, search_reach(math.sqrt(high))).band
        return Pairs(asking.xy, in_row_order(band, 0), 0.0, high, self.gap_um * self.gap_um)


def greatest_square(radius: float, gap: float) -> float:
    """Return the greatest float64 number d2 with ``d2 + gap * gap <= radius * radius``, rounded.

    Returns
    -------
    float
        -1 where there is none that is not negative.

    Examples
    --------
    >>> greatest_square(5.0, 3.0) >= 16.0, greatest_square(1.0, 3.0)
    (True, -1.0)
    """
    whole, part = radius * radius, gap * gap
    if part > whole:
        return -1.0
    # Numbers that are not negative are in the order of their bits: 63 halvings find the last one.
    bits = np.zeros(1, np.int64)
    for bit in range(62, -1, -1):
        bits[0] |= 1 << bit
        d2 = float(bits.view(np.float64)[0])
        if not d2 + part <= whole:
            bits[0] ^= 1 << bit
    return float(bits.view(np.float64)[0])
