"""Local quadratic regression on one variable: the curve of Cleveland's loess, evaluated as it is.

The published program fits a quadratic at a few places (the vertices of a k-d tree over x) and
joins value and slope of neighboring vertices by a cubic. scanpy's `seurat_v3` reads its curve
there, so the same vertices are used here: the result then agrees to rounding, not by eye.
W. S. Cleveland, E. Grosse, "Computational methods for local regression", Statistics and
Computing 1 (1991) 47-62.
"""

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument

__all__ = ["loess_curve", "vertices"]

type Floats = NDArray[np.float64]

# the share of a neighborhood that one cell of the tree may hold, and how far the outermost
# vertices lie beyond the data: the program's defaults
CELL, MARGIN = 0.2, 0.005


def loess_curve(x: Floats, y: Floats, *, span: float = 0.3) -> Floats:
    """Smooth y along x by local quadratics over the nearest share of the points.

    Parameters
    ----------
    x, y : ndarray (n,) float64
        Finite; in any order.
    span : float
        Share of the points in each neighborhood, over 0 and up to 1.

    Returns
    -------
    ndarray (n,) float64
        The curve at every x: tricube weights, degree 2, no robustness iterations.

    Raises
    ------
    InvalidArgument
        The span is out of range, holds fewer than 4 points, or some neighborhood has one x only.

    Notes
    -----
    Equal to `loess(x, y, span=span, degree=2)` of scikit-misc to about 1e-12. Where a neighborhood
    has too few different x for a quadratic, the least-norm one is taken, as R does with a warning;
    scikit-misc refuses.
    Memory: about 80 n bytes. Time: some n for each of about 5 / span vertices.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(0.0, 1.0, 50)
    >>> bool(np.allclose(loess_curve(x, 1.0 + x - 2.0 * x**2), 1.0 + x - 2.0 * x**2))
    True
    """
    if not 0.0 < span <= 1.0:
        raise InvalidArgument(f"wanted a span over 0 and up to 1, but got span={span}")
    near = min(len(x), int(len(x) * span + 1e-5))
    if near < 4:
        raise InvalidArgument(
            f"wanted at least 4 points in a neighborhood, but got {near} of {len(x)} at "
            f"span={span}; raise the span"
        )
    ordered = np.sort(x)
    at = vertices(ordered, int(len(x) * (span * CELL)))
    fits = np.array([_quadratic(x, y, float(place), near) for place in at])
    return _joined(x, at, fits)


def vertices(ordered: Floats, most: int) -> Floats:
    """Cut the axis into cells of at most `most` points, equal points kept together.

    Parameters
    ----------
    ordered : ndarray (n,) float64
        Ascending.
    most : int
        Points that a cell may hold.

    Returns
    -------
    ndarray (v,) float64
        Ascending; the first and last lie just outside the data.
    """
    low, high = float(ordered[0]), float(ordered[-1])
    beyond = MARGIN * max(high - low, 1e-10 * max(abs(low), abs(high)) + 1e-30)
    found = [low - beyond, high + beyond]
    cells = [(0, len(ordered) - 1, found[0], found[1])]
    while cells:
        first, last, left, right = cells.pop()
        if last - first + 1 <= most or right - left <= 0.0:
            continue
        middle = _cut(ordered, first, last)
        place = float(ordered[middle])
        if place in (left, right):
            continue
        found.append(place)
        cells += [(first, middle, left, place), (middle + 1, last, place, right)]
    return np.sort(np.array(found))


def _cut(ordered: Floats, first: int, last: int) -> int:
    """Index nearest the middle whose successor differs, so that equal points stay together."""
    # the program counts from one: its middle is one lower where the bounds add up to odd
    middle = (first + last + 2) // 2 - 1
    step = 0
    while first <= middle + step < last:
        if ordered[middle + step] != ordered[middle + step + 1]:
            return middle + step
        step = -step if step > 0 else 1 - step
    return middle


def _quadratic(x: Floats, y: Floats, place: float, near: int) -> tuple[float, float]:
    """Value and slope at a place of the weighted quadratic through the nearest points."""
    square = (x - place) ** 2
    farthest = float(np.partition(square, near - 1)[near - 1])
    # points at the farthest distance weigh nothing, so ties there do not matter
    inside = np.flatnonzero(square < farthest)
    if len(inside) == 0:
        raise InvalidArgument(
            f"wanted points of different x in every neighborhood, but got {near} at the same "
            f"distance from {place:.6g}; raise the span, or leave out genes seen in few cells"
        )
    weight = np.sqrt((1.0 - np.sqrt(square[inside] / farthest) ** 3) ** 3)
    design = weight[:, None] * (x[inside] - place)[:, None] ** np.arange(3)
    scale = np.sqrt((design**2).sum(axis=0))
    scale[scale == 0.0] = 1.0
    left, sizes, right = np.linalg.svd(design / scale, full_matrices=False)
    kept = sizes > sizes[0] * 100.0 * np.finfo(np.float64).eps
    along = np.divide(left.T @ (weight * y[inside]), sizes, out=np.zeros(len(sizes)), where=kept)
    value, slope, _ = (right.T @ along) / scale
    return float(value), float(slope)


def _joined(x: Floats, at: Floats, fits: Floats) -> Floats:
    """Cubic Hermite interpolation between neighboring vertices."""
    cell = np.clip(np.searchsorted(at, x, side="left") - 1, 0, len(at) - 2)
    width = at[cell + 1] - at[cell]
    h = (x - at[cell]) / width
    (value0, slope0), (value1, slope1) = fits[cell].T, fits[cell + 1].T
    ends = (1.0 - h) ** 2 * (1.0 + 2.0 * h) * value0 + h**2 * (3.0 - 2.0 * h) * value1
    bend = h * (1.0 - h) ** 2 * slope0 + h**2 * (h - 1.0) * slope1
    return np.asarray(ends + bend * width)
