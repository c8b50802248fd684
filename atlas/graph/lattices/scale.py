"""Kind and scale of a section's lattice, found in passes of bounded memory.

A lattice edge is shorter than 1.3 times the median of all distances to the n nearest neighbors:
squidpy's rule, kept. The median is global, so it is selected exactly, as `order_statistic` does:
in one pass over the blocks where distances repeat as they do on lattices, in two elsewhere, and
nothing grows with the number of cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from ..order_statistic import Run, order_statistics, run_serially

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...quadtree import Runs
    from ..edges import PositionSource

__all__ = ["LatticeKind", "LatticeScale", "Run", "measure_lattice", "run_serially"]

type LatticeKind = Literal["hex", "square"]

_N_NEIGHS: dict[LatticeKind, int] = {"hex": 6, "square": 4}
_CUTOFF = 1.3  # squidpy's factor on the median
# Fifth nearest over fourth: 1 inside a hexagonal lattice, 1.41 inside a square one.
_GAP_D2 = 1.2**2


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
    middle = order_statistics(partial(_squares, section, n_neighs), _middle, blocks, run)
    # Roots of the selected squares: the root is monotone, also where it is rounded.
    median = float(np.mean(np.sqrt(middle))) if middle else 0.0
    return LatticeScale(kind, n_neighs, median)


def _vote(section: PositionSource, runs: Runs) -> int:
    """Cells that look hexagonal minus cells that look square."""
    from ..search.nearest import ordered_d2

    d2 = ordered_d2(section, runs, 5).d2
    if d2.shape[1] < 5:
        return 0
    hexagonal = d2[:, 4] < _GAP_D2 * d2[:, 3]
    return int(2 * np.count_nonzero(hexagonal) - hexagonal.size)


def _middle(count: int) -> tuple[int, ...]:
    """Ranks of the one or two numbers in the middle."""
    return ((count - 1) // 2, count // 2) if count else ()


def _squares(section: PositionSource, n_neighs: int, runs: Runs) -> NDArray[np.float64]:
    """Squared distances of some rows to their neighbors."""
    from ..search.nearest import ordered_d2

    return ordered_d2(section, runs, n_neighs).d2
