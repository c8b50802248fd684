"""Images as instruments write them: OME sets, pyramids, stacks, codecs, strips, stacks of files."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
import warnings
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from tisseract.atlas.array_pixels import ArrayPixels
from tisseract.atlas.errors import InputError, InvalidArgument
from tisseract.atlas.image_sources import file_image, label_image, open_pixels, stack_images
from tisseract.atlas.images import is_planar

from .test_images import LIMIT, container, picture, written

OME = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{me}">'
    '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="{width}"'
    ' SizeY="{height}" SizeZ="1" SizeC="{n}" SizeT="1">{channels}{planes}</Pixels></Image></OME>'
)


def ome_set(folder: Path, data: Any) -> list[Path]:
    """Write one file for each channel, each with the description of all and a pyramid as SubIFD."""
    paths = [folder / f"focus_{k:04}.ome.tif" for k in range(len(data))]
    marks = [f"urn:uuid:{uuid.UUID(int=k + 1)}" for k in range(len(data))]
    channels = "".join(f'<Channel ID="Channel:0:{k}" Name="Stain {k}"/>' for k in range(len(data)))
    planes = "".join(
        f'<TiffData FirstC="{k}" FirstT="0" FirstZ="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{path.name}">{mark}</UUID></TiffData>'
        for k, (path, mark) in enumerate(zip(paths, marks, strict=True))
    )
    height, width = data.shape[1:]
    for path, mark, plane in zip(paths, marks, data, strict=True):
        text = OME.format(
            me=mark, width=width, height=height, n=len(data), channels=channels, planes=planes
        )
        with tifffile.TiffWriter(path) as writer:
            options: Any = {"tile": (128, 128), "metadata": None, "compression": "zlib"}
            writer.write(plane, subifds=1, description=text.encode(), **options)
            writer.write(plane[::2, ::2], subfiletype=1, **options)
    return paths


def pixels_of(path: Path, plane: int | None = None, **more: Any) -> Any:
    with open_pixels(path, plane, **more) as pixels:
        height = pixels.shape[1]
        thirds = [0, height // 3, height // 2, height]
        return np.concatenate([pixels.rows(a, b) for a, b in pairwise(thirds)], axis=1)


class TestOmeSets:
    def test_files_stacked_are_channels_by_name(self, tmp_path: Path) -> None:
        data = picture((5, 700, 600), np.uint16)
        paths = ome_set(tmp_path, data)
        image = stack_images(paths, ["DAPI", "PolyT", "18S", "a/b", "e"], ((2, 0, 1), (0, 2, 3)))
        section = container(tmp_path / "s.zarr")
        image.write(section, "focus", coordinate_system="microns", memory_limit=LIMIT)
        levels = written(section, "focus")
        np.testing.assert_array_equal(levels[0], data)
        assert levels[1].shape == (5, 350, 300)
        import spatialdata

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message=".*future.infer_string.*")
            read = spatialdata.read_zarr(section).images["focus"]
        assert read["scale0"].c.values.tolist() == ["DAPI", "PolyT", "18S", "a/b", "e"]
        np.testing.assert_array_equal(read["scale0"].image.values, data)

    def test_a_set_is_read_whole_and_a_lone_file_by_itself(self, tmp_path: Path) -> None:
        data = picture((3, 256, 320), np.uint16)
        paths = ome_set(tmp_path, data)
        np.testing.assert_array_equal(pixels_of(paths[1]), data)
        with open_pixels(paths[0]) as pixels:
            assert list(pixels.channels) == ["Stain 0", "Stain 1", "Stain 2"]
        np.testing.assert_array_equal(pixels_of(paths[1], own=True), data[1:2])
        paths[0].unlink()
        # Not three planes of which one is black.
        np.testing.assert_array_equal(pixels_of(paths[1]), data[1:2])
        np.testing.assert_array_equal(pixels_of(paths[2], own=True), data[2:])

    def test_files_of_other_sizes_or_planes_are_refused(self, tmp_path: Path) -> None:
        for name, shape in {"a": (64, 70), "b": (64, 71), "c": (2, 64, 70)}.items():
            metadata = {"axes": "CYX"} if len(shape) == 3 else {}
            tifffile.imwrite(tmp_path / f"{name}.tif", picture(shape), metadata=metadata)
        a, b, c = (tmp_path / f"{name}.tif" for name in "abc")
        other, more = stack_images([a, b], ["x", "y"]), stack_images([a, c], ["x", "y"])
        with pytest.raises(InputError, match=r"b.tif.*70 x 64 pixels as in a.tif, but got 71 x 64"):
            other.nbytes  # noqa: B018
        with pytest.raises(InputError, match=r"c\.tif.*one plane of pixels"):
            more.nbytes  # noqa: B018
        with pytest.raises(InvalidArgument, match="a name of its own"):
            stack_images([a, b], ["x", "x"])
        with pytest.raises(InvalidArgument, match="got 0 files"):
            stack_images([], [])

    def test_files_of_several_number_types_share_one(self, tmp_path: Path) -> None:
        first, second = picture((80, 90)), picture((80, 90), np.uint16)
        for name, data in {"a": first, "b": second}.items():
            tifffile.imwrite(tmp_path / f"{name}.tif", data)
        image = stack_images([tmp_path / "a.tif", tmp_path / "b.tif"], ["a", "b"])
        with image.open() as pixels:
            assert pixels.dtype == np.uint16
            rows = pixels.rows(10, 20)
        np.testing.assert_array_equal(rows, np.stack([first[10:20], second[10:20]]))


@pytest.mark.parametrize(
    ("compression", "dtype", "tile", "exact"),
    [
        ("jpeg2000", np.uint16, (128, 128), True),
        ("lzw", np.uint16, (128, 128), True),
        ("zlib", np.uint32, (128, 128), True),
        ("zstd", np.int16, (128, 128), True),
        ("jpeg", np.uint8, (128, 128), False),
        (None, np.float32, (128, 128), True),
        ("lzw", np.uint8, None, True),
    ],
)
@pytest.mark.parametrize("big", [False, True])
def test_codecs_of_tiles(
    tmp_path: Path, compression: str | None, dtype: Any, tile: Any, exact: bool, big: bool
) -> None:
    gradient = np.add.outer(np.arange(300), np.arange(280)) % 251
    data = gradient.astype(dtype)
    if dtype == np.uint32:
        data += np.uint32(4_000_000_000)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, data, tile=tile, compression=compression, bigtiff=big)
    found = pixels_of(path)[0]
    assert found.dtype == dtype
    if exact:
        np.testing.assert_array_equal(found, data)
    else:
        assert np.abs(found.astype(float) - data).mean() < 20
    section = container(tmp_path / "s.zarr")
    file_image(path).write(section, "he", coordinate_system="microns", memory_limit=LIMIT)
    np.testing.assert_array_equal(written(section)[0][0], found)


def test_tiles_far_larger_than_the_image_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((300, 300), np.uint8), tile=(16384, 16))
    with (
        pytest.raises(InputError, match=r"a\.tif: expected tiles no larger .* edge of 16384"),
        open_pixels(path),
    ):
        pass


def _set_tag(path: Path, name: str, value: int) -> None:
    with tifffile.TiffFile(path, mode="r+") as file:
        page: Any = file.pages[0]
        page.tags[name].overwrite(value)


def test_a_file_without_rows_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, np.ones((30, 30), np.uint16))
    _set_tag(path, "ImageLength", 0)
    with pytest.raises(InputError, match=r"mask\.tif: "), label_image(path).open():
        pass


def test_a_width_that_no_tile_fills_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.tif"
    tifffile.imwrite(path, np.ones((64, 64), np.uint16), tile=(32, 32))
    _set_tag(path, "ImageWidth", 2**15)
    with pytest.raises(InputError, match=r"wide\.tif: expected 2,048 tiles"), open_pixels(path):
        pass


def test_means_of_large_numbers_do_not_wrap(tmp_path: Path) -> None:
    for dtype, value in {"uint32": 2**32 - 1, "int32": -(2**31), "int16": -7}.items():
        data = np.full((1, 600, 600), value, dtype)
        section = container(tmp_path / f"{dtype}.zarr")
        pixels = ArrayPixels(data, "cyx")
        from tisseract.atlas.images import write_image

        write_image(section, "he", pixels, memory_limit=LIMIT)
        assert (written(section)[1] == value).all()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("rows_per_strip", [700, 150, 1])
@pytest.mark.parametrize(
    ("compression", "predictor"), [(None, False), ("zlib", False), ("zlib", True), ("lzw", True)]
)
@pytest.mark.parametrize("shape", [(700, 300), (700, 300, 3), (3, 700, 300), (2, 700, 300)])
def test_large_strips_are_read_by_rows(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shape: Any,
    compression: str | None,
    predictor: bool,
    rows_per_strip: int,
    order: Any,
) -> None:
    """Rows, backwards too, of every layout that writers use; the limit is lowered for it."""
    from tisseract.atlas import tiff_pixels

    monkeypatch.setattr(tiff_pixels, "_LARGE_STRIP", 100)
    monkeypatch.setattr(tiff_pixels, "_READ", 1000)
    data = picture(shape, np.uint16)
    separate = shape[0] == 3
    options: Any = {"photometric": "rgb" if 3 in shape else "minisblack"}
    if separate:
        options["planarconfig"] = "separate"
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        data,
        byteorder=order,
        rowsperstrip=rows_per_strip,
        compression=compression,
        predictor=predictor,
        metadata={"axes": "CYX"} if shape[0] == 2 else None,
        **options,
    )
    wanted = data[None] if data.ndim == 2 else data if shape[0] < 4 else data.transpose(2, 0, 1)
    np.testing.assert_array_equal(pixels_of(path), wanted)
    with open_pixels(path) as pixels:
        assert type(pixels).__name__ == "_StripPixels"
        if is_planar(pixels):
            np.testing.assert_array_equal(pixels.channel_rows(1, 40, 400), wanted[1, 40:400])
        np.testing.assert_array_equal(pixels.rows(600, 700), wanted[:, 600:])
        np.testing.assert_array_equal(pixels.rows(3, 160), wanted[:, 3:160])
        one_strip = 2 * rows_per_strip * 300 * 2
        assert compression == "lzw" or pixels.held_bytes <= 8 * 1000 * 3
        assert compression != "lzw" or pixels.held_bytes >= one_strip


def test_differences_of_floats_are_those_of_their_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libtiff, and with it GDAL, writes floats with the horizontal predictor."""
    from tisseract.atlas import tiff_pixels

    monkeypatch.setattr(tiff_pixels, "_LARGE_STRIP", 100)
    data = np.random.default_rng(0).random((200, 300), np.float32)
    path = tmp_path / "a.tif"
    bits = data.view(np.int32)
    tifffile.imwrite(path, bits, compression="zlib", predictor=True, rowsperstrip=200)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["SampleFormat"].overwrite(3)
    np.testing.assert_array_equal(pixels_of(path)[0], data)


