"""Signs of determinants against rational arithmetic."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.graph.triangulation.predicates import circle_sign, in_circle, orientation

Point = tuple[float, float]

COARSE = st.integers(-4, 4).map(float)
NEAR_LINE = st.tuples(st.integers(1, 40), st.integers(-2, 2)).map(
    lambda p: (p[0] * 0.1, float(np.nextafter(p[0] * 0.3, np.inf * p[1]) if p[1] else p[0] * 0.3))
)
FAR = st.integers(-30, 30).map(lambda i: 1e6 + i * 0.1)
FREE = st.floats(-1.0, 1.0, allow_subnormal=False).map(lambda v: v if abs(v) > 2.0**-200 else 0.0)
POINT = st.one_of(st.tuples(COARSE, COARSE), NEAR_LINE, st.tuples(FAR, FAR), st.tuples(FREE, FREE))
FOUR = st.one_of(*(st.tuples(p, p, p, p) for p in (POINT, NEAR_LINE, st.tuples(FAR, FAR))))


def sign(value: Fraction) -> int:
    return (value > 0) - (value < 0)


def exact_orientation(a: Point, b: Point, c: Point) -> int:
    (ax, ay), (bx, by), (cx, cy) = ((Fraction(x), Fraction(y)) for x, y in (a, b, c))
    return sign((ax - cx) * (by - cy) - (ay - cy) * (bx - cx))


def exact_circle(a: Point, b: Point, c: Point, d: Point) -> int:
    dx, dy = Fraction(d[0]), Fraction(d[1])
    rows = [(Fraction(x) - dx, Fraction(y) - dy) for x, y in (a, b, c)]
    total = Fraction(0)
    for i in range(3):
        (px, py), (qx, qy), (rx, ry) = rows[i], rows[(i + 1) % 3], rows[(i + 2) % 3]
        total += (px * px + py * py) * (qx * ry - rx * qy)
    return sign(total)


@given(points=FOUR)
@settings(max_examples=400, deadline=None)
def test_orientation_is_never_wrong(points: tuple[Point, Point, Point, Point]) -> None:
    a, b, c, _ = points
    assert orientation(*a, *b, *c) == exact_orientation(a, b, c)
    assert orientation(*b, *a, *c) == -orientation(*a, *b, *c)


@given(points=FOUR)
@settings(max_examples=400, deadline=None)
def test_circles_are_never_wrong(points: tuple[Point, Point, Point, Point]) -> None:
    a, b, c, d = points
    assert circle_sign(*a, *b, *c, *d) == exact_circle(a, b, c, d)


@given(
    corners=st.permutations([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]),
    shift=st.tuples(COARSE, COARSE),
)
@settings(max_examples=60, deadline=None)
def test_ties_choose_one_diagonal(corners: list[Point], shift: tuple[float, float]) -> None:
    """Of a square, whichever way it is asked for, one diagonal is the Delaunay edge."""
    a, b, c, d = ((x * 0.5 + shift[0], y * 0.5 + shift[1]) for x, y in corners)
    if orientation(*a, *b, *c) < 0:
        b, c = c, b
    inside = in_circle(*a, *b, *c, *d)
    top = max((a, b, c, d))
    # The largest point is lifted off the paraboloid: it lies outside of the others' circle, so
    # the edge between its two neighbors on the square is chosen.
    if d == top:
        assert not inside
    opposite = max((a, b, c), key=lambda p: (p[0] - d[0]) ** 2 + (p[1] - d[1]) ** 2)
    if opposite == top:
        assert not inside
    if top not in (d, opposite):
        assert inside


def test_a_hair_off_the_circle() -> None:
    a, b, c = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)
    assert circle_sign(*a, *b, *c, 0.0, -1.0) == 0
    assert circle_sign(*a, *b, *c, 0.0, float(np.nextafter(-1.0, 0.0))) == 1
    assert circle_sign(*a, *b, *c, 0.0, float(np.nextafter(-1.0, -2.0))) == -1
