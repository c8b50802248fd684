"""The SpatialData reader: both containers, shapes, transformations, regions, hostile stores."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from tisseract.atlas.errors import InputError
from tisseract.ingest.ngff import choose_system, transformation
from tisseract.ingest.reader import Reader, ReadOptions
from tisseract.ingest.source import Polygons
from tisseract.ingest.spatialdata_zarr import SpatialDataReader

from ..contracts import ReaderContract, ids_of, matrix_of

READER = SpatialDataReader()
N, G = 40, 7
_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # removed when the interpreter ends


def counts() -> Any:
    return np.random.default_rng(0).poisson(1, (N, G)).astype(np.float32)


def centers() -> Any:
    return np.random.default_rng(1).random((N, 2)) * 100


@cache
def template(**given: Any) -> Path:
    """A store written once for all tests that ask for the same."""
    folder = tempfile.TemporaryDirectory(prefix="tisseract-")
    _KEPT.append(folder)
    return Path(write_store(Path(folder.name) / "store.zarr", **given))


def store(path: Path, **given: Any) -> Path:
    """Copy a store to where a test may spoil it."""
    return Path(shutil.copytree(template(**given), path))


def write_store(
    path: Path,
    *,
    old: Any = False,
    shapes: str = "circles",
    regions: int = 1,
    systems: Any = ("global", "microns"),
) -> Any:
    """Write a store with spatialdata itself; shapes are in another order than the table."""
    import anndata
    import geopandas
    import pandas as pd
    import shapely
    import spatialdata
    from spatialdata._io.format import SpatialDataContainerFormatV01
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Affine, Scale, Sequence, Translation

    axes = {"axes": ("x", "y")}
    all_systems = {
        "global": Affine([[0, 2, 1], [3, 0, 2], [0, 0, 1]], ("x", "y"), ("x", "y")),
        "microns": Sequence([Scale([2.0, 2.0], **axes), Translation([5.0, 7.0], **axes)]),
    }
    placed: dict[str, Any] = {name: all_systems[name] for name in systems}
    keys = [f"c{i}" for i in range(N)]
    elements = {}
    names = [f"cells{i}" for i in range(regions)]
    owner = np.arange(N) * regions // N
    for i, name in enumerate(names):
        own = np.flatnonzero(owner == i)[::-1]
        xy, index = centers()[own], [keys[j] for j in own]
        if shapes == "circles":
            parsed = ShapesModel.parse(
                xy, geometry=0, radius=1.5, index=index, transformations=dict(placed)
            )
        else:
            boxes = [shapely.box(x - 1, y - 2, x + 1, y + 2) for x, y in xy]
            if shapes == "parts":
                crumb = shapely.box(0, 0, 0.1, 0.1)
                boxes = [shapely.MultiPolygon([crumb, box]) for box in boxes]
            frame = geopandas.GeoDataFrame(geometry=boxes, index=index)
            parsed = ShapesModel.parse(frame, transformations=dict(placed))
        elements[name] = parsed
    obs = pd.DataFrame(
        {
            "region": pd.Categorical([names[i] for i in owner]),
            "key": keys,
            "type": pd.Categorical(np.where(np.arange(N) % 3, "a", "b")),
            "area": np.arange(N) / 2,
        },
        index=[f"id{i}" for i in range(N)],
    )
    var = pd.DataFrame(
        {"gene_ids": [f"ENSMUSG{i:011d}" for i in range(G)]}, index=[f"G{i}" for i in range(G)]
    )
    table = anndata.AnnData(sparse.csr_matrix(counts()), obs=obs, var=var)
    table = TableModel.parse(
        table, region=names if regions > 1 else names[0], region_key="region", instance_key="key"
    )
    pixels = np.random.default_rng(2).integers(0, 255, (3, 50, 70)).astype(np.uint8)
    image = Image2DModel.parse(
        pixels, dims=("c", "y", "x"), scale_factors=[2], transformations=dict(placed)
    )
    data = spatialdata.SpatialData(images={"he": image}, shapes=elements, tables={"table": table})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.write(path, **({"sdata_formats": SpatialDataContainerFormatV01()} if old else {}))
    return path


def faults(path: Path, options: ReadOptions | None = None) -> str:
    seen = READER.inspect(path, options or ReadOptions())
    assert seen.faults
    return "\n".join(map(str, seen.faults))


class TestContract(ReaderContract):
    @pytest.fixture(params=["0.1", "0.2"])
    def container(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def source(self, tmp_path: Path, container: str) -> Path:
        return store(tmp_path / "brain.zarr", old=container == "0.1")

    @pytest.fixture
    def truth(self) -> Mapping[str, Any]:
        return {
            "counts": counts(),
            "positions": centers() * 2 + [5, 7],
            "ids": [f"id{i}" for i in range(N)],
            "gene_ids": [f"ENSMUSG{i:011d}" for i in range(G)],
        }


class TestPlace:
    def test_microns_are_microns_and_circles_keep_their_size(self, tmp_path: Path) -> None:
        raw = READER.open(store(tmp_path / "a.zarr"), ReadOptions())
        assert raw.um_per_unit == 1.0
        np.testing.assert_allclose(np.asarray(raw.radius), 3.0)
        affine = raw.images["he"].affine  # type: ignore[attr-defined]
        np.testing.assert_allclose(affine, [[2, 0, 5], [0, 2, 7]])

    def test_global_needs_a_unit_and_mixes_axes(self, tmp_path: Path) -> None:
        path = store(tmp_path / "a.zarr", systems=("global",))
        assert "set `um_per_unit`" in faults(path)
        raw = READER.open(path, ReadOptions(um_per_unit=0.5))
        x, y = centers().T
        np.testing.assert_allclose(raw.positions, np.column_stack([2 * y + 1, 3 * x + 2]))
        affine = raw.images["he"].affine  # type: ignore[attr-defined]
        np.testing.assert_allclose(affine, [[0, 1, 0.5], [1.5, 0, 1]])

    def test_asked_system_must_exist(self, tmp_path: Path) -> None:
        path = store(tmp_path / "a.zarr")
        asked = ReadOptions(um_per_unit=1.0, reader_kwargs={"coordinate_system": "global"})
        assert READER.open(path, asked).provenance["coordinate_system"] == "global"
        wrong = ReadOptions(reader_kwargs={"coordinate_system": "atlas"})
        assert "'atlas', but got global, microns" in faults(path, wrong)

    @pytest.mark.parametrize("shapes", ["polygons", "parts"])
    def test_boundaries_follow_their_cells(self, tmp_path: Path, shapes: str) -> None:
        raw = READER.open(store(tmp_path / "a.zarr", shapes=shapes), ReadOptions())
        assert isinstance(raw.shapes, Polygons)
        assert raw.shapes.offsets.tolist() == list(range(0, 5 * N + 1, 5))
        rings = raw.shapes.vertices.reshape(N, 5, 2)
        np.testing.assert_allclose(np.ptp(rings, axis=1), np.tile([4.0, 8.0], (N, 1)))
        middle = (rings.min(axis=1) + rings.max(axis=1)) / 2
        np.testing.assert_allclose(middle, centers() * 2 + [5, 7])

    def test_cells_without_a_shape_are_refused(self, tmp_path: Path) -> None:
        import geopandas

        path = store(tmp_path / "a.zarr")
        file = path / "shapes" / "cells0" / "shapes.parquet"
        geopandas.read_parquet(file).iloc[3:].to_parquet(file)
        assert "none for 3 (key: c37, c38, c39)" in faults(path)


class TestRegions:
    def test_several_regions_are_several_sections(self, tmp_path: Path) -> None:
        path = store(tmp_path / "a.zarr", regions=2)
        assert "set `split_by` to 'region'" in faults(path)
        options = ReadOptions(split_by="region")
        assert READER.inspect(path, options).splits == {"cells0": 20, "cells1": 20}
        raw = READER.open(path, replace(options, split_value="cells1"))
        assert (matrix_of(raw).toarray() == counts()[20:]).all()
        assert ids_of(raw) == [f"id{i}" for i in range(20, 40)]
        np.testing.assert_allclose(raw.positions, centers()[20:] * 2 + [5, 7])

    def test_table_must_be_named_when_there_are_several(self, tmp_path: Path) -> None:
        path = store(tmp_path / "a.zarr")
        shutil.copytree(path / "tables" / "table", path / "tables" / "other")
        meta = json.loads((path / "zarr.json").read_text())
        del meta["consolidated_metadata"]
        (path / "zarr.json").write_text(json.dumps(meta))
        assert "other" in faults(path)
        named = ReadOptions(reader_kwargs={"table": "other"})
        assert READER.open(path, named).n_obs == N


class TestHostile:
    def test_links_are_refused(self, tmp_path: Path) -> None:
        path = store(tmp_path / "a.zarr")
        (path / "images" / "link").symlink_to(tmp_path)
        assert "a link; refused" in faults(path)

    def test_chunk_that_would_fill_memory(self, tmp_path: Path) -> None:
        path = store(tmp_path / "a.zarr")
        meta = json.loads((path / "zarr.json").read_text())
        del meta["consolidated_metadata"]
        (path / "zarr.json").write_text(json.dumps(meta))
        file = path / "tables" / "table" / "X" / "data" / "zarr.json"
        array = json.loads(file.read_text())
        array["chunk_grid"]["configuration"]["chunk_shape"] = [2**29]
        array["codecs"] = [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 0, "checksum": False}},
        ]
        file.write_text(json.dumps(array))
        assert "chunks below 1.0 GiB" in faults(path)

    @pytest.mark.parametrize("old", [False, True])
    def test_missing_chunk_is_not_read_as_zeros(self, tmp_path: Path, old: Any) -> None:
        path = store(tmp_path / "a.zarr", old=old)
        data = path / "tables" / "table" / "X" / "data"
        chunks = [one for one in data.rglob("*") if one.is_file() and one.name[0] not in ".z"]
        raw = READER.open(path, ReadOptions())
        chunks[-1].unlink()
        with pytest.raises(InputError, match=r"a\.zarr"):
            matrix_of(raw)

    def test_no_zarr_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="a folder without one"):
            READER.open(tmp_path, ReadOptions())


def test_transformations_are_those_of_spatialdata() -> None:
    axes = [{"name": "c"}, {"name": "y"}, {"name": "x"}]
    entry = {"input": {"axes": axes}, "output": {"axes": axes, "name": "g"}}
    shift = entry | {"type": "translation", "translation": [0, 7, 5]}
    grow = entry | {"type": "scale", "scale": [1, 3, 2]}
    both = transformation(entry | {"type": "sequence", "transformations": [grow, shift]})
    np.testing.assert_array_equal(both, [[2, 0, 5], [0, 3, 7], [0, 0, 1]])
    with pytest.raises(ValueError, match="'mapAxis' is not read"):
        transformation({"type": "mapAxis"})
    assert choose_system(["a"], None) == "a"
    assert choose_system(["a"], "b") is None
