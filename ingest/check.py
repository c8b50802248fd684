"""Look at every row of a sheet without writing anything, and report all that is wrong at once.

::

    sheet ── read_samples ──▶ rows ── Reader.inspect ──▶ what each holds, sections of splits
                │ faults                │ faults                 │ names, timepoints: faults
                └───────────────────────┴────────────────────────┴──▶ SheetReport
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..atlas.errors import Fault, InputError, InvalidArgument
from ..atlas.memory import refuse_above
from .annotate import attached_bytes, attached_of, read_attachments
from .annotate_regions import Ground
from .columns import SPLIT_PLACEHOLDER
from .one_input import sheet_rows
from .plan import SectionSource
from .progress import Progress, ProgressCallback, silent
from .reader import Inspection, Reader, ReadOptions, reader_for
from .samples import SampleRow, SampleSheet
from .scalars import Scalar, infer_column
from .section_names import section_name
from .sheet import read_samples
from .sheet_report import RowReport, SheetReport
from .staging import require_disk, survey_remote
from .time import CommittedTime, TimeEntry, TimeOrder, order_timepoints

__all__ = ["RowReport", "SheetReport", "check_samples", "read_options"]


def check_samples(
    samples: str | Path | Sequence[Mapping[str, object]] | SampleSheet,
    *,
    base: Path | None = None,
    committed_times: Mapping[str, CommittedTime] | None = None,
    memory_limit: int | None = None,
    progress: ProgressCallback = silent,
) -> SheetReport:
    """Look at every row of a sheet and report every fault at once; writes nothing.

    Parameters
    ----------
    samples : path, sequence of mappings or SampleSheet
        The sheet, or one input.
    base : Path, optional
        Folder that relative paths start from.
    committed_times : mapping of str to CommittedTime, optional
        Timepoints of the atlas that the sheet will be added to.
    memory_limit : int, optional
        Bytes; attached files that take more are refused before they are read.
    progress : callable
        Receives an event per row.

    Returns
    -------
    SheetReport
        Per row: format, technology, cells, genes, size, what will be read, estimated disk and
        memory; all faults. Matrices are not read.

    Raises
    ------
    InputError
        If the sheet cannot be taken apart at all.
    BudgetExceeded
        If a row attaches files that take more than `memory_limit`.

    Examples
    --------
    >>> report = check_samples([{"sample": "s", "data_path": "nowhere.h5ad"}])
    >>> report.ok, len(report.faults)
    (False, 1)
    """
    faults: tuple[Fault, ...] = ()
    notes: tuple[Fault, ...] = ()
    if isinstance(samples, SampleSheet):
        sheet, n_rows = samples, len(samples)
    else:
        rows_of = sheet_rows(samples, {})
        reading = read_samples(rows_of, base=base)
        sheet, faults, notes = reading.sheet, reading.faults, reading.notes
        n_rows = reading.n_rows
        if rows_of is not samples:
            sheet = replace(sheet, source=str(samples))
    rows: list[RowReport] = []
    for i, row in enumerate(sheet.rows):
        progress(Progress("check", row.sample, done=i, total=len(sheet.rows)))
        rows.append(_check_row(row, memory_limit))
    sources = [source for report in rows for source in report.sources]
    time = order_timepoints(_entries(sources), sheet.timepoints, committed_times)
    told = {fault.location for fault in faults}  # a sample that stands there twice
    named = _repeated([s for s in sources if f"row {s.row.row}" not in told])
    named += _timeless(sheet, rows)
    notes += _same_input(rows) + tuple(
        Fault(report.row.location, note)
        for report in rows
        for note in (report.inspection.notes if report.inspection else ())
    )
    for note in notes:
        progress(Progress("note", message=str(note)))
    good = {report.row.row for report in rows if not report.faults}
    placed = tuple(_in_time(source, time) for source in sources if source.row.row in good)
    return SheetReport(
        sheet.source, tuple(rows), time, (*faults, *named, *time.faults), notes, placed, n_rows
    )


def read_options(source: SectionSource) -> ReadOptions:
    """Options to read one section with."""
    return replace(
        _row_options(source.row), split_value=source.split_value, metadata=dict(source.metadata)
    )


def _row_options(row: SampleRow) -> ReadOptions:
    return ReadOptions(
        values=row.values,
        um_per_unit=row.um_per_unit,
        y_axis=row.y_axis,
        split_by=row.split_by,
        organism=row.organism,
        technology=row.technology,
        gene_map=row.gene_map,
        image=row.image,
        layer=row.layer,
        spatial_key=row.spatial_key,
        reader_kwargs=row.reader_kwargs,
    )


def _check_row(row: SampleRow, memory_limit: int | None = None) -> RowReport:
    options = _row_options(row)
    if row.url is not None:
        return _check_remote(row, options)
    try:
        reader = reader_for(row.path, row.format)
        seen = reader.inspect(row.path, options)
    except InputError as error:
        return RowReport(row, faults=tuple(_at(row, fault) for fault in error.faults))
    except InvalidArgument as error:
        return RowReport(row, faults=(Fault(row.location, str(error)),))
    faults = [_at(row, fault) for fault in seen.faults]
    files = () if faults else reader.files(row.path, options)
    sizes = tuple(file.stat().st_size if file.exists() else 0 for file in files)
    sources = _sources(row, seen, sum(sizes))
    if not faults and attached_of(row):
        if memory_limit is not None:
            _refuse_attached(sources, memory_limit)
        faults = [_at(row, fault) for source in sources for fault in _attached(reader, source)]
    return RowReport(row, seen, sources, files, sum(sizes), tuple(faults), sizes)


def _check_remote(row: SampleRow, options: ReadOptions) -> RowReport:
    """Look at an input in a bucket by its names and sizes; it is read when it is staged."""
    assert row.url is not None
    if options.split_by not in {None, "none"}:
        fault = "split_by: expected none for an input in a bucket, which is not opened before it "
        fault += f"is read, but got {options.split_by!r}; copy the file here first"
        return RowReport(row, faults=(Fault(row.location, fault),))
    try:
        remote = survey_remote(row.url, options, row.format)
        require_disk(remote)
    except InputError as error:
        return RowReport(row, faults=tuple(_at(row, fault) for fault in error.faults))
    except InvalidArgument as error:
        return RowReport(row, faults=(Fault(row.location, str(error)),))
    note = f"in a bucket: {len(remote.files)} of {remote.n_keys} objects are fetched when the "
    note += "section is read; cells, genes and what is attached are checked then"
    seen = Inspection(
        remote.format,
        row.path,
        technology=options.technology or remote.technology or None,
        organism=options.organism,
        notes=(note,),
    )
    # Nothing says how many cells there are: as much as a section of a million takes.
    least = _least_memory(replace(seen, n_obs=10**6, n_vars=20_000))
    source = replace(
        _sources(row, seen, remote.nbytes)[0],
        remote=remote,
        memory_bytes=max(least, attached_bytes(row, None)),
    )
    files = tuple(Path(file.key or remote.url) for file in remote.files)
    sizes = tuple(file.size for file in remote.files)
    return RowReport(row, seen, (source,), files, remote.nbytes, (), sizes)


def _refuse_attached(sources: Sequence[SectionSource], memory_limit: int) -> None:
    """Refuse files beside a section that its memory cannot hold."""
    for source in sources:
        row = source.row
        names = ", ".join(one.name for one in attached_of(row) if one.name)
        refuse_above(
            memory_limit,
            attached_bytes(row, source.split_value),
            f"{row.location}: reading what is attached ({names})",
            "raise the memory limit, simplify the outlines, or leave columns out of the labels",
        )


def _attached(reader: Reader, source: SectionSource) -> tuple[Fault, ...]:
    """Faults of the regions, frames and labels of one section."""
    row = source.row
    try:
        raw = reader.open(row.path, read_options(source))
        ground = Ground(raw.um_per_unit, raw.y_axis == "up")
        found = read_attachments(row, source.split_value, ground)
        return tuple(found.check(raw, source.metadata))
    except InputError as error:
        return error.faults


def _at(row: SampleRow, fault: Fault) -> Fault:
    """Put the row in front of a reader's fault; drop the path when it only repeats the cell."""
    here = fault.location in {"", str(row.path), row.data_path}
    message = fault.message if here else f"{fault.location}: {fault.message}"
    return Fault(row.location, message)


