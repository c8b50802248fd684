"""Zipped Zarr stores of Xenium outputs: cell ids, summary, masks, polygons."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.image_sources import ArrayPixels
from ..reader import faults_of
from ..sdata_elements import check_chunks
from ..source import NumericValues, RingPiece, RingsSource, StringValues

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.images import Pixels
    from ..source import ColumnKind

__all__ = [
    "MOST_CELLS",
    "CellsZip",
    "MaskPixels",
    "ZipColumn",
    "cell_names",
    "open_cells",
    "open_zip",
    "whole",
]

MOST_CELLS = 50_000_000
"""Largest list of cells that is taken at its word."""

_PIECE = 1 << 14  # polygons at a time
_NUCLEI, _CELLS = 0, 1
# What zarr and zipfile raise on damaged stores beside the errors that all guests raise.
_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    IndexError,
)


@contextmanager
def open_zip(path: Path, what: str) -> Iterator[Any]:
    """Open the root group; whatever guests raise inside the block becomes one InputError.

    Raises
    ------
    InputError
        It is no zipped Zarr store, or breaks off.
    """
    import zarr
    from zarr.storage import ZipStore

    with faults_of(path, what, parsing=True):
        try:
            with path.open("rb") as file:
                file.read(1)  # a missing file is told as such
            store = ZipStore(path, mode="r", read_only=True)
            try:
                yield zarr.open_group(store, mode="r")
            finally:
                # A store that never opened has nothing to close.
                if getattr(store, "_is_open", False):
                    store.close()
        except _DAMAGE as error:
            raise InputError(
                Fault(
                    str(path),
                    f"expected {what}, but got a file that cannot be read "
                    f"({type(error).__name__}: {error}); copy it again",
                )
            ) from error


def cell_names(numbers: NDArray[Any]) -> StringValues:
    """Names of cells from their numbers: `(n, 2)` prefix and suffix, or `(n,)` plain numbers.

    The prefix is eight letters `a` to `p`, one for each hexadecimal digit, the suffix follows a
    dash: https://www.10xgenomics.com/support/software/xenium-onboard-analysis (Cell ID format).

    >>> cell_names(np.array([[1, 1], [0x9f, 2]], np.uint32)).to_list()
    ['aaaaaaab-1', 'aaaaaajp-2']
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if numbers.ndim == 1 or numbers.shape[1] == 1:
        return StringValues.from_strings(pa.array(numbers.ravel()).cast(pa.large_string()))
    prefix = numbers[:, 0].astype(">u4").view(np.uint8).reshape(-1, 4)
    letters = np.stack([prefix >> 4, prefix & 15], axis=2).reshape(-1, 8) + np.uint8(ord("a"))
    words = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(8), len(letters), [None, pa.py_buffer(np.ascontiguousarray(letters))]
    )
    suffix = pa.array(numbers[:, 1]).cast(pa.large_string())
    named = words.cast(pa.large_binary()).cast(pa.large_string())
    return StringValues.from_strings(
        pc.binary_join_element_wise(named, suffix, pa.scalar("-", pa.large_string()))
    )


@dataclass(frozen=True, slots=True)
class CellsZip:
    """What `cells.zarr.zip` holds."""

    path: Path
    """The file."""
    ids: StringValues
    """(n,) names of the cells."""
    summary: tuple[str, ...]
    """Columns of `cell_summary`."""
    masks: tuple[int, ...]
    """Masks there are: 0 nuclei, 1 cells."""
    transform: NDArray[np.float64] | None
    """(3, 3) micrometers to pixels of the masks, None when not said."""
    polygons: tuple[int, ...]
    """Polygons there are: 0 of nuclei, 1 of cells."""
    labeled: bool
    """Whether it says which number each cell has in the mask of cells."""

    def column(self, name: str, rows: NDArray[np.int64] | None) -> ZipColumn:
        """Column of the summary, or `cell_labels`; `rows` are those of each cell."""
        number = self.summary.index(name) if name in self.summary else -1
        return ZipColumn(self.path, number, rows)

    def rings(self, rows: NDArray[np.int64]) -> RingsSource:
        """Polygons of the cells; `rows` is the row of each cell of this file."""
        return RingsSource(partial(_only_rings, self, rows))

    def nuclei(self) -> Iterator[tuple[RingPiece, NDArray[np.int64] | None]]:
        """Polygons of the nuclei, and their numbers in the mask where the file tells them."""
        return _ring_pieces(self, _NUCLEI, np.arange(len(self.ids)))