def test_a_strip_that_ends_early_is_no_black_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tisseract.atlas import tiff_pixels

    monkeypatch.setattr(tiff_pixels, "_LARGE_STRIP", 100)
    for compression in (None, "zlib"):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, picture((200, 300)), rowsperstrip=200, compression=compression)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(InputError, match=r"a\.tif: expected an image that can be decoded"):
            pixels_of(path)


def test_a_plane_of_a_stack_is_chosen(tmp_path: Path) -> None:
    data = picture((4, 2, 64, 80), np.uint16)
    path = tmp_path / "z.ome.tif"
    tifffile.imwrite(path, data, metadata={"axes": "ZCYX"}, tile=(32, 32))
    np.testing.assert_array_equal(pixels_of(path, 2), data[2])
    with pytest.raises(InputError, match=r"choose one of 4"):
        pixels_of(path)
    with pytest.raises(InputError, match=r"a plane in 0\.\.3, but got 4"):
        pixels_of(path, 4)
    with file_image(path, plane=3).open() as pixels:
        np.testing.assert_array_equal(pixels.rows(0, 64), data[3])
    tifffile.imwrite(tmp_path / "one.tif", data[0, 0])
    np.testing.assert_array_equal(pixels_of(tmp_path / "one.tif", 2)[0], data[0, 0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32])
