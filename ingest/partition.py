"""Write one section: rows sorted into tiles out of core, both access orders, statistics, elements.

Two passes. Positions give the row order and the tiles; then the matrix is streamed once, its rows
scattered to bucket files of contiguous rows, each bucket sorted in memory and appended to the
arrays, and the by-gene order merged from what the buckets spilled. Points do not wait for it: a
second thread writes them meanwhile, where memory holds both.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError, StorageFull
from ..atlas.section_write import SECTION_FORMAT, consolidate, coordinate_system, write_index
from ..atlas.statistics import GeneTotals, log_norm, narrowest
from .apart_counts import SplitCounts
from .apart_write import check_tables, write_tables
from .bad_entries import cell_name, refusal
from .cell_areas import BoundaryAreas
from .lane import lane
from .quality import write_quality
from .read_memory import ReadMemory
from .ring_spill import RING_BYTES
from .scratch import scratch_bytes_of, scratch_in
from .sort_gather import RepeatedGeneError, gather
from .sort_genes import merge_pieces
from .sort_order import RowOrder, sort_rows
from .sort_plan import PartitionPlan, plan_partition, return_memory
from .sort_scatter import BadEntryError, Scattered, scatter
from .source import CountsSource, Polygons, RawSection, RingsSource
from .write_elements import Elements, write_points_of, write_rest
from .write_parts import (
    write_frame,
    write_images,
    write_obs,
    write_provenance,
    write_shapes,
    write_totals,
)

if TYPE_CHECKING:
    from ..atlas.morton import Frame
    from ..atlas.quadtree import Leaves

__all__ = ["PartitionPlan", "SectionSummary", "plan_partition", "write_section"]

_EXACT_FLOAT32 = 2**24  # above it, float32 does not hold every whole number

Progress = Callable[[str, float], None]
"""Called with a stage (`order`, `obs`, `scatter`, `gather`, `genes`, `apart`,
`images`) and its fraction."""


@dataclass(frozen=True, slots=True)
class SectionSummary:
    """Facts of a written section: all of a catalog entry but its attempt and digest."""

    n_obs: int
    """Cells."""
    n_vars: int
    """Genes."""
    nnz: int
    """Stored entries; explicit zeros of the source are not stored."""
    n_tiles: int
    """Tiles."""
    tile_cells: int
    """Cells of the largest tile."""
    panel: str
    """Digest of the gene panel."""
    values: str
    """What the matrix holds."""
    um_per_unit: float | None
    """Micrometers per source unit; None when unknown."""
    bounds: tuple[float, float, float, float]
    """xmin, ymin, xmax, ymax in micrometers, or source units when unknown."""
    metadata: Mapping[str, str | int | float | bool | None]
    """Section metadata, as the reader gave it."""
    columns: Mapping[str, Mapping[str, Any]]
    """Obs columns: kind, extremes or categories."""
    plan: PartitionPlan
    """How memory was divided."""
    notes: tuple[str, ...] = ()
    """What was found out while writing; also in the provenance."""
    qc: Mapping[str, Any] = field(default_factory=dict)
    """Quality of the section, as the catalog keeps it."""


def write_section(
    raw: RawSection,
    path: Path,
    *,
    tile_cells: int = 4096,
    memory_limit: int,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> SectionSummary:
    """Write a section as a SpatialData container with tiles, both access orders and statistics.

    Parameters
    ----------
    raw : RawSection
        What the reader found.
    path : Path
        Empty or absent folder that becomes the container.
    tile_cells : int
        Most cells of a tile.
    memory_limit : int
        Bytes that may be used beyond what the process holds already.
    scratch : Path, optional
        Folder for temporary files, beside `path` by default; removed again in any case.
    progress : callable, optional
        Called with a stage and the fraction of it that is done.

    Returns
    -------
    SectionSummary
        Peak memory is `summary.plan.peak_bytes`, whatever the number of cells.

    Raises
    ------
    InputError
        Something in the source cannot be stored; names the first cell and gene.
    BudgetExceeded
        The limit cannot hold the work; nothing was written.
    StorageFull
        No space is left on the disk.
    """
    counts = raw.counts
    rings = ReadMemory(rings=0 if raw.shapes is None else RING_BYTES)
    plan = plan_partition(
        raw.n_obs, raw.n_vars, counts.nnz, memory_limit=memory_limit, reading=raw.reading | rings
    )
    plan = replace(plan, scratch_bytes=_scratch_bytes(plan, raw))
    tell = progress or (lambda stage, fraction: None)
    with _scratch_folder(scratch or path.parent) as folder, ThreadPoolExecutor(2) as pool:
        job = _Job(raw, path, plan, folder, pool, tell)
        with scratch_in(folder):
            return job.run(tile_cells)


def _scratch_bytes(plan: PartitionPlan, raw: RawSection) -> int:
    """Scratch space with that of boundaries, which are gone when the matrix is sorted."""
    vertices = raw.shapes.n_vertices or 0 if isinstance(raw.shapes, RingsSource) else 0
    if isinstance(raw.shapes, Polygons):
        vertices = raw.shapes.vertices.shape[0]
    # What was split off is there twice while it is sorted into buckets.
    beside = 4 * (plan.nnz + raw.n_obs * len(raw.apart)) if raw.apart else 0
    # What the source has sorted is there until it was scattered.
    beside += scratch_bytes_of(raw.counts)
    return max(plan.scratch_bytes + beside, 16 * vertices + 8 * raw.n_obs)


@contextmanager
def _scratch_folder(parent: Path) -> Iterator[Path]:
    """Make a temporary folder; a full disk becomes an error that says so."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".sort-", dir=parent))
    try:
        yield folder
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageFull(
                f"sorting a section needs space, but got none left at {error.filename or parent}; "
                "free some, or give another scratch folder"
            ) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Job:
    """One section being written."""

    raw: RawSection
    path: Path
    plan: PartitionPlan
    folder: Path
    pool: ThreadPoolExecutor
    tell: Progress

    def run(self, tile_cells: int) -> SectionSummary:
        raw, path = self.raw, self.path
        system = coordinate_system(raw.um_per_unit)
        return_memory()
        rows = sort_rows(raw.positions, raw.um_per_unit, raw.y_axis, tile_cells)
        self.tell("order", 1.0)
        arrays = write_frame(path, raw, rows, self.pool)
        areas = self._areas()
        points = partial(self._points, rows.frame, rows.leaves)
        with lane(points, beside=self.plan.beside) as written:
            shape_notes = write_shapes(path, raw, rows, system, scratch=self.folder, areas=areas)
            # Written, and not to be held while the matrix is sorted.
            rows = rows.without_positions()
            obs_arrays, columns = write_obs(path, raw, rows, self.pool, self.tell)
            return_memory()
            check_tables(tuple(raw.apart))
            split = SplitCounts.of(raw.counts, raw.apart, self.folder) if raw.apart else None
            layouts, nnz, notes = self._matrix(rows, split or raw.counts)
            tables = write_tables(
                path, raw, split, rows, plan=self.plan, scratch=self.folder, pool=self.pool,
                advance=lambda done: self.tell("apart", done),
            )  # fmt: skip
            write_images(path, raw, system, self.plan.image_bytes, self.tell)
            return_memory()
            rest = write_rest(path, raw, system, memory=self.plan.image_bytes)
            elements = written().joined(rest)
        return_memory()
        attributes = _attributes(raw, rows, columns, nnz, tile_cells) | tables.index
        attributes["arrays"] = arrays | obs_arrays | layouts | tables.layouts
        return self._finish(rows, attributes, (*notes, *shape_notes), areas, elements)

    def _points(self, frame: Frame, leaves: Leaves, check: Callable[[], None]) -> Elements:
        """Points: they need the rows' tiles, and nothing else that is written."""
        return write_points_of(
            self.path,
            self.raw,
            frame,
            coordinate_system(self.raw.um_per_unit),
            memory=self.plan.points_bytes,
            scratch=self.folder,
            leaves=leaves,
            check=check,
        )

    def _finish(
        self,
        rows: RowOrder,
        attributes: dict[str, Any],
        notes: tuple[str, ...],
        areas: BoundaryAreas | None,
        elements: Elements,
    ) -> SectionSummary:
        """Quality of all that was written, the index last."""
        raw, path = self.raw, self.path
        notes = (*notes, *elements.notes)
        write_provenance(path, raw, notes)
        arrays, columns = attributes["arrays"] | elements.layouts, attributes["obs"]
        quality = write_quality(
            path,
            raw,
            rows,
            layouts=arrays,
            columns=columns,
            tallies=elements.tallies,
            areas=areas,
            notes=notes,
        )
        names, arrays = list(quality.names), arrays | quality.layouts
        write_index(path, attributes | elements.index | {"qc": names, "arrays": arrays})
        consolidate(path)
        return self._summary(rows, columns, attributes["nnz"], notes, quality.summary)

    def _areas(self) -> BoundaryAreas | None:
        """Return where to note areas of boundaries; None without boundaries, or without a unit."""
        if self.raw.shapes is None or self.raw.um_per_unit is None:
            return None
        return BoundaryAreas(self.folder / "areas")

    def _matrix(
        self, rows: RowOrder, counts: CountsSource
    ) -> tuple[dict[str, dict[str, object]], int, tuple[str, ...]]:
        """Both access orders, totals and per-tile statistics."""
        raw, plan = self.raw, self.plan
        try:
            scattered = scatter(
                counts,
                rows.rank(),
                self.folder,
                bucket_rows=plan.bucket_rows,
                block_bytes=plan.block_bytes,
                whole=raw.values == "counts",
                advance=lambda done: self.tell("scatter", done),
            )
        except BadEntryError as bad:
            raise refusal(raw, bad) from None
        try:
            return self._sorted(scattered, rows), scattered.nnz, _notes(raw, scattered.largest)
        except RepeatedGeneError as repeat:
            cell = cell_name(raw, int(rows.order[repeat.row]))
            wanted = f"expected each gene once a cell, but got one twice in cell {cell}"
            raise InputError(Fault("counts", f"{wanted}; sum the duplicates first")) from None

    def _sorted(self, scattered: Scattered, rows: RowOrder) -> dict[str, dict[str, object]]:
        """Sort the buckets by rows, then by genes."""
        raw, plan = self.raw, self.plan
        return_memory()
        totals, norm = GeneTotals.zeros(raw.n_vars), log_norm(raw.values)
        whole = raw.values == "counts"
        dtype = narrowest(scattered.largest) if whole else np.dtype(np.float32)
        pieces, layouts = gather(
            scattered,
            self.path,
            totals,
            dtype=dtype,
            norm=norm,
            bucket_nnz=plan.bucket_nnz,
            scratch=self.folder,
            pool=self.pool,
            advance=lambda done: self.tell("gather", done),
        )
        layouts |= merge_pieces(
            pieces,
            self.path,
            totals.nnz,
            rows.leaves.ptr,
            dtype=dtype,
            budget_nnz=plan.bucket_nnz,
            pool=self.pool,
            advance=lambda done: self.tell("genes", done),
        )
        return layouts | write_totals(self.path, totals, norm)

    def _summary(
        self,
        rows: RowOrder,
        columns: dict[str, dict[str, Any]],
        nnz: int,
        notes: tuple[str, ...],
        quality: Mapping[str, Any],
    ) -> SectionSummary:
        raw = self.raw
        keep = ("kind", "min", "max", "categories", "n_categories", "ordered", "nulls", "source")
        return SectionSummary(
            n_obs=raw.n_obs,
            n_vars=raw.n_vars,
            nnz=nnz,
            n_tiles=rows.leaves.ptr.size - 1,
            tile_cells=int(np.diff(rows.leaves.ptr).max()),
            panel=raw.panel.digest,
            values=raw.values,
            um_per_unit=raw.um_per_unit,
            bounds=rows.bounds,
            metadata=dict(raw.metadata),
            columns={n: {k: c[k] for k in keep if k in c} for n, c in columns.items()},
            plan=self.plan,
            notes=notes,
            qc=quality,
        )


