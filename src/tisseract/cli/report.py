"""The command that tells how sound the sections are: `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .answers import check_place
from .errors import UsageError, command
from .options import AtlasArgument, Json, Quiet, Sections, StorageOptions, Verbose, Version
from .output import Output
from .progress import reporter
from .session import open_atlas
from .text import size

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("report")(report)


@command
def report(
    atlas: AtlasArgument,
    *,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="Page to write. Default: ATLAS.qc.html"
        ),
    ] = None,
    section: Sections = None,
    thumbnails: Annotated[
        Literal["density", "image", "none"],
        typer.Option("--thumbnails", help="Show cells, the section's image, or nothing."),
    ] = "density",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "--force", help="Replace a page of this name.")
    ] = False,
    version: Version = None,
    storage_option: StorageOptions = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Write one page about the quality of all sections; it opens without a network."""
    say = Output(json, quiet, verbose)
    target = _target(output or _default_name(atlas), overwrite=overwrite)
    with reporter(f"report -> {target}", quiet=quiet) as progress:
        opened = open_atlas(atlas, storage_option, version=version)
        facts = opened.report(
            target, section, thumbnails=thumbnails, overwrite=overwrite, progress=progress
        )
    flagged = ", ".join(f"{code} {n:,}" for code, n in facts.flagged.items()) or "no flags"
    text = (
        f"{facts.n_sections:,} sections, {facts.n_warned:,} with warnings ({flagged}) -> "
        f"{target} ({size(facts.nbytes)})"
    )
    say.summary(
        {
            "output": str(target),
            "sections": facts.n_sections,
            "warned": facts.n_warned,
            "flags": facts.flagged,
            "bytes": facts.nbytes,
        },
        text=text,
    )


def _default_name(atlas: str) -> str:
    """Name the page like the atlas, in the working folder.

    Examples
    --------
    >>> _default_name("s3://bucket/embryo/")
    'embryo.qc.html'
    """
    name = Path(atlas.rstrip("/").rpartition("/")[2]).name
    return f"{name or 'atlas'}.qc.html"


def _target(where: str, *, overwrite: bool) -> Path:
    """Check the name of the page before anything is read."""
    if Path(where).suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"an output ending in .html is wanted, but got {where!r}")
    return check_place(where, overwrite=overwrite)
