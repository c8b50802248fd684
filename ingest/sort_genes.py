"""The second access order: pieces by genes merged range by range, with tile statistics."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.codecs import element_grid
from ..atlas.section_shards import ArrayWriter
from ..atlas.section_write import encoded, group
from ..atlas.statistics import TileStatistics
from .sort_gather import GenePiece, Layouts, layout, write_indptr

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["merge_pieces"]

_TILE_BYTES = 24  # sum, count and maximum of one gene in one tile, and their copies


def merge_pieces(
    pieces: list[GenePiece],
    path: Path,
    gene_nnz: NDArray[np.int64],
    tile_ptr: NDArray[np.int64],
    *,
    dtype: np.dtype[Any],
    budget_nnz: int,
    pool: Executor,
    advance: Callable[[float], None],
) -> Layouts:
    """Write `tisseract/by_gene` and the per-tile statistics of all genes.

    Parameters
    ----------
    pieces : list of GenePiece
        One a bucket, buckets ascending, so that rows ascend inside a merged gene.
    path : Path
        The section's container.
    gene_nnz : (G,) int64
        Entries of each gene.
    tile_ptr : (T + 1,) int64
        Tile rows.
    dtype : numpy dtype
        Number type of the matrix on disk.
    budget_nnz : int
        Entries (of 16 bytes) that a gene range may hold; a gene with more comes alone, by pieces.
    pool : Executor
        Threads that encode.
    advance : callable
        Told the fraction done.
    """
    n_vars, n_obs, nnz = gene_nnz.size, int(tile_ptr[-1]), int(gene_nnz.sum())
    rows_dtype = np.dtype(np.int32 if n_obs <= np.iinfo(np.int32).max else np.int64)
    # By genes an inner chunk is a stretch of one gene's cells: the largest size, few requests.
    grid = element_grid(nnz, max(1, n_vars), max(4, dtype.itemsize), rows=1)
    by_gene = path / "tisseract/by_gene"
    group(by_gene, **encoded("csc_matrix", shape=[n_obs, n_vars]))
    tiles = TileStatistics(
        path, (n_vars, tile_ptr.size - 1), dtype, int(np.diff(tile_ptr).max()), pool
    )
    with (
        ArrayWriter(by_gene / "data", (nnz,), dtype, grid, pool=pool) as data,
        ArrayWriter(by_gene / "indices", (nnz,), rows_dtype, grid, pool=pool) as indices,
    ):
        for start, stop in _ranges(gene_nnz, tile_ptr.size - 1, budget_nnz):
            _Range(start, stop, tile_ptr).write(pieces, gene_nnz, budget_nnz, data, indices, tiles)
            advance(stop / n_vars)
    tiles.close()
    layouts = {
        "tisseract/by_gene/data": layout((nnz,), dtype, grid),
        "tisseract/by_gene/indices": layout((nnz,), rows_dtype, grid),
    }
    layouts |= write_indptr(path, "tisseract/by_gene/indptr", gene_nnz, pool)
    return layouts | tiles.arrays


def _ranges(
    gene_nnz: NDArray[np.int64], n_tiles: int, budget_nnz: int
) -> Iterator[tuple[int, int]]:
    """Gene ranges whose entries and tile statistics fit the budget; at least one gene each."""
    cost = gene_nnz + n_tiles * _TILE_BYTES // 16 + 1
    ends = np.cumsum(cost)
    start = 0
    while start < ends.size:
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + budget_nnz, side="right")))
        yield start, stop
        start = stop


class _Range:
    """A range of genes and the statistics that are being summed for it."""

    def __init__(self, start: int, stop: int, tile_ptr: NDArray[np.int64]) -> None:
        self._start, self._stop, self._tile_ptr = start, stop, tile_ptr
        shape = (stop - start, tile_ptr.size - 1)
        self._sums, self._largest = np.zeros(shape), np.zeros(shape)
        self._nnz = np.zeros(shape, np.uint32)

    def write(  # noqa: PLR0917 - private, one caller
        self,
        pieces: list[GenePiece],
        gene_nnz: NDArray[np.int64],
        budget_nnz: int,
        data: ArrayWriter,
        indices: ArrayWriter,
        tiles: TileStatistics,
    ) -> None:
        """Append the range to the arrays and its statistics to the tiles'."""
        lengths = gene_nnz[self._start : self._stop]
        merged: Iterator[tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]]
        if len(pieces) == 1 or int(lengths.sum()) > budget_nnz:
            # One piece, or one gene too large to merge: its pieces already follow each other.
            merged = (piece.genes(self._start, self._stop) for piece in pieces)
        else:
            merged = iter([self._merge(pieces, lengths)])
        for ptr, rows, values in merged:
            self._summarize(ptr - ptr[0], rows, values)
            data.append(values)
            indices.append(rows)
        tiles.append(self._sums, self._nnz, self._largest)

    def _merge(
        self, pieces: list[GenePiece], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
        from ..atlas.sparse_kernels import merge_genes

        ptr = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.empty(int(ptr[-1]), np.uint32)
        values = np.empty(rows.size, np.result_type(*(p.values_dtype for p in pieces)))
        at = ptr[:-1].copy()
        for piece in pieces:
            merge_genes(*piece.genes(self._start, self._stop), at, rows, values)
        return ptr, rows, values

    def _summarize(self, ptr: NDArray[np.int64], rows: NDArray[Any], values: NDArray[Any]) -> None:
        from ..atlas.sparse_kernels import summarize_genes

        summarize_genes(ptr, rows, values, self._tile_ptr, self._sums, self._nnz, self._largest)
