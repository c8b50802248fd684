"""Channels of an image that lie in a TIFF file each, decoded row of tiles by row of tiles.

Files of a stack describe one another in their OME-XML. Nothing follows those names here: each file
gives its own first page, whatever it says of others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.image_sources import LazyImage
from ...atlas.memory import format_bytes, parse_bytes
from ..reader import faults_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.images import Affine, Pixels

__all__ = ["PlaneFiles", "stacked"]

_MAX_PIECE_BYTES = parse_bytes("1 GiB")
_WORKERS = min(4, os.cpu_count() or 1)


def stacked(paths: Sequence[Path], names: Sequence[str], affine: Affine) -> LazyImage:
    """Image of one-channel TIFF files; opens nothing.

    Parameters
    ----------
    paths : sequence of Path
        A file a channel.
    names : sequence of str
        Channel names.
    affine : Affine
        Pixels (x, y) to coordinates of the section.
    """
    return LazyImage(PlaneFiles(tuple(paths), tuple(names)), affine)


@dataclass(frozen=True, slots=True)
class PlaneFiles:
    """Opens the channels; picklable."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]

    @contextmanager
    def __call__(self) -> Iterator[Pixels]:
        """Open the pixels.

        Raises
        ------
        InputError
            A file is no TIFF of one channel, or differs from the first in size or number type.
        """
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(_WORKERS))
            planes = [stack.enter_context(_open_plane(path, pool)) for path in self.paths]
            first = planes[0]
            for plane in planes[1:]:
                if (plane.size, plane.dtype) != (first.size, first.dtype):
                    raise InputError(
                        Fault(
                            str(plane.path),
                            f"expected {first.size[1]} x {first.size[0]} pixels of {first.dtype} "
                            f"as in {first.path.name}, but got {plane.size[1]} x {plane.size[0]} "
                            f"of {plane.dtype}",
                        )
                    )
            yield _Stack(tuple(planes), self.names)


@dataclass(slots=True)
class _Plane:
    """First page of a TIFF file."""

    path: Path
    page: Any
    pool: ThreadPoolExecutor
    size: tuple[int, int]
    tile: tuple[int, int]
    dtype: np.dtype[Any]
    _held: dict[int, NDArray[Any]] = field(default_factory=dict)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of tiles."""
        across = -(-self.size[1] // self.tile[1])
        return across * self.tile[0] * self.tile[1] * self.dtype.itemsize

    def rows(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill `out` with rows `start:stop`; the last row of tiles is kept for the next call."""
        high = self.tile[0]
        with _faults(self.path):
            for number in range(start // high, -(-stop // high)):
                band = self._held.pop(number, None)
                if band is None:
                    self._held.clear()
                    band = self._decoded(number)
                top = number * high
                low, end = max(start, top), min(stop, top + len(band))
                out[low - start : end - start] = band[low - top : end - top]
                if end < min(top + high, self.size[0]):
                    self._held[number] = band

    def _decoded(self, number: int) -> NDArray[Any]:
        """One row of tiles."""
        high, wide = self.tile
        across = -(-self.size[1] // wide)
        top = number * high
        band = np.zeros((min(high, self.size[0] - top), self.size[1]), self.dtype)
        indices = range(number * across, (number + 1) * across)
        offsets = [self.page.dataoffsets[k] for k in indices]
        lengths = [self.page.databytecounts[k] for k in indices]
        if max(lengths) > _MAX_PIECE_BYTES:
            raise InputError(Fault(str(self.path), f"expected tiles, but got {max(lengths)} bytes"))
        read = self.page.parent.filehandle.read_segments(offsets, lengths, indices)
        for at, piece in self.pool.map(self._tile, list(read)):
            if piece is not None:
                left = (at - number * across) * wide
                part = piece[: len(band), : self.size[1] - left]
                band[: part.shape[0], left : left + part.shape[1]] = part
        return band

    def _tile(self, read: tuple[bytes | None, int]) -> tuple[int, NDArray[Any] | None]:
        body, at = read
        piece = self.page.decode(body, at)[0] if body else None
        if piece is None:
            return at, None
        if piece.size > self.tile[0] * self.tile[1]:
            raise InputError(Fault(str(self.path), f"expected one channel, but got {piece.shape}"))
        return at, piece.reshape(piece.shape[-3:-1] if piece.ndim > 2 else piece.shape)


@contextmanager
def _open_plane(path: Path, pool: ThreadPoolExecutor) -> Iterator[_Plane]:
    import tifffile

    with _faults(path), tifffile.TiffFile(path, is_ome=False) as tiff:
        page = tiff.pages.first
        if page.samplesperpixel != 1 or page.imagedepth != 1 or page.dtype is None:
            raise InputError(
                Fault(str(path), f"expected one channel, but got {page.shape} of {page.dtype}")
            )
        tile = (int(page.chunks[0]), int(page.chunks[1]))
        size = (int(page.imagelength), int(page.imagewidth))
        piece = tile[0] * tile[1] * page.dtype.itemsize
        if piece > _MAX_PIECE_BYTES or min(*tile, *size) < 1:
            raise InputError(
                Fault(
                    str(path),
                    f"expected strips or tiles below {format_bytes(_MAX_PIECE_BYTES)}, but got "
                    f"{format_bytes(piece)}; convert it to a tiled TIFF",
                )
            )
        dtype = np.dtype(page.dtype).newbyteorder("=")
        plane = _Plane(path, page, pool, size, tile, dtype)
        n = -(-size[0] // tile[0]) * -(-size[1] // tile[1])
        if len(page.dataoffsets) < n or len(page.databytecounts) < n:
            raise InputError(
                Fault(str(path), f"expected {n} tiles, but got {len(page.dataoffsets)}")
            )
        yield plane


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Turn what decoders raise into one InputError that names the file."""
    import struct

    import tifffile

    with faults_of(path, "a TIFF image", parsing=True):
        try:
            yield
        except (
            tifffile.TiffFileError,
            IndexError,
            struct.error,
            AttributeError,
            AssertionError,
            ZeroDivisionError,
        ) as error:
            raise InputError(
                Fault(
                    str(path),
                    f"expected an image that can be decoded, but got {type(error).__name__}: "
                    f"{error}; copy it again",
                )
            ) from error


@dataclass(slots=True)
class _Stack:
    """Opened channels."""

    planes: tuple[_Plane, ...]
    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        return (len(self.planes), *self.planes[0].size)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.planes[0].dtype

    @property
    def channels(self) -> Sequence[str]:
        return self.names

    @property
    def held_bytes(self) -> int:
        # A row of tiles of every channel, and once more while tiles become a row.
        return 2 * sum(plane.row_bytes for plane in self.planes)

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        out = np.empty((len(self.planes), stop - start, self.shape[2]), self.dtype)
        for plane, channel in zip(self.planes, out, strict=True):
            plane.rows(start, stop, channel)
        return out
