"""Compiled loops over boxes of positions: cutting, tightening, measuring, finding near ones."""

from typing import Any

import numpy as np

from ..compiled import njit

__all__ = ["TOGETHER", "box_d2", "cell_areas", "cut_jumps", "mark_near", "tight"]

# Boxes of `own` under one common box: a box that misses that one misses them all.
TOGETHER = 32
# Rows of the smallest patch that is cut where the curve jumps.
_LEAST_CUT = 16


@njit
def _area(xy: Any, first: int, last: int) -> float:
    """Return the area of the tight box of some positions."""
    x0, y0 = xy[first, 0], xy[first, 1]
    x1, y1 = x0, y0
    for i in range(first + 1, last):
        x, y = xy[i, 0], xy[i, 1]
        x0, x1, y0, y1 = min(x0, x), max(x1, x), min(y0, y), max(y1, y)
    return float((x1 - x0) * (y1 - y0))


@njit
def cell_areas(xy: Any, ptr: Any, k: int, area: Any) -> None:
    """Estimate the area around one cell of each patch from the boxes of its quarters.

    The second smallest of the four counts: neither far cells nor a jump of the space-filling curve
    change it. Cells on a line get the area whose circle reaches as many of them.

    Parameters
    ----------
    xy, ptr : array (m, 2) float64, array (p + 1,) int64
        Patches, none empty.
    k : int
        Neighbors wanted.
    area : array (p,) float64
        Filled; 0 where there are fewer than 16 cells, or all at one position.
    """
    for p in range(ptr.size - 1):
        first, n = ptr[p], ptr[p + 1] - ptr[p]
        least, second = np.inf, np.inf
        for q in range(4):
            a, b = first + q * n // 4, first + (q + 1) * n // 4
            x0, y0, x1, y1 = np.inf, np.inf, -np.inf, -np.inf
            for i in range(a, b):
                x0, x1 = min(x0, xy[i, 0]), max(x1, xy[i, 0])
                y0, y1 = min(y0, xy[i, 1]), max(y1, xy[i, 1])
            w, h, m = x1 - x0, y1 - y0, b - a
            # The tight box of m random points leaves out two shares of m + 1 along each side.
            one = w * h * (m + 1) / (m - 1) * (m + 1) / (m - 1) / m if m > 1 else 0.0
            step = max(w, h) / m
            if min(w, h) < step:
                one = max(one, 2.0 * k * step * step)
            if one < least:
                least, second = one, least
            elif one < second:
                second = one
        area[p] = second if n >= 16 and second < np.inf else 0.0


@njit
def cut_jumps(xy: Any, first_row: Any, ptr: Any) -> Any:
    """Cut patches in four, and these again, where the curve jumps or a cell lies far off.

    Told from the boxes of the quarters: in a compact patch the three smaller ones together cover
    a third of it or more, here less than an eighth.

    Returns
    -------
    tuple of array
        `first_row` and `ptr` of the new patches.
    """
    rows = np.empty(xy.shape[0], dtype=np.int64)
    cuts = np.zeros(xy.shape[0] + 1, dtype=np.int64)
    n = 0
    stack = np.empty((16, 2), dtype=np.int64)
    for p in range(first_row.size):
        depth = 1
        stack[0, 0], stack[0, 1] = ptr[p], ptr[p + 1]
        while depth > 0:
            depth -= 1
            first, last = stack[depth, 0], stack[depth, 1]
            size = last - first
            if size >= _LEAST_CUT:
                largest, total = 0.0, 0.0
                for q in range(4):
                    one = _area(xy, first + q * size // 4, first + (q + 1) * size // 4)
                    largest, total = max(largest, one), total + one
                if total - largest < 0.125 * _area(xy, first, last):
                    # Last to first, so that they come off the stack in order.
                    for q in range(3, -1, -1):
                        stack[depth, 0] = first + q * size // 4
                        stack[depth, 1] = first + (q + 1) * size // 4
                        depth += 1
                    continue
            rows[n], cuts[n + 1] = first_row[p] + first - ptr[p], last
            n += 1
    return rows[:n], cuts[: n + 1]


@njit
def box_d2(x: float, y: float, boxes: Any, b: int) -> float:
    """Return the squared distance from a point to closed box b, (xmin, ymin, xmax, ymax)."""
    dx = max(boxes[b, 0] - x, x - boxes[b, 2], 0.0)
    dy = max(boxes[b, 1] - y, y - boxes[b, 3], 0.0)
    return float(dx * dx + dy * dy)


@njit
def tight(xy: Any, ptr: Any, boxes: Any) -> None:
    """Write the tight boxes of consecutive, non-empty ranges of positions."""
    for p in range(boxes.shape[0]):
        x0, y0 = xy[ptr[p], 0], xy[ptr[p], 1]
        x1, y1 = x0, y0
        for i in range(ptr[p] + 1, ptr[p + 1]):
            x, y = xy[i, 0], xy[i, 1]
            x0, x1, y0, y1 = min(x0, x), max(x1, x), min(y0, y), max(y1, y)
        boxes[p, 0], boxes[p, 1], boxes[p, 2], boxes[p, 3] = x0, y0, x1, y1


@njit
def mark_near(boxes: Any, own: Any, reach_d2: Any, groups: Any, hit: Any) -> None:
    """Mark the boxes that come within reach of some patch; see `box_to_boxes`.

    Rows of `groups` are the common box of `TOGETHER` patches and their greatest squared reach.
    """
    for b in range(boxes.shape[0]):
        x0, y0, x1, y1 = boxes[b, 0], boxes[b, 1], boxes[b, 2], boxes[b, 3]
        for g in range(groups.shape[0]):
            dx = max(x0 - groups[g, 2], groups[g, 0] - x1, 0.0)
            dy = max(y0 - groups[g, 3], groups[g, 1] - y1, 0.0)
            if hit[b] or dx * dx + dy * dy > groups[g, 4]:
                continue
            for p in range(g * TOGETHER, min((g + 1) * TOGETHER, own.shape[0])):
                dx = max(x0 - own[p, 2], own[p, 0] - x1, 0.0)
                dy = max(y0 - own[p, 3], own[p, 1] - y1, 0.0)
                if dx * dx + dy * dy <= reach_d2[p]:
                    hit[b] = True
                    break
