"""All pairs of cells within a distance: compiled loops over the sorted grid of some rows.

The rows that are wanted (*targets*) lie in the grid; all points that could be their neighbors pass
by in ascending row order and are entered into the rows of the targets they find. So the columns of
every row come out ascending and nothing is sorted, and passing points need not be held together.

The squared distance is ``dx * dx + dy * dy`` of unshifted float64 coordinates, each operation
rounded: it is the same for (i, j) and (j, i), hence the graph is symmetric bit by bit.

Claim. A point p passing by finds every target t with ``d2(t, p) <= high``, if `reach` is
`search_reach` of the radius and ``high`` its rounded square. Proof. ``d2 <= high`` means that the
rounded square of ``dx = fl(x_p - x_t)`` is at most ``high``, for rounding is monotone. Unless it
underflows, a rounded product or difference is off by at most 2^-53 of itself, so the true
difference of x is at most ``radius * (1 + 4 * 2^-53)``, which is below `reach`; where squares
underflow, it is below 1e-150, which `reach` contains too. Thus ``x_p - reach <= x_t <= x_p +
reach`` in true numbers, and after rounding both ends, for x_t is itself a float64 number. The
column of the grid is monotone in x (see `cell_of`), so t lies in one of the columns from that of
``x_p - reach`` to that of ``x_p + reach``; the same holds for y. All points of these cells are
looked at. []
"""

# ruff: noqa: PLR0917 - compiled loops take plain arrays: fields of a tuple cost a reference count
from typing import Any

import numpy as np

from ..compiled import njit
from .grid_index import GridIndex, cell_of

__all__ = ["count_within", "crowding", "fill_within", "index_within", "search_reach"]

_WIDEN = 1.0 + 1e-12
_TINY = 1e-150
# Side of a grid cell, in radii: with 1 a search looks at 3 x 3 cells, 2.9 times the disc. Smaller
# cells look at less and jump more; 1/2 was no faster for 10 to 28 neighbors.
_SIDE = 1.0
# Grid cells per point at most, so that a small radius in a wide box does not make millions.
_CELLS_PER_POINT = 2.0


def search_reach(radius: float) -> float:
    """Return half the side of the square to search: the radius and room for rounding.

    Examples
    --------
    >>> 1.0 < search_reach(1.0) < 1.0 + 1e-9
    True
    """
    return radius * _WIDEN + _TINY


@njit
def _shape(width: float, height: float, m: int, reach: float) -> tuple[float, int, int]:
    """Return (cells per unit, nx, ny) of a grid with cells of about the radius."""
    # The second term bounds the number of cells, the third also along a thin box.
    most = np.sqrt(width) * np.sqrt(height) / np.sqrt(_CELLS_PER_POINT * m)
    side = max(reach * _SIDE, most, max(width, height) / m)
    if not (side > 0.0 and np.isfinite(side)):
        return 0.0, 1, 1
    per_unit = 1.0 / side
    if not np.isfinite(per_unit):
        return 0.0, 1, 1
    return per_unit, min(int(width * per_unit) + 1, m + 1), min(int(height * per_unit) + 1, m + 1)


@njit
def index_within(xy: Any, reach: float) -> GridIndex:
    """Sort the targets into a grid whose cells are about as wide as the reach.

    Parameters
    ----------
    xy : array (m, 2) float64
        Positions of the targets, m >= 1.
    reach : float
        See `search_reach`.

    Returns
    -------
    GridIndex
        `row` is the number of the target, 0 to m - 1. About 30 bytes a target.
    """
    m = xy.shape[0]
    x0, x1, y0, y1 = xy[0, 0], xy[0, 0], xy[0, 1], xy[0, 1]
    for i in range(m):
        x0, x1 = min(x0, xy[i, 0]), max(x1, xy[i, 0])
        y0, y1 = min(y0, xy[i, 1]), max(y1, xy[i, 1])
    per_unit, nx, ny = _shape(x1 - x0, y1 - y0, m, reach)
    cell = np.empty(m, dtype=np.int32)
    start = np.zeros(nx * ny + 1, dtype=np.int32)
    for i in range(m):
        c = cell_of(xy[i, 1], y0, per_unit, ny) * nx + cell_of(xy[i, 0], x0, per_unit, nx)
        cell[i] = c
        start[c + 1] += 1
    for c in range(nx * ny):
        start[c + 1] += start[c]
    cursor = start[:-1].copy()
    x, y = np.empty(m), np.empty(m)
    row = np.empty(m, dtype=np.int32)
    for i in range(m):
        p = cursor[cell[i]]
        cursor[cell[i]] = p + 1
        x[p], y[p], row[p] = xy[i, 0], xy[i, 1], i
    return GridIndex(x, y, row, start, x0, y0, per_unit, nx, ny)