def _sources(row: SampleRow, seen: Inspection, input_bytes: int) -> tuple[SectionSource, ...]:
    """Make the sections of a row: itself, or one per value of the split column."""
    parts: list[tuple[str, str | None, int]] = [(row.sample, None, seen.n_obs)]
    typed: dict[str, Scalar] = {}
    if seen.splits:
        values = list(seen.splits)
        parts = [(section_name(row.sample, value), value, seen.splits[value]) for value in values]
        typed = dict(zip(values, infer_column(values), strict=True))
    sources = []
    for name, value, n_obs in parts:
        share = n_obs / max(1, seen.n_obs)
        nnz = seen.nnz if seen.nnz is not None else seen.n_obs * seen.n_vars
        sources.append(
            SectionSource(
                section=name,
                row=row,
                format=seen.format,
                fingerprint="",
                split_value=value,
                n_obs=n_obs,
                n_vars=seen.n_vars,
                nnz=int(nnz * share),
                input_bytes=int(input_bytes * share),
                memory_bytes=max(_least_memory(seen), attached_bytes(row, value)),
                metadata=_metadata(row, seen, name, value, typed),
            )
        )
    return tuple(sources)


def _least_memory(seen: Inspection) -> int:
    """Least memory that sorting a section takes: that of the smallest buckets."""
    from .sort_plan import least_memory

    return least_memory(seen.n_obs, seen.n_vars, seen.reading) + (16 << 20)


