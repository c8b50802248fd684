"""Probes are summed to genes without wrapping around; lists that disagree are refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.source import CsrBlock
from tisseract.ingest.vendors.visium_probes import SummedCounts, open_probes

from .visium_bundle import write_small_probes


@dataclass(frozen=True)
class OneSpot:
    """A spot with 200 and 100 counts of two probes."""

    dtype: np.dtype[np.generic]
    n_obs: int = 1
    n_vars: int = 2
    nnz: int = 2

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield it."""
        assert budget_bytes > 0
        data = np.array([200, 100]).astype(self.dtype)
        yield CsrBlock(0, np.array([0, 2]), np.array([0, 1], np.int32), data)


@pytest.mark.parametrize(("stored", "wide"), [("u1", "i8"), ("i4", "i8"), ("f4", "f8")])
def test_sums_do_not_wrap_around(stored: str, wide: str) -> None:
    summed = SummedCounts(OneSpot(np.dtype(stored)), np.zeros(2, np.int64), 1, Path("probes.h5"))
    (block,) = summed.blocks(1 << 20)
    assert block.data.tolist() == [300]
    assert block.data.dtype == summed.dtype == np.dtype(wide)


@pytest.mark.parametrize("name", ["gene_id", "gene_name", "filtered_probes"])
@pytest.mark.parametrize("how", [{"shape": (7,), "dtype": "S4"}, None])
def test_lists_that_disagree_are_refused(tmp_path: Path, name: str, how: object) -> None:
    path = write_small_probes(tmp_path) / "raw_probe_bc_matrix.h5"
    with h5py.File(path, "a") as file:
        features = file["matrix/features"]
        del features[name]
        if isinstance(how, dict):
            features.create_dataset(name, **how)
        else:
            features.create_group(name)
    with pytest.raises(InputError, match=f"features/{name}: expected"):
        open_probes(path, "genes")
    with h5py.File(path, "a") as file:
        del file["matrix/features"][name]
    assert len(open_probes(path, "genes")[0].gene_ids) == 40
