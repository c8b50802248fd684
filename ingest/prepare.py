"""What comes before an ingest writes anything: look at the sheet, take fingerprints, plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from ..atlas.errors import InputError
from ..atlas.store import AtlasStore
from .annotate import attached_digest
from .check import SheetReport, check_samples, read_options
from .one_input import Samples
from .plan import IngestPlan, SectionSource, plan_ingest
from .progress import Progress, ProgressCallback, silent
from .reader import fingerprint
from .report import SectionOutcome
from .run import OnError
from .staging import most_at_once, remote_fingerprint
from .time import CommittedTime
from .workers import count_slots

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sheet looked through and planned."""

    report: SheetReport
    """What was found."""
    plan: IngestPlan
    """What will be done."""
    failed: tuple[SectionOutcome, ...] = ()
    """Rows that are left out."""


def prepare(
    samples: Samples,
    store: AtlasStore | None,
    *,
    place: Client | str | None,
    limit: int,
    n_workers: int | None,
    overwrite: bool,
    tile_cells: int = 4096,
    on_error: OnError = "raise",
    tell: ProgressCallback = silent,
) -> Prepared:
    """Look at a sheet and decide what to do with every section of it.

    Parameters
    ----------
    samples : path or sequence of mappings
        The sheet.
    store : AtlasStore, optional
        The atlas, if there is one.
    place : distributed.Client or str, optional
        Where sections will be written.
    limit : int
        Bytes; see `ingest`.
    n_workers : int, optional
        Sections at once.
    overwrite : bool
        Replace the sections that are there.
    tile_cells : int
        Most cells in a tile; other tiles make another section.
    on_error : {"raise", "skip"}
        Whether a row with faults ends it all.
    tell : callable
        Receives events.

    Returns
    -------
    Prepared

    Raises
    ------
    InputError, BudgetExceeded
    """
    total, sharing = count_slots(place, n_workers)
    report = check_samples(
        samples, committed_times=_times(store), memory_limit=limit, progress=tell
    )
    if on_error == "raise" or report.sheet_faults:
        report.raise_faults()
    failed = [
        SectionOutcome(row.row.sample, "failed", "; ".join(map(str, row.faults)), InputError.kind)
        for row in report.rows
        if row.faults
    ]
    sources = _fingerprinted(report.sections, tile_cells, tell)
    on_cluster = place is not None and not isinstance(place, str)
    if not on_cluster:  # there, nobody can say which sections share a disk
        fetched = (source.remote for source in sources if source.remote is not None)
        total = min(total, most_at_once(fetched) or total)
    committed = {} if store is None else store.snapshot.sections
    planned = plan_ingest(
        sources,
        {name: entry.fingerprint for name, entry in committed.items()},
        overwrite=overwrite,
        memory_limit=limit // sharing * total if on_cluster else limit,
        n_workers=total,
        fixed_share=on_cluster,
    )
    if planned.faults:
        if on_error == "raise":
            raise InputError(planned.faults, report.source)
        failed += [
            SectionOutcome(fault.location, "failed", str(fault), InputError.kind)
            for fault in planned.faults
        ]
    tell(Progress("plan", message=str(planned), total=len(planned.writes)))
    return Prepared(report, planned, tuple(failed))


def _times(store: AtlasStore | None) -> dict[str, CommittedTime]:
    """Timepoints that the atlas already orders."""
    times: dict[str, CommittedTime] = {}
    for entry in store.snapshot.sections.values() if store is not None else ():
        label, order = entry.metadata.get("timepoint"), entry.metadata.get("timepoint_order")
        if isinstance(label, str) and isinstance(order, int | float):
            value, unit = entry.metadata.get("time_value"), entry.metadata.get("time_unit")
            times[label] = CommittedTime(
                float(order),
                float(value) if isinstance(value, int | float) else None,
                unit if isinstance(unit, str) else None,
            )
    return times


def _fingerprinted(
    sources: Sequence[SectionSource], tile_cells: int, tell: ProgressCallback
) -> tuple[SectionSource, ...]:
    """Add fingerprints; the files of a row are hashed once for all sections it splits into."""
    found = []
    of_files: dict[int, str] = {}
    for i, source in enumerate(sources):
        tell(Progress("check", source.section, "fingerprint", done=i, total=len(sources)))
        row, options = source.row, read_options(source)
        if row.row not in of_files:
            shared = replace(options.whole(), metadata={})
            of_files[row.row] = (
                fingerprint(row.path, shared, source.format)
                if source.remote is None
                else remote_fingerprint(source.remote, asdict(shared))
            )
        own = [of_files[row.row], source.split_value, dict(source.metadata), tile_cells]
        if attached := attached_digest(row, source.split_value):
            own.append(attached)
        digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
        found.append(replace(source, fingerprint=f"sha256:{digest}"))
    return tuple(found)
