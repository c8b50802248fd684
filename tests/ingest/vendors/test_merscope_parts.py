"""Boundaries and mosaics of MERSCOPE: planes, both kinds of file, and where pixels lie."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
import tifffile
from numpy.typing import NDArray

from tisseract.atlas.errors import InputError
from tisseract.atlas.image_sources import LazyImage
from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.source import RawSection, RingsSource
from tisseract.ingest.vendors.merscope_boundaries import choose_plane

from .merscope_bundle import in_plane, write_merscope
from .test_merscope import READER, SMALL, TISSUE, notes_of, opened
from .tissue import SimTissue

UNEVEN = replace(SMALL, flat=False)


def rings_of(raw: RawSection) -> dict[int, NDArray[np.float64]]:
    """Ring of each row."""
    assert isinstance(raw.shapes, RingsSource)
    found: dict[int, NDArray[np.float64]] = {}
    for piece in raw.shapes.pieces():
        parts = np.split(piece.vertices, np.cumsum(piece.counts)[:-1])
        assert not found.keys() & set(piece.rows.tolist())
        assert len(set(piece.rows.tolist())) == piece.rows.size
        found |= dict(zip(piece.rows.tolist(), parts, strict=True))
    return found


def assert_same_rings(raw: RawSection, wanted: NDArray[np.float64]) -> None:
    found = rings_of(raw)
    assert sorted(found) == list(range(len(wanted)))
    for row, ring in enumerate(wanted):
        own = shapely.Polygon(found[row])
        assert own.symmetric_difference(shapely.Polygon(ring)).area < 1e-6 * own.area


@pytest.mark.parametrize("kind", ["parquet", "hdf5"])
@pytest.mark.parametrize(("z_layer", "plane"), [(None, 1), (0, 0), (2, 2)])
def test_outlines_of_the_plane_asked_for(
    tmp_path: Path, kind: str, z_layer: int | None, plane: int
) -> None:
    folder = write_merscope(tmp_path, TISSUE, SMALL, boundaries=kind, flat=False, images=False)
    raw = opened(folder, **({} if z_layer is None else {"z_layer": z_layer}))
    wanted = in_plane(TISSUE.boundaries(TISSUE.whole()), plane, UNEVEN)
    assert_same_rings(raw, wanted)
    other = ", ".join(str(z) for z in range(3) if z != plane)
    assert f"outlines of plane {plane}; planes {other} not written" in notes_of(raw)
    if kind == "parquet":
        told = raw.provenance["vendor"]["boundaries"]  # type: ignore[index]
        assert told["plane_um"] == {"0": 1.5, "1": 3.0, "2": 4.5}
        assert "their outlines differ" in notes_of(raw)


def test_a_plane_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path, TISSUE, SMALL, images=False)
    with pytest.raises(InputError, match=r"z_layer out of 0, 1, 2, but got 9"):
        opened(folder, z_layer=9)
    with pytest.raises(InputError, match=r"hdf5 boundaries as asked for"):
        opened(folder, boundaries="hdf5")
    with pytest.raises(InputError, match="got 'svg'"):
        opened(folder, boundaries="svg")


def test_planes_are_told_apart_by_the_first_cells(tmp_path: Path) -> None:
    raw = opened(write_merscope(tmp_path, TISSUE, SMALL, images=False))
    assert "the first cells have the same outline in each" in notes_of(raw)
    assert choose_plane({0: 5, 1: 5, 2: 5, 3: 5, 4: 5, 5: 5, 6: 5}, None, "") == 3


def test_other_planes_become_outlines_when_asked(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path / "r", TISSUE, SMALL, boundaries="both", images=False)
    for kind in ("parquet", "hdf5"):
        raw = opened(folder, boundaries=kind, z_outlines=True)
        assert set(raw.outlines) == {"cells_z0", "cells_z2"}
        tables = list(raw.outlines["cells_z2"].tables())
        assert sum(table.num_rows for table in tables) == 60
        assert "not written" not in notes_of(raw).replace("HDF5 files of boundaries not read", "")


def test_a_cell_absent_in_the_plane_takes_the_nearest(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path, TISSUE, SMALL, boundaries="both", flat=False, images=False)
    path = folder / "cell_boundaries.parquet"
    table = pq.read_table(path)
    # Cell 4 lies in plane 0 alone, cell 5 in no plane, cell 6 in 0 and 2, of which one is taken.
    cell, z = (np.asarray(table[name]) for name in ("EntityID", "ZIndex"))
    ids = np.unique(cell)
    keep = ~((cell == ids[4]) & (z > 0)) & (cell != ids[5]) & ~((cell == ids[6]) & (z == 1))
    pq.write_table(table.filter(keep), path)
    for one in (folder / "cell_boundaries").iterdir():
        with h5py.File(one, "a") as file:
            for k, planes in ((4, (1, 2)), (5, (0, 1, 2)), (6, (1,))):
                name = str(ids[k])
                for plane in planes if name in file["featuredata"] else ():
                    del file[f"featuredata/{name}/zIndex_{plane}/p_0"]
    outline = TISSUE.boundaries(TISSUE.whole())
    for kind in ("parquet", "hdf5"):
        found = rings_of(opened(folder, boundaries=kind))
        assert sorted(found) == [k for k in range(60) if k != 5]
        for row, plane in ((3, 1), (4, 0), (6, 0)):
            ring = in_plane(outline, plane, UNEVEN)[row]
            assert abs(shapely.Polygon(found[row]).area - shapely.Polygon(ring).area) < 1e-9


def test_outlines_of_cells_without_counts_count_for_no_plane(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path, TISSUE, SMALL, images=False)
    path = folder / "cell_boundaries.parquet"
    table = pq.read_table(path)
    cell, z = (np.asarray(table[name]) for name in ("EntityID", "ZIndex"))
    lost = (cell == np.unique(cell)[4]) & (z == 1)
    other = table.filter(z == 1).slice(0, 5)
    other = other.set_column(
        table.schema.get_field_index("EntityID"), "EntityID", pa.array(np.arange(5))
    )
    pq.write_table(pa.concat_tables([table.filter(~lost), other]), path)
    raw = opened(folder)
    assert "outlines of plane 1;" in notes_of(raw)
    assert sorted(rings_of(raw)) == list(range(60))


def test_the_largest_part_stands_for_a_cell(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path, TISSUE, SMALL, boundaries="hdf5", images=False)
    for one in (folder / "cell_boundaries").iterdir():
        with h5py.File(one, "a") as file:
            for cell in file["featuredata"].values():
                ring = cell["zIndex_1/p_0/coordinates"][()]
                cell["zIndex_1/p_1/coordinates"] = 2 * ring - ring.mean(axis=1, keepdims=True)
    raw = opened(folder)
    area = {row: shapely.Polygon(ring).area for row, ring in rings_of(raw).items()}
    assert isinstance(raw.shapes, RingsSource)
    assert sum(piece.n_further for piece in raw.shapes.pieces()) == 60
    plain = shapely.Polygon(TISSUE.boundaries(TISSUE.whole())[0]).area
    np.testing.assert_allclose(list(area.values()), 4 * plain)


def test_a_field_without_cells_is_no_fault(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path, TISSUE, SMALL, boundaries="hdf5", images=False)
    with h5py.File(folder / "cell_boundaries/feature_data_-1.hdf5", "w"):
        pass
    with h5py.File(folder / "cell_boundaries/feature_data_999.hdf5", "w") as file:
        file.create_group("featuredata")
    assert len(rings_of(opened(folder))) == 60


def test_planes_of_old_boundaries_are_those_of_every_file(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path, TISSUE, SMALL, boundaries="hdf5", images=False)
    fields = folder / "cell_boundaries"
    with (
        h5py.File(next(fields.iterdir()), "a") as file,
        h5py.File(fields / "feature_data_-1.hdf5", "w") as first,
    ):
        cells = file["featuredata"]
        name = next(iter(cells))
        cells.copy(name, first.create_group("featuredata"))
        del cells[name], first[f"featuredata/{name}/zIndex_1"]
        del first[f"featuredata/{name}/zIndex_2"]
    raw = opened(folder, z_layer=2)
    assert "outlines of plane 2; planes 0, 1 not written" in notes_of(raw)
    assert len(rings_of(raw)) == 60
    assert "outlines of plane 1; planes 0, 2 not written" in notes_of(opened(folder))


@pytest.mark.parametrize("wrong", [np.zeros((1, 4)), np.zeros((4, 5)), np.array([[b"a", b"b"]])])
def test_coordinates_of_another_kind_name_their_dataset(tmp_path: Path, wrong: object) -> None:
    folder = write_merscope(tmp_path, TISSUE, SMALL, boundaries="hdf5", images=False)
    one = sorted((folder / "cell_boundaries").iterdir())[0]
    with h5py.File(one, "a") as file:
        cell = f"featuredata/{next(iter(file['featuredata']))}/zIndex_1/p_0/coordinates"
        del file[cell]
        file[cell] = wrong
    with pytest.raises(InputError, match=rf"{one.name}:/{cell}.*shape \(1, vertices, 2\)"):
        rings_of(opened(folder))


def test_links_inside_old_boundaries_are_refused(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path / "r", TISSUE, SMALL, boundaries="hdf5", images=False)
    one = sorted((folder / "cell_boundaries").iterdir())[0]
    with h5py.File(one, "a") as file:
        cell = next(iter(file["featuredata"]))
        del file[f"featuredata/{cell}/zIndex_1/p_0/coordinates"]
        file[f"featuredata/{cell}/zIndex_1/p_0/coordinates"] = h5py.ExternalLink(
            str(tmp_path / "secret.h5"), "/x"
        )
    with pytest.raises(InputError, match=rf"{one.name}.*inside the file.*link"):
        rings_of(opened(folder))


def test_float_ids_of_boundaries_are_refused(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path, TISSUE, SMALL, images=False)
    path = folder / "cell_boundaries.parquet"
    table = pq.read_table(path)
    cell = pa.array(np.asarray(table["EntityID"]).astype(float))
    pq.write_table(table.set_column(1, "EntityID", cell), path)
    with pytest.raises(InputError, match=r"EntityID.*whole numbers.*double"):
        opened(folder)


def pixels_of(raw: RawSection, name: str = "mosaic_z1") -> NDArray[np.generic]:
    image = raw.images[name]
    assert isinstance(image, LazyImage)
    with image.open() as pixels:
        return pixels.rows(0, pixels.shape[1])


def affine_of(raw: RawSection, name: str = "mosaic_z1") -> NDArray[np.float64]:
    image = raw.images[name]
    assert isinstance(image, LazyImage)
    return np.array(image.affine)


def under_cells(
    image: NDArray[np.generic], affine: object, positions: NDArray[np.float64]
) -> float:
    """Share of positions that lie on a bright pixel."""
    matrix = np.array(affine)
    at = np.floor(np.linalg.solve(matrix[:, :2], (positions - matrix[:, 2]).T).T).astype(int)
    inside = ((at >= 0) & (at < image.shape[::-1])).all(axis=1)
    values = np.zeros(len(at))
    values[inside] = image[at[inside, 1], at[inside, 0]]
    return float((values > 1000).mean())


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two thousand cells: 5 % of their extent is several cells."""
    tissue = SimTissue(2000, n_genes=40, mean_counts=3, seed=3)
    folder = tmp_path_factory.mktemp("wide") / "r"
    return write_merscope(folder, tissue, SMALL, um_per_px=0.5, image_planes=(1,))


