"""On which side, inside or outside: two signs that are never wrong.

`orientation` and `in_circle` first evaluate their determinant in float64 with a bound of its
error (Shewchuk 1997, sections 4.1 and 4.3); only when the sign is in doubt is it computed
exactly. Four points on one circle are told apart as if every point were lifted off the paraboloid
a little, the lexicographically largest of them the most (Devillers and Teillaud 2011,
*Perturbations for Delaunay and weighted Delaunay 3D triangulations*). So every set of distinct
points that are not all on one line has exactly one Delaunay triangulation, which depends on
nothing but the coordinates: the same in every tile that sees it.
"""

# ruff: noqa: PLR0917 - compiled predicates take plain coordinates
from typing import Any

import numpy as np

from ..compiled import njit
from .expansions import (
    add_expansion,
    grow,
    product_of_two,
    scale,
    sign_of,
    two_difference,
    two_sum,
)

__all__ = ["circle_sign", "in_circle", "orientation"]

_EPS = 2.0**-53
_ORIENTATION_BOUND = (3.0 + 16.0 * _EPS) * _EPS
_IN_CIRCLE_BOUND = (10.0 + 96.0 * _EPS) * _EPS


@njit
def _orientation_expansion(
    ax: float, ay: float, bx: float, by: float, cx: float, cy: float, e: Any
) -> int:
    """Write ax by - ax cy - cx by - ay bx + ay cx + cy bx to `e` (12 numbers), exactly."""
    n = 0
    for p, q in ((ax, by), (-ax, cy), (-cx, by), (-ay, bx), (ay, cx), (cy, bx)):
        high, low = product_of_two(p, q)
        n = grow(e, n, low)
        n = grow(e, n, high)
    return n


@njit
def _orientation_exact(ax: float, ay: float, bx: float, by: float, cx: float, cy: float) -> int:
    e = np.empty(12)
    return sign_of(e, _orientation_expansion(ax, ay, bx, by, cx, cy, e))


@njit
def orientation(ax: float, ay: float, bx: float, by: float, cx: float, cy: float) -> int:
    """Return 1 where a, b, c turn left (counterclockwise), -1 right, 0 on one line."""
    left = (ax - cx) * (by - cy)
    right = (ay - cy) * (bx - cx)
    det = left - right
    bound = _ORIENTATION_BOUND * (abs(left) + abs(right))
    if det > bound:
        return 1
    if -det > bound:
        return -1
    return _orientation_exact(ax, ay, bx, by, cx, cy)


@njit
def _in_circle_plain(
    adx: float, ady: float, bdx: float, bdy: float, cdx: float, cdy: float
) -> tuple[bool, float]:
    """Evaluate the determinant of exact differences; tell whether nothing at all was rounded.

    Pixels and lattices have so few digits that nothing is: their many ties cost no expansions.
    """
    lost = 0.0
    det = 0.0
    for px, py, qx, qy, rx, ry in (
        (adx, ady, bdx, bdy, cdx, cdy),
        (bdx, bdy, cdx, cdy, adx, ady),
        (cdx, cdy, adx, ady, bdx, bdy),
    ):
        xx, l1 = product_of_two(px, px)
        yy, l2 = product_of_two(py, py)
        lift, l3 = two_sum(xx, yy)
        one, l4 = product_of_two(qx, ry)
        two, l5 = product_of_two(rx, qy)
        cross, l6 = two_difference(one, two)
        term, l7 = product_of_two(lift, cross)
        det, l8 = two_sum(det, term)
        lost += abs(l1) + abs(l2) + abs(l3) + abs(l4) + abs(l5) + abs(l6) + abs(l7) + abs(l8)
    return lost == 0.0, det


@njit
def _in_circle_translated(
    adx: float, ady: float, bdx: float, bdy: float, cdx: float, cdy: float
) -> int:
    """Return the sign of the determinant of differences that are exact themselves.

    Neighbors on a fine raster far from the origin: differences lose nothing, products do.
    """
    total, minor = np.empty(96), np.empty(4)
    once, twice = np.empty(8), np.empty(16)
    n = 0
    for px, py, qx, qy, rx, ry in (
        (adx, ady, bdx, bdy, cdx, cdy),
        (bdx, bdy, cdx, cdy, adx, ady),
        (cdx, cdy, adx, ady, bdx, bdy),
    ):
        high, low = product_of_two(qx, ry)
        m = grow(minor, 0, low)
        m = grow(minor, m, high)
        high, low = product_of_two(-rx, qy)
        m = grow(minor, m, low)
        m = grow(minor, m, high)
        for value in (px, py):
            k = scale(minor, m, value, once)
            k = scale(once, k, value, twice)
            n = add_expansion(total, n, twice, k)
    return sign_of(total, n)


