"""Matrices in HDF5, streamed fast: chunks are fetched raw and inflated by threads outside h5py.

h5py inflates under one global lock; zlib outside it does not. Anything but plain, gzip or
byte-shuffled gzip storage is read by h5py itself.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError
from .matrix import MatrixFacts, check_pointers, csc_blocks
from .source import CsrBlock, as_int32
from .triples import sorting_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Hdf5Matrix", "Vector", "vector_bytes"]

_POINTERS = 1 << 18  # row pointers read at a time
_AHEAD = 6  # chunks being inflated; more would only hold memory
_AHEAD_BYTES = 16 * 2**20  # of them, when chunks are large
_PIECE_BYTES = 4 * 2**20  # of a chunk that is inflated piece by piece
_FEED_BYTES = 2**18
_SMALL = 2**20  # chunks up to this are part of what every process grows by
_SHUFFLE, _DEFLATE = 2, 1  # HDF5's filter numbers


class Vector:
    """A one-dimensional dataset read front to back.

    Parameters
    ----------
    dataset : h5py.Dataset
        Open dataset.
    pool : ThreadPoolExecutor
        Threads that inflate.
    """

    def __init__(self, dataset: Any, pool: ThreadPoolExecutor) -> None:
        self._dataset, self._pool = dataset, pool
        self.dtype: np.dtype[Any] = dataset.dtype
        self._raw = _raw_filters(dataset)
        self._chunk = int(dataset.chunks[0]) if dataset.chunks else 0
        self._most_ahead = _most_ahead(dataset)
        self._pieces: Iterator[NDArray[Any]] = iter(())
        self._next = 0  # chunk to ask for next
        self._tasks: deque[Future[NDArray[Any]]] = deque()
        self._left: NDArray[Any] = np.empty(0, self.dtype)
        self._at = 0

    def take(self, count: int) -> NDArray[Any]:
        """Return the next `count` elements.

        Raises
        ------
        InputError
            A chunk that cannot be inflated.
        """
        if self._raw is None:
            values = np.asarray(self._dataset[self._at : self._at + count])
            self._at += count
            return values
        out = np.empty(count, self.dtype)
        done = 0
        while done < count:
            if self._left.size == 0:
                self._left = self._next_chunk()
            part = self._left[: count - done]
            out[done : done + part.size] = part
            # An empty view would keep its whole chunk alive.
            rest = self._left[part.size :]
            self._left = rest if rest.size else np.empty(0, self.dtype)
            done += part.size
            del part, rest
        self._at += count
        return out

    def _next_chunk(self) -> NDArray[Any]:
        total = self._dataset.shape[0]
        if self._raw is not None and _in_pieces(self._dataset, self._raw):
            return self._next_piece(total)
        while len(self._tasks) < self._most_ahead and self._next * self._chunk < total:
            start = self._next * self._chunk
            mask, body = self._dataset.id.read_direct_chunk((start,))
            length = min(self._chunk, total - start)
            self._tasks.append(self._pool.submit(self._inflate, bytes(body), mask, length))
            self._next += 1
        if not self._tasks:
            raise InputError(Fault("counts", f"{self._dataset.name} ends before its pointers do"))
        return self._tasks.popleft().result()

    def _next_piece(self, total: int) -> NDArray[Any]:
        """Next piece of a chunk too large to be inflated whole."""
        piece = next(self._pieces, None)
        while piece is None:
            start = self._next * self._chunk
            if start >= total:
                raise InputError(
                    Fault("counts", f"{self._dataset.name} ends before its pointers do")
                )
            mask, body = self._dataset.id.read_direct_chunk((start,))
            if mask:
                raise self._damaged()
            self._next += 1
            self._pieces = self._inflate_in_pieces(body, min(self._chunk, total - start))
            piece = next(self._pieces, None)
        return piece

    def _inflate_in_pieces(self, body: bytes, length: int) -> Iterator[NDArray[Any]]:
        inflater, at = zlib.decompressobj(), 0
        left = length * self.dtype.itemsize
        while left:
            wanted = min(left, _PIECE_BYTES)
            out = bytearray()
            while len(out) < wanted:
                feed = inflater.unconsumed_tail
                if not feed:
                    feed, at = body[at : at + _FEED_BYTES], at + _FEED_BYTES
                try:
                    made = inflater.decompress(feed, wanted - len(out))
                except zlib.error as error:
                    raise self._damaged() from error
                if not made and not feed:
                    raise self._damaged()
                out += made
            yield np.frombuffer(out, self.dtype)
            left -= wanted

    def _inflate(self, body: bytes, mask: int, length: int) -> NDArray[Any]:
        """Undo the filters that were applied to a chunk; the mask says which were skipped."""
        assert self._raw is not None
        expected = self._chunk * self.dtype.itemsize
        filters = [f for k, f in enumerate(self._raw) if not mask >> k & 1]
        for number in reversed(filters):
            if number == _DEFLATE:
                try:
                    # Bounded, so that a hostile chunk cannot unpack into more than its size.
                    body = zlib.decompressobj().decompress(body, expected + 1)
                except zlib.error as error:
                    raise self._damaged() from error
            else:
                if len(body) % self.dtype.itemsize:
                    raise self._damaged()
                planes = np.frombuffer(body, np.uint8).reshape(self.dtype.itemsize, -1)
                body = planes.T.tobytes()
        if len(body) != expected:
            raise self._damaged()
        return np.frombuffer(body, self.dtype)[:length]

    def _damaged(self) -> InputError:
        return InputError(
            Fault("counts", f"{self._dataset.name} cannot be inflated; the file is damaged")
        )


def _most_ahead(dataset: Any) -> int:
    """Chunks to inflate at once: fewer where they are large."""
    return max(1, min(_AHEAD, _AHEAD_BYTES // max(1, _chunk_size(dataset))))


def _chunk_size(dataset: Any) -> int:
    return int(dataset.chunks[0]) * int(dataset.dtype.itemsize) if dataset.chunks else 0


def _in_pieces(dataset: Any, filters: list[int]) -> bool:
    """Whether chunks are large and can be inflated front to back; shuffled ones cannot."""
    return filters == [_DEFLATE] and _chunk_size(dataset) > _AHEAD_BYTES


def vector_bytes(dataset: Any) -> int:
    """Bytes that a `Vector` holds beside what it hands out; 0 where chunks are small."""
    size = _chunk_size(dataset)
    if size <= _SMALL:
        return 0
    filters = _raw_filters(dataset)
    if filters is None:
        return 2 * size  # as stored and as inflated, inside HDF5
    if _in_pieces(dataset, filters):
        return min(size, int(dataset.id.get_storage_size())) + 3 * _PIECE_BYTES
    # Those waiting, and of one more what is stored, inflated and unshuffled.
    return size * (_most_ahead(dataset) + 3)


def _raw_filters(dataset: Any) -> list[int] | None:
    """Filter numbers when chunks can be inflated here, else None."""
    if not dataset.chunks or dataset.ndim != 1 or dataset.dtype.kind not in "iuf":
        return None
    properties = dataset.id.get_create_plist()
    numbers = [properties.get_filter(k)[0] for k in range(properties.get_nfilters())]
    allowed = numbers in ([], [_DEFLATE], [_SHUFFLE, _DEFLATE])
    # A chunk that was never written holds the fill value and has no bytes to fetch.
    whole = dataset.id.get_num_chunks() == -(-dataset.shape[0] // dataset.chunks[0])
    return numbers if allowed and whole else None


@dataclass(frozen=True, slots=True)
class Hdf5Matrix:
    """A matrix in HDF5 (CSR, CSC or dense) that is opened when it is streamed; a `CountsSource`.

    All are read once; CSC is sorted by rows in temporary files, as large as its entries.
    """

    open: Callable[[], AbstractContextManager[Any]]
    """Opens the group or dataset."""
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
        """Yield all rows once, in order, in blocks that stay within `budget_bytes`."""
        with self.open() as node, ThreadPoolExecutor(2, "tisseract-inflate") as pool:
            if self.facts.layout == "dense":
                yield from _dense(node, budget_bytes)
            elif self.facts.layout == "csr":
                yield from _csr(node, self.facts, budget_bytes, pool)
            else:
                yield from _csc(node, self.facts, budget_bytes, pool)


def _dense(dataset: Any, budget_bytes: int) -> Iterator[CsrBlock]:
    """Row slabs, a whole number of chunks high where that fits."""
    n_obs, n_vars = dataset.shape
    rows = max(1, budget_bytes // (max(1, n_vars) * (2 * dataset.dtype.itemsize + 9)))
    if dataset.chunks and rows >= dataset.chunks[0]:
        rows -= rows % dataset.chunks[0]
    for start in range(0, n_obs, rows):
        slab = np.asarray(dataset[start : start + rows])
        filled = slab != 0
        indptr = np.concatenate([[0], np.cumsum(filled.sum(axis=1, dtype=np.int64))])
        columns = np.flatnonzero(filled)
        columns %= max(1, n_vars)
        yield CsrBlock(start, indptr, columns.astype(np.int32), slab[filled])


def _csr(
    node: Any, facts: MatrixFacts, budget_bytes: int, pool: ThreadPoolExecutor
) -> Iterator[CsrBlock]:
    pointers = node["indptr"]
    data, indices = Vector(node["data"], pool), Vector(node["indices"], pool)
    # An element: its number, its index as stored and as int32.
    element = data.dtype.itemsize + indices.dtype.itemsize + 4 * (indices.dtype != np.int32)
    most = max(1, budget_bytes // element)
    for first in range(0, facts.n_obs, _POINTERS):
        last = min(first + _POINTERS, facts.n_obs)
        indptr = np.asarray(pointers[first : last + 1]).astype(np.int64)
        check_pointers(indptr, facts.n_vars, first)
        if indptr[-1] > (facts.nnz or 0):
            raise InputError(Fault("counts", "row pointers do not ascend; the file is damaged"))
        start = 0
        while start < last - first:
            stop = int(np.searchsorted(indptr, indptr[start] + most, side="right")) - 1
            stop = min(max(stop, start + 1), last - first)
            count = int(indptr[stop] - indptr[start])
            yield CsrBlock(
                first + start,
                indptr[start : stop + 1] - indptr[start],
                as_int32(indices.take(count)),
                data.take(count),
            )
            start = stop


def _csc(
    node: Any, facts: MatrixFacts, budget_bytes: int, pool: ThreadPoolExecutor
) -> Iterator[CsrBlock]:
    indptr = np.asarray(node["indptr"][:]).astype(np.int64)
    data, indices = Vector(node["data"], pool), Vector(node["indices"], pool)

    def take(low: int, high: int) -> tuple[NDArray[Any], NDArray[Any]]:
        return indices.take(high - low), data.take(high - low)

    yield from csc_blocks(indptr, facts, budget_bytes, take)
