"""`values` against the first numbers of the matrix."""

from pathlib import Path

import numpy as np
import pytest
from tests.ingest import h5ad_files as h5

from tisseract.ingest.h5ad import H5adReader
from tisseract.ingest.reader import Inspection, ReadOptions
from tisseract.ingest.source import MatrixValues


def inspect(path: Path, values: MatrixValues | None) -> Inspection:
    return H5adReader().inspect(path, ReadOptions(values=values, um_per_unit=1.0))


@pytest.mark.parametrize("values", ["log1p", "normalized", "expected"])
def test_whole_numbers_that_are_no_counts_are_noted(tmp_path: Path, values: MatrixValues) -> None:
    seen = inspect(h5.write_h5ad(tmp_path / "a.h5ad"), values)
    assert not seen.faults
    assert any("look like counts" in note for note in seen.notes)
    assert not inspect(tmp_path / "a.h5ad", "counts").notes


@pytest.mark.parametrize("layout", ["csr", "dense"])
def test_composition_means_rows_that_sum_to_one(tmp_path: Path, layout: str) -> None:
    counts = h5.counts() + 1
    path = h5.write_h5ad(tmp_path / "a.h5ad", counts, layout=layout)
    (fault,) = inspect(path, "composition").faults
    assert "expected rows that sum to 1" in fault.message
    shares = (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
    path = h5.write_h5ad(tmp_path / "b.h5ad", shares, layout=layout)
    assert not inspect(path, "composition").faults
    (fault,) = inspect(path, None).faults
    assert "set `values` to composition" in fault.message
