"""Local quadratic regression against the published program."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.models.genes.loess import loess_curve, vertices


def tied_points() -> tuple[np.ndarray, np.ndarray]:
    """Sixty points, every x twice."""
    k = np.arange(60)
    x = np.round(np.log10(1 + (k * 37 % 60) // 2 * 1.0 + 0.25), 6)
    return x, np.sin(3 * x) + 0.1 * ((k * 17) % 7 - 3)


GOLDEN = [
    0.196211017809,
    -0.715594338774,
    0.339325643481,
    -0.830144436234,
    -0.304167538751,
    0.968095617334,
    -0.771335652055,
    -0.026172741504,
    -1.02643905749,
    -0.531751764509,
    0.751961652516,
    -0.726695584171,
]  # of scikit-misc 0.5.3, span 0.3


def test_equals_numbers_of_the_published_program() -> None:
    np.testing.assert_allclose(loess_curve(*tied_points())[: len(GOLDEN)], GOLDEN, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("span", [0.3, 0.5, 0.8, 1.0])
def test_equals_the_published_program(span: float) -> None:
    loess = pytest.importorskip("skmisc.loess").loess
    rng = np.random.default_rng(3)
    for n in rng.integers(15, 900, 12):
        x = np.log10(rng.poisson(np.exp(rng.normal(2, 2, n))) + rng.integers(1, 40, n))
        y = np.sin(x) + rng.normal(0, 0.3, n)
        model = loess(x, y, span=span, degree=2)
        model.fit()
        np.testing.assert_allclose(
            loess_curve(x, y, span=span), model.outputs.fitted_values, atol=1e-9
        )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_order_of_points_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 40))
    order = rng.permutation(40)
    whole = loess_curve(x, y, span=0.5)
    np.testing.assert_allclose(loess_curve(x[order], y[order], span=0.5), whole[order], atol=1e-9)


def test_the_curve_meets_the_local_fit_at_every_vertex() -> None:
    """Where a cut lies on a point, the curve is the weighted quadratic there."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 200))
    curve = loess_curve(x, y, span=0.4)
    for place in vertices(np.sort(x), 16)[1:-1]:
        away = np.abs(x - place)
        radius = np.sort(away)[79]
        weight = np.clip(1.0 - (away / radius) ** 3, 0.0, None) ** 1.5
        design = np.vander(x - place, 3) * weight[:, None]
        wanted = np.linalg.lstsq(design, y * weight, rcond=None)[0][-1]
        assert curve[x == place][0] == pytest.approx(wanted, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=4, max_size=120), st.integers(1, 20))
def test_cells_hold_no_more_than_asked_but_for_equal_points(values: list[int], most: int) -> None:
    x = np.sort(np.array(values, dtype=np.float64))
    cuts = vertices(x, most)
    assert (np.diff(cuts) > 0).all()
    assert cuts[0] < x[0] <= x[-1] < cuts[-1]
    cell = np.searchsorted(cuts, x, side="left")
    for k in np.unique(cell):
        held = x[cell == k]
        assert len(held) <= most or len(np.unique(held)) <= 2


def test_too_few_or_equal_points_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="at least 4 points in a neighborhood, but got 3"):
        loess_curve(np.arange(10.0), np.arange(10.0))
    with pytest.raises(InvalidArgument, match=r"but got 6 at the same distance.*raise the span"):
        loess_curve(np.ones(20), np.arange(20.0))
    with pytest.raises(InvalidArgument, match="span=0"):
        loess_curve(np.arange(10.0), np.arange(10.0), span=0.0)


def test_two_different_x_give_a_line() -> None:
    """Too few for a quadratic: the least-norm fit passes through both means."""
    x = np.repeat([0.0, 1.0], 10)
    y = np.repeat([2.0, 5.0], 10)
    np.testing.assert_allclose(loess_curve(x, y, span=1.0), y, atol=1e-9)
