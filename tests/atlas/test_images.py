"""Image pyramids: every pixel, any format, SpatialData's own reading, and what is refused."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from tisseract.atlas.errors import BudgetExceeded, InputError, InvalidArgument
from tisseract.atlas.image_sources import ArrayPixels, file_image, open_pixels
from tisseract.atlas.images import plan_image, write_image

LIMIT = 2**28


def container(path: Path) -> Path:
    root = zarr.open_group(path, mode="w", zarr_format=3)
    root.attrs["spatialdata_attrs"] = {"version": "0.2", "spatialdata_software_version": "0.8.0"}
    return path


def picture(shape: Any, dtype: Any = np.uint8, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return (rng.random(shape) * (255 if dtype == np.uint8 else 60_000)).astype(dtype)


def written(path: Path, name: str = "he") -> Any:
    group: Any = zarr.open_group(path, mode="r")[f"images/{name}"]
    return [np.asarray(group[f"s{i}"]) for i in range(len(list(group.array_keys())))]


@pytest.mark.parametrize(
    ("suffix", "shape", "dtype"),
    [
        (".png", (700, 1100, 3), np.uint8),
        (".png", (600, 640), np.uint16),
        (".png", (640, 700, 4), np.uint8),
        (".tif", (700, 1100, 3), np.uint8),
        (".tif", (2, 600, 640), np.uint16),
        (".tif", (600, 640), np.float32),
    ],
)
def test_every_pixel_of_every_format(tmp_path: Path, suffix: str, shape: Any, dtype: Any) -> None:
    data = picture(shape, dtype)
    path = tmp_path / f"he{suffix}"
    if suffix == ".png":
        Image.fromarray(data).save(path)
    else:
        photometric = "rgb" if shape[-1] == 3 else "minisblack"
        meta = {"axes": "CYX"} if shape[0] == 2 else {}
        tifffile.imwrite(
            path, data, tile=(128, 128), photometric=photometric, compression="zlib", metadata=meta
        )
    planes = data[None] if data.ndim == 2 else data if shape[0] == 2 else data.transpose(2, 0, 1)
    section = container(tmp_path / "s.zarr")
    file_image(path).write(section, "he", coordinate_system="microns", memory_limit=LIMIT)
    levels = written(section)
    np.testing.assert_array_equal(levels[0], planes)
    even = planes[:, : shape[-3 if suffix == ".png" and len(shape) == 3 else -2] // 2 * 2]
    blocks = even[:, :, : even.shape[2] // 2 * 2].astype(np.float64)
    mean = (
        blocks[:, ::2, ::2] + blocks[:, 1::2, ::2] + blocks[:, ::2, 1::2] + blocks[:, 1::2, 1::2]
    ) / 4
    assert len(levels) >= 2
    np.testing.assert_allclose(levels[1], mean, atol=0.51)


def test_thin_bands_make_the_same_pyramid(tmp_path: Path) -> None:
    pixels = ArrayPixels(picture((3, 3000, 2600)), "cyx")
    plans = []
    for i, limit in enumerate((LIMIT, 2**26)):
        section = container(tmp_path / f"{i}.zarr")
        plans.append(write_image(section, "he", pixels, memory_limit=limit))
    assert plans[0].shard != plans[1].shard
    for one, two in zip(written(tmp_path / "0.zarr"), written(tmp_path / "1.zarr"), strict=True):
        np.testing.assert_array_equal(one, two)


def test_spatialdata_reads_it_without_a_warning(tmp_path: Path) -> None:
    import spatialdata
    from spatialdata.transformations import get_transformation

    section = container(tmp_path / "s.zarr")
    pixels = ArrayPixels(picture((2, 900, 1300), np.uint16), "cyx", ("DAPI", "PolyT"))
    affine = ((0.5, 0.0, 3.0), (0.0, -0.5, 4.0))
    write_image(section, "stains", pixels, affine=affine, memory_limit=LIMIT)
    plain = ((0.25, 0.0, 0.0), (0.0, 0.25, 0.0))
    write_image(section, "he", pixels, affine=plain, memory_limit=LIMIT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(str(section))
        warnings.simplefilter("error")
        sdata = spatialdata.read_zarr(section)
    stains = sdata.images["stains"]
    assert stains["scale0"].image.coords["c"].to_numpy().tolist() == ["DAPI", "PolyT"]
    found = get_transformation(stains, to_coordinate_system="microns")
    matrix = found.to_affine_matrix(input_axes=("x", "y"), output_axes=("x", "y"))
    np.testing.assert_allclose(matrix[:2], affine)
    half = get_transformation(stains["scale1"].image, to_coordinate_system="microns")
    matrix = half.to_affine_matrix(input_axes=("x", "y"), output_axes=("x", "y"))
    np.testing.assert_allclose(matrix[:2, :2], [[1, 0], [0, -1]])


def test_odd_sides_and_single_lines(tmp_path: Path) -> None:
    for i, shape in enumerate([(1, 1, 1), (1, 1, 2000), (3, 2001, 1), (1, 513, 1025)]):
        section = container(tmp_path / f"{i}.zarr")
        data = picture(shape)
        write_image(section, "he", ArrayPixels(data, "cyx"), memory_limit=LIMIT)
        np.testing.assert_array_equal(written(section)[0], data)


@pytest.mark.parametrize("cut", [0, 60, 5000])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_broken_files_are_one_clear_error(tmp_path: Path, suffix: str, cut: int) -> None:
    path = tmp_path / f"he{suffix}"
    Image.fromarray(picture((300, 400, 3))).save(path)
    path.write_bytes(path.read_bytes()[:cut])
    section = container(tmp_path / "s.zarr")
    with pytest.raises(InputError, match="he") as caught:
        file_image(path).write(section, "he", coordinate_system="microns", memory_limit=LIMIT)
    assert "leave `image` empty" in str(caught.value)


def test_missing_file_and_stack(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="check the path"), open_pixels(tmp_path / "no.png"):
        pass
    tifffile.imwrite(tmp_path / "z.tif", picture((4, 5, 64, 64)), metadata={"axes": "ZCYX"})
    with pytest.raises(InputError, match="export one plane"), open_pixels(tmp_path / "z.tif"):
        pass


def test_what_does_not_fit_is_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("L", (8_000, 6_000)).save(path)  # 48 MB from 48 kB
    section = container(tmp_path / "s.zarr")
    with pytest.raises(BudgetExceeded, match="tiled TIFF"):
        file_image(path).write(section, "he", coordinate_system="microns", memory_limit=2**25)
    assert Image.MAX_IMAGE_PIXELS is not None


@pytest.mark.parametrize("name", ["a b", "", ".he", "../he", "he/x"])
def test_names_that_spatialdata_refuses(tmp_path: Path, name: str) -> None:
    pixels = ArrayPixels(picture((1, 8, 8)), "cyx")
    with pytest.raises(InvalidArgument, match="image name"):
        write_image(container(tmp_path / "s.zarr"), name, pixels, memory_limit=LIMIT)


def test_plan_refuses_what_is_no_image() -> None:
    with pytest.raises(InvalidArgument, match="int64"):
        plan_image((1, 8, 8), np.dtype("int64"), 0, LIMIT)


@pytest.mark.memory
@pytest.mark.slow
def test_peak_memory_stays_below_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "big.tif"
    data = np.zeros((12_000, 9_000, 3), np.uint8)
    data[::7] = 200
    tifffile.imwrite(path, data, tile=(512, 512), photometric="rgb", compression="zlib")
    del data
    container(tmp_path / "s.zarr")
    code = f"""
