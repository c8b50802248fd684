"""Euclidean distances among the rows of a table, a block at a time: nearest rows, sums by group."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...atlas.errors import InvalidArgument

__all__ = ["checked_rows", "drawn_rows", "encoded", "nearest_rows", "sums_by_group"]

type Matrix = NDArray[np.float64]
type Rows = NDArray[np.int64]

BLOCK_BYTES = 32 * 2**20  # of one block of distances; a few of them exist at a time
SPARE = 16  # candidates beyond the k nearest, so that rounding hardly ever forces a second look


def checked_rows(x: ArrayLike, what: str = "rows") -> Matrix:
    """Return `x` as a finite `(n, d)` float64 table.

    Raises
    ------
    InvalidArgument
        Not two-dimensional, without columns, or with nan or infinity.
    """
    table = np.asarray(x, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] == 0:
        raise InvalidArgument(
            f"wanted a table (cells, columns) of {what}, but got shape {table.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(bad):
        raise InvalidArgument(
            f"wanted finite {what}, but got nan or infinity in {len(bad)} of {len(table)}, the "
            f"first at row {bad[0]}; leave those cells out"
        )
    return table


def encoded(
    labels: ArrayLike | Sequence[str], n_rows: int, what: str = "label"
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the distinct labels, sorted, and the code of each row.

    Raises
    ------
    InvalidArgument
        There is not one label a row, or one is nan or None.
    """
    import pandas as pd

    values = np.asarray(labels)
    if values.shape != (n_rows,):
        raise InvalidArgument(
            f"wanted one {what} for each of {n_rows} cells, but got shape {values.shape}; pass "
            "them in the order of the cells"
        )
    lost = np.asarray(pd.isna(values), dtype=bool)
    if lost.any():
        raise InvalidArgument(
            f"wanted a {what} for every cell, but got none for {int(lost.sum())} of {n_rows}, the "
            f"first at row {int(lost.argmax())}; leave those cells out"
        )
    names, codes = np.unique(values, return_inverse=True)
    return names, codes


def drawn_rows(n_rows: int, sample: int | None, seed: int) -> Rows:
    """Return all rows, or `sample` of them without replacement, ascending.

    Raises
    ------
    InvalidArgument
        A sample of no rows.
    """
    if sample is not None and sample < 1:
        raise InvalidArgument(f"wanted a sample of one cell or more, but got sample={sample}")
    if sample is None or sample >= n_rows:
        return np.arange(n_rows, dtype=np.int64)
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(n_rows, size=sample, replace=False)).astype(np.int64)


