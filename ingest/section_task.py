"""One task, one section: read, write, seal. What comes back is a receipt, never data.

A task is a value that can be sent anywhere the input files can be read. It opens the storage on
arrival, writes an attempt under a fresh id, and may run twice without harm: the driver commits one
receipt per section, and what nobody committed is not part of the atlas.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..atlas.attempt import new_attempt
from ..atlas.errors import AlreadyExists, Corrupt, StorageFull, TisseractError
from ..atlas.keys import panel_key
from ..atlas.snapshot import DerivedEntry, SectionEntry
from .annotate import attached_of, read_attachments, write_attachments
from .annotate_regions import Ground
from .check import read_options
from .plan import SectionSource
from .reader import reader_for
from .report import software_versions
from .staging import staged

if TYPE_CHECKING:
    from ..atlas.attempt import Receipt
    from ..atlas.panel import Panel
    from ..atlas.storage import Storage
    from .partition import SectionSummary
    from .source import RawSection

__all__ = ["SectionReceipt", "SectionTask", "StageCallback", "write_one"]

StageCallback = Callable[[str, float], None]
"""Called with the stage and the fraction done; may raise to stop the task."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class SectionTask:
    """Everything needed to write one section; small and picklable, holds nothing open."""

    storage: Storage
    """Root of the atlas, opened for writing; pickles as a URL without secrets."""
    source: SectionSource
    """The section, with its fingerprint."""
    memory_limit: int
    """Bytes this section may use."""
    tile_cells: int = 4096
    """Most cells in a tile."""
    replace: bool = False
    """Whether it takes the place of a committed section."""
    version: int = 0
    """Snapshot that the ingest looked at; for the provenance of what is attached."""


@dataclass(frozen=True, slots=True)
class SectionReceipt:
    """Proof of a sealed section, ready to commit."""

    entry: SectionEntry
    """What the catalog will say."""
    replace: bool
    """Whether it takes the place of a committed section."""
    seconds: float
    """Time it took."""
    derived: tuple[DerivedEntry, ...] = ()
    """Regions, frames and labels that the sheet attaches."""


def write_one(task: SectionTask, stage: StageCallback | None = None) -> SectionReceipt:
    """Read one section, write it into an attempt and seal that.

    Parameters
    ----------
    task : SectionTask
        What to do.
    stage : callable, optional
        Told about stages; raising from it stops the work and removes the attempt.

    Returns
    -------
    SectionReceipt
        Uncommitted.

    Raises
    ------
    InputError
        If the input is not what it should be; every fault of it.
    StorageFull
        If the disk or a quota is full.
    TisseractError
        With a note that names the section.
    """
    from .partition import write_section
    from .sort_plan import return_memory

    start = time.perf_counter()
    # What the section before left behind would count on top of this one.
    return_memory()
    with _located(task), _here(task) as here:
        source = here.source
        options = read_options(source)
        raw = _with_facts(
            reader_for(source.row.path, source.format).open(source.row.path, options), source
        )
        parent = f"sections/{source.section}"
        with new_attempt(task.storage, parent, suffix=".zarr") as attempt:
            summary = write_section(
                raw,
                attempt.path,
                tile_cells=task.tile_cells,
                memory_limit=task.memory_limit,
                # Inside the attempt, so that what a crash leaves there goes with it.
                scratch=attempt.path,
                progress=stage,
            )
            receipt = attempt.seal()
        _store_panel(task.storage, raw.panel)
        entry = _entry(summary, receipt, source)
        derived = _attach(here, entry, raw)
    return SectionReceipt(entry, task.replace, time.perf_counter() - start, derived)


@contextmanager
def _here(task: SectionTask) -> Iterator[SectionTask]:
    """Fetch an input that lies in a bucket; it is removed afterwards."""
    if task.source.remote is None:
        yield task
        return
    with staged(task.source.remote) as path:
        row = replace(task.source.row, path=path)
        yield replace(task, source=replace(task.source, row=row))


