"""Neighbor search on sorted grids.

Only compiled loops live here; what must be searched is decided in `nearest` and `certificate`.
The kernels release the interpreter lock, never use fast-math and compute every squared distance
as ``dx * dx + dy * dy`` of unshifted float64 coordinates, so that the value belongs to the pair
of cells alone and not to the grid in which it was met.
"""

# ruff: noqa: PLR0917 - compiled loops take plain arrays, see `extend`
from typing import Any

import numpy as np

from ..compiled import njit
from .grid_index import cell_of

__all__ = ["LANES", "NONE", "emit", "gather", "search", "search_grid"]

# Widens the search square by far more than the rounding of one square root, so that no pair whose
# computed squared distance ties with the current k-th can fall outside of it. The second number
# covers squares that underflow to zero.
_WIDEN = 1.0 + 1e-12
_TINY = 1e-150
# Points a guess may collect, in k; where it would be more, the guess is bad.
_HITS = 12
# Guesses that may fail before the good ones must outnumber them.
_FREE_MISSES = 64
# Guesses, each twice the one before, until enough points are within one.
_MARGIN = 1.4
_GUESSES = 3
# Arrays that are compared all with all are filled up to whole vectors: loops without a rest.
LANES = 8
_LAST = 2**62
# Marks an empty place in the search buffer.
NONE = -(2**62)


@njit
def _wins_tie(p: int, held: int, gx: Any, gy: Any, grow: Any, cx: Any, cy: Any, crow: Any) -> bool:
    """Tell whether grid point p precedes a held point at the same distance, by (x, y, row)."""
    if held == NONE:
        return True
    if held >= 0:
        x, y, row = gx[held], gy[held], grow[held]
    else:
        x, y, row = cx[-1 - held], cy[-1 - held], crow[-1 - held]
    if gx[p] != x:
        return bool(gx[p] < x)
    if gy[p] != y:
        return bool(gy[p] < y)
    return bool(grow[p] < row)


@njit
def _scan(
    first: int, last: int, qx: float, qy: float, qrow: int, gx: Any, gy: Any, grow: Any,
    cx: Any, cy: Any, crow: Any, d2s: Any, at: Any,
) -> None:  # fmt: skip
    """Offer the points first..last-1 of the grid to the search buffer."""
    k = d2s.size
    worst = d2s[k - 1]
    for p in range(first, last):
        dx = gx[p] - qx
        dy = gy[p] - qy
        d2 = dx * dx + dy * dy
        if d2 > worst or grow[p] == qrow:
            continue
        if d2 == worst and not _wins_tie(p, at[k - 1], gx, gy, grow, cx, cy, crow):
            continue
        j = k - 1
        while j > 0:
            held = d2s[j - 1]
            if d2 > held:
                break
            if d2 == held and not _wins_tie(p, at[j - 1], gx, gy, grow, cx, cy, crow):
                break
            d2s[j], at[j] = held, at[j - 1]
            j -= 1
        d2s[j], at[j] = d2, p
        worst = d2s[k - 1]


@njit
def search_grid(
    qx: float, qy: float, qrow: int, gx: Any, gy: Any, grow: Any, start: Any, x0: float, y0: float,
    per_unit: float, nx: int, ny: int, cx: Any, cy: Any, crow: Any, d2s: Any, at: Any,
) -> None:  # fmt: skip
    """Find the k best among the grid's points and those held; `at` tells where each lies.

    The square of cells around the query grows until k points are held, then once to all cells
    that a point nearer than the k-th, or tied with it, could lie in. Cells are scanned once.
    """
    k = d2s.size
    left, right, top, bottom = 0, -1, 0, -1
    reach = 1
    column, line = cell_of(qx, x0, per_unit, nx), cell_of(qy, y0, per_unit, ny)
    while True:
        if at[k - 1] != NONE:
            r = np.sqrt(d2s[k - 1]) * _WIDEN + _TINY
            a, b = cell_of(qx - r, x0, per_unit, nx), cell_of(qx + r, x0, per_unit, nx)
            e, f = cell_of(qy - r, y0, per_unit, ny), cell_of(qy + r, y0, per_unit, ny)
            if right >= left:
                a, b, e, f = min(a, left), max(b, right), min(e, top), max(f, bottom)
        else:
            a, b = max(column - reach, 0), min(column + reach, nx - 1)
            e, f = max(line - reach, 0), min(line + reach, ny - 1)
            reach *= 2
        if a == left and b == right and e == top and f == bottom:
            return
        for row in range(e, f + 1):
            base = row * nx
            inside = top <= row <= bottom
            # A row of cells is one run of points; a row through the old square leaves two.
            for part in range(2 if inside else 1):
                first = base + (a if part == 0 else right + 1)
                last = base + (left if inside and part == 0 else b + 1)
                _scan(start[first], start[last], qx, qy, qrow, gx, gy, grow, cx, cy, crow, d2s, at)
        left, right, top, bottom = a, b, e, f


