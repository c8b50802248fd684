"""Second half of the sort: each bucket in memory, out as CSR rows and as a piece by genes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.codecs import element_grid, row_grid
from ..atlas.section_shards import ArrayWriter
from .sort_scatter import Bucket, Scattered, read_segments

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ..atlas.codecs import Grid
    from ..atlas.statistics import GeneTotals, LogNorm

__all__ = [
    "GenePiece",
    "Layouts",
    "RepeatedGeneError",
    "bucket_parts",
    "gather",
    "layout",
    "load_rows",
    "write_indptr",
]

Layouts = dict[str, dict[str, object]]
"""Layout of each written array by its path in the section."""

_INDPTR_ROWS = 1024
_INDPTR_STEP = 1 << 20


@dataclass(frozen=True, slots=True)
class GenePiece:
    """One bucket's entries by genes: a file of row numbers, values and gene pointers."""

    path: Path
    nnz: int
    rows_dtype: np.dtype[Any]
    values_dtype: np.dtype[Any]
    n_vars: int

    def write(self, gene_ptr: NDArray[np.int64], rows: NDArray[Any], values: NDArray[Any]) -> None:
        """Write the piece, gene pointers first."""
        with self.path.open("wb") as file:
            for part in (gene_ptr, rows, values):
                file.write(memoryview(part).cast("B"))

    def genes(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
        """Pointers (into the piece), row numbers and values of the genes start:stop."""
        with self.path.open("rb") as file:
            file.seek(8 * start)
            ptr = np.fromfile(file, np.int64, stop - start + 1)
            low, count = int(ptr[0]), int(ptr[-1] - ptr[0])
            head = 8 * (self.n_vars + 1)
            file.seek(head + low * self.rows_dtype.itemsize)
            rows = np.fromfile(file, self.rows_dtype, count)
            file.seek(head + self.nnz * self.rows_dtype.itemsize + low * self.values_dtype.itemsize)
            values = np.fromfile(file, self.values_dtype, count)
        return ptr, rows, values


def gather(
    scattered: Scattered,
    path: Path,
    totals: GeneTotals,
    *,
    dtype: np.dtype[Any],
    norm: LogNorm,
    bucket_nnz: int,
    scratch: Path,
    pool: Executor,
    advance: Callable[[float], None],
) -> tuple[list[GenePiece], Layouts]:
    """Sort the buckets one by one; write X and cell depths, spill pieces by genes.

    Parameters
    ----------
    scattered : Scattered
        Buckets on disk; each file is deleted after use.
    path : Path
        The section's container.
    totals : GeneTotals
        Added to.
    dtype : numpy dtype
        Number type of the matrix on disk.
    norm : LogNorm
        Formula of the log-normalized sums.
    bucket_nnz : int
        Most entries held at a time; a bucket with more is sorted in parts.
    scratch : Path
        Folder of the pieces.
    pool : Executor
        Threads that encode.
    advance : callable
        Told the fraction done.

    Raises
    ------
    RepeatedGeneError
        A cell that lists a gene twice.
    """
    n_obs = scattered.row_nnz.size
    grid = element_grid(scattered.nnz, n_obs, max(4, dtype.itemsize))
    depth_grid = row_grid(_INDPTR_ROWS, n_obs, 8)
    table = path / "tables/table/X"
    pieces: list[GenePiece] = []
    with (
        ArrayWriter(table / "data", (scattered.nnz,), dtype, grid, pool=pool) as data,
        ArrayWriter(table / "indices", (scattered.nnz,), np.int32, grid, pool=pool) as indices,
        ArrayWriter(
            path / "tisseract/depth", (n_obs,), np.float64, depth_grid, pool=pool
        ) as depths,
    ):
        for bucket, first, stop in bucket_parts(scattered, bucket_nnz):
            piece = scratch / f"genes-{len(pieces)}"
            writers = (data, indices, depths)
            pieces.append(
                _sort_part(scattered, bucket, (first, stop), writers, totals, norm, piece)
            )
            if stop == bucket.stop_row:
                bucket.path.unlink(missing_ok=True)
            advance(stop / n_obs)
    layouts = {
        "tables/table/X/data": layout((scattered.nnz,), dtype, grid),
        "tables/table/X/indices": layout((scattered.nnz,), np.dtype(np.int32), grid),
        "tisseract/depth": layout((n_obs,), np.dtype(np.float64), depth_grid),
    }
    layouts |= write_indptr(path, "tables/table/X/indptr", scattered.row_nnz, pool)
    return pieces, layouts


def _sort_part(  # noqa: PLR0917 - private, one caller
    scattered: Scattered,
    bucket: Bucket,
    rows: tuple[int, int],
    writers: tuple[ArrayWriter, ArrayWriter, ArrayWriter],
    totals: GeneTotals,
    norm: LogNorm,
    spill: Path,
) -> GenePiece:
    """Sort one bucket; a function of its own, so that its arrays are gone before the next."""
    data, indices, depths = writers
    indptr, columns, values = load_rows(scattered, bucket, *rows)
    depths.append(_summarize(indptr, columns, values, totals, norm))
    data.append(values)
    indices.append(columns)
    n_vars = totals.sums.size
    piece = GenePiece(spill, columns.size, np.dtype(np.uint32), values.dtype, n_vars)
    piece.write(*_transpose(indptr, columns, values, rows[0], n_vars))
    return piece


def layout(shape: tuple[int, ...], dtype: np.dtype[Any], grid: Grid) -> dict[str, object]:
    """Describe an array for the index of the section."""
    return {"shape": list(shape), "dtype": dtype.name, "chunk": grid.chunk, "shard": grid.shard}


def write_indptr(path: Path, name: str, lengths: NDArray[np.integer], pool: Executor) -> Layouts:
    """Write row (or column) pointers from lengths, a stretch at a time."""
    shape = (lengths.size + 1,)
    grid = row_grid(_INDPTR_ROWS, shape[0], 8)
    with ArrayWriter(path / name, shape, np.int64, grid, pool=pool) as writer:
        writer.append(np.zeros(1, np.int64))
        end = 0
        for start in range(0, lengths.size, _INDPTR_STEP):
            ends = np.cumsum(lengths[start : start + _INDPTR_STEP], dtype=np.int64) + end
            writer.append(ends)
            end = int(ends[-1])
    return {name: layout(shape, np.dtype(np.int64), grid)}


class RepeatedGeneError(Exception):
    """A row (of the section) that lists a gene twice; named for people where ids are known."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


def bucket_parts(scattered: Scattered, bucket_nnz: int) -> Iterator[tuple[Bucket, int, int]]:
    """Buckets, or the row ranges of buckets that turned out to hold too many entries."""
    for bucket in scattered.buckets:
        ends = np.cumsum(scattered.row_nnz[bucket.first_row : bucket.stop_row], dtype=np.int64)
        start = 0
        while start < ends.size:
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + bucket_nnz, side="right"))
            stop = max(stop, start + 1)
            yield bucket, bucket.first_row + start, bucket.first_row + stop
            start = stop


def load_rows(
    scattered: Scattered, bucket: Bucket, first: int, stop: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[Any]]:
    """CSR of some rows of a bucket, columns ascending in each row."""
    from ..atlas.sparse_kernels import gather_rows

    indptr = np.zeros(stop - first + 1, np.int64)
    np.cumsum(scattered.row_nnz[first:stop], out=indptr[1:])
    columns = np.empty(int(indptr[-1]), np.int32)
    kinds = [segment.dtype for segment in bucket.segments]
    values = np.empty(columns.size, np.result_type(*kinds) if kinds else np.uint16)
    for rows, lengths, part_columns, part_values in read_segments(bucket, scattered.index_dtype):
        twice = gather_rows(
            rows, lengths, part_columns, part_values, first, indptr, columns, values
        )
        if twice >= 0:
            raise RepeatedGeneError(int(twice))
    return indptr, columns, values


def _summarize(
    indptr: NDArray[np.int64],
    columns: NDArray[np.int32],
    values: NDArray[Any],
    totals: GeneTotals,
    norm: LogNorm,
) -> NDArray[np.float64]:
    from ..atlas.sparse_kernels import summarize_rows

    depth = np.empty(indptr.size - 1)
    summarize_rows(
        indptr, columns, values, norm.scale, norm.log,
        depth, totals.sums, totals.nnz, totals.largest, totals.logged,
    )  # fmt: skip
    return depth


def _transpose(
    indptr: NDArray[np.int64],
    columns: NDArray[np.int32],
    values: NDArray[Any],
    first: int,
    n_vars: int,
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[Any]]:
    from ..atlas.sparse_kernels import csr_to_csc

    gene_ptr = np.empty(n_vars + 1, np.int64)
    rows, by_gene = np.empty(columns.size, np.uint32), np.empty_like(values)
    csr_to_csc(indptr, columns, values, first, gene_ptr, rows, by_gene)
    return gene_ptr, rows, by_gene
