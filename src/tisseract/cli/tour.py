"""The `demo` command: a simulated atlas, or the user's own data, from raw files to answers."""

from __future__ import annotations

from typing import Annotated

import typer

from .errors import UsageError, command
from .options import Json, Quiet, Seed, Verbose
from .output import Output

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("demo")(demo)


@command
def demo(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder to write into.")],
    *,
    seed: Seed = 0,
    cells: Annotated[
        int, typer.Option(min=400, help="Simulated cells in all eight sections together.")
    ] = 36_000,
    real: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Your own h5ad file or Space Ranger folder instead."),
    ] = None,
    n_domains: Annotated[
        int | None, typer.Option(min=2, metavar="K", help="Domains to find (8; with --real, 7).")
    ] = None,
    um_per_unit: Annotated[
        str | None,
        typer.Option(help="With --real: micrometers per coordinate unit, or lattice:PITCH."),
    ] = None,
    split_by: Annotated[
        str | None, typer.Option(help="With --real: obs column with one section per value.")
    ] = None,
    values: Annotated[
        str | None, typer.Option(help="With --real: counts, expected, normalized, log1p ...")
    ] = None,
    organism: Annotated[str | None, typer.Option(help="With --real: e.g. mouse.")] = None,
    figures: Annotated[bool, typer.Option(help="Draw figures (needs tisseract\\[viz]).")] = True,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Build, train and ask a small atlas, printing each command as you could type it."""
    output = Output(json, quiet, verbose)
    sheet = {
        "um_per_unit": um_per_unit,
        "split_by": split_by,
        "values": values,
        "organism": organism,
    }
    given = {name: value for name, value in sheet.items() if value is not None}
    from .. import demo as tours
    from .app import main

    if real is None:
        if given:
            option = next(iter(given)).replace("_", "-")
            raise UsageError(f"--{option} describes your own data: it needs --real PATH")
        report = tours.simulated_tour(
            folder,
            seed=seed,
            n_cells=cells,
            n_domains=n_domains or 8,
            figures=figures,
            say=output,
            command=main,
        )
    else:
        report = tours.real_tour(
            folder,
            real,
            sheet=given,
            seed=seed,
            n_domains=n_domains or 7,
            figures=figures,
            say=output,
            command=main,
        )
    if json:
        output.data(report)
