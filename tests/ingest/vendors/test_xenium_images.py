"""Images and masks of Xenium outputs lie on their cells, whatever the release calls them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tisseract.atlas.errors import InputError
from tisseract.ingest.reader import ReadOptions

from .tissue import SimTissue
from .xenium_bundle import write_xenium
from .xenium_checks import READER, lies_on_cells, notes_of, opened, under

TISSUE = SimTissue(120, n_genes=40, mean_counts=5, seed=6)
XY = TISSUE.whole().positions_um
PIXEL = 0.8


def write(folder: Path, **more: Any) -> Path:
    usual: dict[str, Any] = {"pixel_um": PIXEL, "transcripts": False, "boundaries": False}
    return write_xenium(folder / "output", TISSUE, **{**usual, **more})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("images"), version="2", stains=4, he=True)


@pytest.fixture
def own(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "output"))


def affine_of(raw: Any, name: str) -> Any:
    return np.asarray(raw.images[name].affine)


@pytest.mark.parametrize(
    ("version", "stains", "names"),
    [
        ("1", 1, ("DAPI",)),
        ("2", 1, ("DAPI",)),
        ("3", 4, ("DAPI", "ATP1A1/CD45/E-Cadherin", "18S", "AlphaSMA/Vimentin")),
        ("4", 4, ("DAPI", "ATP1A1/CD45/E-Cadherin", "18S", "AlphaSMA/Vimentin")),
    ],
)
def test_morphology_of_every_release(
    tmp_path: Path, version: str, stains: int, names: tuple[str, ...]
) -> None:
    raw = opened(write(tmp_path, version=version, stains=stains, masks=False))
    wanted = ["morphology_focus", "morphology_mip"] if version == "1" else ["morphology_focus"]
    assert list(raw.images) == wanted
    image: Any = raw.images["morphology_focus"]
    np.testing.assert_allclose(image.affine, [[PIXEL, 0, 0], [0, PIXEL, 0]])
    with image.open() as pixels:
        assert tuple(pixels.channels) == names
        whole = pixels.rows(0, pixels.shape[1])
    for k in range(stains):
        lies_on_cells(image, XY, k)
        assert whole[k].max() == (4000 - 700 * k if version != "1" else 4000)


def test_bands_are_the_rows_of_the_file(own: Path) -> None:
    image: Any = opened(own).images["morphology_focus"]
    file = own / "morphology_focus" / "morphology_focus_0001.ome.tif"
    with tifffile.TiffFile(file, is_ome=False) as tiff:
        plane = tiff.pages[0].asarray()
    with image.open() as pixels:
        bands = [pixels.rows(k, min(k + 97, len(plane)))[1] for k in range(0, len(plane), 97)]
        np.testing.assert_array_equal(np.concatenate(bands), plane)
        np.testing.assert_array_equal(pixels.rows(5, 6)[1], plane[5:6])


@pytest.mark.parametrize("version", ["1", "1.4", "3"])
def test_masks_lie_on_their_cells(tmp_path: Path, version: str) -> None:
    raw = opened(write(tmp_path, version=version, images=False))
    assert set(raw.labels) == {"cell_labels", "nucleus_labels"}
    cells: Any = raw.labels["cell_labels"]
    assert (under(cells, XY) == np.arange(1, len(XY) + 1)).mean() > 0.95
    assert (under(cells, XY * 1.05) == np.arange(1, len(XY) + 1)).mean() < 0.2
    assert not opened(tmp_path / "output", labels=False).labels


def test_aligned_images_go_through_their_matrix(bundle: Path) -> None:
    raw = opened(bundle)
    assert list(raw.images) == ["morphology_focus", "he_image"]
    image: Any = raw.images["he_image"]
    lies_on_cells(image, XY, dark=True)
    with image.open() as pixels:
        assert tuple(pixels.channels) == ("r", "g", "b")


def test_an_image_without_a_matrix_is_left_out_unless_it_fits(own: Path) -> None:
    (own / "sample_he_imagealignment.csv").unlink()
    raw = opened(own)
    assert list(raw.images) == ["morphology_focus"]
    assert "sample_he_imagealignment.csv beside it" in notes_of(raw)
    with tifffile.TiffFile(
        own / "morphology_focus" / "morphology_focus_0000.ome.tif", is_ome=False
    ) as tiff:
        plane = tiff.pages[0].asarray()
    tifffile.imwrite(own / "sample_if_image.ome.tif", plane)
    raw = opened(own)
    assert "if_image" in raw.images
    lies_on_cells(raw.images["if_image"], XY)


def test_a_matrix_outside_of_the_folder_is_not_read(own: Path, tmp_path: Path) -> None:
    matrix = own / "sample_he_imagealignment.csv"
    shutil.move(matrix, tmp_path / "secret.csv")
    matrix.symlink_to(tmp_path / "secret.csv")
    seen = READER.inspect(own, ReadOptions())
    assert "refused, copy it in" in str(seen.faults)
    assert list(seen.images) == ["morphology_focus"]
    assert matrix not in READER.files(own, ReadOptions())


def test_the_image_of_the_sheet(own: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "photo.ome.tif"
    shutil.move(own / "sample_he_image.ome.tif", elsewhere)
    matrix = own / "sample_he_imagealignment.csv"
    options = ReadOptions(image=elsewhere, reader_kwargs={"images": False})
    with pytest.raises(InputError, match=r"photo\.ome\.tif.*image_alignment"):
        READER.open(own, options)
    given = np.loadtxt(matrix, delimiter=",").tolist()
    raw = READER.open(own, replace(options, reader_kwargs={"image_alignment": given}))
    lies_on_cells(raw.images["image"], XY, dark=True)
    alone = replace(options, reader_kwargs={"image_alignment": given, "images": False})
    assert list(READER.open(own, alone).images) == ["image"]
    np.testing.assert_allclose(affine_of(READER.open(own, alone), "image"), affine_of(raw, "image"))
    beside = tmp_path / "photoalignment.csv"
    shutil.copy(matrix, tmp_path / "turned.csv")
    named = READER.open(own, replace(options, reader_kwargs={"image_alignment": "turned.csv"}))
    np.testing.assert_allclose(affine_of(named, "image"), affine_of(raw, "image"))
    shutil.copy(matrix, beside)
    again = READER.open(own, ReadOptions(image=elsewhere))
    assert beside in READER.files(own, ReadOptions(image=elsewhere))
    np.testing.assert_allclose(affine_of(again, "image"), affine_of(raw, "image"))
    bad = replace(options, reader_kwargs={"image_alignment": [[1, 2], [3, 4]]})
    with pytest.raises(InputError, match="3 x 3 affine"):
        READER.open(own, bad)


def test_an_image_of_the_folder_in_the_sheet_is_written_once(bundle: Path) -> None:
    raw = READER.open(bundle, ReadOptions(image=bundle / "sample_he_image.ome.tif"))
    assert list(raw.images) == ["morphology_focus", "image"]
    lies_on_cells(raw.images["image"], XY, dark=True)


@pytest.mark.parametrize(
    ("words", "channels"),
    [(("dapi", "18s"), ("dapi", "18s")), (("stain", "stain"), ("stain 0", "stain 1"))],
)
def test_channels_are_named_by_their_files(
    own: Path, words: tuple[str, ...], channels: tuple[str, ...]
) -> None:
    folder = own / "morphology_focus"
    shutil.rmtree(folder)
    folder.mkdir()
    for k, word in enumerate(words):
        plane = np.full((400, 400), k + 1, np.uint16)
        tifffile.imwrite(folder / f"ch{k:04d}_{word}.ome.tif", plane, metadata=None)
    image: Any = opened(own).images["morphology_focus"]
    with image.open() as pixels:
        assert tuple(pixels.channels) == channels
        assert pixels.rows(0, 1)[:, 0, 0].tolist() == [1, 2]


def test_pixel_size_from_the_run_the_image_or_the_instrument(own: Path) -> None:
    def said(raw: Any) -> Any:
        return raw.provenance["vendor"]["pixel_size_from"]

    assert said(opened(own)) == "pixel_size of experiment.xenium"
    (own / "experiment.xenium").unlink()
    raw = opened(own)
    assert "PhysicalSizeX" in said(raw)
    np.testing.assert_allclose(affine_of(raw, "morphology_focus")[0, 0], PIXEL)
    labels: Any = raw.labels["cell_labels"]
    np.testing.assert_allclose(labels.affine, [[PIXEL, 0, 0], [0, PIXEL, 0]], rtol=1e-6)
    raw = opened(own, pixel_size=0.5)
    assert said(raw) == "reader_kwargs pixel_size"
    assert affine_of(raw, "morphology_focus")[0, 0] == 0.5
    shutil.rmtree(own / "morphology_focus")
    assert "0.2125 um, as in all Xenium releases" in said(opened(own))


def test_a_flipped_axis_moves_images_and_masks(bundle: Path) -> None:
    raw = READER.open(bundle, ReadOptions(y_axis="up"))
    flipped = XY * [1, -1]
    lies_on_cells(raw.images["morphology_focus"], flipped)
    labels = under(raw.labels["cell_labels"], flipped)
    assert (labels == np.arange(1, len(XY) + 1)).mean() > 0.95


@pytest.mark.parametrize("halvings", [0, 1])
def test_a_cut_image_is_placed_by_its_nuclei(own: Path, halvings: int) -> None:
    folder = own / "morphology_focus"
    with tifffile.TiffFile(folder / "morphology_focus_0000.ome.tif", is_ome=False) as tiff:
        plane = tiff.pages[0].asarray()[40:, 60:]
    # The cells lie far from the origin, as in a region that was cut out of a larger one.
    moved = 2000.0
    _shift_cells(own, moved)
    shutil.rmtree(folder)
    folder.mkdir()
    step = 2**halvings
    tifffile.imwrite(folder / "morphology_focus_0000.ome.tif", plane[::step, ::step])
    # The matrix of the H&E image leads to the whole image, as the instrument's software wrote it.
    matrix = np.loadtxt(own / "sample_he_imagealignment.csv", delimiter=",")
    matrix[:2, 2] += moved / PIXEL
    np.savetxt(own / "sample_he_imagealignment.csv", matrix, delimiter=",")
    raw = opened(own)
    lies_on_cells(raw.images["morphology_focus"], XY + moved)
    lies_on_cells(raw.images["he_image"], XY + moved, dark=True)
    assert "placed by its nuclei" in notes_of(raw)
    affine = affine_of(raw, "morphology_focus")
    np.testing.assert_allclose(affine[:, 2], [moved + 60 * PIXEL, moved + 40 * PIXEL], atol=1.5)
    given = opened(own, image_affine=[*affine.tolist(), [0, 0, 1]])
    np.testing.assert_allclose(affine_of(given, "morphology_focus"), affine)


def test_masks_lie_on_their_cells_where_the_image_was_cut(own: Path) -> None:
    folder = own / "morphology_focus"
    with tifffile.TiffFile(folder / "morphology_focus_0000.ome.tif", is_ome=False) as tiff:
        plane = tiff.pages[0].asarray()[40:, 60:]
    shutil.rmtree(folder)
    folder.mkdir()
    tifffile.imwrite(folder / "morphology_focus_0000.ome.tif", plane)
    raw = opened(own, image_affine=[[PIXEL, 0, 60 * PIXEL], [0, PIXEL, 40 * PIXEL]])
    lies_on_cells(raw.images["morphology_focus"], XY)
    assert (under(raw.labels["cell_labels"], XY) == np.arange(1, len(XY) + 1)).mean() > 0.95


def test_what_is_said_of_images_is_refused_once(own: Path) -> None:
    seen = READER.inspect(own, ReadOptions(reader_kwargs={"pixel_size": -1}))
    assert len(seen.faults) == 1
    assert "pixel_size" in str(seen.faults[0])


def test_a_cut_image_without_nuclei_is_left_out(own: Path) -> None:
    _shift_cells(own, 2000.0)
    folder = own / "morphology_focus"
    noise = np.random.default_rng(0).integers(0, 500, (200, 200), np.uint16)
    shutil.rmtree(folder)
    folder.mkdir()
    tifffile.imwrite(folder / "morphology_focus_0000.ome.tif", noise)
    tifffile.imwrite(own / "sample_if_image.ome.tif", noise)  # nor one that lies where it lies
    raw = opened(own)
    assert list(raw.images) == ["he_image"]
    assert "give reader_kwargs `image_affine`" in notes_of(raw)


def _shift_cells(folder: Path, shift: float) -> None:
    import pandas as pd

    table = pd.read_parquet(folder / "cells.parquet")
    table[["x_centroid", "y_centroid"]] += shift
    table.to_parquet(folder / "cells.parquet")
    (folder / "cells.zarr.zip").unlink()


def test_channels_of_different_sizes_are_refused(own: Path) -> None:
    file = own / "morphology_focus" / "morphology_focus_0002.ome.tif"
    tifffile.imwrite(file, np.zeros((40, 40), np.uint16))
    with pytest.raises(InputError, match=r"morphology_focus_0002\.ome\.tif.*40 x 40"):
        opened(own)


def test_a_stack_alone_is_told(own: Path) -> None:
    shutil.rmtree(own / "morphology_focus")
    (own / "sample_he_image.ome.tif").unlink()
    tifffile.imwrite(own / "morphology.ome.tif", np.zeros((3, 40, 40), np.uint16))
    raw = opened(own)
    assert not raw.images
    assert "morphology.ome.tif left out: a stack of planes" in notes_of(raw)
