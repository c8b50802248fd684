"""Transcripts of a real Xenium crop, wrapped into SpatialData, there and back."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely

import tisseract as ts

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:(?s).*The inplace keyword in"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated"),
]


def wrap(bundle: Path, path: Path) -> pd.DataFrame:
    """Write cells, transcripts and their genes as one SpatialData store; return transcripts."""
    import anndata
    import spatialdata as sd
    from scipy import sparse
    from spatialdata.models import PointsModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity

    cells = pd.read_parquet(bundle / "cells.parquet")
    points = pd.read_parquet(bundle / "transcripts.parquet")
    points = points.rename(columns={f"{axis}_location": axis for axis in "xyz"})
    names, genes = cells["cell_id"].astype(str), sorted(points["feature_name"].unique())
    counts = pd.crosstab(points["cell_id"], points["feature_name"])
    counts = counts.reindex(index=names, columns=genes, fill_value=0)
    obs = pd.DataFrame(
        {"region": pd.Categorical(["circles"] * len(cells)), "cell_id": names.to_numpy()},
        index=names.to_numpy(),
    )
    table = anndata.AnnData(
        sparse.csr_matrix(counts.to_numpy(np.float32)), obs=obs, var=pd.DataFrame(index=genes)
    )
    table = TableModel.parse(table, region="circles", region_key="region", instance_key="cell_id")
    system = {"microns": Identity()}
    centers = cells[["x_centroid", "y_centroid"]].to_numpy()
    radius = np.sqrt(cells["cell_area"].to_numpy() / np.pi)
    circles = ShapesModel.parse(
        centers, geometry=0, radius=radius, index=names.to_numpy(), transformations=dict(system)
    )
    parsed = PointsModel.parse(
        points, feature_key="feature_name", instance_key="cell_id", transformations=dict(system)
    )
    data = sd.SpatialData(
        points={"transcripts": parsed}, shapes={"circles": circles}, tables={"table": table}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.write(path)
    return points


def test_a_xenium_crop_keeps_its_transcripts(real_data: Path, tmp_path: Path) -> None:
    import spatialdata as sd

    points = wrap(real_data / "vendor" / "xenium_crop", tmp_path / "xenium.zarr")
    sample = {"section": "s1", "path": str(tmp_path / "xenium.zarr"), "organism": "mouse"}
    ts.ingest([sample], tmp_path / "atlas")
    atlas = ts.open(tmp_path / "atlas")
    assert atlas.query().transcripts().count() == len(points) == 5260
    xmin, ymin, xmax, ymax = points.x.min(), points.y.min(), points.x.max(), points.y.max()
    x, y, r = (xmin + xmax) / 2, (ymin + ymax) / 2, min(xmax - xmin, ymax - ymin) / 3
    star = shapely.Point(x, y).buffer(r).symmetric_difference(shapely.Point(x, y).buffer(r / 2))
    ours = atlas.region("s1", polygon=star).transcripts().to_pandas()
    path = atlas.storage.local_path(atlas.section("s1").entry.prefix)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = sd.read_zarr(path)
    theirs = sd.polygon_query(data["transcripts"], star, target_coordinate_system="microns")
    assert sorted(ours["transcript_id"]) == sorted(theirs.compute()["transcript_id"])
    kept = shapely.intersects_xy(star, points.x.to_numpy(), points.y.to_numpy())
    assert sorted(ours["transcript_id"]) == sorted(points["transcript_id"][kept])
