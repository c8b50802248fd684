"""Exact k nearest neighbors of some rows, reading only what can matter.

The fast road: load the rows with a band as wide as their density suggests, and search groups of
patches on one grid each. What the certificate does not prove final, few rows next to holes and far
from the rest, takes the slow road: for each of them the nearest boxes that were left apart, round
after round.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...quadtree import merge_runs
from ..edges import Edges, cut_runs, n_rows
from . import kernel
from .certificate import SHRINK
from .grid_index import index_points
from .halo import PATCH_ROWS, Patches, plan_band, read_patches
from .patch_kernels import cell_areas
from .wider import EVERYWHERE, Candidates, extend, extend_all, mark_open, settle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...quadtree import Runs
    from ..edges import PositionSource
    from .halo import Apart, BandPlan, Halo

__all__ = ["Ordered", "nearest", "ordered_d2"]

# Rows of tiles that share a grid; a tile is never divided, for its cells lie equally dense.
_GROUP_ROWS = 1024
# Points expected within the reach of a patch, in k: fewer leave more rows to the slow road.
_EXPECTED = 2.5
# Rows of a band: more than a block has only where the guess is bad, and then it is cut.
_BAND_ROWS = 131_072
_PLANS = 12
# Rows loaded at once on the slow road.
_ROUND_ROWS = 65_536


class Ordered(NamedTuple):
    """The k nearest of each query, nearest first under (d2, x, y, row)."""

    d2: NDArray[np.float64]
    """Squared distances, shape (q, k)."""
    row: NDArray[np.int32]
    """Section rows, shape (q, k)."""


def ordered_d2(section: PositionSource, runs: Runs, k: int) -> Ordered:
    """Return the k nearest neighbors of some rows, nearest first.

    Parameters
    ----------
    section : PositionSource
        The section; see `halo.surround` for what is read.
    runs : sequence of (int, int)
        Row runs, m rows in all.
    k : int
        Neighbors of each cell, at least one; all n - 1 others in a section of n <= k cells.

    Returns
    -------
    Ordered
        Table of (m, min(k, n_obs - 1)).

    Raises
    ------
    Corrupt
        A position is not finite.

    Notes
    -----
    Memory: 12 bytes a row and neighbor; 24 a row and 36 a band row besides.
    """
    row, d2 = _solve(section, runs, k, columns=False)
    return Ordered(d2, row)


def nearest(section: PositionSource, runs: Runs, k: int) -> Edges:
    """Return the kNN edges of some rows, columns ascending.

    Parameters
    ----------
    section : PositionSource
        The section.
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
    Memory: as `ordered_d2`.
    """
    row, distances = _solve(section, runs, k, columns=True)
    indptr = np.arange(row.shape[0] + 1, dtype=np.int64) * row.shape[1]
    return Edges(indptr, row.ravel(), distances.ravel())


@dataclass(slots=True)
class _Result:
    """What is filled, and how: by column with distances, or nearest first with squared ones."""

    row: NDArray[np.int32]
    value: NDArray[np.float64]
    columns: bool


def _solve(
    section: PositionSource, runs: Runs, k: int, *, columns: bool
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Neighbors of the rows, (m, k) each; see `_Result`."""
    m, k = n_rows(runs), min(k, section.n_obs - 1)
    result = _Result(np.empty((m, k), np.int32), np.empty((m, k)), columns)
    if m == 0 or k == 0:
        return result.row, result.value
    own = read_patches(section, runs)
    plan = _plan(section, own, k)
    halo = plan.load(section)
    open_ = _search_loaded(_groups(section, own), halo, plan.reach_d2, result)
    if open_ is not None:
        _search_apart(section, halo.apart, open_, result)
    return result.row, result.value


def _plan(section: PositionSource, own: Patches, k: int) -> BandPlan:
    """Plan a band of bounded size that should make most rows final."""
    reach = _reach(section, own, k)
    for _ in range(_PLANS):
        plan = plan_band(section, own, reach)
        if plan.n_rows <= _BAND_ROWS:
            return plan
        # The widest first: mostly it is a patch of far cells that wants everything.
        reach = np.minimum(reach, np.nanmax(reach) / 4.0)
    return plan_band(section, own, np.nan)  # within reach of nothing: no band


def _reach(section: PositionSource, own: Patches, k: int) -> NDArray[np.float64]:
    """Radius of a circle that holds `_EXPECTED` k cells at the density of each patch.

    Small patches take the density of their tile; in others it is at least a ninth of that.
    """
    tiles = section.tiles
    side = tiles.bounds[:, 2:] - tiles.bounds[:, :2]
    area = np.empty(len(own))
    cell_areas(own.xy, own.ptr, k, area)
    with np.errstate(over="ignore", invalid="ignore"):  # no number: within reach of nothing
        of_tile = (side[:, 0] * side[:, 1] / tiles.n_cells)[tiles.owner(own.first_row)]
        cap = np.where(of_tile > 0.0, 9.0 * of_tile, np.inf)
        area = np.where(area > 0.0, np.minimum(area, cap), of_tile)
    return np.asarray(np.sqrt(_EXPECTED * k / np.pi * area))


