"""Zipped Zarr stores of Xenium outputs: cell ids, summary, masks, polygons, and the matrix."""

from __future__ import annotations

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
from ..source import CsrBlock, RingPiece, RingsSource, StringValues
from ..tenx import FeatureMatrix
from ..triples import Entries, sorted_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.images import Pixels

__all__ = ["CellsZip", "MaskPixels", "cell_names", "open_cells", "open_matrix", "open_zip"]

_MOST_CELLS = 50_000_000
_PIECE = 1 << 14  # polygons at a time
_ENTRIES = 1 << 20
_NUCLEI, _CELLS = 0, 1


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
        except (zipfile.BadZipFile, zipfile.LargeZipFile, AssertionError, AttributeError) as error:
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
    summary: dict[str, NDArray[np.float64]]
    """Columns of `cell_summary`, (n,)."""
    masks: tuple[int, ...]
    """Masks there are: 0 nuclei, 1 cells."""
    transform: NDArray[np.float64] | None
    """(3, 3) micrometers to pixels of the masks, None when not said."""
    polygons: str
    """`polygon_sets` (2.0 on), `polygon_vertices` (1.x), or "" when there are none."""
    labels: NDArray[np.int64] | None
    """(n,) number of each cell in its mask, None when not said."""

    def rings(self, kind: int, rows: NDArray[np.int64]) -> RingsSource:
        """Polygons of nuclei (0) or cells (1); `rows` is the row of each cell of this file."""
        return RingsSource(partial(_ring_pieces, self, kind, rows))


def open_cells(path: Path) -> CellsZip:
    """Open `cells.zarr.zip`: ids and summary are read, masks and polygons are not.

    Raises
    ------
    InputError
        It cannot be read, or its parts disagree. Cost: 80 bytes a cell.
    """
    with open_zip(path, "cells as zipped Zarr") as root:
        node = root["cell_id"]
        n = int(node.shape[0])
        if not 0 < n <= _MOST_CELLS or node.ndim > 2 or node.dtype.kind not in "iu":
            raise InputError(
                Fault(f"{path}:cell_id", f"expected numbers of cells, but got shape {node.shape}")
            )
        check_chunks(node, str(path))
        masks = tuple(k for k in (_NUCLEI, _CELLS) if f"masks/{k}" in root)
        polygons = next((k for k in ("polygon_sets", "polygon_vertices") if k in root), "")
        return CellsZip(
            path,
            cell_names(np.asarray(_whole(node)[:])),
            _summary(root, n, path),
            masks,
            _transform(root),
            polygons,
            _labels(root, n),
        )


def _whole(array: Any) -> Any:
    """Make a missing chunk an error."""
    return array.with_config({"read_missing_chunks": False})


def _summary(root: Any, n: int, path: Path) -> dict[str, NDArray[np.float64]]:
    if "cell_summary" not in root:
        return {}
    node = root["cell_summary"]
    names = node.attrs.get("column_names") or ()
    if node.ndim != 2 or node.shape != (n, len(names)) or node.dtype.kind not in "iuf":
        raise InputError(
            Fault(
                f"{path}:cell_summary",
                f"expected {n} rows of {len(names)} numbers, but got {node.shape} {node.dtype}",
            )
        )
    check_chunks(node, str(path))
    table = np.asarray(_whole(node)[:], np.float64)
    return {str(name): np.ascontiguousarray(table[:, k]) for k, name in enumerate(names)}


def _transform(root: Any) -> NDArray[np.float64] | None:
    if "masks/homogeneous_transform" not in root:
        return None
    node = root["masks/homogeneous_transform"]
    if node.shape != (4, 4) or node.dtype.kind not in "iuf":
        return None
    matrix = np.asarray(node[:], np.float64)[np.ix_([0, 1, 3], [0, 1, 3])]
    good = np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 1e-12
    return matrix if good else None


def _labels(root: Any, n: int) -> NDArray[np.int64] | None:
    """Find the number of each cell in the mask of cells: its polygon's place from 2.0 on."""
    if "polygon_sets/1/cell_index" in root:
        node = root["polygon_sets/1/cell_index"]
        if node.ndim != 1 or not 0 < node.shape[0] <= _MOST_CELLS or node.dtype.kind not in "iu":
            return None
        index = np.asarray(_whole(node)[:]).astype(np.int64)
        own = (index >= 0) & (index < n)
        labels = np.zeros(n, np.int64)
        labels[index[own]] = np.flatnonzero(own) + 1
        return labels
    if "seg_mask_value" in root and root["seg_mask_value"].shape == (n,):
        return np.asarray(_whole(root["seg_mask_value"])[:]).astype(np.int64)
    return None


