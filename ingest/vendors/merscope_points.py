"""Transcripts of a MERSCOPE output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..source import StringValues
from .column_values import as_text
from .merscope_cells import mangled_id
from .table import Table, filled_table
from .transcripts import transcripts

if TYPE_CHECKING:
    from ...atlas.points import PointsSource

__all__ = ["molecule_points"]

_CELL = ("cell_id", "EntityID", "cell")
# An index without a name, and pixels within the field of view.
_NAMES = {
    "column_0": "transcript_index",
    "__index_level_0__": "transcript_index",
    "": "transcript_index",
    "x": "x_local",
    "y": "y_local",
    "z": "z_local",
}


def molecule_points(
    path: Path, *, scale: float, flip: bool, notes: list[str]
) -> PointsSource | None:
    """Transcripts with all their columns; None where there is no row.

    `global_x` and `global_y` (micrometers) become `x` and `y`. `global_z` becomes `z`: the vendor
    counts planes there, some 1.5 um apart. `x` and `y`, pixels within the field of view, become
    `x_local` and `y_local`. Cell ids, where vpt has added them, are null outside cells.

    Parameters
    ----------
    path : Path
        detected_transcripts.
    scale : float
        Stored units a micrometer.
    flip : bool
        Whether y points up in the source.
    notes : list of str
        Is added to.

    Raises
    ------
    InputError
        It is no table, or has no global_x, global_y or gene.
    """
    import pyarrow as pa

    table = filled_table(path, notes)
    if table is None:
        return None
    cell = _cell_column(table, notes)
    text, number = pa.string(), pa.float64()
    types = {"gene": text, "transcript_id": text, "x": number, "y": number}
    return transcripts(
        table,
        x="global_x",
        y="global_y",
        z="global_z" if "global_z" in table.names else None,
        gene="gene",
        cell=cell,
        no_cell=("-1", "", "nan"),
        scale=scale,
        flip=flip,
        rename={old: new for old, new in _NAMES.items() if new not in table.names},
        types={name: kind for name, kind in types.items() if name in table.names},
    )


def _cell_column(table: Table, notes: list[str]) -> str | None:
    """Column of cell ids, if there is one and its ids are whole; a first block is read."""
    import pyarrow as pa
    import pyarrow.types as kinds

    name = next((one for one in _CELL if one in table.names), None)
    if name is None:
        return None
    from .text_table import TextTable

    types = {name: pa.string()} if isinstance(table, TextTable) else None
    for batch in table.batches([name], types):
        column = batch.column(0)
        wrong = (
            f"{column.type} numbers"
            if kinds.is_floating(column.type)
            else mangled_id(StringValues.from_strings(as_text(column).fill_null("")))
        )
        if wrong is not None:
            notes.append(
                f"{table.path.name}:{name} holds decimal numbers ({wrong}), which are no cell ids "
                "of 18 digits: transcripts are kept without their cells"
            )
            return None
        break
    return name