import resource
from pathlib import Path
import numpy as np, zarr, tifffile, PIL.Image
from tisseract.atlas.image_sources import open_pixels
from tisseract.atlas.images import write_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open_pixels(Path({str(path)!r})) as pixels:
    plan = write_image(Path({str(tmp_path / "s.zarr")!r}), "he", pixels, memory_limit=2**28)
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(peak, plan.peak_bytes)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peak, planned = map(int, done.stdout.split())
    assert planned <= 2**28
    assert peak <= planned


@pytest.mark.real
@pytest.mark.slow
def test_real_histology(real_data: Path, tmp_path: Path) -> None:
    section = container(tmp_path / "s.zarr")
    path = real_data / "st_mob" / "MOB1.jpg"
    file_image(path).write(section, "he", coordinate_system="microns", memory_limit=LIMIT)
    with Image.open(path) as image:
        np.testing.assert_array_equal(written(section)[0], np.asarray(image).transpose(2, 0, 1))


def test_black_chunks_are_written(tmp_path: Path) -> None:
    data = np.zeros((3, 1200, 2600), np.uint8)
    data[:, 1100, 2500] = 9
    section = container(tmp_path / "s.zarr")
    write_image(section, "he", ArrayPixels(data, "cyx"), memory_limit=LIMIT)
    group: Any = zarr.open_group(section, mode="r")["images/he"]
    for name, wanted in (("s0", data), ("s1", None)):
        strict = group[name].with_config({"read_missing_chunks": False})
        read = np.asarray(strict[:])
        assert wanted is None or np.array_equal(read, wanted)


def test_opening_images_leaves_the_limit_of_pillow_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture((8, 8))).save(path)
    limit = Image.MAX_IMAGE_PIXELS
    entered, opened = threading.Barrier(2, timeout=0.3), Image.open

    def slow(*args: Any, **more: Any) -> Any:
        # Two inside at once would each keep what the other had set.
        with contextlib.suppress(threading.BrokenBarrierError):
            entered.wait()
            overlaps.append(1)
        return opened(*args, **more)

    def once() -> None:
        with open_pixels(path):
            pass

    overlaps: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "open", slow)
        threads = [threading.Thread(target=once) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not overlaps
    assert limit == Image.MAX_IMAGE_PIXELS