def test_nuclei_lie_under_the_cells(wide: Path) -> None:
    raw = opened(wide)
    image, affine = pixels_of(raw)[0], affine_of(raw)
    assert under_cells(image, affine, raw.positions) > 0.99
    shifted = affine + np.array([[0, 0, 4.0], [0, 0, 0]])
    larger = affine * [[1.05, 1, 1], [1, 1.05, 1]]
    swapped = image.T
    assert under_cells(image, larger, raw.positions) < 0.4
    assert under_cells(image, shifted, raw.positions) < 0.4
    assert under_cells(swapped, affine, raw.positions) < 0.4
    assert "lie on" not in notes_of(raw)


@pytest.mark.parametrize("source", ["transform", "manifest"])
def test_pixels_agree_with_the_vendors_transform(wide: Path, tmp_path: Path, source: str) -> None:
    folder = Path(shutil.copytree(wide, tmp_path / "r"))
    numbers = np.loadtxt(folder / "images/micron_to_mosaic_pixel_transform.csv")
    if source == "manifest":
        (folder / "images/micron_to_mosaic_pixel_transform.csv").unlink()
    raw = opened(folder)
    affine = affine_of(raw)
    micron = np.column_stack([raw.positions, np.ones(raw.n_obs)])
    pixel = micron @ numbers.T
    np.testing.assert_allclose(pixel @ affine.T, raw.positions, atol=0.01)


