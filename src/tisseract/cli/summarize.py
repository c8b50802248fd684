"""The command `summarize`."""

from __future__ import annotations

from typing import Annotated

import typer

from .errors import command
from .options import (
    AllCells,
    AtlasArgument,
    DomainKey,
    Json,
    MemoryLimit,
    Overwrite,
    Quiet,
    RunJson,
    Sections,
    StorageOptions,
    Verbose,
    names,
)
from .output import Output
from .progress import reporter
from .record import Run
from .session import open_atlas

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("summarize")(summarize)


@command
def summarize(
    atlas: AtlasArgument,
    *,
    by: Annotated[
        str | None,
        typer.Option(metavar="COLUMNS", help="Group cells by these: domain,cell_type."),
    ] = None,
    key_added: Annotated[
        str | None, typer.Option(help="Name of the summary; default: made from the columns.")
    ] = None,
    section: Sections = None,
    domain_key: DomainKey = None,
    memory_limit: MemoryLimit = None,
    all_cells: AllCells = False,
    overwrite: Overwrite = False,
    storage_option: StorageOptions = None,
    run_json: RunJson = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Sum every gene over groups of cells, once, so that `gene` answers in a few requests."""
    say = Output(json, quiet, verbose)
    run = Run(
        "summarize", {"by": by, "key_added": key_added, "sections": section, "all_cells": all_cells}
    )
    with reporter(f"summarize {atlas}", quiet=quiet) as progress:
        opened = open_atlas(atlas, storage_option, read_only=False)
        report = opened.summarize(
            names(by),
            key_added=key_added,
            sections=section,
            domain_key=domain_key,
            all_cells=all_cells,
            overwrite=overwrite,
            memory_limit=memory_limit,
            progress=progress,
        )
    facts = {
        "key": report.key,
        "by": list(report.by),
        "computed": list(report.computed),
        "skipped": list(report.skipped),
        "segments": report.segments,
        "nbytes": report.nbytes,
        "snapshot": opened.version,
    }
    say.summary(facts, str(report))
    run.write(atlas, run_json, say, results=facts)
