"""Where pixels come from: image files, arrays in HDF5 files, images of other Zarr stores.

TIFF is read piece by piece (`atlas.tiff_pixels`). PNG and JPEG cannot be entered in the middle by
the decoder at hand, so Pillow decodes them whole; that memory is planned for and refused beforehand
when it does not fit.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from .array_pixels import ArrayPixels
from .errors import Fault, InputError, InvalidArgument, TisseractError
from .images import IDENTITY, Affine, Pixels, write_image
from .labels import LazyLabels
from .tiff_pixels import is_tiff, open_tiff

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ArrayPixels",
    "LazyImage",
    "file_image",
    "label_image",
    "open_pixels",
    "stack_images",
]

# Bytes of one pixel in Pillow's memory and the channels we write, by mode; others are converted.
_MODES: dict[str, tuple[int, str, tuple[str, ...]]] = {
    "L": (1, "uint8", ("gray",)),
    "RGB": (4, "uint8", ("r", "g", "b")),
    "RGBA": (4, "uint8", ("r", "g", "b", "a")),
    "I;16": (2, "uint16", ("gray",)),
    "I": (4, "int32", ("gray",)),
    "F": (4, "float32", ("gray",)),
}
_CONVERT = {"1": "L", "LA": "RGBA", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB"}
_PILLOW_LIMIT = Lock()


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
def open_pixels(path: Path, plane: int | None = None, *, own: bool = False) -> Iterator[Pixels]:
    """Open an image file: TIFF piece by piece, everything else through Pillow, decoded whole.

    Only the header is read on opening.

    Parameters
    ----------
    path : Path
        Image file.
    plane : int, optional
        Which plane of a stack in z; a stack is refused without.
    own : bool
        Of one file of an OME-TIFF set, whether to read its own planes only. Otherwise those of
        the files beside it are read, too, unless one of them is missing.

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
        opened = open_tiff(path, plane, own=own) if is_tiff(head) else _open_pillow(path)
        with opened as pixels:
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
        # What tifffile raises on headers that contradict themselves.
        ArithmeticError,
        TypeError,
        AttributeError,
        struct.error,
        zlib.error,
    ) as error:
        if isinstance(error, TisseractError) or getattr(error, "errno", None) == 28:
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
        if not (image.width and image.height):  # Pillow knows some files by their name alone
            raise _fault(path, f"expected an image, but got {image.format} without pixels")
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
    plane: int | None = None
    own: bool = False

    def __call__(self) -> AbstractContextManager[Pixels]:
        return open_pixels(self.path, self.plane, own=self.own)


def file_image(path: Path, affine: Affine = IDENTITY, *, plane: int | None = None) -> LazyImage:
    """Image file as a source; nothing is opened yet.

    Parameters
    ----------
    path : Path
        PNG, JPEG, TIFF, or anything else Pillow reads.
    affine : Affine
        Pixels (x, y) to coordinates of the section.
    plane : int, optional
        Which plane of a stack in z.
    """
    return LazyImage(_FileOpener(path, plane), affine)


def stack_images(
    paths: Sequence[Path],
    names: Sequence[str],
    affine: Affine = IDENTITY,
    *,
    plane: int | None = None,
) -> LazyImage:
    """Several files of one plane each as the channels of one image; nothing is opened yet.

    Files are opened one after another, so that memory is that of writing one of them. Opening
    raises InputError where they differ in size or hold more than a plane.

    Parameters
    ----------
    paths : sequence of Path
        Files, in the order of the channels.
    names : sequence of str
        Name of each channel, unique.
    affine : Affine
        Pixels (x, y) to coordinates of the section.
    plane : int, optional
        Which plane, where each file is a stack in z.

    Raises
    ------
    InvalidArgument
        Another number of names than of files, none, or a name twice.
    """
    if len(paths) != len(names) or not paths or len(set(names)) != len(names):
        raise InvalidArgument(
            f"expected a name of its own for each of the files, but got {len(paths)} files and "
            f"the names {list(names)}"
        )
    openers = tuple(_FileOpener(path, plane, own=True) for path in paths)
    return LazyImage(_StackOpener(openers, tuple(names)), affine)


@dataclass(frozen=True, slots=True)
class _StackOpener:
    openers: tuple[_FileOpener, ...]
    names: tuple[str, ...]

    @contextmanager
    def __call__(self) -> Iterator[Pixels]:
        sizes, dtypes, held = [], [], []
        for one in self.openers:
            with one() as pixels:
                sizes.append(pixels.shape)
                dtypes.append(pixels.dtype)
                held.append(pixels.held_bytes)
        first = self.openers[0].path
        for one, (planes, height, width) in zip(self.openers, sizes, strict=True):
            if planes != 1:
                raise _fault(one.path, f"expected one plane of pixels, but got {planes} channels")
            if (height, width) != sizes[0][1:]:
                size = f"{sizes[0][2]} x {sizes[0][1]} pixels as in {first.name}"
                raise _fault(one.path, f"expected {size}, but got {width} x {height}")
        stack = _StackPixels(
            self.openers, self.names, sizes[0][1:], np.result_type(*dtypes), max(held)
        )
        # What a decoder raises goes through the file that is open, which makes a fault of it.
        with stack.opened:
            yield stack


class _StackPixels:
    """Channels in files of their own, one of which is open at a time."""

    separate = True

    def __init__(
        self,
        openers: tuple[_FileOpener, ...],
        names: tuple[str, ...],
        size: tuple[int, int],
        dtype: np.dtype[Any],
        held_bytes: int,
    ) -> None:
        self._openers, self.channels, self.dtype = openers, names, dtype
        self.shape = (len(openers), *size)
        self.held_bytes = held_bytes
        self._number = -1
        self.opened = ExitStack()
        self._pixels: Pixels | None = None

    def close(self) -> None:
        self._number, self._pixels = -1, None
        self.opened.close()

    def channel_rows(self, channel: int, start: int, stop: int) -> NDArray[Any]:
        if self._pixels is None or self._number != channel:
            self.close()
            self._pixels = self.opened.enter_context(self._openers[channel]())
            self._number = channel
        found: NDArray[Any] = self._pixels.rows(start, stop)[0].astype(self.dtype, copy=False)
        return found

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        n = len(self._openers)
        return np.stack([self.channel_rows(k, start, stop) for k in range(n)])


def label_image(
    source: Path | Pixels | Callable[[], AbstractContextManager[Pixels]],
    affine: Affine = IDENTITY,
    *,
    plane: int | None = None,
) -> LazyLabels:
    """Mask of whole numbers as a label image; nothing is opened yet.

    Coarser levels take one pixel of four, so that every number stays one of the mask's own.

    Parameters
    ----------
    source : Path, Pixels or callable
        Image file of one plane, pixels in memory, or what opens them.
    affine : Affine
        Pixels (x, y) to coordinates of the section.
    plane : int, optional
        Which plane of a file that is a stack in z.
    """
    if isinstance(source, Path):
        return LazyLabels(_FileOpener(source, plane), affine)
    if callable(source):
        return LazyLabels(source, affine)
    return LazyLabels(_Given(source), affine)


@dataclass(frozen=True, slots=True)
class _Given:
    pixels: Pixels

    def __call__(self) -> AbstractContextManager[Pixels]:
        return nullcontext(self.pixels)
