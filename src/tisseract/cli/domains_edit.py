"""The command `domains-edit`: domains under other names, joined or divided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from .errors import UsageError, command
from .options import (
    AtlasArgument,
    Json,
    MemoryLimit,
    Overwrite,
    Quiet,
    RunJson,
    StorageOptions,
    Verbose,
    names,
)
from .output import Output
from .progress import reporter
from .record import Run
from .session import open_atlas

if TYPE_CHECKING:
    from ..query import DomainView

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("domains-edit")(domains_edit)


@command
def domains_edit(
    atlas: AtlasArgument,
    *,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", "--domain-key", metavar="NAME", help="Which labels, where there are several."
        ),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="Another name; repeat."),
    ] = None,
    merge: Annotated[
        list[str] | None,
        typer.Option(metavar="NEW=OLD,OLD", help="Join domains; repeat."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="DOMAIN", help="Divide this domain, with --by.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Labels that divide it: cell_type.")
    ] = None,
    key_added: Annotated[
        str | None,
        typer.Option(
            "--key-added",
            metavar="NAME",
            help="Key of the new labels; without it they replace the old (older snapshots keep "
            "them).",
        ),
    ] = None,
    note: Annotated[str | None, typer.Option(help="Words kept with the provenance.")] = None,
    overwrite: Overwrite = False,
    memory_limit: MemoryLimit = None,
    storage_option: StorageOptions = None,
    run_json: RunJson = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Rename, join or divide domains; what was done is kept with the labels."""
    output = Output(json, quiet, verbose)
    given = [name for name, one in (("rename", rename), ("merge", merge), ("split", split)) if one]
    if len(given) != 1 or (split is None) != (by is None):
        raise UsageError("one of --rename, --merge, and --split with --by, is wanted")
    run = Run(
        "domains-edit",
        {
            "key": key,
            "rename": rename,
            "merge": merge,
            "split": split,
            "by": by,
            "key_added": key_added,
            "note": note,
        },
    )
    options = {"overwrite": overwrite, "note": note, "memory_limit": memory_limit}
    with reporter(f"domains-edit {atlas}", quiet=quiet):
        view = open_atlas(atlas, storage_option, read_only=False).domains(key)
        found: DomainView
        if rename:
            found = view.rename(_pairs(rename, "--rename"), key_added, **options)
        elif merge:
            groups = {new: _parts(old) for new, old in _pairs(merge, "--merge").items()}
            found = view.merge(groups, key_added, **options)
        else:
            found = view.split(str(split), str(by), key_added, **options)
        counts = found.composition("section", all_cells=True)
    cells = counts.groupby("domain", observed=True)["n"].sum()
    rows = [{"domain": name, "n_cells": int(cells.get(name, 0))} for name in found.names]
    if json or not quiet:
        output.rows(rows, ["domain", "n_cells"])
    run.write(atlas, run_json, output, results={"key": found.key, "domains": rows})


def _pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """Read `a=b`; the first name may hold no equals sign.

    Examples
    --------
    >>> _pairs(["0=white matter"], "--rename")
    {'0': 'white matter'}
    """
    found = {}
    for word in words:
        left, equals, right = word.partition("=")
        if not (left and equals and right):
            raise UsageError(f"{option} wants NAME=NAME, but got {word!r}")
        if left in found:
            raise UsageError(f"{option} names {left!r} twice")
        found[left] = right
    return found


def _parts(text: str) -> list[str]:
    return names(text) or []
