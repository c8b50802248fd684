"""Parts of a section beside the matrix: frame, positions, tiles, obs, shapes, images, totals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.codecs import BLOCK_ROWS, COLUMN_ROWS, Grid, row_grid
from ..atlas.errors import Fault, InputError
from ..atlas.obs_names import stored_names
from ..atlas.quadtree import tight_boxes
from ..atlas.section_columns import CategoricalValues, NumericValues, StringValues
from ..atlas.section_obs import write_column
from ..atlas.section_shards import ArrayWriter, write_array
from ..atlas.section_write import (
    INSTANCE_KEY,
    REGION,
    REGION_KEY,
    encoded,
    group,
    write_container,
    write_table_frame,
    write_var,
)
from ..atlas.shapes import default_radius, write_circles, write_polygons
from .ring_spill import RingSpill, pieces_of
from .sort_gather import Layouts, layout
from .source import Polygons

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..atlas.statistics import GeneTotals, LogNorm
    from .cell_areas import BoundaryAreas
    from .sort_order import RowOrder
    from .source import RawSection

__all__ = [
    "write_frame",
    "write_images",
    "write_obs",
    "write_provenance",
    "write_shapes",
    "write_totals",
]

_DEEPEST = 32  # brackets in a fact of the provenance; vendors nest some five

_STEP_ROWS = BLOCK_ROWS * 1024


def write_frame(path: Path, raw: RawSection, rows: RowOrder, pool: Executor) -> Layouts:
    """Container, table groups, var, positions, source rows, tiles and row blocks."""
    write_container(path)
    write_table_frame(path, (raw.n_obs, raw.n_vars))
    write_var(path, raw.panel)
    group(path / "tisseract", format=0)  # completed last; see write_index
    for name in ("tiles", "blocks", "stats", "stats/obs", "totals"):
        group(path / "tisseract" / name)
    layouts = _write_positions(path, rows, pool)
    source_grid = row_grid(COLUMN_ROWS, raw.n_obs, 8)
    with ArrayWriter(
        path / "tisseract/source_row", (raw.n_obs,), np.int64, source_grid, pool=pool
    ) as writer:
        for start in range(0, raw.n_obs, _STEP_ROWS):
            writer.append(rows.order[start : start + _STEP_ROWS].astype(np.int64))
    layouts["tisseract/source_row"] = layout((raw.n_obs,), np.dtype(np.int64), source_grid)
    leaves = rows.leaves
    tiles: dict[str, NDArray[Any]] = {
        "ptr": leaves.ptr, "bounds": rows.tile_bounds, "code": leaves.code, "level": leaves.level
    }  # fmt: skip
    for name, values in tiles.items():
        layouts |= _whole(path, f"tisseract/tiles/{name}", values)
    return layouts


def write_provenance(path: Path, raw: RawSection, notes: tuple[str, ...]) -> None:
    """Write where the section came from, with what was found out while it was written."""
    facts = dict(raw.provenance)
    given = facts.get("notes")
    if notes:
        facts["notes"] = [*(given if isinstance(given, (list, tuple)) else ()), *notes]
    group(path / "tisseract" / "provenance", **{k: _plain(v) for k, v in facts.items()})


def _plain(value: Any, depth: int = 0) -> Any:
    """Null for numbers that JSON has not, and for what lies deeper than its writers go."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (Mapping, list, tuple)) and depth >= _DEEPEST:
        return None
    if isinstance(value, Mapping):
        return {key: _plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one, depth + 1) for one in value]
    return value


def _whole(path: Path, name: str, values: NDArray[Any]) -> Layouts:
    """Write a small array as one chunk."""
    write_array(path / name, values)
    n = max(1, values.shape[0])
    return {name: layout(values.shape, values.dtype, Grid(n, n))}


def _write_positions(path: Path, rows: RowOrder, pool: Executor) -> Layouts:
    """Positions in row order, and the tight box of every 256 rows, rounded outwards to float32."""
    n = rows.order.size
    grid = row_grid(BLOCK_ROWS, n, 16)
    boxes = []
    spatial = path / "tables/table/obsm/spatial"
    with ArrayWriter(
        spatial, (n, 2), np.float64, grid, pool=pool, attributes=encoded("array", "0.2.0")
    ) as writer:
        for start in range(0, n, _STEP_ROWS):
            block = rows.positions[rows.order[start : start + _STEP_ROWS]]
            writer.append(block)
            edges = np.append(np.arange(0, block.shape[0], BLOCK_ROWS), block.shape[0])
            boxes.append(_outward(tight_boxes(block, edges)))
    bounds = np.concatenate(boxes)
    box_grid = row_grid(1024, bounds.shape[0], 16)
    write_array(path / "tisseract/blocks/bounds", bounds, box_grid)
    return {
        "tables/table/obsm/spatial": layout((n, 2), np.dtype(np.float64), grid),
        "tisseract/blocks/bounds": layout(bounds.shape, bounds.dtype, box_grid),
    }


