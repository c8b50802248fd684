"""Appending to a sharded array: chunks are encoded in threads, shards streamed to their files.

Zarr's own writer holds a whole shard (uncompressed and compressed) in memory; this one holds a few
inner chunks, whatever the size of the array. What it writes is plain Zarr v3 `sharding_indexed`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from . import codecs
from .codecs import Codec, Grid

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from .section_columns import StringValues

__all__ = ["ArrayWriter", "TextWriter", "write_array", "write_node", "write_text"]

_JOB_BYTES = 1 << 20  # encoded as one task: long enough that handing it to a thread costs nothing
_PENDING = 4  # tasks in flight; with the job size this bounds what a writer holds


def write_node(folder: Path, metadata: dict[str, Any]) -> None:
    """Write the `zarr.json` of a group or array, making its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "zarr.json").write_text(json.dumps(metadata, allow_nan=False), encoding="utf-8")


class _ShardFiles:
    """Encoded chunks in, shard files out: blobs of each shard, then offsets and a checksum."""

    def __init__(self, folder: Path, grid: Grid, ndim: int) -> None:
        self._folder = folder / "c"
        self._tail = "/0" * (ndim - 1)
        self._per_shard = grid.shard // grid.chunk
        self._number = 0
        self._index: list[tuple[int, int]] = []
        self._position = 0
        self._file: IO[bytes] | None = None

    def put(self, blob: bytes) -> None:
        """Append the next chunk; a full shard is closed."""
        if self._file is None:
            path = self._folder / f"{self._number}{self._tail}"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb")
        self._file.write(blob)
        self._index.append((self._position, len(blob)))
        self._position += len(blob)
        if len(self._index) == self._per_shard:
            self.finish_shard()

    def finish_shard(self) -> None:
        """Write the index of the open shard; chunks past the end of the array stay absent."""
        if self._file is None:
            return
        index = np.full((self._per_shard, 2), np.iinfo(np.uint64).max, "<u8")
        index[: len(self._index)] = self._index
        self._file.write(codecs.seal(index.tobytes()))
        self._file.close()
        self._file, self._index, self._position = None, [], 0
        self._number += 1

    def abandon(self) -> None:
        """Close the open file without an index."""
        if self._file is not None:
            self._file.close()
            self._file = None


class _Appender:
    """Keeps encoding tasks in flight and puts their blobs in order."""

    def __init__(self, folder: Path, grid: Grid, ndim: int, pool: Executor | None) -> None:
        self._files = _ShardFiles(folder, grid, ndim)
        self._pool = pool
        self._tasks: deque[Future[list[bytes]]] = deque()

    def _submit(self, work: Callable[[], list[bytes]]) -> None:
        if self._pool is None:
            for blob in work():
                self._files.put(blob)
            return
        self._tasks.append(self._pool.submit(work))
        self._drain(_PENDING)

    def _drain(self, keep: int) -> None:
        while len(self._tasks) > keep or (self._tasks and self._tasks[0].done()):
            for blob in self._tasks.popleft().result():
                self._files.put(blob)

    def _finish(self) -> None:
        self._drain(0)
        self._files.finish_shard()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
            return
        for task in self._tasks:
            task.cancel()
        self._files.abandon()

    def close(self) -> None:
        """Encode what is left and complete the last shard."""
        raise NotImplementedError


