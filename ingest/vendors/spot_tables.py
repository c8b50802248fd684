"""Tables with one row a barcode that Space Ranger writes beside the matrix, as columns of obs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..source import NumericValues
from .spaceranger_parts import within
from .table import open_table

if TYPE_CHECKING:
    from ..source import ColumnKind, ObsColumn, StringValues
    from .folder import Folder
    from .table import Table

__all__ = ["find_spot_tables", "spot_columns"]

# Immunofluorescence of each spot, and the factors that antibody counts may be divided by.
_TABLES = {
    "fluorescence": "barcode_fluorescence_intensity.csv",
    "isotype": "isotype_normalization_factors.csv",
}
_BARCODE = ("barcode", "Barcode")


def find_spot_tables(folder: Folder, bases: tuple[str, ...]) -> dict[str, Path]:
    """Find the tables that are there; they lie in `spatial` or beside it."""
    places = (*(f"{base}spatial/" for base in bases), *bases)
    found = {}
    for name, file in _TABLES.items():
        one = folder.find(*within(places, file))
        if one is not None:
            found[name] = one
    return found


def spot_columns(
    tables: Mapping[str, Path], ids: StringValues, taken: Mapping[str, object]
) -> dict[str, ObsColumn]:
    """Columns of the tables, matched by barcode when they are read; all are numbers.

    Parameters
    ----------
    tables : mapping
        Files by name.
    ids : StringValues, (n,)
        Barcodes in row order.
    taken : mapping
        Names of columns that are there already.

    Raises
    ------
    InputError
        A table that cannot be read.
    """
    columns: dict[str, ObsColumn] = {}
    for name, path in tables.items():
        table = open_table(path)
        barcode = next((one for one in _BARCODE if one in table.names), table.names[0])
        for one in table.names:
            if one in {barcode, "in_tissue"}:
                continue
            title = one if one not in taken and one not in columns else f"{name}_{one}"
            columns[title] = _SpotColumn(table, barcode, one, ids)
    return columns


@dataclass(frozen=True, slots=True)
class _SpotColumn:
    """A column of numbers in the order of the barcodes; NaN where the table lacks one."""

    table: Table
    barcode: str
    name: str
    ids: StringValues
    kind: ColumnKind = "numeric"

    def read(self) -> NumericValues:
        rows = self.ids.find_in(self.table.strings(self.barcode))
        numbers = np.append(self.table.numbers(self.name), np.nan)
        return NumericValues(numbers[rows])
