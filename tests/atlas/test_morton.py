import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.atlas.errors import InputError
from tisseract.atlas.morton import DEPTH, Frame, encode, order


def interleave(x: int, y: int) -> int:
    """Oracle: one bit at a time."""
    return sum(((x >> k) & 1) << (2 * k) | ((y >> k) & 1) << (2 * k + 1) for k in range(DEPTH))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
def test_codes_equal_bitwise_interleaving(points: list[tuple[float, float]]) -> None:
    positions = np.array(points)
    codes = encode(positions, Frame(0.0, 0.0, 1.0))
    top = 2**DEPTH - 1
    grid = [[min(int(v * 2**DEPTH), top) for v in point] for point in points]
    assert codes.tolist() == [interleave(x, y) for x, y in grid]


def test_many_blocks_give_the_same_codes_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    positions = np.random.default_rng(0).random((1000, 2))
    frame = Frame.around(positions)
    whole = encode(positions, frame)
    monkeypatch.setattr("tisseract.atlas.morton._BLOCK", 7)
    assert np.array_equal(encode(positions, frame), whole)


def test_ties_keep_source_order() -> None:
    codes = np.array([5, 2, 5, 2, 5], np.uint64)
    assert order(codes).tolist() == [1, 3, 0, 2, 4]


def test_coinciding_positions_have_a_frame() -> None:
    frame = Frame.around(np.full((3, 2), 7.0))
    assert frame == Frame(7.0, 7.0, 1.0)
    assert np.unique(encode(np.full((3, 2), 7.0), frame)).size == 1


def test_no_cells_are_refused() -> None:
    with pytest.raises(InputError, match="at least one cell, but got 0"):
        Frame.around(np.empty((0, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_coordinates_that_are_not_finite_are_refused(bad: float) -> None:
    positions = np.zeros((4, 2))
    positions[2, 1] = bad
    with pytest.raises(
        InputError, match=r"must be finite and below 1e\+15, but got .* at row 2 \(1 of 4 rows\)"
    ):
        Frame.around(positions)
