"""Lattices as the readers use them: units of real arrays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tisseract.ingest.h5ad import H5adReader
from tisseract.ingest.reader import ReadOptions


@pytest.mark.real
def test_every_her2st_section_has_its_scale(real_data: Path) -> None:
    scales = {}
    for patient in "ABCD":
        for number in range(1, 7):
            path = real_data / "her2st" / f"{patient}{number}.h5ad"
            seen = H5adReader().inspect(path, ReadOptions(um_per_unit="lattice:200"))
            seen.raise_faults()
            assert seen.um_per_unit is not None
            scales[f"{patient}{number}"] = seen.um_per_unit
    assert all(0.91 < scale < 0.93 for name, scale in scales.items() if name[0] == "A")
    assert all(0.68 < scale < 0.70 for name, scale in scales.items() if name[0] != "A")


@pytest.mark.real
def test_days_of_the_chicken_heart_have_one_scale_each(real_data: Path) -> None:
    path = real_data / "chicken_heart" / "composition.h5ad"
    given = ReadOptions(values="composition", um_per_unit="lattice:100", split_by="day")
    for day in ("4", "7", "10", "14"):
        raw = H5adReader().open(path, replace(given, split_value=day))
        assert raw.um_per_unit == pytest.approx(0.3597, abs=5e-4)


@pytest.mark.real
def test_cells_are_no_lattice(real_data: Path) -> None:
    path = real_data / "starmap_mpfc" / "20180417_BZ5.h5ad"
    told = H5adReader().inspect(path, ReadOptions(um_per_unit="lattice:100")).faults
    assert "without one" in str(told[0])