def open_cells(path: Path) -> CellsZip:
    """Open `cells.zarr.zip`: ids are read, the summary, masks and polygons are not.

    Raises
    ------
    InputError
        It cannot be read, or its parts disagree. Cost: 30 bytes a cell.
    """
    with open_zip(path, "cells as zipped Zarr") as root:
        node = root["cell_id"]
        n = int(node.shape[0])
        if not 0 < n <= MOST_CELLS or node.ndim > 2 or node.dtype.kind not in "iu":
            raise InputError(
                Fault(f"{path}:cell_id", f"expected numbers of cells, but got shape {node.shape}")
            )
        check_chunks(node, str(path))
        masks = tuple(k for k in (_NUCLEI, _CELLS) if f"masks/{k}" in root)
        return CellsZip(
            path,
            cell_names(np.asarray(whole(node)[:])),
            _summary(root, n, path),
            masks,
            _transform(root),
            _polygons(root),
            _has_labels(root, n),
        )


def whole(array: Any) -> Any:
    """Make a missing chunk an error."""
    return array.with_config({"read_missing_chunks": False})


def _polygons(root: Any) -> tuple[int, ...]:
    """Kinds of polygons that there are some of; releases 1.x have one array for both."""
    if "polygon_sets" not in root:
        return (_NUCLEI, _CELLS) if "polygon_vertices" in root else ()
    there = [k for k in (_NUCLEI, _CELLS) if f"polygon_sets/{k}" in root]
    return tuple(k for k in there if root[f"polygon_sets/{k}/cell_index"].shape[0])


def _summary(root: Any, n: int, path: Path) -> tuple[str, ...]:
    if "cell_summary" not in root:
        return ()
    node = root["cell_summary"]
    names = tuple(str(name) for name in node.attrs.get("column_names") or ())
    if node.ndim != 2 or node.shape != (n, len(names)) or node.dtype.kind not in "iuf":
        raise InputError(
            Fault(
                f"{path}:cell_summary",
                f"expected {n} rows of {len(names)} numbers, but got {node.shape} {node.dtype}",
            )
        )
    check_chunks(node, str(path))
    return names


@dataclass(frozen=True, slots=True)
class ZipColumn:
    """A column of numbers of `cells.zarr.zip`, read when its turn comes."""

    path: Path
    """The file."""
    number: int
    """Column of `cell_summary`; -1 for the numbers of the cells in their mask."""
    rows: NDArray[np.int64] | None
    """Row of each cell; None where both have one order."""

    @property
    def kind(self) -> ColumnKind:
        """Numeric."""
        return "numeric"

    def read(self) -> NumericValues:
        """Read the column; whole numbers come as integers."""
        with open_zip(self.path, "cells as zipped Zarr") as root:
            if self.number < 0:
                values: NDArray[Any] = _labels(root, int(root["cell_id"].shape[0]))
            else:
                values = np.asarray(whole(root["cell_summary"])[:, self.number], np.float64)
        taken = values if self.rows is None else values[self.rows]
        integral = np.isfinite(taken).all() and (taken == np.floor(taken)).all()
        if integral and np.abs(taken).max(initial=0) < 2**31:
            taken = taken.astype(np.int32)
        return NumericValues(np.ascontiguousarray(taken))


def _transform(root: Any) -> NDArray[np.float64] | None:
    if "masks/homogeneous_transform" not in root:
        return None
    node = root["masks/homogeneous_transform"]
    if node.shape != (4, 4) or node.dtype.kind not in "iuf":
        return None
    matrix = np.asarray(node[:], np.float64)[np.ix_([0, 1, 3], [0, 1, 3])]
    good = np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 1e-12
    return matrix if good else None