class ArrayWriter(_Appender):
    """Writes a number array front to back; holds a few megabytes.

    A context manager: leaving it without an error completes the array, and raises ValueError when
    fewer or more rows were appended than the shape promises.

    Parameters
    ----------
    folder : Path
        Where the array goes.
    shape : tuple of int
        Full shape; only the first axis is chunked.
    dtype : numpy dtype
        Number type on disk; appended values are cast to it.
    grid : Grid
        Chunk and shard along the first axis.
    pool : Executor, optional
        Threads that encode; without it encoding happens in the caller.
    attributes : dict, optional
        Attributes of the array.
    codec : Codec
        How chunks are compressed.
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, ...],
        dtype: np.dtype[Any] | type | str,
        grid: Grid,
        *,
        pool: Executor | None = None,
        attributes: dict[str, object] | None = None,
        codec: Codec = codecs.ZSTD,
    ) -> None:
        super().__init__(folder, grid, len(shape), pool)
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._chunk, self._codec = grid.chunk, codec
        chunk_bytes = grid.chunk * int(np.prod(shape[1:], dtype=np.int64)) * self._dtype.itemsize
        self._job = grid.chunk * max(1, _JOB_BYTES // max(1, chunk_bytes))
        self._parts: list[NDArray[Any]] = []
        self._held = self._written = 0
        write_node(folder, codecs.array_metadata(shape, self._dtype.name, grid, attributes, codec))

    def __enter__(self) -> ArrayWriter:
        return self

    def append(self, values: NDArray[Any]) -> None:
        """Append rows; the caller must not change `values` afterwards.

        At most the tasks in flight keep `values` alive after this returns.
        """
        start = 0
        while start < values.shape[0]:
            take = min(self._job - self._held, values.shape[0] - start)
            part = values[start : start + take]
            # A short rest waits for the next call: copied, or it would hold all of `values`.
            self._parts.append(part if self._held + take == self._job else part.copy())
            self._held += take
            start += take
            if self._held == self._job:
                self._flush()

    def _flush(self) -> None:
        parts, rows = self._parts, self._held
        self._parts, self._held = [], 0
        self._written += rows

        def work() -> list[bytes]:
            block = parts[0] if len(parts) == 1 else np.concatenate(parts)
            block = np.ascontiguousarray(block, self._dtype)
            short = -rows % self._chunk
            if short:
                filler = np.zeros((short, *self._shape[1:]), self._dtype)
                block = np.concatenate([block, filler])
            return [
                codecs.encode(block[at : at + self._chunk], self._codec)
                for at in range(0, block.shape[0], self._chunk)
            ]

        self._submit(work)

    def close(self) -> None:
        """Complete the array.

        Raises
        ------
        ValueError
            Rows appended and the promised shape differ.
        """
        if self._held:
            self._flush()
        self._finish()
        if self._written != self._shape[0]:
            raise ValueError(f"expected {self._shape[0]} rows, but got {self._written}")


class TextWriter(_Appender):
    """Writes a string array front to back from packed strings; the same rules as `ArrayWriter`."""

    def __init__(
        self,
        folder: Path,
        length: int,
        grid: Grid,
        *,
        pool: Executor | None = None,
        attributes: dict[str, object] | None = None,
    ) -> None:
        super().__init__(folder, grid, 1, pool)
        self._length, self._chunk, self._written = length, grid.chunk, 0
        write_node(folder, codecs.array_metadata((length,), "string", grid, attributes))

    def __enter__(self) -> TextWriter:
        return self

    def append(self, strings: StringValues) -> None:
        """Append strings; every call but the last must bring a whole number of chunks."""
        if self._written % self._chunk:
            raise ValueError("only the last append may end inside a chunk")
        n = len(strings)
        self._written += n
        edges = [*range(0, n, self._chunk), n]

        def work() -> list[bytes]:
            return [
                codecs.encode_text(strings.text, strings.offsets[a : b + 1], self._chunk)
                for a, b in pairwise(edges)
            ]

        self._submit(work)

    def close(self) -> None:
        """Complete the array.

        Raises
        ------
        ValueError
            Strings appended and the promised length differ.
        """
        self._finish()
        if self._written != self._length:
            raise ValueError(f"expected {self._length} strings, but got {self._written}")


def write_array(
    folder: Path,
    values: NDArray[Any],
    grid: Grid | None = None,
    *,
    dtype: np.dtype[Any] | type | str | None = None,
    attributes: dict[str, object] | None = None,
    pool: Executor | None = None,
    codec: Codec = codecs.ZSTD,
) -> None:
    """Write a whole array that is in memory; without a grid it becomes one chunk.

    Another `dtype` than its own is cast to a megabyte at a time.
    """
    grid = grid or Grid(max(1, values.shape[0]), max(1, values.shape[0]))
    with ArrayWriter(
        folder,
        values.shape,
        values.dtype if dtype is None else dtype,
        grid,
        pool=pool,
        attributes=attributes,
        codec=codec,
    ) as writer:
        writer.append(values)


def write_text(
    folder: Path,
    strings: StringValues,
    grid: Grid | None = None,
    *,
    attributes: dict[str, object] | None = None,
) -> None:
    """Write a whole string array; without a grid it becomes one chunk."""
    grid = grid or Grid(max(1, len(strings)), max(1, len(strings)))
    with TextWriter(folder, len(strings), grid, attributes=attributes) as writer:
        writer.append(strings)
