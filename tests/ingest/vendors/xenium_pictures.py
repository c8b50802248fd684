"""Images and masks of simulated Xenium outputs, tile by tile: a band of rows is held, no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

_TILE = 1024
_LEAST = 256


def painted(
    xy: NDArray[np.float64],
    radius: float,
    shape: tuple[int, int],
    rows: tuple[int, int],
    values: NDArray[Any],
    background: int = 0,
) -> NDArray[Any]:
    """Rows `rows` of an image with a disk of each value; `xy` in pixels, sorted by y."""
    start, stop = rows
    out = np.full((stop - start, shape[1]), background, values.dtype)
    reach = max(1, int(np.ceil(radius)))
    low = int(np.searchsorted(xy[:, 1], start - reach - 1))
    high = int(np.searchsorted(xy[:, 1], stop + reach + 1))
    steps = np.arange(-reach, reach + 1)
    dy, dx = (a.ravel() for a in np.meshgrid(steps, steps, indexing="ij"))
    near = dy**2 + dx**2 <= max(radius, 0.8) ** 2
    dy, dx = dy[near], dx[near]
    step = max(1, 4_000_000 // dy.size)
    for first in range(low, high, step):
        part = slice(first, min(first + step, high))
        at = np.floor(xy[part]).astype(np.int64)
        y = (at[:, 1, None] + dy - start).ravel()
        x = (at[:, 0, None] + dx).ravel()
        fits = (y >= 0) & (y < stop - start) & (x >= 0) & (x < shape[1])
        out[y[fits], x[fits]] = np.repeat(values[part], dy.size)[fits]
    return out


def write_stain(
    path: Path,
    xy_um: NDArray[np.float64],
    radius_um: float,
    shape: tuple[int, int],
    pixel_um: float,
    *,
    compression: str | None,
    bright: int,
    names: tuple[str, ...] = (),
    channel: int = 0,
    files: tuple[str, ...] = (),
) -> None:
    """Write one plane as a tiled pyramid, with the OME-XML that the instrument writes."""
    order = np.argsort(xy_um[:, 1], kind="stable")
    sizes = [shape]
    while max(sizes[-1]) // 2 >= _LEAST:
        sizes.append((max(1, sizes[-1][0] // 2), max(1, sizes[-1][1] // 2)))
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for level, size in enumerate(sizes):
            scale = pixel_um * 2**level
            tiles = _tiles(xy_um[order] / scale, radius_um / scale, size, bright)
            tiff.write(
                tiles,
                shape=size,
                dtype=np.uint16,
                tile=(_TILE, _TILE),
                compression=compression,
                compressionargs={"reversible": True} if compression == "jpeg2000" else None,
                photometric="minisblack",
                description=ome_xml(path.name, shape, pixel_um, names, channel, files)
                if level == 0
                else None,
                subifds=len(sizes) - 1 if level == 0 else 0,
                subfiletype=0 if level == 0 else 1,
                metadata=None,
            )


def _tiles(
    xy: NDArray[np.float64], radius: float, size: tuple[int, int], bright: int
) -> Iterator[NDArray[np.uint16]]:
    values = np.full(len(xy), bright, np.uint16)
    for start in range(0, size[0], _TILE):
        stop = min(start + _TILE, size[0])
        band = painted(xy, radius, size, (start, stop), values, 100)
        for left in range(0, size[1], _TILE):
            tile = np.zeros((_TILE, _TILE), np.uint16)
            part = band[:, left : left + _TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def ome_xml(
    name: str,
    shape: tuple[int, int],
    pixel_um: float,
    names: tuple[str, ...],
    channel: int,
    files: tuple[str, ...],
) -> str:
    """OME-XML of one file; several files describe all of their channels in each."""
    all_names = names or ("DAPI",)
    all_files = files or (name,)
    channels = "".join(
        f'<Channel ID="Channel:{k}" Name="{one}" SamplesPerPixel="1"/>'
        for k, one in enumerate(all_names)
    )
    data = "".join(
        f'<TiffData FirstC="{k}" FirstT="0" FirstZ="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{one}">urn:uuid:00000000-0000-4000-8000-{k:012d}</UUID></TiffData>'
        for k, one in enumerate(all_files)
    )
    return (
        (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:00000000-0000-4000-8000-{channel:012d}">'
            f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" '
            f'SizeX="{shape[1]}" SizeY="{shape[0]}" SizeZ="1" SizeC="{len(all_names)}" SizeT="1" '
            f'PhysicalSizeX="{pixel_um}" PhysicalSizeXUnit="\N{MICRO SIGN}m" '
            f'PhysicalSizeY="{pixel_um}" PhysicalSizeYUnit="\N{MICRO SIGN}m">'
            f"{channels}{data}</Pixels></Image></OME>"
        )
        .encode("ascii", "xmlcharrefreplace")
        .decode()
    )


def write_he(
    folder: Path,
    xy_um: NDArray[np.float64],
    radius_um: float,
    shape: tuple[int, int],
    pixel_um: float,
) -> None:
    """Write an H&E image turned by 90 degrees, half as fine, and the matrix that aligns it."""
    height, width = shape[1] // 2, shape[0] // 2
    # Pixels (x, y) of the H&E image to pixels of the morphology image.
    matrix = np.array([[0.0, 2.0, 0.0], [-2.0, 0.0, float(shape[0])], [0.0, 0.0, 1.0]])
    there = np.linalg.inv(matrix)
    own = xy_um / pixel_um @ there[:2, :2].T + there[:2, 2]
    order = np.argsort(own[:, 1], kind="stable")
    dark = painted(
        own[order], radius_um / pixel_um / 2, (height, width), (0, height),
        np.full(len(own), 60, np.uint8), 230,
    )  # fmt: skip
    rgb = np.stack([dark, dark // 2, dark], axis=2)
    tifffile.imwrite(
        folder / "sample_he_image.ome.tif", rgb, tile=(256, 256), photometric="rgb",
        metadata={"axes": "YXS"}, compression="zlib", ome=True,
    )  # fmt: skip
    np.savetxt(folder / "sample_he_imagealignment.csv", matrix, delimiter=",", fmt="%.6f")


def write_masks(
    group: Any,
    xy_um: NDArray[np.float64],
    nuclei: tuple[NDArray[np.float64], float],
    radius_um: float,
    shape: tuple[int, int],
    pixel_um: float,
) -> None:
    """Write `masks` of nuclei and cells into an open group: label k + 1 for the polygon k."""
    import numcodecs

    masks = group.create_group("masks")
    transform = np.diag([1 / pixel_um, 1 / pixel_um, 1.0, 1.0]).astype(np.float32)
    masks.create_array("homogeneous_transform", data=transform, chunks=(4, 4))
    nucleus_xy, nucleus_radius = nuclei
    for kind, (xy, radius) in enumerate([(nucleus_xy, nucleus_radius), (xy_um, radius_um)]):
        array = masks.create_array(
            str(kind),
            shape=shape,
            chunks=(min(_TILE, shape[0]), min(_TILE, shape[1])),
            dtype="uint32",
            compressors=numcodecs.Blosc("lz4"),
        )
        order = np.argsort(xy[:, 1], kind="stable")
        labels = (order + 1).astype(np.uint32)
        pixels = xy[order] / pixel_um
        for start in range(0, shape[0], _TILE):
            stop = min(start + _TILE, shape[0])
            array[start:stop] = painted(pixels, radius / pixel_um, shape, (start, stop), labels)