def _has_labels(root: Any, n: int) -> bool:
    """Whether the file says which number each cell has in the mask of cells."""
    if "polygon_sets/1/cell_index" in root:
        node = root["polygon_sets/1/cell_index"]
        return node.ndim == 1 and 0 < node.shape[0] <= MOST_CELLS and node.dtype.kind in "iu"
    return "seg_mask_value" in root and root["seg_mask_value"].shape == (n,)


def _labels(root: Any, n: int) -> NDArray[np.int64]:
    """Find the number of each cell in the mask of cells: its polygon's place from 2.0 on."""
    if "polygon_sets/1/cell_index" not in root:
        return np.asarray(whole(root["seg_mask_value"])[:]).astype(np.int64)
    index = np.asarray(whole(root["polygon_sets/1/cell_index"])[:]).astype(np.int64)
    own = (index >= 0) & (index < n)
    labels = np.zeros(n, np.int64)
    labels[index[own]] = np.flatnonzero(own) + 1
    return labels


def _only_rings(cells: CellsZip, rows: NDArray[np.int64]) -> Iterator[RingPiece]:
    return (piece for piece, _ in _ring_pieces(cells, _CELLS, rows))


def _ring_pieces(
    cells: CellsZip, kind: int, rows: NDArray[np.int64]
) -> Iterator[tuple[RingPiece, NDArray[np.int64] | None]]:
    """Polygons with their numbers in the mask: their places from 2.0 on."""
    numbers: NDArray[np.int64] | None
    with open_zip(cells.path, "polygons of cells") as root:
        old = "polygon_sets" not in root
        if old:
            lengths, vertices = whole(root["polygon_num_vertices"]), whole(root["polygon_vertices"])
            owner = np.arange(int(lengths.shape[1]))
            numbers = _labels(root, owner.size) if _has_labels(root, owner.size) else None
        else:
            group = root[f"polygon_sets/{kind}"]
            lengths, vertices = whole(group["num_vertices"]), whole(group["vertices"])
            owner = np.asarray(whole(group["cell_index"])[:]).astype(np.int64)
            numbers = np.arange(1, owner.size + 1)
        for array in (lengths, vertices):
            check_chunks(array, str(cells.path))
        n, wide = int(vertices.shape[-2]), int(vertices.shape[-1])
        shape = (2, n) if old else (n,)
        alike = lengths.shape == shape and vertices.shape == (*shape, wide) and owner.size == n
        if not alike or wide % 2:
            raise InputError(
                Fault(f"{cells.path}:polygons", "expected as many polygons in every part")
            )
        for start in range(0, n, _PIECE):
            at: Any = slice(start, start + _PIECE)
            counts = np.asarray(lengths[kind, at] if old else lengths[at]).astype(np.int64)
            xy = np.asarray(vertices[kind, at] if old else vertices[at], np.float64)
            piece = _ring_piece(counts, xy.reshape(len(counts), wide // 2, 2), owner[at], rows)
            yield piece, None if numbers is None else numbers[at][counts > 0]


def _ring_piece(
    counts: NDArray[np.int64],
    xy: NDArray[np.float64],
    owner: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> RingPiece:
    counts = np.clip(counts, 0, xy.shape[1])
    used = np.arange(xy.shape[1]) < counts[:, None]
    known = (owner >= 0) & (owner < rows.size)
    found = np.where(known, rows[np.where(known, owner, 0)], -1)
    filled = counts > 0
    return RingPiece(found[filled], counts[filled], xy[used])


@dataclass(frozen=True, slots=True)
class MaskPixels:
    """Opens a mask; picklable."""

    path: Path
    kind: int

    @contextmanager
    def __call__(self) -> Iterator[Pixels]:
        """Open the pixels."""
        with open_zip(self.path, "a mask of cells") as root:
            array = root[f"masks/{self.kind}"]
            check_chunks(array, str(self.path))
            if array.ndim != 2 or array.dtype.kind not in "iu" or min(array.shape) < 1:
                raise InputError(
                    Fault(
                        f"{self.path}:masks/{self.kind}",
                        f"expected a plane of whole numbers, but got {array.dtype} {array.shape}",
                    )
                )
            size = int(np.prod(array.chunks)) * array.dtype.itemsize
            across = -(-int(array.shape[1]) // int(array.chunks[1]))
            yield ArrayPixels(array, "yx", (), held_bytes=size * across)
