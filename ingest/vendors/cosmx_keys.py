"""Keys of CosMx cells: `cell_ID` counts from 1 in every FOV, so that a cell is FOV and number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ..reader import faults_of
from .text_lines import line_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .table import Table

__all__ = ["CellKeys", "cell_names", "packed", "scan_counts"]

_KEY_BYTES = 32  # two whole numbers, quoted, and their commas
_COMMA, _QUOTE, _NEWLINE, _RETURN, _ZERO = 44, 34, 10, 13, 48
_MOST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class CellKeys:
    """FOV and number of each row of a table of counts."""

    fov: NDArray[np.int64]
    """(rows,) FOV."""
    cell: NDArray[np.int64]
    """(rows,) number within the FOV, 0 outside cells."""
    outside_counts: float
    """Sum of all features over the rows outside cells."""


def packed(fov: NDArray[np.int64], cell: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number for FOV and cell, ordered as the pairs are.

    >>> packed(np.array([1, 2]), np.array([5, 0])).tolist()
    [4294967301, 8589934592]
    """
    return (fov << 32) | cell


def cell_names(fov: Any, cell: Any, prefix: str = "") -> Any:
    """Names of cells as an Arrow array of text.

    >>> cell_names(np.array([1, 1]), np.array([7, 12]), "c_1_").to_pylist()
    ['c_1_1_7', 'c_1_1_12']
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pa.large_string()
    first, second = (pa.array(part).cast(text) for part in (fov, cell))
    if prefix:
        first = pc.binary_join_element_wise(pa.scalar(prefix, text), first, pa.scalar("", text))
    return pc.binary_join_element_wise(first, second, pa.scalar("_", text))


def scan_counts(table: Table, fov: str, cell: str, features: tuple[str, ...]) -> CellKeys:
    r"""Read the keys of a table of counts, and sum what lies outside cells.

    Text whose first two columns are the keys is not parsed beyond them: 1 GB takes about a
    second. Memory: 16 bytes a row.

    Raises
    ------
    InputError
        A key that is no whole number of zero or more, or counts outside cells that are none.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tisseract.ingest.vendors.table import open_table
    >>> with tempfile.TemporaryDirectory() as name:
    ...     path = Path(name, "x.csv")
    ...     _ = path.write_text("fov,cell_ID,Sox2\n1,0,40\n1,1,3\n")
    ...     found = scan_counts(open_table(path), "fov", "cell_ID", ("Sox2",))
    >>> found.cell.tolist(), found.outside_counts
    ([0, 1], 40.0)
    """
    found = None
    if getattr(table, "delimiter", None) == "," and table.names[:2] == (fov, cell):
        found = _scan_lines(table)
    found = found or _scan_columns(table, fov, cell, features)
    if not np.isfinite(found.outside_counts):
        got = f"numbers outside cells that sum up to {found.outside_counts}"
        raise InputError(Fault(str(table.path), f"expected counts, but got {got}"))
    return found


def _scan_columns(table: Table, fov: str, cell: str, features: tuple[str, ...]) -> CellKeys:
    """Keys by way of parsed columns; the table is read a second time if some lie outside cells."""
    import pyarrow as pa

    pieces = [
        np.stack([np.asarray(column.to_numpy(zero_copy_only=False)) for column in batch.columns])
        for batch in table.batches([fov, cell], {fov: pa.float64(), cell: pa.float64()})
    ]
    both = np.concatenate(pieces, axis=1) if pieces else np.empty((2, 0))
    keys = [
        whole(values, f"{table.path}:{name}")
        for values, name in zip(both, (fov, cell), strict=True)
    ]
    outside = 0.0
    if not (keys[1] > 0).all():
        start = 0
        for batch in table.batches(features, dict.fromkeys(features, pa.float64())):
            rows = np.flatnonzero(keys[1][start : start + batch.num_rows] == 0)
            start += batch.num_rows
            if rows.size:
                part = batch.take(pa.array(rows))
                outside += sum(float(np.nansum(column.to_numpy(zero_copy_only=False)))
                               for column in part.columns)  # fmt: skip
    return CellKeys(keys[0], keys[1], outside)


def whole(values: NDArray[np.float64], where: str) -> NDArray[np.int64]:
    """Numbers as whole ones.

    Raises
    ------
    InputError
        One is missing, broken or negative; names the row.

    Examples
    --------
    >>> whole(np.array([1.0, 2.0]), "fov").tolist()
    [1, 2]
    """
    with np.errstate(invalid="ignore"):
        good = (values >= 0) & (values <= _MOST) & (values == np.floor(values))
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise InputError(
            Fault(
                where,
                f"expected whole numbers of zero or more, but got {values[row]:g} in row {row + 1}"
                " of the data; export the file again",
            )
        )
    return values.astype(np.int64)


def _scan_lines(table: Any) -> CellKeys | None:
    """Keys straight from the bytes of the lines; None where they are not plain numbers."""
    keys: list[NDArray[np.int64]] = []
    outside, width = 0.0, len(table.names)
    with faults_of(table.path, "a table of counts", parsing=True):
        for text in line_blocks(table.path, int(table.head_rows)):
            data, starts, ends = _lines_of(text)
            pair, good = _two_numbers(data, starts, ends)
            if not good.all():
                return None
            for row in np.flatnonzero(pair[1] == 0).tolist():
                total = _sum_line(text[starts[row] : ends[row]], width)
                if total is None:
                    return None
                outside += total
            keys.append(pair)
    both = np.concatenate(keys, axis=1) if keys else np.empty((2, 0), np.int64)
    return CellKeys(both[0], both[1], outside)


def _lines_of(text: bytes) -> tuple[Any, Any, Any]:
    """Bytes with where the lines in them start and end; empty lines are passed over."""
    data = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(data == _NEWLINE)
    starts = np.concatenate([[0], ends[:-1] + 1])
    filled = (ends > starts) & (data[starts] != _RETURN)
    return data, starts[filled], ends[filled]


def _two_numbers(data: Any, starts: Any, ends: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """First two cells of every line, and whether they are whole numbers."""
    values = np.zeros((3, starts.size), np.int64)
    digits = np.zeros((3, starts.size), np.int64)
    field = np.zeros(starts.size, np.int64)
    good = np.ones(starts.size, bool)
    every = np.arange(starts.size)
    for k in range(_KEY_BYTES):
        at = starts + k
        letter = np.where(at < ends, data[np.minimum(at, data.size - 1)], _COMMA).astype(np.int64)
        digit = letter - _ZERO
        number = (digit >= 0) & (digit <= 9)
        open_ = field < 2
        comma = letter == _COMMA
        good &= ~open_ | number | comma | (letter == _QUOTE) | (letter == _RETURN)
        use = number & open_
        values[field[use], every[use]] = values[field[use], every[use]] * 10 + digit[use]
        digits[field[use], every[use]] += 1
        field += comma & open_
    good &= (field == 2) & (digits[:2] > 0).all(axis=0) & (digits[:2] < 10).all(axis=0)
    return values[:2], good


def _sum_line(text: bytes, width: int) -> float | None:
    """Sum of the features of a line, None where they are not plain numbers."""
    cells = text.rstrip(b"\r").split(b",")
    if len(cells) != width:
        return None
    try:
        return float(sum(float(cell or 0) for cell in cells[2:]))
    except ValueError:
        return None
