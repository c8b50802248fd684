"""Quality of real tissue against pandas and h5py on the files themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import tisseract
from tisseract.ingest import ingest

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def atlas(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tisseract.Atlas:
    folder = tmp_path_factory.mktemp("quality")
    rows = [
        {"sample": name, "data_path": str(real_data / "vendor" / f"{name}_crop")}
        for name in ("xenium", "cosmx", "merscope")
    ]
    rows += [
        {
            "sample": name,
            "data_path": str(real_data / "her2st" / f"{name}.h5ad"),
            "technology": "spatial transcriptomics",
            "um_per_unit": "lattice:200",
            "organism": "human",
        }
        for name in ("A1", "B3", "D2")
    ]
    pd.DataFrame(rows).to_csv(folder / "samples.csv", index=False)
    ingest(folder / "samples.csv", folder / "atlas")
    return tisseract.open(folder / "atlas")


def test_xenium(atlas: tisseract.Atlas, real_data: Path) -> None:
    import h5py

    bundle = real_data / "vendor/xenium_crop"
    cells = pd.read_parquet(bundle / "cells.parquet")
    points = pd.read_parquet(bundle / "transcripts.parquet", columns=["cell_id"])
    with h5py.File(bundle / "cell_feature_matrix.h5") as file:
        kinds = file["matrix/features/feature_type"].asstr()[:]
        parts = (file[f"matrix/{name}"][:] for name in ("data", "indices", "indptr", "shape"))
        data, indices, indptr, shape = parts
    sums = sparse.csc_matrix((data, indices, indptr), shape=shape).sum(axis=1).A1
    genes = kinds == "Gene Expression"
    facts = atlas.section("xenium").qc.section
    assert facts["total_counts"] == sums[genes].sum() == cells["transcript_counts"].sum()
    assert facts["control_fraction"] == sums[~genes].sum() / sums.sum()
    assert facts["n_transcripts"] == len(points)
    assert facts["outside_fraction"] == (points["cell_id"] == "UNASSIGNED").mean()
    # The vendor's areas are those of masks, of which boundaries are simpler outlines.
    assert facts["area_from"] == "boundaries"
    assert facts["median_area_um2"] == pytest.approx(cells["cell_area"].median(), rel=0.05)
    depth = cells["transcript_counts"].to_numpy()
    assert facts["median_counts"] == np.quantile(depth, 0.5, method="inverted_cdf")


def test_cosmx(atlas: tisseract.Atlas, real_data: Path) -> None:
    (file,) = (real_data / "vendor/cosmx_crop").glob("*tx_file*")
    points = pd.read_csv(file)
    (known,) = atlas.section("cosmx").qc.summary.transcripts.values()
    assert (known.n, known.outside) == (len(points), (points["cell_ID"] == 0).sum())


def test_spots_on_a_lattice_are_as_dense_as_their_spacing(atlas: tisseract.Atlas) -> None:
    table = atlas.qc(["A1", "B3", "D2"])
    # 200 um apart: 25 a square millimeter, less where boxes reach beyond the tissue, and more by
    # half a spacing at each side of a box.
    assert table["cells_per_mm2"].between(12, 30).all()
    assert table["median_area_um2"].isna().all()


@pytest.mark.parametrize("name", ["A1", "B3", "xenium", "cosmx", "merscope"])
def test_tiles_sum_to_what_the_matrix_holds(atlas: tisseract.Atlas, name: str) -> None:
    section = atlas.section(name)
    counts, tiles = section.counts(), section.qc.tiles
    owner = section.tiles.owner(np.arange(section.n_obs))
    depth = np.bincount(owner, counts.sum(axis=1).A1, len(tiles))
    np.testing.assert_allclose(tiles["n_counts"], depth)
    np.testing.assert_array_equal(tiles["n_genes"], np.bincount(owner, np.diff(counts.indptr)))
    assert (
        section.qc.section["n_duplicated"] == pd.DataFrame(section.positions()).duplicated().sum()
    )


def test_the_page_of_real_tissue(atlas: tisseract.Atlas, tmp_path: Path) -> None:
    facts = atlas.report(tmp_path / "qc.html", thumbnails="image")
    body = facts.path.read_text(encoding="utf-8")
    assert body.count("<tbody") == facts.n_sections == 6
    # Two of the sections have an image, the others are drawn from their cells.
    assert body.count("data:image/jpeg;base64,") == 2
    assert body.count("data:image/png;base64,") == 4
    assert facts.nbytes < 200_000
