"""The `tisseract` command: one Typer application, one module per group of commands."""

from __future__ import annotations

import sys

import typer

from . import (
    annotate,
    ask,
    build,
    diff,
    domain_table,
    domains,
    domains_edit,
    embed,
    gene,
    graph,
    graph_stats,
    keep,
    look,
    places,
    plot,
    report,
    retrieval,
    summarize,
    tour,
    train,
)
from .errors import finish

__all__ = ["app", "main"]

_EPILOG = "Exit codes: 0 done, 1 failure, 2 wrong usage, 3 some sections failed."

app = typer.Typer(
    name="tisseract",
    help="Tissue atlases that do not fit in memory: build them, train on them, ask them.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _module in (
    tour,
    build,
    look,
    graph,
    graph_stats,
    train,
    embed,
    domains,
    domains_edit,
    domain_table,
    annotate,
    ask,
    retrieval,
    gene,
    summarize,
    plot,
    report,
    places,
    diff,
    keep,
):
    _module.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        sys.stdout.write(f"tisseract {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and leave."
    ),
) -> None:
    del version


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, optional
        Without the name of the program; those of the process by default.

    Returns
    -------
    int
        Exit code: 0 done, 1 failure, 2 wrong usage, 3 some sections failed.

    Examples
    --------
    >>> main(["--version"])
    tisseract 0.1.0
    0
    """
    try:
        app(args=arguments, prog_name="tisseract")
    except SystemExit as leaving:
        return finish(leaving.code)
    return 0
