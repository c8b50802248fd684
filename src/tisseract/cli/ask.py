"""Commands that ask: `query`, `region`, `export`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from .answers import check_target, tell_apart, without_dropped, write_answer
from .beside import Element, UmPerPx, What
from .errors import UsageError, command
from .options import (
    AtlasArgument,
    Descendants,
    DomainKey,
    Json,
    MemoryLimit,
    NearRegion,
    PixelSize,
    PolygonText,
    Quiet,
    RegionKey,
    ReplaceOutput,
    RunJson,
    Sections,
    StorageOptions,
    Verbose,
    Version,
    WithinUm,
    names,
    numbers,
)
from .output import Output
from .progress import reporter
from .record import Run
from .session import open_atlas
from .ways import Ways, tell

__all__ = ["register"]

Filter = Annotated[
    str | None,
    typer.Option("--obs", metavar="FILTER", help="e.g. \"cell_type in ['Neuron'] and n > 200\"."),
]
Genes = Annotated[
    str | None, typer.Option("--genes", metavar="NAMES", help="Only these genes: Sox2,Pax6.")
]
Target = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="PATH", help="Write .h5ad, .zarr, .csv, .parquet or .png."
    ),
]
Normalize = Annotated[
    Literal["log1p"] | None,
    typer.Option(help="Put log-normalized values in X, and the counts into a layer."),
]
Missing = Annotated[
    Literal["error", "nan", "zero", "drop_sections"] | None,
    typer.Option(help="What to do about genes that a section did not measure."),
]

Embeddings = Annotated[
    str | None,
    typer.Option(metavar="NAMES|all", help="Add these embeddings, as obsm (.h5ad, .zarr)."),
]
HaloUm = Annotated[
    float | None,
    typer.Option(metavar="UM", help="Add cells up to this far from those asked for (.h5ad)."),
]
HaloHops = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Add cells up to N edges of --graph away (.h5ad)."),
]
GraphKey = Annotated[
    str | None,
    typer.Option(
        "--graph", "--graph-key", metavar="NAME", help="Add the graph of this name, as obsp."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("query")(query)
    app.command("region")(region)
    app.command("export")(export)


@command
def query(
    atlas: AtlasArgument,
    *,
    obs: Filter = None,
    genes: Genes = None,
    section: Sections = None,
    timepoint: Annotated[list[str] | None, typer.Option(help="Only this; repeat.")] = None,
    domain: Annotated[list[str] | None, typer.Option(help="Only this; repeat.")] = None,
    domain_key: DomainKey = None,
    what: What = "cells",
    element: Element = None,
    um_per_px: UmPerPx = None,
    output: Target = None,
    normalize: Normalize = None,
    missing: Missing = None,
    graph_key: GraphKey = None,
    embeddings: Embeddings = None,
    halo_um: HaloUm = None,
    halo_hops: HaloHops = None,
    memory_limit: MemoryLimit = None,
    overwrite: ReplaceOutput = False,
    version: Version = None,
    storage_option: StorageOptions = None,
    run_json: RunJson = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Ask for cells; without -o, say how many there are and what reading them takes."""
    say = Output(json, quiet, verbose)
    ways = Ways.checked(
        what,
        output,
        genes=names(genes),
        element=element,
        um_per_px=um_per_px,
        memory_limit=memory_limit,
        overwrite=overwrite,
        missing=missing,
        graph=graph_key,
        embeddings=embeddings,
        normalize=normalize,
        halo_um=halo_um,
        halo_hops=halo_hops,
    )
    run = Run("query", {"obs": obs, "genes": genes, "section": section, "output": output})
    with reporter("query", quiet=quiet or ways.target is None):
        opened = open_atlas(atlas, storage_option, version=version)
        asked = opened.query(
            obs=obs,
            genes=ways.genes,
            section=section,
            timepoint=timepoint,
            domain=domain,
            domain_key=domain_key,
        )
        chosen = ways.write(asked)
    facts = ways.tell(asked, chosen, say)
    if output is not None:
        run.write(atlas, run_json, say, results=facts)


