"""First half of the out-of-core sort: stream the source once, scatter its rows to bucket files."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .source import CountsSource, CsrBlock

__all__ = ["BadEntryError", "Bucket", "Scattered", "Segment", "read_segments", "scatter"]


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows that one source block contributed to a bucket, as they lie in the bucket's file."""

    offset: int
    n_rows: int
    nnz: int
    dtype: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """A contiguous range of rows and the file that holds them, in source order."""

    path: Path
    first_row: int
    stop_row: int
    segments: list[Segment] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scattered:
    """Result of the first pass over the matrix."""

    buckets: list[Bucket]
    row_nnz: NDArray[np.uint32]
    """(n,) entries of each row, in row order."""
    nnz: int
    """All entries; explicit zeros of the source are gone."""
    largest: float
    """Largest value."""
    index_dtype: np.dtype[Any]
    """Type of the columns in the files."""


def scatter(
    source: CountsSource,
    rank: NDArray[np.uint32],
    scratch: Path,
    *,
    bucket_rows: int,
    block_bytes: int,
    whole: bool,
    advance: Callable[[float], None],
) -> Scattered:
    """Stream the matrix once and append each row to the file of its bucket.

    Parameters
    ----------
    source : CountsSource
        The matrix, in source order.
    rank : (n,) uint32
        Row that each source row becomes.
    scratch : Path
        Folder for the bucket files.
    bucket_rows : int
        Rows of a bucket.
    block_bytes : int
        Budget of a block; three may be alive (read ahead, scattered, copied).
    whole : bool
        Whether values must be whole numbers that are not negative.
    advance : callable
        Told the fraction done.

    Raises
    ------
    BadEntryError
        A value that is not allowed, or a column outside the panel.
    InputError
        Blocks that do not add up to the rows.
    """
    n_obs = rank.size
    wide = source.n_vars > np.iinfo(np.uint16).max + 1
    index_dtype = np.dtype(np.int32 if wide else np.uint16)
    buckets = [
        Bucket(scratch / f"rows-{k}", start, min(start + bucket_rows, n_obs))
        for k, start in enumerate(range(0, n_obs, bucket_rows))
    ]
    row_nnz = np.zeros(n_obs, np.uint32)
    largest, total, expected = 0.0, 0, 0
    for block in ahead(source.blocks(block_bytes)):
        if block.start_row != expected or block.start_row + block.n_rows > n_obs:
            raise InputError(
                Fault("counts", f"expected row {expected} next, but got {block.start_row}")
            )
        top, written = _scatter_block(
            block, rank, row_nnz, buckets, source.n_vars, index_dtype, whole
        )
        largest, total = max(largest, top), total + written
        expected += block.n_rows
        advance(expected / n_obs)
    if expected != n_obs:
        raise InputError(Fault("counts", f"expected {n_obs} rows, but got {expected}"))
    return Scattered(buckets, row_nnz, total, largest, index_dtype)


def _scatter_block(  # noqa: PLR0917 - private, one caller
    block: CsrBlock,
    rank: NDArray[np.uint32],
    row_nnz: NDArray[np.uint32],
    buckets: list[Bucket],
    n_vars: int,
    index_dtype: np.dtype[Any],
    whole: bool,
) -> tuple[float, int]:
    """Copy one block's rows, grouped by bucket, and append each group to its file."""
    from ..atlas.sparse_kernels import scatter_rows

    bucket_rows = buckets[0].stop_row - buckets[0].first_row
    rows = rank[block.start_row : block.start_row + block.n_rows]
    order = np.argsort(rows // np.uint32(bucket_rows), kind="stable")
    # Two types of number are enough: each further one would be compiled on its own.
    single = block.data.dtype == np.float32
    numbers: NDArray[Any] = np.asarray(block.data, np.float32 if single else np.float64)
    top = float(numbers.max(initial=0.0))
    small = whole and top <= np.iinfo(np.uint16).max
    value_dtype = np.dtype(np.uint16 if small else np.uint32 if whole else np.float32)
    kept = np.empty(block.n_rows, np.uint32)
    columns = np.empty(numbers.size, index_dtype)
    values = np.empty(numbers.size, value_dtype)
    written, largest, bad_row, bad_at = scatter_rows(
        order, block.indptr, block.indices, numbers, n_vars, whole, kept, columns, values
    )
    if bad_row >= 0:
        column, value = int(block.indices[bad_at]), float(block.data[bad_at])
        raise BadEntryError(block.start_row + int(bad_row), column, value)
    rows = rows[order]
    row_nnz[rows] = kept
    edges = np.searchsorted(rows // np.uint32(bucket_rows), np.arange(len(buckets) + 1))
    starts = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
    for k, bucket in enumerate(buckets):
        low, high = int(edges[k]), int(edges[k + 1])
        if low < high:
            part = slice(int(starts[low]), int(starts[high]))
            _append(bucket, rows[low:high], kept[low:high], columns[part], values[part])
    return float(largest), int(written)


def _append(
    bucket: Bucket,
    rows: NDArray[np.uint32],
    lengths: NDArray[np.uint32],
    columns: NDArray[Any],
    values: NDArray[Any],
) -> None:
    with bucket.path.open("ab") as file:
        offset = file.tell()
        for part in (rows, lengths, columns, values):
            # The buffer itself: `tofile` would seek and flush for each part.
            file.write(memoryview(np.ascontiguousarray(part)).cast("B"))
    bucket.segments.append(Segment(offset, rows.size, columns.size, values.dtype.name))


class BadEntryError(Exception):
    """An entry that may not be stored: source row, column and value."""

    def __init__(self, row: int, column: int, value: float) -> None:
        super().__init__(row, column, value)
        self.row, self.column, self.value = row, column, value


def read_segments(
    bucket: Bucket, index_dtype: np.dtype[Any]
) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Yield rows, lengths, columns and values of each segment of a bucket."""
    with bucket.path.open("rb") as file:
        for segment in bucket.segments:
            file.seek(segment.offset)
            yield (
                np.fromfile(file, np.uint32, segment.n_rows),
                np.fromfile(file, np.uint32, segment.n_rows),
                np.fromfile(file, index_dtype, segment.nnz),
                np.fromfile(file, segment.dtype, segment.nnz),
            )


def ahead[T](items: Iterator[T]) -> Iterator[T]:
    """Yield items that a thread prepares one ahead, so that reading and scattering overlap."""
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def offer(item: tuple[bool, Any]) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not offer((True, item)):
                    return
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
            offer((False, error))
            return
        offer((False, None))

    thread = threading.Thread(
        target=copy_context().run, args=(work,), name="tisseract-read-ahead", daemon=True
    )
    thread.start()
    try:
        while True:
            more, item = ready.get()
            if not more:
                if item is not None:
                    raise item
                return
            yield item
            del item
    finally:
        stopped.set()
        thread.join()
