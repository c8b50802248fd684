"""Compiled loops over the values of genes, sorted by cell."""

# ruff: noqa: PLR0917 - compiled functions take arrays one by one

from typing import Any

import numpy as np

from ..graph.compiled import njit

__all__ = ["count_cells", "neighbor_products", "place_entries", "sum_gene"]

_TERMS = 1024


@njit
def sum_gene(cells: Any, values: Any, ends: Any, n: int) -> Any:
    """Sum what `GeneBatch.sums` holds, and find the extremes, over all n cells of one gene.

    Every sum is one of sums of 1,024 terms, which keeps rounding errors far below those of one
    long sum.
    """
    total, squares, ends_x, ends_xx = 0.0, 0.0, 0.0, 0.0
    low, high = np.inf, -np.inf
    if cells.size < n:
        low, high = 0.0, 0.0
    for start in range(0, cells.size, _TERMS):
        t, s, ex, exx = 0.0, 0.0, 0.0, 0.0
        for p in range(start, min(start + _TERMS, cells.size)):
            x, e = np.float64(values[p]), ends[cells[p]]
            t += x
            s += x * x
            ex += e * x
            exx += e * x * x
            low, high = min(low, x), max(high, x)
        total += t
        squares += s
        ends_x += ex
        ends_xx += exx
    mean = total / n
    variation = (n - cells.size) * mean * mean
    for start in range(0, cells.size, _TERMS):
        v = 0.0
        for p in range(start, min(start + _TERMS, cells.size)):
            v += (np.float64(values[p]) - mean) ** 2
        variation += v
    return total, squares, variation, ends_x, ends_xx, low, high


@njit
def count_cells(cells: Any, counts: Any) -> None:
    """Add one to the count of each cell of one gene."""
    for p in range(cells.size):
        counts[cells[p]] += 1


@njit
def place_entries(g: int, cells: Any, values: Any, at: Any, gene: Any, value: Any) -> None:
    """Put the entries of one gene at the next place of their cells, and move the places on."""
    for p in range(cells.size):
        to = at[cells[p]]
        at[cells[p]] = to + 1
        gene[to] = g
        value[to] = values[p]


@njit
def neighbor_products(
    first_row: int,
    indptr: Any,
    indices: Any,
    normalized: bool,
    ptr: Any,
    gene: Any,
    value: Any,
    n_genes: int,
) -> Any:
    """Sum w_ij x_i x_j over the edges of some rows, for every gene of a batch.

    Only the entries of a cell and its neighbors are visited, so time is that of edges times genes
    seen in a cell, not of edges times genes.

    Parameters
    ----------
    first_row : int
        Row of ``indptr[0]``.
    indptr : array (m + 1,) int64
    indices : array (nnz,) int32
    normalized : bool
        Weights are ones over the degree of the row, instead of ones.
    ptr, gene, value : arrays (n + 1,) int64, (entries,) uint16, (entries,) float32
        Values by cell.
    n_genes : int

    Returns
    -------
    array (n_genes,) float64
    """
    total = np.zeros(n_genes)
    around = np.zeros(n_genes)
    for i in range(indptr.size - 1):
        start, stop = ptr[first_row + i], ptr[first_row + i + 1]
        degree = indptr[i + 1] - indptr[i]
        if start == stop or degree == 0:
            continue
        # Sums of other genes are left over from earlier cells; none of them is read.
        for q in range(start, stop):
            around[gene[q]] = 0.0
        for p in range(indptr[i], indptr[i + 1]):
            for q in range(ptr[indices[p]], ptr[indices[p] + 1]):
                around[gene[q]] += value[q]
        weight = 1.0 / degree if normalized else 1.0
        for q in range(start, stop):
            total[gene[q]] += weight * value[q] * around[gene[q]]
    return total
