"""Images of single FOVs as one mosaic in the frame of the slide, filled FOV by FOV.

A FOV is decoded once, plane by plane, into a scratch file that lives as long as bands of the
mosaic touch the FOV: memory is a plane of one FOV, whatever the size of the slide.
"""

from __future__ import annotations

import json
import re
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.image_sources import open_pixels
from ..reader import faults_of
from ..scratch import scratch_folder
from .cosmx_keys import packed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.images import Pixels

__all__ = [
    "LabelRows",
    "MosaicOpener",
    "Tile",
    "place_tiles",
    "plane_names",
    "read_header",
    "read_planes",
]

_MAX_PLANE = 2**30
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_ROWS = 256
_DTYPES = {"b": "uint8"}
# What decoders raise on broken tags and codecs, beside what every broken file raises.
_BROKEN = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, SyntaxError,
    struct.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tile:
    """One FOV in the mosaic."""

    path: Path
    """Its file."""
    fov: int
    """Its number."""
    row: int
    """Row of the mosaic of its first one."""
    column: int
    """Column of the mosaic of its first one."""


@dataclass(frozen=True, slots=True)
class LabelRows:
    """Numbers of the cells of all FOVs, unique over the slide: row in the file's order, plus 1."""

    keys: NDArray[np.int64]
    """(n,) FOV and number of each cell, packed, ascending."""
    rows: NDArray[np.int64]
    """(n,) its row."""

    def of(self, fov: int, labels: NDArray[Any]) -> NDArray[np.uint32]:
        """Replace the numbers of one FOV; those of no cell of the section become 0."""
        found = np.zeros(labels.shape, np.uint32)
        low, high = np.searchsorted(self.keys, packed(np.array([fov, fov + 1]), np.zeros(2, int)))
        own = self.keys[low:high] & (2**32 - 1)
        if own.size:
            for start in range(0, len(labels), _ROWS):  # places are eight bytes a pixel
                some = labels[start : start + _ROWS]
                at = np.minimum(np.searchsorted(own, some), own.size - 1)
                rows = self.rows[low:high][at] + 1
                found[start : start + _ROWS] = np.where(own[at] == some, rows, 0)
        return found


@contextmanager
def _image_of(path: Path) -> Iterator[None]:
    """Turn what decoders raise on a broken file into one InputError that names it."""
    try:
        with faults_of(path, "an image of a FOV", parsing=True):
            yield
    except _BROKEN as error:
        raise InputError(
            Fault(
                str(path),
                f"expected an image of a FOV, but got one that cannot be decoded "
                f"({type(error).__name__}: {error}); copy or export it again",
            )
        ) from error


def read_header(path: Path) -> tuple[tuple[int, int, int], np.dtype[Any]]:
    """Planes, height, width and number type of a FOV's file.

    Raises
    ------
    InputError
        It is no image, or its planes are of no kind we write.
    """
    import tifffile

    if not _is_tiff(path):
        with _image_of(path), open_pixels(path) as pixels:
            (planes, height, width), dtype = pixels.shape, pixels.dtype
        samples = planes  # decoded at once
    else:
        with _image_of(path), tifffile.TiffFile(path) as tiff:
            page: Any = tiff.series[0].keyframe
            samples = int(page.samplesperpixel)
            planes = samples * len(tiff.series[0].pages)
            height, width = int(page.imagelength), int(page.imagewidth)
            dtype = np.dtype(_DTYPES.get(page.dtype.kind, page.dtype))
    if height * width * samples * dtype.itemsize > _MAX_PLANE or min(height, width) < 2:
        raise InputError(
            Fault(str(path), f"expected a FOV, but got an image of {width} x {height} pixels")
        )
    return (planes, height, width), dtype.newbyteorder("=")


