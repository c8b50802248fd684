"""Cells of a Xenium output: rows of its tables in the order of the matrix."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ...atlas.morton import LARGEST_COORDINATE
from ..source import CategoricalValues, NumericValues, ObsColumn, StringValues
from .column_values import numbers_of, require_columns
from .joined import join_columns
from .rings import IdRows
from .table import open_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..source import ColumnKind
    from .folder import Folder
    from .table import Table
    from .vendor import Survey
    from .xenium_zip import CellsZip

__all__ = [
    "MatchedCells",
    "cluster_columns",
    "cluster_files",
    "match_cells",
    "radii",
    "summary_columns",
    "zip_rows",
]

_ID, _X, _Y = "cell_id", "x_centroid", "y_centroid"
_SHOWN = 3
_SAME = {"cell_centroid_x", "cell_centroid_y", "cell_area", "nucleus_area"}


@dataclass(frozen=True, slots=True)
class MatchedCells:
    """Cells in the order of the matrix."""

    positions: NDArray[np.float64]
    """(n, 2) micrometers."""
    obs: dict[str, ObsColumn]
    """All other columns."""


def _same_ids(a: StringValues, b: StringValues) -> bool:
    """Whether two columns of ids are equal, row by row."""
    return np.array_equal(a.offsets, b.offsets) and np.array_equal(a.text, b.text)


def match_cells(table: Table, ids: StringValues, notes: list[str]) -> MatchedCells:
    """Find the row of each cell of the matrix.

    Raises
    ------
    InputError
        A column is missing, a cell has no row or several, or no finite position.
    """
    require_columns(table.path, table.names, (_ID, _X, _Y))
    names = table.strings(_ID)
    xy = numbers_of(table, _X, _Y)
    if len(xy) != len(names):
        raise InputError(
            Fault(
                str(table.path),
                f"expected a number in each of {len(names)} rows of {_X} and {_Y}, but got "
                f"{len(xy)}; copy the file again",
            )
        )
    rows: NDArray[np.int64] | None = None
    if not _same_ids(ids, names):
        if twice := names.repeated():
            raise InputError(
                Fault(str(table.path), f"expected every cell once, but got {twice[0]!r} twice")
            )
        rows = ids.find_in(names)
        _require_all(rows, ids, table.path)
        if len(names) > rows.size:
            notes.append(
                f"{len(names) - rows.size:,} cells of {table.path.name} left out: they have no row "
                "in the matrix"
            )
    positions = xy if rows is None else xy[rows]
    _require_finite(positions, ids, table.path)
    others = [name for name in table.names if name not in {_ID, _X, _Y}]
    return MatchedCells(positions, table.columns(others, rows))


def _require_all(rows: NDArray[np.int64], ids: StringValues, path: Path) -> None:
    lost = np.flatnonzero(rows < 0)
    if lost.size:
        listed = ", ".join(map(str, ids.take(lost[:_SHOWN]).to_list()))
        raise InputError(
            Fault(
                str(path),
                f"expected a row for each of {rows.size} cells of the matrix, but got none for "
                f"{lost.size} ({listed}); matrix and cells are of different outputs",
            )
        )


def _require_finite(positions: NDArray[np.float64], ids: StringValues, path: Path) -> None:
    bad = np.flatnonzero(~(np.abs(positions) <= LARGEST_COORDINATE).all(axis=1))
    if bad.size:
        raise InputError(
            Fault(
                f"{path} cell {ids.take(bad[:1]).to_list()[0]}",
                f"expected a finite centroid, but got {positions[bad[0]].tolist()}",
            )
        )


def zip_rows(
    ids: StringValues, others: StringValues
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Match the cells of a section with those of `cells.zarr.zip`.

    Parameters
    ----------
    ids : StringValues, (n,)
        Of the section, unique.
    others : StringValues, (m,)
        Of the file.

    Returns
    -------
    array, (m,)
        Row of each cell of the file in the section, -1 where it has none.
    array, (n,), or None
        Row of each cell of the section in the file, likewise; None when both have one order.
    """
    if _same_ids(ids, others):
        return np.arange(len(ids)), None
    rows = others.find_in(ids)
    back = np.full(len(ids), -1, np.int64)
    own = np.flatnonzero(rows >= 0)
    back[rows[own]] = own
    return rows, back


