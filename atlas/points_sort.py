"""Sort record batches by Morton code on disk: memory is one bucket, whatever the number of rows.

Batches are scattered to files by the highest bits of the code; each file is read back whole and
sorted. A file that turned out too large is scattered again by its next bits. Rows of one code keep
the order of the source.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["CODE", "SortPlan", "plan_sort", "sorted_tables"]

CODE = "__morton__"
"""Column of codes that rows are sorted by; the last one, uint64."""

_CODE_BITS = 64
_MAX_LEVELS = 4  # 4**4 = 256 files are open at once
# A bucket is read, sorted and taken apart while the next one is sorted: several copies are alive.
_BUCKET_SHARE = 10
_BATCH_SHARE = 16


@dataclass(frozen=True, slots=True)
class SortPlan:
    """Into how many files rows are scattered, and what is held meanwhile."""

    levels: int
    """Quadtree levels of the first scatter: 4**levels files."""
    batch_bytes: int
    """Most bytes of a batch that is scattered."""
    bucket_bytes: int
    """Most bytes of a bucket that is sorted in memory; larger ones are scattered again."""


def plan_sort(nbytes: int | None, memory: int) -> SortPlan:
    """Choose files so that a bucket fits, and no more of them than needed.

    Parameters
    ----------
    nbytes : int, optional
        Size of all rows in memory; None when unknown.
    memory : int
        Bytes the sort may hold.

    Examples
    --------
    >>> plan_sort(1 << 20, 1 << 28).levels, plan_sort(None, 1 << 28).levels
    (0, 4)
    """
    bucket = max(1 << 20, memory // _BUCKET_SHARE)
    levels = _MAX_LEVELS if nbytes is None else _levels(nbytes, bucket)
    return SortPlan(levels, max(1 << 20, memory // _BATCH_SHARE), bucket)


def _levels(nbytes: int, bucket: int) -> int:
    # Tissue fills its square unevenly: half full on average, so that few are split.
    return next((k for k in range(_MAX_LEVELS) if nbytes <= (4**k) * bucket // 2), _MAX_LEVELS)


def sorted_tables(
    batches: Iterable[pa.RecordBatch], plan: SortPlan, scratch: Path
) -> Generator[pa.Table, None, None]:
    """Yield all rows as tables in ascending order of `CODE`.

    Parameters
    ----------
    batches : iterable of RecordBatch
        Rows in any order; the last column is `CODE`.
    plan : SortPlan
        From `plan_sort`.
    scratch : Path
        Folder for the buckets; what is put there is removed again.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix="points-") as folder:
        shift = _CODE_BITS - 2 * plan.levels
        # Arrow works without the lock of the interpreter: decoding, scattering, sorting and what
        # the caller does with a table go on side by side.
        yield from _ahead(_sort(_ahead(batches), plan, Path(folder), shift))


def _ahead[T](items: Iterable[T]) -> Iterator[T]:
    """Iterate in a thread, one item ahead of who asks."""
    end = object()
    iterator = iter(items)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, iterator, end)
        try:
            while (item := coming.result()) is not end:
                coming = pool.submit(next, iterator, end)
                yield item  # type: ignore[misc]
        finally:
            # Nothing may still be read when the caller cleans up.
            coming.cancel()
            pool.shutdown(wait=True)
            close = getattr(iterator, "close", None)
            if close is not None:
                close()


def _sort(
    batches: Iterable[pa.RecordBatch], plan: SortPlan, folder: Path, shift: int
) -> Iterator[pa.Table]:
    import pyarrow as pa
    from pyarrow import ipc

    buckets = _scatter(batches, folder, shift, 4**plan.levels, plan.batch_bytes)
    for bucket in sorted(buckets):
        path, nbytes = buckets[bucket]
        with pa.OSFile(str(path)) as file, ipc.open_stream(file) as stream:
            if nbytes <= plan.bucket_bytes:
                yield _sorted(stream.read_all())
            elif shift == 0:  # rows that no bit tells apart are in order already
                yield from (pa.Table.from_batches([batch]) for batch in stream)
            else:
                deeper = folder / f"{shift}-{bucket}"
                deeper.mkdir()
                # No finer than needed: crumbs of rows by the thousand cost more than they hold.
                levels = min(_levels(nbytes, plan.bucket_bytes), shift // 2)
                further = SortPlan(levels, plan.batch_bytes, plan.bucket_bytes)
                yield from _sort(stream, further, deeper, shift - 2 * levels)
        path.unlink()


def _sorted(table: pa.Table) -> pa.Table:
    table = table.combine_chunks()
    codes = table.column(CODE).to_numpy()
    return table.take(np.argsort(codes, kind="stable"))


def _scatter(
    batches: Iterable[pa.RecordBatch], folder: Path, shift: int, n: int, batch_bytes: int
) -> dict[int, tuple[Path, int]]:
    """Append each batch's rows to the file of their bucket; path and size of each file."""
    from pyarrow import ipc

    options = ipc.IpcWriteOptions(compression="lz4")
    sinks: dict[int, Any] = {}
    sizes: dict[int, int] = {}
    try:
        for batch in _joined(batches, batch_bytes):
            for piece in _cut(batch, batch_bytes):
                for bucket, rows in _by_bucket(piece, shift, n):
                    if bucket not in sinks:
                        path = str(folder / f"{bucket}.arrow")
                        sinks[bucket] = ipc.new_stream(path, rows.schema, options=options)
                        sizes[bucket] = 0
                    sinks[bucket].write_batch(rows)
                    sizes[bucket] += rows.nbytes
    finally:
        for sink in sinks.values():
            sink.close()
    return {bucket: (folder / f"{bucket}.arrow", size) for bucket, size in sizes.items()}


def _joined(batches: Iterable[pa.RecordBatch], nbytes: int) -> Iterator[pa.RecordBatch]:
    """Join small batches: each is cut into as many pieces as there are files."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        if held and size + batch.nbytes > nbytes:
            yield held[0] if len(held) == 1 else pa.concat_batches(held)
            held, size = [], 0
        held.append(batch)
        size += batch.nbytes
    if held:
        yield held[0] if len(held) == 1 else pa.concat_batches(held)


def _cut(batch: pa.RecordBatch, nbytes: int) -> Iterator[pa.RecordBatch]:
    rows = max(1, batch.num_rows * nbytes // max(nbytes, batch.nbytes, 1))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _by_bucket(batch: pa.RecordBatch, shift: int, n: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    if n == 1:
        yield 0, batch
        return
    codes = batch.column(batch.num_columns - 1).to_numpy()
    buckets: NDArray[np.int64] = ((codes >> np.uint64(shift)) & np.uint64(n - 1)).astype(np.int64)
    # Of numbers this small NumPy sorts by counting, four times as fast.
    order = np.argsort(buckets.astype(np.uint8), kind="stable")
    ordered = batch.take(order)
    edges = np.concatenate([[0], np.cumsum(np.bincount(buckets, minlength=n))])
    for bucket in np.flatnonzero(np.diff(edges)).tolist():
        start, stop = int(edges[bucket]), int(edges[bucket + 1])
        yield bucket, ordered.slice(start, stop - start)
