"""Pixels of TIFF files: tiles and strips one by one, of a large strip only the rows asked for.

Tiles and small strips are decoded through the Zarr view of tifffile. Scanners also write a whole
plane as one strip. Such a strip is not inflated at once where its compression can be entered row
by row (none, deflate); what binds are the others (LZW, JPEG, JPEG 2000 …), whose decoder wants the
strip whole: that memory is told and planned for.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .array_pixels import ArrayPixels, channel_names, is_color, native
from .errors import Fault, InputError
from .memory import format_bytes, parse_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .images import Pixels

__all__ = ["is_tiff", "open_tiff"]

_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# What a decoded piece may hold: a strip of a hostile file can claim to be the whole address space.
_MAX_PIECE_BYTES = parse_bytes("1 GiB")
_LARGEST_TILE = 2**13  # pixels of an edge, of an image of any size
_LARGE_STRIP = 4 * 2**20
_READ = 2**18
_ROWS = 64  # rows skipped, or summed up, at a time
_NONE, _DEFLATE = 1, (8, 32946)


def is_tiff(head: bytes) -> bool:
    """Whether a file that begins so is a TIFF, or a BigTIFF."""
    return head in _TIFF


@contextmanager
def open_tiff(path: Path, plane: int | None, *, own: bool) -> Iterator[Pixels]:
    """Slice the first series of a TIFF at full resolution.

    Parameters
    ----------
    path : Path
        Also one file of an OME set: planes of the others are taken from beside it, or left out
        where one is missing.
    plane : int, optional
        Which plane of a stack.
    own : bool
        Whether to leave out other files of a set in any case.
    """
    import tifffile

    with tifffile.TiffFile(path, is_ome=False if own else None) as tiff:
        series = tiff.series[0]
        if all(page is not None for page in series.pages):
            with _open_series(path, series, _ome_channels(tiff), plane, alone=own) as pixels:
                yield pixels
            return
    # What tifffile makes up for missing files is black.
    with (
        tifffile.TiffFile(path, is_ome=False) as tiff,
        _open_series(path, tiff.series[0], (), plane, alone=True) as pixels,
    ):
        yield pixels


@contextmanager
def _open_series(
    path: Path, series: Any, names: tuple[str, ...], plane: int | None, *, alone: bool
) -> Iterator[Pixels]:
    import zarr

    axes = str(series.axes).replace("S", "C")
    if alone and "C" not in axes and len(axes) == 3 and plane is None:
        # Planes of one file of a set: its description, which says what they are, is left aside.
        axes = "C" + axes[1:] if axes.endswith("YX") else axes
    taken = _taken(path, series, axes, plane)
    page = series.keyframe
    _require_inside(series)
    _require_fitting(path, page)
    piece = int(np.prod(page.chunks)) * np.dtype(page.dtype).itemsize
    strips = None
    if not page.is_tiled and piece > _LARGE_STRIP:
        strips = _strip_pixels(series, axes, names, taken)
    held = piece if strips is None else strips.held_bytes
    if held > _MAX_PIECE_BYTES:
        raise _fault(
            path,
            f"expected strips or tiles below {format_bytes(_MAX_PIECE_BYTES)}, but got pieces "
            f"of {format_bytes(piece)}; convert it to a tiled TIFF",
        )
    if strips is not None:
        yield strips
        return
    across = -(-page.imagewidth // page.chunks[1])
    store = series.aszarr(level=0)
    try:
        array = zarr.open_array(store, mode="r")
        yield ArrayPixels(array, axes.lower(), names, held_bytes=piece * across, plane=taken)
    finally:
        store.close()


def _require_inside(series: Any) -> None:
    """Refuse pieces longer than their file: a reader would take memory for all of it."""
    for page in series.pages:
        longest = max(page.databytecounts, default=0)
        if longest > page.parent.filehandle.size:
            raise ValueError(f"a piece of {format_bytes(longest)} in a file that is shorter")


def _require_fitting(path: Path, page: Any) -> None:
    """Refuse images without pixels, and tiles far larger: a row of them is decoded at once."""
    if min(page.imagelength, page.imagewidth) < 1:
        raise _fault(path, "expected an image, but got a TIFF without pixels; it is damaged")
    pieces = math.prod(page.chunked)
    if pieces > len(page.dataoffsets):
        raise _fault(
            path,
            f"expected {pieces:,} tiles or strips for {page.imagelength:,} x {page.imagewidth:,} "
            f"pixels, but got {len(page.dataoffsets):,}; the file is damaged",
        )
    for tile, edge in zip(page.chunks[:2], (page.imagelength, page.imagewidth), strict=True):
        if page.is_tiled and tile > max(2 * edge, _LARGEST_TILE):
            raise _fault(
                path,
                f"expected tiles no larger than the image of {page.imagelength} x "
                f"{page.imagewidth} pixels, but got an edge of {tile}; the file is damaged",
            )


def _taken(path: Path, series: Any, axes: str, plane: int | None) -> int:
    """Which plane of a stack is read; refuses a stack without a choice."""
    extra = {a: n for a, n in zip(axes, series.shape, strict=True) if a not in "CYX"}
    wide = [n for n in extra.values() if n != 1]
    if axes.count("C") > 1 or not {"Y", "X"} <= set(axes) or len(wide) > 1:
        raise _fault(path, f"{_wanted(series)}; export one plane")
    if wide and plane is None:
        raise _fault(path, f"{_wanted(series)}; export one plane, or choose one of {wide[0]}")
    if plane is None or not wide:
        return 0
    if not 0 <= plane < wide[0]:
        raise _fault(path, f"expected a plane in 0..{wide[0] - 1}, but got {plane}")
    return plane


def _wanted(series: Any) -> str:
    return (
        f"expected a plane of pixels with channels, but got axes {series.axes} of shape "
        f"{series.shape}"
    )


def _fault(path: Path, message: str) -> InputError:
    return InputError(Fault(str(path), message))


def _ome_channels(tiff: Any) -> tuple[str, ...]:
    """Channel names of an OME-TIFF, () where it names none."""
    from xml.etree.ElementTree import ParseError

    import tifffile

    if not tiff.is_ome or not tiff.ome_metadata:
        return ()
    try:
        facts = tifffile.xml2dict(tiff.ome_metadata)
        channels = facts["OME"]["Image"]
        channels = (channels[0] if isinstance(channels, list) else channels)["Pixels"]["Channel"]
    except (KeyError, TypeError, IndexError, ParseError):
        return ()
    names = [c.get("Name") for c in (channels if isinstance(channels, list) else [channels])]
    return tuple(map(str, names)) if all(names) and len(set(names)) == len(names) else ()


@dataclass(slots=True)
class _Strip:
    """Where reading of a deflated strip stands."""

    number: int
    inflate: Any
    offset: int
    left: int
    row: int
    rest: bytes = b""

    def fill(self, file: Any, into: memoryview) -> None:
        """Inflate exactly as many bytes as there is room for."""
        while len(into):
            if not self.rest:
                take = min(_READ, self.left)
                if take == 0:
                    raise ValueError(f"strip {self.number} ends early")
                file.seek(self.offset)
                self.rest = file.read(take)
                self.offset, self.left = self.offset + take, self.left - take
            got = self.inflate.decompress(self.rest, len(into))
            self.rest = self.inflate.unconsumed_tail
            if not got and self.inflate.eof:
                raise ValueError(f"strip {self.number} ends early")
            into[: len(got)] = got
            into = into[len(got) :]


class _StripRows:
    """Rows of one page, or of one sample of it where samples are stored one after another."""

    def __init__(self, page: Any, sample: int | None) -> None:
        key = page.keyframe
        self._page, self._key = page, key
        self._height, self._width = int(key.imagelength), int(key.imagewidth)
        self._samples = 1 if sample is not None else int(key.samplesperpixel)
        self._step = min(int(key.rowsperstrip), self._height)
        self._first = (sample or 0) * -(-self._height // self._step)
        self._stored = np.dtype(f"{page.parent.byteorder}{np.dtype(key.dtype).char}")
        self._row_bytes = self._width * self._samples * self._stored.itemsize
        self._open: _Strip | None = None
        self._decoded: tuple[int, NDArray[Any]] | None = None
        plain = int(key.fillorder) == 1 and not key.is_subsampled
        plain = plain and _bits(key) == 8 * self._stored.itemsize
        self._raw = plain and int(key.compression) == _NONE and int(key.predictor) == 1
        self._inflated = plain and int(key.compression) in _DEFLATE and int(key.predictor) in {1, 2}
        self._differences = self._inflated and int(key.predictor) == 2

    @property
    def held_bytes(self) -> int:
        """What is held between and while reading, beside the rows asked for."""
        if self._raw or self._inflated:
            return 8 * _READ
        # The decoded strip and, at most as large, its bytes.
        return 2 * self._step * self._row_bytes

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows as (stop - start, width, samples), in native byte order."""
        out = np.empty((stop - start, self._width, self._samples), self._stored)
        at = start
        while at < stop:
            number = at // self._step
            until = min(stop, (number + 1) * self._step)
            self._fill(number, at, out[at - start : until - start])
            at = until
        if not self._stored.isnative:
            out = out.byteswap(inplace=True).view(self._stored.newbyteorder("="))
        if self._differences:
            # Of the bits as whole numbers, which wrap around: also where they are floats.
            bits = out.view(f"u{out.dtype.itemsize}")
            for low in range(0, bits.shape[0], _ROWS):
                some = bits[low : low + _ROWS]
                some[:] = np.add.accumulate(some, axis=1, dtype=bits.dtype)
        return out

    def _fill(self, number: int, start: int, out: NDArray[Any]) -> None:
        """Read rows of one strip as they are stored."""
        first = number * self._step
        if not (self._raw or self._inflated):
            out[:] = self._whole(number)[start - first : start - first + out.shape[0]]
            return
        index = self._first + number
        offset, size = self._page.dataoffsets[index], self._page.databytecounts[index]
        into = memoryview(out.reshape(-1)).cast("B")
        file = self._page.parent.filehandle
        if self._raw:
            file.seek(offset + (start - first) * self._row_bytes)
            if file.readinto(into) != len(into):
                raise ValueError(f"strip {number} ends early")
            return
        strip = self._open
        if strip is None or strip.number != number or strip.row > start:
            strip = self._open = _Strip(number, zlib.decompressobj(), offset, size, first)
        while strip.row < start:
            n = min(start - strip.row, _ROWS)
            strip.fill(file, memoryview(bytearray(n * self._row_bytes)))
            strip.row += n
        strip.fill(file, into)
        strip.row = start + out.shape[0]

    def _whole(self, number: int) -> NDArray[Any]:
        """Decode a strip, kept until another is asked for."""
        if self._decoded is None or self._decoded[0] != number:
            self._decoded = None
            index = self._first + number
            file = self._page.parent.filehandle
            file.seek(self._page.dataoffsets[index])
            data = file.read(self._page.databytecounts[index])
            decoded, _, shape = self._key.decode(data, index, jpegtables=self._page.jpegtables)
            if decoded is None:
                decoded = np.zeros(shape, self._stored.newbyteorder("="))
            self._decoded = number, np.asarray(decoded).reshape(-1, self._width, self._samples)
        return self._decoded[1]


