"""Keyword sugar: `timepoint="E12.5"`, `domain=["CA1", "CA3"]`, `timepoint=slice("P7", "P56")`."""

import math
from collections.abc import Collection, Mapping

import numpy as np

from ...atlas.errors import InvalidArgument
from .columns import Columns
from .predicate import And, Compare, In, Null, Or, Predicate, Scalar, conjunction

type Wanted = object
"""A value, a list of values and None (missing), or a slice with both ends included."""


def lower(column: str, wanted: Wanted, columns: Columns) -> Predicate:
    """Turn `column=wanted` into a predicate.

    Parameters
    ----------
    column
        Name of a column.
    wanted
        A value is `==`, a collection is `in` (None within it asks for missing values), a slice
        is a closed range: by number, or in order of time for timepoints. None is no filter.
    columns
        The columns of the atlas.

    Raises
    ------
    InvalidArgument
        A slice with a step or without ends, or on text without an order; NaN, which equals
        nothing.
    ColumnNotFound
        No filter on a column that is not there.
    """
    if isinstance(wanted, slice):
        return _range(column, wanted, columns)
    if wanted is None:
        columns.resolve(column)  # a misspelled name is told all the same
        return And(())
    if isinstance(wanted, Collection) and not isinstance(wanted, str | bytes | Mapping):
        return _among(column, wanted)
    return Compare(column, "==", scalar(column, wanted))


def _among(column: str, wanted: Collection[object]) -> Predicate:
    known = tuple(scalar(column, value) for value in wanted if value is not None)
    among = In(column, known)
    return Or((among, Null(column))) if len(known) < len(wanted) else among


def _range(column: str, wanted: slice, columns: Columns) -> Predicate:
    if wanted.step is not None or (wanted.start is None and wanted.stop is None):
        raise InvalidArgument(
            f"slice(first, last) is wanted for {column}=, but got {wanted}; both ends belong to it"
        )
    order = columns.resolve(column).order
    if order is not None and {wanted.start, wanted.stop} <= {*order, None}:
        first = 0 if wanted.start is None else order.index(wanted.start)
        last = len(order) - 1 if wanted.stop is None else order.index(wanted.stop)
        if first > last:
            raise InvalidArgument(
                f"a slice forward in time is wanted for {column}=, but got {wanted.start!r} to "
                f"{wanted.stop!r}; the order is {', '.join(order)}"
            )
    parts: list[Predicate] = []
    if wanted.start is not None:
        parts.append(Compare(column, ">=", scalar(column, wanted.start)))
    if wanted.stop is not None:
        parts.append(Compare(column, "<=", scalar(column, wanted.stop)))
    return conjunction(parts)


def scalar(column: str, value: object) -> Scalar:
    """Make a plain value from a Python or NumPy one.

    Raises
    ------
    InvalidArgument
        Anything but text, a number or a boolean; NaN.

    Examples
    --------
    >>> scalar("n", np.int64(3))
    3
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        raise InvalidArgument(
            f"a value is wanted for {column}=, but got NaN, which equals nothing; missing values "
            f"are found by {column}=[None], or by `{column} is null` in a filter string"
        )
    if isinstance(value, str | int | float | bool):
        return value
    raise InvalidArgument(
        f"text, a number or a boolean is wanted for {column}=, but got {type(value).__name__}"
    )
