"""Positions of spots and bins, streamed and matched with the barcodes of a matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...atlas.errors import Fault, InputError
from ..packed import open_bytes
from ..reader import faults_of
from ..source import StringValues
from .table import open_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .table import Table

__all__ = [
    "RowIndex",
    "Spots",
    "array_pitch",
    "grid_step",
    "open_positions",
    "place_spots",
]

_HEADER = (
    "barcode",
    "in_tissue",
    "array_row",
    "array_col",
    "pxl_row_in_fullres",
    "pxl_col_in_fullres",
)
_FARTHEST = 1e9  # pixels; no slide scan has a thousandth of that
_SAMPLE = 100_000
_LEAST = 12  # spots that tell of an array
_SKEWED, _SPREAD = 0.02, 0.1  # of the pitch: skew and deviation that an array may have


@dataclass(frozen=True, slots=True)
class RowIndex:
    """Finds rows by name, many batches of names one after another; 16 bytes a row beside the names.

    Memory while it is made: 24 bytes a row more.
    """

    names: StringValues
    """(n,) unique names in row order."""
    hashes: NDArray[np.uint64]
    """(n,) ascending."""
    order: NDArray[np.int64]
    """(n,) row of each hash."""

    @classmethod
    def of(cls, names: StringValues, where: str) -> RowIndex:
        """Sort names by their hashes.

        Raises
        ------
        InputError
            A name is missing or there twice.
        """
        if names.mask is not None:
            raise InputError(Fault(where, "expected a barcode in every row, but got none in some"))
        hashes = names.hashes()
        order = np.argsort(hashes)
        hashes = hashes[order]
        if (hashes[1:] == hashes[:-1]).any() and (twice := names.repeated()):
            raise InputError(
                Fault(where, f"expected every barcode once, but got {twice[0]!r} twice")
            )
        return cls(names, hashes, order)

    def find(self, words: StringValues) -> NDArray[np.int64]:
        """(m,) row of each word; -1 where absent."""
        import pyarrow.compute as pc

        if not len(self.names):
            return np.full(len(words), -1, np.int64)
        own = words.hashes()
        place = np.minimum(np.searchsorted(self.hashes, own), self.hashes.size - 1)
        found = np.where(self.hashes[place] == own, self.order[place], -1)
        hit = np.flatnonzero(found >= 0)
        same = pc.equal(words.take(hit).to_arrow(), self.names.take(found[hit]).to_arrow())
        found[hit[~np.asarray(same, bool)]] = -1
        return found


@dataclass(frozen=True, slots=True)
class Spots:
    """Where the barcodes of a matrix lie; 25 bytes a row."""

    placed: NDArray[np.bool_]
    """(n,) whether the file has a position for the row."""
    in_tissue: NDArray[np.bool_]
    """(n,)"""
    array_row: NDArray[np.int32]
    """(n,)"""
    array_col: NDArray[np.int32]
    """(n,)"""
    positions: NDArray[np.float64]
    """(n, 2) x, y in pixels of the full-resolution image."""
    array: NDArray[np.float64]
    """(k, 4) x, y, array_row, array_col of the first spots of the file, in the matrix or not."""


def open_positions(path: Path) -> Table:
    """Open a position file: Parquet, or text with a header (Space Ranger 2 and later) or without.

    Raises
    ------
    InputError
        It cannot be read or a column is missing.
    """
    if path.suffix.casefold() == ".parquet":
        table = open_table(path)
    else:
        with faults_of(path, "spot positions", parsing=True), open_bytes(path) as file:
            head = file.readline(4096).decode("utf-8-sig")
        if "in_tissue" in head or "barcode" in head:
            table = open_table(path)
            if "barcode" not in table.names and table.names[:1] == ("column_0",):
                table = cast("Any", table).renamed(("barcode", *table.names[1:]))
        else:
            table = open_table(path, names=_HEADER)
    missing = [name for name in _HEADER if name not in table.names]
    if missing:
        raise InputError(
            Fault(
                str(path),
                f"expected the columns {', '.join(_HEADER)}, but got none called "
                f"{', '.join(missing)} among {', '.join(table.names[:12])}",
            )
        )
    return table


def place_spots(path: Path, index: RowIndex, *, keep: int = 0) -> Spots:
    """Stream a position file and place the rows of a matrix.

    Parameters
    ----------
    path : Path
        `tissue_positions*.csv` or `.parquet`.
    index : RowIndex
        Barcodes of the matrix.
    keep : int
        Positions kept whether or not the matrix knows them.

    Raises
    ------
    InputError
        A row that is not a barcode and five numbers, or a barcode of the matrix there twice.
    """
    n = len(index.names)
    placed, in_tissue = np.zeros(n, bool), np.zeros(n, bool)
    array_row, array_col = np.zeros(n, np.int32), np.zeros(n, np.int32)
    positions = np.full((n, 2), np.nan)
    kept: list[NDArray[np.float64]] = []
    n_kept = 0
    for words, numbers in _batches(path):
        if n_kept < keep:
            kept.append(numbers[: keep - n_kept, [4, 3, 1, 2]])
            n_kept += kept[-1].shape[0]
        rows = index.find(words)
        hit = np.flatnonzero(rows >= 0)
        at = rows[hit]
        _check_once(path, words, hit, at, placed)
        placed[at] = True
        in_tissue[at] = numbers[hit, 0] != 0
        array_row[at], array_col[at] = numbers[hit, 1], numbers[hit, 2]
        # Columns are row (y) then column (x).
        positions[at, 0], positions[at, 1] = numbers[hit, 4], numbers[hit, 3]
    array = np.concatenate(kept) if kept else np.empty((0, 4))
    return Spots(placed, in_tissue, array_row, array_col, positions, array)


def _batches(path: Path) -> Iterator[tuple[StringValues, NDArray[np.float64]]]:
    import pyarrow as pa

    types: dict[str, Any] = dict.fromkeys(_HEADER, pa.float64()) | {"barcode": pa.large_string()}
    for batch in open_positions(path).batches(_HEADER, types):
        words = StringValues.from_strings(batch.column(0))
        columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns[1:]]
        numbers = np.column_stack(columns)
        wrong = ~(np.abs(numbers) < _FARTHEST).all(axis=1)
        if words.mask is not None:
            wrong |= words.mask
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise InputError(
                Fault(
                    f"{path} spot {words.take(np.array([first])).to_list()[0]}",
                    "expected a barcode and five finite numbers, but got "
                    f"{', '.join(f'{v:g}' for v in numbers[first])}",
                )
            )
        yield words, numbers


def _check_once(
    path: Path,
    words: StringValues,
    hit: NDArray[np.int64],
    at: NDArray[np.int64],
    placed: NDArray[np.bool_],
) -> None:
    again = placed[at]
    if not again.any():
        first = np.unique(at, return_index=True)[1]
        if first.size == at.size:
            return
        again = np.ones(at.size, bool)
        again[first] = False
    name = words.take(hit[np.flatnonzero(again)[:1]]).to_list()[0]
    raise InputError(Fault(str(path), f"expected every barcode once, but got {name!r} again"))


def grid_step(spots: Spots) -> float | None:
    """Pixels from one row or column of bins to the next; None when the rows do not tell.

    The grid may lie rotated in the image.
    """
    rows = np.flatnonzero(spots.placed)
    rows = rows[:: max(1, rows.size // _SAMPLE)]
    grid = np.column_stack([spots.array_row[rows], spots.array_col[rows]]).astype(np.float64)
    steps = _steps(grid, spots.positions[rows])
    return None if steps is None else float(np.mean(steps[:2]))


def array_pitch(spots: Spots) -> float | None:
    """Pixels between neighbors of a hexagonal array, by its rows and columns; None without one.

    All spots share in the fit, so that positions in whole pixels (Space Ranger 1) give the pitch
    to a few parts in a million, where distances between neighbors give parts in a thousand. Rows of
    real arrays lie 0.5 % farther apart than in a regular lattice; the pitch is the distance to the
    four neighbors in other rows, the median of all six, as `fit_lattice` has it.
    """
    steps = _steps(spots.array[:, 2:], spots.array[:, :2])
    if steps is None:
        return None
    pitch = float(np.hypot(steps[0], steps[1]))
    regular = abs(2 * steps[1] - pitch) < _SKEWED * pitch and steps[2] < _SPREAD * pitch
    return pitch if regular else None


def _steps(
    grid: NDArray[np.float64], positions: NDArray[np.float64]
) -> tuple[float, float, float] | None:
    """Pixels a row and a column of an array, and how far its spots lie from it (median)."""
    if grid.shape[0] < _LEAST:
        return None
    middle, center = grid.mean(axis=0), positions.mean(axis=0)
    if np.linalg.matrix_rank(grid - middle) < 2:
        return None
    fit = np.linalg.lstsq(grid - middle, positions - center, rcond=None)[0]
    away = np.abs((grid - middle) @ fit - (positions - center)).max(axis=1)
    row, column = np.hypot(fit[:, 0], fit[:, 1]).tolist()
    return row, column, float(np.median(away))
