"""Rows as people ask for them: a slice, runs, numbers in any order, or a mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidArgument

if TYPE_CHECKING:
    import scipy.sparse
    from numpy.typing import NDArray

    from ..quadtree import Runs
    from .edges import Edges

__all__ = ["RowChoice", "choose_rows", "rows_of_graph"]

type RowChoice = "slice | Runs | NDArray[np.integer | np.bool_] | list[int]"


def rows_of_graph(
    edges: Callable[[Runs], Edges], rows: RowChoice, n_obs: int, n_columns: int
) -> scipy.sparse.csr_array:
    """Get the edges of some rows, in the order asked for, as a matrix of m rows.

    Raises
    ------
    InvalidArgument
        As of `choose_rows`.
    """
    runs, places = choose_rows(rows, n_obs)
    matrix = edges(runs).to_csr(n_columns)
    return matrix if places is None else matrix[places]


def choose_rows(rows: RowChoice, n_obs: int) -> tuple[Runs, NDArray[np.int64] | None]:
    """Turn a choice of rows into ascending runs.

    Parameters
    ----------
    rows : slice, sequence of (int, int), array of int, or array (n_obs,) bool
        Consecutive rows; row runs; rows in any order, perhaps some more than once; a mask.
    n_obs : int
        Rows there are.

    Returns
    -------
    runs : list of (int, int)
        Ascending, disjoint; given runs are handed on unchecked.
    places : array (m,) int64 or None
        Where each row asked for stands among those of the runs; None where in this order.

    Raises
    ------
    InvalidArgument
        A slice with a step, rows outside of the section, or something else.

    Examples
    --------
    >>> choose_rows([5, 0, 1], 9)
    ([(0, 2), (5, 6)], array([2, 0, 1]))
    """
    if isinstance(rows, slice):
        start, stop, step = rows.indices(n_obs)
        if step != 1:
            raise InvalidArgument(f"consecutive rows are wanted, but got a slice of step {step}")
        return [(start, max(start, stop))], None
    given = _as_array(rows)
    if given.ndim == 2 and given.shape[1] == 2 and given.dtype.kind in "iu":
        return [(int(start), int(stop)) for start, stop in given], None
    if given.size == 0:
        return [], None
    if given.dtype == np.bool_ and given.shape == (n_obs,):
        given = np.flatnonzero(given)
    elif given.ndim != 1 or given.dtype.kind not in "iu":
        raise _unfit(rows)
    if given.size and not 0 <= int(given.min()) <= int(given.max()) < n_obs:
        raise InvalidArgument(
            f"rows from 0 to {n_obs - 1} are wanted, but got {int(given.min())} to "
            f"{int(given.max())}"
        )
    unique, places = np.unique(given.astype(np.int64), return_inverse=True)
    breaks = np.flatnonzero(np.diff(unique) != 1) + 1
    parts = np.split(unique, breaks) if unique.size else []
    return [(int(part[0]), int(part[-1]) + 1) for part in parts], places


def _as_array(rows: Any) -> NDArray[Any]:
    try:
        return np.asarray(rows)
    except ValueError:  # of uneven lengths
        raise _unfit(rows) from None


def _unfit(rows: object) -> InvalidArgument:
    shown = repr(rows)
    return InvalidArgument(
        "rows are wanted as slice(first, stop), runs [(first, stop), ...], numbers [0, 5, 9] or "
        f"booleans, one a cell, but got {shown if len(shown) < 60 else shown[:57] + '...'}"
    )