def _bits(page: Any) -> int:
    """Bits of a sample, 0 where samples differ."""
    bits = page.bitspersample
    return int(bits) if np.ndim(bits) == 0 else int(bits[0]) if len(set(bits)) == 1 else 0


@dataclass(frozen=True, slots=True)
class _StripPixels:
    """Planes of large strips."""

    planes: tuple[_StripRows, ...]
    size: tuple[int, int]
    samples: int
    dtype: np.dtype[Any]
    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.planes) * self.samples, *self.size

    @property
    def channels(self) -> Sequence[str]:
        return channel_names(self.shape[0], self.names)

    @property
    def held_bytes(self) -> int:
        return sum(plane.held_bytes for plane in self.planes)

    @property
    def separate(self) -> bool:
        return not is_color(self.shape[0], self.dtype, self.names)

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        found = [plane.rows(start, stop).transpose(2, 0, 1) for plane in self.planes]
        band = found[0] if len(found) == 1 else np.concatenate(found)
        return band.astype(self.dtype, copy=False)

    def channel_rows(self, channel: int, start: int, stop: int) -> NDArray[Any]:
        plane, sample = divmod(channel, self.samples)
        return self.planes[plane].rows(start, stop)[:, :, sample].astype(self.dtype, copy=False)


def _strip_pixels(
    series: Any, axes: str, names: tuple[str, ...], plane: int
) -> _StripPixels | None:
    """Read strips ourselves; None for layouts that are left to tifffile."""
    key, pages = series.keyframe, list(series.pages)
    size = int(key.imagelength), int(key.imagewidth)
    split = int(key.samplesperpixel) > 1 and int(key.planarconfig) == 2
    inside = {"Y", "X"} | ({"S"} if "S" in series.axes else set())
    outer = [(a, n) for a, n in zip(series.axes, series.shape, strict=True) if a not in inside]
    if len(pages) != int(np.prod([n for _, n in outer], dtype=np.int64)):
        return None  # an ImageJ stack lists its first page alone
    if tuple(n for a, n in zip(axes, series.shape, strict=True) if a in "YX") != size:
        return None
    grid = np.arange(len(pages)).reshape([n for _, n in outer])
    letters = [a for a, _ in zip(axes, series.shape, strict=True)]
    kept = [letter for letter, a in zip(letters, series.axes, strict=True) if a not in inside]
    index = tuple(
        slice(None) if letter == "C" else (plane if n > 1 else 0)
        for letter, (_, n) in zip(kept, outer, strict=True)
    )
    chosen = [pages[k] for k in np.ravel(grid[index]).tolist()]
    if split:
        planes = [_StripRows(p, s) for p in chosen for s in range(int(key.samplesperpixel))]
    else:
        planes = [_StripRows(page, None) for page in chosen]
    samples = 1 if split else int(key.samplesperpixel)
    return _StripPixels(tuple(planes), size, samples, native(key.dtype), names)
