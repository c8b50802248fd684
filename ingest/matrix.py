"""AnnData matrices on Zarr (or any store of sliceable arrays), streamed by blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..atlas.errors import Fault, InputError
from .source import CsrBlock, as_int32
from .triples import Entries, sorted_blocks, sorting_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MatrixFacts",
    "StreamedMatrix",
    "check_pointers",
    "csc_blocks",
    "matrix_facts",
    "sample_entries",
]

Layout = Literal["csr", "csc", "dense"]
_SAMPLE = 65_536


@dataclass(frozen=True, slots=True)
class MatrixFacts:
    """What the header of a matrix says."""

    n_obs: int
    n_vars: int
    nnz: int | None
    dtype: np.dtype[np.generic]
    layout: Layout


def matrix_facts(node: Any) -> MatrixFacts:
    """Read the header of an AnnData matrix: a dense array, or a CSR or CSC group.

    Raises
    ------
    ValueError
        If the node is no matrix, or its parts contradict one another.
    """
    if hasattr(node, "shape"):
        if len(node.shape) != 2 or node.dtype.kind not in "iufb":
            raise ValueError(
                f"a matrix of numbers is needed, not {node.dtype} of shape {tuple(node.shape)}"
            )
        return MatrixFacts(
            int(node.shape[0]), int(node.shape[1]), None, np.dtype(node.dtype), "dense"
        )
    encoding = node.attrs.get("encoding-type", node.attrs.get("h5sparse_format", ""))
    encoding = encoding.decode() if isinstance(encoding, bytes) else str(encoding)
    if not {"data", "indices", "indptr"} <= set(node) or encoding[:3] not in {"csr", "csc"}:
        raise ValueError(f"a CSR, CSC or dense matrix is needed, not {encoding or 'a group'!r}")
    shape = node.attrs.get("shape", node.attrs.get("h5sparse_shape"))
    if shape is None or len(shape) != 2:
        raise ValueError("the sparse matrix does not say its shape")
    layout: Layout = "csr" if encoding.startswith("csr") else "csc"
    n_obs, n_vars = (int(n) for n in shape)
    data, indices, indptr = (node[key] for key in ("data", "indices", "indptr"))
    major = n_obs if layout == "csr" else n_vars
    nnz = int(data.shape[0])
    if indptr.shape != (major + 1,) or indices.shape != data.shape or int(indptr[-1]) != nnz:
        raise ValueError(
            f"the parts of the {layout} matrix disagree: {major} rows or columns, "
            f"{indptr.shape[0]} pointers, {indices.shape[0]} indices, {nnz} numbers"
        )
    if data.dtype.kind not in "iufb":
        raise ValueError(f"a matrix of numbers is needed, not of {data.dtype}")
    return MatrixFacts(n_obs, n_vars, nnz, np.dtype(data.dtype), layout)


def sample_entries(node: Any) -> NDArray[np.generic]:
    """First stored numbers of a matrix, to see whether they look like counts."""
    if hasattr(node, "shape"):
        rows = max(1, min(int(node.shape[0]), _SAMPLE // max(1, int(node.shape[1]))))
        return np.asarray(node[:rows]).ravel()
    return np.asarray(node["data"][:_SAMPLE])


@dataclass(frozen=True, slots=True)
class StreamedMatrix:
    """A matrix that is opened when it is streamed; picklable when its opener is."""

    open: Callable[[], AbstractContextManager[Any]]
    """Opens the AnnData node."""
    facts: MatrixFacts
    """What its header says."""

    @property
    def n_obs(self) -> int:
        """Rows."""
        return self.facts.n_obs

    @property
    def n_vars(self) -> int:
        """Columns."""
        return self.facts.n_vars

    @property
    def nnz(self) -> int | None:
        """Stored entries; None for a dense array."""
        return self.facts.nnz

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Number type."""
        return self.facts.dtype

    @property
    def scratch_bytes(self) -> int:
        """Disk that CSC takes while it is sorted by rows."""
        facts = self.facts
        return sorting_bytes(facts.nnz, facts.dtype) if facts.layout == "csc" else 0

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield all rows once, in order, in blocks that stay within `budget_bytes`.

        CSC is sorted by rows in temporary files, as large as its entries.
        """
        with self.open() as node:
            if self.facts.layout == "dense":
                yield from _dense(node, budget_bytes)
            elif self.facts.layout == "csr":
                yield from _csr(node, self.facts.n_vars, budget_bytes)
            else:
                yield from _csc(node, self.facts, budget_bytes)


def _without_gaps(array: Any) -> Any:
    """Make a missing chunk an error: stored entries are not zero, so none may be left out."""
    strict = getattr(array, "with_config", None)
    return array if strict is None else strict({"read_missing_chunks": False})


def _dense(array: Any, budget_bytes: int) -> Iterator[CsrBlock]:
    n_obs, n_vars = array.shape
    # The rows, their mask, and at worst every entry once more with its column.
    step = max(1, budget_bytes // (max(1, n_vars) * (2 * array.dtype.itemsize + 9)))
    for start in range(0, n_obs, step):
        rows = np.asarray(array[start : start + step])
        where, columns = np.nonzero(rows)
        indptr = np.searchsorted(where, np.arange(len(rows) + 1)).astype(np.int64)
        yield CsrBlock(start, indptr, columns.astype(np.int32), rows[where, columns])


def check_pointers(indptr: NDArray[np.int64], n_vars: int, first: int = 0) -> None:
    """Refuse row pointers that no matrix has, before a row is read whole.

    Parameters
    ----------
    indptr : ndarray (n + 1,) int64
        Pointers of rows `first:first + n`.
    n_vars : int
        Columns.

    Raises
    ------
    InputError
        They do not ascend from 0, or a row has more entries than there are columns.
    """
    lengths = np.diff(indptr)
    if (first == 0 and indptr[0] != 0) or (lengths < 0).any():
        raise InputError(Fault("counts", "row pointers do not ascend; the file is damaged"))
    if (lengths > n_vars).any():
        row = int(np.argmax(lengths))
        raise InputError(
            Fault(
                "counts",
                f"expected at most {n_vars:,} entries a row, one a gene, but got {lengths[row]:,} "
                f"in row {first + row}; sum repeated genes first",
            )
        )


def _csr(node: Any, n_vars: int, budget_bytes: int) -> Iterator[CsrBlock]:
    indptr = np.asarray(node["indptr"][:]).astype(np.int64)
    check_pointers(indptr, n_vars)
    data, indices = _without_gaps(node["data"]), node["indices"]
    entries = max(1, budget_bytes // (data.dtype.itemsize + indices.dtype.itemsize + 4))
    start, n_obs = 0, indptr.size - 1
    while start < n_obs:
        stop = int(np.searchsorted(indptr, indptr[start] + entries, side="right")) - 1
        stop = min(max(stop, start + 1), n_obs)
        low, high = int(indptr[start]), int(indptr[stop])
        columns = as_int32(np.asarray(indices[low:high]))
        yield CsrBlock(start, indptr[start : stop + 1] - low, columns, np.asarray(data[low:high]))
        start = stop


def csc_blocks(
    indptr: NDArray[np.int64],
    facts: MatrixFacts,
    budget_bytes: int,
    read: Callable[[int, int], tuple[NDArray[Any], NDArray[Any]]],
) -> Iterator[CsrBlock]:
    """Transpose CSC out of core: read once, sorted by rows in temporary files.

    Parameters
    ----------
    indptr : ndarray (n_vars + 1,) int64
        Column pointers.
    facts : MatrixFacts
        What the header of the matrix says.
    budget_bytes : int
        Memory that may be used.
    read : callable
        Rows and numbers of entries `low:high`; asked for front to back.

    Raises
    ------
    InputError
        Pointers do not ascend from 0, or a row is none of the matrix.
    """
    nnz = facts.nnz or 0
    if indptr[0] != 0 or (np.diff(indptr) < 0).any() or indptr[-1] != nnz:
        raise InputError(Fault("counts", "column pointers do not ascend; the file is damaged"))

    def entries(low: int, high: int) -> Entries:
        indices, data = read(low, high)
        rows = as_int32(indices).astype(np.int64)
        if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < facts.n_obs:
            raise InputError(
                Fault("counts", f"a row lies outside 0..{facts.n_obs - 1}; the file is damaged")
            )
        columns = np.searchsorted(indptr, np.arange(low, high), side="right") - 1
        return Entries(rows, columns.astype(np.int32), data)

    step = max(_SAMPLE, budget_bytes // (4 * (facts.dtype.itemsize + 24)))
    pieces = (entries(low, min(low + step, nnz)) for low in range(0, nnz, step))
    yield from sorted_blocks(
        pieces, facts.n_obs, np.dtype(facts.dtype), nnz=nnz, budget_bytes=budget_bytes // 2
    )


def _csc(node: Any, facts: MatrixFacts, budget_bytes: int) -> Iterator[CsrBlock]:
    indptr = np.asarray(node["indptr"][:]).astype(np.int64)
    data, indices = _without_gaps(node["data"]), node["indices"]

    def read(low: int, high: int) -> tuple[NDArray[Any], NDArray[Any]]:
        return np.asarray(indices[low:high]), np.asarray(data[low:high])

    yield from csc_blocks(indptr, facts, budget_bytes, read)