def test_flip_moves_image_and_cells_together(wide: Path) -> None:
    raw = READER.open(wide, ReadOptions(y_axis="up"))
    affine = affine_of(raw)
    stored = raw.positions * [1.0, -1.0]
    assert under_cells(pixels_of(raw)[0], affine, stored) > 0.99
    assert "lie on" not in notes_of(raw)
    batch = next(iter(raw.points["transcripts"].batches()))
    plain = next(iter(opened(wide).points["transcripts"].batches()))
    for name, factor in (("x", 1), ("y", -1), ("z", 1)):
        np.testing.assert_allclose(np.asarray(batch[name]), factor * np.asarray(plain[name]))


def test_whether_the_panel_is_complete_is_told(wide: Path) -> None:
    assert opened(wide).panel.completeness == "complete"
    assert opened(wide, panel="partial").panel.completeness == "partial"
    with pytest.raises(InputError, match="partial or complete, but got 'half'"):
        opened(wide, panel="half")


def test_another_unit_than_micrometers_is_refused(wide: Path) -> None:
    with pytest.raises(InputError, match=r"files are micrometers.*got 2; leave it empty"):
        READER.open(wide, ReadOptions(um_per_unit=2.0))


def test_stains_of_a_plane_are_channels(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path, TISSUE, SMALL)
    raw = opened(folder)
    assert set(raw.images) == {"mosaic_z1"}
    assert "planes 0, 2 not written" in notes_of(raw)
    image = pixels_of(raw)
    for k, stain in enumerate(("DAPI", "PolyT")):
        file = tifffile.imread(folder / f"images/mosaic_{stain}_z1.tif")
        np.testing.assert_array_equal(image[k], file)
    assert set(opened(folder, z_layers="all").images) == {f"mosaic_z{z}" for z in range(3)}
    assert set(opened(folder, z_layers=[2, 0]).images) == {"mosaic_z0", "mosaic_z2"}
    assert not opened(folder, z_layers="none").images
    with pytest.raises(InputError, match=r"planes out of 0, 1, 2.*got 7"):
        opened(folder, z_layers=7)
    shutil.copy(folder / "images/mosaic_DAPI_z1.tif", folder / "images/old_mosaic_DAPI_z1.tif")
    with pytest.raises(InputError, match=r"one image of DAPI in plane 1"):
        opened(folder)


