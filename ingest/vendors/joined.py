"""Columns of another table joined to the cells by id, missing where it has no such row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..source import BooleanValues, CategoricalValues, NumericValues, StringValues
from .column_values import taken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..source import ColumnKind, ColumnValues, ObsColumn

__all__ = ["JoinedColumn", "join_columns"]


@dataclass(frozen=True, slots=True)
class JoinedColumn:
    """A column of another table in the order of the cells.

    Examples
    --------
    >>> from tisseract.ingest.source import ArrayColumn
    >>> clusters = ArrayColumn("categorical", CategoricalValues(np.array([0, 1]), ("a", "b")))
    >>> JoinedColumn(clusters, np.array([1, -1])).read().codes.tolist()
    [1, -1]
    """

    column: ObsColumn
    """In the order of its own table."""
    rows: NDArray[np.int64]
    """(n,) row of each cell in that table, -1 where it has none."""

    @property
    def kind(self) -> ColumnKind:
        """Kind of the column."""
        return self.column.kind

    def read(self) -> ColumnValues:
        """Read the column and put it into the order of the cells."""
        lost = self.rows < 0
        values = taken(self.column.read(), np.maximum(self.rows, 0))
        if not lost.any():
            return values
        if isinstance(values, CategoricalValues):
            codes = np.where(lost, -1, values.codes)
            return CategoricalValues(codes, values.categories, values.ordered)
        mask = lost if values.mask is None else values.mask | lost
        if isinstance(values, StringValues):
            return StringValues(values.text, values.offsets, mask)
        if isinstance(values, BooleanValues):
            return BooleanValues(values.values, mask)
        return NumericValues(values.values, mask)


def join_columns(
    columns: Mapping[str, ObsColumn],
    rows: NDArray[np.int64],
    name: str,
    notes: list[str],
    *,
    what: str = "cells",
) -> dict[str, ObsColumn]:
    """Join the columns of a table; where it has no row they are missing, which is noted.

    Parameters
    ----------
    columns : mapping
        In the order of their own table.
    rows : array, (n,)
        Row of each cell in that table, -1 where it has none.
    name : str
        Of the file, for notes.
    notes : list of str
        Added to.
    what : str
        What the rows are of.

    Returns
    -------
    dict
        None of them when the table has no row for any cell.

    Examples
    --------
    >>> notes: list[str] = []
    >>> join_columns({}, np.array([0, -1]), "signals.csv", notes), notes
    ({}, ['signals.csv: 1 of 2 cells have no row'])
    """
    lost = int((rows < 0).sum())
    if lost == rows.size:
        notes.append(f"{name} names none of the {what}: its columns are left out")
        return {}
    if lost:
        notes.append(f"{name}: {lost} of {rows.size} {what} have no row")
    return {one: JoinedColumn(column, rows) for one, column in columns.items()}
