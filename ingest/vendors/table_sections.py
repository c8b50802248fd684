"""One section of a table: rows chosen by a column, and tables that look like several refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError, near
from ..several import judge, worth_reading
from ..split import encode
from .column_values import require_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..reader import ReadOptions
    from .table import Table

__all__ = ["asked_where", "chosen_rows", "refuse_several"]

_SHOWN = 8


def asked_where(options: ReadOptions) -> dict[str, str]:
    """Columns and values that the sheet chooses rows by; none where it does not.

    Raises
    ------
    InputError
        They are something else.
    """
    given = options.reader_kwargs.get("where")
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InputError(
            Fault("reader_kwargs", f"expected where as columns and values, but got {given!r:.60}")
        )
    return {str(name): str(value) for name, value in given.items()}


def chosen_rows(table: Table, where: Mapping[str, str]) -> NDArray[np.bool_]:
    """(n,) True for rows whose columns hold the values asked for.

    Raises
    ------
    InputError
        No such column, or no such row; names the values that there are.
    """
    kept = np.ones(table.n_rows, bool)
    require_columns(table.path, table.names, where, "cells.where")
    for column, value in where.items():
        codes, labels = encode(table.strings(column))
        if value not in labels:
            raise InputError(
                Fault(
                    f"{table.path}:{column}",
                    f"expected {value!r} in some row, but got {', '.join(labels[:_SHOWN])}."
                    f"{near(value, labels)}",
                )
            )
        kept &= codes == labels.index(value)
    if not kept.any():
        raise InputError(Fault(f"{table.path} (cells.where)", "expected cells, but got none"))
    return kept


def refuse_several(
    table: Table, positions: NDArray[np.float64], names: Sequence[str], rows: NDArray[np.int64]
) -> None:
    """Refuse a table that looks like several sections.

    Parameters
    ----------
    table : Table
        Of the cells.
    positions : ndarray (k, 2)
        Of the rows.
    names : sequence of str
        Columns that are neither id, position nor gene.
    rows : ndarray (k,)
        Rows of the table that are cells.

    Raises
    ------
    InputError
        Naming the columns that show it.
    """
    kinds = {name: column.kind for name, column in table.columns(names).items()}
    looked = [name for name in names if worth_reading(name, kinds.get(name))]
    columns = {name: encode(table.strings(name))[0][rows] for name in looked}
    shown = [evidence.column for evidence in judge(positions, columns)]
    if shown:
        raise InputError(
            Fault(
                str(table.path),
                f"expected one section, but got a table that {shown[0]!r} tells into several; "
                "choose one in each row with reader_kwargs "
                f'{{"where": {{"{shown[0]}": VALUE}}}}, or set split_by to none',
            )
        )
