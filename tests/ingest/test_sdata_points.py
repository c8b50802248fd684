"""Points, labels and further shapes of a SpatialData store: taken over, placed, opened again."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely

import tisseract as ts
from tisseract.atlas.errors import InvalidArgument
from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.spatialdata_zarr import SpatialDataReader

# pandas 3.1 deprecates what dask (on any store of points, spatialdata's own included) and anndata
# call.
pytestmark = [
    pytest.mark.filterwarnings("ignore:(?s).*The inplace keyword in"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated"),
]

N_CELLS, N_POINTS = 60, 3000
PLACE = [[0.5, 0.0, 3.0], [0.0, 0.25, 6.0], [0.0, 0.0, 1.0]]


def points_frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    names = np.array([*(f"c{i}" for i in range(N_CELLS)), "UNASSIGNED"])
    return pd.DataFrame(
        {
            "x": (rng.random(N_POINTS) * 1000).astype(np.float32),
            "y": (rng.random(N_POINTS) * 1000).astype(np.float32),
            "z": rng.random(N_POINTS),
            "feature_name": np.array(["G0", "G1", "BLANK_1"])[rng.integers(0, 3, N_POINTS)],
            "cell_id": names[rng.integers(0, N_CELLS + 1, N_POINTS)],
            "qv": rng.random(N_POINTS).astype(np.float32),
        }
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import anndata
    import geopandas
    import spatialdata as sd
    from scipy import sparse
    from spatialdata.models import (
        Image2DModel,
        Labels2DModel,
        PointsModel,
        ShapesModel,
        TableModel,
    )
    from spatialdata.transformations import Affine

    def placed() -> dict[str, Any]:
        return {"microns": Affine(PLACE, ("x", "y"), ("x", "y"))}

    rng = np.random.default_rng(1)
    xy = rng.random((N_CELLS, 2)) * 1000
    names = [f"c{i}" for i in range(N_CELLS)]
    cells = geopandas.GeoDataFrame(geometry=shapely.buffer(shapely.points(xy), 9), index=names)
    nuclei = geopandas.GeoDataFrame(
        {"kind": ["n"] * N_CELLS}, geometry=shapely.buffer(shapely.points(xy), 4), index=names
    )
    obs = pd.DataFrame(
        {"region": pd.Categorical(["boundaries"] * N_CELLS), "cell_id": names,
         "kind": ["a", "b"] * (N_CELLS // 2)},
        index=[f"o{i}" for i in range(N_CELLS)],
    )  # fmt: skip
    counts = sparse.csr_matrix(rng.poisson(1, (N_CELLS, 2)).astype(np.float32))
    table = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=["G0", "G1"]))
    table = TableModel.parse(
        table, region="boundaries", region_key="region", instance_key="cell_id"
    )
    labels = (np.arange(300 * 520).reshape(300, 520) % 9).astype(np.uint32)
    pixels = rng.integers(0, 255, (2, 280, 530)).astype(np.uint8)
    yx = ("y", "x")
    elsewhere = PointsModel.parse(points_frame())
    data = sd.SpatialData(
        images={"stain": Image2DModel.parse(pixels, dims=("c", *yx), transformations=placed())},
        labels={"mask": Labels2DModel.parse(labels, dims=yx, transformations=placed())},
        points={
            "tx": PointsModel.parse(
                points_frame(),
                feature_key="feature_name",
                instance_key="cell_id",
                transformations=placed(),
            ),
            "elsewhere": elsewhere,
        },
        shapes={
            "boundaries": ShapesModel.parse(cells, transformations=placed()),
            "nuclei": ShapesModel.parse(nuclei, transformations=placed()),
        },
        tables={"table": table},
    )
    path = tmp_path_factory.mktemp("sdata") / "source.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.write(path)
    return path


@pytest.fixture(scope="module")
def atlas(store: Path, tmp_path_factory: pytest.TempPathFactory) -> ts.Atlas:
    folder = tmp_path_factory.mktemp("atlas") / "atlas"
    ts.ingest([{"section": "s1", "path": str(store), "organism": "mouse"}], folder)
    return ts.open(folder)


def in_microns() -> pd.DataFrame:
    frame = points_frame()
    xy = frame[["x", "y"]].to_numpy(np.float64) @ np.array(PLACE)[:2, :2].T
    frame["x"], frame["y"] = xy[:, 0] + 3.0, xy[:, 1] + 6.0
    return frame


def opened(atlas: ts.Atlas) -> Any:
    import spatialdata as sd

    path = atlas.storage.local_path(atlas.section("s1").entry.prefix)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return sd.read_zarr(path)


def test_the_section_is_a_plain_spatialdata_store(atlas: ts.Atlas) -> None:
    data = opened(atlas)
    assert set(data.points) == {"tx"}
    assert set(data.labels) == {"mask"}
    assert set(data.shapes) == {"cells", "nuclei"}
    assert data.coordinate_systems == ["microns"]
    found = data["tx"].compute()
    wanted = in_microns()
    key = ["z"]
    found, wanted = (f.sort_values(key).reset_index(drop=True) for f in (found, wanted))
    for name in wanted:
        assert found[name].astype(object).tolist() == wanted[name].tolist(), name
    assert data["tx"].attrs["spatialdata_attrs"] == {
        "feature_key": "feature_name",
        "instance_key": "cell_id",
    }
    nuclei = data["nuclei"]
    assert nuclei.index.tolist() == [f"c{i}" for i in range(N_CELLS)]
    assert nuclei["kind"].unique().tolist() == ["n"]


def test_what_is_left_out_is_named(atlas: ts.Atlas, store: Path) -> None:
    notes = atlas.section("s1").group["tisseract/provenance"].attrs["notes"]
    assert notes == ["points 'elsewhere' left out: it does not lie in 'microns'"]
    asked = ReadOptions(reader_kwargs={"points": False, "labels": False})
    raw = SpatialDataReader().open(store, asked)
    assert not raw.points
    assert not raw.labels
    assert set(raw.outlines) == {"nuclei"}
    assert "points are left out, as asked" in raw.provenance["notes"]  # type: ignore[operator]
    split = SpatialDataReader().inspect(store, ReadOptions(split_by="kind"))
    assert "labels and points and shapes left out: the table is split" in split.notes


def test_place_questions_agree_with_spatialdata(atlas: ts.Atlas) -> None:
    import spatialdata as sd

    data = opened(atlas)
    star = shapely.Polygon([(60, 40), (300, 90), (260, 220), (150, 120), (70, 200)])
    ours = atlas.region("s1", polygon=star).transcripts()
    theirs = sd.polygon_query(data["tx"], polygon=star, target_coordinate_system="microns")
    assert sorted(ours.to_pandas()["z"]) == sorted(theirs.compute()["z"])
    box = atlas.region("s1", bbox=(50.25, 40.125, 200.25, 160.125))
    corners = {"min_coordinate": [50.25, 40.125], "max_coordinate": [200.25, 160.125]}
    asked = {"axes": ("x", "y"), "target_coordinate_system": "microns", **corners}
    theirs = sd.bounding_box_query(data["tx"], **asked)
    assert sorted(box.transcripts().to_pandas()["z"]) == sorted(theirs.compute()["z"])


def test_crops_agree_with_spatialdata(atlas: ts.Atlas) -> None:
    import spatialdata as sd

    data = opened(atlas)
    box = atlas.region("s1", bbox=(50.5, 20.25, 200.5, 60.25))
    asked: dict[str, Any] = {
        "axes": ("x", "y"),
        "target_coordinate_system": "microns",
        "min_coordinate": [50.5, 20.25],
        "max_coordinate": [200.5, 60.25],
    }
    image, labels = box.images()["stain"], box.labels()["mask"]
    theirs = sd.bounding_box_query(data["stain"], **asked)["scale0"].image
    np.testing.assert_array_equal(image.to_numpy(), theirs.to_numpy())
    theirs = sd.bounding_box_query(data["mask"], **asked)["scale0"].image
    np.testing.assert_array_equal(labels.to_numpy(), theirs.to_numpy())
    assert image.x[0] == pytest.approx(50.75)
    assert image.y[0] == pytest.approx(20.375)
    coarse = box.images("stain", um_per_px=0.8)["stain"]
    assert coarse.attrs["um_per_px"] == pytest.approx(2 * np.sqrt(0.125))
    assert coarse.x[0] == pytest.approx(50.5)
    assert not atlas.region("s1", bbox=(9000, 9000, 9001, 9001)).images()
    with pytest.raises(InvalidArgument, match="There are: stain"):
        box.images("stian")
    with pytest.raises(InvalidArgument, match="from 0 to 1"):
        box.images(level=7)


def test_filters_on_cells_use_the_column_the_points_name(atlas: ts.Atlas) -> None:
    found = atlas.query("kind == 'a'").transcripts().to_pandas()
    wanted = points_frame()
    keep = wanted["cell_id"].isin([f"c{i}" for i in range(0, N_CELLS, 2)])
    assert sorted(found["z"]) == sorted(wanted["z"][keep])


def test_shapes_of_cells_and_of_others(atlas: ts.Atlas) -> None:
    data = opened(atlas)
    star = shapely.Polygon([(60, 40), (300, 90), (260, 220), (70, 200)])
    chosen = atlas.region("s1", polygon=star)
    ours, cells = chosen.shapes(), data["cells"]
    keep = shapely.intersects(star, shapely.centroid(cells.geometry.to_numpy()))
    assert len(ours) == keep.sum() > 3
    assert set(ours.geometry.to_wkb()) == set(cells.geometry[keep].to_wkb())
    nuclei = chosen.shapes("nuclei")
    assert nuclei.index.tolist() == data["nuclei"].index[data["nuclei"].intersects(star)].tolist()
    with pytest.raises(InvalidArgument, match="Did you mean"):
        chosen.shapes("nucleii")


def test_exports_bring_it_all(atlas: ts.Atlas, tmp_path: Path) -> None:
    import spatialdata as sd

    star = shapely.Polygon([(60, 40), (300, 90), (260, 220), (70, 200)])
    chosen = atlas.region("s1", polygon=star)
    data = chosen.to_spatialdata()
    assert set(data.points) | set(data.labels) | set(data.images) == {"tx", "mask", "stain"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.write(tmp_path / "out.zarr")
        again = sd.read_zarr(tmp_path / "out.zarr")
        inner = sd.polygon_query(
            again["tx"], polygon=star.buffer(-5), target_coordinate_system="microns"
        )
    smaller = atlas.region("s1", polygon=star.buffer(-5)).transcripts().to_pandas()
    assert sorted(inner.compute()["z"]) == sorted(smaller["z"])
