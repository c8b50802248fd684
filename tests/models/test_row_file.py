"""Scratch tables on disk."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.models.rows.file import RowFile


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 99), max_size=30), gap=st.integers(0, 40))
def test_take_is_indexing(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], gap: int
) -> None:
    values = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    with RowFile(tmp_path_factory.mktemp("rows") / "t", 100, 3) as table:
        table.write(0, values[:40])
        table.write(40, values[40:])
        assert np.array_equal(table.take(np.array(rows, dtype=np.int64), gap), values[rows])
        assert np.array_equal(np.concatenate(list(table.blocks(33))), values)


def test_the_file_goes_with_the_table(tmp_path: Path) -> None:
    with RowFile(tmp_path / "t", 4, 2):
        assert (tmp_path / "t").stat().st_size == 32
    assert not (tmp_path / "t").exists()


def test_a_centered_table_reads_and_writes_around_its_mean(tmp_path: Path) -> None:
    values = np.random.default_rng(2).normal(5.0, 1.0, size=(6, 2)).astype(np.float32)
    mean = values.mean(axis=0, dtype=np.float64)
    with RowFile(tmp_path / "t", 6, 2) as table:
        table.write(0, values)
        table.center(mean)
        np.testing.assert_allclose(table.read(1, 4), values[1:4] - mean, atol=1e-6)
        table.write(0, np.ones((2, 2)))
        np.testing.assert_allclose(
            table.take(np.array([1, 5])), [[1, 1], values[5] - mean], atol=1e-6
        )
        table.center(np.array([1.0, 1.0]))
        np.testing.assert_allclose(table.read(0, 1), [[0, 0]], atol=1e-6)
        with pytest.raises(
            InvalidArgument, match=r"mean of 2 columns, but got one of shape \(3,\)"
        ):
            table.center(np.zeros(3))


def test_rows_outside_are_refused(tmp_path: Path) -> None:
    with RowFile(tmp_path / "t", 4, 2) as table:
        with pytest.raises(InvalidArgument, match="within 4, but got an array of shape"):
            table.write(3, np.zeros((2, 2)))
        with pytest.raises(InvalidArgument, match="rows up to 6"):
            table.read(3, 6)
