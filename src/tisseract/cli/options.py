"""Options that many commands share, spelled once, and how their text becomes values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from .errors import UsageError

__all__ = [
    "AllCells",
    "AtlasArgument",
    "Dask",
    "Descendants",
    "Device",
    "DomainKey",
    "DryRun",
    "GraphKey",
    "Json",
    "MemoryLimit",
    "NearRegion",
    "Overwrite",
    "PixelSize",
    "PolygonText",
    "Quiet",
    "RegionKey",
    "ReplaceOutput",
    "RunJson",
    "Sections",
    "Seed",
    "StorageOptions",
    "Verbose",
    "Version",
    "Where",
    "WithinUm",
    "Workers",
    "cells_asked",
    "names",
    "numbers",
    "storage_options",
]

AtlasArgument = Annotated[
    str, typer.Argument(metavar="ATLAS", help="Folder or URL of the atlas (s3://bucket/name).")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Verbose = Annotated[
    int,
    typer.Option("--verbose", "-v", count=True, help="Say more; twice: tracebacks of errors."),
]
StorageOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-option",
        metavar="KEY=VALUE",
        help="Option of the storage (endpoint, region ...); repeat. Secrets: the environment.",
    ),
]
Version = Annotated[
    int | None,
    typer.Option("--version", metavar="N", help="Read snapshot N instead of the newest."),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option("--memory-limit", metavar="SIZE", help="Most memory to use, e.g. 1GiB."),
]
Dask = Annotated[
    str | None,
    typer.Option("--dask", metavar="ADDRESS", help="A Dask scheduler, or 'local' for a new one."),
]
Workers = Annotated[
    int | None, typer.Option("--n-workers", min=1, help="Sections worked on at the same time.")
]
DomainKey = Annotated[
    str | None,
    typer.Option("--domain-key", help="Which labels 'domain' means, where there are several."),
]
GraphKey = Annotated[
    str | None,
    typer.Option(
        "--graph",
        "--graph-key",
        metavar="NAME",
        help="Stored graph; default 'spatial' if all sections have it, else made on the way.",
    ),
]
Device = Annotated[
    str | None, typer.Option("--device", help="auto (the default), cpu, cuda or mps.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what is there (older snapshots keep it).")
]
PixelSize = Annotated[
    float | None,
    typer.Option("--um-per-unit", metavar="UM", help="For a shape in pixels: their size."),
]
NearRegion = Annotated[
    str | None, typer.Option("--near-region", metavar="NAME", help="Instead: near a named region.")
]
PolygonText = Annotated[
    str | None,
    typer.Option("--polygon", metavar="FILE|WKT", help="GeoJSON or WKT, text or file."),
]
RegionKey = Annotated[
    str | None, typer.Option("--region-key", help="Which regions, where there are several.")
]
Descendants = Annotated[
    bool, typer.Option("--descendants", help="Also all parts of --name, by the ontology.")
]
WithinUm = Annotated[float | None, typer.Option("--within-um", metavar="UM", help="How near.")]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="FILTER",
        help="Only these cells: \"region == 'cortex'\". Default: those of qc_pass, if any.",
    ),
]
AllCells = Annotated[bool, typer.Option("--all-cells", help="Every cell, also without qc_pass.")]
ReplaceOutput = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace the file, or SpatialData folder, of this name."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seeds every random choice.")]
RunJson = Annotated[
    str | None,
    typer.Option(
        "--run-json",
        metavar="PATH",
        help="Where to write the record of this run; '-' for none. "
        "Default: beside the atlas, ATLAS.<command>.run.json.",
    ),
]


def storage_options(pairs: Sequence[str] | None) -> dict[str, str] | None:
    """Read ``key=value`` pairs.

    Examples
    --------
    >>> storage_options(["region=eu-west-1"])
    {'region': 'eu-west-1'}
    """
    if not pairs:
        return None
    options: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            # the text is not repeated: what stands here may be a secret
            raise UsageError("--storage-option wants KEY=VALUE, but got an argument without '='")
        options[key] = value
    return options


def cells_asked(where: str | None, *, all_cells: bool) -> dict[str, Any]:
    """Return the arguments that say which cells take part.

    Examples
    --------
    >>> cells_asked(None, all_cells=True), cells_asked("x > 3", all_cells=False)
    ({'mask': {}}, {'where': 'x > 3'})
    """
    if all_cells and where is not None:
        raise UsageError("--all-cells and --where contradict each other: give one")
    return {"mask": {}} if all_cells else {"where": where}


def names(values: str | Sequence[str] | None) -> list[str] | None:
    """Split comma-separated names; None stays None.

    Examples
    --------
    >>> names("Sox2, Pax6")
    ['Sox2', 'Pax6']
    """
    if values is None:
        return None
    texts = [values] if isinstance(values, str) else values
    found = [part.strip() for text in texts for part in text.split(",")]
    return [name for name in found if name] or None


Sections = Annotated[
    list[str] | None,
    typer.Option(
        "--section",
        "--sections",
        callback=names,
        metavar="NAME[,NAME]",
        help="Only this section; repeat for several, or put commas between them.",
    ),
]


def numbers(text: str, count: int, option: str, meaning: str) -> tuple[float, ...]:
    """Read comma-separated numbers.

    Raises
    ------
    UsageError
        If there are not exactly `count` finite numbers.

    Examples
    --------
    >>> numbers("0,0,100,50", 4, "--bbox", "xmin,ymin,xmax,ymax")
    (0.0, 0.0, 100.0, 50.0)
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or any(value - value != 0 for value in values):
        raise UsageError(f"{option} wants {meaning} (micrometers), but got {text!r}")
    return values
