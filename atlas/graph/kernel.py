"""Neighbor search on the sorted grid of one tile.

Only compiled loops live here; which tiles must be searched is decided in `certificate`.
The kernels release the interpreter lock, never use fast-math and compute every squared distance
as ``dx * dx + dy * dy`` of unshifted float64 coordinates, so that the value belongs to the pair
of cells alone and not to the tile in which it was met.
"""

# ruff: noqa: PLR0917 - compiled loops take plain arrays, see `extend`
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .grid_index import cell_of, njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Candidates", "extend", "finish", "mark_open"]

# Widens the search square by far more than the rounding of one square root, so that no pair whose
# computed squared distance ties with the current k-th can fall outside of it. The second number
# covers squares that underflow to zero.
_WIDEN = 1.0 + 1e-12
_TINY = 1e-150
# Points a guess may collect, in k; where it would be more, the guess is bad.
_HITS = 12
# Guesses that may fail before the good ones must outnumber them (on a lattice all are ties).
_FREE_MISSES = 64
# Marks an empty place in the search buffer.
_NONE = -(2**62)


class Candidates(NamedTuple):
    """The best k points known for each query, nearest first under (d2, x, y, row)."""

    d2: "NDArray[np.float64]"
    """Squared distances, shape (q, k); infinity where fewer than k are known."""
    row: "NDArray[np.int32]"
    """Section rows, shape (q, k); -1 where fewer than k are known."""
    x: "NDArray[np.float64]"
    """x of the neighbors, shape (q, k): ties are broken by it."""
    y: "NDArray[np.float64]"
    """y of the neighbors, shape (q, k): ties are broken by it."""

    @classmethod
    def empty(cls, n_queries: int, k: int) -> "Candidates":
        """Return a table in which nothing is known yet; 28 bytes per query and neighbor."""
        shape = (n_queries, k)
        return cls(
            np.full(shape, np.inf),
            np.full(shape, -1, dtype=np.int32),
            np.empty(shape),
            np.empty(shape),
        )


@njit
def _wins_tie(p: int, held: int, gx: Any, gy: Any, grow: Any, cx: Any, cy: Any, crow: Any) -> bool:
    """Tell whether grid point p precedes a held point at the same distance, by (x, y, row)."""
    if held == _NONE:
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
def _search(
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
        if at[k - 1] != _NONE:
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
    qx: float, qy: float, qrow: int, limit: float, gx: Any, gy: Any, grow: Any, start: Any,
    x0: float, y0: float, per_unit: float, nx: int, ny: int, hit_d2: Any, hit_at: Any,
) -> int:  # fmt: skip
    """Collect all points within a squared distance, in no order; -1 when they do not fit."""
    r = np.sqrt(limit) * _WIDEN + _TINY
    a, b = cell_of(qx - r, x0, per_unit, nx), cell_of(qx + r, x0, per_unit, nx)
    e, f = cell_of(qy - r, y0, per_unit, ny), cell_of(qy + r, y0, per_unit, ny)
    n = 0
    for row in range(e, f + 1):
        first, last = start[row * nx + a], start[row * nx + b + 1]
        if n + last - first > hit_d2.size:
            return -1
        for p in range(first, last):
            dx = gx[p] - qx
            dy = gy[p] - qy
            d2 = dx * dx + dy * dy
            # Written always, kept if near: a branch here would be guessed wrong half the time.
            hit_d2[n], hit_at[n] = d2, p
            n += (d2 <= limit) & (grow[p] != qrow)
    return n


@njit
def _rank(n: int, hit_d2: Any, hit_at: Any, d2s: Any, at: Any) -> bool:
    """Put the k nearest of n > k collected points in order; False when distances are tied."""
    k = d2s.size
    at[:] = _NONE
    for i in range(n):
        d2 = hit_d2[i]
        place = 0
        for j in range(n):
            place += hit_d2[j] < d2
        if place < k:
            if at[place] != _NONE:
                return False
            d2s[place], at[place] = d2, hit_at[i]
    return True


@njit
def box_d2(x: float, y: float, box: Any) -> float:
    """Return the squared distance from a point to a closed box (xmin, ymin, xmax, ymax)."""
    dx = max(box[0] - x, x - box[2], 0.0)
    dy = max(box[1] - y, y - box[3], 0.0)
    return float(dx * dx + dy * dy)


