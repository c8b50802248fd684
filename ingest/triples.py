"""Entries of a matrix in any order, sorted by row out of core: (row, column, number) to CSR blocks.

::

    pieces in any order ──▶ files, one a range of rows ──▶ each sorted in memory ──▶ CSR blocks
                                   └─ a file too large for the budget is divided again
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .scratch import scratch_folder
from .source import CsrBlock

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Entries", "sorted_blocks", "sorting_bytes"]

_FEWEST = 1 << 15  # entries sorted at once, whatever the budget: some 2 MiB
_MOST_FILES = 256  # ranges that a piece is scattered to at a time
_COPIES = 3  # of an entry while a range is sorted: as read, its order, as sorted


@dataclass(frozen=True, slots=True)
class Entries:
    """Some entries of a matrix."""

    rows: NDArray[np.int64]
    """(k,) rows, inside the matrix."""
    columns: NDArray[np.int32]
    """(k,)"""
    values: NDArray[Any]
    """(k,) numbers."""


@dataclass(frozen=True, slots=True)
class _Job:
    folder: Path
    record: np.dtype[Any]
    most: int
    sum_duplicates: bool


def sorted_blocks(
    pieces: Iterable[Entries],
    n_obs: int,
    dtype: np.dtype[Any],
    *,
    nnz: int | None,
    budget_bytes: int,
    sum_duplicates: bool = False,
) -> Iterator[CsrBlock]:
    """Sort entries by row, then column, through files in the scratch folder of the section.

    Disk: see `sorting_bytes`.

    Parameters
    ----------
    pieces : iterable of Entries
        All entries, in any order.
    n_obs : int
        Rows of the matrix.
    dtype : dtype
        Of the numbers.
    nnz : int, optional
        Number of entries, if known; an estimate will do.
    budget_bytes : int
        Memory of a range while it is sorted, beside the piece that was handed in; at least some
        2 MiB are used. A row that has more entries than fit is still sorted at once.
    sum_duplicates : bool
        Add up entries of one cell and gene; otherwise both are handed on, and refused later.

    Yields
    ------
    CsrBlock
        Consecutive, all rows once.

    Examples
    --------
    >>> two = Entries(np.array([1, 0]), np.array([3, 2], np.int32), np.array([5, 7]))
    >>> block, = sorted_blocks([two], 2, np.dtype(np.int64), nnz=2, budget_bytes=1)
    >>> block.indptr.tolist(), block.indices.tolist(), block.data.tolist()
    ([0, 1, 2], [2, 3], [7, 5])
    """
    record = _record(dtype)
    most = max(_FEWEST, budget_bytes // (_COPIES * record.itemsize + 16))
    with tempfile.TemporaryDirectory(dir=scratch_folder(), prefix=".triples-") as name:
        job = _Job(Path(name), record, most, sum_duplicates)
        # Rows differ in length: aim at half.
        ranges = 1 + 2 * (nnz if nnz is not None else most * _MOST_FILES // 4) // most
        packed = (_packed(piece, record) for piece in pieces)
        yield from _divided(job, packed, (0, n_obs), ranges, "r")


def sorting_bytes(nnz: int | None, dtype: np.dtype[Any]) -> int:
    """Disk that sorting some entries takes; 0 where nobody knows how many there are.

    Examples
    --------
    >>> sorting_bytes(1000, np.dtype(np.float64))
    20000
    """
    return (nnz or 0) * _record(dtype).itemsize


def _record(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype([("row", "<i8"), ("column", "<i4"), ("value", dtype)])


def _packed(piece: Entries, record: np.dtype[Any]) -> NDArray[Any]:
    entries = np.empty(piece.rows.size, record)
    entries["row"], entries["column"], entries["value"] = piece.rows, piece.columns, piece.values
    return entries


def _divided(
    job: _Job, pieces: Iterable[NDArray[Any]], span: tuple[int, int], ranges: int, name: str
) -> Iterator[CsrBlock]:
    """Scatter entries of a span of rows to files, and sort one after the other."""
    low, high = span
    step = max(1, -(-(high - low) // max(1, min(ranges, _MOST_FILES))))
    files = [job.folder / f"{name}-{k}" for k in range(-(-(high - low) // step))]
    for entries in pieces:
        _scatter(entries, (entries["row"] - low) // step, files)
    for k, file in enumerate(files):
        start, stop = low + k * step, min(low + (k + 1) * step, high)
        size = file.stat().st_size // job.record.itemsize if file.exists() else 0
        if size > job.most and stop - start > 1:
            again = _reread(file, job)
            yield from _divided(job, again, (start, stop), 2 * size // job.most + 1, f"{name}-{k}")
        else:
            entries = np.fromfile(file, job.record) if size else np.empty(0, job.record)
            file.unlink(missing_ok=True)
            yield _block(entries, start, stop, job.sum_duplicates)


def _scatter(entries: NDArray[Any], at: NDArray[np.int64], files: list[Path]) -> None:
    order = np.argsort(at, kind="stable")
    edges = np.searchsorted(at[order], np.arange(len(files) + 1))
    entries = entries[order]
    for k in np.flatnonzero(np.diff(edges)).tolist():
        with files[k].open("ab") as file:
            entries[edges[k] : edges[k + 1]].tofile(file)


def _reread(file: Path, job: _Job) -> Iterator[NDArray[Any]]:
    """Hand out a file piece by piece, and remove it."""
    step = job.most * job.record.itemsize
    with file.open("rb") as opened:
        while part := opened.read(step):
            yield np.frombuffer(part, job.record)
    file.unlink()


def _block(entries: NDArray[Any], start: int, stop: int, sum_duplicates: bool) -> CsrBlock:
    entries = entries[np.lexsort((entries["column"], entries["row"]))]
    values = np.ascontiguousarray(entries["value"])
    rows, columns = entries["row"], entries["column"]
    if sum_duplicates and rows.size:
        fresh = np.ones(rows.size, bool)
        fresh[1:] = (np.diff(rows) != 0) | (np.diff(columns) != 0)
        first = np.flatnonzero(fresh)
        values = np.add.reduceat(values, first)
        rows, columns = rows[first], columns[first]
    indptr = np.searchsorted(rows, np.arange(start, stop + 1)).astype(np.int64)
    return CsrBlock(start, indptr, np.ascontiguousarray(columns), values)
