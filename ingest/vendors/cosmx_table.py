"""CosMx tables with what they lack: a name for the cell, global pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from .column_values import numbers_of, require_column
from .cosmx_keys import cell_names, packed, whole

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    from ..source import ObsColumn, StringValues
    from .cosmx_frame import FovFrame
    from .table import Table

__all__ = [
    "PIXELS",
    "KeyedTable",
    "columns_of",
    "key_columns",
    "numbers_by_role",
    "paired",
    "require_columns",
]

_KEYS = {"fov": ("fov", "FOV"), "cell": ("cell_ID", "cellID", "cell_Id")}
PIXELS = {
    "lx": ("x_local_px",),
    "ly": ("y_local_px",),
    "gx": ("x_global_px",),
    "gy": ("y_global_px",),
}
"""Columns of transcripts and vertices by role: local and global pixels."""


def columns_of(table: Table, **wanted: Sequence[str]) -> dict[str, str]:
    """Find columns under any of their spellings, letters of either case.

    >>> class Two:
    ...     names = ("FOV", "cellID")
    >>> columns_of(Two(), fov=["fov"], cell=["cell_ID", "cellID"], z=["z"])
    {'fov': 'FOV', 'cell': 'cellID'}
    """
    exact = set(table.names)
    folded = {name.casefold(): name for name in reversed(table.names)}
    found = {}
    for role, spellings in wanted.items():
        # cell_ID (a number) and cell_id (a name) stand in one file: the case decides first.
        name = next((one for one in spellings if one in exact), None)
        name = name or next(
            (folded[one.casefold()] for one in spellings if one.casefold() in folded), None
        )
        if name is not None:
            found[role] = name
    return found


def require_columns(table: Table, *names: str) -> None:
    """Refuse columns that a table lacks, naming near ones."""
    for name in names:
        require_column(table.path, table.names, name)


def key_columns(table: Table, **wanted: Sequence[str]) -> dict[str, str]:
    """Find the keys of the cells (`fov`, `cell`), which must be there, and further columns.

    Raises
    ------
    InputError
        No FOV, or no number of the cell.
    """
    found = columns_of(table, **_KEYS, **wanted)
    require_columns(table, *(one[0] for role, one in _KEYS.items() if role not in found))
    return found


def paired(values: Mapping[str, NDArray[np.float64]], x: str, y: str) -> NDArray[np.float64] | None:
    """(n, 2) of two roles, None where one of them is missing."""
    return np.stack([values[x], values[y]], axis=1) if x in values and y in values else None


def numbers_by_role(
    table: Table, names: Mapping[str, str], limit: int | None = None
) -> dict[str, NDArray[np.float64]]:
    """Read some columns as float64 by role, in one pass; about `limit` rows at most, if given."""
    values = numbers_of(table, *names.values(), limit=limit)
    return dict(zip(names, values.T, strict=True))


@dataclass(frozen=True)
class KeyedTable:
    """A table whose rows get the name of their cell, and global pixels where it lacks them."""

    table: Table
    """Vertices or transcripts."""
    fov: str
    """Column."""
    cell: str
    """Column with the number of the cell in its FOV, 0 outside."""
    key: str
    """Name of the column that is added, or given anew."""
    prefix: str = ""
    """Before FOV and number."""
    frame: FovFrame | None = None
    """Computes global pixels; None leaves the table's own."""
    local: tuple[str, str] = ("", "")
    """Columns of local pixels, for `frame`."""
    x: str = "x_global_px"
    """Column of global x, given or added."""
    y: str = "y_global_px"
    """Column of global y, given or added."""

    @property
    def path(self) -> Path:
        """The file."""
        return self.table.path

    @property
    def names(self) -> tuple[str, ...]:
        """Columns, the added ones last."""
        added = (self.key, *((self.x, self.y) if self.frame is not None else ()))
        return tuple(dict.fromkeys((*self.table.names, *added)))

    @property
    def n_rows(self) -> int:
        """Rows."""
        return self.table.n_rows

    def strings(self, name: str) -> StringValues:
        """Read a column of the file as text."""
        return self.table.strings(name)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Read a column of the file as numbers."""
        return self.table.numbers(name)

    def columns(
        self, names: Sequence[str] | None = None, rows: NDArray[np.int64] | None = None
    ) -> dict[str, ObsColumn]:
        """Columns of the file for obs."""
        return self.table.columns(names, rows)

    def batches(
        self, columns: Sequence[str] | None = None, types: Mapping[str, pa.DataType] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Stream rows with the added columns."""
        import pyarrow as pa

        wanted = list(self.names if columns is None else columns)
        computed = {self.key} | ({self.x, self.y} if self.frame is not None else set())
        kinds = dict(types or {})
        as_words = kinds.get(self.key)
        needs = [self.fov, self.cell, *(self.local if self.frame is not None else ())]
        own = list(dict.fromkeys([*(n for n in wanted if n not in computed), *needs]))
        places = dict.fromkeys(needs[2:], pa.float64())
        given = {name: kind for name, kind in kinds.items() if name not in computed} | places
        for batch in self.table.batches(own, given):
            made = self._made(batch, set(wanted) & computed)
            if as_words is not None and self.key in made:
                made[self.key] = made[self.key].cast(as_words)
            arrays = [made[n] if n in made else batch.column(own.index(n)) for n in wanted]
            yield pa.RecordBatch.from_arrays(arrays, wanted)

    def _made(self, batch: pa.RecordBatch, wanted: set[str]) -> dict[str, Any]:
        import pyarrow as pa

        fov, cell = (self._whole(batch, name) for name in (self.fov, self.cell))
        made: dict[str, Any] = {}
        if self.key in wanted:
            made[self.key] = _names(fov, cell, self.prefix)
        if self.frame is not None and wanted & {self.x, self.y}:
            at = batch.schema.get_field_index
            local = np.stack(
                [batch.column(at(n)).to_numpy(zero_copy_only=False) for n in self.local], axis=1
            )
            place = self.frame.to_global(fov, local.astype(np.float64))
            made |= {self.x: pa.array(place[:, 0]), self.y: pa.array(place[:, 1])}
        return made

    def _whole(self, batch: pa.RecordBatch, name: str) -> NDArray[np.int64]:
        import pyarrow as pa

        column = batch.column(batch.schema.get_field_index(name))
        where = f"{self.path}:{name}"
        if pa.types.is_integer(column.type) and column.null_count == 0:
            values = np.asarray(column.to_numpy(zero_copy_only=False), np.int64)
            if not values.size or (values.min() >= 0 and values.max() < 2**31):
                return values
        try:
            numbers = column.cast(pa.float64())
        except pa.ArrowInvalid as error:
            raise InputError(
                Fault(where, f"expected whole numbers, but got text: {error}")
            ) from error
        return whole(np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64), where)


def _names(fov: NDArray[np.int64], cell: NDArray[np.int64], prefix: str) -> Any:
    """Name the cells of some rows, as a dictionary; null outside cells."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = pa.array(packed(fov, cell), mask=cell == 0)
    coded = pc.dictionary_encode(keys)
    pairs = np.asarray(coded.dictionary, np.int64)
    words = cell_names(pairs >> 32, pairs & (2**32 - 1), prefix)
    return pa.DictionaryArray.from_arrays(coded.indices, words)