@njit
def _gather(
    qx: float, qy: float, limit: float, gx: Any, gy: Any, start: Any, x0: float, y0: float,
    per_unit: float, nx: int, ny: int, hit_d2: Any, hit_at: Any,
) -> np.int64:  # fmt: skip
    """Collect all points within a squared distance, in no order; -1 when they do not fit.

    Numbers of points are unsigned here: those need no check for indices that count from the end.
    """
    r = np.sqrt(limit) * _WIDEN + _TINY
    a, b = cell_of(qx - r, x0, per_unit, nx), cell_of(qx + r, x0, per_unit, nx)
    e, f = cell_of(qy - r, y0, per_unit, ny), cell_of(qy + r, y0, per_unit, ny)
    n = np.uint64(0)
    room = np.uint64(hit_d2.size - LANES)
    for row in range(e, f + 1):
        first, last = start[row * nx + a], start[row * nx + b + 1]
        if n + np.uint64(last - first) > room:
            return np.int64(-1)
        for p in range(np.uint64(first), np.uint64(last)):
            dx = gx[p] - qx
            dy = gy[p] - qy
            d2 = dx * dx + dy * dy
            # Written always, kept if near: a branch here would be guessed wrong half the time.
            hit_d2[n] = d2
            hit_at[n] = p
            n += np.uint64(d2 <= limit)
    return np.int64(n)


