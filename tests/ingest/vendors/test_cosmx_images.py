"""Images of CosMx FOVs: smaller copies, what is read to place them, files of strangers."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from tisseract.atlas.errors import InputError
from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.source import RawSection
from tisseract.ingest.vendors.cosmx_images import plane_names, read_planes

from .cosmx_bundle import write_cosmx
from .cosmx_truth import NEW, READER, TISSUE

FOV_PX = (400, 400)


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export whose composites have half the rows and columns; not to be changed."""
    path = tmp_path_factory.mktemp("halved") / "x"
    write_cosmx(path, replace(TISSUE, n_cells=250), version="atomx", fov_px=FOV_PX)
    for file in (path / "CellComposite").iterdir():
        with Image.open(file) as image:
            small = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        small.save(file)
    return path


def choose(*kinds: str) -> ReadOptions:
    return ReadOptions(reader_kwargs={"images": list(kinds)})


def under_cells(raw: RawSection, name: str) -> Any:
    """First plane of a mosaic at the cells, by its own transform."""
    image: Any = raw.images[name]
    affine = np.array(image.affine)
    xy = raw.positions * (raw.um_per_unit or 1.0)
    at = np.linalg.solve(affine[:, :2], (xy - affine[:, 2]).T).T.astype(int)
    with image.open() as pixels:
        plane = pixels.rows(0, pixels.shape[1])[0]
    good = ((at >= 0) & (at < plane.shape[::-1])).all(axis=1)
    assert good.all()
    return plane[at[:, 1], at[:, 0]]


@pytest.mark.parametrize("masks", [True, False])
def test_smaller_copies_lie_under_their_cells(halved: Path, tmp_path: Path, masks: bool) -> None:
    """Also when they alone are asked for: masks or other images tell the pixels of a FOV."""
    path = Path(shutil.copytree(halved, tmp_path / "x"))
    if not masks:
        shutil.rmtree(path / "CellLabels")
        shutil.rmtree(path / "CompartmentLabels")
    raw = READER.open(path, choose("CellComposite"))
    assert (under_cells(raw, "CellComposite") > 120).mean() > 0.95
    assert "smaller copies" not in str(raw.provenance["notes"])


def test_smaller_copies_alone_are_those_of_the_instruments_fovs(
    halved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(halved, tmp_path / "x"))
    for kind in ("CellLabels", "CompartmentLabels", "Morphology2D"):
        shutil.rmtree(path / kind)
    monkeypatch.setattr("tisseract.ingest.vendors.cosmx_unit._USUAL_FOV_PX", FOV_PX[0])
    raw = READER.open(path, NEW)
    assert (under_cells(raw, "CellComposite") > 120).mean() > 0.95
    assert "images have 200 rows" in str(raw.provenance["notes"])
    for file in (path / "CellComposite").iterdir():  # the direction is found in them, too
        with Image.open(file) as image:
            turned = image.transpose(Image.Transpose.ROTATE_180)
        turned.save(file)
    raw = READER.open(path, NEW)
    assert "images are turned" in str(raw.provenance["notes"])


def test_files_name_what_places_the_images_chosen(halved: Path, tmp_path: Path) -> None:
    """What is copied from a bucket is placed as the whole export is."""
    options = choose("Morphology2D")
    read = READER.files(halved, options)
    assert len(read) == len(set(read))
    n_of = Counter(one.parent.name for one in read if one.suffix.casefold() != ".gz")
    n = len(list((halved / "CellLabels").iterdir()))
    # Masks tell directions; of other kinds one header tells the pixels.
    assert n_of == {"Morphology2D": n, "CellLabels": n, "CellComposite": 1, "CompartmentLabels": 1}
    for file in read:
        copy = tmp_path / "x" / file.relative_to(halved)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    whole, part = (READER.open(path, options) for path in (halved, tmp_path / "x"))
    for name, image in whole.images.items():
        other: Any = part.images[name]
        assert image.affine == other.affine  # type: ignore[attr-defined]
        assert image.open.reverse == other.open.reverse  # type: ignore[attr-defined]


def test_transcripts_that_are_not_wanted_are_not_read(halved: Path) -> None:
    options = ReadOptions(reader_kwargs={"transcripts": False, "images": False})
    assert not any("tx_file" in one.name for one in READER.files(halved, options))
    raw = READER.open(halved, options)
    assert not raw.points
    assert "tx_file" not in str(raw.provenance["notes"])


def test_numbers_of_fovs_beyond_any_slide_are_no_fovs(halved: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(halved, tmp_path / "x"))
    masks = sorted((path / "CellLabels").iterdir())
    shutil.copy(masks[0], path / "CellLabels" / f"CellLabels_F{'9' * 30}.tif")
    tiles = READER.open(path, NEW).labels["CellLabels"].open.tiles  # type: ignore[attr-defined]
    assert len(tiles) == len(masks)


def test_stains_nested_too_deeply_have_numbers(tmp_path: Path) -> None:
    file = tmp_path / "F001.tif"
    deep = "[" * 100_000
    tifffile.imwrite(file, np.zeros((3, 8, 8), "u2"), photometric="minisblack", description=deep)
    assert plane_names(file, 3) == ("0", "1", "2")
    with pytest.raises(RecursionError):
        json.loads(deep)


@pytest.mark.parametrize(
    ("tag", "value"), [("ImageLength", 2**27), ("ImageLength", 0), ("BitsPerSample", 7)]
)
def test_planes_unlike_the_first_are_refused_before_they_are_decoded(
    tmp_path: Path, tag: str, value: int
) -> None:
    file = tmp_path / "F001.tif"
    tifffile.imwrite(file, np.ones((3, 8, 8), "u2"), photometric="minisblack")
    with tifffile.TiffFile(file, mode="r+") as tiff:
        page: Any = tiff.pages[1]
        page.tags[tag].overwrite(value)
    with pytest.raises(InputError, match=r"F001\.tif.*another one than the first"):
        list(read_planes(file))


def test_an_image_too_large_for_a_fov_is_refused_before_it_is_decoded(
    halved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(halved, tmp_path / "x"))
    monkeypatch.setattr("tisseract.ingest.vendors.cosmx_images._MAX_PLANE", 2 * 400 * 400)
    for file in (path / "CellLabels").iterdir():
        tifffile.imwrite(file, np.zeros((500, 500), np.uint16))
    decoded: list[Path] = []
    monkeypatch.setattr("tisseract.ingest.vendors.cosmx_turn.read_planes", decoded.append)
    with pytest.raises(InputError, match=r"CellLabels_F.*expected a FOV, but got an image of 500"):
        READER.open(path, choose("Morphology2D"))
    assert not decoded
