"""The command `domain-table`, and how a table of domains is printed, written and recorded."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .answers import table_target
from .errors import command
from .options import (
    AtlasArgument,
    Json,
    MemoryLimit,
    Quiet,
    ReplaceOutput,
    Sections,
    StorageOptions,
    Verbose,
    Version,
)
from .output import Output
from .progress import reporter
from .session import open_atlas

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from ..query import DomainView

__all__ = ["By", "Markers", "Table", "cells_of", "register", "tell"]

_SECTIONS_SHOWN = 4

By = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="COLUMN",
        help="Shares of these labels (cell_type, or whole numbers) in a domain.",
    ),
]
Markers = Annotated[
    int, typer.Option("--markers", min=0, help="Genes named for each; 0 reads no counts.")
]
Table = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE.csv", help="Write the table of domains."),
]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("domain-table")(domain_table)


@command
def domain_table(
    atlas: AtlasArgument,
    *,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", "--domain-key", metavar="NAME", help="Which labels, where there are several."
        ),
    ] = None,
    by: By = None,
    markers: Markers = 5,
    replicate: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Metadata that tells replicates apart for markers; default: donor, else section.",
        ),
    ] = None,
    section: Sections = None,
    target: Table = None,
    overwrite: ReplaceOutput = False,
    version: Version = None,
    memory_limit: MemoryLimit = None,
    storage_option: StorageOptions = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Tell of each domain its cells, area, sections, composition and marker genes."""
    output = Output(json, quiet, verbose)
    file = table_target(target, (".csv",), overwrite=overwrite)
    with reporter(f"domain-table {atlas}", quiet=quiet):
        opened = open_atlas(atlas, storage_option, version=version)
        view = opened.domains(key)
        if section:
            view = view.within(section)
        table = view.table(by, markers=markers, replicate=replicate, memory_limit=memory_limit)
    tell(output, table, cells_of(view), file, asked=True)


def cells_of(view: DomainView) -> dict[str, dict[str, int]]:
    """Cells of each domain in each section that has any."""
    counts = view.composition()
    found: dict[str, dict[str, int]] = {}
    for domain, section, n in zip(counts["domain"], counts["section"], counts["n"], strict=True):
        found.setdefault(str(domain), {})[str(section)] = int(n)
    return found


def tell(
    output: Output,
    table: pd.DataFrame,
    cells: dict[str, dict[str, int]],
    file: Path | None,
    *,
    asked: bool = False,
) -> list[dict[str, Any]]:
    """Print the table, or write it; return its rows, in which `sections` counts the cells."""
    if file is not None:
        from ..query.appearing import appearing

        with appearing(file) as part:
            table.to_csv(part)
        output.note(f"wrote {file}")
    rows: list[dict[str, Any]] = []
    for name, record in zip(table.index, table.to_dict("records"), strict=True):
        told = {str(column): value for column, value in record.items()}
        rows.append({"domain": str(name), **told, "sections": cells.get(str(name), {})})
    if output.as_json:
        output.data(rows)
    elif file is None and (asked or not output.quiet):
        single = table.attrs.get("markers_of_one_unit", {})
        shown = [{**row, "sections": _brief(row["sections"])} for row in rows]
        for shown_row in shown if "markers" in table else ():
            own = single.get(shown_row["domain"], ())
            shown_row["markers"] = _starred(shown_row["markers"], own)
        output.rows(shown, ["domain", *(str(name) for name in table.columns)])
        if single:
            output.note("* a marker in one section or donor alone: no replicate confirms it")
    return rows


def _starred(markers: str, single: Collection[str]) -> str:
    """Mark the genes that a single replicate can tell."""
    genes = markers.split(", ") if markers else []
    return ", ".join(f"{gene}*" if gene in single else gene for gene in genes)


def _brief(cells: dict[str, int]) -> str:
    names = list(cells)
    more = f" and {len(names) - _SECTIONS_SHOWN} more" if len(names) > _SECTIONS_SHOWN else ""
    return ", ".join(names[:_SECTIONS_SHOWN]) + more
