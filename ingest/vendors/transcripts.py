"""Tables of transcripts as points of a section, streamed in stored units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...atlas.points import PointsSource
from ..reader import faults_of
from .column_values import as_text, require_columns

if TYPE_CHECKING:
    import pyarrow as pa

    from .table import Table

__all__ = ["transcripts"]


@dataclass(frozen=True, slots=True)
class _Stream:
    table: Table
    names: Mapping[str, str]
    scale: float
    flip: bool
    cell: str | None
    no_cell: tuple[str, ...]
    types: Mapping[str, pa.DataType] = field(default_factory=dict)

    def __call__(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for batch in self.table.batches(list(self.names), self.types):
            with faults_of(self.table.path, "transcripts", parsing=True):
                arrays = [
                    self._stored(name, column)
                    for name, column in zip(self.names, batch.columns, strict=True)
                ]
            yield pa.RecordBatch.from_arrays(arrays, list(self.names.values()))

    def _stored(self, name: str, column: Any) -> Any:
        """Values as they are stored: micrometers, y down, no cell as null."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.types as kinds

        stored = self.names[name]
        if stored in {"x", "y"}:
            sign = -1.0 if stored == "y" and self.flip else 1.0
            numbers = column if kinds.is_floating(column.type) else column.cast(pa.float64())
            factor = sign * self.scale
            return (
                numbers if factor == 1.0 else pc.multiply(numbers, pa.scalar(factor, numbers.type))
            )
        if stored == "z":
            return column if kinds.is_floating(column.type) else column.cast(pa.float64())
        if name == self.cell:
            return _cells(column, self.no_cell)
        return column


def _cells(column: Any, no_cell: Sequence[str]) -> Any:
    """Cell ids as text, null where there is no cell."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    if kinds.is_dictionary(column.type):
        words = _cells(column.dictionary, no_cell)
        outside = pc.is_null(words).take(column.indices)
        indices = pc.if_else(outside, pa.scalar(None, column.indices.type), column.indices)
        return pa.DictionaryArray.from_arrays(indices, words.fill_null(""))
    text = as_text(column).cast(pa.string())
    outside = pc.is_in(text, value_set=pa.array(list(no_cell), pa.string()))
    return pc.if_else(outside, pa.scalar(None, pa.string()), text)


def transcripts(
    table: Table,
    *,
    x: str,
    y: str,
    gene: str,
    z: str | None = None,
    cell: str | None = None,
    no_cell: Sequence[str] = (),
    scale: float = 1.0,
    flip: bool = False,
    rename: Mapping[str, str] | None = None,
    types: Mapping[str, Any] | None = None,
) -> PointsSource:
    """Points of a table with one transcript a row.

    Parameters
    ----------
    table : Table
        The transcripts.
    x, y, gene : str
        Columns; x and y become `x` and `y` in stored units.
    z : str, optional
        Column that becomes `z`, in its own unit.
    cell : str, optional
        Column that names the cell.
    no_cell : sequence of str
        Its values for transcripts outside cells; they become null.
    scale, flip
        Stored = source x scale, y negated when `flip`.
    rename : mapping, optional
        Other names for further columns. Columns called x, y or z that are not the coordinates
        become `x_source` and so on.
    types : mapping, optional
        Arrow types of columns of text files, where the first block may mislead.

    Returns
    -------
    PointsSource
        All columns; streams a block of the table at a time.

    Raises
    ------
    InputError
        A column is not there.
    """
    import pyarrow as pa

    from .parquet_table import ParquetTable

    given = {x: "x", y: "y"} | ({z: "z"} if z else {})
    require_columns(table.path, table.names, [*given, gene, *([cell] if cell else [])])
    known = {**(rename or {}), **given}
    named = {name: known.get(name) or _free_name(name, table.names) for name in table.names}
    fixed = {name: pa.float64() for name in given} if _is_text(table) else {}
    if cell and _is_text(table):
        fixed[cell] = pa.string()
    return PointsSource(
        _Stream(table, named, scale, flip, cell, tuple(no_cell), fixed | dict(types or {})),
        feature_key=named[gene],
        instance_key=named[cell] if cell else "",
        # Text has no such number: counting its lines is a pass over the file.
        n_rows=table.n_rows if isinstance(table, ParquetTable) else None,
    )


def _free_name(name: str, names: Sequence[str]) -> str:
    """Name of a further column, which is none of a coordinate."""
    own = name
    while own in {"x", "y", "z"} or (own != name and own in names):
        own += "_source"
    return own


def _is_text(table: Table) -> bool:
    from .text_table import TextTable

    return isinstance(table, TextTable)
