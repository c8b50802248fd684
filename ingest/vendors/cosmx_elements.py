"""Transcripts and boundaries of a CosMx export, placed in the frame of its cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .cosmx_cells import Cells, Metadata
from .cosmx_keys import cell_names, whole
from .cosmx_table import (
    PIXELS,
    KeyedTable,
    columns_of,
    key_columns,
    numbers_by_role,
    paired,
    require_columns,
)
from .rings import vertex_rings
from .table import filled_table, open_table
from .transcripts import transcripts

if TYPE_CHECKING:
    from ...atlas.points import PointsSource
    from ..source import RingsSource
    from .cosmx_frame import FovFrame
    from .table import Table

__all__ = ["Target", "read_polygons", "read_transcripts"]

_SAMPLE_ROWS = 100_000
_OFF_PX = 50.0
_NEAR_PX = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where the elements go."""

    meta: Metadata
    """Cells as the metadata has them."""
    cells: Cells
    """Cells of the section."""
    frame: FovFrame | None
    """Places of the FOVs."""
    scale: float
    """Stored units a pixel."""
    flip: bool
    """Whether y is negated."""
    notes: list[str]
    """Gets what is worth knowing."""


def _keyed(table: Table, target: Target, what: str) -> KeyedTable:
    """Give a table cell names, and global pixels that agree with those of the cells."""
    names = key_columns(table, **PIXELS)
    local, glob = "lx" in names and "ly" in names, "gx" in names and "gy" in names
    keyed = KeyedTable(
        table,
        names["fov"],
        names["cell"],
        _key_name(table, names, target.meta.prefix),
        target.meta.prefix,
        x=names.get("gx", "x_global_px"),
        y=names.get("gy", "y_global_px"),
    )
    frame = target.frame
    if local and frame is not None:
        computed = replace(keyed, frame=frame, local=(names["lx"], names["ly"]))
        if not glob:
            return computed
        wrong, swapped = _disagreement(table, names, frame)
        if swapped:
            target.notes.append(f"{what}: local and global pixels stand under each other's names")
            return replace(keyed, x=names["lx"], y=names["ly"])
        if wrong:
            target.notes.append(
                f"{what}: global pixels lie {wrong:.0f} px off those of the cells; places are "
                "computed from local ones"
            )
            return computed
    if not glob:
        require_columns(table, "x_global_px", "y_global_px")
    return keyed


def _key_name(table: Table, names: Mapping[str, str], prefix: str) -> str:
    """`cell`, unless the file has such a column and it holds something else."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if "cell" not in table.names:
        return "cell"
    wanted = [names["fov"], names["cell"], "cell"]
    types = {wanted[0]: pa.float64(), wanted[1]: pa.float64(), "cell": pa.large_string()}
    for batch in table.batches(wanted, types):
        pair = [
            whole(np.asarray(batch.column(k).to_numpy(zero_copy_only=False)), f"{table.path}")
            for k in (0, 1)
        ]
        made = cell_names(pair[0], pair[1], prefix)
        alike = pc.fill_null(pc.equal(made, batch.column(2)), False)
        return "cell" if np.asarray(alike)[pair[1] > 0].all() else "cell_key"
    return "cell"


def _disagreement(table: Table, names: Mapping[str, str], frame: FovFrame) -> tuple[float, bool]:
    """Pixels between global coordinates and the frame, 0 when small; and whether names swap."""
    values = numbers_by_role(table, dict(names), _SAMPLE_ROWS)
    fov = whole(values["fov"], f"{table.path}:{names['fov']}")
    local, glob = paired(values, "lx", "ly"), paired(values, "gx", "gy")
    assert local is not None
    assert glob is not None
    straight = np.abs(frame.to_global(fov, local) - glob)
    known = np.isfinite(straight).all(axis=1)
    off = float(np.median(straight[known])) if known.any() else 0.0
    if off <= _OFF_PX:
        return 0.0, False
    swapped = np.abs(frame.to_global(fov, glob) - local)[known]
    return off, bool(np.median(swapped) < _NEAR_PX)


def read_transcripts(path: Path, target: Target) -> PointsSource | None:
    """Transcripts in stored units, with the names of their cells; None where there is no row.

    Raises
    ------
    InputError
        Columns are missing.
    """
    import pyarrow as pa

    table = filled_table(path, target.notes)
    if table is None:
        return None
    keyed = _keyed(table, target, path.name)
    found = columns_of(table, gene=["target", "gene", "target_name"], z=["z"], comp=["CellComp"])
    if "gene" not in found:
        require_columns(table, "target")
    words = [found[role] for role in ("gene", "comp") if role in found]
    return transcripts(
        keyed,
        x=keyed.x,
        y=keyed.y,
        z=found.get("z"),
        gene=found["gene"],
        cell=keyed.key,
        scale=target.scale,
        flip=target.flip,
        types=dict.fromkeys(words, pa.string())
        | {keyed.x: pa.float64(), keyed.y: pa.float64()}
        | ({found["z"]: pa.float64()} if "z" in found else {}),
    )


def read_polygons(path: Path, target: Target) -> RingsSource:
    """Boundaries of the cells in source units.

    Raises
    ------
    InputError
        Columns are missing.
    """
    keyed = _keyed(open_table(path), target, path.name)
    return vertex_rings(keyed, keyed.key, keyed.x, keyed.y, target.cells.ids)
