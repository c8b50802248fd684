"""How a section will be sorted within a memory limit, decided before a byte is read."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from ..atlas.memory import format_bytes, refuse_above
from ..atlas.points_write import POINTS_BYTES
from .read_memory import ReadMemory

__all__ = ["PartitionPlan", "least_memory", "plan_partition", "return_memory"]

_MIB = 2**20

# Compiled kernels, codecs, Parquet and Zarr code, thread stacks: what the process grows by
# whatever the size of the data, when nothing was imported before. Measured 160 to 195 MiB.
_FIXED = 208 * _MIB
# More than this buys no speed: buckets of this size already stream.
_GENEROUS = 640 * _MIB
_LEAST_WORKING = 24 * _MIB

_ROW_BYTES_ORDER = 52  # source and scaled positions 32, codes 8, order 8, sorting 4
_ROW_BYTES_RINGS = 44  # source and scaled positions 32; order, rank and areas 4 each
_ROW_BYTES_SORT = 28  # source positions 16, order, rank and row lengths 4 each
_ROW_BYTES_TEXT = 52  # those, offsets and lengths 16, and hashes with their order 16, less 8
_IMAGE_BANDS = 4  # a band may be this many chunks high, where memory is there
_QUALITY = 12 * _MIB  # one stretch of rows, and three histograms; measured 9
_NOTHING = ReadMemory()
_ELEMENT_BYTES = 16  # one element in a bucket: index and value, by rows and by genes
_BLOCK_SHARE = 12  # a block is this part of the working memory; three may be alive
_BUFFERS = 96 * _MIB  # chunks being encoded, segments being read; a third where memory is short


@dataclass(frozen=True, slots=True)
class PartitionPlan:
    """What writing one section will hold in memory and put in scratch space.

    Printing it shows the figures.
    """

    n_obs: int
    """Cells."""
    n_vars: int
    """Genes."""
    nnz: int
    """Stored entries; an upper bound where the source does not know."""
    memory_limit: int
    """Bytes that may be used beyond what the process held before."""
    resident_bytes: int
    """Arrays of one entry a cell: positions, order, ranks, row lengths."""
    block_bytes: int
    """Budget of one block read from the source."""
    bucket_nnz: int
    """Most entries of a bucket that is sorted in memory."""
    bucket_rows: int
    """Rows of a bucket."""
    n_buckets: int
    """Contiguous row ranges that the matrix is scattered into."""
    image_bytes: int
    """Memory that writing an image may use beside what is resident."""
    points_bytes: int
    """Memory that sorting points may use."""
    beside: bool
    """Points are written while all else is: both fit."""
    peak_bytes: int
    """Upper bound of the memory used beyond what the process held before."""
    scratch_bytes: int
    """Upper bound of the scratch space on disk."""

    def __str__(self) -> str:
        return (
            f"{self.n_obs:,} cells x {self.n_vars:,} genes, {self.nnz:,} entries: "
            f"{self.n_buckets} buckets of {self.bucket_rows:,} rows, "
            f"peak {format_bytes(self.peak_bytes)} of {format_bytes(self.memory_limit)}, "
            f"scratch {format_bytes(self.scratch_bytes)}"
        )


def least_memory(n_obs: int, n_vars: int, reading: ReadMemory = _NOTHING) -> int:
    """Least memory limit that `plan_partition` accepts.

    Examples
    --------
    >>> least_memory(1000, 10) <= least_memory(1000, 10, ReadMemory(text=1 << 30))
    True
    """
    resident = _resident(n_obs, n_vars)
    return _FIXED + max(
        n_obs * _ROW_BYTES_ORDER,
        resident + _LEAST_WORKING + reading.chunk,
        resident + reading.image,
        resident + reading.points,
        _text_stage(n_obs, reading),
        _ring_stage(n_obs, reading),
    )


def _resident(n_obs: int, n_vars: int) -> int:
    return n_obs * _ROW_BYTES_SORT + 64 * n_vars


def _text_stage(n_obs: int, reading: ReadMemory) -> int:
    # A buffer that grows in place reserves an eighth more than it holds.
    return n_obs * _ROW_BYTES_TEXT + reading.text * 9 // 8


def _ring_stage(n_obs: int, reading: ReadMemory) -> int:
    return n_obs * _ROW_BYTES_RINGS + reading.rings if reading.rings else 0


def plan_partition(
    n_obs: int,
    n_vars: int,
    nnz: int | None,
    *,
    memory_limit: int,
    reading: ReadMemory = _NOTHING,
) -> PartitionPlan:
    """Size blocks and buckets so that the peak stays below the limit and does not grow with cells.

    Parameters
    ----------
    n_obs, n_vars : int
        Cells and genes.
    nnz : int, optional
        Stored entries; None when the source does not know, then every entry counts.
    memory_limit : int
        Bytes beyond what the process holds already.
    reading : ReadMemory
        What the source holds while it is read.

    Returns
    -------
    PartitionPlan

    Raises
    ------
    BudgetExceeded
        The limit cannot hold the arrays of one entry a cell and the smallest useful buckets.

    Examples
    --------
    >>> plan = plan_partition(1_000_000, 300, 60_000_000, memory_limit=2**30)
    >>> plan.peak_bytes <= 2**30, plan.n_buckets
    (True, 4)
    >>> big = plan_partition(4_000_000, 300, 240_000_000, memory_limit=2**30)
    >>> big.peak_bytes == plan.peak_bytes
    True
    """
    entries = n_obs * n_vars if nnz is None else nnz
    order_bytes = n_obs * _ROW_BYTES_ORDER
    resident = _resident(n_obs, n_vars)
    refuse_above(
        memory_limit,
        least_memory(n_obs, n_vars, reading),
        f"sorting {n_obs:,} cells into tiles{_said(reading)}",
        "raise the memory limit, or export the input with narrower text, smaller chunks, or "
        "without a whole-image format",
    )
    usable = min(memory_limit - reading.chunk, _GENEROUS)
    working = max(_LEAST_WORKING, usable - _FIXED - resident)
    room = memory_limit - _FIXED - resident
    bucket_nnz = (working - min(_BUFFERS, working // 3)) // _ELEMENT_BYTES
    needed = min(working, entries * _ELEMENT_BYTES * 2 + 8 * _MIB)
    # Buckets are equal in rows, not in entries: a little below the capacity, so that few are split.
    filled = max(1, bucket_nnz * 19 // 20)
    bucket_rows = max(1, min(n_obs, int(n_obs * filled / max(1, entries))))
    points = POINTS_BYTES if reading.points else 0
    rest = max(
        resident + needed + reading.chunk,
        resident + reading.image * _IMAGE_BANDS,
        resident + _QUALITY,
        _text_stage(n_obs, reading),
        _ring_stage(n_obs, reading),
    )
    beside = points > 0 and _FIXED + rest + points <= memory_limit
    most = memory_limit - _FIXED
    return PartitionPlan(
        n_obs=n_obs,
        n_vars=n_vars,
        nnz=entries,
        memory_limit=memory_limit,
        resident_bytes=resident,
        block_bytes=max(_MIB, min(working // _BLOCK_SHARE, 16 * _MIB)),
        bucket_nnz=bucket_nnz,
        bucket_rows=bucket_rows,
        n_buckets=-(-n_obs // bucket_rows),
        image_bytes=room - points if beside else room,
        points_bytes=points if beside else room,
        beside=beside,
        peak_bytes=_FIXED
        + max(
            order_bytes,
            rest + points if beside else min(most, max(rest, resident + points)),
        ),
        scratch_bytes=entries * _ELEMENT_BYTES + n_obs * 12,
    )


def _said(reading: ReadMemory) -> str:
    """Name what of the input is large."""
    sizes = {"a text column": reading.text, "chunks": reading.chunk, "an image": reading.image}
    large = [f"{what} of {format_bytes(size)}" for what, size in sizes.items() if size > _MIB]
    return f" with {', '.join(large)}" if large else ""


def return_memory() -> None:
    """Give freed memory back to the system, where the C library can be asked to.

    glibc keeps freed pieces below 32 MB for later; between stages that use other sizes, what it
    keeps only adds to the peak. Arrow keeps what text took in a pool of its own.
    """
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        arrow.default_memory_pool().release_unused()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    name = ctypes.util.find_library("c")
    trim = getattr(ctypes.CDLL(name), "malloc_trim", None) if name else None
    if trim is None:
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    found: Callable[[int], int] = trim
    return found