@njit
def crowding(g: Any, reach: float) -> float:
    """Return how many targets share a target's cell in the mean, if cells are too wide; else 0.

    Cells are wider than the reach where few far targets stretch the box of the grid. A grid that is
    crowded for that reason should be split.
    """
    if g.per_unit == 0.0 or g.per_unit * reach * _SIDE >= 0.5:
        return 0.0
    total = 0.0
    for c in range(g.nx * g.ny):
        n = float(g.start[c + 1] - g.start[c])
        total += n * n
    return total / float(g.x.size)


@njit
def count_within(
    xy: Any, target: Any, g: Any, box: Any, reach: float, low: float, high: float, counts: Any
) -> None:
    """Count, for every target, the passing points at a squared distance of low to high.

    Parameters
    ----------
    xy : array (p, 2) float64
        Points passing by.
    target : array (p,) int32
        Number of the target that a point is itself; negative where it is none.
    g : GridIndex
        The targets.
    box : array (4,) float64
        Tight box of the targets.
    reach, low, high : float
        See `search_reach`; bounds of the squared distance, both included.
    counts : array (m,) int64
        Increased in place.
    """
    gx, gy, grow, start = g.x, g.y, g.row, g.start
    x0, y0, per_unit, nx, ny = g.x0, g.y0, g.per_unit, g.nx, g.ny
    itself = 1 if low <= 0.0 else 0
    for i in range(xy.shape[0]):
        qx, qy = xy[i, 0], xy[i, 1]
        left, right, top, bottom = qx - reach, qx + reach, qy - reach, qy + reach
        if right < box[0] or left > box[2] or bottom < box[1] or top > box[3]:
            continue
        a, b = cell_of(left, x0, per_unit, nx), cell_of(right, x0, per_unit, nx)
        e, f = cell_of(top, y0, per_unit, ny), cell_of(bottom, y0, per_unit, ny)
        if target[i] >= 0:  # its row has as many edges as its column
            n = 0
            for line in range(e, f + 1):
                for p in range(start[line * nx + a], start[line * nx + b + 1]):
                    dx = gx[p] - qx
                    dy = gy[p] - qy
                    d2 = dx * dx + dy * dy
                    n += (d2 >= low) & (d2 <= high)
            counts[target[i]] += n - itself
            continue
        for line in range(e, f + 1):
            for p in range(start[line * nx + a], start[line * nx + b + 1]):
                dx = gx[p] - qx
                dy = gy[p] - qy
                d2 = dx * dx + dy * dy
                counts[grow[p]] += (d2 >= low) & (d2 <= high)


@njit
def fill_within(
    xy: Any, row: Any, target: Any, g: Any, box: Any, reach: float, low: float, high: float,
    lift: float, cursor: Any, indices: Any, distances: Any,
) -> None:  # fmt: skip
    """Enter passing points into the rows of the targets at a squared distance of low to high.

    Parameters
    ----------
    xy, target, g, box, reach, low, high
        As in `count_within`.
    row : array (p,) int32
        Section rows of the points, ascending.
    lift : float
        Added to squared distances before the root is taken: the square of a gap in z, or zero.
    cursor : array (m,) int64
        Place of each target's next edge; moved on.
    indices : array (nnz,) int32
        Section rows of the neighbors, written in place.
    distances : array (nnz,) float64
        Their distances, written in place.
    """
    gx, gy, grow, start = g.x, g.y, g.row, g.start
    x0, y0, per_unit, nx, ny = g.x0, g.y0, g.per_unit, g.nx, g.ny
    hit_d2, hit_at = np.empty(256), np.empty(256, dtype=np.int32)
    for i in range(xy.shape[0]):
        qx, qy, qrow, own = xy[i, 0], xy[i, 1], row[i], target[i]
        left, right, top, bottom = qx - reach, qx + reach, qy - reach, qy + reach
        if right < box[0] or left > box[2] or bottom < box[1] or top > box[3]:
            continue
        a, b = cell_of(left, x0, per_unit, nx), cell_of(right, x0, per_unit, nx)
        e, f = cell_of(top, y0, per_unit, ny), cell_of(bottom, y0, per_unit, ny)
        for line in range(e, f + 1):
            first, last = start[line * nx + a], start[line * nx + b + 1]
            if last - first > hit_d2.size:
                hit_d2, hit_at = (
                    np.empty(2 * (last - first)),
                    np.empty(2 * (last - first), np.int32),
                )
            n = 0
            for p in range(first, last):
                dx = gx[p] - qx
                dy = gy[p] - qy
                d2 = dx * dx + dy * dy
                # Written always, kept if near: a branch here would be guessed wrong too often.
                hit_d2[n], hit_at[n] = d2, grow[p]
                n += (d2 >= low) & (d2 <= high) & (grow[p] != own)
            for h in range(n):
                t = hit_at[h]
                at = cursor[t]
                cursor[t] = at + 1
                indices[at], distances[at] = qrow, np.sqrt(hit_d2[h] + lift)
