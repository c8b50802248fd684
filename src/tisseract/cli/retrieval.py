"""The commands `index` and `similar`: windows of tissue, and those that are alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .answers import check_place
from .errors import UsageError, command
from .options import (
    AllCells,
    AtlasArgument,
    Json,
    MemoryLimit,
    Overwrite,
    PixelSize,
    PolygonText,
    Quiet,
    ReplaceOutput,
    RunJson,
    Sections,
    StorageOptions,
    Verbose,
    Version,
    Where,
    names,
    numbers,
)
from .output import Output, table_rows
from .progress import reporter
from .record import Run
from .session import open_atlas

if TYPE_CHECKING:
    from ..handle import Atlas
    from ..query.retrieval.hits import Hits

__all__ = ["register"]

_ENDINGS = (".csv", ".geojson", ".json", ".png")

Key = Annotated[str, typer.Option("--key", metavar="NAME", help="Name of the index.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("index")(index)
    app.command("similar")(similar)


@command
def index(
    atlas: AtlasArgument,
    *,
    key: Key = "similar",
    space: Annotated[
        str | None,
        typer.Option(help="plain (default, no model needed), or the key of a stored embedding."),
    ] = None,
    window_um: Annotated[
        str | None, typer.Option("--window-um", metavar="UM", help="Sides: 100,200,400.")
    ] = None,
    window_spacings: Annotated[
        str | None,
        typer.Option("--window-spacings", metavar="N", help="Sides in distances of neighbors."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="COLUMNS", help="Labels whose shares are kept.")
    ] = None,
    section: Sections = None,
    where: Where = None,
    all_cells: AllCells = False,
    approximate: Annotated[
        bool | None,
        typer.Option(
            "--approximate/--exact", help="With a graph for approximate search, or without."
        ),
    ] = None,
    overwrite: Overwrite = False,
    memory_limit: MemoryLimit = None,
    storage_option: StorageOptions = None,
    run_json: RunJson = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Describe windows of sections, for `similar`; adds what the index lacks, as it was made."""
    say = Output(json, quiet, verbose)
    options: dict[str, Any] = {
        "space": space or "plain",
        "window_um": _sizes(window_um, "--window-um"),
        "window_spacings": _sizes(window_spacings, "--window-spacings"),
        "columns": names(columns) or (),
        "sections": section,
        "where": where,
        "all_cells": all_cells,
        "approximate": approximate,
    }
    chosen = space or window_um or window_spacings or columns or where or all_cells
    run = Run("index", {"key": key, **options})
    with reporter(f"index {atlas}", quiet=quiet) as progress:
        opened = open_atlas(atlas, storage_option, read_only=False)
        if not (chosen or overwrite):
            options |= _as_made(opened, key)
        table = opened.build_index(
            key,
            **options,
            overwrite=overwrite,
            memory_limit=memory_limit,
            progress=lambda name: progress(f"windows of {name}"),
        )
    if not len(table):
        say.note(f"note: index {key!r} holds these sections already, as they are now")
    if json or not quiet:
        say.rows(table_rows(table), list(table.columns))
    run.write(atlas, run_json, say, results={"key": key, "windows": table_rows(table)})