def summary_columns(
    zipped: CellsZip, rows: NDArray[np.int64] | None, survey: Survey, alone: bool
) -> dict[str, ObsColumn]:
    """Columns of `cells.zarr.zip`; its positions too when no table of cells is there (`alone`).

    Parameters
    ----------
    zipped : CellsZip
        The file.
    rows : array, (n,), optional
        Its row of each cell of the matrix; None when both have one order.

    Raises
    ------
    InputError
        With `alone`, a cell of the matrix is not in the file, or has no finite position.
    """
    assert survey.ids is not None
    if alone:
        if rows is not None:
            _require_all(rows, survey.ids, zipped.path)
        axes = (zipped.column(f"cell_centroid_{axis}", rows).read().values for axis in "xy")
        positions = np.stack([np.asarray(one, np.float64) for one in axes], axis=1)
        _require_finite(positions, survey.ids, zipped.path)
        survey.positions = positions
    skipped = _SAME - ({"cell_area", "nucleus_area"} if alone else set())
    names = [name for name in zipped.summary if name not in skipped]
    if zipped.labeled:
        names.append("cell_labels")
    if rows is None or (rows >= 0).all():
        return {name: zipped.column(name, rows) for name in names}
    columns = {name: zipped.column(name, None) for name in names}
    return join_columns(columns, rows, zipped.path.name, survey.notes)


@dataclass(frozen=True, slots=True)
class _Clusters:
    """Clusters of the instrument's own analysis, read when their turn comes."""

    table: Table
    cell: str
    cluster: str
    ids: StringValues

    @property
    def kind(self) -> ColumnKind:
        return "categorical"

    def read(self) -> CategoricalValues:
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = IdRows(self.ids).of(self.table.strings(self.cell).to_arrow())
        text = self.table.strings(self.cluster).to_arrow()
        # A cell without a cluster is missing, not of a cluster without a name.
        named = pc.if_else(pc.equal(text, ""), pa.scalar(None, text.type), text)
        words = named.dictionary_encode()
        labels = [str(word) for word in words.dictionary.to_pylist()]
        order = sorted(range(len(labels)), key=lambda k: (len(labels[k]), labels[k]))
        rank = np.empty(len(labels) + 1, np.int32)
        rank[order] = np.arange(len(labels))
        rank[-1] = -1
        codes = np.full(len(self.ids), -1, np.int32)
        own = rows >= 0
        codes[rows[own]] = rank[np.asarray(words.indices.fill_null(-1))][own]
        return CategoricalValues(codes, tuple(labels[k] for k in order))


def _clusters(path: Path, ids: StringValues) -> _Clusters:
    table = open_table(path)
    cells = [name for name in table.names if name.casefold() in {"barcode", "cell_id"}]
    values = [name for name in table.names if name.casefold() == "cluster"]
    if not cells or not values:
        raise InputError(
            Fault(
                str(path),
                f"expected columns Barcode and Cluster, but got {', '.join(table.names[:6])}",
            )
        )
    return _Clusters(table, cells[0], values[0], ids)


def cluster_files(folder: Folder) -> tuple[Path, ...]:
    """Clusters that the instrument found."""
    return folder.all(*(f"{at}analysis/clustering/*/clusters.csv" for at in ("", "outs/")))


def cluster_columns(
    folder: Folder, ids: StringValues, taken: dict[str, ObsColumn]
) -> dict[str, ObsColumn]:
    """Clusters that the instrument found, a column each, named like their folders.

    Raises
    ------
    InputError
        A file without columns Barcode and Cluster.
    """
    return {
        one.parent.name: _clusters(one, ids)
        for one in cluster_files(folder)
        if one.parent.name not in taken
    }


def radii(area: ObsColumn) -> NDArray[np.float64] | None:
    """(n,) radius of a circle of each cell's area; None where an area is no number above zero."""
    values = area.read()
    if not isinstance(values, NumericValues) or values.mask is not None:
        return None
    found = np.sqrt(np.asarray(values.values, np.float64) / np.pi)
    return found if (np.isfinite(found) & (found > 0)).all() else None
