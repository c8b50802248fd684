"""The slow road of the neighbor search: few queries, many boxes, candidates carried along."""

# ruff: noqa: PLR0917 - compiled loops take plain arrays
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..compiled import njit
from .grid_index import index_points
from .kernel import LANES, NONE, emit, search_grid
from .patch_kernels import box_d2

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EVERYWHERE", "Candidates", "extend", "extend_all", "mark_open", "settle"]

EVERYWHERE = np.array([[-np.inf, -np.inf, np.inf, np.inf]])
"""The one box that rules out nothing, (1, 4)."""


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
def extend(xy: Any, rows: Any, g: Any, boxes: Any, p: int, shrink: float, c: Any) -> None:
    """Offer the points of one grid to the queries that they can still improve.

    Parameters
    ----------
    xy, rows : array (q, 2) float64, array (q,) int32
        The queries; none is its own neighbor.
    g : GridIndex
        The points.
    boxes : array (b, 4) float64
        Box `p` of these holds them.
    p : int
        See `boxes`.
    shrink : float
        Factor just below one put on the squared box distance; see `certificate`.
    c : Candidates
        Improved in place.
    """
    k = c.d2.shape[1]
    gx, gy, grow, start = g.x, g.y, g.row, g.start
    x0, y0, per_unit, nx, ny = g.x0, g.y0, g.per_unit, g.nx, g.ny
    cd2, crow, cx, cy = c.d2, c.row, c.x, c.y
    d2s, at = np.empty(k), np.empty(k, dtype=np.int64)
    for i in range(xy.shape[0]):
        qx, qy = xy[i, 0], xy[i, 1]
        if crow[i, k - 1] >= 0 and box_d2(qx, qy, boxes, p) * shrink > cd2[i, k - 1]:
            continue
        for j in range(k):
            d2s[j] = cd2[i, j]
            at[j] = -1 - j if crow[i, j] >= 0 else NONE
        search_grid(
            qx, qy, rows[i], gx, gy, grow, start, x0, y0, per_unit, nx, ny, cx[i], cy[i], crow[i],
            d2s, at,
        )  # fmt: skip
        # From the end: a held point only ever moves back, so its old place is still unwritten.
        for j in range(k - 1, -1, -1):
            a = at[j]
            if a >= 0:
                cd2[i, j], crow[i, j], cx[i, j], cy[i, j] = d2s[j], grow[a], gx[a], gy[a]
            elif a != NONE:
                o = -1 - a
                cd2[i, j], crow[i, j], cx[i, j], cy[i, j] = d2s[j], crow[i, o], cx[i, o], cy[i, o]


@njit
def extend_all(
    xy: Any, rows: Any, found_xy: Any, first_row: Any, ptr: Any, boxes: Any, skipped: Any,
    shrink: float, c: Any,
) -> None:  # fmt: skip
    """Offer the points of many patches to the queries, one patch after the other.

    Parameters
    ----------
    xy, rows : array (q, 2) float64, array (q,) int32
        The queries.
    found_xy, first_row, ptr, boxes : arrays
        The patches, see `Patches`.
    skipped : array (p,) bool
        Patches to leave out.
    shrink : float
        As in `extend`.
    c : Candidates
        Improved in place.
    """
    k = c.d2.shape[1]
    for p in range(boxes.shape[0]):
        if skipped[p]:
            continue
        wanted = False
        for i in range(xy.shape[0]):
            d2 = box_d2(xy[i, 0], xy[i, 1], boxes, p)
            if c.row[i, k - 1] < 0 or d2 * shrink <= c.d2[i, k - 1]:
                wanted = True
                break
        if not wanted:
            continue
        first, last = ptr[p], ptr[p + 1]
        found_row = np.arange(first_row[p], first_row[p] + last - first).astype(np.int32)
        g = index_points(found_xy[first:last], found_row, k)
        extend(xy, rows, g, boxes, p, shrink, c)


@njit
def mark_open(xy: Any, c: Any, ptr: Any, boxes: Any, shrink: float, marks: Any, open_: Any) -> int:
    """Mark, for every query, the nearest boxes if its k-th distance does not rule them out.

    Parameters
    ----------
    xy : array (q, 2) float64
        Positions of the queries.
    c : Candidates
        What is known of them.
    ptr : array (g + 1,) int64
        Groups of queries that lie near each other; boxes out of reach of a whole group cost once.
    boxes : array (b, 4) float64
        Boxes of what was not searched.
    shrink : float
        Factor just below one put on squared box distances; see `certificate`.
    marks : array (b,) bool
        Set to true for the marked boxes, in place.
    open_ : array (q,) bool
        Set to true for queries that a box was marked for, to false for those that are final.

    Returns
    -------
    int
        Number of queries that are not final.
    """
    k = c.d2.shape[1]
    n_open = 0
    near = np.empty(boxes.shape[0], dtype=np.int64)
    for g in range(ptr.size - 1):
        x0, y0, x1, y1, far = np.inf, np.inf, -np.inf, -np.inf, -np.inf
        for i in range(ptr[g], ptr[g + 1]):
            x0, y0, x1, y1 = (
                min(x0, xy[i, 0]),
                min(y0, xy[i, 1]),
                max(x1, xy[i, 0]),
                max(y1, xy[i, 1]),
            )
            far = max(far, c.d2[i, k - 1])
        n_near = 0
        for b in range(boxes.shape[0]):
            dx = max(boxes[b, 0] - x1, x0 - boxes[b, 2], 0.0)
            dy = max(boxes[b, 1] - y1, y0 - boxes[b, 3], 0.0)
            if (dx * dx + dy * dy) * shrink <= far:
                near[n_near] = b
                n_near += 1
        for i in range(ptr[g], ptr[g + 1]):
            reach = c.d2[i, k - 1] if c.row[i, k - 1] >= 0 else np.inf
            best, nearest = -1, np.inf
            for m in range(n_near):
                d2 = box_d2(xy[i, 0], xy[i, 1], boxes, near[m])
                if d2 * shrink <= reach and (best < 0 or d2 < nearest):
                    best, nearest = near[m], d2
            open_[i] = best >= 0
            if best < 0:
                continue
            n_open += 1
            # All that are as near, or a pile of cells at one position would take a round for each.
            for m in range(n_near):
                if box_d2(xy[i, 0], xy[i, 1], boxes, near[m]) <= nearest:
                    marks[near[m]] = True
    return n_open


@njit
def settle(c: Any, into: Any, columns: bool, out_row: Any, out_value: Any) -> None:
    """Write the neighbors of queries whose candidates are final; see `search`.

    Parameters
    ----------
    c : Candidates
        Full table, shape (q, k).
    into : array (q,) int64
        Line of the result of each query.
    columns : bool
        As in `search`.
    out_row, out_value : array (m, k) int32, array (m, k) float64
        Lines filled in place.
    """
    k = c.d2.shape[1]
    rows = np.empty(k + LANES, dtype=np.int64)
    for i in range(into.size):
        rows[:k] = c.row[i]
        emit(c.d2[i], rows, columns, out_row[into[i]], out_value[into[i]])
