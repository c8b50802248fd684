"""Polygons in pixels are never taken for micrometers; regions and frames by all their words."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisseract.atlas.errors import ColumnNotFound, InvalidArgument
from tisseract.atlas.store import AtlasStore
from tisseract.query import annotate_regions, region, register
from tisseract.query.geometry.regions import region_table

from ..sections import make_raw, make_store

N = 200
PIXEL = 0.5
SQUARE = [[200, 200], [1000, 200], [1000, 1400], [200, 1400], [200, 200]]  # pixels


def _qupath(**properties: Any) -> dict[str, Any]:
    feature = {
        "type": "Feature",
        "id": "a1",
        "geometry": {"type": "Polygon", "coordinates": [SQUARE]},
        "properties": {"objectType": "annotation", **properties},
    }
    return {"type": "FeatureCollection", "features": [feature]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> AtlasStore:
    raws = {
        "half": make_raw(n_obs=N, n_vars=2, um_per_unit=PIXEL),
        "um": make_raw(n_obs=N, n_vars=2, seed=1),
        "raw": make_raw(n_obs=N, n_vars=2, seed=2, um_per_unit=None),
    }
    return make_store(tmp_path_factory.mktemp("pixels"), raws)


def _n_inside(store: AtlasStore, section: str, scale: float) -> int:
    low, high = np.array([200, 200]) * scale, np.array([1000, 1400]) * scale
    xy = store.section(section).positions()
    return int(((xy >= low) & (xy <= high)).all(axis=1).sum())


def test_polygons_in_pixels_want_the_size_of_one(store: AtlasStore, tmp_path: Path) -> None:
    file = tmp_path / "roi.geojson"
    file.write_text(json.dumps(_qupath(name="roi")))
    with pytest.raises(InvalidArgument, match=r"write pixels.*0\.5 um per pixel.*'half'"):
        region(store, "half", polygon=str(file))
    with pytest.raises(InvalidArgument, match="write pixels") as of_um:
        region(store, "um", polygon=_qupath(name="roi"), predicate="intersects")
    assert "um per pixel" not in str(of_um.value)  # its source is in micrometers: no image is known
    for section, scale in (("half", 0.5), ("um", 0.25), ("um", 1)):
        inside = region(store, section, polygon=str(file), um_per_unit=scale)
        assert inside.n_obs == _n_inside(store, section, scale) > 0
        box = region(store, section, bbox=(200, 200, 1000, 1400), um_per_unit=scale)
        assert box.n_obs == inside.n_obs
    circle = region(store, "half", circle=(600, 600, 400), um_per_unit=0.5)
    assert circle.n_obs == region(store, "half", circle=(300, 300, 200)).n_obs > 0
    plain = region(store, "raw", polygon=str(file), units="source")
    assert plain.n_obs == _n_inside(store, "raw", 1.0)
    bare = tmp_path / "bare.geojson"
    bare.write_text(json.dumps(_qupath(name="roi")["features"]))
    with pytest.raises(InvalidArgument, match="write pixels"):
        region(store, "half", polygon=bare)
    older = _qupath(name="roi")
    del older["features"][0]["properties"]["objectType"]
    assert region(store, "half", polygon=older).n_obs == _n_inside(store, "half", 1.0)
    older["features"][0]["id"] = "PathAnnotationObject"
    with pytest.raises(InvalidArgument, match="write pixels"):
        region(store, "half", polygon=older)
    wrong: tuple[Any, ...] = (0, -1, float("nan"), "x", True)
    for bad in wrong:
        with pytest.raises(InvalidArgument, match="um_per_unit"):
            region(store, "half", bbox=(0, 0, 1, 1), um_per_unit=bad)
    with pytest.raises(InvalidArgument, match="um_per_unit= is wanted with bbox="):
        region(store, near="layer == 'L1'", within_um=3, um_per_unit=0.5)


def test_annotations_in_pixels_are_named_by_their_class(store: AtlasStore) -> None:
    unnamed = _qupath(classification={"name": "Tumor", "color": [200, 0, 0]})
    with pytest.raises(InvalidArgument, match=r"0\.5 um per pixel"):
        annotate_regions(store, "half", unnamed)
    assert annotate_regions(store, "half", unnamed, um_per_unit=PIXEL) == 1
    named = _qupath(name="roi 1", classification={"name": "Tumor"})
    annotate_regions(store, "half", named, um_per_unit=PIXEL, key="own")
    table = region_table(store)
    assert table["name"].tolist() == ["roi 1", "Tumor"]
    assert table["area_um2"].tolist() == [400 * 600, 400 * 600]
    near = region(store, "half", near="Tumor", within_um=30, region_key="regions")
    tumor = region(store, name="Tumor", region_key="regions")
    assert near.n_obs == region(store, "half", near=tumor, within_um=30).n_obs > tumor.n_obs > 0
    with pytest.raises(ColumnNotFound, match="Tumour"):
        region(store, near="Tumour == 'x'", within_um=30)


def test_frame_is_another_word_for_a_coordinate_system(store: AtlasStore) -> None:
    register(store, "patient", {"half": [[1, 0, 5], [0, 1, 5]]})
    box: Any = {"section": "half", "bbox": (0, 0, 300, 300)}
    assert (
        region(store, frame="patient", **box).n_obs
        == region(store, coordinate_system="patient", **box).n_obs
        > 0
    )
    with pytest.raises(InvalidArgument, match="coordinate_system= or frame="):
        region(store, frame="patient", coordinate_system="other", **box)
