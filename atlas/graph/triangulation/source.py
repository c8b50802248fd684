"""Edges of the Delaunay triangulation of a section, computed block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..edges import Edges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...quadtree import Runs
    from ..edges import PositionSource
    from ..lattices.scale import Run

__all__ = ["DelaunayEdges"]


@dataclass(frozen=True, slots=True)
class DelaunayEdges:
    """Edges of the Delaunay triangulation of the cells of a section.

    The same edges as `squidpy.gr.spatial_neighbors_delaunay` where no four cells lie on a circle;
    where they do, one choice that depends on coordinates alone (see `predicates`), so that tiles
    do not show. Where several cells share a position, the first row among them is the vertex, and
    the others are joined to it alone, by edges of length zero (Qhull drops them). Cells all on one
    line are joined in their order along it (Qhull fails).
    """

    section: PositionSource
    """The section."""

    @property
    def facts(self) -> dict[str, str | float]:
        """Nothing has to be found out beforehand."""
        return {}

    def prepare(self, blocks: Sequence[Runs], run: Run) -> DelaunayEdges:
        """Nothing has to be prepared; see `LatticeEdges.prepare`."""
        del blocks, run
        return self

    def edges(self, runs: Runs) -> Edges:
        """Return the edges of some rows.

        Parameters
        ----------
        runs : sequence of (int, int)
            Ascending, disjoint row runs; m rows in all.

        Returns
        -------
        Edges
            Six a row in the mean, float64 lengths in the unit of the positions. Symmetric.

        Raises
        ------
        InvalidArgument
            Coordinates differ in magnitude by more than 2^200.

        Notes
        -----
        Memory: about 220 bytes for each row loaded: the rows asked for, and a band around them.
        """
        from ..search.halo import read_patches
        from .block import Block  # brings numba: only where neighbors are computed

        own = read_patches(self.section, runs)
        if own.xy.shape[0] == 0:
            return Edges.concatenate([])
        return Block(self.section, own).edges()
