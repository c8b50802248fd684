"""The Visium reader on real outputs, and beside spatialdata-io."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from tisseract.atlas.image_sources import open_pixels
from tisseract.ingest.reader import ReadOptions, reader_for
from tisseract.ingest.vendors.visium import VisiumReader

from ...contracts import ids_of, matrix_of
from .tissue import SimTissue
from .visium_bundle import SpotArray, write_visium

READER = VisiumReader()


@pytest.mark.slow
def test_spatialdata_io_reads_the_same(tmp_path: Path) -> None:
    """Cells, genes, counts, coordinates and image shapes; radii differ, ours are 27.5 um.

    Theirs come from `spot_diameter_fullres`, whose meaning differs between versions.
    """
    from spatialdata_io import visium  # type: ignore[import-untyped]

    array = SpotArray(120, 30, 20)
    tissue = SimTissue(120, 40, 20.0)
    for version in ("1.2.2", "3.1.0"):
        path = tmp_path / version
        write_visium(path, tissue, array=array, version=version)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs: Any = visium(path, dataset_id="s", var_names_make_unique=False)
        raw = READER.open(path, ReadOptions())
        table = theirs.tables["table"]
        assert ids_of(raw) == table.obs_names.tolist()
        assert raw.panel.symbol.tolist() == table.var_names.tolist()
        assert raw.panel.gene_id.tolist() == table.var["gene_ids"].tolist()
        assert (matrix_of(raw) != sparse.csr_matrix(table.X)).nnz == 0
        np.testing.assert_array_equal(raw.positions, table.obsm["spatial"])
        for name in ("hires", "lowres"):
            image: Any = raw.images[name]
            with image.open() as pixels:
                assert pixels.shape == theirs.images[f"s_{name}_image"].shape
        rows: Any = raw.obs["array_row"].read()
        assert rows.values.tolist() == table.obs["array_row"].tolist()


@pytest.mark.real
def test_real_outputs(real_data: Path) -> None:
    raw = READER.open(real_data / "vendor" / "visium_mouse", ReadOptions())
    matrix = matrix_of(raw, 2**20)
    assert matrix.shape == (2898, 19465)
    assert matrix.nnz == 1_069_459
    from scipy.io import mmread

    folder = real_data / "vendor" / "visium_mouse" / "filtered_feature_bc_matrix"
    assert (
        matrix != sparse.csr_matrix(mmread(folder / "matrix.mtx.gz", spmatrix=False).T)
    ).nnz == 0
    assert raw.um_per_unit == pytest.approx(4.66, abs=0.01)
    assert list(raw.images) == ["lowres"]
    mini = READER.open(real_data / "vendor" / "visium_mini" / "1.0.0", ReadOptions())
    assert (mini.n_obs, mini.n_vars) == (100, 100)
    assert mini.um_per_unit == pytest.approx(0.7246, abs=1e-3)
    probes = real_data / "vendor" / "visium_mini" / "2.1.0"
    assert reader_for(probes).format == "visium"
    seen = READER.inspect(probes, ReadOptions())
    (fault,) = seen.faults
    assert "without them no spot has a place; copy the whole `spatial` folder" in fault.message
    assert "raw_probe_bc_matrix is read instead" in str(seen.notes)


@pytest.mark.real
@pytest.mark.parametrize("name", ["vendor/visium_mouse", "dlpfc/151673"])
def test_neighbors_lie_100_um_apart(real_data: Path, name: str) -> None:
    """Rows of real arrays lie 0.46 % farther apart than in a regular lattice, in every version."""
    from scipy.spatial import cKDTree

    from tisseract.ingest.source import StringValues
    from tisseract.ingest.vendors.spot_positions import RowIndex, array_pitch, place_spots

    file = next((real_data / name / "spatial").glob("tissue_positions*"))
    index = RowIndex.of(StringValues.from_strings(["none"]), "none")
    spots = place_spots(file, index, keep=5_000)
    pitch = array_pitch(spots)
    assert pitch is not None
    distances = cKDTree(spots.array[:, :2]).query(spots.array[:, :2], k=7)[0][:, 1:]
    assert float(np.median(distances)) / pitch * 100 == pytest.approx(100.0, abs=0.15)


@pytest.mark.real
def test_real_tissue_lies_under_the_spots(real_data: Path) -> None:
    """Tissue is darker than glass; swapped axes or a scale 5 % off put spots on glass."""
    path = real_data / "vendor" / "visium_mouse"
    raw = READER.open(path, ReadOptions())
    image: Any = raw.images["lowres"]
    with open_pixels(path / "spatial" / "tissue_lowres_image.png") as pixels:
        gray = pixels.rows(0, 600).astype(np.float64).mean(axis=0)
    assert raw.um_per_unit is not None
    at = raw.positions * raw.um_per_unit / image.affine[0][0]

    def darkness(scale: float, order: tuple[int, int]) -> float:
        x, y = np.clip(at[:, order] * scale, 0, 599).T.astype(int)
        return float(gray[y, x].mean())

    right = darkness(1.0, (0, 1))
    assert right < darkness(1.05, (0, 1))
    assert right < darkness(0.95, (0, 1))
    assert right < darkness(1.0, (1, 0)) - 5
