"""Compiled sums over the edges of a block."""

from typing import Any

import numpy as np

from ..graph.compiled import njit

__all__ = ["add_columns", "leaving_edges", "reciprocal_products"]


@njit
def add_columns(indptr: Any, indices: Any, weight: Any, column_sums: Any) -> None:
    """Add the weight of each row, (m,) float64, to the columns it names, (n,) float64."""
    for i in range(indptr.size - 1):
        for p in range(indptr[i], indptr[i + 1]):
            column_sums[indices[p]] += weight[i]


@njit
def reciprocal_products(first_row: int, indptr: Any, indices: Any, weight: Any) -> float:
    """Sum w_ij w_ji over the ordered pairs of rows of one block."""
    total = 0.0
    m = indptr.size - 1
    for i in range(m):
        row = first_row + i
        for p in range(indptr[i], indptr[i + 1]):
            j = indices[p] - first_row
            if j < 0 or j >= m:
                continue
            low, high = indptr[j], indptr[j + 1]
            while low < high:  # columns ascend
                middle = (low + high) // 2
                if indices[middle] < row:
                    low = middle + 1
                else:
                    high = middle
            if low < indptr[j + 1] and indices[low] == row:
                total += weight[i] * weight[j]
    return total


@njit
def leaving_edges(first_row: int, indptr: Any, indices: Any, weight: Any, n: int) -> Any:
    """Key and weight of the edges that leave a block: first those to earlier rows.

    The key is later row x n + earlier row, whichever way the edge points.

    Returns
    -------
    tuple
        (l,) int64 keys, (l,) float64 weights, number of edges to earlier rows, whose keys ascend.
    """
    m = indptr.size - 1
    n_down, n_up = 0, 0
    for p in range(indices.size):
        if indices[p] < first_row:
            n_down += 1
        elif indices[p] >= first_row + m:
            n_up += 1
    keys = np.empty(n_down + n_up, np.int64)
    weights = np.empty(n_down + n_up)
    down, up = 0, n_down
    for i in range(m):
        row = np.int64(first_row + i)
        for p in range(indptr[i], indptr[i + 1]):
            column = np.int64(indices[p])
            if column < first_row:
                keys[down], weights[down] = row * n + column, weight[i]
                down += 1
            elif column >= first_row + m:
                keys[up], weights[up] = column * n + row, weight[i]
                up += 1
    return keys, weights, n_down