def _attach(task: SectionTask, entry: SectionEntry, raw: RawSection) -> tuple[DerivedEntry, ...]:
    """Write what the sheet attaches to a section that is sealed."""
    row = task.source.row
    if not attached_of(row):
        return ()
    ground = Ground(raw.um_per_unit, raw.y_axis == "up")
    found = read_attachments(row, task.source.split_value, ground)
    return write_attachments(task.storage, entry, found, task.version)


def _with_facts(raw: RawSection, source: SectionSource) -> RawSection:
    """Add to a section what the sheet says of it, and how it came to be here."""
    provenance = {
        **raw.provenance,
        "source": source.row.data_path,
        "sheet_row": source.row.row,
        "format": source.format,
        "fingerprint": source.fingerprint,
        "split_by": source.row.split_by,
        "split_value": source.split_value,
        "options": _stated_options(source),
        "versions": software_versions(),
        "metadata": dict(source.metadata),
    }
    return replace(raw, metadata=dict(source.metadata), provenance=provenance)


def _entry(summary: SectionSummary, receipt: Receipt, source: SectionSource) -> SectionEntry:
    return SectionEntry(
        section=source.section,
        attempt=receipt.attempt,
        digest=receipt.digest,
        n_obs=summary.n_obs,
        n_vars=summary.n_vars,
        nnz=summary.nnz,
        nbytes=receipt.nbytes,
        n_tiles=summary.n_tiles,
        tile_cells=summary.tile_cells,
        panel=summary.panel,
        values=summary.values,
        um_per_unit=summary.um_per_unit,
        bounds=summary.bounds,
        fingerprint=source.fingerprint,
        metadata=dict(source.metadata),
        columns=summary.columns,
        qc=summary.qc,
    )


def _stated_options(source: SectionSource) -> dict[str, object]:
    """List the reading options that the sheet states, as it states them."""
    row = source.row
    stated: dict[str, object] = {
        name: getattr(row, name)
        for name in ("values", "um_per_unit", "y_axis", "layer", "spatial_key")
    }
    stated["reader_kwargs"] = dict(row.reader_kwargs) or None
    # Names alone: where a file lay on somebody's machine is nobody's business afterwards.
    for name in ("image", "gene_map"):
        path = getattr(row, name)
        stated[name] = path.name if path else None
    return {name: value for name, value in stated.items() if value is not None}


def _store_panel(storage: Storage, panel: Panel) -> None:
    """Write the gene list under its digest; sections with the same genes share it."""
    key, data = panel_key(panel.digest), panel.to_parquet()
    try:
        storage.put_if_absent(key, data)
    except AlreadyExists:
        # Another section has the same genes, unless what lies there was damaged since.
        if not _holds_panel(storage.get(key), panel.digest):
            storage.put(key, data)


def _holds_panel(data: bytes, digest: str) -> bool:
    """Whether stored bytes are the gene list of a digest, by whatever writer of Parquet."""
    from ..atlas.panel import Panel

    try:
        return Panel.from_parquet(data).digest == digest
    except Corrupt:
        return False


@contextmanager
def _located(task: SectionTask) -> Iterator[None]:
    """Name the section in every error, and make one clear error of a full disk."""
    where = f"while writing section {task.source.section!r}, {task.source.row.location}"
    try:
        yield
    except StorageFull as error:
        error.add_note(where)
        raise
    except Exception as error:
        if _is_full(error):
            raise StorageFull(
                f"no space is left to write section {task.source.section!r}: about "
                f"{task.source.disk_bytes:,} bytes are needed in {task.storage.url}; free space "
                "(`tisseract gc` lists what can go), or choose another place, then run again: "
                "sections already committed are kept"
            ) from error
        if isinstance(error, TisseractError):
            error.add_note(where)
        raise


def _is_full(error: BaseException | None) -> bool:
    """Whether a full disk, a quota or a file size limit is behind an error, at any depth."""
    for _ in range(20):  # causes may form a ring
        if error is None:
            return False
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        # Guests in C++ and Rust wrap the system's message in errors of their own.
        if any(text in str(error) for text in ("No space left on device", "File too large")):
            return True
        error = error.__cause__ or error.__context__
    return False
