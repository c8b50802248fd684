"""AnnData data frames, one column at a time, on HDF5 or Zarr, in every encoding in use.

Known: arrays, string arrays (fixed or variable length), categoricals (groups since anndata 0.7.8,
`__categories` references before), nullable integers, booleans and strings, and the compound tables
of anndata before 0.7. Anything else, pickled objects above all, is refused when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError
from .missing import missing
from .source import (
    BooleanValues,
    CategoricalValues,
    ColumnKind,
    ColumnValues,
    NumericValues,
    ObsColumn,
    StringValues,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "LazyColumn",
    "MaskedColumn",
    "OpenedNode",
    "TextColumn",
    "column_kind",
    "column_names",
    "index_name",
    "iter_duplicates",
    "kinds",
    "n_rows",
    "read_column",
    "read_strings",
    "read_text",
]

_FIRST_ROWS = 4_096  # of a column, before it is known how long its strings are
_TEXT_BYTES = 4 * 2**20  # of text read at a time
_TEXT_ROWS = 65_536  # strings are Python objects only this many at a time


def _attr(node: Any, key: str, default: str = "") -> str:
    value = node.attrs.get(key, default)
    return value.decode() if isinstance(value, bytes) else str(value)


def _is_group(node: Any) -> bool:
    return hasattr(node, "keys") and not hasattr(node, "shape")


def _is_table(frame: Any) -> bool:
    """Whether a frame is one compound dataset, as anndata wrote before 0.7."""
    return not _is_group(frame) and frame.dtype.names is not None


def index_name(frame: Any) -> str:
    """Name of the column that holds the row names."""
    if _is_table(frame):
        names = frame.dtype.names
        return "index" if "index" in names else "_index" if "_index" in names else str(names[0])
    name = _attr(frame, "_index", "_index")
    return name if name in frame or "index" not in frame else "index"


def column_names(frame: Any) -> tuple[str, ...]:
    """Names of the columns, in their order, without the row names."""
    if _is_table(frame):
        names: Sequence[str] = frame.dtype.names
    else:
        order = frame.attrs.get("column-order")
        names = [
            n.decode() if isinstance(n, bytes) else str(n) for n in ([] if order is None else order)
        ]
        names = [n for n in names if n in frame] or [n for n in frame if n != "__categories"]
    index = index_name(frame)
    return tuple(name for name in names if name != index)


def n_rows(frame: Any) -> int:
    """Rows of the frame."""
    if _is_table(frame):
        return int(frame.shape[0])
    return int(_length(frame[index_name(frame)]))


def _length(node: Any) -> int:
    if not _is_group(node):
        return int(node.shape[0])
    return int(node["codes" if "codes" in node else "values"].shape[0])


def _is_text(dtype: Any) -> bool:
    """Whether a dtype holds strings: fixed, variable (h5py marks it), or Zarr's own."""
    if dtype.kind in "SUT":
        return True
    if dtype.kind != "O":
        return False
    import h5py

    # Zarr's variable-length strings are plain objects, h5py's carry a mark; h5py objects without
    # it are arrays of arrays or references.
    return h5py.check_string_dtype(dtype) is not None or not (dtype.metadata or {})


def column_kind(frame: Any, name: str) -> ColumnKind | None:
    """Kind of a column, None when it is of no kind we read."""
    if _is_table(frame):
        dtype = frame.dtype[name]
        if dtype.ndim:
            return None
    else:
        node = frame[name]
        if _is_group(node):
            encoding = _attr(node, "encoding-type")
            if encoding == "categorical" or {"codes", "categories"} <= set(node):
                return "categorical"
            if not {"values", "mask"} <= set(node):
                return None
            kind = node["values"].dtype.kind
            return "boolean" if kind == "b" else "numeric" if kind in "iuf" else "string"
        if "categories" in node.attrs:
            return "categorical"
        dtype = node.dtype
        if len(node.shape) != 1:
            return None
    if dtype.kind == "b":
        return "boolean"
    if dtype.kind in "iuf":
        return "numeric"
    return "string" if _is_text(dtype) else None