def test_smaller_copies_of_the_mosaics_keep_their_place(wide: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(wide, tmp_path / "r"))
    for path in folder.glob("images/*.tif"):
        tifffile.imwrite(path, tifffile.imread(path)[::2, ::2])
    raw = opened(folder)
    affine = affine_of(raw)
    assert under_cells(pixels_of(raw)[0], affine, raw.positions) > 0.95
    assert "smaller copy" in notes_of(raw)


def test_stains_of_another_size_become_an_image_of_their_own(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path, TISSUE, SMALL, image_planes=(1,))
    path = folder / "images/mosaic_PolyT_z1.tif"
    tifffile.imwrite(path, tifffile.imread(path)[::2, ::2])
    raw = opened(folder)
    whole, half = affine_of(raw, "mosaic_z1"), affine_of(raw, "mosaic_z1_2")
    size = np.array([pixels_of(raw, name).shape for name in ("mosaic_z1", "mosaic_z1_2")])
    assert size[:, 0].tolist() == [1, 1]
    corners = [a @ [n[2], n[1], 1] for a, n in zip((whole, half), size, strict=True)]
    np.testing.assert_allclose(corners[0], corners[1])


def test_an_image_of_the_sheet_lies_where_the_mosaics_do(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path / "r", TISSUE, SMALL)
    shutil.copy(folder / "images/mosaic_DAPI_z0.tif", tmp_path / "own.tif")
    raw = READER.open(folder, ReadOptions(image=tmp_path / "own.tif"))
    np.testing.assert_array_equal(affine_of(raw, "image"), affine_of(raw))


def test_images_without_a_place_are_left_out(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path, TISSUE, SMALL, transform=False, manifest=False)
    raw = opened(folder)
    assert not raw.images
    assert "where they lie is unknown" in notes_of(raw)


def test_transform_and_manifest_that_disagree_are_noted(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path, TISSUE, SMALL)
    path = folder / "images/manifest.json"
    facts = json.loads(path.read_text())
    facts["bbox_microns"] = [one + 500 for one in facts["bbox_microns"]]
    path.write_text(json.dumps(facts))
    assert "um apart; the former is taken" in notes_of(opened(folder))
    (folder / "images/micron_to_mosaic_pixel_transform.csv").unlink()
    assert "0% of the cells lie on mosaic_z1" in notes_of(opened(folder))


@pytest.mark.parametrize(
    "text", ["1 0 0\n0 1 0\n", "0 0 0\n0 0 0\n0 0 1\n", "9 0 nan\n0 9 0\n0 0 1\n", "a b c\n"]
)
def test_broken_transform_is_a_fault(tmp_path: Path, text: str) -> None:
    folder = write_merscope(tmp_path, TISSUE, SMALL, boundaries="none")
    (folder / "images/micron_to_mosaic_pixel_transform.csv").write_text(text)
    with pytest.raises(InputError, match=r"micron_to_mosaic_pixel_transform.csv.*3 x 3"):
        opened(folder)


def test_a_written_section_holds_everything(tmp_path: Path) -> None:
    folder = write_merscope(tmp_path / "r", TISSUE, SMALL, boundaries="both")
    raw = opened(folder, z_outlines=True)
    write_section(raw, tmp_path / "out", memory_limit=2**30)
    written = {str(one.relative_to(tmp_path / "out")) for one in (tmp_path / "out").glob("*/*")}
    assert {
        "tables/table", "tables/controls", "shapes/cells", "shapes/cells_z0", "points/transcripts",
        "images/mosaic_z1",
    } <= written  # fmt: skip
    stored = pq.read_table(tmp_path / "out/shapes/cells/shapes.parquet")
    assert stored.num_rows == 60
