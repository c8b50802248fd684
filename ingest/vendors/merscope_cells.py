"""Cells of a MERSCOPE output: ids, places and columns, in the order of the counts.

Ids are text here: 64-bit integers of 18 digits (128-bit ones in old releases) that no float holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from .column_values import numbers_of
from .joined import join_columns
from .merscope_files import Bundle
from .table import Table, open_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..source import ObsColumn, StringValues

__all__ = ["Cells", "mangled_id", "read_cells"]

_COUNTS_ID = ("cell", "EntityID", "cell_id", "__index_level_0__", "column_0")
_METADATA_ID = ("EntityID", "cell_id", "cell", "__index_level_0__", "column_0")
_BOX = ("min_x", "max_x", "min_y", "max_y")
_FARTHEST_UM = 1e7
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells that have both counts and a place. Resident: the ids, and 32 bytes a cell."""

    table: Table
    """Counts."""
    features: tuple[str, ...]
    """Columns of the counts that are genes or blanks."""
    rows: NDArray[np.int64]
    """(n,) their rows in the counts, ascending."""
    ids: StringValues
    """(n,)"""
    positions: NDArray[np.float64]
    """(n, 2) centers, micrometers."""
    obs: dict[str, ObsColumn]
    """Columns of the metadata, and of the signals of vpt."""
    radius: NDArray[np.float64] | None
    """(n,) of circles as large as the box around each cell, micrometers."""


def mangled_id(ids: StringValues) -> str | None:
    """First id that went through a decimal number, None if all are sound.

    Examples
    --------
    >>> from tisseract.ingest.source import StringValues
    >>> mangled_id(StringValues.from_strings(["112824700230101249", "1.12824700230101e+17"]))
    '1.12824700230101e+17'
    """
    import pyarrow.compute as pc

    words = ids.to_arrow()
    wrong = pc.match_substring_regex(words, r"^-?[0-9]+(\.[0-9]*)?([eE][+]?[0-9]+)?$")
    sound = pc.match_substring_regex(words, r"^-?[0-9]+$")
    at = np.flatnonzero(np.asarray(wrong) & ~np.asarray(sound))
    return None if at.size == 0 else str(words[int(at[0])].as_py())


def read_cells(bundle: Bundle, path: Path, notes: list[str]) -> Cells:
    """Match counts with metadata; notes what one of them lacks.

    Raises
    ------
    InputError
        A file is missing or no table; ids are missing, twice, or decimal numbers; a place is not
        finite; the files share no cell.
    """
    counts, metadata = _both(bundle, path)
    id_of_counts = _id_column(counts, _COUNTS_ID)
    id_of_metadata = _id_column(metadata, _METADATA_ID)
    names = _read_ids(counts, id_of_counts)
    known = _read_ids(metadata, id_of_metadata)
    at = names.find_in(known)
    rows = np.flatnonzero(at >= 0)
    _tell_unmatched(bundle, names, len(known), at, notes)
    places = _places(metadata)[at[rows]]
    whole = np.isfinite(places[:, :2]).all(axis=1)
    if not whole.all():
        notes.append(
            f"{int((~whole).sum())} cells without a center in {metadata.path.name} left out"
        )
        rows, places = rows[whole], places[whole]
    if rows.size == 0:
        raise InputError(Fault(str(metadata.path), "expected cells with a center, but got none"))
    at = at[rows]
    ids = names.take(rows)
    obs = metadata.columns([one for one in metadata.names if one != id_of_metadata], at)
    obs |= _signals(bundle, ids, set(obs) | {id_of_metadata}, notes)
    features = tuple(one for one in counts.names if one not in _COUNTS_ID)
    positions = np.ascontiguousarray(places[:, :2])
    return Cells(counts, features, rows, ids, positions, obs, _radius(places[:, 2:]))


def _both(bundle: Bundle, path: Path) -> tuple[Table, Table]:
    """Tables of counts and metadata; the faults of both at once."""
    faults: list[Fault] = []
    found: list[Table] = []
    wanted = {
        "counts (cell_by_gene.csv)": bundle.counts,
        "cells (cell_metadata.csv)": bundle.metadata,
    }
    for what, file in wanted.items():
        if file is None:
            inside = "" if bundle.home == "." else f"/{bundle.home}"
            faults.append(
                Fault(
                    f"{path}{inside}",
                    f"expected {what}, but got no such file; copy the whole output folder",
                )
            )
            continue
        try:
            found.append(open_table(file))
        except InputError as error:
            faults.extend(error.faults)
    if faults:
        raise InputError(faults)
    return found[0], found[1]


