"""Compiled counts of labels at the two ends of edges, and shuffles of labels."""

from typing import Any

import numpy as np

from ..graph.compiled import njit

__all__ = ["count_label_pairs", "shuffle"]

_TABLE = 2**14  # counters that stay in a core's first cache, 4 bytes each


@njit
def count_label_pairs(first_row: int, indptr: Any, indices: Any, labels: Any, n_labels: int) -> Any:
    """Count the edges of some rows by the labels of their ends, for several labelings at once.

    Parameters
    ----------
    first_row : int
        Row of ``indptr[0]``.
    indptr : array (m + 1,) int64
    indices : array (nnz,) int32
    labels : array (n, p) of unsigned integers
        A labeling a column; those of a cell lie side by side.
    n_labels : int

    Returns
    -------
    array (p, n_labels * n_labels) uint32
        Element (q, a * n_labels + b): edges from label a to label b.
    """
    p = labels.shape[1]
    counts = np.zeros((p, n_labels * n_labels), np.uint32)
    width = max(1, _TABLE // (n_labels * n_labels))
    for low in range(0, p, width):
        high = min(low + width, p)
        for i in range(indptr.size - 1):
            for e in range(indptr[i], indptr[i + 1]):
                j = indices[e]
                for q in range(low, high):
                    a = np.int64(labels[first_row + i, q])
                    counts[q, a * n_labels + np.int64(labels[j, q])] += np.uint32(1)
    return counts


@njit
def shuffle(rng: Any, values: Any) -> None:
    """Shuffle in place (Fisher and Yates), drawing from a NumPy Generator.

    Chances differ from equal ones by less than n / 2**53.
    """
    for i in range(values.size - 1, 0, -1):
        j = int(rng.random() * (i + 1))
        values[i], values[j] = values[j], values[i]
