"""The k nearest cells of one section for cells of another one, exactly.

What lies within a reach guessed from the density of the other section is loaded, and searched for
groups of cells on one grid each. Then the claim of `search.certificate` decides: a cell is final
when its k-th distance is strictly below that to every box that was left apart. The others
search the nearest box in their way, round after round; each round searches a box more for each of
them, so it ends.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ..edges import cut_runs
from ..search.certificate import SHRINK, box_to_boxes
from ..search.grid_index import index_points
from ..search.halo import PATCH_ROWS, Halo, Patches, plan_band, read_patches
from ..search.wider import EVERYWHERE, Candidates, extend, extend_all, mark_open

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...quadtree import Runs
    from ..edges import PositionSource
    from ..search.halo import Apart

__all__ = ["nearest_between", "read_asking"]

# Queries that share a grid: their points and the band around them fit the cache of a core.
_GROUP_ROWS = 4096
# Points expected within the reach of a patch, in k: fewer leave more rows to the rounds.
_EXPECTED = 2.5
# Rows of a band: more than a block has only where the guess is bad, and then it is cut.
_BAND_ROWS = 262_144
_ROUND_ROWS = 65_536


def read_asking(section: PositionSource, runs: Runs) -> Patches:
    """Read the rows of a section that look for neighbors in another one.

    They get negative numbers, in order, so that none is taken for a row of the other section.
    """
    own = read_patches(section, runs)
    return Patches(own.xy, own.ptr, own.first_row - section.n_obs, own.boxes)


def nearest_between(own: Patches, neighbor: PositionSource, k: int) -> Candidates:
    """Find the k nearest cells of another section, nearest first under (d2, x, y, row).

    Parameters
    ----------
    own : Patches
        The m cells that ask; see `read_asking`.
    neighbor : PositionSource
        The other section, in the same frame.
    k : int
        Neighbors; no more than it has cells are found.

    Returns
    -------
    Candidates
        Shape (m, min(k, n_obs)); squared distances in the plane.

    Notes
    -----
    Memory: 28 m k bytes for the table, and 60 for each of at most 262,144 cells loaded at once.
    """
    k = min(k, neighbor.n_obs)
    table = Candidates.empty(own.xy.shape[0], k)
    if table.d2.size == 0:
        return table
    halo, reach_d2 = _load(own, neighbor, k)
    for group in _groups(own):
        _search_loaded(own, group, halo.band, float(reach_d2[slice(*group)].max()), table)
    _search_apart(own.xy, neighbor, halo.apart, table)
    return table


def _load(own: Patches, neighbor: PositionSource, k: int) -> tuple[Halo, NDArray[np.float64]]:
    """Load what lies within reach of the patches; returns the squared reach of each, too."""
    plan = plan_band(neighbor, own, reach := _reach(own.boxes, neighbor, k))
    while plan.n_rows > _BAND_ROWS and (reach > 0.0).any():
        plan = plan_band(neighbor, own, reach := np.where(reach > 1e-150, reach / 2.0, 0.0))
    return plan.load(neighbor), plan.reach_d2


def _reach(boxes: NDArray[np.float64], neighbor: PositionSource, k: int) -> NDArray[np.float64]:
    """Guess how far from a patch its neighbors lie: the gap to a tile near it, and a circle there.

    The circle holds `_EXPECTED` k cells at the density of the tile.
    """
    from scipy.spatial import cKDTree

    tiles = neighbor.tiles
    low, high = tiles.bounds[:, :2], tiles.bounds[:, 2:]
    tree = cKDTree(low / 2.0 + high / 2.0)
    _, tile = tree.query(boxes[:, :2] / 2.0 + boxes[:, 2:] / 2.0)
    side = (high - low)[tile]
    area = side[:, 0] * side[:, 1] / tiles.n_cells[tile]
    apart = np.maximum(np.maximum(low[tile] - boxes[:, 2:], boxes[:, :2] - high[tile]), 0.0)
    return np.asarray(np.hypot(apart[:, 0], apart[:, 1]) + np.sqrt(_EXPECTED * k / np.pi * area))


def _groups(own: Patches) -> list[tuple[int, int]]:
    """Consecutive patches of about `_GROUP_ROWS` rows."""
    cuts = np.searchsorted(own.ptr, np.arange(0, own.ptr[-1], _GROUP_ROWS), side="left")
    return list(pairwise(np.unique(np.append(cuts, len(own))).tolist()))


def _search_loaded(
    own: Patches, group: tuple[int, int], band: Patches, reach_d2: float, table: Candidates
) -> None:
    """Let a group of patches choose among all that was loaded, what is near on one grid."""
    boxes = own.boxes[slice(*group)]
    rows = slice(int(own.ptr[group[0]]), int(own.ptr[group[1]]))
    part = _take(table, rows)
    xy, k = own.xy[rows], table.d2.shape[1]
    nobody = np.full(xy.shape[0], -1, np.int32)
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    near = box_to_boxes(box, band.boxes) <= reach_d2
    chosen = band.take(near)
    if len(chosen):
        extend(xy, nobody, index_points(chosen.xy, chosen.rows(), k), EVERYWHERE, 0, SHRINK, part)
    others = (band.xy, band.first_row, band.ptr, band.boxes, near)
    extend_all(xy, nobody, *others, SHRINK, part)


def _search_apart(
    xy: NDArray[np.float64], neighbor: PositionSource, apart: Apart, table: Candidates
) -> None:
    """Load what is still in the way of the certificate, nearest first, until all is final."""
    at = np.arange(xy.shape[0])
    while len(apart):
        part = _take(table, at)
        marks = np.zeros(len(apart), dtype=np.bool_)
        waiting = np.zeros(at.size, dtype=np.bool_)
        ptr = np.append(np.arange(0, at.size, PATCH_ROWS), at.size)
        if not mark_open(xy[at], part, ptr, apart.boxes, SHRINK, marks, waiting):
            return
        at = at[waiting]
        part = _take(part, waiting)
        nobody = np.full(at.size, -1, np.int32)
        for runs in cut_runs(apart.runs(marks), _ROUND_ROWS):
            for found in _by_run(read_patches(neighbor, runs), len(runs)):
                box = np.concatenate([found.xy.min(axis=0), found.xy.max(axis=0)])[None]
                grid = index_points(found.xy, found.rows(), table.d2.shape[1])
                extend(xy[at], nobody, grid, box, 0, SHRINK, part)
        table.d2[at], table.row[at], table.x[at], table.y[at] = part
        apart = apart.take(~marks)


def _take(table: Candidates, rows: slice | NDArray[np.int64] | NDArray[np.bool_]) -> Candidates:
    """Return some lines; a slice of them is changed with the table, others are copies."""
    return Candidates(table.d2[rows], table.row[rows], table.x[rows], table.y[rows])


def _by_run(patches: Patches, n_runs: int) -> list[Patches]:
    """Divide patches into about as many consecutive parts as there are runs."""
    step = -(-len(patches) // n_runs)
    return [
        patches.take((np.arange(len(patches)) // step) == part)
        for part in range(-(-len(patches) // step))
    ]
