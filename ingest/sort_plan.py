"""How a section will be sorted within a memory limit, decided before a byte is read."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from ..atlas.memory import format_bytes, refuse_above

__all__ = ["PartitionPlan", "plan_partition", "return_memory"]

_MIB = 2**20

# Compiled kernels, codecs, Parquet and Zarr code, thread stacks: what the process grows by
# whatever the size of the data, when nothing was imported before. Measured 160 to 195 MiB.
_FIXED = 208 * _MIB
# More than this buys no speed: buckets of this size already stream.
_GENEROUS = 640 * _MIB
_LEAST_WORKING = 24 * _MIB

_ROW_BYTES_ORDER = 52  # source and scaled positions 32, codes 8, order 8, sorting 4
_ROW_BYTES_SORT = 28  # source positions 16, order, rank and row lengths 4 each
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


def plan_partition(n_obs: int, n_vars: int, nnz: int | None, *, memory_limit: int) -> PartitionPlan:
    """Size blocks and buckets so that the peak stays below the limit and does not grow with cells.

    Parameters
    ----------
    n_obs, n_vars : int
        Cells and genes.
    nnz : int, optional
        Stored entries; None when the source does not know, then every entry counts.
    memory_limit : int
        Bytes beyond what the process holds already.

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
    resident = n_obs * _ROW_BYTES_SORT + 64 * n_vars
    least = _FIXED + max(order_bytes, resident + _LEAST_WORKING)
    refuse_above(
        memory_limit,
        least,
        f"sorting {n_obs:,} cells into tiles",
        "raise the memory limit or split the section (`split_by`)",
    )
    working = max(_LEAST_WORKING, min(memory_limit, _GENEROUS) - _FIXED - resident)
    bucket_nnz = (working - min(_BUFFERS, working // 3)) // _ELEMENT_BYTES
    needed = min(working, entries * _ELEMENT_BYTES * 2 + 8 * _MIB)
    # Buckets are equal in rows, not in entries: a little below the capacity, so that few are split.
    filled = max(1, bucket_nnz * 19 // 20)
    bucket_rows = max(1, min(n_obs, int(n_obs * filled / max(1, entries))))
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
        peak_bytes=_FIXED + max(order_bytes, resident + needed),
        scratch_bytes=entries * _ELEMENT_BYTES + n_obs * 8,
    )


def return_memory() -> None:
    """Give freed memory back to the system, where the C library can be asked to.

    glibc keeps freed pieces below 32 MB for later; between stages that use other sizes, what it
    keeps only adds to the peak.
    """
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
