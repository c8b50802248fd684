"""The CosMx reader against another reader, on damaged files and on a real crop."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import ReadOptions

from ...contracts import ids_of, matrix_of
from .cosmx_bundle import KINDS, RELEASES, feature_names, write_cosmx
from .cosmx_truth import OLD, READER, TISSUE, points_of
from .mutants import run_mutants, wanted


class TestAgainstSpatialDataIo:
    """The reader of spatialdata-io 0.7.1 on the same export.

    Different on purpose: it leaves every FOV in its own local frame (one image, one mask and one
    table of points a FOV) where this one stitches them; its ids are `<cell_ID>_<fov>`; rows of
    cell_ID 0 and control features stay beside the genes; transcripts keep pixels.
    """

    @pytest.mark.slow
    def test_same_cells_counts_transcripts_and_image_shapes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from anndata import AnnData

        module = importlib.import_module("spatialdata_io.readers.cosmx")
        # It names an argument that AnnData has dropped since.
        monkeypatch.setattr(module, "AnnData", lambda x, dtype, obs: AnnData(x, obs=obs))
        path = tmp_path / "export"
        # It fits an affine to the cells of each FOV, and fails where three do not span one.
        write_cosmx(path, TISSUE, version="legacy", fov_px=(500, 900))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = module.cosmx(path, dataset_id="Lung5_Rep1")
        raw = READER.open(path, OLD)
        table = theirs.tables["table"]
        ids = ["_".join(reversed(name.split("_"))) for name in table.obs_names]
        at = pd.Series(np.arange(len(ids)), index=ids)[list(map(str, ids_of(raw)))].to_numpy()
        assert len(ids) == raw.n_obs
        assert table.var_names.tolist() == list(feature_names(TISSUE, RELEASES["legacy"]))
        assert (table.X[at].toarray() == matrix_of(raw).toarray()).all()
        np.testing.assert_allclose(table.obsm["global"][at], raw.positions)
        points = points_of(raw)
        count = {
            fov: len(theirs.points[f"{fov}_points"]) for fov in points["fov"].unique().tolist()
        }
        assert points.groupby("fov").size().to_dict() == count
        header = raw.images["CellComposite"].open.tile_shape  # type: ignore[attr-defined]
        for name, image in theirs.images.items():
            assert image.shape == header, name


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "write", "file"), KINDS, ids=[kind for kind, _, _ in KINDS])
def test_mutants(kind: str, write: Any, file: str, tmp_path: Path) -> None:
    source = write(tmp_path / "export")
    report = run_mutants(source, file, READER, OLD, tmp_path, n=wanted(10))
    assert not report.failures, "\n".join(report.failures[:5])


@pytest.mark.real
def test_real_crop(real_data: Path, tmp_path: Path) -> None:
    """Independent totals; the crop has one FOV, no positions and no images."""
    import spatialdata

    path = real_data / "vendor" / "cosmx_crop"
    raw = READER.open(path, ReadOptions())
    name = path / "Run5642_S3_Quarter"
    counts = pd.read_csv(f"{name}_exprMat_file.csv")
    cells = counts[counts.cell_ID > 0].set_index("cell_ID").drop(columns="fov")
    genes = [one for one in cells.columns if not one.startswith("NegPrb")]
    assert ids_of(raw) == [f"1_{k}" for k in cells.index]
    assert raw.panel.gene_id.tolist() == genes
    write_section(raw, tmp_path / "s.zarr", memory_limit=2**29)
    data = spatialdata.read_zarr(tmp_path / "s.zarr")
    table = data.tables["table"]
    assert table.X.sum() == cells[genes].to_numpy().sum()
    assert data.tables["controls"].X.sum() == cells.drop(columns=genes).to_numpy().sum()
    outside = counts[counts.cell_ID == 0].drop(columns=["fov", "cell_ID"]).to_numpy().sum()
    assert raw.provenance["vendor"]["counts_outside_cells"] == outside  # type: ignore[index]
    meta = pd.read_csv(f"{name}_metadata_file.csv").set_index("cell_ID")
    meta = meta.loc[table.obs["cell_ID"].to_numpy()]
    um = meta[["CenterX_global_px", "CenterY_global_px"]].to_numpy() * 0.12028
    np.testing.assert_allclose(table.obsm["spatial"], um, atol=0.1)
    points = pd.read_csv(f"{name}_tx_file.csv", keep_default_na=False)
    stored = pd.read_parquet(tmp_path / "s.zarr" / "points" / "transcripts" / "points.parquet")
    assert len(stored) == len(points)
    assert stored["x"].sum() == pytest.approx(points["x_global_px"].sum() * 0.12028)
    assert sorted(stored["target"].astype(str)) == sorted(points["target"])
    inside = stored["cell"].notna()
    assert inside.sum() == (points["cell_ID"] > 0).sum()
    shapes = data["cells"]
    assert shapes.contains_properly(shapes.centroid).all()
    near = np.hypot(*(np.stack([shapes.centroid.x, shapes.centroid.y], 1) - um_of(table)).T)
    assert np.median(near) < 1.0


@pytest.mark.real
def test_real_centers_are_the_middles_of_boxes(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "vendor" / "cosmx_crop"
    want = READER.open(source, ReadOptions())
    (tmp_path / "crop").mkdir()
    for file in source.iterdir():
        if "metadata" not in file.name:
            (tmp_path / "crop" / file.name).write_bytes(file.read_bytes())
    got = READER.open(tmp_path / "crop", ReadOptions())
    at = [ids_of(want).index(name) for name in ids_of(got)]
    np.testing.assert_allclose(got.positions, want.positions[at], atol=1.0)


def um_of(table: Any) -> Any:
    return np.asarray(table.obsm["spatial"])
