"""Compiled loops over sparse rows: scatter into buckets, gather, transpose, per-tile sums.

All are single-threaded, release the interpreter lock and use exact arithmetic. Importing this
module loads numba (half a second): import it inside the function that needs it.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Compiled functions are typed by numba at their first call; their docstrings state the dtypes.
# pyright: basic
# ruff: noqa: PLR0917

from __future__ import annotations

import numba
import numpy as np

__all__ = [
    "csr_to_csc",
    "gather_rows",
    "merge_genes",
    "scatter_rows",
    "summarize_genes",
    "summarize_rows",
]

_jit = numba.njit(cache=True, nogil=True)


@_jit
def scatter_rows(order, indptr, indices, data, n_vars, whole, kept, out_indices, out_data):
    """Copy rows in a given order, dropping zeros; check every number on the way.

    `order` (r,) int64 rows of the block; `kept` (r,) uint32 receives the length of each copied row.
    No number may be negative. With `whole`, numbers must be whole; without, they are cast to
    float32 before they are judged: what underflows is a zero, what overflows is refused.
    Returns (elements written, largest value, bad row, bad position): bad row -1 when all is well.
    """
    at = 0
    largest = 0.0
    for k in range(order.size):
        row = order[k]
        first = at
        for p in range(indptr[row], indptr[row + 1]):
            value = data[p]
            column = indices[p]
            if column < 0 or column >= n_vars:
                return at, largest, row, p
            if whole:
                if value == 0:
                    continue
                if not (value > 0) or value != np.floor(value) or value > 4294967295.0:
                    return at, largest, row, p
                out_data[at] = value
            else:
                single = np.float32(value)
                if single == 0:
                    continue
                if not (single > 0) or not np.isfinite(single):
                    return at, largest, row, p
                out_data[at] = single
            largest = max(largest, value)
            out_indices[at] = column
            at += 1
        kept[k] = at - first
    return at, largest, -1, -1


@_jit
def gather_rows(rows, lengths, indices, data, first_row, indptr, out_indices, out_data):
    """Put the rows of one scattered segment at their places in a bucket, columns ascending.

    `indptr` (m + 1,) int64 of the bucket, whose first row is `first_row`; other rows are skipped.
    Returns the first row (of the section) in which a column occurs twice, or -1.
    """
    at = np.int64(0)
    for k in range(rows.size):
        n = np.int64(lengths[k])
        local = np.int64(rows[k]) - first_row
        if local < 0 or local >= indptr.size - 1:
            at += n
            continue
        to = indptr[local]
        ascending = True
        for j in range(n):
            out_indices[to + j] = indices[at + j]
            out_data[to + j] = data[at + j]
            if j and out_indices[to + j] <= out_indices[to + j - 1]:
                ascending = False
        if not ascending:
            by_column = np.argsort(indices[at : at + n], kind="mergesort")
            for j in range(n):
                out_indices[to + j] = indices[at + by_column[j]]
                out_data[to + j] = data[at + by_column[j]]
                if j and out_indices[to + j] == out_indices[to + j - 1]:
                    return np.int64(rows[k])
        at += n
    return np.int64(-1)


@_jit
def summarize_rows(indptr, indices, data, scale, log, depth, sums, nnz, largest, logged):
    """Add a bucket to the totals per gene and find the depth of each row.

    `depth` (m,) float64 is filled; `sums`, `logged` (G,) float64, `nnz` (G,) int64 and `largest`
    (G,) float64 are added to. `logged` adds log1p(x * scale / depth) when scale > 0, log1p(x) when
    scale is 0, and x itself when `log` is False.
    """
    table = np.zeros(16, np.float64)
    for row in range(indptr.size - 1):
        total = 0.0
        for p in range(indptr[row], indptr[row + 1]):
            total += data[p]
        depth[row] = total
        factor = 1.0
        if scale > 0.0:
            factor = scale / total if total > 0.0 else 0.0
        if log:
            # Counts are mostly small: one logarithm for each small value of a row, not each entry.
            table[:] = -1.0
        for p in range(indptr[row], indptr[row + 1]):
            gene = indices[p]
            x = np.float64(data[p])
            value = x
            if log:
                small = np.int64(x) if 0.0 <= x < 16.0 else -1
                if small >= 0 and np.float64(small) == x:
                    if table[small] < 0.0:
                        table[small] = np.log1p(x * factor)
                    value = table[small]
                else:
                    value = np.log1p(x * factor)
            sums[gene] += x
            nnz[gene] += 1
            largest[gene] = max(largest[gene], x)
            logged[gene] += value


@_jit
def csr_to_csc(indptr, indices, data, first_row, gene_ptr, rows, values):
    """Transpose a bucket: fills `gene_ptr` (G + 1,) int64, `rows` and `values`, rows ascending."""
    gene_ptr[:] = 0
    for p in range(indices.size):
        gene_ptr[indices[p] + 1] += 1
    for gene in range(gene_ptr.size - 1):
        gene_ptr[gene + 1] += gene_ptr[gene]
    at = gene_ptr[:-1].copy()
    for row in range(indptr.size - 1):
        for p in range(indptr[row], indptr[row + 1]):
            gene = indices[p]
            rows[at[gene]] = first_row + row
            values[at[gene]] = data[p]
            at[gene] += 1


@_jit
def merge_genes(gene_ptr, rows, values, at, out_rows, out_values):
    """Append one bucket's piece of a gene range; `at` (g,) int64 is moved to each gene's end."""
    for gene in range(at.size):
        to = at[gene]
        for p in range(gene_ptr[gene], gene_ptr[gene + 1]):
            out_rows[to] = rows[p - gene_ptr[0]]
            out_values[to] = values[p - gene_ptr[0]]
            to += 1
        at[gene] = to


@_jit
def summarize_genes(gene_ptr, rows, values, tile_ptr, sums, nnz, largest):
    """Per tile sums, non-zero counts and maxima of a gene range.

    `gene_ptr` (g + 1,) int64 into `rows` (ascending in each gene) and `values`; `sums` (g, T)
    float64, `nnz` (g, T) uint32 and `largest` (g, T) float64 are added to.
    """
    for gene in range(gene_ptr.size - 1):
        tile = 0
        for p in range(gene_ptr[gene], gene_ptr[gene + 1]):
            while rows[p] >= tile_ptr[tile + 1]:
                tile += 1
            value = np.float64(values[p])
            sums[gene, tile] += value
            nnz[gene, tile] += 1
            largest[gene, tile] = max(largest[gene, tile], value)
