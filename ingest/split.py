"""One section out of a file of several: codes of an obs column, and parts masked by rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .scratch import scratch_bytes_of
from .source import (
    BooleanValues,
    CategoricalValues,
    ColumnValues,
    CountsSource,
    CsrBlock,
    StringValues,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MaskedCounts", "encode"]


def encode(values: ColumnValues) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Codes and labels of any column; -1 where missing, numbers in their shortest form.

    Examples
    --------
    >>> from tisseract.ingest.source import NumericValues
    >>> codes, labels = encode(NumericValues(np.array([10, 4, 10])))
    >>> codes.tolist(), labels
    ([1, 0, 1], ('4', '10'))
    """
    if isinstance(values, CategoricalValues):
        used = np.unique(values.codes[values.codes >= 0])
        place = np.full(len(values.categories) + 1, -1, dtype=np.int64)
        place[used] = np.arange(used.size)
        return place[values.codes], tuple(values.categories[code] for code in used.tolist())
    if isinstance(values, StringValues):
        return _encode_text(values)
    numbers: NDArray[np.generic] = values.values
    missing = np.zeros(numbers.size, dtype=bool) if values.mask is None else values.mask.copy()
    if isinstance(values, BooleanValues):
        missing_numbers = missing
    else:
        missing_numbers = missing | (np.isnan(numbers) if numbers.dtype.kind == "f" else False)
    found, codes = np.unique(numbers[~missing_numbers], return_inverse=True)
    placed = np.full(numbers.size, -1, dtype=np.int64)
    placed[~missing_numbers] = codes
    return placed, tuple(_label(value) for value in found.tolist())


def _label(value: object) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def _encode_text(values: StringValues) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    array = values.to_arrow().dictionary_encode()
    codes = np.asarray(array.indices).astype(np.int64)
    if values.mask is not None:
        codes[values.mask] = -1
    words = array.dictionary.to_pylist()
    used = sorted(np.unique(codes[codes >= 0]).tolist(), key=words.__getitem__)
    place = np.full(len(words) + 1, -1, dtype=np.int64)
    place[used] = np.arange(len(used))
    return place[codes], tuple(words[code] for code in used)


@dataclass(frozen=True, slots=True)
class MaskedCounts:
    """The rows of a matrix that belong to one section, picked while they stream by."""

    counts: CountsSource
    """The whole matrix."""
    rows: NDArray[np.int64]
    """Rows kept, ascending."""

    @property
    def n_obs(self) -> int:
        """Rows kept."""
        return int(self.rows.size)

    @property
    def n_vars(self) -> int:
        """Columns."""
        return self.counts.n_vars

    @property
    def nnz(self) -> int | None:
        """Stored entries: only reading tells."""
        return None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Number type of the entries."""
        return self.counts.dtype

    @property
    def scratch_bytes(self) -> int:
        """Disk that streaming the whole matrix takes."""
        return scratch_bytes_of(self.counts)

    def blocks(self, budget_bytes: int) -> Iterator[CsrBlock]:
        """Yield the kept rows of each block of the whole matrix, numbered anew."""
        start = 0
        # Half for the block that streams by, half for the rows picked from it.
        for block in self.counts.blocks(budget_bytes // 2):
            low, high = np.searchsorted(
                self.rows, [block.start_row, block.start_row + block.n_rows]
            )
            kept = self.rows[low:high] - block.start_row
            if kept.size == 0:
                continue
            lengths = np.diff(block.indptr)
            mask = np.zeros(block.n_rows, dtype=bool)
            mask[kept] = True
            entries = np.repeat(mask, lengths)
            indptr = np.concatenate([[0], np.cumsum(lengths[kept])]).astype(np.int64)
            yield CsrBlock(start, indptr, block.indices[entries], block.data[entries])
            start += int(kept.size)
