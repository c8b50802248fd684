"""What reading an input holds in memory beside blocks and arrays of one entry a cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.images import is_planar, least_bytes

if TYPE_CHECKING:
    from .source import ImageSource

__all__ = ["ReadMemory", "chunk_bytes", "image_bytes", "text_bytes"]

_SMALL = 2**20  # chunks up to this are part of what every process grows by
_PIECES = 32  # places of a text column that are looked at
_PIECE_ROWS = 256
_NAME_BYTES = 120  # a category as a Python string, in a tuple and a dictionary


@dataclass(frozen=True, slots=True)
class ReadMemory:
    """Bytes held at once while an input is read, by the stage that holds them.

    Examples
    --------
    >>> ReadMemory(text=10) | ReadMemory(text=4, chunk=2)
    ReadMemory(text=10, chunk=2, image=0, points=0, rings=0)
    """

    text: int = 0
    """The widest text column of obs, the cell ids included."""
    chunk: int = 0
    """Chunks of the matrix while they are inflated, beyond small ones."""
    image: int = 0
    """Least that writing the largest image takes; all of it for PNG and JPEG."""
    points: int = 0
    """Most that sorting points, or copying outlines, takes."""
    rings: int = 0
    """Most that sorting boundaries of cells takes beside arrays of one entry a cell."""

    def __or__(self, other: ReadMemory) -> ReadMemory:
        return ReadMemory(
            max(self.text, other.text),
            max(self.chunk, other.chunk),
            max(self.image, other.image),
            max(self.points, other.points),
            max(self.rings, other.rings),
        )


def text_bytes(frame: Any, names: Iterable[str]) -> int:
    """Estimate the widest text among columns of an AnnData frame, in bytes.

    Fixed-length text counts by its width. Of variable-length text 8,192 rows are read, spread
    over the column; a quarter is added for what they miss.
    """
    widest = 0
    for name in names:
        table = not hasattr(frame, "keys")
        node = frame if table else frame[name]
        if hasattr(node, "keys"):  # categories with codes, or nullable strings with a mask
            part = "categories" if "categories" in node else "values"
            if part not in node:
                continue
            node = node[part]
            per_row = _NAME_BYTES if part == "categories" else 0
        else:
            per_row = 0
        field = name if table else None
        dtype = node.dtype[name] if table else node.dtype
        if dtype.kind in "SUTO":
            widest = max(widest, _column_bytes(node, field, dtype) + per_row * int(node.shape[0]))
    return widest


def _column_bytes(node: Any, field: str | None, dtype: np.dtype[Any]) -> int:
    n = int(node.shape[0])
    if dtype.kind in "SU":
        return n * dtype.itemsize
    if n == 0:
        return 0
    starts = np.unique(np.linspace(0, max(0, n - _PIECE_ROWS), _PIECES).astype(np.int64))
    seen, total = 0, 0
    for start in starts.tolist():
        stop = min(start + _PIECE_ROWS, n)
        words = node[start:stop] if field is None else node.fields(field)[start:stop]
        for word in np.asarray(words).tolist():
            total += len(word if isinstance(word, bytes) else str(word).encode())
        seen += stop - start
    mean = total / seen
    return int(n * mean * (1.0 if seen == n else 1.25)) + 1


def chunk_bytes(node: Any) -> int:
    """Bytes that inflating the chunks of a matrix holds: a dense array, or its CSR or CSC group.

    The reader of HDF5 fetches fewer chunks ahead where they are large, and inflates large plain
    gzip ones piece by piece; see `ingest.hdf5`.
    """
    import h5py

    from .hdf5 import vector_bytes

    if hasattr(node, "shape"):
        return 2 * _large(node)
    vectors = [node["data"], node["indices"]]
    if isinstance(vectors[0], h5py.Dataset):
        return sum(vector_bytes(vector) for vector in vectors)
    return sum(2 * _large(vector) for vector in vectors)


def _large(array: Any) -> int:
    if not array.chunks:
        return 0
    size = int(np.prod(array.chunks, dtype=np.int64)) * int(array.dtype.itemsize)
    return size if size > _SMALL else 0


def image_bytes(images: Mapping[str, ImageSource]) -> int:
    """Least memory that writing the largest of some images or masks takes; reads their headers."""
    from ..atlas.image_sources import LazyImage
    from ..atlas.labels import LazyLabels, least_label_bytes

    needs = [0]
    for image in images.values():
        if isinstance(image, LazyImage):
            with image.open() as pixels:
                size, planar = (pixels.shape, pixels.dtype, pixels.held_bytes), is_planar(pixels)
                needs.append(least_bytes(*size, planar=planar))
        elif isinstance(image, LazyLabels):
            with image.open() as pixels:
                needs.append(least_label_bytes(pixels))
    return max(needs)
