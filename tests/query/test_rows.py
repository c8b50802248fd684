"""Row runs against sets of rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tisseract.query.cells.rows import batches, coalesce, count, rows_of, runs_of, within

ROWS = st.sets(st.integers(0, 60), max_size=40).map(lambda s: np.array(sorted(s), np.int64))


@given(ROWS)
def test_rows_and_runs_are_two_spellings(rows: np.ndarray) -> None:
    runs = runs_of(rows)
    assert count(runs) == len(rows)
    np.testing.assert_array_equal(rows_of(runs), rows)
    assert np.all(runs[1:, 0] > runs[:-1, 1])


@given(ROWS, st.integers(0, 9))
def test_coalesced_runs_hold_every_row_where_within_says(rows: np.ndarray, gap: int) -> None:
    wide = coalesce(runs_of(rows), gap)
    np.testing.assert_array_equal(rows_of(wide)[within(rows, wide)], rows)
    assert np.all(wide[1:, 0] - wide[:-1, 1] > gap)


@given(ROWS, st.integers(1, 9))
def test_batches_partition_the_rows(rows: np.ndarray, size: int) -> None:
    parts = [rows_of(part) for part in batches(runs_of(rows), size)]
    assert all(0 < len(part) <= size for part in parts)
    np.testing.assert_array_equal(np.concatenate([*parts, np.zeros(0, np.int64)]), rows)
