"""Exact k nearest neighbors of some rows, reading only the tiles that can matter."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..errors import Corrupt
from . import kernel
from .certificate import SHRINK, reachable
from .edges import Edges, n_rows
from .grid_index import GridIndex, index_points

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from ..quadtree import Runs
    from .edges import PositionSource

__all__ = ["nearest", "ordered_d2", "read_positions"]

# Points whose sorted grids a search keeps at once: 4 blocks of 65,536, about 7 MiB. Enough for the
# ring of tiles around a block, so that each is read once; more far tiles than that are read in
# turn, so that an outlier costs time and not memory.
_CACHED_POINTS = 4 * 65_536


@dataclass(slots=True)
class _Piece:
    """Queries of one tile and what is known of them."""

    tile: int
    first_row: int
    xy: NDArray[np.float64]
    table: kernel.Candidates
    seen: list[int] = field(default_factory=list)

    def search(self, tile: int, grid: GridIndex, box: NDArray[np.float64]) -> None:
        kernel.extend(self.xy, self.first_row, grid, box, SHRINK, self.table)
        self.seen.append(tile)

    def box(self) -> NDArray[np.float64]:
        return np.concatenate([self.xy.min(axis=0), self.xy.max(axis=0)])

    def reach_d2(self) -> float:
        return float(self.table.d2[:, -1].max())


class _Tiles:
    """Sorted grids of tiles, the least recently used dropped first; read in batches."""

    def __init__(self, section: PositionSource, k: int) -> None:
        self._section = section
        self._table = section.tiles
        self._k = k
        self._grids: OrderedDict[int, GridIndex] = OrderedDict()
        self._points = 0

    def batches(self, tiles: Iterable[int]) -> Iterator[list[int]]:
        """Yield groups of tiles, ascending, whose grids fit at the same time; then all are held."""
        batch: list[int] = []
        points = 0
        sizes = self._table.n_cells
        for tile in sorted(tiles):
            if batch and points + int(sizes[tile]) > _CACHED_POINTS:
                self._hold(batch)
                yield batch
                batch, points = [], 0
            batch.append(tile)
            points += int(sizes[tile])
        if batch:
            self._hold(batch)
            yield batch

    def __getitem__(self, tile: int) -> GridIndex:
        return self._grids[tile]

    def _hold(self, tiles: list[int]) -> None:
        missing = [tile for tile in tiles if tile not in self._grids]
        for tile in tiles:
            if tile in self._grids:
                self._grids.move_to_end(tile)
        if not missing:
            return
        xy = read_positions(self._section, self._table.runs(missing))
        at = 0
        for tile in missing:
            first, last = int(self._table.ptr[tile]), int(self._table.ptr[tile + 1])
            self.put(tile, xy[at : at + last - first])
            at += last - first

    def put(self, tile: int, xy: NDArray[np.float64]) -> None:
        """Take in a tile whose positions are at hand."""
        self._grids[tile] = index_points(xy, int(self._table.ptr[tile]), self._k)
        self._points += xy.shape[0]
        sizes = self._table.n_cells
        while self._points > 2 * _CACHED_POINTS and len(self._grids) > 1:
            dropped, _ = self._grids.popitem(last=False)
            self._points -= int(sizes[dropped])


def read_positions(section: PositionSource, runs: Runs) -> NDArray[np.float64]:
    """Read positions and refuse what no distance can be computed from."""
    xy = np.ascontiguousarray(section.positions(runs), dtype=np.float64)
    if not xy.flags.writeable:  # another type to compiled code
        xy = xy.copy()
    if not np.isfinite(xy).all():
        bad = int(np.flatnonzero(~np.isfinite(xy).all(axis=1))[0])
        raise Corrupt(
            f"finite positions are wanted, but got {xy[bad].tolist()} in section "
            f"{section.name!r}; run verify, then ingest the section again"
        )
    return xy


def ordered_d2(section: PositionSource, runs: Runs, k: int) -> kernel.Candidates:
    """Find the k nearest other cells of some rows, nearest first under (d2, x, y, row).

    Parameters
    ----------
    section : PositionSource
        The section; its rows are in an order that does not depend on the tiles.
    runs : sequence of (int, int)
        Row runs, m rows in all.
    k : int
        Neighbors; at most ``n_obs - 1`` are there to be found.

    Returns
    -------
    Candidates
        Shape (m, min(k, n_obs - 1)).

    Notes
    -----
    Memory: 28 m k bytes for the table, 16 m for the queries, and the grids of at most twice
    `_CACHED_POINTS` points or of the rows' own tile. The proof is in `certificate`.
    """
    k = min(k, section.n_obs - 1)
    table = kernel.Candidates.empty(n_rows(runs), k)
    if k == 0 or table.d2.shape[0] == 0:
        return table
    tiles = _Tiles(section, k)
    # A copy: compiled code knows read-only arrays as another type, and would be compiled again.
    bounds = np.array(section.tiles.bounds, dtype=np.float64)
    pieces = list(_pieces(section, runs, table))
    wanted: dict[int, list[_Piece]] = {}
    for piece in pieces:
        wanted.setdefault(piece.tile, []).append(piece)
        if piece.xy.shape[0] == section.tiles.ptr[piece.tile + 1] - section.tiles.ptr[piece.tile]:
            tiles.put(piece.tile, piece.xy)
    while wanted:
        for batch in tiles.batches(wanted):
            for tile in batch:
                for piece in wanted[tile]:
                    piece.search(tile, tiles[tile], bounds[tile])
        wanted = _wanted(pieces, bounds)
    return table


def _wanted(pieces: list[_Piece], bounds: NDArray[np.float64]) -> dict[int, list[_Piece]]:
    """Tiles to search next, each with the pieces that need it; finished pieces leave the list."""
    wanted: dict[int, list[_Piece]] = {}
    unfinished: list[_Piece] = []
    for piece in pieces:
        near = reachable(piece.box(), piece.reach_d2(), bounds, piece.seen)
        marks = np.zeros(near.size, dtype=np.bool_)
        if near.size and kernel.mark_open(piece.xy, piece.table, bounds[near], SHRINK, marks):
            unfinished.append(piece)
            for tile in near[marks].tolist():
                wanted.setdefault(tile, []).append(piece)
    pieces[:] = unfinished
    return wanted


def _pieces(section: PositionSource, runs: Runs, table: kernel.Candidates) -> Iterator[_Piece]:
    """Cut the rows at the borders of tiles."""
    ptr = section.tiles.ptr
    xy = read_positions(section, runs)
    at = 0
    for start, stop in runs:
        row = start
        while row < stop:
            tile = int(np.searchsorted(ptr, row, side="right")) - 1
            end = min(stop, int(ptr[tile + 1]))
            rows = slice(at, at + end - row)
            part = kernel.Candidates(table.d2[rows], table.row[rows], table.x[rows], table.y[rows])
            yield _Piece(tile, row, xy[rows], part)
            at += end - row
            row = end


def nearest(section: PositionSource, runs: Runs, k: int) -> Edges:
    """Return the kNN edges of some rows, columns ascending.

    Parameters
    ----------
    section : PositionSource
    runs : sequence of (int, int)
        Row runs, m rows in all.
    k : int
        Neighbors of each cell.

    Returns
    -------
    Edges
        ``m * min(k, n_obs - 1)`` edges, distances float64 in the unit of the positions.

    Notes
    -----
    Memory: as `ordered_d2`, and 12 bytes an edge.
    """
    table = ordered_d2(section, runs, k)
    m, k = table.d2.shape
    indices = np.empty((m, k), dtype=np.int32)
    distances = np.empty((m, k), dtype=np.float64)
    kernel.finish(table, indices, distances)
    indptr = np.arange(m + 1, dtype=np.int64) * k
    return Edges(indptr, indices.ravel(), distances.ravel())
