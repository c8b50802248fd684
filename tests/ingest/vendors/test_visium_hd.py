"""The Visium HD reader: bins of every size, cells, moved folders, units, images, faults."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
import spatialdata
from scipy import sparse

from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import Reader, ReadOptions, reader_for
from tisseract.ingest.source import RingsSource
from tisseract.ingest.vendors.visium import VisiumReader
from tisseract.ingest.vendors.visium_hd import VisiumHDReader

from ...contracts import ReaderContract, ids_of, matrix_of, told_faults
from .mutants import run_mutants, wanted
from .tissue import SimTissue
from .visium_bundle import write_small as write_visium_small
from .visium_checks import UnderSpots, with_kwargs
from .visium_hd_bundle import (
    CELL_KINDS,
    KINDS,
    UM_PER_PX,
    BinGrid,
    bin_truth,
    cell_truth,
    write_visium_hd,
)

READER = VisiumHDReader()
BINS = SimTissue(60, 40, 20.0, molecules=False)
CELLS = SimTissue(45, 40, 30.0)
GRID = BinGrid(60)
TRANSFORMS = ("cytassist_colrow_to_spot_colrow", "spot_colrow_to_microscope_colrow")
SEGMENTED = ReadOptions(reader_kwargs={"segmented": True})


faults = partial(told_faults, READER)


def bundle(folder: Path, **how: Any) -> Path:
    chosen: dict[str, Any] = {"cells": CELLS, "image_um": 4.0} | how
    write_visium_hd(folder, BINS, **chosen)
    return folder


def notes(path: Path, options: ReadOptions | None = None) -> str:
    return "\n".join(READER.inspect(path, options or ReadOptions()).notes)


class TestBins(ReaderContract):
    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return bundle(tmp_path / "out", cells=None)

    @pytest.fixture
    def truth(self) -> Mapping[str, Any]:
        return asdict(bin_truth(BINS, GRID))


class TestCells(ReaderContract):
    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return bundle(tmp_path / "out")

    @pytest.fixture
    def options(self) -> ReadOptions:
        return SEGMENTED

    @pytest.fixture
    def truth(self) -> Mapping[str, Any]:
        return asdict(cell_truth(CELLS, GRID))


class TestLayouts:
    @pytest.mark.parametrize("version", ["3.0.0", "3.1.3", "4.0.1"])
    def test_bins_are_a_grid_of_circles(self, tmp_path: Path, version: str) -> None:
        raw = READER.open(bundle(tmp_path / "out", version=version, prefix="Mouse_"), ReadOptions())
        assert raw.um_per_unit == UM_PER_PX
        assert isinstance(raw.radius, float)
        assert raw.radius * UM_PER_PX == pytest.approx(4.0)
        assert raw.shapes is None
        rows: Any = raw.obs["array_row"].read()
        columns: Any = raw.obs["array_col"].read()
        index = GRID.index(np.arange(60))
        assert np.array_equal(np.column_stack([rows.values, columns.values]), index)
        vendor: Any = raw.provenance["vendor"]
        assert vendor["software"] == f"spaceranger-{version}"
        assert vendor["feature_slice"]["sample_id"] == "sim"
        assert vendor["metrics"] == {"Sample ID": "sim", "Reads": "12"}
        assert "barcode_mappings.parquet" in str(raw.provenance["notes"])

    def test_sizes(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out", bins=(2, 8, 16))
        assert READER.open(path, ReadOptions()).radius == pytest.approx(4 / UM_PER_PX)
        total = bin_truth(BINS, GRID).counts.sum()
        for size in (2, "16", "square_008um", 16.0):
            raw = READER.open(path, with_kwargs(bin_size=size))
            assert matrix_of(raw).sum() == total
        told = faults(path, with_kwargs(bin_size=4))
        assert "but got bins of 2, 8, 16 um" in told
        assert "a number of micrometers" in faults(path, with_kwargs(bin_size="wide"))

    @pytest.mark.parametrize(("sizes", "taken"), [((2, 16), 16), ((2, 4), 4)])
    def test_without_8_um_the_next_larger_else_the_largest(
        self, tmp_path: Path, sizes: tuple[int, int], taken: int
    ) -> None:
        path = bundle(tmp_path / "out", bins=sizes)
        assert READER.open(path, ReadOptions()).radius == pytest.approx(taken / 2 / UM_PER_PX)

    def test_two_folders_of_one_size_are_refused(self, tmp_path: Path) -> None:
        place = bundle(tmp_path / "out", cells=None) / "binned_outputs"
        shutil.copytree(place / "square_008um", place / "b_square_008um")
        assert "one folder of 8 um bins, but got binned_outputs/b_square" in faults(place.parent)

    @pytest.mark.parametrize(
        "part",
        ["", "binned_outputs", "binned_outputs/square_008um", "segmented_outputs"],
    )
    def test_any_folder_of_an_output(self, tmp_path: Path, part: str) -> None:
        path = bundle(tmp_path / "run" / "outs") / part
        assert reader_for(path).format == "visium_hd"
        raw = READER.open(path, ReadOptions())
        assert raw.n_obs == (39 if part.startswith("seg") else 60)
        assert raw.um_per_unit == UM_PER_PX

    def test_outs(self, tmp_path: Path) -> None:
        bundle(tmp_path / "run" / "outs")
        assert reader_for(tmp_path / "run").format == "visium_hd"
        assert READER.open(tmp_path / "run", ReadOptions()).n_obs == 60

    def test_moved_and_renamed(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out") / "binned_outputs" / "square_008um"
        moved = tmp_path / "brain"
        shutil.copytree(path, moved)
        assert reader_for(moved).format == "visium_hd"
        raw = READER.open(moved, ReadOptions())
        assert (raw.n_obs, raw.radius) == (60, 4 / UM_PER_PX)

    def test_visium_is_not_visium_hd(self, tmp_path: Path) -> None:
        spots = write_visium_small(tmp_path / "visium")
        assert not READER.recognizes(spots)
        assert "set `format` to visium" in faults(spots)
        bins = bundle(tmp_path / "hd")
        assert not VisiumReader().recognizes(bins)
        (fault,) = VisiumReader().inspect(bins, ReadOptions()).faults
        assert "set `format` to visium_hd" in str(fault)
        assert not READER.recognizes(tmp_path)

    def test_packed_outputs(self, tmp_path: Path) -> None:
        (tmp_path / "Mouse_binned_outputs.tar.gz").write_bytes(b"")
        assert reader_for(tmp_path).format == "visium_hd"
        assert "unpack Mouse_binned_outputs.tar.gz" in faults(tmp_path)

    def test_links_out_of_the_folder_are_told(self, tmp_path: Path) -> None:
        """Also where nothing else is left of the output."""
        path = bundle(tmp_path / "out", cells=None)
        (path / "binned_outputs").rename(tmp_path / "elsewhere")
        (path / "binned_outputs").symlink_to(tmp_path / "elsewhere")
        told = faults(path)
        assert "expected binned_outputs" in told
        assert "refused, copy it in" in told

    def test_unit_of_the_grid_without_scale_factors(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out", cells=None)
        for file in path.rglob("scalefactors_json.json"):
            file.unlink()
        raw = READER.open(path, ReadOptions())
        assert raw.um_per_unit == pytest.approx(UM_PER_PX, rel=1e-9)
        assert "bins of 8 um" in str(raw.provenance["unit"])
        assert list(raw.images) == ["cytassist"]

    def test_scale_factors_that_contradict_the_grid(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        file = path / "binned_outputs/square_008um/spatial/scalefactors_json.json"
        facts = json.loads(file.read_text())
        file.write_text(json.dumps(facts | {"microns_per_pixel": 2 * UM_PER_PX}))
        assert "a pitch of 16 um, but bins are 8 um" in notes(path)
        file.write_text(json.dumps(facts | {"bin_size_um": 10}))
        assert "holds bins of 10 um" in notes(path)
        raw = READER.open(path, ReadOptions(um_per_unit="unknown"))
        assert raw.um_per_unit is None
        assert raw.radius == pytest.approx(4 / UM_PER_PX)

    def test_every_fault_is_told_at_once(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out", cells=None)
        place = path / "binned_outputs/square_008um/spatial"
        (place / "tissue_positions.parquet").unlink()
        (place / "scalefactors_json.json").write_text("[]")
        told = faults(path, with_kwargs(panel="some", images="some", in_tissue_only=1))
        for part in ("without it no bin", "a JSON object", "panel partial", "a list out of"):
            assert part in told

    def test_matrix_of_all_bins_leaves_out_those_on_glass(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        place = path / "binned_outputs/square_008um"
        (place / "filtered_feature_bc_matrix.h5").rename(place / "raw_feature_bc_matrix.h5")
        positions = place / "spatial" / "tissue_positions.parquet"
        table = pq.read_table(positions)
        inside = np.array(table["in_tissue"]).copy()
        inside[np.flatnonzero(inside)[0]] = 0
        pq.write_table(table.set_column(1, "in_tissue", [inside]), positions)
        assert "raw_feature_bc_matrix is read instead" in notes(path)
        assert READER.open(path, ReadOptions()).n_obs == 59
        assert READER.open(path, with_kwargs(in_tissue_only=False)).n_obs == 60


class TestSegmented:
    def test_cells_with_polygons_and_nuclei(self, tmp_path: Path) -> None:
        raw = READER.open(bundle(tmp_path / "out"), SEGMENTED)
        assert isinstance(raw.shapes, RingsSource)
        pieces = list(raw.shapes.pieces())
        assert sum(piece.counts.sum() for piece in pieces) == 45 * 15
        assert raw.shapes.n_vertices == 39 * 15
        (table,) = raw.outlines["nuclei"].tables()
        assert table.num_rows == 39
        ids = table.column("cell_id").to_pylist()
        assert ids == ids_of(raw)
        shapes = shapely.from_wkb(table.column("geometry").to_numpy())
        centers = shapely.get_coordinates(shapely.centroid(shapes)) / UM_PER_PX
        np.testing.assert_allclose(centers, raw.positions, atol=0.02)

    def test_written_polygons_hold_their_cells(self, tmp_path: Path) -> None:
        raw = READER.open(bundle(tmp_path / "out"), SEGMENTED)
        write_section(raw, tmp_path / "s.zarr", memory_limit=2**30)
        shapes = shapely.from_wkb(
            pq.read_table(tmp_path / "s.zarr/shapes/cells/shapes.parquet")["geometry"].to_numpy()
        )
        expected = CELLS.boundaries(CELLS.whole(), 14)[0]
        area = shapely.area(shapely.polygons(expected))
        assert shapely.area(shapes) == pytest.approx(area, rel=0.01)
        nuclei = pq.read_table(tmp_path / "s.zarr/shapes/nuclei/shapes.parquet")
        assert nuclei.num_rows == 39

    def test_nuclei_of_no_cell_leave_a_section_that_opens(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        file = path / "segmented_outputs" / "nucleus_segmentations.geojson"
        facts = json.loads(file.read_text())
        for feature in facts["features"]:
            feature["properties"]["cell_id"] += 10**6
        file.write_text(json.dumps(facts))
        summary = write_section(
            READER.open(path, SEGMENTED), tmp_path / "s.zarr", memory_limit=2**30
        )
        assert "shapes 'nuclei' left out" in str(summary)
        attributes = json.loads((tmp_path / "s.zarr/tisseract/zarr.json").read_text())["attributes"]
        assert "shapes" not in attributes
        assert not (tmp_path / "s.zarr/shapes/nuclei").exists()
        assert set(spatialdata.read_zarr(tmp_path / "s.zarr").shapes) == {"cells"}

    def test_polygons_as_multipolygons(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        file = path / "segmented_outputs" / "cell_segmentations.geojson"
        before = READER.open(path, SEGMENTED).positions
        facts = json.loads(file.read_text())
        geometry = facts["features"][0]["geometry"]
        speck = [[[0, 0], [1, 0], [0, 1], [0, 0]]]
        geometry |= {"type": "MultiPolygon", "coordinates": [speck, geometry["coordinates"]]}
        file.write_text(json.dumps(facts, indent=1))
        np.testing.assert_array_equal(READER.open(path, SEGMENTED).positions, before)

    def test_of_several_polygons_the_largest_is_the_cell(self, tmp_path: Path) -> None:
        """Wherever they lie in the file; the section is written with the polygon of its place."""
        path = bundle(tmp_path / "out")
        file = path / "segmented_outputs" / "cell_segmentations.geojson"
        facts = json.loads(file.read_text())
        before = READER.open(path, SEGMENTED).positions
        small, large = (json.loads(json.dumps(facts["features"][0])) for _ in range(2))
        x, y = np.floor(before[0]).tolist()
        for one, size in ((small, 1), (large, 400)):
            ring = [[x, y], [x + size, y], [x + size, y + size], [x, y + size]]
            one["geometry"]["coordinates"] = [ring]
        file.write_text(json.dumps(facts | {"features": [small, *facts["features"], small]}))
        np.testing.assert_array_equal(READER.open(path, SEGMENTED).positions, before)
        file.write_text(json.dumps(facts | {"features": [*facts["features"], large, small]}))
        raw = READER.open(path, SEGMENTED)
        assert raw.positions[0].tolist() == [x + 200, y + 200]
        summary = write_section(raw, tmp_path / "s.zarr", memory_limit=2**30)
        assert "2 further boundaries" in str(summary)

    def test_missing_parts(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        folder = path / "segmented_outputs"
        (folder / "nucleus_segmentations.geojson").unlink()
        assert "no outlines of nuclei" in notes(path, SEGMENTED)
        polygons = folder / "cell_segmentations.geojson"
        facts = json.loads(polygons.read_text())
        polygons.write_text(json.dumps(facts | {"features": facts["features"][1:]}))
        assert "expected a polygon for each of 39 cells" in faults(path, SEGMENTED)
        raw = READER.open(path, with_kwargs(segmented=True, unplaced="drop"))
        assert raw.n_obs == 38
        assert isinstance(raw.shapes, RingsSource)
        rows = np.concatenate([piece.rows for piece in raw.shapes.pieces()])
        assert sorted(rows[rows >= 0].tolist()) == list(range(38))
        polygons.unlink()
        assert "polygons of the cells" in faults(path, SEGMENTED)
        shutil.rmtree(folder)
        assert "expected segmented_outputs" in faults(path, SEGMENTED)
        assert READER.open(path, ReadOptions()).n_obs == 60

    def test_two_folders_of_cells_are_refused(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        shutil.copytree(path / "segmented_outputs", path / "b_segmented_outputs")
        told = faults(path, SEGMENTED)
        assert "one folder of cells, but got b_segmented_outputs/ and segmented_outputs/" in told
        assert READER.open(path, ReadOptions()).n_obs == 60

    def test_options_that_exclude_each_other(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        assert "no bin_size" in faults(path, with_kwargs(segmented=True, bin_size=8))
        assert "true or false" in faults(path, with_kwargs(segmented="yes"))


class TestImages:
    @pytest.mark.parametrize("name", ["hires", "lowres"])
    def test_tissue_lies_under_the_bins(self, tmp_path: Path, name: str) -> None:
        tissue = SimTissue(2_000, 40, 3.0, molecules=False)
        write_visium_hd(tmp_path / "out", tissue, image_um=1.0 if name == "hires" else 0.5)
        raw = READER.open(tmp_path / "out", ReadOptions())
        bins = UnderSpots(raw, name)
        assert bins.share() > 0.995
        assert bins.share(order=(1, 0)) < 0.9
        assert bins.share(scale=1.05) < 0.985
        assert bins.share(scale=0.95) < 0.985

    def test_cytassist_image_is_placed_by_the_transforms(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        raw = READER.open(path, ReadOptions())
        image: Any = raw.images["cytassist"]
        affine = np.array(image.affine)
        # 20 um a pixel, turned by a quarter: its y runs along the columns of the array.
        assert np.hypot(*affine[:, 1]) == pytest.approx(20.0)
        spot = np.array([[10 * 20 / 8 + 4, 7 * 20 / 8 - 3]])  # array row, column of pixel (10, 7)
        expected = (GRID.positions(spot) * UM_PER_PX)[0]
        np.testing.assert_allclose(affine @ [10.0, 7.0, 1.0], expected, atol=1e-6)
        assert "cytassist" not in READER.open(path, with_kwargs(images=["hires"])).images
        files = READER.files(path, with_kwargs(images=False))
        assert not [one for one in files if one.suffix in {".png", ".tif", ".tiff"}]
        with h5py.File(path / "feature_slice.h5", "a") as file:
            facts = json.loads(str(file.attrs["metadata_json"]))
            facts["transform_matrices"]["cytassist_colrow_to_spot_colrow"][6] = 1e-3
            file.attrs["metadata_json"] = json.dumps(facts)
        assert "no affine transform comes nearer" in notes(path)
        (path / "feature_slice.h5").write_bytes(b"none")
        assert "feature_slice.h5 cannot be read" in notes(path)
        assert "does not place it" in notes(path)

    def test_where_y_points_up_everything_is_turned_with_it(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        down = READER.open(path, SEGMENTED)
        up = READER.open(path, replace(SEGMENTED, y_axis="up"))
        image: Any
        for name, image in down.images.items():
            other: Any = up.images[name]
            expected = np.array(image.affine) * [[1.0], [-1.0]]
            np.testing.assert_array_equal(np.array(other.affine), expected)
        assert set(up.images) == {"hires", "lowres", "cytassist"}
        tables = [next(iter(raw.outlines["nuclei"].tables())) for raw in (down, up)]
        one, two = (shapely.from_wkb(table["geometry"].to_numpy()) for table in tables)
        centers = shapely.get_coordinates(shapely.centroid(one)) * [1.0, -1.0]
        np.testing.assert_allclose(shapely.get_coordinates(shapely.centroid(two)), centers)

    @pytest.mark.parametrize(
        "said",
        [
            {"transform_matrices": {name: [1e300] * 9 for name in TRANSFORMS}},
            {"sample_id": float("nan"), "sample_desc": "\ud800"},
            {"sample_id": json.loads("[" * 600 + "]" * 600)},
        ],
        ids=["huge", "odd", "deep"],
    )
    def test_odd_facts_of_the_slice_are_written(self, tmp_path: Path, said: Any) -> None:
        path = bundle(tmp_path / "out", cells=None)
        with h5py.File(path / "feature_slice.h5", "a") as file:
            facts = json.loads(str(file.attrs["metadata_json"]))
            file.attrs["metadata_json"] = json.dumps(facts | said)
        raw = READER.open(path, ReadOptions())
        assert ("transform is singular" in notes(path)) == ("cytassist" not in raw.images)
        write_section(raw, tmp_path / "s.zarr", memory_limit=2**30)
        text = (tmp_path / "s.zarr/tisseract/provenance/zarr.json").read_text()
        vendor = json.loads(text, parse_constant=pytest.fail)["attributes"]["vendor"]
        assert vendor["feature_slice"]["software_version"] == "spaceranger-4.0.1"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, *CELL_KINDS], ids=lambda kind: str(kind[0]))
def test_no_damage_gets_out(tmp_path: Path, kind: tuple[str, Any, str]) -> None:
    name, write, file = kind
    images = [] if kind in CELL_KINDS else ["cytassist" if "slice" in name else "hires"]
    options = with_kwargs(images=images, segmented=kind in CELL_KINDS)
    source = write(tmp_path / "small")
    report = run_mutants(source, file, READER, options, tmp_path / "work", n=wanted(10))
    assert not report.failures


@pytest.mark.slow
def test_spatialdata_io_reads_the_same(tmp_path: Path) -> None:
    """Cells, genes, counts, coordinates, image shapes.

    Theirs makes a square polygon of every bin, unrotated; ours keeps circles of the same width.
    Cells have no positions there: the centroids of its polygons are ours.
    """
    from spatialdata_io import visium_hd  # type: ignore[import-untyped]

    path = bundle(tmp_path / "out", bins=(8, 16), prefix="s_")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs: Any = visium_hd(path, load_segmentations_only=False, var_names_make_unique=False)
    for size in (8, 16):
        raw = READER.open(path, with_kwargs(bin_size=size))
        table = theirs.tables[f"square_{size:03d}um"]
        assert ids_of(raw) == table.obs_names.tolist()
        assert raw.panel.symbol.tolist() == table.var_names.tolist()
        assert (matrix_of(raw) != sparse.csr_matrix(table.X)).nnz == 0
        np.testing.assert_array_equal(raw.positions, table.obsm["spatial"])
        squares = theirs.shapes[f"s_square_{size:03d}um"].geometry
        assert isinstance(raw.radius, float)
        assert squares.area.iloc[0] == pytest.approx((2 * raw.radius) ** 2)
    for name in ("hires", "lowres"):
        image: Any = raw.images[name]
        with image.open() as pixels:
            assert pixels.shape == theirs.images[f"s_{name}_image"].shape
    cells = READER.open(path, SEGMENTED)
    table = theirs.tables["cell_segmentations"]
    assert ids_of(cells) == table.obs_names.tolist()
    assert (matrix_of(cells) != sparse.csr_matrix(table.X)).nnz == 0
    polygons = theirs.shapes["s_cell_segmentations"].geometry
    centers = np.column_stack([polygons.centroid.x, polygons.centroid.y])
    np.testing.assert_allclose(cells.positions, centers, atol=1e-9)


@pytest.mark.real
def test_real_layout(real_data: Path) -> None:
    path = real_data / "vendor" / "visium_hd"
    assert reader_for(path).format == "visium_hd"
    raw = READER.open(path, ReadOptions())
    place = path / "binned_outputs" / "square_008um"
    with h5py.File(place / "filtered_feature_bc_matrix.h5") as file:
        group = file["matrix"]
        parts = (group["data"][:], group["indices"][:], group["indptr"][:])
        shape = tuple(group["shape"][:][::-1])
        ids = [one.decode() for one in group["barcodes"][:]]
    assert (matrix_of(raw) != sparse.csr_matrix(parts, shape=shape)).nnz == 0
    assert ids_of(raw) == ids
    table = pq.read_table(place / "spatial" / "tissue_positions.parquet").to_pandas()
    table = table.set_index("barcode").loc[ids]
    expected = table[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()
    np.testing.assert_array_equal(raw.positions, expected)
    assert raw.um_per_unit == pytest.approx(0.27376126715)
    # The counts are those of another sample: only a quarter of the 16 um barcodes has a place.
    assert "none for 2053" in faults(path, with_kwargs(bin_size=16))
    assert READER.open(path, with_kwargs(bin_size=16, unplaced="drop")).n_obs == 642
    assert {"hires", "lowres"} == set(raw.images)
