"""Scratch tables on disk."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.models.rows.file import RowFile

from ..planted import planted
from ..sections import make_store


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


@pytest.mark.slow
def test_more_sections_than_open_files(tmp_path: Path) -> None:
    store = make_store(tmp_path, {f"s{k}": planted(40, seed=k) for k in range(20)})
    program = (
        "import resource\n"
        "from tisseract.atlas.store import open_store\n"
        "from tisseract.models.baseline import DomainBaseline\n"
        f"store = open_store({store.url!r})\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))\n"
        "options = {'n_comps': 4, 'n_hops': 1, 'integrate': 'harmony', 'max_iter': 1}\n"
        "model = DomainBaseline(store, **options).fit()\n"
        "with model.embedded() as tables:\n"
        "    print(sum(len(table.read(0, 40)) for table, _ in tables.values()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "800"


def test_a_closed_table_is_gone(tmp_path: Path) -> None:
    table = RowFile(tmp_path / "t", 4, 2)
    assert (tmp_path / "t").stat().st_mode & 0o777 == 0o600
    table.close()
    table.close()
    with pytest.raises(FileNotFoundError):
        table.read(0, 1)
    with pytest.raises(FileNotFoundError):
        table.write(0, np.ones((1, 2)))
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
