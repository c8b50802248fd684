"""Images as OME-Zarr pyramids inside a SpatialData container, written band by band.

Level 0 is copied from the source in bands of rows, each further level is the 2 x 2 mean of the one
before, read back band by band: memory is one band, whatever the size of the image. How a file is
decoded is in `atlas.image_sources`; some formats must be decoded whole, and say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import numpy as np

from .errors import InputError, InvalidArgument
from .halves import halved
from .memory import refuse_above
from .raster_metadata import datasets_of, named_axis, placement

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

__all__ = [
    "IDENTITY",
    "Affine",
    "ImagePlan",
    "Pixels",
    "PlanarPixels",
    "bands",
    "check_name",
    "create_level",
    "is_planar",
    "least_bytes",
    "plan_image",
    "write_image",
]

Affine = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Rows of [a b c; d e f]: x' = a x + b y + c, y' = d x + e y + f, pixels to coordinates."""

IDENTITY: Affine = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))

_CHUNK = 512  # inner chunk edge: 768 KiB of RGB, what one viewport tile asks for
_SHARD = 4  # chunks along a shard's edge, when a band of that height fits into memory
_SMALLEST = 256  # no level whose longer side would be below this
_OVERHEAD = 16 * 2**20  # buffers that do not grow with the image
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Pixels(Protocol):
    """An opened image: rows on demand."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Whole numbers of up to 32 bits, or float32."""
        ...

    @property
    def channels(self) -> Sequence[str]:
        """Name of each channel."""
        ...

    @property
    def held_bytes(self) -> int:
        """Memory the decoder itself holds while open: a whole PNG, a row of TIFF tiles."""
        ...

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start:stop` as (channels, stop - start, width)."""
        ...


class PlanarPixels(Pixels, Protocol):
    """An opened image whose channels may be read one by one."""

    @property
    def separate(self) -> bool:
        """Whether they should be: stored one after another, and looked at one by one."""
        ...

    def channel_rows(self, channel: int, start: int, stop: int) -> NDArray[Any]:
        """Rows `start:stop` of one channel as (stop - start, width)."""
        ...


def is_planar(pixels: Pixels) -> TypeGuard[PlanarPixels]:
    """Whether channels are read and written one by one; memory is then that of one."""
    return bool(getattr(pixels, "separate", False)) and pixels.shape[0] > 1


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """Levels, chunks and peak memory of one image, decided before a byte is read."""

    shapes: tuple[tuple[int, int, int], ...]
    """(c, y, x) of each level, the full resolution first."""
    dtype: str
    """Number type of all levels."""
    chunk: tuple[int, int, int]
    """Inner chunk."""
    shard: tuple[int, int, int]
    """Shard; a band is one shard high."""
    peak_bytes: int
    """Memory the write holds at its peak, the decoder included."""


def plan_image(
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    held_bytes: int,
    memory_limit: int,
    *,
    planar: bool = False,
) -> ImagePlan:
    """Choose levels and bands so that the write fits into `memory_limit`.

    With `planar`, channels are written one by one.

    Raises
    ------
    InvalidArgument
        If the image is empty or of a number type that is no image.
    BudgetExceeded
        If not even the thinnest band fits.

    Examples
    --------
    >>> plan = plan_image((3, 3000, 2000), np.dtype("uint8"), 0, 2**30)
    >>> plan.shapes
    ((3, 3000, 2000), (3, 1500, 1000), (3, 750, 500), (3, 375, 250))
    """
    c, height, width = shape
    whole = dtype.kind in "iu" and dtype.itemsize <= 4
    if min(shape) < 1 or not (whole or dtype == np.float32):
        raise InvalidArgument(
            "expected an image of float32, or of whole numbers of up to 32 bits, with at least one "
            f"pixel, but got {dtype} of shape {shape}"
        )
    # Few channels travel together; many are stained markers, looked at one by one.
    depth = c if c <= 4 and not planar else 1
    read = (1, height, width) if planar else shape
    for chunks in (_SHARD, 1):
        peak = _peak_bytes(read, dtype, held_bytes, chunks)
        if peak <= memory_limit:
            break
    refuse_above(
        memory_limit,
        peak,
        f"writing an image of {width} x {height} pixels",
        "raise memory_limit, or convert the image to a tiled TIFF, which is read piece by piece",
    )
    shapes = [shape]
    while max(shapes[-1][1:]) // 2 >= _SMALLEST:
        _, h, w = shapes[-1]
        shapes.append((c, max(1, h // 2), max(1, w // 2)))
    edge = _CHUNK * chunks
    return ImagePlan(
        tuple(shapes), dtype.name, (depth, _CHUNK, _CHUNK), (depth, edge, edge), int(peak)
    )


def least_bytes(
    shape: tuple[int, int, int], dtype: np.dtype[Any], held_bytes: int, *, planar: bool = False
) -> int:
    """Least memory that writing an image takes: the smallest limit that `plan_image` accepts.

    Examples
    --------
    >>> need = least_bytes((3, 3000, 2000), np.dtype("uint8"), 0)
    >>> plan_image((3, 3000, 2000), np.dtype("uint8"), 0, need).peak_bytes == need
    True
    """
    return _peak_bytes((1, *shape[1:]) if planar else shape, dtype, held_bytes, 1)


def _peak_bytes(
    shape: tuple[int, int, int], dtype: np.dtype[Any], held_bytes: int, chunks: int
) -> int:
    c, height, width = shape
    # Measured: the band, its chunks raw and encoded, what zarr holds between the two, and the
    # next level with the wide integers of its mean.
    band = c * min(height, chunks * _CHUNK) * width * dtype.itemsize
    return held_bytes + 5 * band + _OVERHEAD


def write_image(
    section: Path,
    name: str,
    pixels: Pixels,
    *,
    affine: Affine = IDENTITY,
    coordinate_system: str = "microns",
    memory_limit: int,
) -> ImagePlan:
    """Write `images/<name>` of the SpatialData container at `section`.

    Parameters
    ----------
    section : Path
        Root folder of a Zarr v3 container; consolidated metadata is the caller's last step.
    name : str
        Element name: letters, digits, `_`, `.`, `-`.
    pixels : Pixels
        The opened image.
    affine : Affine
        Pixels (x, y, the first pixel covers 0 to 1) to coordinates of `coordinate_system`.
    memory_limit : int
        Bytes this write may hold.

    Returns
    -------
    ImagePlan
        What was written.

    Raises
    ------
    InvalidArgument
        If SpatialData would refuse the name, or the image is none.
    BudgetExceeded
        If the image cannot be written within `memory_limit`.
    InputError
        If a row cannot be decoded.
    """
    check_name(name)
    planar = is_planar(pixels)
    plan = plan_image(pixels.shape, pixels.dtype, pixels.held_bytes, memory_limit, planar=planar)
    group = _group(section, name)
    level = create_level(group, 0, plan.shapes[0], plan.shard, plan.dtype)
    # Channels one by one have bands of their own; a file is then read front to back.
    parts = [slice(k, k + 1) for k in range(pixels.shape[0])] if planar else [slice(None)]
    for part in parts:
        for start, stop in bands(plan.shapes[0][1], plan.shard[1]):
            _put(level, part, start, _band(pixels, part, start, stop))
    for number in range(1, len(plan.shapes)):
        finer = level
        level = create_level(group, number, plan.shapes[number], plan.shard, plan.dtype)
        for part in parts:
            _write_coarser(finer, level, part, plan.shard[1])
    group.attrs.update(_metadata(name, plan, pixels.channels, affine, coordinate_system))
    return plan


def _band(pixels: Pixels, part: slice, start: int, stop: int) -> NDArray[Any]:
    if is_planar(pixels):
        return pixels.channel_rows(part.start, start, stop)[None]
    return pixels.rows(start, stop)


def _write_coarser(finer: Any, level: Any, part: slice, edge: int) -> None:
    """Fill some channels of a level from the one before.

    Bands that end inside a shard would rewrite it, so whole shards are gathered first, from a row
    of chunks at a time.
    """
    _, height, width = level.shape
    depth = 1 if part.start is not None else level.shape[0]
    for start, stop in bands(height, edge):
        band = np.empty((depth, stop - start, width), dtype=level.dtype)
        for low, high in bands(stop - start, _CHUNK // 2):
            # Not named: the rows before would be held while these are read.
            band[:, low:high] = halved(
                np.asarray(finer[part, 2 * (start + low) : 2 * (start + high), :]),
                high - low,
                width,
            )
        _put(level, part, start, band)


def _put(level: Any, part: slice, start: int, band: NDArray[Any]) -> None:
    """Write a band one shard after another: at once, each would be held raw and encoded."""
    _, rows, width = band.shape
    for low, high in bands(width, level.shards[-1]):
        level[part, start : start + rows, low:high] = band[:, :, low:high]


def _group(section: Path, name: str) -> zarr.Group:
    """Create `images/<name>` in the container."""
    import zarr

    root = zarr.open_group(section, mode="a", zarr_format=3)
    images = root.require_group("images")
    if name in images:
        raise InputError(f"{section.name}: expected one image {name!r}, but got it twice")
    return images.create_group(name)


def check_name(name: str) -> None:
    """Refuse names of elements that SpatialData refuses.

    Raises
    ------
    InvalidArgument
        If it is none.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            "expected an image name of letters, digits, '_', '.' and '-' that starts with a "
            f"letter or digit, but got {name!r}"
        )


def create_level(
    group: zarr.Group, number: int, shape: tuple[int, ...], shard: tuple[int, ...], dtype: str
) -> Any:
    """Create the array of one level, (y, x) or (c, y, x); chunks no larger than the level."""
    from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec

    inner_chunk = (*shard[:-2], _CHUNK, _CHUNK)
    chunk = tuple(min(a, b) for a, b in zip(inner_chunk, shape, strict=True))
    # A shard must be a whole number of chunks, also where the level is smaller than it.
    shard = tuple(
        min(edge, -(-size // inner) * inner)
        for edge, size, inner in zip(shard, shape, chunk, strict=True)
    )
    codec = ShardingCodec(
        chunk_shape=chunk, codecs=[BytesCodec(), ZstdCodec(level=1), Crc32cCodec()]
    )
    return group.create_array(
        f"s{number}",
        shape=shape,
        dtype=dtype,
        chunks=shard,
        serializer=codec,
        filters=None,
        compressors=None,
        fill_value=0,
        # Black chunks are written as well: strict readers take a missing one for a lost one.
        config={"write_empty_chunks": True},
        dimension_names=("c", "y", "x")[-len(shape) :],
    )


def bands(height: int, step: int) -> Iterator[tuple[int, int]]:
    """Start and stop of consecutive bands of rows."""
    for start in range(0, height, step):
        yield start, min(start + step, height)


def _metadata(
    name: str, plan: ImagePlan, channels: Sequence[str], affine: Affine, coordinate_system: str
) -> dict[str, Any]:
    """Attributes of the element, as spatialdata 0.8 writes them (raster format 0.3)."""
    multiscale = {
        "name": f"/images/{name}",
        "axes": [named_axis(axis, unit=False) for axis in "cyx"],
        "datasets": datasets_of(plan.shapes),
        "coordinateTransformations": [placement(affine, coordinate_system, "cyx")],
    }
    return {
        "ome": {
            "version": "0.5-dev-spatialdata",
            "multiscales": [multiscale],
            "omero": {"channels": [{"label": channel} for channel in channels]},
        },
        "spatialdata_attrs": {"version": "0.3"},
    }
