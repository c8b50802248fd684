"""Graphs made symmetric: the union of a graph and its transpose, exact, some rows at a time.

Row i of the union holds the neighbors of i, and all cells whose neighbor i is. The second kind may
lie anywhere: the nearest neighbor of a lonely cell does not choose it back, and the hull of a
triangulation has edges across the whole section. So one pass over the section writes down, for
every tile, which chunks of 512 rows have an edge that leads into it.

Claim. The cells whose neighbor i is lie in the chunks written down for the tile of i.

Proof. Let j be such a cell. The pass computed the edges of j, in some block, and they are the same
whatever rows they are computed with (`EdgeSource`). So it met the edge from j to i, and wrote down
the chunk of j for the tile of i. []

No distance enters: nothing is rounded, no slack is needed, and the union is as exact for lattices,
whose distances count rings, as it is for lengths. What is written down grows with the number of
tiles that edges cross into: about three chunk numbers for every chunk of uniform cells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from ...quadtree import merge_runs
from ..edges import Edges, cut_runs, n_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from ...quadtree import Runs
    from ..edges import EdgeSource, PositionSource
    from ..order_statistic import Run
    from .transpose import Arrows

__all__ = ["SymmetricEdges", "TileSources"]

# Smaller chunks compute fewer rows around a block in vain and make a longer table: for each row of
# a block of 65,536 uniform cells, chunks of 512 compute 0.4 further ones, whole tiles 1.2.
_CHUNK = 512
# Rows around a block that are computed at once, never more than the block has: they lie along its
# border, so that a source has to read three times as many around them as around the block.
_AROUND_ROWS = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class TileSources:
    """Which chunks of rows have edges that lead into which tile."""

    ptr: NDArray[np.int64]
    """(T + 1,) tile t is reached from ``chunks[ptr[t]:ptr[t + 1]]``."""
    chunks: NDArray[np.int32]
    """Chunk c is rows ``512 c`` to ``512 (c + 1)``; ascending within a tile."""

    def runs(self, tiles: NDArray[np.int64], n_obs: int) -> list[tuple[int, int]]:
        """Row runs of the chunks with edges into any of some tiles."""
        parts = [self.chunks[self.ptr[t] : self.ptr[t + 1]] for t in tiles.tolist()]
        chunks = np.unique(np.concatenate([np.empty(0, np.int32), *parts])).tolist()
        return merge_runs((c * _CHUNK, min(n_obs, (c + 1) * _CHUNK)) for c in chunks)


@dataclass(frozen=True, slots=True)
class SymmetricEdges:
    """The union of another source's graph and its transpose.

    Where the two directions of an edge have different distances (a ring that is one step longer
    one way), the smaller is kept. Radius graphs and triangulations are symmetric already.
    """

    inner: EdgeSource
    """Where the edges come from."""
    section: PositionSource
    """The section of the inner source, for its tiles."""
    sources: TileSources | None = None
    """What the pass over the section found."""

    @property
    def facts(self) -> dict[str, str | float]:
        """What was found out before."""
        return dict(self.inner.facts)

    def prepare(self, blocks: Sequence[Runs], run: Run) -> SymmetricEdges:
        """Find out where edges lead, in one pass that computes all of them.

        Notes
        -----
        Memory: some 25 bytes for every 1,000 uniform cells, six times that while it is made.
        """
        inner = self.inner.prepare(blocks, run)
        if self.sources is not None:
            return replace(self, inner=inner)
        tiles, n_chunks = len(self.section.tiles), -(-self.section.n_obs // _CHUNK)
        pairs = np.empty(0, dtype=np.int64)
        results = run(partial(_visited, inner, self.section, n_chunks), blocks)
        for result in cast("Iterable[NDArray[np.int64]]", results):
            pairs = np.union1d(pairs, result)
        borders = np.arange(tiles + 1, dtype=np.int64) * n_chunks
        chunks = (pairs % max(1, n_chunks)).astype(np.int32)
        sources = TileSources(np.searchsorted(pairs, borders).astype(np.int64), chunks)
        return replace(self, inner=inner, sources=sources)

    def edges(self, runs: Runs) -> Edges:
        """Return the edges of the rows, in both directions.

        Notes
        -----
        Memory: what the inner source needs for as many rows, and 64 bytes for each of its edges.
        A row may be chosen by any number of others, as the first of many cells at one position is.
        """
        from . import transpose

        if self.sources is None:
            raise RuntimeError("it must be found out where edges lead first: call prepare")
        rows = n_rows(runs)
        if rows == 0:
            return Edges.concatenate([])
        own = self.inner.edges(runs)
        around = _outside(self.sources.runs(self._tiles(runs), self.section.n_obs), runs)
        others = [
            _arrows(self.inner.edges(part), part, runs)
            for part in cut_runs(around, max(_CHUNK, min(rows, _AROUND_ROWS)))
        ]
        turned = transpose.turned_round(rows, _arrows(own, runs, runs), _joined(others))
        return Edges(*transpose.united(own.indptr, own.indices, own.distances, *turned))

    def _tiles(self, runs: Runs) -> NDArray[np.int64]:
        """Tiles that some rows lie in."""
        ends = np.array([(start, stop - 1) for start, stop in runs if stop > start])
        owners = self.section.tiles.owner(ends)
        return np.unique(np.concatenate([np.arange(a, b + 1) for a, b in owners.tolist()]))


def _visited(
    inner: EdgeSource, section: PositionSource, n_chunks: int, runs: Runs
) -> NDArray[np.int64]:
    from .transpose import visited_tiles

    edges = inner.edges(runs)
    ptr = np.array(section.tiles.ptr, dtype=np.int64)
    pairs = visited_tiles(_rows(runs), edges.indptr, edges.indices, ptr, _CHUNK, n_chunks)
    return np.unique(pairs)


def _rows(runs: Runs) -> NDArray[np.int32]:
    return np.concatenate([np.empty(0, np.int32), *(np.arange(*r, dtype=np.int32) for r in runs)])


def _arrows(edges: Edges, rows: Runs, into: Runs) -> Arrows:
    """Those of the edges of some rows that lead into some rows."""
    from .transpose import arrows_into

    ends = np.array([run for run in into if run[1] > run[0]], dtype=np.int64)
    starts, stops = ends[:, 0].copy(), ends[:, 1].copy()
    before = np.cumsum(stops - starts) - (stops - starts)
    distances = np.asarray(edges.distances, dtype=np.float64)
    found: Arrows = arrows_into(
        _rows(rows), edges.indptr, edges.indices, distances, starts, stops, before
    )
    return found


def _joined(parts: Sequence[Arrows]) -> Arrows:
    from .transpose import Arrows

    none = Arrows(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0))
    columns = zip(none, *parts, strict=True)
    return Arrows(*(np.concatenate(column) for column in columns))


def _outside(runs: Runs, taken: Runs) -> list[tuple[int, int]]:
    """Rows of some runs that are not among others.

    Examples
    --------
    >>> _outside([(0, 10), (20, 30)], [(3, 5), (8, 22)])
    [(0, 3), (5, 8), (22, 30)]
    """
    left: list[tuple[int, int]] = []
    i = 0
    for start, stop in runs:
        at = start
        while i < len(taken) and taken[i][1] <= at:
            i += 1
        j = i
        while j < len(taken) and taken[j][0] < stop:
            if taken[j][0] > at:
                left.append((at, taken[j][0]))
            at = max(at, taken[j][1])
            j += 1
        if at < stop:
            left.append((at, stop))
    return left
