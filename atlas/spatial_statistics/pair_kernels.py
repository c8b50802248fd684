"""Compiled counts of pairs of cells by label and distance."""

# ruff: noqa: PLR0917 - compiled functions take arrays one by one

from typing import Any

import numpy as np

from ..graph.compiled import njit

__all__ = ["count_pairs", "guess_intervals"]

# Cells that share a box: consecutive in space-filling order, so that boxes are small. Fewer mean
# more boxes to compare, more mean more pairs that turn out too far apart.
_BOX_CELLS = 32


@njit
def guess_intervals(squares: Any, size: int) -> Any:
    """Tabulate the first interval that a squared distance may fall into.

    Returns
    -------
    tuple
        (size + 1,) int32 guesses, never too high; entries of the table per squared distance.
    """
    per_square = size / squares[-1]
    guesses = np.empty(size + 1, np.int32)
    r = 0
    for q in range(size + 1):
        while r < squares.size - 1 and squares[r] * per_square < q:
            r += 1
        guesses[q] = r
    return guesses, per_square


@njit
def _boxes(xy: Any) -> Any:
    """Tight boxes (xmin, ymin, xmax, ymax) of every 32 consecutive cells."""
    n = (xy.shape[0] + _BOX_CELLS - 1) // _BOX_CELLS
    boxes = np.empty((n, 4))
    for b in range(n):
        x0, y0, x1, y1 = np.inf, np.inf, -np.inf, -np.inf
        for i in range(b * _BOX_CELLS, min((b + 1) * _BOX_CELLS, xy.shape[0])):
            x0, x1 = min(x0, xy[i, 0]), max(x1, xy[i, 0])
            y0, y1 = min(y0, xy[i, 1]), max(y1, xy[i, 1])
        boxes[b, 0], boxes[b, 1], boxes[b, 2], boxes[b, 3] = x0, y0, x1, y1
    return boxes


@njit
def _gap(one: Any, other: Any) -> float:
    """Squared distance of two boxes; rounded as distances of points are, so never above them."""
    dx = max(0.0, other[0] - one[2], one[0] - other[2])
    dy = max(0.0, other[1] - one[3], one[1] - other[3])
    return float(dx * dx + dy * dy)


@njit
def count_pairs(
    own: Any,
    others: Any,
    same: bool,
    squares: Any,
    guesses: Any,
    per_square: float,
    counts: Any,
) -> None:
    """Count the pairs of two sets of cells, or those within one set, each once.

    Parameters
    ----------
    own, others : tuple of arrays (m, 2) float64, (m,) int32
        Positions and labels.
    same : bool
        Whether both are the same set.
    squares : array (r,) float64
        Squared distances, ascending; a pair belongs to the first that it does not exceed.
    guesses, per_square
        From `guess_intervals`.
    counts : array (c, c, r) int64
        Added to: label of the cell of `own`, label of the other, interval.
    """
    xy, labels = own
    xy2, labels2 = others
    boxes = _boxes(xy)
    boxes2 = boxes if same else _boxes(xy2)
    largest = squares[-1]
    for b in range(boxes.shape[0]):
        last = min((b + 1) * _BOX_CELLS, xy.shape[0])
        for b2 in range(b if same else 0, boxes2.shape[0]):
            if _gap(boxes[b], boxes2[b2]) > largest:
                continue
            last2 = min((b2 + 1) * _BOX_CELLS, xy2.shape[0])
            for i in range(b * _BOX_CELLS, last):
                x, y = xy[i, 0], xy[i, 1]
                row = counts[labels[i]]
                for j in range(i + 1 if same and b2 == b else b2 * _BOX_CELLS, last2):
                    dx, dy = x - xy2[j, 0], y - xy2[j, 1]
                    square = dx * dx + dy * dy
                    if square <= largest:
                        r = guesses[int(square * per_square)]
                        while square > squares[r]:
                            r += 1
                        row[labels2[j], r] += 1