def _ring_pieces(cells: CellsZip, kind: int, rows: NDArray[np.int64]) -> Iterator[RingPiece]:
    with open_zip(cells.path, "polygons of cells") as root:
        if cells.polygons == "polygon_sets":
            group = root[f"polygon_sets/{kind}"]
            lengths, vertices = _whole(group["num_vertices"]), _whole(group["vertices"])
            owner = np.asarray(_whole(group["cell_index"])[:]).astype(np.int64)
        else:
            lengths, vertices = root["polygon_num_vertices"], root["polygon_vertices"]
            owner = np.arange(int(lengths.shape[1]))
        check_chunks(vertices, str(cells.path))
        n, wide = int(vertices.shape[-2]), int(vertices.shape[-1])
        old = vertices.ndim == 3
        if int(lengths.shape[-1]) != n or owner.size != n or wide % 2:
            raise InputError(
                Fault(f"{cells.path}:{cells.polygons}", "expected as many polygons in every part")
            )
        for start in range(0, n, _PIECE):
            at: Any = slice(start, start + _PIECE)
            counts = np.asarray(lengths[kind, at] if old else lengths[at]).astype(np.int64)
            xy = np.asarray(vertices[kind, at] if old else vertices[at], np.float64)
            yield _ring_piece(counts, xy.reshape(len(counts), wide // 2, 2), owner[at], rows)


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


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """A matrix whose rows are features, sorted by cell out of core while it is streamed."""

    path: Path
    """The file."""
    n_obs: int
    """Cells."""
    n_vars: int
    """Features."""
    nnz: int | None
    """Stored entries."""
    dtype: np.dtype[Any]
    """Number type."""

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield all cells once, in order.

        Raises
        ------
        InputError
            Pointers or cells that lie outside.
        """
        yield from sorted_blocks(
            self._entries(), self.n_obs, self.dtype, nnz=self.nnz, budget_bytes=budget_bytes
        )

    def _entries(self) -> Iterator[Entries]:
        with open_zip(self.path, "a feature matrix as zipped Zarr") as root:
            group = root["cell_features"]
            data, cells = _whole(group["data"]), _whole(group["indices"])
            pointers = np.asarray(_whole(group["indptr"])[:]).astype(np.int64)
            nnz = int(data.shape[0])
            if pointers[0] != 0 or (np.diff(pointers) < 0).any() or pointers[-1] != nnz:
                raise InputError(
                    Fault(f"{self.path}:indptr", "expected ascending pointers, but got others")
                )
            for start in range(0, nnz, _ENTRIES):
                stop = min(start + _ENTRIES, nnz)
                rows = np.asarray(cells[start:stop]).astype(np.int64)
                if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < self.n_obs:
                    raise InputError(
                        Fault(
                            f"{self.path}:indices",
                            f"expected cells of 0 to {self.n_obs - 1}, but got one outside",
                        )
                    )
                at = np.searchsorted(pointers, np.arange(start, stop), side="right") - 1
                yield Entries(rows, at.astype(np.int32), np.asarray(data[start:stop]))


def open_matrix(path: Path) -> FeatureMatrix:
    """Open `cell_feature_matrix.zarr.zip`; names are read, counts are not.

    Raises
    ------
    InputError
        It cannot be read, or its parts disagree.
    """
    with open_zip(path, "a feature matrix as zipped Zarr") as root:
        if "cell_features" not in root:
            raise InputError(Fault(str(path), "expected a group cell_features, but got none"))
        group = root["cell_features"]
        attrs = group.attrs.asdict()
        names, ids, kinds = (
            [str(word) for word in attrs.get(key) or ()]
            for key in ("feature_keys", "feature_ids", "feature_types")
        )
        cells, data, pointers = group["cell_id"], group["data"], group["indptr"]
        for array in (cells, data, pointers, group["indices"]):
            check_chunks(array, str(path))
        n, nnz, n_vars = int(cells.shape[0]), int(data.shape[0]), len(names)
        sound = (
            n_vars == len(ids) == len(kinds) > 0
            and 0 < n <= _MOST_CELLS
            and group["indices"].shape == data.shape
            and pointers.shape == (n_vars + 1,)
            and data.dtype.kind in "iuf"
            and all(group[key].dtype.kind in "iu" for key in ("indices", "indptr", "cell_id"))
        )
        if not sound:
            raise InputError(
                Fault(f"{path}:cell_features", "expected a sparse matrix, but its parts disagree")
            )
        return FeatureMatrix(
            cell_names(np.asarray(_whole(cells)[:])),
            ids,
            names,
            kinds,
            frozenset(),
            FeatureRows(path, n, n_vars, nnz, np.dtype(data.dtype)),
            "",
        )