def _notes(raw: RawSection, largest: float) -> tuple[str, ...]:
    """Say what a reader of the section should know of its numbers."""
    if raw.values != "counts" or largest <= _EXACT_FLOAT32:
        return ()
    note = (
        f"counts reach {largest:.0f}: they are stored exactly, but handed out as float32, which "
        f"rounds whole numbers above {_EXACT_FLOAT32}"
    )
    return (note,)


def _attributes(
    raw: RawSection,
    rows: RowOrder,
    columns: dict[str, dict[str, Any]],
    nnz: int,
    tile_cells: int,
) -> dict[str, Any]:
    """Gather what opening a section needs, in one object."""
    frame = rows.frame
    return {
        "format": SECTION_FORMAT,
        "n_obs": raw.n_obs,
        "n_vars": raw.n_vars,
        "nnz": nnz,
        "n_tiles": rows.leaves.ptr.size - 1,
        "tile_cells": tile_cells,
        "values": raw.values,
        "um_per_unit": raw.um_per_unit,
        "y_axis": raw.y_axis,
        "coordinate_system": coordinate_system(raw.um_per_unit),
        "frame": {"x": frame.x, "y": frame.y, "side": frame.side},
        "bounds": list(rows.bounds),
        "panel": raw.panel.digest,
        "log_norm": log_norm(raw.values).formula,
        "obs": columns,
        "images": sorted(raw.images),
    }
