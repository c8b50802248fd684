"""Dense tables of counts, cells by genes, as sparse rows streamed block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..source import CsrBlock
from .dense_text import text_rows

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from .table import Table

__all__ = ["DenseCounts"]


@dataclass(frozen=True, slots=True)
class DenseCounts:
    """A matrix whose genes are columns of a table; zeros are dropped as it streams by.

    Text of plain whole numbers is parsed to sparse rows by a compiled pass over its bytes, some
    400 MB/s on one core; Arrow parses what holds anything else, and Parquet.

    Memory: one block of the table (4 MiB of text) and its entries that are not zero; where Arrow
    parses, all of its numbers as float64.
    """

    table: Table
    """Where the columns lie."""
    genes: tuple[str, ...]
    """Columns, in the order of the matrix."""
    rows: NDArray[np.int64] | None = None
    """Rows of the table that are cells, ascending; None takes all."""

    @property
    def n_obs(self) -> int:
        """Cells."""
        return self.table.n_rows if self.rows is None else int(self.rows.size)

    @property
    def n_vars(self) -> int:
        """Features."""
        return len(self.genes)

    @property
    def nnz(self) -> int | None:
        """Entries: only reading tells."""
        return None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the entries: text is parsed as float64, which holds every count."""
        return np.dtype(np.float64)

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield the rows of one block of the table after another."""
        start = 0
        for block in self._parsed(budget_bytes):
            yield CsrBlock(start, block.indptr, block.indices, block.data)
            start += block.n_rows

    def _parsed(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Blocks whose first rows are not numbered yet."""
        import pyarrow as pa

        from .text_table import TextTable

        if isinstance(self.table, TextTable):
            for first, found in text_rows(self.table, self.genes, self.rows, budget_bytes):
                if isinstance(found, CsrBlock):
                    yield found
                else:
                    yield from self._of_batches(found, first, budget_bytes)
        else:
            types = dict.fromkeys(self.genes, pa.float64())
            yield from self._of_batches(self.table.batches(self.genes, types), 0, budget_bytes)

    def _of_batches(
        self, batches: Iterable[pa.RecordBatch], first: int, budget_bytes: int
    ) -> Iterator[CsrBlock]:
        """Sparse rows of Arrow batches; `first` is the row of the table of the first of them."""
        rows = max(1, budget_bytes // (16 * max(1, len(self.genes))))
        for batch in batches:
            for at in range(0, batch.num_rows, rows):
                part = batch.slice(at, rows)
                kept = self._kept(first + at, part.num_rows)
                if kept is None or kept.size:
                    yield _sparse(part, kept)
            first += batch.num_rows

    def _kept(self, start: int, n: int) -> NDArray[np.int64] | None:
        """Rows of a part that are cells, None when all are."""
        if self.rows is None:
            return None
        low, high = np.searchsorted(self.rows, [start, start + n])
        return None if high - low == n else self.rows[low:high] - start


def _sparse(batch: Any, kept: NDArray[np.int64] | None) -> CsrBlock:
    n_rows = batch.num_rows if kept is None else kept.size
    dense = np.empty((n_rows, batch.num_columns))
    for k, column in enumerate(batch.columns):
        values = column.to_numpy(zero_copy_only=False)
        dense[:, k] = values if kept is None else values[kept]
    filled = dense != 0
    indptr = np.concatenate([[0], np.cumsum(filled.sum(axis=1))]).astype(np.int64)
    return CsrBlock(0, indptr, np.nonzero(filled)[1].astype(np.int32), dense[filled])
