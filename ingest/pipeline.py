"""From a sample sheet to an atlas: check, plan, write sections in parallel, commit in groups.

::

    sheet ─ check_samples ─▶ sections ─ fingerprints ─▶ IngestPlan      nothing written so far
                                                            │
              ┌─────────────── tasks, a bounded number ◀────┘
              ▼
       write_one (threads, processes, cluster) ── receipts ──▶ GroupedCommits ──▶ snapshots

A crash loses at most what no snapshot names yet. Running the same call again finds the committed
sections by their fingerprints, skips them and finishes the rest: resuming is not a mode.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atlas.errors import AtlasNotFound, InvalidArgument
from ..atlas.memory import default_limit, parse_bytes
from ..atlas.store import AtlasStore, create_store, open_store
from .one_input import Samples, sheet_rows
from .plan import IngestPlan
from .prepare import prepare
from .progress import Progress, ProgressCallback, silent
from .report import IngestReport, peak_rss_bytes, software_versions
from .run import IngestRun, OnError
from .workers import connected

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["ingest", "preview"]


def ingest(
    samples: Samples,
    url: str | Path | AtlasStore,
    *,
    client: Client | str | None = None,
    memory_limit: str | int | None = None,
    n_workers: int | None = None,
    on_error: OnError = "raise",
    overwrite: bool = False,
    tile_cells: int = 4096,
    commit_seconds: float = 10.0,
    storage_options: Mapping[str, Any] | None = None,
    progress: ProgressCallback | None = None,
    run_json: str | Path | None = None,
    **columns: object,
) -> IngestReport:
    """Take sections into an atlas; make the atlas if there is none.

    Sections that are there from the same input are skipped, so the same call finishes what an
    interrupted one left. A section becomes visible whole, in a commit, or not at all.

    Parameters
    ----------
    samples : path or sequence of mappings
        A sample sheet (CSV, TSV, YAML), its rows, or one input file or folder.
    url : str, Path or AtlasStore
        The atlas: where it is, or opened for writing; such a handle then shows what was added.
    client : distributed.Client or str, optional
        Where sections are written: threads of this process (default), `"processes"`, a client,
        or the address of a scheduler. The input must be readable there.
    memory_limit : str or int, optional
        For all sections written at once, beyond the loaded code; on a cluster, for each of its
        worker processes. Default 2 GiB, or half of what is free where that is less.
    n_workers : int, optional
        Sections at once; the cores here, or the threads of the cluster. Fewer where memory for
        that many is not there.
    on_error : {"raise", "skip"}
        Stop at the first section that fails, or leave it out and tell in the report. What is
        written by then is committed either way.
    overwrite : bool
        Write every section of the sheet anew and replace what is there, so that a damaged one is
        repaired; data derived from it must then be computed again. Otherwise a section is skipped
        when it is there from the same input, and an error when from another.
    tile_cells : int
        Most cells in a tile.
    commit_seconds : float
        Longest time that a finished section waits for its commit (with up to 49 others).
    storage_options : mapping, optional
        As fsspec takes them; an opened atlas has its own.
    progress : callable, optional
        Receives `Progress` events.
    run_json : path, optional
        Where to write the report.
    **columns : object
        Columns of the row when `samples` is one input: `sample`, `um_per_unit`, and so on.

    Returns
    -------
    IngestReport

    Raises
    ------
    InputError
        With every fault of the sheet and of the files, before anything is written.
    BudgetExceeded
        If a section cannot be written within the limit.
    StorageFull, AtlasError
        If the storage fails.

    Examples
    --------
    >>> ingest([{"sample": "s", "data_path": "nowhere.h5ad"}], "memory://doc")
    Traceback (most recent call last):
    ...
    tisseract.atlas.errors.InputError: ... there is no 'nowhere.h5ad' ...
    """
    if on_error not in ("raise", "skip"):
        raise InvalidArgument(f"expected on_error 'raise' or 'skip', but got {on_error!r}")
    start = time.perf_counter()
    tell = progress or silent
    limit = default_limit() if memory_limit is None else parse_bytes(memory_limit)
    with connected(client) as place:
        store = _existing(url, storage_options)
        todo = prepare(
            sheet_rows(samples, columns),
            store,
            place=place,
            limit=limit,
            n_workers=n_workers,
            overwrite=overwrite,
            tile_cells=tile_cells,
            on_error=on_error,
            tell=tell,
        )
        if store is None and not isinstance(url, AtlasStore) and todo.plan.writes:
            store = create_store(url, storage_options)
        run = IngestRun(store, on_error, tell, commit_seconds)
        run.failures(todo.failed)
        run.skipped(todo.plan)
        if store is not None and todo.plan.writes:
            run.write(todo.plan, place, tile_cells)
    report = IngestReport(
        url=str(url) if store is None else store.url,
        source=todo.report.source,
        snapshot=None if store is None else store.version,
        outcomes=run.in_order(todo.plan),
        seconds=time.perf_counter() - start,
        peak_bytes=peak_rss_bytes(),
        options={
            "memory_limit": limit,
            "n_workers": todo.plan.n_workers,
            "on_error": on_error,
            "overwrite": overwrite,
            "tile_cells": tile_cells,
        },
        versions=software_versions(),
    )
    tell(Progress("finish", message=str(report)))
    if run_json is not None:
        report.write(run_json)
    run.raise_first()
    return report


def preview(
    samples: Samples,
    url: str | Path | AtlasStore,
    *,
    client: Client | str | None = None,
    memory_limit: str | int | None = None,
    n_workers: int | None = None,
    overwrite: bool = False,
    tile_cells: int = 4096,
    storage_options: Mapping[str, Any] | None = None,
    progress: ProgressCallback | None = None,
    **columns: object,
) -> IngestPlan:
    """Say what `ingest` with the same arguments would do; writes nothing.

    Returns
    -------
    IngestPlan
        Its `faults` are those that `ingest` would raise.

    Raises
    ------
    InputError, BudgetExceeded
        As `ingest`.

    Examples
    --------
    >>> preview([{"sample": "s", "data_path": "nowhere.h5ad"}], "memory://doc")
    Traceback (most recent call last):
    ...
    tisseract.atlas.errors.InputError: ... there is no 'nowhere.h5ad' ...
    """
    limit = default_limit() if memory_limit is None else parse_bytes(memory_limit)
    rows = sheet_rows(samples, columns)
    with connected(client) as place:
        return prepare(
            rows,
            _existing(url, storage_options),
            place=place,
            limit=limit,
            n_workers=n_workers,
            overwrite=overwrite,
            tile_cells=tile_cells,
            tell=progress or silent,
        ).plan


def _existing(
    url: str | Path | AtlasStore, storage_options: Mapping[str, Any] | None
) -> AtlasStore | None:
    if isinstance(url, AtlasStore):
        if storage_options:
            raise InvalidArgument(
                "expected no storage_options with an opened atlas, which has its own, but got "
                f"{', '.join(storage_options)}; give the options to `open`"
            )
        url.require_writing("ingest")
        return url.refresh()
    try:
        return open_store(url, storage_options=storage_options, read_only=False)
    except AtlasNotFound:
        return None