@njit
def _in_circle_exact(
    ax: float, ay: float, bx: float, by: float, cx: float, cy: float, dx: float, dy: float
) -> int:
    """Return the sign of the determinant with rows (x, y, x^2 + y^2, 1), exactly."""
    total = np.empty(4 * 12 * 8)
    n = 0
    minor = np.empty(12)
    once, twice = np.empty(24), np.empty(48)
    for i in range(4):
        if i == 0:
            px, py, sign = ax, ay, 1.0
            m = _orientation_expansion(bx, by, cx, cy, dx, dy, minor)
        elif i == 1:
            px, py, sign = bx, by, -1.0
            m = _orientation_expansion(ax, ay, cx, cy, dx, dy, minor)
        elif i == 2:
            px, py, sign = cx, cy, 1.0
            m = _orientation_expansion(ax, ay, bx, by, dx, dy, minor)
        else:
            px, py, sign = dx, dy, -1.0
            m = _orientation_expansion(ax, ay, bx, by, cx, cy, minor)
        for value in (px, py):
            k = scale(minor, m, value, once)
            k = scale(once, k, sign * value, twice)
            n = add_expansion(total, n, twice, k)
    return sign_of(total, n)


@njit
def _in_circle_doubtful(
    ax: float, ay: float, bx: float, by: float, cx: float, cy: float, dx: float, dy: float
) -> int:
    """Return the exact sign where the float64 determinant left it in doubt."""
    adx, l1 = two_difference(ax, dx)
    ady, l2 = two_difference(ay, dy)
    bdx, l3 = two_difference(bx, dx)
    bdy, l4 = two_difference(by, dy)
    cdx, l5 = two_difference(cx, dx)
    cdy, l6 = two_difference(cy, dy)
    if l1 == 0.0 and l2 == 0.0 and l3 == 0.0 and l4 == 0.0 and l5 == 0.0 and l6 == 0.0:
        sure, det = _in_circle_plain(adx, ady, bdx, bdy, cdx, cdy)
        if sure:
            return 1 if det > 0.0 else (-1 if det < 0.0 else 0)
        return _in_circle_translated(adx, ady, bdx, bdy, cdx, cdy)
    return _in_circle_exact(ax, ay, bx, by, cx, cy, dx, dy)


@njit
def circle_sign(
    ax: float, ay: float, bx: float, by: float, cx: float, cy: float, dx: float, dy: float
) -> int:
    """Return 1 where d lies inside the circle of a, b, c (counterclockwise), 0 on it, else -1."""
    adx, ady, bdx, bdy, cdx, cdy = ax - dx, ay - dy, bx - dx, by - dy, cx - dx, cy - dy
    bc, cb = bdx * cdy, cdx * bdy
    ca, ac = cdx * ady, adx * cdy
    ab, ba = adx * bdy, bdx * ady
    a_lift = adx * adx + ady * ady
    b_lift = bdx * bdx + bdy * bdy
    c_lift = cdx * cdx + cdy * cdy
    det = a_lift * (bc - cb) + b_lift * (ca - ac) + c_lift * (ab - ba)
    bound = _IN_CIRCLE_BOUND * (
        (abs(bc) + abs(cb)) * a_lift + (abs(ca) + abs(ac)) * b_lift + (abs(ab) + abs(ba)) * c_lift
    )
    if det > bound:
        return 1
    if -det > bound:
        return -1
    return _in_circle_doubtful(ax, ay, bx, by, cx, cy, dx, dy)


@njit
def _less(ax: float, ay: float, bx: float, by: float) -> bool:
    return ax < bx or (ax == bx and ay < by)


@njit
def in_circle(
    ax: float, ay: float, bx: float, by: float, cx: float, cy: float, dx: float, dy: float
) -> bool:
    """Tell whether d lies inside the circle of a, b, c (counterclockwise, all four distinct).

    A point on the circle is inside or outside by the rule of the module: the determinant of the
    lifted points then is that of the largest point's lift alone, times its cofactor.
    """
    sign = circle_sign(ax, ay, bx, by, cx, cy, dx, dy)
    if sign != 0:
        return sign > 0
    a_top = _less(bx, by, ax, ay) and _less(cx, cy, ax, ay)
    if a_top and _less(dx, dy, ax, ay):
        return orientation(bx, by, cx, cy, dx, dy) > 0
    b_top = not a_top and _less(cx, cy, bx, by)
    if b_top and _less(dx, dy, bx, by):
        return orientation(ax, ay, cx, cy, dx, dy) < 0
    if not a_top and not b_top and _less(dx, dy, cx, cy):
        return orientation(ax, ay, bx, by, dx, dy) > 0
    return False  # d itself is lifted the most: outside
