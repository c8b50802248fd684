"""Commands that build an atlas: `check-samples`, `ingest`, `graph`."""

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
    Sections,
    StorageOptions,
    Verbose,
    Workers,
    storage_options,
)
from .output import Output
from .progress import reporter
from .record import Run
from .session import dask_client, open_atlas
from .text import clean

__all__ = ["register"]

Sheet = Annotated[str, typer.Argument(metavar="SAMPLES", help="Sample sheet (CSV, TSV, YAML).")]

_COMMIT_SECONDS = 5.0  # a killed job loses at most this much finished work


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("check-samples")(check_samples)
    app.command("ingest")(ingest)
    app.command("graph")(graph)


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


@command
def graph(
    atlas: AtlasArgument,
    *,
    knn: Annotated[
        int | None,
        typer.Option("--knn", min=1, metavar="K", help="K nearest neighbors (6)."),
    ] = None,
    grid: Annotated[
        Literal["hex", "square"] | None,
        typer.Option("--grid", help="Neighbors on the lattice of spots or bins, instead of --knn."),
    ] = None,
    n_rings: Annotated[int, typer.Option(min=1, help="Rings of neighbors on a lattice.")] = 1,
    key_added: Annotated[str, typer.Option(help="Name of the graph.")] = "spatial",
    section: Sections = None,
    memory_limit: MemoryLimit = None,
    n_workers: Workers = None,
    dask: Dask = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    storage_option: StorageOptions = None,
    run_json: RunJson = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Build the neighbor graph of every section, exactly, tile by tile."""
    if knn is not None and grid is not None:
        raise UsageError("--knn and --grid are two kinds of graph: give one")
    output = Output(json, quiet, verbose)
    run = Run("graph", {"knn": knn, "grid": grid, "n_rings": n_rings, "key_added": key_added})
    options: dict[str, Any] = {"kind": grid or "knn"}
    options |= {"n_neighs": knn or 6} if grid is None else {"n_rings": n_rings}
    with reporter(f"graph {atlas}", quiet=quiet) as progress:
        from ..atlas.graph import build_graphs

        opened = open_atlas(atlas, storage_option, read_only=dry_run)
        wanted = section or opened.section_names
        cells = {name: opened.section(name).n_obs for name in wanted}
        small = [f"{name} ({n:,} cells)" for name, n in cells.items() if knn and n <= knn]
        if small:
            output.note(
                f"note: --knn {knn} asks for more neighbors than there are in "
                f"{', '.join(small[:5])}; every other cell becomes one"
            )
        if dry_run:
            output.rows(
                [{"section": name, "n_obs": n, **options} for name, n in cells.items()],
                ["section", "n_obs", "kind"],
            )
            return
        with dask_client(dask, output, n_workers=n_workers) as client:
            entries = build_graphs(
                opened,
                **options,
                sections=section,
                key_added=key_added,
                overwrite=overwrite,
                client=client,
                memory_limit=memory_limit,
                progress=progress,
            )
    rows = [graph_row(entry) for entry in entries]
    if json or not quiet:
        output.rows(rows, ["section", "graph", "kind", "bytes"])
    run.write(atlas, run_json, output, results={"snapshot": opened.version, "graphs": rows})


def graph_row(entry: Any) -> dict[str, Any]:
    """Tell what `graph` made for one section."""
    return {
        "section": entry.section,
        "graph": entry.key,
        "kind": entry.info.get("kind"),
        "parameters": dict(entry.info.get("parameters", {})),
        "bytes": entry.nbytes,
    }
