"""When a row of a tiled kNN graph is final: the halo certificate and its proof.

Setting. The squared distance of two cells is the float64 number ``dx * dx + dy * dy``, with
``dx = x_j - x_i`` rounded, each product rounded, the sum rounded. The k nearest neighbors of cell
i are the first k other cells under the total order (d2, x, y, row). Nothing in this definition
knows of tiles, so a search that finds these k cells gives the same graph for any tiling.

A search has looked at some cells of the section, S. All others lie in row runs, each with a box
that holds its cells: the tight box of a tile as stored, the box of a row block as stored (tight,
then rounded outwards to float32), or the tight box of a patch, computed from positions that were
read. Which of them it is does not matter below: only that the box holds the cells does.

Claim. Let d2_k be the k-th smallest squared distance from cell i over all other cells of S. If for
the box b of every run outside of S

    d2_k < box_d2(i, b) * SHRINK        (strictly)

then the k best cells of S are the k nearest of the section.

Proof. Let p lie in a run outside of S, with box b = (x0, y0, x1, y1). Then x_p >= x0 and
x_p <= x1 hold exactly, in the numbers as they are stored. Rounding is monotone: u <= v implies
fl(u) <= fl(v). So if x_i < x0, fl(x_p - x_i) >= fl(x0 - x_i) >= 0, likewise on the other sides,
and where x_i lies between x0 and x1 the box counts 0. Squares of numbers >= 0 and sums are
monotone too, before and after rounding. Hence d2(i, p) >= box_d2(i, b), in computed numbers,
without any slack, and therefore d2(i, p) > d2_k. There are k cells of S at most d2_k away, so p is
not among the first k, whatever its x, y and row. With equality it could be: a tied cell with
smaller (x, y, row) would win, which is why the comparison is strict. []

The fast road asks one question for all cells of a patch. A halo promises (`halo.surround`) that
every box apart from it has box_to_boxes(patch, b) > reach * reach. The same monotony, applied to
the sides of the patch's tight box, gives box_d2(i, b) >= box_to_boxes(patch, b) for every cell i
of it. So d2_k < reach * reach * SHRINK implies the claim for all b at once, and a cell for which
it holds is final. Patches that were loaded, but lie out of reach of the tile being searched, count
as apart: they were left out by the same test. Cells for which it fails take the slow road, where
S grows by the runs nearest to them until the claim itself holds.

`SHRINK` takes eight units in the last place off the box distance. The proof does not need them on
hardware that rounds every operation; they cover compilers that fuse a product and a sum in one of
the two expressions and not in the other, and cost nothing.

A cell that knows fewer than k others has d2_k = infinity: it is final only when nothing is apart.
So a section of n <= k cells connects everybody with everybody, n - 1 neighbors each.

Which runs next. For every cell that is not final, those nearest to it that the claim does not rule
out: each cell for itself. One far cell therefore pulls in what lies on its way, never the
rectangle that spans it and the rest of the section. Each round searches at least one more run for
every open cell, so the search ends.

Equal positions. Of a run of consecutive rows at one position only the first k + 1 are offered.
Any cell prefers them, at the same distance, to the later ones, which have the same x and y and a
greater row; one of them may be the cell itself; so no later one is among its first k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SHRINK", "box_to_boxes"]

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