def read_planes(path: Path) -> Iterator[NDArray[Any]]:
    """Planes of a FOV's file, (height, width) each, one after the other."""
    if not _is_tiff(path):
        with _image_of(path), open_pixels(path) as pixels:
            yield from pixels.rows(0, pixels.shape[1])
        return
    import tifffile

    with _image_of(path), tifffile.TiffFile(path) as tiff:
        first = tiff.series[0].keyframe
        for page in tiff.series[0].pages:
            # Each page has a header of its own; the first alone was checked.
            if page is None or (page.shape, page.dtype) != (first.shape, first.dtype):
                raise ValueError("a plane is missing, or another one than the first")
            plane = np.asarray(page.asarray())
            if plane.ndim == 2:
                yield plane
            else:
                separate = plane.shape[0] == getattr(page, "samplesperpixel", 1)
                yield from plane if separate else np.moveaxis(plane, -1, 0)


def _is_tiff(path: Path) -> bool:
    with faults_of(path, "an image of a FOV"), path.open("rb") as file:
        return file.read(4) in _TIFF


def plane_names(path: Path, n: int) -> tuple[str, ...]:
    """Stains of a Morphology2D file, by the JSON in its description; numbers where it has none.

    `ChannelOrder` lists the letters of the channels, `MorphologyReagents` the target of each.
    """
    plain = ("r", "g", "b", "a")[:n] if n in (3, 4) else tuple(str(k) for k in range(n))
    if not _is_tiff(path):
        return plain
    import tifffile

    with _image_of(path), tifffile.TiffFile(path) as tiff:
        text = str(getattr(tiff.pages[0], "description", ""))
        samples = int(getattr(tiff.pages[0], "samplesperpixel", 1))
    letters, targets = _stains(text)
    names = [targets.get(letter, letter).replace("/", ".").strip() for letter in letters]
    if len(names) == n and len(set(names)) == n and all(names):
        return tuple(names)
    return plain if samples > 1 else tuple(str(k) for k in range(n))


def _stains(text: str) -> tuple[str, dict[str, str]]:
    """Letters in their order, and what each stands for."""
    try:
        nodes = [json.loads(text)]
    except (ValueError, RecursionError):
        order = re.search(r'"ChannelOrder"\s*:\s*"(\w+)"', text)
        return (order[1] if order else ""), {}
    letters, targets = "", {}
    while nodes:
        node = nodes.pop()
        if isinstance(node, list):
            nodes += node
        elif isinstance(node, dict):
            letters = letters or str(node.get("ChannelOrder") or "")
            dye = node.get("Fluorophore")
            letter = node.get("ChannelId") or (
                dye.get("ChannelId") if isinstance(dye, dict) else ""
            )
            if letter and node.get("BiologicalTarget"):
                targets[str(letter)] = str(node["BiologicalTarget"])
            nodes += list(node.values())
    return letters, targets


@dataclass(frozen=True, slots=True)
class MosaicOpener:
    """Opens a mosaic; small, so that it travels to other processes."""

    tiles: tuple[Tile, ...]
    """FOVs."""
    shape: tuple[int, int, int]
    """Planes, height and width of the mosaic."""
    tile_shape: tuple[int, int, int]
    """Planes, height and width of each FOV."""
    dtype: str
    """Number type of the files."""
    names: tuple[str, ...]
    """Name of each plane."""
    reverse: tuple[bool, bool]
    """Whether columns and rows of a FOV run against those of the mosaic."""
    labels: LabelRows | None = None
    """Makes numbers of cells unique."""
    mask: bool = False
    """Whether 0 is background, which covers nothing where FOVs overlap."""

    def __call__(self) -> AbstractContextManager[Pixels]:
        """Open the mosaic."""
        return _opened(self)


@contextmanager
def _opened(plan: MosaicOpener) -> Iterator[_Mosaic]:
    mosaic = _Mosaic(plan)
    try:
        yield mosaic
    finally:
        mosaic.close()