def _id_column(table: Table, names: Sequence[str]) -> str:
    found = next((name for name in names if name in table.names), None)
    if found is None:
        raise InputError(
            Fault(
                str(table.path),
                f"expected a column of cell ids ({', '.join(names[:3])}, or the first one without "
                f"a name), but got {', '.join(table.names[:6])}",
            )
        )
    return found


def _read_ids(table: Table, column: str) -> StringValues:
    """Ids as text: present, whole and unique."""
    ids = table.strings(column)
    where = f"{table.path}:{column}"
    if len(ids) == 0:
        raise InputError(Fault(str(table.path), "expected cells, but got a table without rows"))
    empty = np.flatnonzero(np.diff(ids.offsets) == 0)
    if empty.size:
        raise InputError(
            Fault(
                f"{table.path} row {int(empty[0]) + 1}", f"expected a cell id in {column}, got none"
            )
        )
    wrong = mangled_id(ids)
    if wrong is not None:
        raise InputError(
            Fault(
                where,
                f"expected cell ids as whole numbers, but got {wrong}: a program turned them into "
                "decimal numbers, which hold 15 to 17 digits; take the instrument's own file, or "
                "write it again with this column as text or 64-bit integers",
            )
        )
    twice = ids.repeated()
    if twice:
        raise InputError(
            Fault(where, f"expected every cell once, but got {twice[0]} again (ids end in zeros "
                  "when a spreadsheet rounded them)")
        )  # fmt: skip
    return ids


def _tell_unmatched(
    bundle: Bundle,
    names: StringValues,
    n_known: int,
    at: NDArray[np.int64],
    notes: list[str],
) -> None:
    """Note cells that one of the two files lacks; refuse files that share none."""
    n_shared = int((at >= 0).sum())
    counts, metadata = str(bundle.counts), bundle.metadata
    if n_shared == 0:
        shown = ", ".join(map(str, names.take(np.arange(min(_SHOWN, len(names)))).to_list()))
        raise InputError(
            Fault(
                counts,
                f"expected the cells of {metadata}, but got none of them ({shown}, …); the files "
                "are of different outputs",
            )
        )
    lost = np.flatnonzero(at < 0)
    if lost.size:
        shown = ", ".join(map(str, names.take(lost[:_SHOWN]).to_list()))
        notes.append(
            f"{lost.size} cells of cell_by_gene without a row in cell_metadata left out: they have "
            f"no place ({shown}{', …' if lost.size > _SHOWN else ''})"
        )
    if n_known > n_shared:
        notes.append(
            f"{n_known - n_shared} cells of cell_metadata without counts in cell_by_gene left out"
        )


def _places(metadata: Table) -> NDArray[np.float64]:
    """(rows, 2 or 6) centers, NaN where the file has none, and boxes where it has these columns."""
    boxed = set(_BOX) <= set(metadata.names)
    names = ("center_x", "center_y", *(_BOX if boxed else ()))
    places = numbers_of(metadata, *names)
    for k, name in enumerate(names[:2]):
        column = places[:, k]
        wrong = np.flatnonzero(np.abs(column) > _FARTHEST_UM)
        if wrong.size:
            raise InputError(
                Fault(
                    f"{metadata.path}:{name} row {int(wrong[0]) + 1}",
                    f"expected micrometers below {_FARTHEST_UM:g}, but got {column[wrong[0]]:g}",
                )
            )
    return places


def _radius(boxes: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """(n,) half the mean side of each box, None where a box is missing or has no size."""
    if boxes.shape[1] == 0:
        return None
    left, right, low, high = boxes.T
    with np.errstate(over="ignore", invalid="ignore"):
        radius: NDArray[np.float64] = (right - left + high - low) / 4
    good = np.isfinite(radius) & (radius > 0) & (radius < _FARTHEST_UM)
    return radius if good.all() else None


def _signals(
    bundle: Bundle, ids: StringValues, taken: set[str], notes: list[str]
) -> dict[str, ObsColumn]:
    """Stains summed over cells (vpt), joined by id; missing for cells without a row."""
    if bundle.signals is None:
        return {}
    table = open_table(bundle.signals)
    column = _id_column(table, _METADATA_ID)
    at = ids.find_in(_read_ids(table, column))
    columns = table.columns([one for one in table.names if one not in taken | {column}])
    return join_columns(columns, at, table.path.name, notes)