def test_masks_keep_their_numbers(tmp_path: Path, dtype: Any) -> None:
    import spatialdata

    rng = np.random.default_rng(0)
    data = rng.integers(0, min(70_000, np.iinfo(dtype).max), (600, 700)).astype(dtype)
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, data, tile=(128, 128), compression="zlib")
    section = container(tmp_path / "s.zarr")
    options: Any = {"coordinate_system": "microns", "memory_limit": LIMIT}
    label_image(path).write(section, "cells", **options)
    label_image(ArrayPixels(data, "yx")).write(section, "given", **options)
    label_image(lambda: open_pixels(path)).write(section, "opened", **options)
    group: Any = zarr.open_group(section, mode="r")["labels"]
    for name in ("cells", "given", "opened"):
        np.testing.assert_array_equal(group[f"{name}/s0"], data)
        np.testing.assert_array_equal(group[f"{name}/s1"], data[::2, ::2])
    assert set(spatialdata.read_zarr(section).labels) == {"cells", "given", "opened"}


def test_what_is_no_mask_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture((60, 70), np.float32))
    with pytest.raises(InvalidArgument, match="one plane of whole numbers"):
        label_image(tmp_path / "a.tif").write(
            container(tmp_path / "s.zarr"), "a", coordinate_system="microns", memory_limit=LIMIT
        )


