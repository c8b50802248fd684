"""Summaries of every gene by groups of cells, computed once and committed as segments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.derived import Provenance, write_provenance
from ...atlas.errors import InvalidArgument
from ...atlas.memory import parse_bytes
from ...atlas.snapshot import Change, SegmentEntry
from ...atlas.summary_file import SegmentGenes, SummaryColumns, SummarySegment, SummaryWriter
from ..filters.columns import Columns
from .choice import gene_union, measured_in
from .summary_plan import (
    KIND,
    SummaryPlan,
    cell_columns,
    inputs_of,
    number_in,
    plan_summary,
    segments_of,
    to_merge,
)
from .sums import GroupSums, section_sums
from .taking_part import cells_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.genes import GeneUnion
    from ...atlas.store import AtlasStore
    from ..filters.columns import Column

__all__ = ["SummaryReport", "summarize"]

# Work that a killed process may lose.
_COMMIT_SECONDS = 60.0
# Share of the memory limit that sums waiting for their commit may take.
_WAITING = 4

type Progress = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class SummaryReport:
    """What `summarize` did."""

    key: str
    """Name of the summary."""
    by: tuple[str, ...]
    """Columns that cells were grouped by, as `source:name`."""
    computed: tuple[str, ...]
    """Sections that were read."""
    skipped: tuple[str, ...]
    """Sections whose summary was there and current."""
    segments: int
    """Segments of this summary now."""
    nbytes: int
    """Bytes of these."""

    def __str__(self) -> str:
        from ...atlas.memory import format_bytes

        by = f" by {', '.join(self.by)}" if self.by else ""
        return (
            f"summary {self.key!r}{by}: {len(self.computed)} sections computed, "
            f"{len(self.skipped)} there already; {self.segments} segments, "
            f"{format_bytes(self.nbytes)}"
        )


def summarize(
    store: AtlasStore,
    by: str | Sequence[str] | None = None,
    *,
    key_added: str | None = None,
    sections: Sequence[str] | None = None,
    domain_key: str | None = None,
    all_cells: bool = False,
    overwrite: bool = False,
    memory_limit: str | int | None = None,
    progress: Progress | None = None,
) -> SummaryReport:
    """Compute and commit the sums of every gene over groups of cells, for `gene(...).where()`.

    Parameters
    ----------
    store
        Opened for writing.
    by
        Columns of cells: obs columns, domain keys. Those of sections (timepoint, donor, condition)
        may be named and cost nothing: the catalog has them. Sections as a whole without.
    key_added
        Name of the summary; made from the columns without.
    sections
        Only these; all without.
    domain_key
        Which labels `domain` means; needed where there are several.
    all_cells
        Every cell, not only those that pass quality control (`qc_pass`, in sections that have it).
        There is no `where=`: a question with a filter is computed from the gene's vector.
    overwrite
        Compute again what is there and current.
    memory_limit
        Bytes to stay under; sums of sections are committed as soon as they take a quarter of it.
    progress
        Called with a stage, how many sections are done and how many there are.

    Returns
    -------
    SummaryReport

    Raises
    ------
    ReadOnly, ColumnNotFound, SectionNotFound, StaleDerived
    InvalidArgument
        A summary of this name groups by other columns, or is of other cells.
    BudgetExceeded
        The groups of one section times its genes do not fit.
    CommitConflict
        Others began a summary of this name meanwhile.

    Notes
    -----
    Sections are read by rows, one after the other, and committed together at least once a minute:
    what was committed is not computed again when a killed run is repeated. Each commit adds one
    segment; above three, small ones are merged (`to_merge`), gene by gene. Time: one pass over the
    counts. Memory: 48 bytes a gene and group of one section, a quarter of the limit, and about
    256 MiB for the rows in work.
    """
    store.require_writing("a summary")
    names = [] if by is None else [by] if isinstance(by, str) else list(by)
    resolver = Columns(store, domain_key)
    columns = [resolver.resolve(name) for name in names]
    if any(column.source in ("gene", "cell") for column in columns):
        raise InvalidArgument(
            f"columns that group cells are wanted for by=, but got {', '.join(names)}; name obs "
            "columns, domain keys or annotations"
        )
    wanted = store.section_names if sections is None else list(sections)
    for name in wanted:
        store.section(name)  # raises, with near names
    seen = store.snapshot
    plan = plan_summary(
        seen,
        columns,
        wanted,
        key=key_added,
        all_cells=all_cells,
        overwrite=overwrite,
    )
    chosen = _in_order(plan, columns)
    limit = parse_bytes(memory_limit)
    # Where nothing had this name: what others give it meanwhile may be of other groups.
    expect = {} if segments_of(seen, plan.key) else {f"{KIND}/{plan.key}": ()}
    for batch, drop in _batches(store, plan, chosen, limit, progress):
        entry = _write(store, plan, batch)
        change = Change(add_segments=[entry], remove_segments=drop, expect_segments=expect)
        expect = {}
        store.commit(change, f"summarize {plan.key}: {len(batch)} sections")
    if plan.dropped and not plan.todo:
        store.commit(Change(remove_segments=plan.dropped), f"summarize {plan.key}: drop")
    _merge(store, plan)
    there = segments_of(store.snapshot, plan.key)
    return SummaryReport(
        plan.key,
        tuple(":".join(one) for one in plan.by),
        plan.todo,
        plan.done,
        len(there),
        sum(entry.nbytes for entry in there),
    )


def _in_order(plan: SummaryPlan, columns: Sequence[Column]) -> list[Column]:
    """Columns in the order in which the summary keeps their labels."""
    known: dict[tuple[str, str], Column] = {(c.source, c.key): c for c in cell_columns(columns)}
    return [known[one] for one in plan.by]


def _batches(
    store: AtlasStore,
    plan: SummaryPlan,
    columns: Sequence[Column],
    limit: int,
    progress: Progress | None,
) -> Iterator[tuple[list[GroupSums], tuple[str, ...]]]:
    """Yield sums of sections, as many as wait in memory; segments to drop with the last."""
    batch: list[GroupSums] = []
    held, since = 0, time.monotonic()
    for done, name in enumerate(plan.todo):
        if progress is not None:
            progress(f"summarize {name}", done, len(plan.todo))
        kept = cells_of(store, name, None, all_cells=plan.all_cells)
        batch.append(section_sums(store, store.section(name), columns, limit - held, kept))
        held += batch[-1].values.nbytes
        last = done + 1 == len(plan.todo)
        if last or held > limit // _WAITING or time.monotonic() - since > _COMMIT_SECONDS:
            yield batch, plan.dropped if last else ()
            batch, held, since = [], 0, time.monotonic()


def _write(store: AtlasStore, plan: SummaryPlan, batch: Sequence[GroupSums]) -> SegmentEntry:
    """Write sums of some sections as a segment, uncommitted."""
    union = gene_union(store, store.section_names)
    names = [part.section for part in batch]
    where, rows = [], []
    for part in batch:
        section = store.section(part.section)
        column = np.asarray(union.columns(section.entry.panel), np.int64)
        column = np.where(measured_in(union, section), column, -1)
        rows.append(column)
        where.append(column >= 0)
    listed = np.flatnonzero(np.any(where, axis=0))
    columns = SummaryColumns(
        tuple(names),
        np.repeat(np.arange(len(batch)), [len(part.n) for part in batch]),
        np.concatenate([part.n for part in batch]),
        tuple(
            tuple(label[k] for part in batch for label in part.labels) for k in range(len(plan.by))
        ),
    )
    inputs: dict[str, str] = {}
    for name in names:
        inputs |= inputs_of(store.snapshot, name, plan.by)

    def values() -> Iterator[NDArray[np.float64]]:
        for gene in listed:
            parts = [
                part.values[column[gene]]
                if column[gene] >= 0
                else np.full((3, len(part.n)), np.nan)
                for part, column in zip(batch, rows, strict=True)
            ]
            yield np.concatenate(parts, axis=1)

    nameless = [name for name in names if not any(store.section(name).panel.symbol)]
    return _seal(store, plan, _Draft(columns, _genes(union, listed), values(), inputs, nameless))


def _genes(union: GeneUnion, rows: NDArray[np.int64]) -> SegmentGenes:
    return SegmentGenes(
        tuple(map(str, union.organism[rows])),
        tuple(map(str, union.gene_id[rows])),
        tuple(map(str, union.symbol[rows])),
        tuple(union.aliases[row] for row in rows.tolist()),
        tuple(map(str, union.feature_type[rows])),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Draft:
    """A segment before it is written; its values are made while it is."""

    columns: SummaryColumns
    genes: SegmentGenes
    values: Iterator[NDArray[np.float64]]
    inputs: dict[str, str]
    nameless: Sequence[str]


def _seal(store: AtlasStore, plan: SummaryPlan, draft: _Draft) -> SegmentEntry:
    by = [{"source": source, "key": key} for source, key in plan.by]
    parameters: dict[str, Any] = {"by": by, "all_cells": plan.all_cells}
    with store.new_attempt(f"segments/{KIND}/{plan.key}") as attempt:
        with SummaryWriter(attempt.path, by, draft.columns, draft.genes) as writer:
            for row in draft.values:
                writer.append(row)
        write_provenance(store, Provenance(draft.inputs, parameters), attempt.path)
        receipt = attempt.seal()
    info: dict[str, Any] = {
        "by": by,
        "all_cells": plan.all_cells,
        "snapshot": store.version,
        "columns": len(draft.columns),
        "genes": len(draft.genes),
        "nameless": list(draft.nameless),
    }
    return SegmentEntry(
        KIND, plan.key, receipt.attempt, receipt.digest, receipt.nbytes, draft.inputs, info
    )


def _merge(store: AtlasStore, plan: SummaryPlan) -> None:
    """Make one of several segments, where there are many; each gene is in memory alone."""
    there = {entry.name: entry for entry in segments_of(store.snapshot, plan.key)}
    chosen = to_merge({name: number_in(entry, "columns") for name, entry in there.items()})
    if not chosen:
        return
    from .summary_read import MergedSegments, shares

    entries = [there[name] for name in there if name in chosen]
    share = shares(store.snapshot, entries, None)
    segments = [SummarySegment.open(store.storage, entry) for entry in entries]
    merged = MergedSegments.of(segments, [share[entry.name] for entry in entries])
    names = merged.columns.sections
    inputs: dict[str, str] = {}
    for name in names:
        inputs |= inputs_of(store.snapshot, name, plan.by)
    nameless = {str(s) for e in entries for s in e.info.get("nameless") or ()} & set(names)
    draft = _Draft(merged.columns, merged.genes, merged.rows(), inputs, sorted(nameless))
    entry = _seal(store, plan, draft)
    change = Change(add_segments=[entry], remove_segments=chosen)
    store.commit(change, f"summarize {plan.key}: merge {len(chosen)} segments")
