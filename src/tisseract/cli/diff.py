"""The command `diff`: genes that differ between groups of cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .answers import table_target, write_table
from .errors import command
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
from .output import Output
from .progress import reporter
from .session import open_atlas

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["register"]

_SHOWN = 20
_COLUMNS = ["group", "reference", "gene", "log2_fold", "base_mean", "stat", "p", "p_adj"]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("diff")(diff)


@command
def diff(
    atlas: AtlasArgument,
    *,
    groupby: Annotated[
        str, typer.Option("--groupby", metavar="COLUMN", help="What divides the cells: domain.")
    ],
    groups: Annotated[
        str | None, typer.Option(metavar="VALUES", help="Compare these: CA1,CA2; else all.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="VALUES", help="With these together; else the rest.")
    ] = None,
    replicate: Annotated[
        str, typer.Option(metavar="COLUMN", help="Metadata that tells replicates apart.")
    ] = "donor",
    method: Annotated[
        Literal["pseudobulk", "wilcoxon"],
        typer.Option(help="DESeq2 on sums of replicates, or ranks of cells (with its caveat)."),
    ] = "pseudobulk",
    within: Annotated[
        str | None, typer.Option(metavar="FILTER", help="Of these cells: \"domain == 'CA1'\".")
    ] = None,
    section: Sections = None,
    where: Where = None,
    all_cells: AllCells = False,
    genes: Annotated[
        str | None, typer.Option("--genes", metavar="NAMES", help="Show only these genes.")
    ] = None,
    missing: Annotated[
        Literal["drop", "error"] | None,
        typer.Option(help="What to do about genes that a section did not measure."),
    ] = None,
    min_cells: Annotated[
        int, typer.Option(min=0, help="Fewest cells of a replicate and group.")
    ] = 10,
    domain_key: DomainKey = None,
    target: Annotated[
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
    """Compare the genes of groups of cells, replicates being the unit."""
    output = Output(json, quiet, verbose)
    file = table_target(target, overwrite=overwrite)
    with reporter(f"diff {atlas}", quiet=quiet):
        from ..query import diff as compare

        opened = open_atlas(atlas, storage_option, version=version)
        table = compare(
            opened.query(within, section=section, domain_key=domain_key),
            groupby,
            names(groups),
            names(reference),
            replicate=replicate,
            method=method,
            genes=names(genes),
            where=where,
            all_cells=all_cells,
            missing=missing,
            min_cells=min_cells,
            memory_limit=memory_limit,
        )
    _tell(output, table, file)


def _tell(output: Output, table: pd.DataFrame, file: Path | None) -> None:
    facts = table.attrs
    if file is not None:
        write_table(table, file)
        output.note(f"wrote {file}")
    for name, one in facts.get("groups", {}).items():
        n = table.loc[table["group"] == name, ["n_group", "n_reference"]].iloc[0]
        output.note(
            f"{name} against {facts['reference']}: {n.iloc[0]} and {n.iloc[1]} replicates "
            f"({facts['replicate']}), {one['design']}; smallest attainable p of a permutation of "
            f"replicates {one['smallest_p']:.3g}"
        )
        if one["empty"]:
            output.note(one["empty"])
    for caveat in facts["caveats"] if facts["method"] == "pseudobulk" else ():
        output.note(f"note: {caveat}")
    if output.as_json:
        output.data({"facts": facts, "genes": table.to_dict("records")})
    elif file is None:
        rows: list[dict[str, Any]] = [
            {str(key): value for key, value in row.items()}
            for _, part in table.groupby("group", sort=False)
            for row in part.head(_SHOWN).to_dict("records")
        ]
        output.rows(rows, _COLUMNS)
        output.note(f"the first {_SHOWN} genes of each group; -o writes all")