@command
def region(
    atlas: AtlasArgument,
    *,
    section: Annotated[
        list[str] | None,
        typer.Option(
            "--section", help="Whose coordinates are meant; several with --name or --near."
        ),
    ] = None,
    bbox: Annotated[
        str | None, typer.Option(metavar="XMIN,YMIN,XMAX,YMAX", help="Micrometers, y down.")
    ] = None,
    circle: Annotated[str | None, typer.Option(metavar="X,Y,RADIUS")] = None,
    polygon: PolygonText = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="A named region; repeat for several.")
    ] = None,
    region_key: RegionKey = None,
    descendants: Descendants = False,
    near: Annotated[
        str | None, typer.Option(metavar="FILTER", help="What lies near the cells of this filter.")
    ] = None,
    near_region: NearRegion = None,
    within_um: WithinUm = None,
    frame: Annotated[
        str | None,
        typer.Option(
            "--frame",
            "--coordinate-system",
            help="The shape is in this frame; all its sections are asked.",
        ),
    ] = None,
    predicate: Annotated[
        Literal["centroid", "intersects"],
        typer.Option(help="Cells whose center lies in the place, or whose shape touches it."),
    ] = "centroid",
    genes: Genes = None,
    obs: Filter = None,
    domain_key: DomainKey = None,
    units: Annotated[
        Literal["um", "source"], typer.Option(help="'source' where the unit is unknown.")
    ] = "um",
    um_per_unit: PixelSize = None,
    what: What = "cells",
    element: Element = None,
    um_per_px: UmPerPx = None,
    output: Target = None,
    normalize: Normalize = None,
    missing: Missing = None,
    graph_key: GraphKey = None,
    embeddings: Embeddings = None,
    halo_um: HaloUm = None,
    halo_hops: HaloHops = None,
    memory_limit: MemoryLimit = None,
    overwrite: ReplaceOutput = False,
    version: Version = None,
    storage_option: StorageOptions = None,
    run_json: RunJson = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Ask for the cells of a box, circle or polygon, of a named region, or near other cells."""
    say = Output(json, quiet, verbose)
    kinds = (bbox, circle, polygon, name or None, near, near_region)
    if sum(value is not None for value in kinds) != 1:
        raise UsageError("one place is wanted: --bbox, --circle, --polygon, --name or --near")
    if kinds[3:] == (None, None, None) and frame is None and len(section or ()) != 1:
        raise UsageError("--section is wanted, whose coordinates are meant; or --frame")
    place: dict[str, Any] = {"polygon": polygon, "near": near, "within_um": within_um}
    place |= {"name": name or None, "region_key": region_key, "descendants": descendants}
    place |= {"coordinate_system": frame, "predicate": predicate, "um_per_unit": um_per_unit}
    if bbox is not None:
        place["bbox"] = numbers(bbox, 4, "--bbox", "XMIN,YMIN,XMAX,YMAX")
    if circle is not None:
        place["circle"] = numbers(circle, 3, "--circle", "X,Y,RADIUS")
    ways = Ways.checked(
        what,
        output,
        genes=names(genes),
        element=element,
        um_per_px=um_per_px,
        memory_limit=memory_limit,
        overwrite=overwrite,
        missing=missing,
        graph=graph_key,
        embeddings=embeddings,
        normalize=normalize,
        halo_um=halo_um,
        halo_hops=halo_hops,
    )
    run = Run("region", {"section": section, **place, "near_region": near_region, "output": output})
    with reporter("region", quiet=quiet or ways.target is None):
        opened = open_atlas(atlas, storage_option, version=version)
        if near_region is not None:
            place["near"] = opened.region(section or None, name=near_region, region_key=region_key)
        asked = opened.region(
            section or None,
            **place,
            units=units,
            genes=ways.genes,
            obs=obs,
            domain_key=domain_key,
        )
        chosen = ways.write(asked)
    facts = ways.tell(asked, chosen, say)
    if output is not None:
        run.write(atlas, run_json, say, results=facts)


@command
def export(
    atlas: AtlasArgument,
    *,
    output: Annotated[str, typer.Option("--output", "-o", metavar="PATH")],
    section: Sections = None,
    to: Annotated[
        Literal["spatialdata", "h5ad"] | None,
        typer.Option(help="Default: by the suffix of the output, .zarr or .h5ad."),
    ] = None,
    missing: Missing = None,
    graph_key: GraphKey = None,
    embeddings: Embeddings = None,
    memory_limit: MemoryLimit = None,
    overwrite: ReplaceOutput = False,
    version: Version = None,
    storage_option: StorageOptions = None,
    run_json: RunJson = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Write sections, with all their labels joined, as a file that other tools open."""
    say = Output(json, quiet, verbose)
    suffix = {None: (".zarr", ".h5ad"), "spatialdata": (".zarr",), "h5ad": (".h5ad",)}[to]
    target = check_target(output, overwrite=overwrite)
    if target.suffix not in suffix:
        raise UsageError(f"an output ending in {' or '.join(suffix)} is wanted, but got {output!r}")
    run = Run("export", {"section": section, "output": output})
    with reporter(f"export -> {output}", quiet=quiet):
        opened = open_atlas(atlas, storage_option, version=version)
        asked = opened.query(section=section)
        chosen = without_dropped(asked, missing)
        write_answer(
            chosen,
            target,
            overwrite=overwrite,
            missing=missing,
            graph=graph_key,
            embeddings=embeddings,
            memory_limit=memory_limit,
        )
    facts = tell(say, chosen, output, [name for name in asked.runs if name not in chosen.runs])
    tell_apart(say, chosen)
    run.write(atlas, run_json, say, results=facts)
