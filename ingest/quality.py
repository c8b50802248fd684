"""Quality of a section while it is written: one pass over what lies there, small arrays beside it.

Nothing is dropped for what is found: figures are kept, and `query.quality.flags` tells what is odd.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.codecs import row_grid
from ..atlas.quadtree import TileTable
from ..atlas.quality.measure import Areas, Measured, StoredRows, measure
from ..atlas.quality.section import PREVIEW, TILES, boxes_area
from ..atlas.quality.summary import QcSummary
from ..atlas.section_arrays import ArrayLayout, RowArray
from ..atlas.section_shards import write_array
from ..atlas.section_write import group
from ..atlas.storage import open_storage
from .cell_areas import BoundaryAreas, area_column, column_areas
from .sort_gather import Layouts, layout

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ..atlas.quality.points import PointTally
    from .sort_order import RowOrder
    from .source import RawSection

__all__ = ["Written", "write_quality"]

_TILE_ROWS = 1024
_UNITS = {
    "n_obs": "cells",
    "n_counts": "sum of the stored values of all genes",
    "n_genes": "sum over cells of their genes above zero",
    "n_empty": "cells without a value above zero",
    "n_duplicated": "cells at exactly the position of an earlier row",
    "n_controls": "sum of the control features",
    "area_um2": "sum of the areas of the cells whose area is known, square micrometers",
    "n_area": "cells whose area is known",
    "n_transcripts": "points in the square of the tile",
    "n_outside": "of them, those that belong to no cell",
}


@dataclass(frozen=True, slots=True)
class Written:
    """What was written beside the section, for its index and for the catalog."""

    names: tuple[str, ...]
    """Names of the numbers of a tile."""
    layouts: Layouts
    """Arrays, for the section's list."""
    summary: Mapping[str, Any]
    """`QcSummary` as JSON."""


def write_quality(
    path: Path,
    raw: RawSection,
    rows: RowOrder,
    *,
    layouts: Layouts,
    columns: Mapping[str, Mapping[str, Any]],
    tallies: Mapping[str, PointTally],
    areas: BoundaryAreas | None,
    notes: tuple[str, ...],
) -> Written:
    """Count a section whose matrix, positions, columns and points are written.

    Parameters
    ----------
    path : Path
        The section's container; `tisseract/qc` is added.
    raw : RawSection
        What the reader found: images, notes, unit.
    rows : RowOrder
        Tiles.
    layouts : mapping
        All arrays written so far.
    columns : mapping
        Obs columns, as the index describes them.
    tallies : mapping
        Points of each tile, by element.
    areas : BoundaryAreas, optional
        Areas of the boundaries, where there are any and a unit.
    notes : tuple of str
        What was found out while writing.

    Returns
    -------
    Written
        Memory: some 10 MB, and 100 bytes a tile.
    """
    read = _reader(path, layouts)
    stored = StoredRows(read, _tiles(rows), rows.bounds, layouts)
    source, known = _areas(raw, columns, areas, read, layouts)
    measured = measure(stored, known)
    numbers: dict[str, NDArray[Any]] = dict(measured.columns)
    for name, tally in tallies.items():
        numbers |= tally.columns(name)
    counted = _summary(raw, rows, measured, tallies, notes)
    summary = replace(counted, area_from=source).as_json()
    arrays = _write(path, numbers, measured.preview, summary)
    return Written(tuple(numbers), arrays, summary)


def _reader(path: Path, layouts: Layouts) -> Any:
    storage, opened = open_storage(path), dict[str, RowArray]()

    def read(name: str) -> RowArray:
        if name not in opened:
            opened[name] = RowArray(storage, name, ArrayLayout.of(layouts[name]), f"array {name}")
        return opened[name]

    return read


def _tiles(rows: RowOrder) -> TileTable:
    return TileTable(rows.leaves.ptr, rows.tile_bounds)


def _areas(
    raw: RawSection,
    columns: Mapping[str, Mapping[str, Any]],
    areas: BoundaryAreas | None,
    read: Any,
    layouts: Layouts,
) -> tuple[str, Areas | None]:
    """Choose where areas are known from; ("", None) where nothing tells."""
    if areas is not None:
        return "boundaries", areas.read
    numeric = [name for name, info in columns.items() if info["kind"] == "numeric"]
    name = area_column(numeric, str(raw.metadata.get("technology") or ""))
    if name is None:
        return "", None
    return name, column_areas(columns[name], read, layouts)


def _summary(
    raw: RawSection,
    rows: RowOrder,
    measured: Measured,
    tallies: Mapping[str, PointTally],
    notes: tuple[str, ...],
) -> QcSummary:
    given = raw.provenance.get("notes")
    told = (*(map(str, given) if isinstance(given, list | tuple) else ()), *notes)
    controls = measured.columns.get("n_controls")
    _, height, width = measured.preview.shape
    return QcSummary(
        raw.n_obs,
        measured.counts,
        measured.genes,
        int(measured.columns["n_duplicated"].sum()),
        controls=None if controls is None else float(controls.sum()),
        area=measured.area,
        box_um2=boxes_area(rows.tile_bounds, raw.um_per_unit),
        transcripts={name: tally.counts() for name, tally in tallies.items()},
        images=len(raw.images),
        preview=(height, width),
        notes=told,
        n_notes=len(told),
        software=_version(),
    )


def _version() -> str:
    try:
        return version("tisseract")
    except PackageNotFoundError:
        return ""


def _write(
    path: Path,
    numbers: Mapping[str, NDArray[Any]],
    preview: NDArray[np.float32],
    summary: Mapping[str, Any],
) -> Layouts:
    units = {name: _UNITS[name.partition(":")[0]] for name in numbers}
    group(path / "tisseract/qc", columns=list(numbers), units=units, summary=dict(summary))
    matrix = np.stack([values.astype(np.float64) for values in numbers.values()], axis=1)
    grid = row_grid(_TILE_ROWS, matrix.shape[0], 8 * matrix.shape[1])
    write_array(path / TILES, matrix, grid, attributes={"axes": "tile, number"})
    write_array(path / PREVIEW, preview, attributes={"axes": "cells | counts, y, x"})
    shape, dtype = preview.shape, preview.dtype.name
    return {
        TILES: layout(matrix.shape, matrix.dtype, grid),
        PREVIEW: {"shape": list(shape), "dtype": dtype, "chunk": shape[0], "shard": shape[0]},
    }
