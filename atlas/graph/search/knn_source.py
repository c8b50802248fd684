"""Edges of the k nearest neighbors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...quadtree import Runs
    from ..edges import Edges, PositionSource
    from ..lattices.scale import Run

__all__ = ["KnnEdges"]


@dataclass(frozen=True, slots=True)
class KnnEdges:
    """Edges from every cell to its k nearest others, ties broken by (x, y, row)."""

    section: PositionSource
    """The section."""
    n_neighs: int
    """k, at least one."""

    @property
    def facts(self) -> dict[str, str | float]:
        """Nothing has to be found out before the search."""
        return {}

    def prepare(self, blocks: Sequence[Runs], run: Run) -> KnnEdges:
        """Nothing has to be prepared; see `LatticeEdges.prepare`."""
        del blocks, run
        return self

    def edges(self, runs: Runs) -> Edges:
        """Return the edges of the rows; see `nearest`."""
        from .nearest import nearest  # brings numba: only where neighbors are computed

        return nearest(self.section, runs, self.n_neighs)
