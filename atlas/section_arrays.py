"""Reading row runs of a sharded array with ranged requests; every byte is checked on the way.

Zarr's reader returns fill values for a chunk that is absent from its shard; this one raises
`Corrupt` and names the section, the array and the chunk.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from . import codecs
from .errors import Corrupt, MissingKey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .quadtree import Runs
    from .storage import Storage

__all__ = ["ArrayLayout", "RowArray", "zarr_layout"]

_GAP_BYTES = 16_384  # bytes between wanted chunks that are cheaper to read than another request
_ABSENT = np.iinfo(np.uint64).max
_DTYPES = frozenset(
    ["bool", "string", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_THREADED_CHUNKS = 16  # below this a hand-over to threads costs more than it saves
_CALL_CHUNKS = 8
_MAX_CHUNK_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """Shape and grid of an array, from the index of a section; cannot describe a hostile array.

    Raises
    ------
    Corrupt
        Lengths that are not positive, an unknown number type, or chunks beyond 1 GiB.
    """

    shape: tuple[int, ...]
    """Full shape; only the first axis is chunked."""
    dtype: str
    """NumPy name of a number type, `bool`, or `string`."""
    chunk: int
    """Rows of an inner chunk."""
    shard: int
    """Rows of a shard."""

    def __post_init__(self) -> None:
        lengths: tuple[Any, ...] = (*self.shape, self.chunk, self.shard)
        whole = all(type(v) is int and 0 <= v < 2**48 for v in lengths)
        if (
            not whole
            or not self.shape
            or self.dtype not in _DTYPES
            or self.chunk < 1
            or self.shard < 1
            or self.shard % self.chunk
            or self.chunk * self.row_bytes > _MAX_CHUNK_BYTES
        ):
            raise Corrupt(
                "an array of a section must have a sound shape, type and grid, but got "
                f"shape {self.shape}, type {self.dtype!r}, chunk {self.chunk}, shard {self.shard}; "
                "run `tisseract verify`"
            )

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> ArrayLayout:
        """Build from the JSON of the section's index."""
        try:
            return cls(
                tuple(described["shape"]),
                str(described["dtype"]),
                described["chunk"],
                described["shard"],
            )
        except (KeyError, TypeError) as error:
            raise Corrupt(f"an array's description misses a part, but got {described!r}") from error

    @property
    def row_bytes(self) -> int:
        """Uncompressed bytes of a row; 1 for strings, whose length varies."""
        size = 1 if self.dtype == "string" else np.dtype(self.dtype).itemsize
        return size * math.prod(self.shape[1:])


def zarr_layout(metadata: Any, label: str) -> ArrayLayout:
    """Read shape, type and grid of a sharded array from its own Zarr metadata.

    Raises
    ------
    Corrupt
        Not an array that is sharded along its first axis only.
    """
    try:
        rest = list(metadata["shape"])[1:]
        inner = metadata["codecs"][0]["configuration"]["chunk_shape"]
        outer = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        if list(inner)[1:] != rest or list(outer)[1:] != rest:
            raise ValueError(f"chunks {inner} and {outer}")
        return ArrayLayout.of(
            {
                "shape": metadata["shape"],
                "dtype": metadata["data_type"],
                "chunk": inner[0],
                "shard": outer[0],
            }
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Corrupt(
            "an array sharded along its first axis is wanted, but got something else in "
            f"{label}; run `tisseract verify`"
        ) from error


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
        blobs = dict(self._fetch(self._requests(chunks)))
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
        for (number, blob), out in zip(self._fetch(requests), into, strict=True):
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
        apart = (shard[1:] != shard[:-1]) | (gap < 0) | (gap > _GAP_BYTES)
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

    def _fetch(self, requests: list[_Request]) -> Iterator[tuple[int, bytes]]:
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
        shard = self._read_index(number)
        with self._lock:
            self._shards[number] = shard
        return shard

    def _read_index(self, number: int) -> _Shard:
        layout = self.layout
        per_shard = layout.shard // layout.chunk
        key = f"{self._prefix}/c/{number}" + "/0" * (len(layout.shape) - 1)
        length = 16 * per_shard + 4
        first = number * per_shard
        try:
            size = self._storage.size(key)
        except MissingKey as error:
            raise self._corrupt(first, f"its shard {key} is missing") from error
        blob = self._get(key, size - length, length) if size >= length else b""
        payload = codecs.unseal(blob)
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
            raise Corrupt(f"{self._label}: the shard {key} is missing") from error
        if len(body) != length:
            raise Corrupt(f"{self._label}: the shard {key} is shorter than its index says")
        return body

    def _corrupt(self, chunk: int, why: str) -> Corrupt:
        return Corrupt(
            f"{self._label}: chunk {chunk} cannot be read, {why}; run `tisseract verify` and "
            "ingest the section again"
        )


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