@dataclass(slots=True)
class _Mosaic:
    plan: MosaicOpener
    scratch: dict[int, IO[bytes]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.plan.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint32 if self.plan.labels is not None else self.plan.dtype)

    @property
    def channels(self) -> Sequence[str]:
        return self.plan.names

    @property
    def held_bytes(self) -> int:
        """A plane of a FOV decoded, checked and copied; of other than TIFF all planes at once."""
        planes, height, width = self.plan.tile_shape
        tiff = all(tile.path.suffix.casefold() in {".tif", ".tiff"} for tile in self.plan.tiles)
        return (3 if tiff else planes + 4) * height * width * self.dtype.itemsize

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        planes, _, width = self.shape
        band = np.zeros((planes, stop - start, width), self.dtype)
        height = self.plan.tile_shape[1]
        for number, tile in enumerate(self.plan.tiles):
            low, high = max(start, tile.row), min(stop, tile.row + height)
            if tile.row + height <= start:
                self._forget(number)
            elif low < high:
                self._copy(number, tile, band[:, low - start : high - start], low - tile.row)
        return band

    def _copy(self, number: int, tile: Tile, into: NDArray[Any], first: int) -> None:
        """Rows of a FOV, counted in the mosaic's direction, into their place."""
        planes, height, width = self.plan.tile_shape
        file = self._decoded(number, tile)
        n = into.shape[1]
        at = height - first - n if self.plan.reverse[1] else first
        step = width * self.dtype.itemsize
        for plane in range(planes):
            file.seek((plane * height + at) * step)
            rows = np.frombuffer(file.read(n * step), self.dtype).reshape(n, width)
            rows = rows[::-1] if self.plan.reverse[1] else rows
            rows = rows[:, ::-1] if self.plan.reverse[0] else rows
            place = into[plane, :, tile.column : tile.column + width]
            np.copyto(place, rows, where=rows != 0 if self.plan.mask else True)

    def _decoded(self, number: int, tile: Tile) -> IO[bytes]:
        """Scratch file with the raw planes of a FOV."""
        if number not in self.scratch:
            shape, dtype = read_header(tile.path)
            wanted = self.plan.tile_shape
            if shape != wanted or dtype != np.dtype(self.plan.dtype):
                raise InputError(
                    Fault(
                        str(tile.path),
                        f"expected {self.plan.dtype} of {wanted} (planes, height, width) as in the "
                        f"other FOVs, but got {dtype} of {shape}",
                    )
                )
            file: IO[bytes] = tempfile.TemporaryFile(  # noqa: SIM115
                prefix="tisseract-fov-", dir=scratch_folder()
            )
            self.scratch[number] = file
            for plane in read_planes(tile.path):
                if plane.shape != wanted[1:]:
                    raise InputError(
                        Fault(str(tile.path), f"expected planes of {wanted[1:]}, not {plane.shape}")
                    )
                labels = self.plan.labels
                own = plane if labels is None else labels.of(tile.fov, plane)
                file.write(np.ascontiguousarray(own, self.dtype).data)
        return self.scratch[number]

    def _forget(self, number: int) -> None:
        file = self.scratch.pop(number, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        for number in list(self.scratch):
            self._forget(number)


def place_tiles(
    files: Mapping[int, Path], corners: Mapping[int, tuple[float, float]], height: int, width: int
) -> tuple[tuple[Tile, ...], tuple[int, int], tuple[float, float]]:
    """Put FOVs on the grid of global pixels.

    Parameters
    ----------
    files : mapping
        File of each FOV.
    corners : mapping
        Least global x and y of each FOV.
    height, width : int
        Pixels of a FOV.

    Returns
    -------
    tiles, (height, width) of the mosaic, global (x, y) of its first pixel.

    Examples
    --------
    >>> tiles, shape, _ = place_tiles({1: Path("a")}, {1: (10.4, 20.0)}, 5, 8)
    >>> tiles[0].row, tiles[0].column, shape
    (0, 0, (5, 8))
    """
    used = sorted(set(files) & set(corners))
    places = np.array([corners[fov] for fov in used], np.float64).reshape(-1, 2)
    origin = places.min(axis=0)
    at = np.rint(places - origin).astype(np.int64)
    tiles = tuple(
        Tile(files[fov], fov, int(row), int(column))
        for fov, (column, row) in zip(used, at.tolist(), strict=True)
    )
    rows, columns = int(at[:, 1].max()) + height, int(at[:, 0].max()) + width
    return tiles, (rows, columns), (float(origin[0]), float(origin[1]))
