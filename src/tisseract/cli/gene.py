"""Commands about genes: `gene`, `svg`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .answers import table_target, write_table
from .errors import UsageError, command
from .options import (
    AllCells,
    AtlasArgument,
    DomainKey,
    Json,
    MemoryLimit,
    Quiet,
    ReplaceOutput,
    Sections,
    StorageOptions,
    Verbose,
    Version,
    Where,
    names,
)
from .output import Output, table_rows
from .progress import reporter
from .session import open_atlas

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["register"]

_TABLES = (".csv", ".parquet")
_PICTURES = (*_TABLES, ".png", ".zarr")

GraphName = Annotated[
    str, typer.Option("--graph", "--key", metavar="NAME", help="Stored graph of the cells.")
]
Radius = Annotated[
    float | None,
    typer.Option(metavar="UM", help="Instead: all cells up to this distance are neighbors."),
]
Normalize = Annotated[
    Literal["log1p"] | None, typer.Option(help="Of cells scaled to 10,000; none: as stored.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("gene")(gene)
    app.command("svg")(svg)


@command
def gene(
    atlas: AtlasArgument,
    name: Annotated[str, typer.Argument(metavar="GENE", help="Identifier, symbol or alias.")],
    *,
    by: Annotated[
        str | None,
        typer.Option(metavar="COLUMNS", help="By these: domain,timepoint. Default: section."),
    ] = None,
    missing: Annotated[
        Literal["nan", "drop", "error"],
        typer.Option(help="Sections that did not measure it: count, leave out, refuse."),
    ] = "nan",
    where: Where = None,
    all_cells: AllCells = False,
    raster: Annotated[
        str | None, typer.Option(metavar="SECTION", help="Draw it: cells binned into pixels.")
    ] = None,
    um_per_px: Annotated[float, typer.Option(help="With --raster: edge of a pixel.")] = 10.0,
    how: Annotated[
        Literal["mean", "sum", "fraction"], typer.Option(help="With --raster: what a pixel shows.")
    ] = "mean",
    colocalized: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Instead: the N genes that lie where it lies."),
    ] = None,
    variability: Annotated[
        bool, typer.Option("--variability", help="Instead: how spatial it is, by section.")
    ] = False,
    graph_key: GraphName = "spatial",
    radius: Radius = None,
    normalize: Normalize = None,
    section: Sections = None,
    domain_key: DomainKey = None,
    organism: Annotated[
        str | None, typer.Option(help="Whose gene, where several organisms have one of this name.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="Write .csv, .parquet; a raster .png, .zarr too."
        ),
    ] = None,
    overwrite: ReplaceOutput = False,
    memory_limit: MemoryLimit = None,
    version: Version = None,
    storage_option: StorageOptions = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Show where one gene is seen, without reading the other genes."""
    say = Output(json, quiet, verbose)
    if sum((raster is not None, colocalized is not None, variability)) > 1:
        raise UsageError("one of --raster, --colocalized and --variability is wanted")
    if raster is not None and output is None:
        raise UsageError("--raster goes with a file to write: add -o PATH")
    target = table_target(output, _TABLES if raster is None else _PICTURES, overwrite=overwrite)
    if raster is not None and target is not None:
        _check_raster(target)
    with reporter(f"gene {name}", quiet=quiet or not (colocalized or variability)):
        opened = open_atlas(atlas, storage_option, version=version)
        view = opened.gene(name, organism=organism, sections=section)
        image: Any = None
        cells: dict[str, Any] = {"where": where, "all_cells": all_cells}
        computing = {"normalize": normalize, "memory_limit": memory_limit, **cells}
        if raster is not None and target is not None:
            image = view.raster(raster, um_per_px, how=how, **computing)
            _write_raster(image, target, overwrite=overwrite)
            table = None
        elif colocalized is not None:
            computing["normalize"] = normalize or "log1p"
            table = view.colocalized(
                colocalized, section, key=graph_key, radius=radius, **computing
            )
        elif variability:
            table = view.variability(section, key=graph_key, radius=radius, **computing)
        else:
            table = view.where(
                names(by) or "section",
                missing=missing,
                domain_key=domain_key,
                **cells,
            )
    if view.note:
        say.note(f"note: {view.note}")
    if table is None:
        say.data({"output": output, "shape": list(image.shape)}, f"{output}: {_sizes(image)}")
        return
    _tell(say, table, target)


@command
def svg(
    atlas: AtlasArgument,
    *,
    genes: Annotated[
        str | None, typer.Option("--genes", metavar="NAMES", help="Only these: Sox2,Pax6.")
    ] = None,
    section: Sections = None,
    method: Annotated[
        Literal["sparkx", "moran"],
        typer.Option(help="Dependence on the coordinates, or Moran's I over a graph."),
    ] = "sparkx",
    top: Annotated[int, typer.Option(min=1, help="Genes shown of a section; -o has all.")] = 20,
    graph_key: GraphName = "spatial",
    radius: Radius = None,
    normalize: Normalize = None,
    where: Where = None,
    all_cells: AllCells = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="PATH", help="Write .csv or .parquet.")
    ] = None,
    overwrite: ReplaceOutput = False,
    memory_limit: MemoryLimit = None,
    version: Version = None,
    storage_option: StorageOptions = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Rank genes by how much they depend on place, section by section."""
    from .. import tl

    say = Output(json, quiet, verbose)
    target = table_target(output, _TABLES, overwrite=overwrite)
    with reporter(f"svg {atlas}", quiet=quiet):
        opened = open_atlas(atlas, storage_option, version=version)
        table = tl.spatially_variable(
            opened,
            names(genes),
            sections=section,
            method=method,
            key=graph_key,
            radius=radius,
            normalize=normalize,
            where=where,
            all_cells=all_cells,
            memory_limit=memory_limit,
        )
    if target is not None:
        write_table(table, target)
        say.note(f"wrote {target}")
    shown = table[table["rank"] <= top]
    say.rows(table_rows(shown), list(shown.columns))


def _tell(say: Output, table: pd.DataFrame, target: Path | None) -> None:
    note = table.attrs.get("note")
    if note:
        say.note(f"note: {note}")
    if target is not None:
        write_table(table, target)
        say.note(f"wrote {target}")
        if not say.as_json:
            return
    say.rows(table_rows(table), list(table.columns))


def _check_raster(path: Path) -> None:
    """See that of folders only an earlier raster is replaced."""
    ours = all((path / name / "zarr.json").is_file() for name in ("image", "n_cells"))
    if path.suffix.lower() == ".zarr" and not ours:
        from ..query.exports.files import check_place

        check_place(path, None, folder=False)


def _write_raster(image: xr.DataArray, path: Path, *, overwrite: bool) -> None:
    """Write pixels: those that hold cells as a table, an array, or a figure with its table."""
    suffix = path.suffix.lower()
    if suffix == ".zarr":
        from ..query.appearing import appearing

        with appearing(path) as part:
            image.to_dataset(name="image").to_zarr(part, mode="w", consolidated=False)
        return
    if suffix == ".png":
        from .. import pl
        from ..query.plots.raster import draw_raster

        pl.save(draw_raster(image), path, overwrite=overwrite)
        return
    table = image.rename("value").to_dataframe().reset_index()
    write_table(table[table["n_cells"] > 0], path)


def _sizes(image: xr.DataArray) -> str:
    height, width = image.shape
    edge, unit = image.attrs["pixel_size"], image.attrs["pixel_unit"]
    return f"{width:,} x {height:,} pixels of {edge:g} {unit}, {image.attrs['units']}"
