"""Where pixels come from: image files, arrays in HDF5 files, images of other Zarr stores.

TIFF is read piece by piece (strips or tiles). PNG and JPEG cannot be entered in the middle by the
decoder at hand, so Pillow decodes them whole; that memory is planned for and refused beforehand
when it does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import Fault, InputError
from .images import IDENTITY, Affine, Pixels, write_image
from .memory import format_bytes, parse_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ArrayPixels", "LazyImage", "file_image", "open_pixels"]

# Bytes of one pixel in Pillow's memory and the channels we write, by mode; others are converted.
_MODES: dict[str, tuple[int, str, tuple[str, ...]]] = {
    "L": (1, "uint8", ("gray",)),
    "RGB": (4, "uint8", ("r", "g", "b")),
    "RGBA": (4, "uint8", ("r", "g", "b", "a")),
    "I;16": (2, "uint16", ("gray",)),
    "F": (4, "float32", ("gray",)),
}
_CONVERT = {"1": "L", "LA": "RGBA", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB"}
_PILLOW_LIMIT = Lock()
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# What a decoded piece may hold: a strip of a hostile file can claim to be the whole address space.
_MAX_PIECE_BYTES = parse_bytes("1 GiB")


@dataclass(frozen=True, slots=True)
class ArrayPixels:
    """Anything sliceable as an array, with its axes named."""

    array: Any
    """NumPy, h5py or Zarr array."""
    axes: str
    """Its axes, such as "cyx" or "yxc"; letters other than these three must have length 1."""
    names: tuple[str, ...] = ()
    """Channel names; empty for r, g, b (and a) or numbers."""
    held_bytes: int = 0
    """Memory that a read of one piece holds."""

    def _length(self, axis: str) -> int:
        return int(self.array.shape[self.axes.index(axis)]) if axis in self.axes else 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self._length("c"), self._length("y"), self._length("x")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number type handed out: float64 comes as float32, bool as uint8."""
        given = np.dtype(self.array.dtype)
        if given.kind == "f":
            return np.dtype(np.float32)
        return np.dtype(np.uint8) if given.kind == "b" else given.newbyteorder("=")

    @property
    def channels(self) -> Sequence[str]:
        """Name of each channel."""
        n = self.shape[0]
        if len(self.names) == n:
            return self.names
        return ("r", "g", "b", "a")[:n] if n in (3, 4) else [str(i) for i in range(n)]

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start:stop` as (channels, stop - start, width)."""
        index = tuple(
            slice(start, stop) if axis == "y" else slice(None) if axis in "cx" else 0
            for axis in self.axes
        )
        band = np.asarray(self.array[index])
        kept = [axis for axis in self.axes if axis in "cyx"]
        if "c" not in kept:
            band, kept = band[None], ["c", *kept]
        return band.transpose([kept.index(axis) for axis in "cyx"]).astype(self.dtype, copy=False)


@dataclass(frozen=True, slots=True)
class _PillowPixels:
    """An image that Pillow decodes whole on the first row asked for."""

    image: Any
    mode: str
    names: tuple[str, ...]
    dtype: np.dtype[Any]
    held_bytes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.names), int(self.image.height), int(self.image.width)

    @property
    def channels(self) -> Sequence[str]:
        return self.names

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        band = self.image.crop((0, start, self.image.width, stop))
        array = np.asarray(band if band.mode == self.mode else band.convert(self.mode))
        array = array.astype(self.dtype, copy=False)
        return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


@contextmanager
def open_pixels(path: Path) -> Iterator[Pixels]:
    """Open an image file: TIFF piece by piece, everything else through Pillow, decoded whole.

    Only the header is read on opening.

    Raises
    ------
    InputError
        If the file is missing, no image, of a kind we cannot write, or breaks off.
    """
    import tifffile
    from PIL import UnidentifiedImageError

    try:
        with path.open("rb") as file:
            head = file.read(4)
        with _open_tiff(path) if head in _TIFF else _open_pillow(path) as pixels:
            yield pixels
    except FileNotFoundError as error:
        raise _fault(path, "expected an image file, but got none; check the path") from error
    except (
        UnidentifiedImageError,
        tifffile.TiffFileError,
        OSError,
        SyntaxError,  # what Pillow raises on a broken PNG
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        RuntimeError,  # imagecodecs
    ) as error:
        if isinstance(error, InputError) or getattr(error, "errno", None) == 28:
            raise  # no space left is no fault of the image
        raise _fault(
            path,
            f"expected an image that can be decoded, but got {type(error).__name__}: "
            f"{error}; export it again, or leave `image` empty",
        ) from error


def _fault(path: Path, message: str) -> InputError:
    return InputError(Fault(str(path), message))


@contextmanager
def _open_pillow(path: Path) -> Iterator[Pixels]:
    """Read the header with Pillow; its own limit on pixels is replaced by the memory limit."""
    from PIL import Image

    # Bombs are caught by planning: the header says how many bytes decoding will take. Pillow's
    # limit is one for the process; unlocked, of two threads one could keep the other's None.
    with _PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        mode = _CONVERT.get(image.mode, image.mode)
        if mode.startswith("I;16"):
            mode = "I;16"
        if mode not in _MODES:
            raise _fault(
                path,
                f"expected a gray, RGB or RGBA image, but got Pillow mode {image.mode!r}; "
                "convert it to 8 or 16 bit",
            )
        item, dtype, names = _MODES[mode]
        held = image.width * image.height * max(item, 4 if image.mode in {"CMYK", "P"} else item)
        yield _PillowPixels(image, mode, names, np.dtype(dtype), held)


@contextmanager
def _open_tiff(path: Path) -> Iterator[Pixels]:
    """Slice the first series of a TIFF at full resolution."""
    import tifffile
    import zarr

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        axes = str(series.axes).replace("S", "C")
        extra = [axis for axis, n in zip(axes, series.shape, strict=True) if axis not in "CYX"]
        wide = [axis for axis in extra if series.shape[axes.index(axis)] != 1]
        if wide or axes.count("C") > 1 or not {"Y", "X"} <= set(axes):
            raise _fault(
                path,
                f"expected a plane of pixels with channels, but got axes {series.axes} of shape "
                f"{series.shape}; export one plane",
            )
        page = series.keyframe
        piece = int(np.prod(page.chunks)) * np.dtype(page.dtype).itemsize
        if piece > _MAX_PIECE_BYTES:
            raise _fault(
                path,
                f"expected strips or tiles below {format_bytes(_MAX_PIECE_BYTES)}, but got pieces "
                f"of {format_bytes(piece)}; convert it to a tiled TIFF",
            )
        across = -(-page.imagewidth // page.chunks[1])
        names = _ome_channels(tiff)
        store = series.aszarr(level=0)
        try:
            array = zarr.open_array(store, mode="r")
            yield ArrayPixels(array, axes.lower(), names, held_bytes=piece * across)
        finally:
            store.close()


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


@dataclass(frozen=True, slots=True)
class LazyImage:
    """An image that is opened when it is written; small and picklable if its opener is."""

    open: Callable[[], AbstractContextManager[Pixels]]
    """Opens the pixels."""
    affine: Affine = IDENTITY
    """Pixels (x, y) to coordinates of the section."""

    @property
    def nbytes(self) -> int:
        """Uncompressed size of the full resolution; reads the header."""
        with self.open() as pixels:
            return int(np.prod(pixels.shape)) * pixels.dtype.itemsize

    @property
    def held_bytes(self) -> int:
        """Memory the decoder holds: the whole image for PNG and JPEG."""
        with self.open() as pixels:
            return pixels.held_bytes

    def write(self, section: Path, name: str, *, coordinate_system: str, memory_limit: int) -> None:
        """Write `images/<name>` of the container at `section`."""
        with self.open() as pixels:
            write_image(
                section,
                name,
                pixels,
                affine=self.affine,
                coordinate_system=coordinate_system,
                memory_limit=memory_limit,
            )


@dataclass(frozen=True, slots=True)
class _FileOpener:
    path: Path

    def __call__(self) -> AbstractContextManager[Pixels]:
        return open_pixels(self.path)


def file_image(path: Path, affine: Affine = IDENTITY) -> LazyImage:
    """Image file as a source; nothing is opened yet.

    Parameters
    ----------
    path : Path
        PNG, JPEG, TIFF, or anything else Pillow reads.
    affine : Affine
        Pixels (x, y) to coordinates of the section.
    """
    return LazyImage(_FileOpener(path), affine)
