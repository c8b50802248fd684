"""Missing values of a column where none may be missing: found by mask, code or NaN, and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError
from .source import CategoricalValues, ColumnValues, NumericValues, StringValues

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["complete_numbers", "missing", "name_rows", "refuse_missing"]

_SHOWN = 5


def missing(values: ColumnValues) -> NDArray[np.bool_]:
    """(n,) True where a value is missing: masked, without a category, or NaN.

    Examples
    --------
    >>> missing(NumericValues(np.array([1.0, np.nan]), np.array([True, False]))).tolist()
    [True, True]
    """
    if isinstance(values, CategoricalValues):
        return np.asarray(values.codes < 0)
    if isinstance(values, NumericValues):
        numbers: NDArray[Any] = values.values
        found = np.isnan(numbers) if numbers.dtype.kind == "f" else np.zeros(numbers.size, bool)
        return found if values.mask is None else found | values.mask
    if values.mask is not None:
        return values.mask
    return np.zeros(len(values) if isinstance(values, StringValues) else values.values.size, bool)


def name_rows(rows: NDArray[np.integer]) -> str:
    """Say how many rows and which, the first few by number.

    Examples
    --------
    >>> name_rows(np.array([3, 8]))
    '2 rows (3, 8)'
    """
    listed = ", ".join(map(str, rows[:_SHOWN].tolist()))
    more = ", ..." if rows.size > _SHOWN else ""
    return f"{rows.size} row{'s' if rows.size != 1 else ''} ({listed}{more})"


def refuse_missing(values: ColumnValues, where: str, wanted: str) -> None:
    """Refuse a column in which a value is missing.

    Parameters
    ----------
    values : ColumnValues
        The column.
    where : str
        Place of the column.
    wanted : str
        What each row must have, as "a position".

    Raises
    ------
    InputError
        Naming the rows.
    """
    rows = np.flatnonzero(missing(values))
    if rows.size:
        raise InputError(
            Fault(
                where,
                f"expected {wanted} in every row, but got none in {name_rows(rows)}; remove these "
                "cells, or fill the values in",
            )
        )


def complete_numbers(values: ColumnValues, where: str, wanted: str) -> NDArray[np.float64]:
    """Hand out a numeric column as float64, refused when a value is missing.

    Raises
    ------
    InputError
        Naming the rows without a value, or because the column holds no numbers.
    """
    if not isinstance(values, NumericValues):
        kind = type(values).__name__.removesuffix("Values").lower()
        raise InputError(Fault(where, f"expected numbers, but got a {kind} column"))
    refuse_missing(values, where, wanted)
    numbers: NDArray[Any] = values.values
    return numbers.astype(np.float64)
