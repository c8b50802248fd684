"""Rows of a matrix that have a position in another file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..source import StringValues

__all__ = ["placed_rows"]

_SHOWN = 3


def placed_rows(
    ids: StringValues, listed: StringValues, notes: list[str], where: str, what: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the rows of a matrix that a list has positions of.

    Parameters
    ----------
    ids : StringValues, (n,)
        Names of the rows.
    listed : StringValues
        Names in the list, each once.
    notes : list of str
        Added to: how many of either side are left out.
    where : str
        The matrix, for messages.
    what : str
        What the rows are, as "cells".

    Returns
    -------
    kept : (k,) int64
        Rows of the matrix, ascending.
    at : (k,) int64
        Rows of the list they have.

    Raises
    ------
    InputError
        None is in the list, or one is in the matrix twice.

    Examples
    --------
    >>> from tisseract.ingest.source import StringValues
    >>> names, notes = StringValues.from_strings, []
    >>> kept, at = placed_rows(names(["a", "b"]), names(["c", "b"]), notes, "x.csv", "cells")
    >>> kept.tolist(), at.tolist(), len(notes)
    ([1], [1], 2)
    """
    if twice := ids.repeated():
        raise InputError(Fault(where, f"expected all {what} once each, but got {twice[0]!r} again"))
    at = ids.find_in(listed)
    kept = np.flatnonzero(at >= 0)
    if kept.size == 0:
        ours, theirs = (
            one.take(np.arange(min(_SHOWN, len(one)))).to_list() for one in (ids, listed)
        )
        raise InputError(
            Fault(
                where,
                f"expected {what} with positions, but got none of {len(ids)} in common: matrix "
                f"{ours}, positions {theirs}",
            )
        )
    if kept.size < at.size:
        notes.append(f"{at.size - kept.size} {what} of the matrix have no position: left out")
    if kept.size < len(listed):
        notes.append(f"{len(listed) - kept.size} {what} have no counts: left out")
    return kept, at[kept]
