"""Boundaries of MERSCOPE cells in Parquet, with a row a cell and plane; see also `merscope_hdf5`.

Cells are segmented in planes; one plane gives the outline of a cell. A cell that is absent there
takes its outline from the nearest plane that has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import Fault, InputError
from ..reader import faults_of
from ..source import RingPiece, RingsSource, StringValues
from .column_values import require_column
from .parquet_table import ParquetTable
from .rings import IdRows, largest_rings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Boundaries", "choose_plane", "left_out", "parquet_boundaries"]

_CELL = ("EntityID", "cell_id", "cell", "__index_level_0__")
_GEOMETRY = ("Geometry", "geometry")
_SAMPLE_ROWS = 4096
_FULL = 0.9  # of the most cells that any plane has
_MOST_PLANES = 1000
_FAR = np.int32(2**31 - 1)


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Outlines of the cells in one plane, and of other planes where wanted."""

    rings: RingsSource
    """Of the chosen plane."""
    plane: int | None
    """Plane; None when the file knows none."""
    planes: tuple[int, ...]
    """All planes seen."""
    others: Mapping[int, RingsSource] = field(default_factory=dict)
    """Rings of the other planes."""
    heights: Mapping[int, float] = field(default_factory=dict)
    """Micrometers of each plane, where the file says it."""
    notes: tuple[str, ...] = ()
    """What is not written."""