def _metadata(
    row: SampleRow,
    seen: Inspection,
    name: str,
    value: str | None,
    typed: Mapping[str, Scalar],
) -> dict[str, Scalar]:
    facts: dict[str, Scalar] = {"section": name, **row.metadata, "format": seen.format}
    for key, found in (("technology", seen.technology), ("organism", seen.organism)):
        if facts.get(key) is None and found:
            facts[key] = found
    if row.timepoint is not None:
        facts["timepoint"] = row.timepoint
    if value is not None:
        facts = {
            key: fact.replace(SPLIT_PLACEHOLDER, value) if isinstance(fact, str) else fact
            for key, fact in facts.items()
        }
        assert row.split_by is not None
        facts.setdefault(row.split_by, typed[value])
    return facts


def _entries(sources: Sequence[SectionSource]) -> list[TimeEntry]:
    return [
        TimeEntry(
            str(source.metadata["timepoint"]),
            source.row.time_value,
            source.row.time_unit,
            source.row.location,
        )
        for source in sources
        if source.metadata.get("timepoint") is not None
    ]


def _in_time(source: SectionSource, time: TimeOrder) -> SectionSource:
    """Add number, unit and place of the timepoint to a section's metadata."""
    label = source.metadata.get("timepoint")
    if not isinstance(label, str) or label not in time.order:
        return source
    value, unit = time.points[label]
    facts = {"time_value": value, "time_unit": unit, "timepoint_order": time.order[label]}
    known = {key: fact for key, fact in facts.items() if fact is not None}
    return replace(source, metadata={**source.metadata, **known})


def _repeated(sources: Sequence[SectionSource]) -> list[Fault]:
    """Faults of sections that different rows or values would give one name."""
    faults = []
    first: dict[str, SectionSource] = {}
    for source in sources:
        other = first.setdefault(source.section, source)
        if other is source:
            continue
        faults.append(
            Fault(
                source.row.location,
                f"section {source.section!r}, made of {_made_of(source)}, would have the name of "
                f"the one made of {_made_of(other)} in {other.row.location}; rename a sample",
            )
        )
    return faults


def _timeless(sheet: SampleSheet, rows: Sequence[RowReport]) -> list[Fault]:
    """Fault of an order of timepoints over sections that have none."""
    sources = [source for report in rows for source in report.sources]
    if not sheet.timepoints or not sources or _entries(sources):
        return []
    split = next((row.row.split_by for row in rows if len(row.sources) > 1), None)
    how = f' as "{SPLIT_PLACEHOLDER}", the value of {split!r}' if split else " in every row"
    return [
        Fault(
            "timepoints",
            f"the order {' < '.join(sheet.timepoints[:6])} is of labels that no row carries; set "
            f"`timepoint`{how}",
        )
    ]


def _same_input(rows: Sequence[RowReport]) -> tuple[Fault, ...]:
    """Note rows that read one input in one way, so that its cells would count twice."""
    notes = []
    first: dict[tuple[object, ...], SampleRow] = {}
    for report in rows:
        row = report.row
        read_as = (row.url or row.path.resolve(), row.split_by, row.layer, row.spatial_key)
        key = (*read_as, str(sorted(row.reader_kwargs.items())))
        other = first.setdefault(key, row)
        if other is not row:
            notes.append(
                Fault(
                    row.location,
                    f"reads {row.data_path!r} as {other.location} does; its cells will be in the "
                    "atlas twice",
                )
            )
    return tuple(notes)


def _made_of(source: SectionSource) -> str:
    if source.split_value is None:
        return "the whole row"
    return f"{source.row.split_by} = {source.split_value!r}"