def kinds(frame: Any) -> dict[str, ColumnKind | None]:
    """Kind of every column."""
    return {name: column_kind(frame, name) for name in column_names(frame)}


def read_text(node: Any, field: str | None = None) -> StringValues:
    """Read strings as one buffer, a slice of rows at a time.

    Memory: the text, 8 bytes a row, and one slice of Python strings.
    """
    return StringValues.join(_text_pieces(node, field))


def _text_pieces(node: Any, field: str | None) -> Iterator[StringValues]:
    import pyarrow as pa

    n, start, rows = int(node.shape[0]), 0, _FIRST_ROWS
    while start < n:
        stop = min(start + rows, n)
        values = node[start:stop] if field is None else node.fields(field)[start:stop]
        values = np.asarray(values)
        if values.dtype.kind == "S":
            piece = pa.array(values.tolist(), pa.large_binary()).cast(pa.large_string())
        elif values.size and isinstance(values.flat[0], bytes):
            piece = pa.array(values, pa.large_binary()).cast(pa.large_string())
        else:
            piece = pa.array(values.astype(object), pa.large_string(), from_pandas=True)
        strings = StringValues.from_strings(piece)
        rows = max(1, min(_TEXT_ROWS, _TEXT_BYTES * (stop - start) // max(1, strings.text.size)))
        start = stop
        yield strings


def read_strings(frame: Any, name: str) -> list[str]:
    """Read a short column as Python strings, whatever its kind; missing ones are empty.

    For gene names and categories, not for cells.
    """
    values = read_column(frame, name)
    if isinstance(values, StringValues):
        return [word or "" for word in values.to_list()]
    if isinstance(values, CategoricalValues):
        return [values.categories[code] if code >= 0 else "" for code in values.codes.tolist()]
    words = [str(value) for value in values.values.tolist()]
    for row in np.flatnonzero(missing(values)).tolist():
        words[row] = ""
    return words


def read_column(frame: Any, name: str) -> ColumnValues:
    """Read one column.

    Raises
    ------
    InputError
        If it is of no kind we read, or its codes point past its categories.
    """
    kind = column_kind(frame, name)
    if kind is None:
        raise InputError(
            Fault(
                f"column {name!r}",
                "expected numbers, strings, booleans or categories, but got objects or arrays, "
                "which are not read",
            )
        )
    if _is_table(frame):
        return _plain(frame, kind, name)
    node = frame[name]
    if not _is_group(node):
        if kind == "categorical":
            return _old_categorical(frame, node, f"column {name!r}")
        return _plain(node, kind)
    if kind == "categorical":
        ordered = bool(node.attrs.get("ordered", False))
        return _categorical(node["codes"][:], node["categories"], ordered, f"column {name!r}")
    mask = np.asarray(node["mask"][:], dtype=bool)
    if kind == "string":
        text = read_text(node["values"])
        if text.mask is not None:
            mask = mask | text.mask
        return StringValues(text.text, text.offsets, mask if mask.any() else None)
    values = np.asarray(node["values"][:])
    missing = mask if mask.any() else None
    return BooleanValues(values, missing) if kind == "boolean" else NumericValues(values, missing)


def _plain(node: Any, kind: ColumnKind, field: str | None = None) -> ColumnValues:
    if kind == "string":
        return read_text(node, field)
    values = np.asarray(node[:] if field is None else node.fields(field)[:])
    if kind == "boolean":
        return BooleanValues(values.astype(bool))
    return NumericValues(values.astype(values.dtype.newbyteorder("="), copy=False))


def _categorical(codes: Any, categories: Any, ordered: bool, where: str) -> CategoricalValues:
    """Codes and categories as values; categories of numbers become their text."""
    values = categories[:]
    if _is_text(categories.dtype):
        names = [word or "" for word in read_text(categories).to_list()]
    else:
        names = [str(value) for value in np.asarray(values).tolist()]
    codes = np.asarray(codes)
    if len(set(names)) != len(names):
        raise InputError(Fault(where, "expected every category once, but got one twice"))
    # Before narrowing, which would wrap a code around into a valid one.
    low, high = (int(codes.min()), int(codes.max())) if codes.size else (-1, -1)
    if codes.dtype.kind not in "iu" or low < -1 or high >= len(names):
        raise InputError(
            Fault(
                where,
                f"expected codes in -1..{len(names) - 1}, one a category, but got {codes.dtype} "
                f"in {low}..{high}; the file is damaged: export it again",
            )
        )
    small = np.int8 if len(names) < 128 else np.int16 if len(names) < 2**15 else np.int32
    return CategoricalValues(codes.astype(small), tuple(names), ordered)


def _old_categorical(frame: Any, node: Any, where: str) -> CategoricalValues:
    """Categorical of anndata 0.7: codes whose attribute refers to `__categories/<name>`."""
    reference = node.attrs["categories"]
    categories = (
        frame[reference] if not isinstance(reference, str) else frame[reference.split("/")[-1]]
    )
    ordered = bool(categories.attrs.get("ordered", False))
    return _categorical(node[:], categories, ordered, where)


@dataclass(frozen=True, slots=True)
class LazyColumn:
    """A column that is read when its turn comes; small, and picklable when its opener is."""

    open: Callable[[], AbstractContextManager[Any]]
    """Opens the frame."""
    name: str
    """Column."""
    kind: ColumnKind
    """Kind of the values."""

    def read(self) -> ColumnValues:
        """Read all rows."""
        with self.open() as frame:
            return read_column(frame, self.name)


@dataclass(frozen=True, slots=True)
class OpenedNode:
    """A node that is open already, where an opener is asked for."""

    node: Any
    """Group or dataset."""

    def __call__(self) -> AbstractContextManager[Any]:
        """Hand out the node; it stays open."""
        return nullcontext(self.node)


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column whose values are turned into strings, as row names must be."""

    column: ObsColumn
    """The column."""

    @property
    def kind(self) -> ColumnKind:
        """Always string."""
        return "string"

    def read(self) -> StringValues:
        """Read all rows as strings; integers in decimal."""
        import pyarrow as pa

        values = self.column.read()
        if isinstance(values, StringValues):
            return values
        if isinstance(values, CategoricalValues):
            codes = pa.array(values.codes, mask=values.codes < 0)
            words = pa.DictionaryArray.from_arrays(codes, pa.array(values.categories, pa.string()))
            return StringValues.from_strings(words.cast(pa.large_string()))
        numbers = pa.array(values.values, mask=missing(values))
        return StringValues.from_strings(numbers.cast(pa.large_string()))


@dataclass(frozen=True, slots=True)
class MaskedColumn:
    """The rows of a column that belong to one section of a split file."""

    column: ObsColumn
    """The whole column."""
    rows: NDArray[np.int64]
    """Rows kept, ascending."""

    @property
    def kind(self) -> ColumnKind:
        """Kind of the values."""
        return self.column.kind

    def read(self) -> ColumnValues:
        """Read the column and keep its rows; categories that no row has are dropped."""
        values = self.column.read()
        if isinstance(values, StringValues):
            return values.take(self.rows)
        if isinstance(values, CategoricalValues):
            codes = values.codes[self.rows]
            used, fresh = np.unique(codes[codes >= 0], return_inverse=True)
            kept = np.full(codes.size, -1, dtype=values.codes.dtype)
            kept[codes >= 0] = fresh
            names = tuple(values.categories[code] for code in used.tolist())
            return CategoricalValues(kept, names, values.ordered)
        mask = None if values.mask is None else values.mask[self.rows]
        if isinstance(values, BooleanValues):
            return BooleanValues(values.values[self.rows], mask)
        return NumericValues(values.values[self.rows], mask)


def iter_duplicates(ids: StringValues) -> Iterator[str]:
    """Yield ids that occur more than once, each once; 24 bytes a cell while searching."""
    yield from ids.repeated()
