"""Dense counts in text, parsed from bytes to sparse rows; Arrow takes over where text is odd."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..reader import faults_of
from ..source import CsrBlock
from .text_lines import line_blocks

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from .text_table import TextTable

__all__ = ["text_rows"]

_LEAST_BLOCK, _BLOCK = 2**16, 2**22
_SHARE = 16  # parts of the budget that the text of a block may take


def text_rows(
    table: TextTable, genes: tuple[str, ...], rows: NDArray[np.int64] | None, budget_bytes: int
) -> Iterator[tuple[int, CsrBlock | list[pa.RecordBatch]]]:
    """Parse a table of counts, block by block: the first row of each, and its sparse rows.

    Blocks that hold more than plain whole numbers come as Arrow batches of all their rows.

    Memory: the text of a block, 4 MiB at most, and 12 bytes for every second of its bytes.

    Raises
    ------
    InputError
        What Arrow refuses; names the file.
    """
    from .dense_kernels import parse_rows

    column_of = np.full(len(table.names), -1, np.int32)
    place = {name: k for k, name in enumerate(table.names)}
    for k, gene in enumerate(genes):
        column_of[place[gene]] = k
    delimiter = np.uint8(ord(table.delimiter))
    block_bytes = min(_BLOCK, max(_LEAST_BLOCK, budget_bytes // _SHARE))
    first = 0
    with faults_of(table.path, "a table of counts", parsing=True):
        for text in line_blocks(table.path, table.head_rows, block_bytes):
            lines = np.frombuffer(text, np.uint8)
            most = text.count(b"\n")
            wanted = (
                np.arange(first, first + most)
                if rows is None
                else rows[slice(*np.searchsorted(rows, [first, first + most]))]
            )
            indptr = np.empty(most + 1, np.int64)
            indices, data = np.empty(lines.size // 2 + 1, np.int32), np.empty(lines.size // 2 + 1)
            kept, seen = parse_rows(
                lines, delimiter, column_of, wanted, first, indptr, indices, data
            )
            if seen < 0:
                odd = list(_by_arrow(table, genes, text))
                seen = sum(batch.num_rows for batch in odd)
                yield first, odd
            elif kept:
                n = int(indptr[kept])
                yield first, CsrBlock(0, indptr[: kept + 1], indices[:n], data[:n])
            first += seen


def _by_arrow(table: TextTable, genes: tuple[str, ...], text: bytes) -> Iterator[Any]:
    """Batches of some lines."""
    import pyarrow as pa

    types = dict.fromkeys(genes, pa.float64())
    yield from table.parse(io.BytesIO(text), list(genes), types, block_bytes=len(text) + 1)
