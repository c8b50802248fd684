"""Commands that keep an atlas healthy: `verify`, `gc`."""

from __future__ import annotations

from typing import Annotated

import typer

from .errors import FAILURE, command
from .options import (
    AtlasArgument,
    Json,
    Quiet,
    RunJson,
    StorageOptions,
    Verbose,
    Version,
)
from .output import Output
from .progress import reporter
from .record import Run
from .session import open_atlas

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("verify")(verify)
    app.command("gc")(gc)


@command
def verify(
    atlas: AtlasArgument,
    *,
    sizes_only: Annotated[
        bool, typer.Option("--sizes-only", help="Compare sizes; do not read contents.")
    ] = False,
    version: Version = None,
    storage_option: StorageOptions = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Compare every committed object with its manifest; fail if any is missing or changed."""
    output = Output(json, quiet, verbose)
    with reporter(f"verify {atlas}", quiet=quiet):
        from ..atlas.verify import verify as check

        report = check(open_atlas(atlas, storage_option, version=version), full=not sizes_only)
    output.data(report, text=str(report))
    if not report.ok:
        raise typer.Exit(FAILURE)


@command
def gc(
    atlas: AtlasArgument,
    *,
    delete: Annotated[
        bool, typer.Option("--delete", help="Really delete; without it, only say what would go.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go (the default).")
    ] = False,
    grace: Annotated[str, typer.Option(help="Leave alone what is younger, e.g. 7d, 12h.")] = "7d",
    keep: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Also give up all but the newest N snapshots."),
    ] = None,
    storage_option: StorageOptions = None,
    run_json: RunJson = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Remove what no snapshot names: left-overs of crashes, and replaced data."""
    output = Output(json, quiet, verbose)
    only_say = dry_run or not delete
    run = Run("gc", {"dry_run": only_say, "grace": grace, "keep": keep})
    with reporter(f"gc {atlas}", quiet=quiet):
        from ..atlas.garbage import gc as collect

        opened = open_atlas(atlas, storage_option, read_only=only_say)
        report = collect(opened, dry_run=only_say, grace=grace, keep=keep)
    output.data(report, text=str(report))
    if only_say and report.orphans:
        output.note("nothing was removed; pass --delete to do it")
    if not only_say:
        run.write(atlas, run_json, output, results={"nbytes": report.nbytes})
