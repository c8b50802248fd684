"""The command `annotate`: labels of cells, or named regions, that users bring along."""

from __future__ import annotations

from typing import Annotated

import typer

from .errors import command
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
from .places import NameColumn, Ontology, RegionsFile, UmPerUnit, add_regions, check_forms
from .progress import reporter
from .record import Run
from .session import open_atlas

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("annotate")(annotate)


@command
def annotate(
    atlas: AtlasArgument,
    table: Annotated[
        str | None,
        typer.Argument(metavar="[TABLE]", help="A .csv, .tsv or .parquet of labels by cell id."),
    ] = None,
    *,
    regions: RegionsFile = None,
    section: Annotated[
        str | None, typer.Option("--section", metavar="NAME", help="Whose regions these are.")
    ] = None,
    name_column: NameColumn = None,
    um_per_unit: UmPerUnit = None,
    ontology: Ontology = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="NAME", help="Name of the new column; else those of TABLE."),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Where the ids SECTION:CELL are; 'index' is the first column of a .csv.",
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Only these columns: type,score.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Accept cells that TABLE leaves out.")
    ] = False,
    drop_unknown: Annotated[
        bool, typer.Option("--drop-unknown", help="Leave out rows of cells that are not here.")
    ] = False,
    note: Annotated[str | None, typer.Option(help="Words kept with the provenance.")] = None,
    overwrite: Overwrite = False,
    memory_limit: MemoryLimit = None,
    storage_option: StorageOptions = None,
    run_json: RunJson = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Add columns to cells by their ids, or named regions (--regions) to a section."""
    output = Output(json, quiet, verbose)
    of_regions = {"name": name_column, "um_per_unit": um_per_unit, "ontology": ontology}
    of_cells = (on, columns, note, memory_limit, allow_missing or None, drop_unknown or None)
    check_forms(table, regions, section, of_regions, of_cells)
    if table is None:
        run = Run("annotate", {"regions": regions, "section": section, "key": key, **of_regions})
        opened = open_atlas(atlas, storage_option, read_only=False)
        where, n = add_regions(opened, regions, section, key=key, overwrite=overwrite, **of_regions)
        facts = {"key": where, "section": section, "n_polygons": n}
        output.data(facts, text=f"{n} polygons of {section} -> regions {where!r}")
        run.write(atlas, run_json, output, results=facts)
        return
    run = Run("annotate", {"table": table, "key": key, "on": on, "columns": columns, "note": note})
    with reporter(f"annotate {atlas}", quiet=quiet):
        opened = open_atlas(atlas, storage_option, read_only=False)
        added = opened.annotate(
            table,
            key,
            on=on,
            columns=names(columns),
            missing="ok" if allow_missing else "error",
            unknown="drop" if drop_unknown else "error",
            note=note,
            overwrite=overwrite,
            memory_limit=memory_limit,
        )
    rows = added.rows
    if json or not quiet:
        output.rows(rows, ["column", "section", "kind", "n_cells", "n_missing"])
    run.write(atlas, run_json, output, results={"annotations": rows})
