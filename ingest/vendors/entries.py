"""Matrices given as single entries in any order, turned into rows out of core.

Molecules to be binned, matrices listed gene by gene and lists of triples all come so: the entries
are scattered to files of row ranges, and each range is sorted in memory; entries of one cell and
gene are added up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..source import CsrBlock

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EntryCounts", "EntryPiece"]

_MOST_FILES = 4096
_LEAST_ENTRIES = 1 << 12  # fewer would spend the time on opening files


@dataclass(frozen=True, slots=True)
class EntryPiece:
    """Some entries, in the order of the file."""

    rows: NDArray[np.int64]
    """(k,) row of the matrix, -1 for what belongs to no row."""
    columns: NDArray[np.int64]
    """(k,) column, -1 for what belongs to none."""
    values: NDArray[Any]
    """(k,) numbers."""


@dataclass(frozen=True, slots=True)
class EntryCounts:
    """A `CountsSource` over entries in any order; those of one row and column are summed.

    Memory: what a piece takes, and the budget of a block. Scratch space: 8 bytes an entry and its
    number, in the system's temporary folder.
    """

    pieces: Callable[[], Iterator[EntryPiece]]
    """Streams all entries; called once for each reading."""
    n_obs: int
    """Rows."""
    n_vars: int
    """Columns."""
    n_entries: int
    """Entries at most, before those that repeat are summed."""
    whole: bool = True
    """Whether values are whole numbers: int64 instead of float64."""
    scratch: Path | None = None
    """Folder for temporary files; the system's own without."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number type of the sums."""
        return np.dtype(np.int64 if self.whole else np.float64)

    @property
    def nnz(self) -> int | None:
        """Upper bound of the entries; how many repeat only reading tells."""
        return min(self.n_entries, self.n_obs * self.n_vars)

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield all rows once, in order, each block within `budget_bytes`."""
        record = np.dtype([("row", "<i4"), ("column", "<i4"), ("value", self.dtype)])
        # In memory an entry is itself, its key, its place and what it becomes.
        most = max(1, budget_bytes // (3 * record.itemsize + 16))
        # Rows differ in length: aim at half.
        wanted = min(_MOST_FILES, -(-2 * self.n_entries // most), max(1, self.n_obs))
        step = max(1, -(-self.n_obs // max(1, wanted)))
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="entries-") as folder:
            files = [Path(folder, f"rows-{k}") for k in range(-(-self.n_obs // step))]
            self._scatter(files, step, max(_LEAST_ENTRIES, most), record)
            for k, file in enumerate(files):
                start, stop = k * step, min((k + 1) * step, self.n_obs)
                entries = np.fromfile(file, record) if file.exists() else np.empty(0, record)
                file.unlink(missing_ok=True)
                yield _summed(entries, start, stop, self.n_vars)

    def _scatter(self, files: list[Path], step: int, most: int, record: np.dtype[Any]) -> None:
        """Append the entries to the files of their rows, some hundred thousand at a time."""
        held: list[NDArray[Any]] = []
        n_held = 0
        for piece in self.pieces():
            inside = np.flatnonzero((piece.rows >= 0) & (piece.columns >= 0))
            entries = np.empty(inside.size, record)
            entries["row"] = piece.rows[inside]
            entries["column"] = piece.columns[inside]
            entries["value"] = piece.values[inside]
            held.append(entries)
            n_held += entries.size
            if n_held >= most:
                _append(files, step, np.concatenate(held))
                held, n_held = [], 0
        if held:
            _append(files, step, np.concatenate(held))


def _append(files: list[Path], step: int, entries: NDArray[Any]) -> None:
    owner = entries["row"] // step
    order = np.argsort(owner, kind="stable")
    entries, owner = entries[order], owner[order]
    edges = np.searchsorted(owner, np.arange(len(files) + 1))
    for k in np.flatnonzero(np.diff(edges)).tolist():
        with files[k].open("ab") as file:
            file.write(memoryview(entries[edges[k] : edges[k + 1]]).cast("B"))


def _summed(entries: NDArray[Any], start: int, stop: int, n_vars: int) -> CsrBlock:
    """Sort the entries of some rows and add up those of one row and column."""
    keys = (entries["row"].astype(np.int64) - start) * n_vars + entries["column"]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    values = entries["value"][order]
    sums = np.add.reduceat(values, first) if first.size else values
    rows, columns = np.divmod(keys[first], n_vars)
    indptr = np.zeros(stop - start + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=stop - start), out=indptr[1:])
    return CsrBlock(start, indptr, columns.astype(np.int32), np.ascontiguousarray(sums))
