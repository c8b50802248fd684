"""Columns of another table joined to the cells by id, missing where it has no such row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..source import BooleanValues, CategoricalValues, NumericValues, StringValues
from .column_values import taken

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..source import ColumnKind, ColumnValues, ObsColumn

__all__ = ["JoinedColumn"]


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
