"""Compiled union-find whose roots are the smallest rows."""

from typing import Any

import numpy as np

from ..graph.compiled import njit

__all__ = ["component_sizes", "join", "number"]


@njit
def _root(parent: Any, row: int) -> int:
    """Find the root of a row, halving the path on the way."""
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


@njit
def join(parent: Any, first_row: int, indptr: Any, indices: Any) -> None:
    """Join the sets that the edges of some rows connect.

    Parameters
    ----------
    parent : array (n,) int32
        Changed in place; ``parent[i] <= i`` before and after.
    first_row : int
        Row of ``indptr[0]``.
    indptr : array (m + 1,) int64
    indices : array (nnz,) int32
    """
    for i in range(indptr.size - 1):
        a = _root(parent, first_row + i)
        for p in range(indptr[i], indptr[i + 1]):
            b = _root(parent, indices[p])
            if b < a:
                parent[a] = b
                a = b
            elif a < b:
                parent[b] = a


@njit
def number(parent: Any, kept: Any) -> int:
    """Turn parents into component numbers 0, 1, 2 ... by first row; return how many there are.

    Rows that are not kept, which no other row may have joined, become -1.
    """
    n = 0
    for i in range(parent.size):
        # A parent is a smaller row, whose number stands there already.
        if not kept[i]:
            parent[i] = -1
        elif parent[i] == i:
            parent[i] = n
            n += 1
        else:
            parent[i] = parent[parent[i]]
    return n


@njit
def component_sizes(labels: Any, n: int) -> Any:
    """Count the rows of each of n components, (n,) int64."""
    sizes = np.zeros(n, np.int64)
    for i in range(labels.size):
        if labels[i] >= 0:
            sizes[labels[i]] += 1
    return sizes
