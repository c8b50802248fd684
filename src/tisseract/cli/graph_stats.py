"""The command `graph-stats`: what graphs look like, what they say of genes and labels."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .answers import check_target, write_table
from .errors import UsageError, command
from .options import (
    AtlasArgument,
    Json,
    MemoryLimit,
    Quiet,
    ReplaceOutput,
    Sections,
    Seed,
    StorageOptions,
    Verbose,
    Version,
    names,
)
from .output import Output, table_rows
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
    "co_occurrence": ["section", "label", "given", "distance", "n_pairs", "occurrence"],
}
_WORDS = {
    "graphs": "degrees, lengths, components",
    "genes": "autocorrelation",
    "labels": "enrichment",
    "co_occurrence": "co-occurrence",
}
# Labels whose z-scores fit a terminal as a matrix.
_MATRIX = 10


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("graph-stats")(graph_stats)


@command
def graph_stats(
    atlas: AtlasArgument,
    *,
    key: Annotated[
        str, typer.Option("--graph", "--key", metavar="NAME", help="Name of the graph.")
    ] = "spatial",
    section: Sections = None,
    genes: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Moran's I of these: Sox2,Pax6; 'all' for all."),
    ] = None,
    mode: Annotated[
        Literal["moran", "geary"], typer.Option(help="Moran's I or Geary's C of --genes.")
    ] = "moran",
    normalize: Annotated[
        Literal["log1p"] | None,
        typer.Option(
            help="Of the values of --genes: counts scaled to 10,000 a cell (not scanpy's median), "
            "then log1p; none: as stored."
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Which labels of this column are neighbors how often."),
    ] = None,
    n_perms: Annotated[
        int, typer.Option(min=0, help="Shuffles behind the z-scores of --label; 0: all possible.")
    ] = 1000,
    co_occurrence: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="How often labels of this column meet, by distance."),
    ] = None,
    max_distance: Annotated[
        float | None,
        typer.Option(metavar="LENGTH", help="With --co-occurrence: no farther apart."),
    ] = None,
    intervals: Annotated[
        int, typer.Option(min=1, help="With --co-occurrence: how many distances.")
    ] = 10,
    target: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE.csv", help="Write FILE.graphs.csv, FILE.genes.csv ..."
        ),
    ] = None,
    overwrite: ReplaceOutput = False,
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
    if max_distance is not None and co_occurrence is None:
        raise UsageError("--max-distance belongs to --co-occurrence: give both or none")
    output = Output(json, quiet, verbose)
    limit: dict[str, Any] = {} if memory_limit is None else {"memory_limit": memory_limit}
    which: dict[str, Any] = {"key": key, "sections": section}
    chosen = None if genes in (None, "all") else names(genes)
    works: dict[str, Callable[[Any, Any], pd.DataFrame]] = {
        "graphs": lambda gr, atlas: gr.graph_stats(atlas, **which)
    }
    if genes is not None:
        works["genes"] = lambda gr, atlas: gr.spatial_autocorr(
            atlas, chosen, mode=mode, normalize=normalize, **which, **limit
        )
    if label is not None:
        works["labels"] = lambda gr, atlas: gr.nhood_enrichment(
            atlas, label, n_perms=n_perms or None, seed=seed, **which, **limit
        ).to_frame()
    if co_occurrence is not None:
        works["co_occurrence"] = lambda gr, atlas: _co_occurrence(
            atlas,
            co_occurrence,
            section,
            key,
            {"interval": intervals + 1, "max_distance": max_distance, **limit},
        )
    files = None if target is None else _targets(target, list(works), overwrite=overwrite)
    opened = open_atlas(atlas, storage_option, version=version)
    if genes is not None:
        _tell_values(output, opened, section, key, normalize)
    _run(output, opened, works, files, f"graph-stats {atlas}")


def _run(
    output: Output,
    atlas: Any,
    works: Mapping[str, Callable[[Any, Any], pd.DataFrame]],
    files: Mapping[str, Path] | None,
    title: str,
) -> None:
    """Compute the tables and hand out each when it is ready; as JSON, all in one document."""
    from .. import gr

    found = {}
    for number, (name, work) in enumerate(works.items()):
        with reporter(f"{title}: {_WORDS[name]}", quiet=output.quiet):
            table = work(gr, atlas)
        if files is not None:
            write_table(table, files[name])
            output.note(f"wrote {files[name]}")
        if output.as_json:
            found[name] = table_rows(table)
        elif files is None:
            if number:
                output.data("", text="")
            _print(output, name, table)
    if output.as_json:
        output.data(found)


def _print(output: Output, name: str, table: pd.DataFrame) -> None:
    """Print a table; z-scores of a few labels as a matrix where a person reads them."""
    columns: Sequence[str] = _COLUMNS[name]
    if name == "labels" and sys.stdout.isatty() and 0 < len(table) <= _MATRIX**2:
        table = table.pivot_table(
            "zscore", "label", "neighbor", sort=False, dropna=False, observed=False
        )
        table = table.rename_axis(columns=None).reset_index(names="z-score")
        columns = list(table.columns)
    output.rows(table_rows(table), [column for column in columns if column in table.columns])


def _co_occurrence(
    atlas: Any, column: str, section: Sequence[str] | None, key: str, options: Mapping[str, Any]
) -> pd.DataFrame:
    """Co-occurrence in the sections named, else in those that have the graph and the column."""
    import pandas as pd

    from .. import gr
    from ..atlas.errors import ColumnNotFound
    from ..query.exports.graph_cells import tell_skipped

    parts: list[pd.DataFrame] = []
    skipped: dict[str, str] = {}
    last: ColumnNotFound | None = None
    for name in section or atlas.derived_keys("graph").get(key, ()):
        try:
            met = gr.co_occurrence(atlas, column, section=name, **options)
        except ColumnNotFound as error:
            if section:
                raise
            skipped[name], last = "it has no such column", error
            continue
        table = met.to_frame()
        table.insert(0, "section", name)
        parts.append(table)
    if last is not None and not parts:
        raise last
    tell_skipped(skipped, "no co-occurrence")
    return pd.concat(parts, ignore_index=True)


def _tell_values(
    output: Output, atlas: Any, section: Sequence[str] | None, key: str, normalize: str | None
) -> None:
    """Note which values the genes are compared by, where one may expect others."""
    held: dict[str, list[str]] = {}
    for name in section or atlas.derived_keys("graph").get(key, ()):
        if name in atlas.snapshot.sections:
            held.setdefault(atlas.snapshot.sections[name].values, []).append(name)
    if normalize is None and (raw := held.get("counts")):
        output.note(
            f"note: values of {_listed(raw)} are counts, taken as stored; --normalize log1p scales "
            "each cell to 10,000 and takes log1p"
        )
    if normalize == "log1p" and (done := held.get("log1p")):
        output.note(f"note: values of {_listed(done)} are log1p already, taken as stored")


def _listed(sections: Sequence[str]) -> str:
    return sections[0] if len(sections) == 1 else f"{len(sections)} sections"


def _targets(where: str, tables: Sequence[str], *, overwrite: bool) -> dict[str, Path]:
    """Name the file of each table, before anything is computed."""
    path = Path(where)
    if path.suffix.lower() != ".csv":
        raise UsageError(f"-o wants a name that ends in .csv, but got {where!r}")
    return {
        name: check_target(str(path.with_suffix(f".{name}{path.suffix}")), overwrite=overwrite)
        for name in tables
    }
