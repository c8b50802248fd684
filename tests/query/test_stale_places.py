"""Regions, frames and labels that are damaged, or of a section that was replaced since."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

import tisseract
from tisseract.atlas.errors import Corrupt
from tisseract.query import region

from ..sections import make_raw, make_store

BOX = shapely.box(0, 0, 500, 500)
BOW_TIE = shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)])
IDENTITY = [[1, 0, 0], [0, 1, 0]]


@pytest.fixture
def atlas(tmp_path: Path) -> Any:
    store = make_store(tmp_path, {name: make_raw(seed=k) for k, name in enumerate("abc")})
    handle = tisseract.open(store.url, read_only=False)
    for name in "ab":
        handle.annotate_regions(name, {"box": BOX})
    handle.register("fr", dict.fromkeys("abc", IDENTITY))
    return handle


@pytest.mark.parametrize(
    ("names", "shapes"),
    [
        (["box"], [None]),
        (["box", "other"], [BOX, None]),
        (["box"], [shapely.LineString([(0, 0), (900, 900)])]),
        (["box"], [BOW_TIE]),
        (["box"], [shapely.Polygon()]),
        (["box"], [shapely.box(0, 0, 1e16, 1)]),
        ([None], [BOX]),
        ([7], [BOX]),
    ],
)
def test_regions_on_disk_are_checked_as_those_given(
    atlas: Any, names: list[Any], shapes: list[Any]
) -> None:
    folder = atlas.storage.local_path(atlas.derived("regions", "regions", "a").prefix)
    wkb = [None if shape is None else shapely.to_wkb(shape) for shape in shapes]
    (folder / "regions.parquet").chmod(0o644)
    pq.write_table(
        pa.table({"name": names, "geometry": pa.array(wkb, pa.binary())}),
        folder / "regions.parquet",
    )
    with pytest.raises(Corrupt, match=r"regions/regions/a.*tisseract verify.*annotate it again"):
        _ = region(atlas, "a", name="box").n_obs