_CHILD = """
import json, resource, sys
from pathlib import Path
from tisseract.atlas.image_sources import file_image, stack_images
from tisseract.atlas.images import is_planar, plan_image
import tifffile, zarr, zarr.codecs, imagecodecs, numpy as np
folder, limit, names = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
paths = [folder / name for name in names]
def one(paths):
    return file_image(paths[0]) if len(paths) == 1 else stack_images(paths, names)
def write(paths, name):
    one(paths).write(folder / "s.zarr", name, coordinate_system="m", memory_limit=limit)
write([folder / "small.tif"], "warm")
with one(paths).open() as pixels:
    planned = plan_image(
        pixels.shape, pixels.dtype, pixels.held_bytes, limit, planar=is_planar(pixels)
    ).peak_bytes
def status(key):
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1]) * 1024
open("/proc/self/clear_refs", "w").write("5")
base = status("VmRSS")
write(paths, "image")
print(json.dumps({"planned": planned, "grown": status("VmHWM") - base}))
"""


@pytest.mark.memory
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tiled", "strip", "files"])
def test_large_planes_stay_below_the_plan(tmp_path: Path, kind: str) -> None:
    """20,000 x 20,000 pixels are 800 MB."""
    edge = 20_000 if kind == "tiled" else 9_000
    row = (np.arange(edge) % 4099).astype(np.uint16)
    tile = np.add.outer(np.arange(512), np.arange(512)).astype(np.uint16)
    encoded = zlib.compress(tile.tobytes(), 1)
    count = -(-edge // 512)
    options: Any = {"compression": "zlib", "compressionargs": {"level": 1}}
    names = ["a.ome.tif", "b.ome.tif"][: 2 if kind == "files" else 1]
    for name in names:
        if kind == "strip":
            plane = np.broadcast_to(row, (edge, edge))
            tifffile.imwrite(tmp_path / name, plane, rowsperstrip=edge, **options)
            continue
        tifffile.imwrite(
            tmp_path / name,
            (encoded for _ in range(count * count)),
            shape=(edge, edge),
            dtype=np.uint16,
            tile=(512, 512),
            **options,
        )
    tifffile.imwrite(tmp_path / "small.tif", tile, **options)
    container(tmp_path / "s.zarr")
    limit = 400 * 2**20
    command = [sys.executable, "-c", _CHILD, str(tmp_path), str(limit), *names]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(answer.stdout.splitlines()[-1])
    assert found["grown"] <= found["planned"] <= limit, found