def _outward(boxes: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round boxes to float32 so that they still hold what they held."""
    near = boxes.astype(np.float32)
    low = np.where(near[:, :2] > boxes[:, :2], np.nextafter(near[:, :2], -np.inf), near[:, :2])
    high = np.where(near[:, 2:] < boxes[:, 2:], np.nextafter(near[:, 2:], np.inf), near[:, 2:])
    return np.concatenate([low, high], axis=1).astype(np.float32)


def write_shapes(
    path: Path,
    raw: RawSection,
    rows: RowOrder,
    system: str,
    *,
    scratch: Path,
    areas: BoundaryAreas | None = None,
) -> tuple[str, ...]:
    """Circles, or the polygons the reader found, in stored units; returns notes on them.

    Areas of polygons are noted in `areas`, where it is given.

    Boundaries are sorted in `scratch`; memory: 8 bytes a cell and `ring_spill.RING_BYTES`.

    Raises
    ------
    InputError
        Boundaries that are not one a cell, or of rows that the section does not have.
    """
    scale = 1.0 if raw.um_per_unit is None else raw.um_per_unit
    if raw.radius is None:
        middle = max(0, rows.order.size // 2 - 2048)
        radius: Any = default_radius(rows.positions[rows.order[middle : middle + 4096]])
    else:
        radius = np.asarray(raw.radius, np.float64) * scale
    if raw.shapes is None:
        write_circles(path, rows.positions, rows.order, radius, system)
        return ()
    if isinstance(raw.shapes, Polygons) and raw.shapes.offsets.size != raw.n_obs + 1:
        got = raw.shapes.offsets.size - 1
        raise InputError(Fault("shapes", f"expected {raw.n_obs} boundaries, but got {got}"))
    flip = np.array([scale, -scale if raw.y_axis == "up" else scale])
    with RingSpill(scratch / "rings", rows.order, rows.positions, flip, radius) as spill:
        for piece in pieces_of(raw.shapes):
            spill.add(piece)
        groups = spill.groups() if areas is None else areas.passing(spill.groups())
        write_polygons(path, groups, raw.n_obs, system)
        own = () if isinstance(raw.shapes, Polygons) else raw.shapes.notes
        return tuple(f"boundaries: {note}" for note in (*own, *spill.notes()))


def write_obs(
    path: Path,
    raw: RawSection,
    rows: RowOrder,
    pool: Executor,
    tell: Callable[[str, float], None],
) -> tuple[Layouts, dict[str, dict[str, Any]]]:
    """Obs with the cell ids as index, every column and its statistics; one column in memory.

    Raises
    ------
    InputError
        Cell ids that repeat or are missing, or a column of another length.
    """
    names = stored_names(raw.obs)
    order = [*names.values(), REGION_KEY, INSTANCE_KEY]
    attributes = {"column-order": order, "_index": "_index"}
    group(path / "tables/table/obs", **encoded("dataframe", "0.2.0"), **attributes)
    ptr, n = rows.leaves.ptr, raw.n_obs
    ids = raw.instance_ids.read()
    if not isinstance(ids, StringValues):
        raise InputError(Fault("instance_ids", f"expected strings, but got {type(ids).__name__}"))
    _check_length("instance_ids", len(ids), n)
    check_unique(ids)
    layouts = dict(write_column(path, "_index", ids, rows.order, ptr, pool=pool).arrays)
    del ids
    region = CategoricalValues(np.zeros(n, np.int8), (REGION,))
    write_column(path, REGION_KEY, region, rows.order, ptr[[0, -1]], pool=pool)
    del region
    instance = NumericValues(np.arange(n, dtype=np.int64))
    identity = np.arange(n, dtype=np.uint32)
    write_column(path, INSTANCE_KEY, instance, identity, ptr[[0, -1]], pool=pool)
    del instance, identity
    columns: dict[str, dict[str, Any]] = {}
    for k, (source, name) in enumerate(names.items()):
        values = raw.obs[source].read()
        _check_length(source, _length(values), n)
        written = write_column(path, name, values, rows.order, ptr, pool=pool)
        layouts |= written.arrays
        columns[name] = written.info | ({"source": source} if source != name else {})
        tell("obs", (k + 1) / len(names))
    return layouts, columns


def _length(values: Any) -> int:
    if isinstance(values, StringValues):
        return len(values)
    return int((values.codes if isinstance(values, CategoricalValues) else values.values).size)


def _check_length(name: str, length: int, n_obs: int) -> None:
    if length != n_obs:
        raise InputError(Fault(f"obs {name!r}", f"expected {n_obs} rows, but got {length}"))


def check_unique(ids: StringValues) -> None:
    """Refuse cell ids that repeat or are missing; 24 bytes a cell while searching.

    Raises
    ------
    InputError
        Names the first repeated id and counts them.
    """
    if ids.mask is not None and ids.mask.any():
        row = int(np.flatnonzero(ids.mask)[0])
        raise InputError(Fault("instance_ids", f"every cell needs an id, but row {row} has none"))
    repeated = ids.repeated()
    if repeated:
        shown = ", ".join(map(repr, repeated[:5]))
        raise InputError(
            Fault(
                "instance_ids",
                f"cell ids must be unique, but got {len(repeated)} repeated: {shown}; "
                "several sections in one file? give `split_by`",
            )
        )


def write_images(
    path: Path,
    raw: RawSection,
    system: str,
    memory_limit: int,
    tell: Callable[[str, float], None],
) -> None:
    """Let every image write itself."""
    if not raw.images:
        return
    group(path / "images")
    for k, (name, image) in enumerate(raw.images.items()):
        image.write(path, name, coordinate_system=system, memory_limit=memory_limit)
        tell("images", (k + 1) / len(raw.images))


def write_totals(path: Path, totals: GeneTotals, norm: LogNorm) -> Layouts:
    """Per-gene totals of the section, each with its unit."""
    parts: dict[str, tuple[NDArray[Any], str]] = {
        "gene_sum": (totals.sums, "sum of stored values over all cells"),
        "gene_nnz": (totals.nnz, "cells with a non-zero value"),
        "gene_max": (totals.largest, "largest stored value"),
        "gene_log_sum": (totals.logged, f"sum over all cells of {norm.formula}"),
    }
    layouts: Layouts = {}
    for name, (values, unit) in parts.items():
        where = f"tisseract/totals/{name}"
        write_array(path / where, values, attributes={"unit": unit})
        n = max(1, values.shape[0])
        layouts[where] = layout(values.shape, values.dtype, Grid(n, n))
    return layouts
