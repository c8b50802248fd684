"""Expected number of neighbors from the boxes of tiles alone, in compiled loops."""

from typing import Any

import numpy as np

from ..compiled import njit

__all__ = ["degrees"]

# A box without width gets this share of the radius: so little that nothing changes but the formula
# holds.
_THIN = 1e-3
_DISC_IN_SQUARE = np.pi / 4.0


@njit
def _half_square(z: float) -> float:
    return 0.5 * z * z if z > 0.0 else 0.0


@njit
def _share(a: float, b: float, c: float, d: float, r: float) -> float:
    """Return the probability that uniform x in a..b and y in c..d are at most r apart.

    The area of the rectangle (a, b) x (c, d) on which x - y <= s is a sum of half squares.
    """
    b, d = max(b, a + _THIN * r), max(d, c + _THIN * r)
    if c - b >= r or a - d >= r:
        return 0.0
    if max(b - c, d - a) <= r:
        return 1.0
    area = 0.0
    for sign in (1.0, -1.0):
        s = sign * r
        area += sign * (
            _half_square(s - a + d)
            - _half_square(s - b + d)
            - _half_square(s - a + c)
            + _half_square(s - b + c)
        )
    return min(1.0, max(0.0, area / ((b - a) * (d - c))))


@njit
def degrees(boxes: Any, others: Any, cells: Any, r: float, same: bool) -> Any:
    """Return the expected neighbors of a cell of each tile among the cells of other tiles.

    Parameters
    ----------
    boxes : array (T, 4) float64
        Tight boxes.
    others : array (U, 4) float64
        Tight boxes of the tiles with the neighbors, ascending by xmin.
    cells : array (U,) float64
        Cells of each of them.
    r : float
        The radius.
    same : bool
        Whether both are one table, so that no cell is its own neighbor.

    Returns
    -------
    array (T,) float64
    """
    n = others.shape[0]
    # The farthest right end so far: tiles before the first that reaches r near are out of reach.
    ends = np.empty(n)
    farthest = -np.inf
    for u in range(n):
        farthest = max(farthest, others[u, 2])
        ends[u] = farthest
    found = np.zeros(boxes.shape[0])
    for t in range(boxes.shape[0]):
        x0, y0, x1, y1 = boxes[t, 0], boxes[t, 1], boxes[t, 2], boxes[t, 3]
        for u in range(np.searchsorted(ends, x0 - r), n):
            if others[u, 0] - x1 > r:
                break
            across = _share(x0, x1, others[u, 0], others[u, 2], r)
            if across == 0.0:
                continue
            down = _share(y0, y1, others[u, 1], others[u, 3], r)
            # A square cut in both directions loses its corners, one that holds all does not.
            share = across * down * (1.0 - (1.0 - _DISC_IN_SQUARE) * (1.0 - across) * (1.0 - down))
            found[t] += (cells[u] - 1.0 if same and u == t else cells[u]) * share
    return found
