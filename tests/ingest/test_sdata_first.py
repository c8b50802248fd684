"""SpatialData containers 0.1 as the first releases wrote them: Zarr 2, shapes as ragged arrays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
import zarr

from tisseract.atlas.errors import InputError
from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.spatialdata_zarr import SpatialDataReader

from ..contracts import ids_of, matrix_of
from .test_spatialdata_zarr import store

READER = SpatialDataReader()
pytestmark = pytest.mark.slow  # spatialdata writes what is made old


def as_first_release(path: Path) -> Path:
    """Write the shapes of a store of format 0.1 anew, as releases up to 0.0.14 had them.

    No release that is still installed can: shapes were ragged arrays (format 0.1 of shapes).
    """
    for element in (path / "shapes").iterdir():
        if not element.is_dir():
            continue
        frame = geopandas.read_parquet(element / "shapes.parquet")
        (element / "shapes.parquet").unlink()
        kind, coords, offsets = shapely.to_ragged_array(np.asarray(frame.geometry.array))
        group = zarr.open_group(element, mode="a", zarr_format=2)
        group.create_array("coords", data=coords)
        for k, ends in enumerate(offsets):
            group.create_array(f"offset{k}", data=np.asarray(ends, np.int64))
        if frame.index.dtype.kind in "iu":
            group.create_array("Index", data=frame.index.to_numpy())
        else:
            words = np.asarray(frame.index.tolist(), object)
            node = group.create_array("Index", shape=words.shape, dtype=str)
            node[:] = words.astype(str)
        if "radius" in frame:
            group.create_array("radius", data=frame["radius"].to_numpy())
        attrs = json.loads((element / ".zattrs").read_text())
        geos = {"name": kind.name, "type": int(kind.value)}
        attrs["spatialdata_attrs"] = {"geos": geos, "version": "0.1"}
        (element / ".zattrs").write_text(json.dumps(attrs))
    (path / ".zmetadata").unlink(missing_ok=True)
    (path / "zmetadata").unlink(missing_ok=True)
    return path


@pytest.mark.parametrize("shapes", ["circles", "boxes", "parts"])
def test_first_release_reads_as_the_same_store(tmp_path: Path, shapes: str) -> None:
    path = store(tmp_path / "new.zarr", old=True, shapes=shapes)
    old = as_first_release(Path(shutil.copytree(path, tmp_path / "old.zarr")))
    raw, was = READER.open(path, ReadOptions()), READER.open(old, ReadOptions())
    assert ids_of(raw) == ids_of(was)
    np.testing.assert_allclose(raw.positions, was.positions)
    assert (matrix_of(raw) != matrix_of(was)).nnz == 0
    assert (raw.radius is None) == (was.radius is None)
    shape: Any = raw.shapes
    if shape is not None:
        np.testing.assert_allclose(shape.vertices, was.shapes.vertices)  # type: ignore[union-attr]
    assert set(raw.images) == set(was.images)


def test_spatialdata_reads_what_the_fixture_writes(tmp_path: Path) -> None:
    """The fixture is faithful: the library's own reader takes its shapes for the same."""
    from spatialdata._io.io_shapes import _read_shapes

    path = store(tmp_path / "new.zarr", old=True, shapes="boxes")
    frame = geopandas.read_parquet(path / "shapes" / "cells0" / "shapes.parquet")
    found = _read_shapes(as_first_release(path) / "shapes" / "cells0")
    assert shapely.equals_exact(np.asarray(frame.geometry), np.asarray(found.geometry)).all()
    assert frame.index.tolist() == found.index.tolist()


def test_other_ragged_shapes_become_outlines(tmp_path: Path) -> None:
    path = as_first_release(store(tmp_path / "old.zarr", old=True, shapes="boxes"))
    shutil.copytree(path / "shapes" / "cells0", path / "shapes" / "nuclei")
    raw = READER.open(path, ReadOptions())
    assert list(raw.outlines) == ["nuclei"]
    write_section(raw, tmp_path / "section", memory_limit=2**29)
    table = next(iter(raw.outlines["nuclei"].tables()))
    centers = shapely.centroid(shapely.from_wkb(table["geometry"].to_numpy()))
    xy = shapely.get_coordinates(centers)
    assert {tuple(one) for one in xy.round(3)} == {tuple(one) for one in raw.positions.round(3)}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("offset0", lambda a: a[::-1].copy()),
        ("offset1", lambda a: a + 5),
        ("offset0", lambda a: np.append(a[:-1], 10**9)),
        ("coords", lambda a: a[: len(a) // 2]),
        ("Index", lambda a: a[:-3]),
    ],
)
def test_offsets_that_lead_out_are_refused(tmp_path: Path, name: str, change: Any) -> None:
    path = as_first_release(store(tmp_path / "old.zarr", old=True, shapes="boxes"))
    group = zarr.open_group(path / "shapes" / "cells0", mode="a", zarr_format=2)
    values = change(np.asarray(group[name][:]))  # type: ignore[index]
    del group[name]
    if values.dtype.kind in "OUT":
        node = group.create_array(name, shape=values.shape, dtype=str)
        node[:] = np.asarray(values.tolist(), str)
    else:
        group.create_array(name, data=values)
    with pytest.raises(InputError, match="cells0"):
        READER.open(path, ReadOptions())
