"""Agreement of two labelings of the same cells: Rand, Fowlkes-Mallows, mutual information."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...atlas.errors import InvalidArgument

__all__ = ["ari", "contingency", "fowlkes_mallows", "nmi"]


def contingency(
    left: ArrayLike | Sequence[str], right: ArrayLike | Sequence[str], *, dropna: bool = False
) -> NDArray[np.int64]:
    """Count the cells that carry each pair of labels.

    Parameters
    ----------
    left, right : array_like (n,)
        Two labelings of the same cells; any sortable label type. None and NaN are no labels.
    dropna : bool
        Leave out cells that lack either label, instead of refusing them.

    Returns
    -------
    ndarray (n_left_labels, n_right_labels) int64
        Cell counts; rows and columns in sorted label order.

    Raises
    ------
    InvalidArgument
        When the labelings differ in length, are not one-dimensional or lack labels, all of them
        with `dropna`.

    Notes
    -----
    Memory: O(n + labels of the left x labels of the right).

    Examples
    --------
    >>> contingency(["a", "a", "b"], [0, 1, 1]).tolist()
    [[1, 1], [0, 1]]
    """
    a, b = np.asarray(left), np.asarray(right)
    if a.ndim != 1 or a.shape != b.shape:
        raise InvalidArgument(
            f"wanted two label arrays of one length, but got shapes {a.shape} and {b.shape}; "
            "pass one label per cell in the same order"
        )
    lacking = _missing(a) | _missing(b)
    if lacking.any():
        if not dropna:
            raise InvalidArgument(
                f"wanted two labels for each cell, but {int(lacking.sum()):,} of {len(a):,} cells "
                "lack one; leave them out with dropna=True"
            )
        if lacking.all():
            raise InvalidArgument(
                f"wanted cells with two labels, but got none of {len(a):,}; leave this section out"
            )
        a, b = a[~lacking], b[~lacking]
    rows, row_codes = np.unique(a, return_inverse=True)
    columns, column_codes = np.unique(b, return_inverse=True)
    pair = row_codes * len(columns) + column_codes
    counts = np.bincount(pair, minlength=len(rows) * len(columns))
    return counts.reshape(len(rows), len(columns)).astype(np.int64)


def _missing(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which labels are None, NaN or NaT."""
    if labels.dtype.kind not in "fcmMO":
        return np.zeros(len(labels), dtype=np.bool_)
    import pandas as pd

    return np.asarray(pd.isna(labels), dtype=np.bool_)


def _pairs(counts: NDArray[np.int64]) -> float:
    """Count unordered pairs inside groups of the given sizes, in float64 to avoid overflow."""
    sizes = counts.astype(np.float64)
    return float((sizes * (sizes - 1.0) / 2.0).sum())


def ari(
    left: ArrayLike | Sequence[str], right: ArrayLike | Sequence[str], *, dropna: bool = False
) -> float:
    """Compute the adjusted Rand index: 1 for identical partitions, about 0 for independent ones.

    Parameters
    ----------
    left, right : array_like (n,)
        Two labelings of the same cells.
    dropna : bool
        See `contingency`.

    Returns
    -------
    float
        Hubert and Arabie's index, in [-0.5, 1]; 1.0 when both put all cells into one group.

    Raises
    ------
    InvalidArgument
        When the labelings differ in length, or cells lack a label.

    Notes
    -----
    Memory: that of `contingency`.

    Examples
    --------
    >>> ari([0, 0, 1, 1], ["b", "b", "a", "a"])
    1.0
    """
    table = contingency(left, right, dropna=dropna)
    total = _pairs(np.asarray([table.sum()]))
    together = _pairs(table)
    in_left, in_right = _pairs(table.sum(axis=1)), _pairs(table.sum(axis=0))
    if total == 0.0:
        return 1.0
    expected = in_left * in_right / total
    ceiling = (in_left + in_right) / 2.0
    if ceiling == expected:
        return 1.0
    return (together - expected) / (ceiling - expected)


def fowlkes_mallows(
    left: ArrayLike | Sequence[str], right: ArrayLike | Sequence[str], *, dropna: bool = False
) -> float:
    """Compute the Fowlkes-Mallows index: the geometric mean of pairwise precision and recall.

    Parameters
    ----------
    left, right : array_like (n,)
        Two labelings of the same cells.
    dropna : bool
        See `contingency`.

    Returns
    -------
    float
        0 (no pair of cells together in both) to 1 (the same partition); not adjusted for chance.

    Raises
    ------
    InvalidArgument
        When the labelings differ in length, or cells lack a label.

    Notes
    -----
    Fowlkes and Mallows, J. Am. Stat. Assoc. 78 (1983): `T / sqrt(P Q)` with T the pairs together in
    both, P and Q those together in either.

    Examples
    --------
    >>> fowlkes_mallows([0, 0, 1, 1], ["b", "b", "a", "a"])
    1.0
    """
    table = contingency(left, right, dropna=dropna)
    together = _pairs(table)
    in_left, in_right = _pairs(table.sum(axis=1)), _pairs(table.sum(axis=0))
    if together == 0.0:
        return 0.0
    return float(np.sqrt(together / in_left) * np.sqrt(together / in_right))


def _entropy(sizes: NDArray[np.int64]) -> float:
    p = sizes[sizes > 0] / sizes.sum()
    return float(-(p * np.log(p)).sum())


def nmi(
    left: ArrayLike | Sequence[str], right: ArrayLike | Sequence[str], *, dropna: bool = False
) -> float:
    """Mutual information of two labelings over the mean of their entropies, in [0, 1].

    Parameters
    ----------
    left, right : array_like (n,)
        Two labelings of the same cells.
    dropna : bool
        See `contingency`.

    Returns
    -------
    float
        Normalized by the arithmetic mean, as scikit-learn does by default; 1.0 when both are
        constant.

    Raises
    ------
    InvalidArgument
        When the labelings differ in length, or cells lack a label.

    Notes
    -----
    Memory: that of `contingency`.

    Examples
    --------
    >>> round(nmi([0, 0, 1, 1], [0, 1, 0, 1]), 12)
    0.0
    """
    table = contingency(left, right, dropna=dropna)
    h_left, h_right = _entropy(table.sum(axis=1)), _entropy(table.sum(axis=0))
    if h_left == 0.0 and h_right == 0.0:
        return 1.0
    mutual = h_left + h_right - _entropy(table.ravel())
    return max(0.0, mutual) / ((h_left + h_right) / 2.0)
