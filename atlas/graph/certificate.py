"""When a row of a tiled kNN graph is final: the halo certificate and its proof.

Setting. A section is divided into tiles; the box of a tile is the tight box of its positions, as
stored. The squared distance of two cells is the float64 number ``dx * dx + dy * dy``, with
``dx = x_j - x_i`` rounded, each product rounded, the sum rounded. The k nearest neighbors of cell
i are the first k other cells under the total order (d2, x, y, row). Nothing in this definition
knows of tiles, so a search that finds these k cells gives the same graph for any tiling.

Claim. Let S be the tiles searched for cell i, and d2_k the k-th smallest squared distance over
all cells of S. If for every other tile, with box b,

    d2_k < box_d2(i, b) * SHRINK        (strictly)

then the k best cells of S are the k nearest of the section.

Proof. Let p lie in a tile outside of S, with box b = (x0, y0, x1, y1). Then x_p >= x0 and
x_p <= x1 hold exactly, for the box is made of stored coordinates. Rounding is monotone:
u <= v implies fl(u) <= fl(v). So if x_i < x0, fl(x_p - x_i) >= fl(x0 - x_i) >= 0, likewise on the
other sides, and where x_i lies between x0 and x1 the box counts 0. Squares of numbers >= 0 and
sums are monotone too, before and after rounding. Hence d2(i, p) >= box_d2(i, b), in computed
numbers, without any slack, and therefore d2(i, p) > d2_k. There are k cells of S at most d2_k
away, so p is not among the first k, whatever its x, y and row. With equality it could be: a tied
cell with smaller (x, y, row) would win, which is why the comparison is strict. []

`SHRINK` takes eight units in the last place off the box distance. The proof does not need them on
hardware that rounds every operation; they cover compilers that fuse a product and a sum in one of
the two expressions and not in the other, and cost nothing.

A cell that knows fewer than k others has d2_k = infinity: it is final only when every tile was
searched. So a section of n <= k cells connects everybody with everybody, n - 1 neighbors each.

Which tile next. For every cell that is not final, its nearest tile that the claim does not rule
out: whole tiles, nearest first, each cell for itself. One far cell therefore pulls in the tiles on
its way, never the rectangle that spans it and the rest of the section. Each round searches at
least one more tile for every open cell, so the search ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["SHRINK", "box_to_boxes", "reachable"]

SHRINK = 1.0 - 2.0**-50
"""Factor on squared box distances: eight units in the last place below one."""


def box_to_boxes(box: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances from one box to many, zero where they meet.

    By the monotony used above, none exceeds the computed squared distance from any point of the
    first box to the other.

    Parameters
    ----------
    box : array (4,) float64
        xmin, ymin, xmax, ymax.
    boxes : array (b, 4) float64

    Returns
    -------
    array (b,) float64

    Examples
    --------
    >>> box_to_boxes(np.array([0.0, 0, 1, 1]), np.array([[4.0, 5, 6, 6], [1, 1, 2, 2]])).tolist()
    [25.0, 0.0]
    """
    dx = np.maximum(np.maximum(boxes[:, 0] - box[2], box[0] - boxes[:, 2]), 0.0)
    dy = np.maximum(np.maximum(boxes[:, 1] - box[3], box[1] - boxes[:, 3]), 0.0)
    with np.errstate(over="ignore"):  # an infinite bound is still a bound
        return np.asarray(dx * dx + dy * dy)


def reachable(
    box: NDArray[np.float64], reach_d2: float, boxes: NDArray[np.float64], seen: Iterable[int]
) -> NDArray[np.int64]:
    """Tiles that some cell inside `box` may still need, without those already searched.

    Parameters
    ----------
    box : array (4,) float64
        Tight box of the cells.
    reach_d2 : float
        Largest k-th squared distance among them; infinity where fewer than k are known.
    boxes : array (T, 4) float64
        Tight boxes of all tiles.
    seen : iterable of int
        Tiles searched for all of these cells.

    Returns
    -------
    array (m,) int64
        Tile ids, ascending.

    Examples
    --------
    >>> boxes = np.array([[0.0, 0, 1, 1], [2, 0, 3, 1], [9, 0, 9, 1]])
    >>> reachable(boxes[0], 1.0, boxes, [0]).tolist()
    [1]
    """
    near = box_to_boxes(box, boxes) * SHRINK <= reach_d2
    near[list(seen)] = False
    return np.flatnonzero(near)
