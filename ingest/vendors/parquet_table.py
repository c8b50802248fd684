"""Parquet tables, row group by row group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...atlas.errors import Fault, InputError
from ..reader import faults_of
from ..source import StringValues
from .column_values import (
    GroupedColumn,
    GroupedRead,
    as_text,
    kind_of_type,
    numbers_of,
    require_columns,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from ..source import ColumnKind, ObsColumn

__all__ = ["ParquetTable"]

_ROWS = 1 << 17


@dataclass(frozen=True, slots=True)
class ParquetTable:
    """A table in a Parquet file.

    Memory: the columns asked for of some 131,000 rows, and what the decoder holds of a row group.
    """

    path: Path
    """The file."""
    names: tuple[str, ...]
    """Columns."""
    n_rows: int
    """Rows, by the footer."""
    kinds: tuple[Any, ...]
    """Arrow type of each column."""

    @classmethod
    def of(cls, path: Path) -> ParquetTable:
        """Open a file; reads its footer."""
        import pyarrow.parquet as pq

        with faults_of(path, "a Parquet table", parsing=True), pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            if len(set(schema.names)) < len(schema.names):
                raise InputError(Fault(str(path), "expected every column once, but got one twice"))
            return cls(path, tuple(schema.names), file.metadata.num_rows, tuple(schema.types))

    def strings(self, name: str) -> StringValues:
        """Read a column as text; numbers in decimal."""
        return StringValues.join(
            StringValues.from_strings(as_text(batch.column(0))) for batch in self.batches([name])
        )

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Read a column of numbers; nulls are NaN."""
        return numbers_of(self, name)[:, 0]

    def columns(
        self, names: Sequence[str] | None = None, rows: NDArray[np.int64] | None = None
    ) -> dict[str, ObsColumn]:
        """Columns for obs, read in groups; lists and structs are left out."""
        chosen = tuple(self.names if names is None else names)
        require_columns(self.path, self.names, chosen)
        types = dict(zip(self.names, self.kinds, strict=True))
        kinds: dict[str, ColumnKind | None] = {name: kind_of_type(types[name]) for name in chosen}
        flat = tuple(name for name in chosen if kinds[name] is not None)
        group = GroupedRead(partial(_load, self), flat, self.n_rows)
        return {
            name: cast("ObsColumn", GroupedColumn(group, name, kind, rows))
            for name, kind in kinds.items()
            if kind is not None
        }

    def batches(
        self,
        columns: Sequence[str] | None = None,
        types: Mapping[str, pa.DataType] | None = None,
        rows: int = _ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Stream rows; text that repeats comes as dictionaries where the file has them."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        require_columns(self.path, self.names, columns or ())
        text = [
            name
            for name, kind in zip(self.names, self.kinds, strict=True)
            # Bytes that are asked for as bytes, such as polygons, are no words.
            if pa.types.is_string(kind)
            or (pa.types.is_binary(kind) and (types or {}).get(name) != pa.binary())
        ]
        with (
            faults_of(self.path, "a Parquet table", parsing=True),
            pq.ParquetFile(
                self.path, read_dictionary=text, pre_buffer=False, page_checksum_verification=True
            ) as file,
        ):
            wanted = None if columns is None else list(columns)
            checked: dict[str, Any] = {}
            for batch in file.iter_batches(rows, columns=wanted, use_threads=False):
                # The reader keeps the order of the file, not that of the question.
                ordered = batch if wanted is None else batch.select(wanted)
                for column, name in zip(ordered.columns, ordered.schema.names, strict=True):
                    if pa.types.is_dictionary(column.type):
                        checked[name] = _check_words(column, checked.get(name))
                yield _cast(ordered, types) if types else ordered


def _check_words(column: Any, checked: Any) -> Any:
    """Refuse what Arrow takes as it is from damaged pages: numbers past the words, no UTF-8.

    Words are looked at once, not with every batch of a row group; `checked` are the last ones.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    words = column.dictionary
    ends = pc.min_max(column.indices)
    if ends["max"].is_valid and not 0 <= ends["min"].as_py() <= ends["max"].as_py() < len(words):
        raise ValueError(f"a text of {len(words)} words has number {ends['max'].as_py()}")
    text: Any = words.buffers()[-1]
    known: Any = None if checked is None else checked.buffers()[-1]
    same = text is not None and known is not None and text.address == known.address
    if not (same and checked is not None and len(checked) == len(words)):
        if pa.types.is_binary(words.type):
            words.cast(pa.string())
        else:
            words.validate(full=True)
    return words


def _load(table: ParquetTable, names: Sequence[str]) -> dict[str, Any]:
    import pyarrow as pa

    found = pa.Table.from_batches(list(table.batches(names)))
    return {name: found.column(name).unify_dictionaries() for name in names}


def _cast(batch: pa.RecordBatch, types: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    import pyarrow as pa
    import pyarrow.types as kinds

    arrays = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        kind = types.get(name)
        if kind is None or kind == column.type:
            arrays.append(column)
        elif kinds.is_string(kind) or kinds.is_large_string(kind):
            arrays.append(as_text(column).cast(kind))
        else:
            plain = column.dictionary_decode() if kinds.is_dictionary(column.type) else column
            arrays.append(plain.cast(kind))
    return pa.RecordBatch.from_arrays(arrays, batch.schema.names)
