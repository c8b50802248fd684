"""Delimited text, gzipped or not, parsed block by block by Arrow."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...atlas.errors import Fault, InputError
from ..packed import open_bytes
from ..reader import faults_of
from ..source import StringValues
from ..text_values import MISSING, first_guess, typed_words
from .column_values import (
    GroupedColumn,
    GroupedRead,
    kind_of_type,
    numbers_of,
    require_columns,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from ..source import ObsColumn

__all__ = ["TextTable", "first_words"]

_BLOCK = 2**22
_HEADER_BYTES = 2**24  # a header of 20,000 genes has some 200 KB
_DECIMAL_COMMA = re.compile(r"'-?\d+,\d+'")
_DELIMITERS = ("\t", ",", ";", " ")


@dataclass(frozen=True)
class TextTable:
    """A table in a text file.

    Memory: a block of 4 MiB of text and its columns, whatever the size of the file.
    """

    path: Path
    """The file."""
    names: tuple[str, ...]
    """Columns; one without a name is called `column_<number>`."""
    delimiter: str
    """Between the cells."""
    head_rows: int
    """Lines before the data."""
    _settled: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        path: Path,
        *,
        delimiter: str | None = None,
        names: Sequence[str] | None = None,
        skip_rows: int = 0,
    ) -> TextTable:
        """Open a file; reads its header."""
        with faults_of(path, "a table", parsing=True), open_bytes(path) as file:
            for _ in range(skip_rows):
                file.readline(_HEADER_BYTES)
            line = file.readline(_HEADER_BYTES).decode("utf-8-sig").rstrip("\r\n")
            below = file.readline(_HEADER_BYTES).decode("utf-8", "replace").rstrip("\r\n")
            found = delimiter or _delimiter(line, below)
            cells = next(csv.reader([line], delimiter=found), [])
            if names is None and len(cells) > 0:
                # R writes one name less than columns where rows have names.
                wide = len(next(csv.reader([below], delimiter=found), [])) if below else 0
                cells = ["", *cells] if wide == len(cells) + 1 else cells
        if not cells:
            raise InputError(Fault(str(path), "expected a table, but got an empty file"))
        given = tuple(names) if names is not None else tuple(cells)
        titles = tuple(cell.strip() or f"column_{k}" for k, cell in enumerate(given))
        if twice := sorted(name for name, times in Counter(titles).items() if times > 1):
            raise InputError(
                Fault(f"{path} line 1", f"expected every column once, but got {twice[0]!r} twice")
            )
        return cls(path, titles, found, skip_rows + (names is None))

    def renamed(self, names: Sequence[str]) -> TextTable:
        """Give the columns other names."""
        return replace(self, names=tuple(names))

    @property
    def n_rows(self) -> int:
        """Rows, counted by reading the file once."""
        return self._n_rows

    @cached_property
    def _n_rows(self) -> int:
        import pyarrow as pa

        first = self.names[:1]
        return sum(one.num_rows for one in self.batches(first, dict.fromkeys(first, pa.string())))

    @cached_property
    def _types(self) -> dict[str, Any]:
        """Types by the first block."""
        import pyarrow as pa

        for batch in self._read(None, None):
            kinds = [first_guess(kind) for kind in batch.schema.types]
            return dict(zip(batch.schema.names, kinds, strict=True))
        return dict.fromkeys(self.names, pa.string())

    def _by_words(self, names: Sequence[str]) -> dict[str, Any]:
        """Types by the words of the first block."""
        found = {name: self._types[name] for name in names}
        numbers = [name for name, kind in found.items() if not _is_text(kind)]
        for batch in self._words(numbers):
            for name, words in zip(numbers, batch.columns, strict=True):
                found[name] = typed_words(words, found[name]).type
            break
        return found

    def _words(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        return self._read(names, dict.fromkeys(names, pa.string())) if names else iter(())

    def _settle(self, names: Sequence[str]) -> dict[str, Any]:
        """Types that every row of the columns fits, found once.

        Cost: a pass over files larger than a block; a second one where the first block misled.
        """
        if open_ := [name for name in names if name not in self._settled]:
            found = self._by_words(open_)
            if _compression(self.path) or self.path.stat().st_size > _BLOCK:
                found = self._widened(found)
            self._settled.update({name: _certain(kind) for name, kind in found.items()})
        return {name: self._settled[name] for name in names}

    def _widened(self, kinds: dict[str, Any]) -> dict[str, Any]:
        from pyarrow import types

        numbers = [name for name, kind in kinds.items() if not _is_text(kind)]
        if not any(types.is_null(kinds[name]) for name in numbers):
            try:
                for _ in self._read(numbers, {name: kinds[name] for name in numbers}):
                    pass
            except _ValueError:
                pass
            else:
                return kinds
        found = dict(kinds)
        for batch in self._words(numbers):
            for name, words in zip(numbers, batch.columns, strict=True):
                found[name] = typed_words(words, found[name]).type
        return found

    def strings(self, name: str) -> StringValues:
        """Read a column as text."""
        import pyarrow as pa

        pieces = (
            StringValues.from_strings(batch.column(0))
            for batch in self.batches([name], {name: pa.string()})
        )
        return StringValues.join(pieces)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Read a column of numbers; empty cells are NaN."""
        return numbers_of(self, name)[:, 0]

    def columns(
        self, names: Sequence[str] | None = None, rows: NDArray[np.int64] | None = None
    ) -> dict[str, ObsColumn]:
        """Columns for obs, read in groups."""
        chosen = tuple(self.names if names is None else names)
        require_columns(self.path, self.names, chosen)
        group = GroupedRead(partial(_load, self), chosen, self.n_rows)
        types = self._by_words(chosen)
        return {
            name: cast("ObsColumn", GroupedColumn(group, name, kind, rows))
            for name in chosen
            if (kind := kind_of_type(types[name])) is not None
        }

    def batches(
        self,
        columns: Sequence[str] | None = None,
        types: Mapping[str, pa.DataType] | None = None,
        block_bytes: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Stream rows; types that are not given are those that every row fits."""
        given = dict(types or {})
        wanted = self.names if columns is None else columns
        require_columns(self.path, self.names, columns or ())
        given |= self._settle([name for name in wanted if name not in given])
        yield from self._read(columns, given, block_bytes)

    def _read(
        self,
        columns: Sequence[str] | None,
        types: Mapping[str, pa.DataType] | None,
        block_bytes: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Stream rows; Arrow infers types that are not given by the first block."""
        import pyarrow as pa

        with (
            faults_of(self.path, "a table", parsing=True),
            pa.input_stream(str(self.path), compression=_compression(self.path)) as stream,
        ):
            try:
                yield from self.parse(stream, columns, types, block_bytes or _BLOCK, self.head_rows)
            except pa.ArrowInvalid as error:
                if "conversion error" not in str(error):
                    raise
                message = f"expected values of one kind, but got: {error}"
                if _DECIMAL_COMMA.search(str(error)):
                    message += "; numbers are written with decimal commas: export them with points"
                raise _ValueError(Fault(str(self.path), message)) from error

    def parse(
        self,
        stream: Any,
        columns: Sequence[str] | None,
        types: Mapping[str, pa.DataType] | None,
        block_bytes: int = _BLOCK,
        skip_rows: int = 0,
    ) -> Iterator[pa.RecordBatch]:
        """Stream rows of text that has the table's columns: the file, or lines of it."""
        import pyarrow as pa
        from pyarrow import csv as text

        try:
            reader = text.open_csv(
                stream,
                # A row must fit into a block; wide ones have long rows.
                text.ReadOptions(
                    column_names=list(self.names),
                    skip_rows=skip_rows,
                    block_size=max(block_bytes, 64 * len(self.names)),
                    use_threads=False,
                ),
                text.ParseOptions(delimiter=self.delimiter),
                text.ConvertOptions(
                    include_columns=None if columns is None else list(columns),
                    column_types=None if types is None else dict(types),
                    null_values=list(MISSING),
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error) or (skip_rows and self._is_header_alone()):
                return  # a table without rows
            raise
        yield from reader

    def _is_header_alone(self) -> bool:
        with open_bytes(self.path) as file:
            for _ in range(self.head_rows):
                file.readline(_HEADER_BYTES)
            return not file.read(1)


def first_words(path: Path, delimiter: str | None = None) -> tuple[str, ...]:
    """Cells of the first line, which may repeat: a header, or data where there is none."""
    with faults_of(path, "a table", parsing=True), open_bytes(path) as file:
        line, below = (
            file.readline(_HEADER_BYTES).decode("utf-8-sig", "replace").rstrip("\r\n")
            for _ in range(2)
        )
        return tuple(next(csv.reader([line], delimiter=delimiter or _delimiter(line, below)), []))


def _delimiter(line: str, below: str) -> str:
    """Tell the delimiter by the first two lines: the first of the rank that splits both alike."""
    bare, under = (re.sub('"[^"]*"', "", text) for text in (line, below))
    ranked = [one for one in _DELIMITERS if one in bare]
    for one in ranked:
        # R writes one name less than columns where rows have names.
        if not below or under.count(one) - bare.count(one) in {0, 1}:
            return one
    # Spaces alone are as likely in the name of an only column.
    return next((one for one in ranked if one != " "), "\t")


class _ValueError(InputError):
    """A cell that is no value of its column's type."""


def _load(table: TextTable, names: Sequence[str]) -> dict[str, Any]:
    """Read some columns; what is no number further down is text."""
    import pyarrow as pa

    types = {name: table._types[name] for name in names}
    wanted = {name: pa.string() for name in names}
    found = pa.Table.from_batches(list(table.batches(names, wanted)), pa.schema(wanted))
    return {name: typed_words(found.column(name), types[name]) for name in names}


def _certain(kind: Any) -> Any:
    """Type of a column that is empty from top to bottom: numbers."""
    import pyarrow as pa

    return pa.float64() if pa.types.is_null(kind) else kind


def _is_text(kind: Any) -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_string(kind))


def _compression(path: Path) -> str | None:
    return "gzip" if path.suffix.casefold() == ".gz" else None
