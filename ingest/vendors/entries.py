"""Matrices given as single entries that may repeat, such as molecules to be put into bins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..triples import Entries, sorted_blocks, sorting_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..source import CsrBlock

__all__ = ["EntryCounts", "EntryPiece"]


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

    Memory: what a piece takes, and the budget of a block. Scratch space: 20 bytes an entry.
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

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number type of the sums."""
        return np.dtype(np.int64 if self.whole else np.float64)

    @property
    def nnz(self) -> int | None:
        """Upper bound of the entries; how many repeat only reading tells."""
        return min(self.n_entries, self.n_obs * self.n_vars)

    @property
    def scratch_bytes(self) -> int:
        """Disk that sorting the entries takes."""
        return sorting_bytes(self.n_entries, self.dtype)

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield all rows once, in order, each block within `budget_bytes`."""
        return sorted_blocks(
            (_inside(piece) for piece in self.pieces()),
            self.n_obs,
            self.dtype,
            nnz=self.n_entries,
            budget_bytes=budget_bytes,
            sum_duplicates=True,
        )


def _inside(piece: EntryPiece) -> Entries:
    kept = np.flatnonzero((piece.rows >= 0) & (piece.columns >= 0))
    return Entries(piece.rows[kept], piece.columns[kept].astype(np.int32), piece.values[kept])
