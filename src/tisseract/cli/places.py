"""Named regions for `annotate --regions`; the commands `register` and `regions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import UsageError, command
from .options import (
    AtlasArgument,
    Json,
    Overwrite,
    Quiet,
    RunJson,
    StorageOptions,
    Verbose,
    Version,
)
from .output import Output, table_rows
from .progress import reporter
from .record import Run
from .session import open_atlas

if TYPE_CHECKING:
    from ..handle import Atlas

__all__ = [
    "NameColumn",
    "Ontology",
    "RegionsFile",
    "UmPerUnit",
    "add_regions",
    "check_forms",
    "register",
]

_LARGEST_FILE = 64 * 2**20

RegionsFile = Annotated[
    str | None,
    typer.Option("--regions", metavar="FILE", help="GeoJSON of named polygons of --section."),
]
NameColumn = Annotated[
    str | None,
    typer.Option("--name-column", metavar="NAME", help="Property with the names; default: name."),
]
UmPerUnit = Annotated[
    float | None,
    typer.Option("--um-per-unit", metavar="UM", help="For regions drawn in pixels: their size."),
]
Ontology = Annotated[
    str | None,
    typer.Option("--ontology", metavar="FILE", help=".csv with columns name or id, and parent."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("register")(register_frame)
    app.command("regions")(regions)


def add_regions(
    opened: Atlas, file: str | None, section: str | None, **options: Any
) -> tuple[str, int]:
    """Attach the regions of a file to a section; returns the key and the number of polygons.

    Raises
    ------
    UsageError
        The section or the file is missing.
    """
    if file is None or section is None:
        raise UsageError("--regions FILE and --section S are wanted together")
    if not Path(file).is_file():
        raise UsageError(f"a GeoJSON file is wanted for --regions, but got {file!r}")
    given = {name: value for name, value in options.items() if value is not None}
    key = str(given.setdefault("key", "regions"))
    return key, opened.annotate_regions(section, Path(file), **given)


def check_forms(
    table: str | None,
    regions: str | None,
    section: str | None,
    of_regions: Mapping[str, object],
    of_cells: Sequence[object],
) -> None:
    """Refuse to annotate cells and regions at once, or with the options of the other.

    Raises
    ------
    UsageError
    """
    if (table is None) == (regions is None):
        raise UsageError("a TABLE of labels, or --regions FILE with --section S, is wanted")
    extra = [section, *of_regions.values()]
    if table is not None and any(value is not None for value in extra):
        raise UsageError(
            "--section, --name-column, --um-per-unit and --ontology go with --regions FILE"
        )
    if regions is not None and any(value is not None for value in of_cells):
        raise UsageError("--regions takes none of the options of a TABLE of labels")


@command
def regions(
    atlas: AtlasArgument,
    *,
    version: Version = None,
    storage_option: StorageOptions = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """List the named regions of all sections, with their areas."""
    table = open_atlas(atlas, storage_option, version=version).regions
    Output(json, quiet, verbose).rows(table_rows(table), list(table.columns))


@command
def register_frame(
    atlas: AtlasArgument,
    transforms: Annotated[
        str,
        typer.Argument(metavar="TRANSFORMS", help="JSON: {FRAME: {SECTION: 2 x 3 affine}}."),
    ],
    *,
    overwrite: Overwrite = False,
    storage_option: StorageOptions = None,
    run_json: RunJson = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Register sections in common frames, by affines from micrometers; see `region --frame`."""
    say = Output(json, quiet, verbose)
    frames = _read_frames(transforms)
    run = Run("register", {"transforms": transforms})
    with reporter(f"register {atlas}", quiet=quiet):
        opened = open_atlas(atlas, storage_option, read_only=False)
        for frame, affines in frames.items():
            opened.register(frame, affines, overwrite=overwrite)
    done = {frame: len(affines) for frame, affines in frames.items()}
    text = ", ".join(f"{n} sections in {frame}" for frame, n in done.items())
    say.data({"frames": done}, text=f"registered {text}")
    run.write(atlas, run_json, say, results={"frames": done})


def _read_frames(file: str) -> dict[str, dict[str, Any]]:
    import json

    path = Path(file)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UsageError(f"a file of affines below 64 MB is wanted, but got {file!r}")
        frames = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"a JSON file of affines is wanted, but got {file!r}: {error}") from None
    if (
        not isinstance(frames, dict)
        or not frames
        or not all(isinstance(affines, dict) for affines in frames.values())
    ):
        raise UsageError(
            f"{{FRAME: {{SECTION: [[a, b, c], [d, e, f]]}}}} is wanted in {file!r}, but got "
            f"{str(frames)[:80]}"
        )
    return frames
