"""Reading row runs of a sharded array with ranged requests; every byte is checked on the way.

Zarr's reader returns fill values for a chunk that is absent from its shard; this one raises
`Corrupt` and names the section, the array and the chunk.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from . import codecs
from .collected import refuse_collected
from .errors import Corrupt, MissingKey
from .section_layout import ArrayLayout, zarr_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .quadtree import Runs
    from .storage import Storage

__all__ = ["GAP_BYTES", "ArrayLayout", "RowArray", "whole_at_once", "zarr_layout"]

GAP_BYTES = 32_768  # bytes between wanted chunks that are cheaper to read than another request
_FEW = 4  # requests for an array that a small place should cost at most
_WIDE_GAP_BYTES = 98_304  # bytes read across to keep to that
_WHOLE_BYTES = 65_536  # a shard that cannot be larger is read in one request, index and all
_TEXT_ROW_BYTES = 64  # what the text of a cell takes at most, as a rule
_ABSENT = np.iinfo(np.uint64).max
_THREADED_CHUNKS = 16  # below this a hand-over to threads costs more than it saves
_CALL_CHUNKS = 8


def whole_at_once(layout: ArrayLayout) -> bool:
    """Whether an array lies in one shard so small that it is read in one request, index and all."""
    row_bytes = _TEXT_ROW_BYTES if layout.dtype == "string" else layout.row_bytes
    length = layout.shape[0]
    return length <= layout.shard and length * row_bytes <= _WHOLE_BYTES


@dataclass(frozen=True, slots=True)
class _Request:
    """Neighboring chunks of a shard that are read at once."""

    key: str
    start: int
    end: int
    numbers: list[int]
    offsets: list[int]
    """Where each chunk begins, from `start`."""
    sizes: list[int]


@dataclass(frozen=True, slots=True)
class _Shard:
    """Where the inner chunks of a shard lie in its file."""

    key: str
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]


class RowArray:
    """Read-only view of one array of a section; safe to share between threads.

    Parameters
    ----------
    storage : Storage
        Root of the atlas.
    prefix : str
        Key prefix of the array.
    layout : ArrayLayout
        Shape and grid.
    label : str
        Section and array, for messages.
    """

    def __init__(self, storage: Storage, prefix: str, layout: ArrayLayout, label: str) -> None:
        self.layout = layout
        self._storage, self._prefix, self._label = storage, prefix, label
        self._shards: dict[int, _Shard] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.layout.shape[0]

    def read(self, runs: Runs | None = None) -> NDArray[Any]:
        """Rows of some runs, one run after the other; all rows without `runs`.

        Returns
        -------
        (m, ...) array
            In the array's own number type, object strings for `string`. Holds the result and the
            compressed bytes of the chunks it touches.

        Raises
        ------
        Corrupt
            A chunk is missing or damaged.
        """
        layout = self.layout
        wanted = [(0, len(self))] if runs is None else [(int(a), int(b)) for a, b in runs]
        for start, stop in wanted:
            if not 0 <= start <= stop <= len(self):
                raise IndexError(
                    f"{self._label}: rows must lie in 0..{len(self)}, but got {start}:{stop}"
                )
        total = sum(stop - start for start, stop in wanted)
        out = np.empty(
            (total, *layout.shape[1:]), object if layout.dtype == "string" else layout.dtype
        )
        pieces = self._pieces(wanted)
        chunks = sorted({number for number, *_ in pieces})
        blobs = dict(self._fetch(chunks))
        items = list(blobs.items())
        if len(items) >= _THREADED_CHUNKS:
            # Several chunks to a call: small ones decode faster than a call is handed over.
            calls = [items[at : at + _CALL_CHUNKS] for at in range(0, len(items), _CALL_CHUNKS)]
            decoded = dict(chain.from_iterable(_pool().map(self._decode_all, calls)))
        else:
            decoded = dict(self._decode_all(items))
        for number, low, high, at in pieces:
            out[at : at + high - low] = decoded[number][low:high]
        return out

    def fill(self, chunks: Sequence[int], into: Sequence[NDArray[Any]]) -> tuple[int, int]:
        """Decode whole inner chunks into memory of the caller, without a copy.

        Parameters
        ----------
        chunks : ascending sequence of int
            Numbers of inner chunks.
        into : sequence of contiguous array (chunk, ...)
            Where each goes, in the array's own number type; a last chunk is padded.

        Returns
        -------
        tuple of int
            Requests made and compressed bytes read.

        Raises
        ------
        Corrupt
            A chunk is missing or damaged.
        """
        requests = self._requests(chunks)
        for (number, blob), out in zip(self._bodies(requests), into, strict=True):
            if not codecs.decode_into(blob, out):
                raise self._corrupt(number, "its checksum or length is wrong")
        return len(requests), sum(request.end - request.start for request in requests)

    def compressed_bytes(self, runs: Runs | None = None) -> int:
        """Bytes that reading some runs would fetch, shard indexes left out (they are kept)."""
        wanted = [(0, len(self))] if runs is None else list(runs)
        chunks = sorted({number for number, *_ in self._pieces(wanted)})
        return sum(int(self._place(number)[2]) for number in chunks)

    def _pieces(self, runs: Runs) -> list[tuple[int, int, int, int]]:
        """Cut runs at chunk edges: (chunk, first row in it, last, where it goes)."""
        size, at, pieces = self.layout.chunk, 0, []
        for start, stop in runs:
            row = start
            while row < stop:
                number = row // size
                end = min(stop, (number + 1) * size)
                pieces.append((number, row - number * size, end - number * size, at))
                at += end - row
                row = end
        return pieces

    def _requests(self, chunks: Sequence[int]) -> list[_Request]:
        """Put ascending chunks together that are near enough for one request."""
        if not len(chunks):
            return []
        number = np.asarray(chunks, np.int64)
        shard, inner = np.divmod(number, self.layout.shard // self.layout.chunk)
        offset, size = np.empty_like(number), np.empty_like(number)
        for one in np.unique(shard).tolist():
            chosen = shard == one
            places = self._shard(one)
            offset[chosen], size[chosen] = (
                places.offsets[inner[chosen]],
                places.sizes[inner[chosen]],
            )
        if (offset < 0).any():
            raise self._corrupt(int(number[offset < 0][0]), "it is absent from its shard")
        end = offset + size
        gap = offset[1:] - end[:-1]
        apart = (shard[1:] != shard[:-1]) | (gap < 0) | (gap > GAP_BYTES)
        _join_few(apart, np.where(shard[1:] == shard[:-1], gap, -1))
        edges = [0, *(np.flatnonzero(apart) + 1).tolist(), len(number)]
        return [
            _Request(
                self._shard(int(shard[a])).key,
                int(offset[a]),
                int(end[b - 1]),
                number[a:b].tolist(),
                (offset[a:b] - offset[a]).tolist(),
                size[a:b].tolist(),
            )
            for a, b in pairwise(edges)
        ]

    def _fetch(self, chunks: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Compressed bytes of ascending chunks; a small array is read whole with its index."""
        if not len(chunks) or 0 in self._shards or not whole_at_once(self.layout):
            yield from self._bodies(self._requests(chunks))
            return
        key = self._key(0)
        try:
            body = self._storage.get(key, max_bytes=4 * _WHOLE_BYTES)
        except MissingKey as error:
            refuse_collected(self._storage, key)
            raise self._corrupt(0, f"its shard {key} is missing") from error
        self._keep(0, self._index_of(0, body[-self._index_bytes() :], len(body)))
        for number in chunks:
            _, offset, size = self._place(number)
            yield number, body[offset : offset + size]

    def _bodies(self, requests: list[_Request]) -> Iterator[tuple[int, bytes]]:
        """Compressed bytes of the chunks of some requests, in their order."""

        def get(request: _Request) -> bytes:
            return self._get(request.key, request.start, request.end - request.start)

        remote = self._storage.local_path() is None and len(requests) > 1
        bodies = _pool().map(get, requests) if remote else map(get, requests)
        for request, body in zip(requests, bodies, strict=True):
            for number, offset, size in zip(
                request.numbers, request.offsets, request.sizes, strict=True
            ):
                yield number, body[offset : offset + size]

    def _decode_all(self, items: list[tuple[int, bytes]]) -> list[tuple[int, NDArray[Any]]]:
        return [(item[0], self._decode(item)) for item in items]

    def _decode(self, item: tuple[int, bytes]) -> NDArray[Any]:
        number, blob = item
        layout = self.layout
        if layout.dtype == "string":
            values = codecs.decode_text(blob, layout.chunk)
        else:
            values = codecs.decode(blob, np.dtype(layout.dtype), layout.chunk * layout.row_bytes)
        if values is None:
            raise self._corrupt(number, "its checksum or length is wrong")
        return values.reshape(layout.chunk, *layout.shape[1:])

    def _place(self, number: int) -> tuple[str, int, int]:
        """Key, offset and size of an inner chunk."""
        per_shard = self.layout.shard // self.layout.chunk
        shard = self._shard(number // per_shard)
        inner = number % per_shard
        offset, size = int(shard.offsets[inner]), int(shard.sizes[inner])
        if offset < 0:
            raise self._corrupt(number, "it is absent from its shard")
        return shard.key, offset, size

    def _shard(self, number: int) -> _Shard:
        with self._lock:
            known = self._shards.get(number)
        if known is not None:
            return known
        return self._keep(number, self._read_index(number))

    def _keep(self, number: int, shard: _Shard) -> _Shard:
        with self._lock:
            self._shards[number] = shard
        return shard

    def _key(self, shard: int) -> str:
        return f"{self._prefix}/c/{shard}" + "/0" * (len(self.layout.shape) - 1)

    def _index_bytes(self) -> int:
        return 16 * (self.layout.shard // self.layout.chunk) + 4

    def _read_index(self, number: int) -> _Shard:
        key, length = self._key(number), self._index_bytes()
        first = number * (self.layout.shard // self.layout.chunk)
        try:
            blob, size = self._storage.get_tail(key, length)
        except MissingKey as error:
            refuse_collected(self._storage, key)
            raise self._corrupt(first, f"its shard {key} is missing") from error
        return self._index_of(number, blob, size)

    def _index_of(self, number: int, blob: bytes, size: int) -> _Shard:
        """Check the index of a shard whose object has `size` bytes."""
        key, per_shard = self._key(number), self.layout.shard // self.layout.chunk
        first = number * per_shard
        payload = codecs.unseal(blob) if len(blob) == self._index_bytes() else None
        if payload is None:
            raise self._corrupt(first, f"the index of its shard {key} is damaged")
        table = np.frombuffer(payload, "<u8").reshape(per_shard, 2)
        absent = table[:, 0] == _ABSENT
        sane = (table[:, 0] <= size) & (table[:, 1] <= size) & (table.sum(axis=1) <= size)
        if not (sane | absent).all():
            raise self._corrupt(first, f"the index of its shard {key} points past its end")
        places = np.where(absent[:, None], -1, table.astype(np.int64, copy=False))
        return _Shard(key, places[:, 0], places[:, 1])

    def _get(self, key: str, start: int, length: int) -> bytes:
        try:
            body = self._storage.get_range(key, start, length)
        except MissingKey as error:
            refuse_collected(self._storage, key)
            raise Corrupt(f"{self._label}: the shard {key} is missing") from error
        if len(body) != length:
            raise Corrupt(f"{self._label}: the shard {key} is shorter than its index says")
        return body

    def _corrupt(self, chunk: int, why: str) -> Corrupt:
        return Corrupt(
            f"{self._label}: chunk {chunk} cannot be read, {why}; run `tisseract verify` and "
            "ingest the section again"
        )


def _join_few(apart: NDArray[np.bool_], gap: NDArray[np.int64]) -> None:
    """Join the nearest of a handful of requests, so that a small place costs few of them.

    `gap` is the bytes between neighboring chunks, below 0 where they cannot be joined.
    """
    n_requests = int(apart.sum()) + 1
    if not _FEW < n_requests <= 2 * _FEW:
        return
    near = np.flatnonzero(apart & (gap >= 0) & (gap <= _WIDE_GAP_BYTES))
    apart[near[np.argsort(gap[near], kind="stable")][: n_requests - _FEW]] = False


_POOLS: dict[int, ThreadPoolExecutor] = {}
_POOLS_LOCK = threading.Lock()


def _pool() -> ThreadPoolExecutor:
    """Return the decoding threads of this process; a forked child makes its own."""
    with _POOLS_LOCK:
        pool = _POOLS.get(os.getpid())
        if pool is None:
            _POOLS.clear()
            workers = min(8, os.cpu_count() or 1)
            pool = _POOLS[os.getpid()] = ThreadPoolExecutor(workers, "tisseract-read")
        return pool