@dataclass(frozen=True, slots=True)
class _Open:
    """Queries that are not final, and what is known of them."""

    xy: NDArray[np.float64]
    rows: NDArray[np.int32]
    into: NDArray[np.int64]
    table: Candidates

    def take(self, kept: NDArray[np.bool_]) -> _Open:
        c = self.table
        table = Candidates(c.d2[kept], c.row[kept], c.x[kept], c.y[kept])
        return _Open(self.xy[kept], self.rows[kept], self.into[kept], table)

    @classmethod
    def concatenate(cls, parts: list[_Open]) -> _Open:
        table = Candidates(*map(np.concatenate, zip(*(p.table for p in parts), strict=True)))
        return cls(
            np.concatenate([part.xy for part in parts]),
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.into for part in parts]),
            table,
        )


def _groups(section: PositionSource, own: Patches) -> list[tuple[int, int]]:
    """Patches of one tile each, or of consecutive small tiles."""
    tile = section.tiles.owner(own.first_row)
    first = np.flatnonzero(np.append(True, tile[1:] != tile[:-1]))
    cuts = [0]
    for patch, end in zip(
        first.tolist(), np.append(own.ptr[first][1:], own.ptr[-1]).tolist(), strict=True
    ):
        if end - own.ptr[cuts[-1]] > _GROUP_ROWS and patch > cuts[-1]:
            cuts.append(patch)
    return list(pairwise([*cuts, len(own)]))


def _search_loaded(
    groups: list[tuple[int, int]], halo: Halo, reach_d2: NDArray[np.float64], result: _Result
) -> _Open | None:
    """Search all rows in what was loaded; return those that it does not prove final."""
    own, k = halo.own, result.row.shape[1]
    reach_d2 = np.where(np.isnan(reach_d2), 0.0, reach_d2)
    loaded = Patches.concatenate([own, halo.band])
    # By row: of equal positions `index_points` keeps the first, which win ties.
    order = np.argsort(loaded.first_row)
    own_rows = own.rows()
    near_xy, near_row = np.empty_like(loaded.xy), np.empty(loaded.xy.shape[0], np.int32)
    left: list[_Open] = []
    for a, b in groups:
        taken = np.zeros(len(loaded), dtype=np.bool_)
        n = kernel.gather(
            *(loaded.boxes, loaded.ptr, loaded.first_row, loaded.xy, order),
            *(own.boxes[a:b], reach_d2[a:b], near_xy, near_row, taken),
        )
        everything = taken.all() and len(halo.apart) == 0
        certain_d2 = np.full(b - a, np.inf) if everything else reach_d2[a:b] * SHRINK
        grid = index_points(near_xy[:n], near_row[:n], k)
        rows = slice(int(own.ptr[a]), int(own.ptr[b]))
        unsure = np.zeros(rows.stop - rows.start, dtype=np.bool_)
        if not kernel.search(
            *(own.xy[rows], own_rows[rows], own.ptr[a : b + 1], certain_d2, grid),
            *(result.columns, result.row[rows], result.value[rows], unsure),
        ):
            continue
        into = np.flatnonzero(unsure) + rows.start
        open_ = _Open(own.xy[into], own_rows[into], into, Candidates.empty(into.size, k))
        extend(open_.xy, open_.rows, grid, EVERYWHERE, 0, SHRINK, open_.table)
        _offer(open_, loaded, taken)
        left.append(open_)
    return _Open.concatenate(left) if left else None


def _offer(open_: _Open, patches: Patches, skipped: NDArray[np.bool_]) -> None:
    """Let queries choose among the points of patches."""
    extend_all(
        *(open_.xy, open_.rows, patches.xy, patches.first_row, patches.ptr, patches.boxes),
        *(skipped, SHRINK, open_.table),
    )


def _search_apart(section: PositionSource, apart: Apart, open_: _Open, result: _Result) -> None:
    """Load what is still in the way of the certificate, nearest first, until all is final."""
    while True:
        marks = np.zeros(len(apart), dtype=np.bool_)
        waiting = np.zeros(open_.into.size, dtype=np.bool_)
        ptr = np.append(np.arange(0, waiting.size, PATCH_ROWS), waiting.size)
        mark_open(open_.xy, open_.table, ptr, apart.boxes, SHRINK, marks, waiting)
        final = open_.take(~waiting)
        settle(final.table, final.into, result.columns, result.row, result.value)
        if not waiting.any():
            return
        open_ = open_.take(waiting)
        for runs in cut_runs(merge_runs(apart.runs(marks)), _ROUND_ROWS):
            found = read_patches(section, runs)
            _offer(open_, found, np.zeros(len(found), dtype=np.bool_))
        apart = apart.take(~marks)
