"""Arrow columns as values of obs, and columns that are read in groups when their turn comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError, near
from ..source import BooleanValues, CategoricalValues, NumericValues, StringValues

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..source import ColumnKind, ColumnValues
    from .table import Table

__all__ = [
    "GroupedColumn",
    "GroupedRead",
    "as_text",
    "kind_of_type",
    "listed",
    "numbers_of",
    "require_column",
    "require_columns",
    "taken",
    "values_of",
]

_GROUP_BYTES = 48 * 2**20
_ROW_BYTES = 16  # of a column being converted: numbers 8 + 8, short text about as much
_FEW = 1 << 15  # distinct words that still make categories
_MANY_ROWS_A_WORD = 8
_SHOWN = 12


def require_column(path: Path, names: Sequence[str], name: str) -> None:
    """Refuse a column that a table does not have.

    Raises
    ------
    InputError
        Naming near ones.
    """
    require_columns(path, names, [name])


def require_columns(path: Path, names: Sequence[str], wanted: Iterable[str], key: str = "") -> None:
    """Refuse columns that a table does not have, all of them at once.

    Parameters
    ----------
    path, names
        Of the table.
    wanted : iterable of str
        Columns.
    key : str
        Who asks for them, for messages.

    Raises
    ------
    InputError
        Naming near ones.
    """
    faults = [
        Fault(
            f"{path} ({key})" if key else str(path),
            f"expected a column {name!r}, but got {listed(names)}.{near(name, names)}",
        )
        for name in wanted
        if name not in names
    ]
    if faults:
        raise InputError(faults)


def listed(names: Sequence[str]) -> str:
    """Name the first columns of a table.

    Examples
    --------
    >>> listed([f"c{k}" for k in range(99)])
    'c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, …'
    """
    return f"{', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"


def numbers_of(table: Table, *names: str, limit: int | None = None) -> NDArray[np.float64]:
    """Read columns of numbers in one pass.

    Parameters
    ----------
    table : Table
        The table.
    names : str
        Columns, in any order; one may be asked for twice.
    limit : int, optional
        Rows that are enough: reading stops with the batch that has them.

    Returns
    -------
    ndarray (n, k)
        NaN where a cell is empty.
    """
    import pyarrow as pa

    distinct = list(dict.fromkeys(names))
    at = [distinct.index(name) for name in names]
    pieces = [np.empty((0, len(names)))]
    rows = 0
    for batch in table.batches(distinct, dict.fromkeys(distinct, pa.float64())):
        columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
        pieces.append(np.stack([columns[k] for k in at], axis=1).astype(np.float64, copy=False))
        rows += batch.num_rows
        if limit is not None and rows >= limit:
            break
    return np.concatenate(pieces)


def kind_of_type(kind: Any) -> ColumnKind | None:
    """Kind of obs column that an Arrow type becomes; None for lists, structs and the like."""
    import pyarrow.types as kinds

    if kinds.is_boolean(kind):
        return "boolean"
    if kinds.is_dictionary(kind):
        return "categorical"
    if kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind):
        return "numeric"
    if kinds.is_null(kind):
        return "numeric"
    return None if kinds.is_nested(kind) else "string"


def values_of(column: Any) -> ColumnValues:
    """Values of an Arrow column; text of few words becomes categories.

    Parameters
    ----------
    column : pyarrow.Array or ChunkedArray, (n,)
        Nulls are missing.

    Examples
    --------
    >>> import pyarrow as pa
    >>> values_of(pa.array([1, None])).mask.tolist()
    [False, True]
    """
    import pyarrow as pa
    import pyarrow.types as kinds

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if kinds.is_null(column.type):
        return NumericValues(np.full(len(column), np.nan))
    if kinds.is_dictionary(column.type) and _is_few(len(column.dictionary), len(column)):
        return _categories(column)
    kind = kind_of_type(column.type)
    if kind in {"boolean", "numeric"}:
        mask = np.asarray(column.is_null()) if column.null_count else None
        if kind == "boolean":
            return BooleanValues(np.asarray(column.fill_null(False)).astype(bool), mask)
        if kinds.is_decimal(column.type):
            column = column.cast(pa.float64())
        zero = 0 if mask is None else pa.scalar(0).cast(column.type)
        return NumericValues(np.asarray(column if mask is None else column.fill_null(zero)), mask)
    text = as_text(column)
    coded = text.dictionary_encode()
    if _is_few(len(coded.dictionary), len(text)):
        return _categories(coded)
    return StringValues.from_strings(text)


def as_text(column: Any) -> Any:
    """Words of an Arrow column, also of bytes and of dictionaries of them."""
    import pyarrow as pa
    import pyarrow.types as kinds

    if kinds.is_dictionary(column.type):
        words = column.dictionary.cast(pa.large_string())
        return pa.DictionaryArray.from_arrays(column.indices, words).cast(pa.large_string())
    return column.cast(pa.large_string())


def _is_few(n_words: int, n_rows: int) -> bool:
    return n_words <= min(_FEW, max(1, n_rows // _MANY_ROWS_A_WORD))


def _categories(column: Any) -> CategoricalValues:
    import pyarrow as pa

    words = [str(word) for word in column.dictionary.cast(pa.large_string()).to_pylist()]
    codes = np.asarray(column.indices.fill_null(-1)).astype(np.int64)
    order = np.argsort(np.array(words, dtype=object), kind="stable")
    place = np.empty(len(words) + 1, np.int64)
    place[order] = np.arange(len(words))
    place[-1] = -1
    small = np.int8 if len(words) < 2**7 else np.int16 if len(words) < 2**15 else np.int32
    return CategoricalValues(place[codes].astype(small), tuple(words[k] for k in order.tolist()))


def taken(values: ColumnValues, rows: NDArray[np.int64]) -> ColumnValues:
    """Rows of a column, in any order."""
    if isinstance(values, StringValues):
        return values.take(rows)
    if isinstance(values, CategoricalValues):
        return CategoricalValues(values.codes[rows], values.categories, values.ordered)
    mask = None if values.mask is None else values.mask[rows]
    if isinstance(values, BooleanValues):
        return BooleanValues(values.values[rows], mask)
    return NumericValues(values.values[rows], mask)


@dataclass(slots=True)
class GroupedRead:
    """Columns that come by one pass over a file, several at a time: a pass may cost a second."""

    load: Callable[[Sequence[str]], Mapping[str, Any]]
    """Reads some columns, as Arrow columns by name."""
    names: tuple[str, ...]
    """Columns in the order in which they will be asked for."""
    n_rows: int
    """Rows of the file."""
    _held: dict[str, Any] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def column(self, name: str) -> ColumnValues:
        """Read a column, and the ones after it that fit into 48 MiB; each is handed out once."""
        with self._lock:
            if name not in self._held:
                at = self.names.index(name)
                fits = max(1, _GROUP_BYTES // max(1, self.n_rows * _ROW_BYTES))
                self._held = dict(self.load(self.names[at : at + fits]))
            found = self._held.pop(name)
        return values_of(found)

    def __getstate__(self) -> tuple[Any, ...]:
        return self.load, self.names, self.n_rows

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.load, self.names, self.n_rows = state
        self._held, self._lock = {}, Lock()


@dataclass(frozen=True, slots=True)
class GroupedColumn:
    """One column of a group."""

    group: GroupedRead
    """Where it is read with others."""
    name: str
    """Column."""
    kind: ColumnKind
    """Kind by the first rows; text of few words comes as categories."""
    rows: NDArray[np.int64] | None = None
    """Rows taken, in this order; None takes all."""

    def read(self) -> ColumnValues:
        """Read the column."""
        values = self.group.column(self.name)
        return values if self.rows is None else taken(values, self.rows)