@command
def similar(
    atlas: AtlasArgument,
    *,
    section: Annotated[
        str | None, typer.Option("--section", help="Whose coordinates are meant.")
    ] = None,
    bbox: Annotated[
        str | None, typer.Option(metavar="XMIN,YMIN,XMAX,YMAX", help="Micrometers, y down.")
    ] = None,
    circle: Annotated[str | None, typer.Option(metavar="X,Y,RADIUS")] = None,
    polygon: PolygonText = None,
    units: Annotated[
        Literal["um", "source"], typer.Option(help="'source' where the unit is unknown.")
    ] = "um",
    um_per_unit: PixelSize = None,
    obs: Annotated[
        str | None, typer.Option(metavar="FILTER", help="Only these cells of the example.")
    ] = None,
    genes: Annotated[
        str | None, typer.Option(metavar="G=W[,G=W]", help="A programme: Sox2=1,Neurod1=-1.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Windows wanted.")] = 20,
    where: Annotated[
        str | None,
        typer.Option(metavar="FILTER", help="Only sections: \"timepoint >= 'E10.5'\"."),
    ] = None,
    key: Key = "similar",
    window_um: Annotated[float | None, typer.Option("--window-um", metavar="UM")] = None,
    window_spacings: Annotated[float | None, typer.Option("--window-spacings")] = None,
    metric: Annotated[Literal["cosine", "euclidean"], typer.Option()] = "cosine",
    include_self: Annotated[
        bool, typer.Option("--include-self", help="Also windows that hold cells of the example.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="PATH", help="Write .csv, .geojson or .png."),
    ] = None,
    overwrite: ReplaceOutput = False,
    version: Version = None,
    storage_option: StorageOptions = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Find tissue like a region or like some cells, or where a gene programme runs."""
    say = Output(json, quiet, verbose)
    example = {"section": section, "bbox": bbox, "circle": circle, "polygon": polygon, "obs": obs}
    _check_forms(genes, example)
    target = None if output is None else _target(output, overwrite=overwrite)
    opened = open_atlas(atlas, storage_option, version=version)
    options: dict[str, Any] = {"k": k, "where": where, "window_um": window_um}
    options["window_spacings"] = window_spacings
    if genes is not None:
        hits = opened.similar(genes=_programme(genes), **options)
    else:
        like = _example(opened, example, {"units": units, "um_per_unit": um_per_unit})
        options |= {"key": key, "metric": metric, "exclude_self": not include_self}
        hits = opened.similar(like, **options)
    if target is not None:
        hits.write(target)
    _tell(say, hits, output)


def _as_made(opened: Atlas, key: str) -> dict[str, Any]:
    """Find the parameters of an index that is there, so that adding to it needs but its name."""
    from ..query.retrieval.opened import open_index

    known = open_index(opened, key, missing_ok=True)
    if known is None:
        return {}
    own = known.parameters.to_dict()
    sizes, unit = own.pop("sizes"), own.pop("unit")
    return own | {"window_um" if unit == "um" else "window_spacings": sizes}


def _check_forms(genes: str | None, example: dict[str, str | None]) -> None:
    given = [name for name, value in example.items() if value is not None]
    if (genes is None) == (not given):
        raise UsageError(
            "--genes, or an example (--section with --bbox, --circle or --polygon, and --obs), "
            "is wanted, one of the two"
        )
    places = [name for name in ("bbox", "circle", "polygon") if example[name] is not None]
    if len(places) > 1:
        raise UsageError("one place is wanted: --bbox, --circle or --polygon")
    if places and example["section"] is None:
        raise UsageError(f"--section is wanted with --{places[0]}: whose coordinates it is in")


def _example(opened: Atlas, example: dict[str, str | None], unit: dict[str, Any]) -> Any:
    place: dict[str, Any] = {}
    if example["bbox"] is not None:
        place["bbox"] = numbers(example["bbox"], 4, "--bbox", "XMIN,YMIN,XMAX,YMAX")
    if example["circle"] is not None:
        place["circle"] = numbers(example["circle"], 3, "--circle", "X,Y,RADIUS")
    if example["polygon"] is not None:
        place["polygon"] = example["polygon"]
    if place:
        return opened.region(example["section"], **place, **unit, obs=example["obs"])
    return opened.query(example["obs"], section=example["section"])


def _programme(text: str) -> dict[str, float]:
    """Read `Sox2=1,Neurod1=-1`; a gene without a number weighs 1.

    >>> _programme("Sox2, Neurod1=-1")
    {'Sox2': 1.0, 'Neurod1': -1.0}
    """
    found: dict[str, float] = {}
    for part in names(text) or []:
        name, equals, weight = part.rpartition("=") if "=" in part else (part, "", "1")
        try:
            found[name.strip()] = float(weight)
        except ValueError:
            raise UsageError(
                f"--genes wants weights like Sox2=1,Neurod1=-1, but got {part!r}"
            ) from None
        del equals
    return found


def _sizes(text: str | None, option: str) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} wants numbers like 100,200,400, but got {text!r}") from None


def _target(where: str, *, overwrite: bool) -> Path:
    if Path(where).suffix not in _ENDINGS:
        raise UsageError(f"an output .csv, .geojson or .png is wanted, but got {where!r}")
    return check_place(where, overwrite=overwrite)


def _tell(say: Output, hits: Hits, output: str | None) -> None:
    for note in hits.notes:
        say.note(f"note: {note}")
    if say.as_json or not say.quiet:
        table = hits.table.reset_index()
        say.rows(table_rows(table), list(table.columns))
    if output is not None:
        say.note(f"wrote {output}")