@njit
def _rank(n: Any, hit_d2: Any, hit_at: Any, d2s: Any, at: Any) -> bool:
    """Put n collected points in order; False, and no order, when distances are tied."""
    m = (n + LANES - 1) // LANES * LANES
    hit_d2[n:m] = np.inf
    total = 0
    for i in range(n):
        d2 = hit_d2[i]
        place = 0
        for j in range(m):
            place += hit_d2[j] < d2
        d2s[place], at[place] = d2, hit_at[i]
        total += place
    return bool(total == n * (n - 1) // 2)


@njit
def _rank_tied(
    n: Any, hit_d2: Any, hit_at: Any, gx: Any, gy: Any, grow: Any, d2s: Any, at: Any
) -> None:
    """Put n collected points in order by (d2, x, y, row): on lattices most distances are tied."""
    m = (n + LANES - 1) // LANES * LANES
    at[:n] = NONE
    for i in range(n):
        d2, p = hit_d2[i], hit_at[i]
        place = 0
        for j in range(m):
            place += hit_d2[j] < d2
        # The tied share the places from here on, as many as there are of them.
        d2s[place] = d2
        while at[place] != NONE:
            held = at[place]
            # In place, not by `_wins_tie`: a call counts references of all arrays, which is slow.
            if gx[p] != gx[held]:
                wins = gx[p] < gx[held]
            elif gy[p] != gy[held]:
                wins = gy[p] < gy[held]
            else:
                wins = grow[p] < grow[held]
            if wins:
                p, at[place] = held, p
            place += 1
            d2s[place] = d2
        at[place] = p


@njit
def emit(d2s: Any, rows: Any, columns: bool, out_row: Any, out_value: Any) -> None:
    """Write the neighbors of one query: nearest first with d2, or by column with distances.

    `rows` is int64 and has room for `LANES` more numbers than there are neighbors.
    """
    k = out_row.size
    if not columns:
        for j in range(k):
            out_row[j], out_value[j] = rows[j], d2s[j]
        return
    m = (k + LANES - 1) // LANES * LANES
    rows[k:m] = _LAST
    for i in range(k):
        row = rows[i]
        place = 0
        for j in range(m):
            place += rows[j] < row
        out_row[place], out_value[place] = row, np.sqrt(d2s[i])


@njit
def gather(
    boxes: Any, ptr: Any, first_row: Any, xy: Any, order: Any, own: Any, reach_d2: Any,
    near_xy: Any, near_row: Any, taken: Any,
) -> int:  # fmt: skip
    """Collect the points of all patches that come within reach of some own patch.

    Parameters
    ----------
    boxes, ptr, first_row, xy : arrays
        The patches to choose from, see `Patches`.
    order : array (p,) int64
        In which order to go through them.
    own, reach_d2 : array (o, 4) float64, array (o,) float64
        Boxes and squared reach of the own patches.
    near_xy, near_row : array (m, 2) float64, array (m,) int32
        Filled from the start with positions and section rows.
    taken : array (p,) bool
        Set to true for the patches whose points were collected.

    Returns
    -------
    int
        Number of points collected.
    """
    x0, y0, x1, y1, far = own[0, 0], own[0, 1], own[0, 2], own[0, 3], reach_d2[0]
    for o in range(own.shape[0]):
        x0, y0, x1, y1 = (
            min(x0, own[o, 0]),
            min(y0, own[o, 1]),
            max(x1, own[o, 2]),
            max(y1, own[o, 3]),
        )
        far = max(far, reach_d2[o])
    n = 0
    for p in order:
        dx = max(boxes[p, 0] - x1, x0 - boxes[p, 2], 0.0)
        dy = max(boxes[p, 1] - y1, y0 - boxes[p, 3], 0.0)
        if dx * dx + dy * dy > far:
            continue
        for o in range(own.shape[0]):
            dx = max(boxes[p, 0] - own[o, 2], own[o, 0] - boxes[p, 2], 0.0)
            dy = max(boxes[p, 1] - own[o, 3], own[o, 1] - boxes[p, 3], 0.0)
            if dx * dx + dy * dy <= reach_d2[o]:
                taken[p] = True
                for i in range(ptr[p], ptr[p + 1]):
                    near_xy[n, 0], near_xy[n, 1] = xy[i, 0], xy[i, 1]
                    near_row[n] = first_row[p] + i - ptr[p]
                    n += 1
                break
    return n


@njit
def search(
    xy: Any, rows: Any, ptr: Any, certain_d2: Any, g: Any, columns: bool, out_row: Any,
    out_value: Any, unsure: Any,
) -> int:  # fmt: skip
    """Find the k nearest of each query among the points of one grid, and say which are certain.

    Parameters
    ----------
    xy, rows : array (q, 2) float64, array (q,) int32
        The queries; none is its own neighbor.
    ptr, certain_d2 : array (p + 1,) int64, array (p,) float64
        Patch i is queries ``ptr[i]`` to ``ptr[i + 1]``, counted from ``ptr[0]``; a query of it is
        certain when its k-th squared distance is below ``certain_d2[i]``.
    g : GridIndex
        The points.
    columns : bool
        Whether to write neighbors by ascending row with distances; else nearest first with squared
        distances.
    out_row, out_value : array (q, k) int32, array (q, k) float64
        Filled for the queries that are certain.
    unsure : array (q,) bool
        Set for the others.

    Returns
    -------
    int
        Number of queries that are not certain.
    """
    k = out_row.shape[1]
    # Plain locals: fields of a tuple, read in a loop, cost an atomic reference count each.
    gx, gy, grow, start = g.x, g.y, g.row, g.start
    x0, y0, per_unit, nx, ny = g.x0, g.y0, g.per_unit, g.nx, g.ny
    size = _HITS * k + LANES
    hit_d2, hit_at = np.empty(size), np.empty(size, dtype=np.int64)
    ranked_d2, ranked_at = np.empty(size), np.empty(size, dtype=np.int64)
    best_d2, best_at = np.empty(k), np.empty(k, dtype=np.int64)
    found_row = np.empty(k + LANES, dtype=np.int64)
    none_x, none_row = np.empty(0), np.empty(0, dtype=np.int32)
    # Queries follow each other along a space-filling curve: the squared k-th distance of the ones
    # before tells how far to look. Wrong guesses, and ties, only cost the slow way.
    usual, guessed, missed = 0.0, 0, 0
    margin = 1.0 + _MARGIN / np.sqrt(k)
    n_unsure = 0
    for p in range(certain_d2.size):
        certain = certain_d2[p]
        for i in range(ptr[p] - ptr[0], ptr[p + 1] - ptr[0]):
            qx, qy, qrow = xy[i, 0], xy[i, 1], rows[i]
            found = False
            if usual > 0.0 and missed <= _FREE_MISSES + guessed:
                n, limit = np.int64(0), usual * margin
                for _ in range(_GUESSES):
                    n = _gather(
                        qx, qy, limit, gx, gy, start, x0, y0, per_unit, nx, ny, hit_d2, hit_at
                    )
                    if n < 0 or n > k:
                        break
                    limit *= 2.0
                found = n > k
                if found and not _rank(n, hit_d2, hit_at, ranked_d2, ranked_at):
                    _rank_tied(n, hit_d2, hit_at, gx, gy, grow, ranked_d2, ranked_at)
                # The query is among the points, and first unless others lie where it lies.
                found = found and grow[ranked_at[0]] == qrow
                guessed += found
                missed += not found
            if found:
                d2s, at = ranked_d2[1:], ranked_at[1:]
            else:
                d2s, at = best_d2, best_at
                d2s[:], at[:] = np.inf, NONE
                search_grid(
                    qx, qy, qrow, gx, gy, grow, start, x0, y0, per_unit, nx, ny, none_x, none_x,
                    none_row, d2s, at,
                )  # fmt: skip
            if at[k - 1] == NONE or not d2s[k - 1] < certain:
                unsure[i] = True
                n_unsure += 1
                if at[k - 1] == NONE:
                    continue
            else:
                for j in range(k):
                    found_row[j] = grow[at[j]]
                emit(d2s, found_row, columns, out_row[i], out_value[i])
            usual = d2s[k - 1] if usual == 0.0 else 0.875 * usual + 0.125 * d2s[k - 1]
    return n_unsure
