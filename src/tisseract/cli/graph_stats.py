"""The command `graph-stats`: what graphs look like, what they say of genes and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .ask import table_rows
from .errors import UsageError, command
from .options import (
    AtlasArgument,
    Json,
    MemoryLimit,
    Quiet,
    Sections,
    Seed,
    StorageOptions,
    Verbose,
    Version,
    names,
)
from .output import Output
from .progress import reporter
from .session import open_atlas

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["register"]

_COLUMNS = {
    "graphs": [
        "section",
        "kind",
        "n_obs",
        "n_edges",
        "degree_mean",
        "degree_max",
        "n_isolated",
        "length_mean",
        "length_max",
        "unit",
        "n_components",
        "largest_component",
    ],
    "genes": ["section", "gene", "I", "C", "pval_norm", "pval_norm_fdr_bh"],
    "labels": ["label", "neighbor", "count", "expected", "zscore"],
}


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("graph-stats")(graph_stats)


@command
def graph_stats(
    atlas: AtlasArgument,
    *,
    key: Annotated[str, typer.Option("--key", help="Name of the graph.")] = "spatial",
    section: Sections = None,
    genes: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Moran's I of these: Sox2,Pax6; 'all' for all."),
    ] = None,
    mode: Annotated[
        Literal["moran", "geary"], typer.Option(help="Moran's I or Geary's C of --genes.")
    ] = "moran",
    normalize: Annotated[
        Literal["log1p"] | None, typer.Option(help="Of the values of --genes; none: as stored.")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Which labels of this column are neighbors how often."),
    ] = None,
    n_perms: Annotated[
        int, typer.Option(min=0, help="Shuffles behind the z-scores of --label; 0: all possible.")
    ] = 1000,
    seed: Seed = 0,
    version: Version = None,
    memory_limit: MemoryLimit = None,
    storage_option: StorageOptions = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Count neighbors, lengths and components of graphs; autocorrelation of genes, enrichment."""
    if mode == "geary" and genes is None:
        raise UsageError("--mode is about --genes: name some")
    output = Output(json, quiet, verbose)
    limit: dict[str, Any] = {} if memory_limit is None else {"memory_limit": memory_limit}
    with reporter(f"graph-stats {atlas}", quiet=quiet) as progress:
        from .. import gr

        opened = open_atlas(atlas, storage_option, version=version)
        progress("degrees, lengths, components")
        tables = {"graphs": gr.graph_stats(opened, key=key, sections=section)}
        if genes is not None:
            progress(f"autocorrelation of {genes}")
            chosen = None if genes == "all" else names(genes)
            tables["genes"] = gr.spatial_autocorr(
                opened,
                chosen,
                mode=mode,
                key=key,
                sections=section,
                normalize=normalize,
                **limit,
            )
        if label is not None:
            progress(f"enrichment of {label}")
            tables["labels"] = gr.nhood_enrichment(
                opened,
                label,
                key=key,
                sections=section,
                n_perms=n_perms or None,
                seed=seed,
                **limit,
            ).to_frame()
    _print(output, tables)


def _print(output: Output, tables: dict[str, pd.DataFrame]) -> None:
    """One JSON document, or the tables one after the other with an empty line between them."""
    found = {name: table_rows(table) for name, table in tables.items()}
    if output.as_json:
        output.data(found)
        return
    for number, (name, rows) in enumerate(found.items()):
        if number:
            output.data("", text="")
        known: Sequence[str] = list(rows[0]) if rows else []
        output.rows(rows, [column for column in _COLUMNS[name] if column in known])
