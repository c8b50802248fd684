"""Commands that build an atlas: `check-samples`, `ingest`."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer

from .errors import FAILURE, UsageError, command
from .options import (
    AtlasArgument,
    Dask,
    DryRun,
    Json,
    MemoryLimit,
    Overwrite,
    Quiet,
    RunJson,
    StorageOptions,
    Verbose,
    Workers,
    storage_options,
)
from .output import Output
from .progress import reporter
from .record import Run
from .session import dask_client
from .text import clean

__all__ = ["register"]

Sheet = Annotated[
    str,
    typer.Argument(
        metavar="SAMPLES",
        help="Sample sheet (CSV, TSV, YAML), or the folder or file of one output.",
    ),
]

_COMMIT_SECONDS = 5.0  # a killed job loses at most this much finished work


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("check-samples")(check_samples)
    app.command("ingest")(ingest)


@command
def check_samples(
    samples: Sheet, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = 0
) -> None:
    """Check a sample sheet and the files it names; report every fault; write nothing."""
    output = Output(json, quiet, verbose)
    with reporter(f"check {samples}", quiet=quiet) as progress:
        from ..ingest.check import check_samples as check

        # notes are part of the report, which follows
        report = check(
            samples, progress=lambda event: None if event.kind == "note" else progress(event)
        )
    output.data(report.to_json(), text=str(report))
    if not report.ok:
        raise typer.Exit(FAILURE)


@command
def ingest(
    samples: Sheet,
    atlas: AtlasArgument,
    *,
    memory_limit: MemoryLimit = None,
    on_error: Annotated[
        Literal["raise", "skip"],
        typer.Option(help="A section that fails: stop there, or go on with the others."),
    ] = "skip",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on after a crash; sections already there are kept."),
    ] = False,
    overwrite: Overwrite = False,
    n_workers: Workers = None,
    dask: Dask = None,
    dry_run: DryRun = False,
    storage_option: StorageOptions = None,
    run_json: RunJson = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Bring the sections of a sample sheet into an atlas, which is created if need be."""
    if resume and overwrite:
        raise UsageError("--resume keeps what is there and --overwrite replaces it: give one")
    output = Output(json, quiet, verbose)
    inputs = {"samples": samples, "memory_limit": memory_limit, "on_error": on_error}
    run = Run("ingest", inputs | {"overwrite": overwrite, "resume": resume})
    options: dict[str, Any] = {"overwrite": overwrite}
    options |= {"storage_options": storage_options(storage_option)}
    if memory_limit is not None:
        options["memory_limit"] = memory_limit
    if n_workers is not None:
        options["n_workers"] = n_workers
    with reporter(f"ingest {samples} -> {atlas}", quiet=quiet) as progress:
        from ..ingest import pipeline

        if dry_run:
            plan = pipeline.preview(samples, atlas, **options)
            output.data(plan, text=str(plan))
            return
        with dask_client(dask, output, n_workers=n_workers) as client:
            report = pipeline.ingest(
                samples,
                atlas,
                on_error=on_error,
                client=client,
                progress=progress,
                commit_seconds=_COMMIT_SECONDS,
                **options,
            )
    output.summary(report.to_json(), text=str(report))
    if quiet and not json:
        for failed in report.failed:
            sys.stderr.write(f"error: {clean(f'{failed.section}: {failed.message}')}\n")
    run.write(atlas, run_json, output, results=report.to_json())
    if report.exit_code:
        raise typer.Exit(report.exit_code)
