"""The command `embed`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import UsageError, command
from .intent import refuse_no_cells
from .options import (
    AllCells,
    AtlasArgument,
    Device,
    DryRun,
    Json,
    MemoryLimit,
    Overwrite,
    Quiet,
    RunJson,
    Sections,
    StorageOptions,
    Verbose,
    Where,
    cells_asked,
)
from .output import Output
from .progress import reporter
from .record import Run
from .session import open_atlas

if TYPE_CHECKING:
    from ..atlas.snapshot import DerivedEntry
    from ..handle import Atlas
    from ..models.runs import Run as SavedRun

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("embed")(embed)


@command
def embed(
    atlas: AtlasArgument,
    *,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="A saved run; default: the only trained one."),
    ] = None,
    key_added: Annotated[
        str | None, typer.Option(help="Name of the embedding; default: that of the run.")
    ] = None,
    graph: Annotated[
        str | None,
        typer.Option(
            "--graph",
            "--graph-key",
            metavar="NAME",
            help="Stored graph; default: the kind that the run was trained with.",
        ),
    ] = None,
    device: Device = None,
    section: Sections = None,
    where: Where = None,
    all_cells: AllCells = False,
    memory_limit: MemoryLimit = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    storage_option: StorageOptions = None,
    run_json: RunJson = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Embed sections with a saved run, also sections it was never trained on; commit them."""
    from ..model_choices import check_embedding, filter_of, to_embed, trained_run

    output = Output(json, quiet, verbose)
    cells = cells_asked(where, all_cells=all_cells)
    with reporter(f"embed {atlas}", quiet=quiet) as progress:
        opened = open_atlas(atlas, storage_option, read_only=dry_run)
        name = trained_run(opened) if run is None else run
        if name is None:
            raise UsageError("--run wants a saved run, but the atlas has none; train one first")
        key = key_added or name
        asked = {"sections": section, "where": where, "all_cells": all_cells, "graph": graph}
        record = Run("embed", {"run": name, "key_added": key, **asked})
        wanted = to_embed(opened, name, key, section, overwrite=overwrite)
        saved = check_embedding(opened, name, key, wanted, graph_key=graph, overwrite=overwrite)
        missing, n_genes = _missing(opened, saved, wanted, output)
        if not wanted:
            output.note(f"note: run {name!r} has embedded all sections as {key!r} already")
        made: dict[str, DerivedEntry] = {}
        if dry_run:
            told = where or (None if all_cells else filter_of(saved))
            refuse_no_cells(opened, told, wanted, named=section is not None)
        elif wanted:
            entries = opened.embed(
                name,
                sections=section,
                **cells,
                key_added=key,
                graph_key=graph,
                device=device,
                overwrite=overwrite,
                memory_limit=memory_limit,
                progress=progress,
            )
            made = {entry.section: entry for entry in entries}
    rows = [
        {
            "section": each,
            "n_obs": opened.section(each).n_obs,
            "seen": _seen(opened, name, each),
            "missing_genes": missing[each],
            "model_genes": n_genes,
            **({} if dry_run else _facts(made[each])),
        }
        for each in (wanted if dry_run else made)
    ]
    columns = ["section", "n_obs", "seen", *([] if dry_run else ["dims"]), "missing"]
    if json:
        output.rows(rows, columns)
    elif not quiet:
        shown = [{**row, "missing": f"{row['missing_genes']} of {n_genes}"} for row in rows]
        output.rows(shown, columns)
    if not dry_run:
        results = {"run": name, "embedding": key, "snapshot": opened.version, "sections": rows}
        record.write(atlas, run_json, output, results=results)


def _seen(atlas: Atlas, run: str, section: str) -> str:
    """Tell whether a run was trained on what a section holds now, or held before."""
    attempt = atlas.snapshot.runs[run].inputs.get(f"section:{section}")
    if attempt is None:
        return "no"
    return "yes" if attempt == atlas.snapshot.sections[section].attempt else "replaced"


def _missing(
    atlas: Atlas, saved: SavedRun, sections: Sequence[str], output: Output
) -> tuple[dict[str, int], int]:
    """Count the genes of a run that each section lacks; warn where that is most of them."""
    from ..models.genes.plan import FeaturePlan, locate_genes

    plan = FeaturePlan.from_dict(saved.config["features"])
    missing = {
        name: int((~locate_genes(atlas.section(name), plan).present[plan.chosen]).sum())
        for name in sections
    }
    most = [name for name, count in missing.items() if 2 * count > plan.n_genes]
    if most:
        worst = max(most, key=missing.__getitem__)
        output.note(
            f"warning: {len(most)} sections lack more than half of the run's genes ({worst}: "
            f"{missing[worst]} of {plan.n_genes}); their embedding rests on the others alone"
        )
    return missing, plan.n_genes


def _facts(entry: DerivedEntry) -> dict[str, Any]:
    """Tell what was written for a section."""
    return {
        "dims": entry.info.get("n_dims"),
        "bytes": entry.nbytes,
    }