def _blocks(n_queries: int, n_rows: int) -> Iterator[slice]:
    """Cut queries so that one block of their distances to all rows keeps to `BLOCK_BYTES`."""
    step = max(1, BLOCK_BYTES // (8 * n_rows))
    for start in range(0, n_queries, step):
        yield slice(start, min(start + step, n_queries))


def _expanded(x: Matrix, square: Matrix, rows: Rows) -> Matrix:
    """Squared distances `(len(rows), n)` by the expanded square: one matrix product."""
    block = x[rows] @ x.T
    block *= -2.0
    block += square
    block += square[rows, None]
    return np.maximum(block, 0.0, out=block)


def nearest_rows(x: Matrix, queries: Rows, k: int) -> tuple[Matrix, NDArray[np.int64]]:
    """Find the k rows nearest to each of some rows, exactly, leaving out the row itself.

    Parameters
    ----------
    x : ndarray (n, d) float64
        Finite.
    queries : ndarray (m,) int64
        Rows asked about.
    k : int
        1 to n - 1.

    Returns
    -------
    distance : ndarray (m, k) float64
        Ascending.
    row : ndarray (m, k) int64
        Of equal distances the lower row comes first.

    Raises
    ------
    InvalidArgument
        When there are not more than k rows.

    Notes
    -----
    Candidates come from expanded squares (a matrix product); their distances are then computed from
    differences, and a row whose candidates rounding could have spoiled is searched again in full.
    Memory: 16 m k bytes of answer, 8 n d for the centered table, some 4 x 32 MiB of blocks (or four
    rows of n distances, where those are more).

    Examples
    --------
    >>> import numpy as np
    >>> nearest_rows(np.array([[0.0], [1.0], [3.0]]), np.array([1]), 2)[1].tolist()
    [[0, 2]]
    """
    n_rows, width = x.shape
    if not 1 <= k < n_rows:
        raise InvalidArgument(
            f"wanted more than {k} cells, so that each has {k} neighbors, but got {n_rows}; ask "
            "for fewer neighbors"
        )
    centered = x - x.mean(axis=0)
    square = np.einsum("ij,ij->i", centered, centered)
    # of one expanded square: a dot product of `width` terms errs by that many roundings
    blur = 4.0 * (width + 4) * np.finfo(np.float64).eps * square.max()
    distance = np.empty((len(queries), k))
    row = np.empty((len(queries), k), dtype=np.int64)
    kept = min(k + SPARE, n_rows - 1)
    for part in _blocks(len(queries), n_rows):
        rows = queries[part]
        screen = _expanded(centered, square, rows)
        screen[np.arange(len(rows)), rows] = np.inf
        candidates = np.argpartition(screen, kept - 1, axis=1)[:, :kept]
        edge = np.take_along_axis(screen, candidates, axis=1).max(axis=1)
        near = _first(candidates, _exact(x, rows, candidates), k)
        distance[part], row[part] = near
        reach = near[0][:, -1] ** 2 + 2.0 * blur
        unsure = reach >= edge if kept < n_rows - 1 else np.zeros(len(rows), dtype=bool)
        for i in np.flatnonzero(unsure).tolist():
            more = np.flatnonzero(screen[i] <= reach[i])[None]
            here = slice(part.start + i, part.start + i + 1)
            distance[here], row[here] = _first(more, _exact(x, rows[i : i + 1], more), k)
    return distance, row


def _exact(x: Matrix, rows: Rows, candidates: NDArray[np.intp]) -> Matrix:
    """Distances from each row to its candidates, `candidates.shape`, from differences."""
    exact = np.empty(candidates.shape)
    width = min(candidates.shape[1], max(1, BLOCK_BYTES // (8 * x.shape[1])))
    step = max(1, BLOCK_BYTES // (8 * x.shape[1] * width))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        for first in range(0, candidates.shape[1], width):
            columns = slice(first, first + width)
            apart = x[candidates[part, columns]] - x[rows[part], None, :]
            exact[part, columns] = np.sqrt(np.einsum("ijk,ijk->ij", apart, apart))
    return exact


def _first(
    candidates: NDArray[np.intp], distance: Matrix, k: int
) -> tuple[Matrix, NDArray[np.int64]]:
    """Sort candidates by distance, then row; return the first k."""
    order = np.lexsort((candidates, distance), axis=1)[:, :k]
    return (
        np.take_along_axis(distance, order, axis=1),
        np.take_along_axis(candidates, order, axis=1),
    )


def sums_by_group(x: Matrix, codes: NDArray[np.intp], n_groups: int, queries: Rows) -> Matrix:
    """Sum the distances from some rows to the rows of each group, `(len(queries), n_groups)`.

    Parameters
    ----------
    x : ndarray (n, d) float64
        Finite.
    codes : ndarray (n,) int
        Group of each row, below `n_groups`.
    n_groups : int
    queries : ndarray (m,) int64
        Rows asked about; the distance of a row to itself is 0.

    Returns
    -------
    ndarray (m, n_groups) float64

    Notes
    -----
    Distances come from expanded squares of centered rows in float64, as in scikit-learn: below
    1e-7 of the largest one they are rounding. Memory: 8 n (d + 1) bytes and some 3 x 32 MiB.
    """
    from scipy.sparse import csr_array

    centered = x - x.mean(axis=0)
    square = np.einsum("ij,ij->i", centered, centered)
    n_rows = len(x)
    member = csr_array((np.ones(n_rows), (np.arange(n_rows), codes)), shape=(n_rows, n_groups))
    sums = np.empty((len(queries), n_groups))
    for part in _blocks(len(queries), n_rows):
        rows = queries[part]
        block = _expanded(centered, square, rows)
        block[np.arange(len(rows)), rows] = 0.0
        sums[part] = np.sqrt(block, out=block) @ member
    return sums
