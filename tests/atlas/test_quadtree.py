import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.morton import DEPTH, Frame, encode, order
from tisseract.atlas.quadtree import TileTable, merge_runs, split, tight_boxes


def table_of(positions: np.ndarray, tile_cells: int) -> tuple[TileTable, np.ndarray]:
    frame = Frame.around(positions)
    codes = encode(positions, frame)
    rows = order(codes)
    leaves = split(codes[rows], tile_cells)
    boxes = tight_boxes(positions[rows], leaves.ptr)
    return TileTable(leaves.ptr, boxes, leaves.code, leaves.level, frame), positions[rows]


points = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=80).map(
    lambda p: np.array(p, float)
)


@given(points, st.integers(1, 20))
def test_tiles_are_a_partition_into_small_squares(positions: np.ndarray, tile_cells: int) -> None:
    table, ordered = table_of(positions, tile_cells)
    assert table.ptr[0] == 0
    assert table.ptr[-1] == positions.shape[0]
    assert (np.diff(table.ptr) > 0).all()
    squares = table.squares()
    slack = 1e-6 * (1 + table.frame.side)  # type: ignore[union-attr]
    for t, (low, high) in enumerate(zip(table.ptr[:-1], table.ptr[1:], strict=True)):
        rows = ordered[low:high]
        assert (rows >= squares[t, :2] - slack).all()
        assert (rows <= squares[t, 2:] + slack).all()
        assert np.array_equal(table.bounds[t], np.r_[rows.min(axis=0), rows.max(axis=0)])
        duplicates = np.unique(rows, axis=0).shape[0] == 1
        assert rows.shape[0] <= tile_cells or duplicates


@given(points, st.integers(1, 20))
def test_order_does_not_depend_on_the_tile_size(positions: np.ndarray, tile_cells: int) -> None:
    assert np.array_equal(table_of(positions, tile_cells)[1], table_of(positions, 4096)[1])


@given(points, st.integers(1, 9), st.tuples(*[st.floats(-5, 60)] * 4))
def test_intersecting_tiles_hold_all_rows_of_a_box(
    positions: np.ndarray, tile_cells: int, corners: tuple[float, float, float, float]
) -> None:
    table, ordered = table_of(positions, tile_cells)
    x0, x1 = sorted(corners[:2])
    y0, y1 = sorted(corners[2:])
    inside = np.flatnonzero(((ordered >= [x0, y0]) & (ordered <= [x1, y1])).all(axis=1))
    tiles = table.intersecting(x0, y0, x1, y1)
    assert set(table.owner(inside)) <= set(tiles)
    covered = {row for a, b in table.runs(tiles) for row in range(a, b)}
    assert set(inside) <= covered


def test_duplicates_stop_at_full_depth() -> None:
    table, _ = table_of(np.array([[0.0, 0.0]] * 9 + [[1.0, 1.0]]), 2)
    assert table.n_cells.tolist() == [9, 1]
    assert table.level is not None
    assert table.level[0] == DEPTH


def test_tile_cells_below_one_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="at least 1, but got 0"):
        split(np.zeros(3, np.uint64), 0)


def test_runs_join_what_touches() -> None:
    assert merge_runs([(0, 2), (2, 5), (7, 8)]) == [(0, 5), (7, 8)]
    assert merge_runs([(0, 2), (4, 5)], max_gap=2) == [(0, 5)]
    assert merge_runs([]) == []


def test_row_blocks_have_no_squares() -> None:
    with pytest.raises(InvalidArgument, match="row blocks have no squares"):
        TileTable(np.array([0, 1]), np.zeros((1, 4))).squares()