def choose_plane(cells: Mapping[int, int], wanted: object, where: str) -> int:
    """Plane to take outlines from: the one asked for, else the middle one of the full ones.

    Parameters
    ----------
    cells : mapping of int to int
        Outlines in each plane.
    wanted : object
        Option `z_layer`; None chooses.
    where : str
        File, for messages.

    Raises
    ------
    InputError
        The plane is not there.

    Examples
    --------
    >>> choose_plane({0: 40, 1: 99, 2: 100, 3: 100}, None, "")
    2
    """
    if wanted is None:
        enough = _FULL * max(cells.values())
        full = sorted(z for z, n in cells.items() if n >= enough)
        return full[len(full) // 2]
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted not in cells:
        raise InputError(
            Fault(
                where,
                f"expected z_layer out of {', '.join(map(str, sorted(cells)))}, but got {wanted!r}",
            )
        )
    return wanted


def parquet_boundaries(
    path: Path, ids: StringValues, z_layer: object = None, *, others: bool = False
) -> Boundaries:
    """Find the planes of a Parquet file and open one; the column of planes is read.

    Memory: where there are several planes 4 bytes a cell, kept if some cell lacks the chosen one.

    Parameters
    ----------
    path : Path
        Columns EntityID, ZIndex (may be absent) and Geometry (well-known binary, micrometers).
    ids : StringValues, (n,)
        Cell ids in row order.
    z_layer : object
        Plane asked for.
    others : bool
        Whether the other planes are opened too.

    Raises
    ------
    InputError
        Columns are missing, ids are no whole numbers, or there is no such plane.
    """
    table = ParquetTable.of(path)
    cell, geometry = _one_of(table, _CELL), _one_of(table, _GEOMETRY)
    _refuse_decimals(table, cell)
    if "ZIndex" not in table.names:
        return Boundaries(
            RingsSource(partial(_parquet_pieces, table, (cell, geometry), ids, None)), None, ()
        )
    cells, heights = _planes_of(table)
    if not cells:
        raise InputError(Fault(str(path), "expected boundaries, but got a table without any"))
    plane = choose_plane(cells, z_layer, str(path))
    names = (cell, geometry, "ZIndex")
    best = _nearest(table, cell, ids, plane) if len(cells) > 1 else None
    rings = RingsSource(partial(_parquet_pieces, table, names, ids, (plane, best)))
    rest = [z for z in sorted(cells) if z != plane]
    opened = {
        z: RingsSource(partial(_parquet_pieces, table, names, ids, (z, None)))
        for z in rest
        if others
    }
    copies = _repeats(table, names) if rest and not others else None
    return Boundaries(
        rings, plane, tuple(sorted(cells)), opened, heights, left_out(plane, rest, copies, others)
    )


def left_out(plane: int, rest: Sequence[int], copies: bool | None, others: bool) -> tuple[str, ...]:
    """Tell of the planes that are not written, and why.

    `copies` says whether outlines were found to be the same in each, None where that is not known.
    """
    if not rest or others:
        return ()
    listed = ", ".join(map(str, rest))
    why = {
        True: "the first cells have the same outline in each",
        False: "their outlines differ",
        None: "they would take as much room each",
    }[copies]
    note = (
        f"outlines of plane {plane}; planes {listed} not written ({why}; reader_kwargs z_outlines "
        "true writes them beside)"
    )
    return (note,)


def _one_of(table: ParquetTable, names: Sequence[str]) -> str:
    found = next((name for name in names if name in table.names), None)
    if found is None:
        require_column(table.path, table.names, names[0])
        raise AssertionError(names)  # pragma: no cover - require has raised
    return found


def _refuse_decimals(table: ParquetTable, cell: str) -> None:
    import pyarrow.types as kinds

    kind = table.kinds[table.names.index(cell)]
    if kinds.is_floating(kind):
        raise InputError(
            Fault(
                f"{table.path}:{cell}",
                f"expected cell ids as whole numbers or text, but got {kind}: ids of 18 digits do "
                "not fit into it; write the boundaries again with 64-bit integers",
            )
        )


def _planes_of(table: ParquetTable) -> tuple[dict[int, int], dict[int, float]]:
    """Outlines in each plane, and its height in micrometers where ZLevel says it."""
    import pyarrow as pa

    names = ["ZIndex", *(["ZLevel"] if "ZLevel" in table.names else [])]
    cells: dict[int, int] = {}
    heights: dict[int, float] = {}
    for batch in table.batches(names, dict.fromkeys(names, pa.float64())):
        z = batch.column(0).to_numpy(zero_copy_only=False)
        seen, first, n = np.unique(z, return_index=True, return_counts=True)
        for k, plane in enumerate(seen.tolist()):
            if np.isnan(plane):
                continue
            if not float(plane).is_integer() or len(cells) > _MOST_PLANES:
                raise InputError(
                    Fault(
                        f"{table.path}:ZIndex",
                        f"expected the numbers of some planes, but got {plane:g}",
                    )
                )
            cells[int(plane)] = cells.get(int(plane), 0) + int(n[k])
            if len(names) > 1:
                height = batch.column(1)[int(first[k])].as_py()
                if height is not None and np.isfinite(height):
                    heights[int(plane)] = float(height)
    return cells, heights


def _distance(z: NDArray[np.float64], plane: int) -> NDArray[np.int32]:
    """Rank of planes by their distance from one; of two as near the lower comes first."""
    apart = np.where(np.isnan(z), 2.0**29, np.abs(z - plane))
    return (2 * np.minimum(apart, 2.0**29) + (z > plane)).astype(np.int32)


def _nearest(
    table: ParquetTable, cell: str, ids: StringValues, plane: int
) -> NDArray[np.int32] | None:
    """(n,) rank of the nearest plane that has each cell; None where that is the one for all."""
    import pyarrow as pa

    rows = IdRows(ids)
    best = np.full(len(ids), _FAR)
    for batch in table.batches([cell, "ZIndex"], {"ZIndex": pa.float64()}):
        row = rows.of(batch.column(0))
        rank = _distance(batch.column(1).to_numpy(zero_copy_only=False), plane)
        np.minimum.at(best, row[row >= 0], rank[row >= 0])
    return best if ((best > 0) & (best < _FAR)).any() else None


def _parquet_pieces(
    table: ParquetTable,
    names: tuple[str, ...],
    ids: StringValues,
    wanted: tuple[int, NDArray[np.int32] | None] | None,
) -> Iterator[RingPiece]:
    import pyarrow as pa

    rows = IdRows(ids)
    types = {names[1]: pa.binary()} | dict.fromkeys(names[2:], pa.float64())
    for batch in table.batches(names, types):
        row = rows.of(batch.column(0))
        kept = row >= 0
        if wanted is not None:
            plane, best = wanted
            rank = _distance(batch.column(2).to_numpy(zero_copy_only=False), plane)
            kept &= rank == (0 if best is None else best[row])
        if not kept.any():
            continue
        chosen = np.flatnonzero(kept)
        with faults_of(table.path, "polygons", parsing=True):
            piece = largest_rings(batch.column(1).take(pa.array(chosen)), row[chosen])
        yield piece


def _repeats(table: ParquetTable, names: tuple[str, ...]) -> bool | None:
    """Whether the first cells have one outline in all planes, None if too few rows tell."""
    import pyarrow as pa

    types = {names[1]: pa.binary()}
    for batch in table.batches(names[:2], types, _SAMPLE_ROWS):
        first: dict[Any, bytes | None] = {}
        seen = False
        for cell, shape in zip(batch[0].to_pylist(), batch[1].to_pylist(), strict=True):
            seen |= cell in first
            if first.setdefault(cell, shape) != shape:
                return False
        return True if seen else None
    return None
