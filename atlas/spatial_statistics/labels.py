"""One column of labels of a section as small numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ColumnNotFound, InvalidArgument, near

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..section import Section

__all__ = ["Labels", "read_labels"]

_ROWS = 2**18  # rows of a column read at once; text is the widest, about 100 bytes a row


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labels of all cells of a section."""

    codes: NDArray[np.int32]
    """(n_obs,) number of the category; -1 where the label is missing."""
    categories: tuple[str, ...]
    """Names: the column's categories in their order, or the values of a text column, sorted."""


def read_labels(section: Section, column: str, kept: NDArray[np.bool_] | None = None) -> Labels:
    """Read a categorical, text or boolean obs column.

    Parameters
    ----------
    section : Section
        Where the column is.
    column : str
        Its name.
    kept : (n_obs,) bool, optional
        Cells whose label is wanted; -1 for others.

    Returns
    -------
    Labels
        Memory: 4 bytes a cell. Categories that no cell has are kept.

    Raises
    ------
    ColumnNotFound
        With near names.
    InvalidArgument
        A column of numbers.
    """
    if column not in section.obs_columns:
        raise ColumnNotFound(
            f"an obs column of labels is wanted, but section {section.name!r} has no {column!r}."
            f"{near(column, section.obs_columns)}"
        )
    kind = str(section.obs_columns[column]["kind"])
    if kind not in ("categorical", "string", "boolean"):
        raise InvalidArgument(
            f"a categorical, text or boolean column is wanted, but got {column!r} of section "
            f"{section.name!r}, which is {kind}; store its labels as text"
        )
    known = {name: code for code, name in enumerate(section.categories(column) or ())}
    codes = np.empty(section.n_obs, np.int32)
    for start in range(0, section.n_obs, _ROWS):
        stop = min(start + _ROWS, section.n_obs)
        part = section.obs([(start, stop)], [column], index=False)[column]
        codes[start:stop] = part.cat.codes if kind == "categorical" else _encode(part, known)
    if kind == "string":
        names = sorted(known)
        place = np.empty(len(known) + 1, np.int32)
        place[[known[name] for name in names]] = np.arange(len(names), dtype=np.int32)
        place[-1] = -1
        codes, known = place[codes], dict.fromkeys(names, 0)
    if kept is not None:
        codes[~kept] = -1
    return Labels(codes, tuple(known))


def _encode(part: Any, known: dict[str, int]) -> NDArray[np.int32]:
    """Turn the values of a series into numbers; new ones are added to those known."""
    import pandas as pd

    codes, values = pd.factorize(part)
    numbers = [known.setdefault(str(value), len(known)) for value in values]
    return np.array([*numbers, -1], np.int32)[codes]
