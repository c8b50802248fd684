"""Real Xenium outputs: totals counted independently, and images that lie on the cells."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tisseract.ingest.reader import ReadOptions, reader_for

from ...contracts import ids_of, matrix_of
from .xenium_checks import (
    READER,
    column,
    lies_on_cells,
    molecules,
    notes_of,
    opened,
    outlines,
    rings,
)

pytestmark = pytest.mark.real


def totals(path: Path) -> dict[str, float]:
    """Sum of each kind of feature, straight from the HDF5 file."""
    with h5py.File(path / "cell_feature_matrix.h5") as file:
        kinds = file["matrix/features/feature_type"][:]
        of = kinds[file["matrix/indices"][:]]
        numbers = file["matrix/data"][:]
    return {kind.decode(): float(numbers[of == kind].sum()) for kind in np.unique(kinds)}


@pytest.fixture
def crop(real_data: Path) -> Path:
    return real_data / "vendor" / "xenium_crop"


@pytest.mark.parametrize("folder", ["xenium_crop", "xenium_mouse_brain"])
def test_counts_cells_and_columns(real_data: Path, folder: str) -> None:
    path = real_data / "vendor" / folder
    assert reader_for(path).format == "xenium"
    raw = opened(path)
    sums, wanted = np.asarray(matrix_of(raw, 2**22).sum(axis=0)).ravel(), totals(path)
    controls = raw.apart["controls"]
    genes = np.setdiff1d(np.arange(sums.size), controls.columns)
    assert sums[genes].sum() == wanted.pop("Gene Expression")
    for kind, total in wanted.items():
        of = controls.columns[np.array(controls.feature_types) == kind]
        assert sums[of].sum() == total
    table = pd.read_csv(path / "cells.csv.gz", dtype={"cell_id": str})
    assert ids_of(raw) == table["cell_id"].tolist()
    np.testing.assert_allclose(raw.positions, table[["x_centroid", "y_centroid"]], atol=1e-6)
    for name in map(str, set(table) - {"cell_id", "x_centroid", "y_centroid"}):
        np.testing.assert_allclose(column(raw, name), table[name], rtol=1e-9)
    assert raw.um_per_unit == 1.0


def test_sizes_of_the_mouse_brain(real_data: Path) -> None:
    raw = opened(real_data / "vendor" / "xenium_mouse_brain")
    assert (raw.n_obs, raw.n_vars, len(raw.apart["controls"].names)) == (36_602, 248, 293)
    assert raw.panel.organism == "mouse"
    for missing in ("transcripts are not written", "cells are circles", "none is written"):
        assert missing in notes_of(raw)


def test_transcripts_of_the_crop(crop: Path) -> None:
    found, table = molecules(opened(crop)), pd.read_csv(crop / "transcripts.csv.gz")
    assert len(found) == len(table) == 5260
    np.testing.assert_allclose(found[["x", "y", "z"]], table.filter(like="_location"), atol=1e-4)
    assert found["feature_name"].tolist() == table["feature_name"].tolist()
    np.testing.assert_allclose(found["qv"], table["qv"])
    ids = table["cell_id"].where(table["cell_id"] != "UNASSIGNED")
    assert found["cell_id"].astype(object).fillna("").tolist() == ids.fillna("").tolist()


def test_boundaries_of_the_crop(crop: Path) -> None:
    raw = opened(crop)
    found = rings(raw)
    assert sorted(found) == list(range(526))
    table = pd.read_csv(crop / "cell_boundaries.csv.gz")
    assert sum(map(len, found.values())) == len(table)
    first = table[table["cell_id"] == ids_of(raw)[0]][["vertex_x", "vertex_y"]]
    np.testing.assert_allclose(found[0], first, atol=1e-3)
    area = column(raw, "cell_area")
    ours = np.array([_area(found[row]) for row in range(526)])
    assert np.median(np.abs(ours / area - 1)) < 0.05
    assert len(outlines(raw)) == 526


def _area(ring: NDArray[np.float64]) -> float:
    x, y = ring.T
    return abs(float(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1)))) / 2


def test_the_cut_image_lies_on_the_nuclei(crop: Path) -> None:
    raw = opened(crop)
    nuclei = outlines(raw)["geometry"]
    centers = np.array([shape.centroid.coords[0] for shape in nuclei])
    lies_on_cells(raw.images["morphology_focus"], centers)
    assert "placed by its nuclei" in notes_of(raw)
    assert "1.7 um a pixel" in notes_of(raw)


def test_text_of_the_crop_is_its_parquet(crop: Path, tmp_path: Path) -> None:
    for one in crop.iterdir():
        if one.suffix in {".gz", ".h5"}:
            (tmp_path / one.name).write_bytes(one.read_bytes())
    a, b = opened(crop), opened(tmp_path)
    np.testing.assert_allclose(a.positions, b.positions, atol=1e-6)
    assert set(a.obs) == set(b.obs)
    ours, theirs = molecules(a), molecules(b)
    assert ours["transcript_id"].tolist() == theirs["transcript_id"].tolist()
    binary, text = rings(a), rings(b)
    assert set(binary) == set(text)
    for row, ring in binary.items():
        np.testing.assert_allclose(ring, text[row], atol=1e-3)


def test_inspection_tells_what_lacks(crop: Path) -> None:
    seen = READER.inspect(crop, ReadOptions())
    assert not seen.faults
    assert (seen.n_obs, seen.n_vars, seen.technology) == (526, 27, "Xenium")
    assert any("no experiment.xenium" in note for note in seen.notes)
