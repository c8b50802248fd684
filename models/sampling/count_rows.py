"""Rows of the counts of many sections as plain arrays, out of a cache of decoded chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import BudgetExceeded, Corrupt
from .chunk_cache import ChunkCache
from .tile_buffers import BufferPool
from .tile_kernels import copy_entries, keep_columns, mark_chunks, read_spans

if TYPE_CHECKING:
    from ...atlas.section import Section

__all__ = ["CountRows", "SparseRows", "entry_types"]

_FLOAT32 = np.dtype(np.float32)
_POINTER_ROWS = 32_768  # row pointers take so little that many are read at once


@dataclass(frozen=True, slots=True)
class SparseRows:
    """Some rows of counts.

    Attributes
    ----------
    indptr : ndarray (m + 1,) int32
    columns : ndarray (e,) int32
    values : ndarray (e,)
    depth : ndarray (m,) float32
        Sum of each row over all genes, also those that were not asked for.
    """

    indptr: NDArray[np.int32]
    columns: NDArray[np.int32]
    values: NDArray[Any]
    depth: NDArray[np.float32]


class CountRows:
    """Counts of the cells of some sections, by section and row; shared by threads.

    Parameters
    ----------
    sections : sequence of Section
    genes : sequence of ndarray (g,) int64, optional
        Matrix columns of the genes wanted, for each section; -1 where it lacks one. All genes,
        as the matrix has them, without.
    pointer_bytes, entry_bytes : int
        Memory for row pointers and for entries.
    read_rows : int
        Rows read at once, about, when the seeds of a batch lack some.
    threads : int
    buffers : BufferPool, optional
        Where the memory of rows comes from.
    dtype : dtype
        Number type of the values handed out; those stored must fit.
    """

    def __init__(
        self,
        sections: Sequence["Section"],
        genes: Sequence[NDArray[np.int64]] | None = None,
        *,
        pointer_bytes: int,
        entry_bytes: int,
        read_rows: int = 4096,
        threads: int = 1,
        buffers: BufferPool | None = None,
        dtype: np.dtype[Any] = _FLOAT32,
    ) -> None:
        self._dtype = dtype
        self._buffers = BufferPool(0) if buffers is None else buffers
        arrays = [section.count_arrays() for section in sections]
        for section, (data, indices, _) in zip(sections, arrays, strict=True):
            if data.layout.chunk != indices.layout.chunk or data.layout.dtype == "string":
                raise Corrupt(
                    f"values and columns in chunks of one length are wanted, but got "
                    f"{data.layout.chunk} and {indices.layout.chunk} in section {section.name!r}"
                )
        self.sections = tuple(sections)
        self._pointers = ChunkCache(
            [(indptr,) for _, _, indptr in arrays],
            [(np.dtype(indptr.layout.dtype),) for _, _, indptr in arrays],
            pointer_bytes,
            threads,
        )
        kept = [entry_types(section) for section in sections]
        self._columns_first = [columns.itemsize >= values.itemsize for columns, values in kept]
        pairs = list(zip(arrays, kept, self._columns_first, strict=True))
        self._entries = ChunkCache(
            [(i, d) if first else (d, i) for (d, i, _), _, first in pairs],
            [each if first else each[::-1] for _, each, first in pairs],
            entry_bytes,
            threads,
        )
        per_row = [section.entry.nnz / max(section.n_obs, 1) for section in sections]
        self._group = [
            max(1, round(read_rows * each / self._entries.chunk_length(number)))
            for number, each in enumerate(per_row)
        ]
        self._pointer_group = max(1, _POINTER_ROWS // self._pointers.chunk_length(0))
        self._target = None if genes is None else _targets(sections, genes)
        self.n_genes = sections[0].n_vars if genes is None else len(genes[0])

    @property
    def requests(self) -> int:
        """Reads made so far."""
        return self._pointers.requests + self._entries.requests

    @property
    def bytes_read(self) -> int:
        """Compressed bytes read so far."""
        return self._pointers.bytes_read + self._entries.bytes_read

    def read(self, section: NDArray[np.int64], row: NDArray[np.int64], n_seeds: int) -> SparseRows:
        """Read some rows.

        Parameters
        ----------
        section, row : ndarray (m,) int64
        n_seeds : int
            Of the first ones, the surroundings will be wanted soon.

        Returns
        -------
        SparseRows

        Raises
        ------
        Corrupt
            What is stored cannot be.
        BudgetExceeded
            A single row does not fit into the cache.
        """
        start, stop = np.empty(len(row), np.int64), np.empty(len(row), np.int64)
        parts = _by_section(section)
        for number, chosen in parts:
            self._spans(number, row, chosen, start, stop)
        rows = _room_for(stop - start, self._dtype, self._buffers)
        for number, chosen in parts:
            self._copy(number, chosen, (start, stop), rows, n_seeds)
        if self._target is None:
            return rows
        fewer = np.empty_like(rows.indptr)
        keep_columns(section, self._target, rows.indptr, rows.columns, rows.values, fewer)
        kept = int(fewer[-1])
        # copies let go of the genes that were dropped
        return SparseRows(fewer, rows.columns[:kept].copy(), rows.values[:kept].copy(), rows.depth)

    def _spans(
        self,
        number: int,
        row: NDArray[np.int64],
        chosen: NDArray[np.int64],
        start: NDArray[np.int64],
        stop: NDArray[np.int64],
    ) -> None:
        cache, length = self._pointers, self._pointers.chunk_length(number)
        view = cache.view(number, 0)
        for part, chunks in self._pieces(cache, number, row[chosen], row[chosen] + 2):
            which = chosen[part]
            low, high = np.empty(len(which), np.int64), np.empty(len(which), np.int64)
            ahead = _groups(cache, number, chunks, self._pointer_group)
            with cache.pinned(number, chunks, ahead):
                slots = cache.slots(number)
                read_spans(
                    row[which], slots, length, view.memory, view.stride, view.first, low, high
                )
            start[which], stop[which] = low, high
        nnz = self.sections[number].entry.nnz
        if ((start[chosen] < 0) | (stop[chosen] < start[chosen]) | (stop[chosen] > nnz)).any():
            raise Corrupt(
                f"ascending row pointers within {nnz} entries are wanted, but got others in "
                f"section {self.sections[number].name!r}; run `tisseract verify`"
            )

    def _copy(
        self,
        number: int,
        chosen: NDArray[np.int64],
        spans: tuple[NDArray[np.int64], NDArray[np.int64]],
        out: SparseRows,
        n_seeds: int,
    ) -> None:
        cache, length = self._entries, self._entries.chunk_length(number)
        first = self._columns_first[number]
        where, what = cache.view(number, int(not first)), cache.view(number, int(first))
        low, high = spans[0][chosen], spans[1][chosen]
        to = out.indptr[chosen].astype(np.int64)
        depth = np.empty(len(chosen), np.float32)
        most = 0
        for part, chunks in self._pieces(cache, number, low, high):
            # what fits is all wanted some time; else only what lies where the seeds go
            end = part.stop if cache.holds_all else int(np.searchsorted(chosen, n_seeds))
            seeds = slice(part.start, min(part.stop, end))
            ahead = _neighbors(cache, number, low[seeds], high[seeds], self._group[number])
            with cache.pinned(number, chunks, ahead):
                found = copy_entries(
                    low[part],
                    high[part],
                    cache.slots(number),
                    length,
                    where.memory,
                    where.stride,
                    where.first,
                    what.memory,
                    what.stride,
                    what.first,
                    to[part],
                    out.columns,
                    out.values,
                    depth[part],
                )
            most = max(most, found)
        # compiled loops trust columns; a damaged file must stop here
        if most >= self.sections[number].n_vars:
            raise Corrupt(
                f"columns in 0..{self.sections[number].n_vars - 1} are wanted, but got others in "
                f"section {self.sections[number].name!r}; run `tisseract verify`"
            )
        out.depth[chosen] = depth

    def _pieces(
        self,
        cache: ChunkCache,
        number: int,
        low: NDArray[np.int64],
        high: NDArray[np.int64],
    ) -> list[tuple[slice, NDArray[np.int64]]]:
        """Cut spans into pieces whose chunks fit the cache: (which spans, chunks)."""
        waiting, pieces = [slice(0, len(low))], []
        while waiting:
            part = waiting.pop()
            flags = np.zeros(cache.n_chunks(number), dtype=np.bool_)
            mark_chunks(low[part], high[part], cache.chunk_length(number), flags)
            chunks = np.flatnonzero(flags)
            if len(chunks) <= cache.capacity:
                pieces.append((part, chunks))
                continue
            half = (part.start + part.stop) // 2
            if half == part.start:
                raise BudgetExceeded(
                    f"memory for {len(chunks)} chunks of one row of section "
                    f"{self.sections[number].name!r} is wanted, but got room for "
                    f"{cache.capacity}; raise `memory_limit`"
                )
            waiting += [slice(half, part.stop), slice(part.start, half)]
        return pieces


def _room_for(sizes: NDArray[np.int64], dtype: np.dtype[Any], buffers: BufferPool) -> SparseRows:
    """Rows of some sizes, yet to be filled."""
    indptr = np.zeros(len(sizes) + 1, dtype=np.int32)
    np.cumsum(sizes, out=indptr[1:])
    n = int(indptr[-1])
    depth = np.empty(len(sizes), dtype=np.float32)
    return SparseRows(indptr, buffers.empty(n, np.int32), buffers.empty(n, dtype), depth)


def _neighbors(
    cache: ChunkCache, number: int, low: NDArray[np.int64], high: NDArray[np.int64], size: int
) -> NDArray[np.int64]:
    """Chunks of the groups that lack some of those of the given spans."""
    flags = np.zeros(cache.n_chunks(number), dtype=np.bool_)
    mark_chunks(low, high, cache.chunk_length(number), flags)
    return _groups(cache, number, np.flatnonzero(flags), size)


def _groups(
    cache: ChunkCache, number: int, chunks: NDArray[np.int64], size: int
) -> NDArray[np.int64]:
    """Chunks of the groups of `size` that lack some of the given ones."""
    lacking = chunks[cache.slots(number)[chunks] < 0]
    group = np.unique(lacking // size)
    found = (group[:, None] * size + np.arange(size)).ravel()
    return found[found < cache.n_chunks(number)]


def entry_types(section: "Section") -> tuple[np.dtype[Any], np.dtype[Any]]:
    """Return the number types in which columns and values of a section are kept."""
    data, indices, _ = section.count_arrays()
    columns = np.dtype(indices.layout.dtype)
    if section.n_vars <= np.iinfo(np.uint16).max:
        columns = np.dtype(np.uint16)
    return columns, np.dtype(data.layout.dtype)


def _by_section(section: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    """Numbers of the rows of each section, ascending."""
    if section.size and section.min() == section.max():
        return [(int(section[0]), np.arange(len(section)))]
    return [(int(s), np.flatnonzero(section == s)) for s in np.unique(section)]


def _targets(
    sections: Sequence["Section"], genes: Sequence[NDArray[np.int64]]
) -> NDArray[np.int32]:
    """Return the new number of each column of each section, (sections, most columns) int32."""
    out = np.full((len(sections), max(s.n_vars for s in sections)), -1, dtype=np.int32)
    for number, columns in enumerate(genes):
        have = np.flatnonzero(columns >= 0)
        out[number, columns[have]] = have
    return out
