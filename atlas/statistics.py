"""Per-tile and per-section statistics of genes: how they are summed, laid out and named.

All are stored gene-major, (genes, tiles), and chunked by genes, so that one gene costs one chunk
and a section of any width can be written one gene range at a time.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .codecs import Grid, row_grid
from .section_shards import ArrayWriter

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "GenePeaks",
    "GeneStatistics",
    "GeneTotals",
    "LogNorm",
    "ObsStatistics",
    "TileStatistics",
    "log_norm",
    "narrowest",
]

_CHUNK_VALUES = 8192  # tiles x genes of one inner chunk, so that one gene's statistics stay cheap


@dataclass(frozen=True, slots=True)
class LogNorm:
    """How log-normalized sums are made from what a matrix holds.

    Examples
    --------
    >>> log_norm("counts").formula
    'log1p(10000 * x / depth)'
    """

    scale: float
    """Counts each cell is scaled to; 0 leaves them."""
    log: bool
    """Whether log1p is taken."""
    formula: str
    """The same in words, stored beside the sums."""


def log_norm(values: str) -> LogNorm:
    """Choose the formula for a kind of matrix; what is already a logarithm is not taken again."""
    if values in {"counts", "expected"}:
        return LogNorm(1e4, True, "log1p(10000 * x / depth)")
    if values == "normalized":
        return LogNorm(0.0, True, "log1p(x)")
    return LogNorm(0.0, False, "x")


def narrowest(largest: float) -> np.dtype[Any]:
    """Narrowest unsigned integer type that holds a value.

    Examples
    --------
    >>> narrowest(255.0).name, narrowest(256.0).name
    ('uint8', 'uint16')
    """
    return np.min_scalar_type(max(0, int(largest)))


@dataclass(frozen=True, slots=True)
class GeneTotals:
    """Totals of each gene over a section; updated bucket by bucket."""

    sums: NDArray[np.float64]
    """(G,) sums of the stored values."""
    nnz: NDArray[np.int64]
    """(G,) cells with a non-zero value."""
    largest: NDArray[np.float64]
    """(G,) largest value; 0 where a gene is empty."""
    logged: NDArray[np.float64]
    """(G,) sums of log-normalized values."""

    @classmethod
    def zeros(cls, n_vars: int) -> GeneTotals:
        """Totals of a section without cells; 32 bytes a gene."""
        zero = np.zeros
        return cls(zero(n_vars), zero(n_vars, np.int64), zero(n_vars), zero(n_vars))


@dataclass(frozen=True, slots=True)
class GeneStatistics:
    """Per tile statistics of some genes, as stored values."""

    sums: NDArray[np.float64]
    """(T, g) sums over the cells of a tile."""
    nnz: NDArray[np.unsignedinteger]
    """(T, g) cells with a non-zero value."""
    largest: NDArray[Any]
    """(T, g) largest value, at least 0: where it is not above x, no cell of the tile is."""


@dataclass(frozen=True, slots=True)
class GenePeaks:
    """What a test on one gene is pruned by, for each tile of a section."""

    nnz: NDArray[np.int64]
    """(T,) cells with a non-zero value."""
    largest: NDArray[np.float64]
    """(T,) largest stored value, at least 0."""


@dataclass(frozen=True, slots=True)
class ObsStatistics:
    """Per tile statistics of one obs column; what its kind does not have is None."""

    kind: str
    """numeric, boolean, categorical or string."""
    nulls: NDArray[np.unsignedinteger]
    """(T,) missing values."""
    low: NDArray[np.float64] | None
    """(T,) smallest value of numeric columns; NaN where all are missing."""
    high: NDArray[np.float64] | None
    """(T,) largest value of numeric columns; NaN where all are missing."""
    histogram: NDArray[np.uint32] | None
    """(T, K) cells of each category; None above 1,024 categories and for other kinds."""
    categories: tuple[str, ...] | None
    """(K,) names of the histogram's columns."""


class TileStatistics:
    """Writes per-tile gene sums, non-zero counts and maxima, one gene range after the other.

    Parameters
    ----------
    path : Path
        The section's container.
    shape : (int, int)
        Genes and tiles.
    dtype : numpy dtype
        Number type of the matrix on disk; sums of integers are stored as uint64, of floats as
        float64.
    largest_tile : int
        Cells of the largest tile.
    pool : Executor, optional
        Threads that encode.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        largest_tile: int,
        pool: Executor | None = None,
    ) -> None:
        sums = np.dtype(np.uint64 if dtype.kind == "u" else np.float64)
        types = {"gene_sum": sums, "gene_nnz": narrowest(largest_tile), "gene_max": dtype}
        self.arrays: dict[str, dict[str, object]] = {}
        self._writers = {}
        for name, kind in types.items():
            grid = _grid(shape, kind.itemsize)
            where = f"tisseract/stats/{name}"
            self._writers[name] = ArrayWriter(
                path / where, shape, kind, grid, pool=pool, attributes=_UNITS[name]
            )
            self.arrays[where] = {
                "shape": list(shape),
                "dtype": kind.name,
                "chunk": grid.chunk,
                "shard": grid.shard,
            }

    def append(
        self, sums: NDArray[np.float64], nnz: NDArray[np.uint32], largest: NDArray[np.float64]
    ) -> None:
        """Append the next genes, each (g, T)."""
        parts: tuple[NDArray[Any], ...] = (sums, nnz, largest)
        for writer, rows in zip(self._writers.values(), parts, strict=True):
            writer.append(rows)

    def close(self) -> None:
        """Complete the arrays."""
        for writer in self._writers.values():
            writer.close()


_UNITS: dict[str, dict[str, object]] = {
    "gene_sum": {"unit": "sum of stored values over the cells of a tile", "axes": "gene, tile"},
    "gene_nnz": {"unit": "cells of a tile with a non-zero value", "axes": "gene, tile"},
    "gene_max": {"unit": "largest stored value in a tile", "axes": "gene, tile"},
}


def _grid(shape: tuple[int, int], item_bytes: int) -> Grid:
    genes = min(max(1, _CHUNK_VALUES // max(1, shape[1])), max(1, shape[0]))
    return row_grid(genes, shape[0], item_bytes * max(1, shape[1]))
