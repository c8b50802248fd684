"""The command that draws: `plot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .answers import check_target
from .errors import UsageError, command
from .options import (
    AtlasArgument,
    DomainKey,
    Json,
    Quiet,
    ReplaceOutput,
    Sections,
    StorageOptions,
    Verbose,
    Version,
    names,
)
from .output import Output
from .progress import reporter
from .session import open_atlas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..query.cells.selection import Selection

__all__ = ["register"]

_FIGURES = (".png", ".pdf", ".svg")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("plot")(plot)


@command
def plot(
    atlas: AtlasArgument,
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="PATH", help="Write .png, .pdf or .svg.")
    ],
    color: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Genes or columns: Sox2,domain.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Begin a row (or bar) at each value.")
    ] = None,
    genes: Annotated[
        str | None, typer.Option(metavar="NAMES", help="With --groupby: draw a dot plot of these.")
    ] = None,
    groupby: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Draw how cells divide among its labels.")
    ] = None,
    embedding: Annotated[
        str | None, typer.Option(metavar="KEY", help="Draw cells by this embedding.")
    ] = None,
    section: Sections = None,
    where: Annotated[
        str | None, typer.Option("--where", "--obs", metavar="FILTER", help="Only these cells.")
    ] = None,
    domain_key: DomainKey = None,
    ncols: Annotated[int, typer.Option(min=1, help="Panels in a row.")] = 4,
    image: Annotated[
        bool, typer.Option("--image", help="Images of sections behind cells.")
    ] = False,
    overwrite: ReplaceOutput = False,
    version: Version = None,
    storage_option: StorageOptions = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Draw cells of all sections, with the numbers beside the figure as CSV."""
    say = Output(json, quiet, verbose)
    target = check_target(output, overwrite=overwrite)
    if target.suffix.lower() not in _FIGURES:
        raise UsageError(f"an output ending in {', '.join(_FIGURES)} is wanted, but got {output!r}")
    if sum((genes is not None or groupby is not None, embedding is not None)) > 1:
        raise UsageError("one figure is wanted: --groupby (with --genes) or --embedding")
    if genes is not None and groupby is None:
        raise UsageError("--genes goes with --groupby; to color cells by genes write --color")
    with reporter(f"plot -> {output}", quiet=quiet):
        opened = open_atlas(atlas, storage_option, version=version)
        chosen = opened.query(obs=where, section=section, domain_key=domain_key)
        options = {"by": by, "ncols": ncols, "image": image}
        figure = _draw(chosen, names(color), genes=names(genes), groupby=groupby,
                       embedding=embedding, options=options)  # fmt: skip
        from .. import pl

        pl.save(figure, target, overwrite=overwrite)
    _tell(say, figure, target)


def _draw(
    chosen: Selection,
    color: list[str] | None,
    *,
    genes: list[str] | None,
    groupby: str | None,
    embedding: str | None,
    options: dict[str, Any],
) -> Figure:
    if groupby is not None and genes is not None:
        return chosen.pl.dotplot(genes, groupby)
    if groupby is not None:
        return chosen.pl.composition(groupby, by=options["by"] or "timepoint")
    if embedding is not None:
        return chosen.pl.embedding(embedding, color)
    return chosen.pl.spatial(color, **options)


def _tell(say: Output, figure: Any, target: Path) -> None:
    facts = {
        "output": str(target),
        "source": str(target.with_suffix(".csv")),
        "n_rows": len(figure.source),
        "caption": figure.caption,
    }
    say.summary(facts, text=f"{figure.caption} -> {target}, {target.with_suffix('.csv').name}")
