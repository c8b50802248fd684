"""Labels of cells joined by id: columns of a table beside the section, spread over its cells."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError, near
from ..atlas.keys import check_name
from ..atlas.label_values import typed
from ..atlas.section_columns import ColumnValues, StringValues
from .anndata_parts import check_ids
from .reader import faults_of
from .text_values import typed_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .vendors.text_table import TextTable

__all__ = ["CellLabels", "labels_bytes", "read_labels_file"]

_IDS = ("cell_id", "barcode", "barcodes", "cell", "cellid", "instance_id", "id")
_TRUTH = {None, "True", "TRUE", "true", "False", "FALSE", "false"}
_SHOWN = 5
# Memory of text by the bytes of its file, unpacked or not, and of a value of Parquet: pandas holds
# each text as an object.
_TEXT_TIMES, _PACKED_TIMES, _VALUE_BYTES = 12, 60, 100


@dataclass(frozen=True, slots=True)
class CellLabels:
    """Columns of a table and the cells its rows name."""

    source: str
    """Name of the file."""
    ids: StringValues
    """(m,) cells, unique."""
    columns: Mapping[str, ColumnValues]
    """(m,) values, by the name they get."""
    unknown: str
    missing: str

    def rows(self, cells: StringValues, where: str) -> NDArray[np.int64]:
        """(n,) row of each cell, -1 for none.

        Raises
        ------
        InputError
            Ids that no cell has and cells that no row names, unless these are accepted.
        """
        found = cells.find_in(self.ids)
        used = np.zeros(len(self.ids), bool)
        used[found[found >= 0]] = True
        faults = []
        for asked, what, hint, ids, lost in (
            (self.unknown, "ids are no cells of the section", '"unknown": "drop" leaves them out',
             self.ids, np.flatnonzero(~used)),
            (self.missing, "cells are not in the table", '"missing": "ok" accepts them',
             cells, np.flatnonzero(found < 0)),
        ):  # fmt: skip
            if asked == "error" and lost.size:
                listed = ", ".join(map(repr, ids.take(lost[:_SHOWN]).to_list()))
                more = ", ..." if lost.size > _SHOWN else ""
                faults.append(Fault(where, f"{lost.size:,} {what}: {listed}{more}; {hint}"))
        if faults:
            raise InputError(faults)
        return found


def read_labels_file(path: Path, options: Mapping[str, object]) -> CellLabels:
    """Read a table of labels.

    Parameters
    ----------
    path : Path
        Delimited text or Parquet, a row a cell; the ids as the section's input has them. Only empty
        cells of text are missing: `NA` is a label. `007`, dates and numbers of more digits than are
        kept stay text.
    options : mapping
        `on` (column of ids; else one of the usual names, else the first), `columns` (those to
        keep), `prefix` (of their names), `unknown` and `missing` (`error`, or `drop` and `ok`).

    Raises
    ------
    InputError
        It cannot be read, names cells twice, or has no such columns.
    """
    choices = {"unknown": ("error", "drop"), "missing": ("error", "ok")}
    for key, words in choices.items():
        if options.get(key, "error") not in words:
            raise InputError(
                Fault(str(path), f"expected {key} {' | '.join(words)}, but got {options[key]!r}")
            )
    frame, on = _frame(path, options.get("on"))
    names = [str(name) for name in frame.columns]
    given = options.get("columns")
    wanted = [name for name in names if name != on]
    if given is not None:
        wanted = [str(one) for one in given] if isinstance(given, list | tuple) else [str(given)]
    lacking = [name for name in wanted if name not in names]
    if lacking or not wanted:
        raise InputError(
            Fault(
                str(path),
                f"expected columns of labels{' ' + repr(lacking[0]) if lacking else ''}, but got "
                f"{', '.join(names)}.{near(lacking[0], names) if lacking else ''}",
            )
        )
    ids = StringValues.from_strings(frame[on].astype(object).to_numpy())
    check_ids(ids, f"{path}:{on}", "or name another with `on`")
    columns: dict[str, ColumnValues] = {}
    prefix = str(options.get("prefix") or "")
    for name in wanted:
        try:
            key = check_name(re.sub(r"[^A-Za-z0-9._-]+", "_", f"{prefix}{name}"), "labels")
            columns[key] = typed(name, frame[name])
        except (ValueError, OverflowError) as error:  # also numbers beyond 64 bits
            raise InputError(Fault(f"{path}:{name}", str(error))) from error
    asked = {key: str(options.get(key, "error")) for key in choices}
    return CellLabels(path.name, ids, columns, asked["unknown"], asked["missing"])


def labels_bytes(path: Path) -> int:
    """Memory that a table of labels takes while it is read, by its size.

    Raises
    ------
    InputError
        The file cannot be looked at.
    """
    with faults_of(path, "a table of labels", parsing=True):
        size = path.stat().st_size
        if path.suffix.casefold() != ".parquet":
            return (_PACKED_TIMES if path.suffix.casefold() == ".gz" else _TEXT_TIMES) * size
        from pyarrow import parquet

        found = parquet.read_metadata(path)
        return 2 * size + int(found.num_rows * found.num_columns) * _VALUE_BYTES


def _frame(path: Path, on: object) -> tuple[Any, str]:
    """Read the table and tell its column of ids; these are text, whatever they look like."""
    import pandas as pd

    from .vendors.text_table import TextTable

    suffix = path.name.casefold().removesuffix(".gz").rpartition(".")[2]
    with faults_of(path, "a table of labels", parsing=True):
        if suffix == "parquet":
            found = pd.read_parquet(path)
            # An index without a name holds ids where it is text, else where rows once stood.
            ids = found.index.nlevels == 1 and pd.api.types.is_string_dtype(found.index)
            unnamed = found.index.name is None
            if not unnamed or ids:
                found = found.reset_index()
            own = _id_column(path, [str(name) for name in found.columns], on)
            if unnamed and ids and own != found.columns[0]:
                found = found.drop(columns=found.columns[0])
            return found.astype({own: str}), own
        table = TextTable.of(path)  # which knows headers without a name for the rows, as R's
        own = _id_column(path, table.names, on)
        found = _words(path, table)
        for name in found.columns:
            if name != own:
                found[name] = _valued(found[name])
        return found, own


def _words(path: Path, table: TextTable) -> Any:
    """Read all cells of a table of text; only empty ones are missing."""
    import pandas as pd

    with warnings.catch_warnings():
        # It cuts rows that are longer than the header, and warns.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(
                path,
                sep=table.delimiter,
                names=list(table.names),
                header=0,
                index_col=False,
                dtype=str,
                keep_default_na=False,
                na_values=[""],
                encoding="utf-8-sig",
            )
        except pd.errors.ParserWarning as error:
            raise InputError(
                Fault(str(path), f"expected {len(table.names)} cells in every row, but got more")
            ) from error


def _valued(words: Any) -> Any:
    """Numbers or truth values where all words of a column are such, else the words."""
    import pyarrow as pa

    text = pa.array(words, pa.string(), from_pandas=True)
    # pandas turns integers into float64 where some are missing.
    kind = pa.float64() if text.null_count else pa.null()
    if text.null_count < len(text) and set(text.unique().to_pylist()) <= _TRUTH:
        kind = pa.bool_()
    values = typed_words(text, kind, missing=("",))
    return words if pa.types.is_string(values.type) else values.to_pandas().set_axis(words.index)


def _id_column(path: Path, names: Sequence[str], on: object) -> str:
    if on is not None:
        if str(on) not in names:
            raise InputError(
                Fault(
                    str(path),
                    f"expected a column {on!r} of cell ids, but got {', '.join(names)}."
                    f"{near(str(on), names)}",
                )
            )
        return str(on)
    folded = {name.casefold(): name for name in reversed(names)}
    return next((folded[name] for name in _IDS if name in folded), names[0] if names else "")