@njit
def extend(xy: Any, first_row: int, g: Any, box: Any, shrink: float, c: Any) -> int:
    """Offer the points of one tile to the queries that it can still improve.

    Parameters
    ----------
    xy : array (q, 2) float64
        Positions of the queries; query i is section row ``first_row + i`` and never its own
        neighbor.
    first_row : int
        Section row of the first query.
    g : GridIndex
        The tile.
    box : array (4,) float64
        Tight box of the tile.
    shrink : float
        Factor just below one put on the squared box distance; see `certificate`.
    c : Candidates
        Improved in place.

    Returns
    -------
    int
        Number of queries for which the tile was searched.
    """
    k = c.d2.shape[1]
    # Plain locals: fields of a tuple, read in a loop, cost an atomic reference count each.
    gx, gy, grow, start = g.x, g.y, g.row, g.start
    x0, y0, per_unit, nx, ny = g.x0, g.y0, g.per_unit, g.nx, g.ny
    cd2, crow, cx, cy = c.d2, c.row, c.x, c.y
    d2s, at = np.empty(k), np.empty(k, dtype=np.int64)
    hit_d2, hit_at = np.empty(_HITS * k), np.empty(_HITS * k, dtype=np.int64)
    # Queries follow each other along a space-filling curve: the squared k-th distance of the ones
    # before tells how far to look. Wrong guesses, and ties, only cost the slow way.
    usual, guessed, missed = 0.0, 0, 0
    margin = 1.0 + 2.0 / np.sqrt(k)
    searched = 0
    for i in range(xy.shape[0]):
        qx, qy = xy[i, 0], xy[i, 1]
        if crow[i, k - 1] >= 0 and box_d2(qx, qy, box) * shrink > cd2[i, k - 1]:
            continue
        found = False
        if crow[i, 0] < 0 and usual > 0.0 and missed <= _FREE_MISSES + guessed:
            n = _gather(
                qx, qy, first_row + i, usual * margin, gx, gy, grow, start, x0, y0, per_unit,
                nx, ny, hit_d2, hit_at,
            )  # fmt: skip
            found = n >= k and _rank(n, hit_d2, hit_at, d2s, at)
            guessed += found
            missed += not found
        if not found:
            for j in range(k):
                d2s[j] = cd2[i, j]
                at[j] = -1 - j if crow[i, j] >= 0 else _NONE
            _search(
                qx, qy, first_row + i, gx, gy, grow, start, x0, y0, per_unit, nx, ny,
                cx[i], cy[i], crow[i], d2s, at,
            )  # fmt: skip
        if at[k - 1] != _NONE:
            usual = d2s[k - 1] if usual == 0.0 else 0.875 * usual + 0.125 * d2s[k - 1]
        # From the end: a held point only ever moves back, so its old place is still unwritten.
        for j in range(k - 1, -1, -1):
            p = at[j]
            if p >= 0:
                cd2[i, j], crow[i, j], cx[i, j], cy[i, j] = d2s[j], grow[p], gx[p], gy[p]
            elif p != _NONE:
                o = -1 - p
                cd2[i, j], crow[i, j], cx[i, j], cy[i, j] = d2s[j], crow[i, o], cx[i, o], cy[i, o]
        searched += 1
    return searched


@njit
def mark_open(xy: Any, c: Any, boxes: Any, shrink: float, marks: Any) -> int:
    """Mark, for every query, the nearest box that its k-th distance does not rule out.

    Parameters
    ----------
    xy : array (q, 2) float64
        Positions of the queries.
    c : Candidates
        What is known of them.
    boxes : array (b, 4) float64
        Tight boxes of tiles that were not searched.
    shrink : float
        Factor just below one put on squared box distances; see `certificate`.
    marks : array (b,) bool
        Set to true for the marked boxes, in place.

    Returns
    -------
    int
        Number of queries that are not certified.
    """
    k = c.d2.shape[1]
    n_open = 0
    for i in range(xy.shape[0]):
        reach = c.d2[i, k - 1] if c.row[i, k - 1] >= 0 else np.inf
        best, nearest = -1, np.inf
        for b in range(boxes.shape[0]):
            d2 = box_d2(xy[i, 0], xy[i, 1], boxes[b])
            if d2 * shrink <= reach and (best < 0 or d2 < nearest):
                best, nearest = b, d2
        if best >= 0:
            marks[best] = True
            n_open += 1
    return n_open


@njit
def finish(c: Any, indices: Any, distances: Any) -> None:
    """Write each query's neighbors in ascending column order, with their distances.

    Parameters
    ----------
    c : Candidates
        Full table, shape (q, k).
    indices : array (q, k) int32
        Filled with the neighbors' section rows.
    distances : array (q, k) float64
        Filled with the distances, in the unit of the positions.
    """
    n, k = c.d2.shape
    for i in range(n):
        for j in range(k):
            row, d = c.row[i, j], np.sqrt(c.d2[i, j])
            p = j
            while p > 0 and indices[i, p - 1] > row:
                indices[i, p], distances[i, p] = indices[i, p - 1], distances[i, p - 1]
                p -= 1
            indices[i, p], distances[i, p] = row, d
