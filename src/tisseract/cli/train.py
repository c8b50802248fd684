"""The command `train`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .curve import curve_place, draw_curve
from .errors import command
from .intent import (
    fitting_genes,
    graph_words,
    needs_torch,
    print_intent,
    refuse_existing,
    refuse_no_cells,
    tell_unused,
)
from .options import (
    AllCells,
    AtlasArgument,
    Device,
    DryRun,
    GraphKey,
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
from .progress import Reporter, reporter
from .record import Run
from .session import open_atlas
from .train_config import SHARED_SETTINGS, known_settings, merged, read_config

if TYPE_CHECKING:
    from ..handle import Atlas
    from ..models import DomainGNN

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("train")(train)


@dataclass(frozen=True, slots=True)
class _Job:
    """A training as asked for: settings of the run, and where it is kept."""

    settings: dict[str, Any]
    all_cells: bool
    n_neighs_asked: int | None
    checkpoint: Path | None
    resume: bool
    overwrite: bool

    @property
    def key(self) -> str:
        """Name of run and embedding."""
        return str(self.settings["key_added"])

    @property
    def n_neighs(self) -> int:
        """Neighbors of a graph that is made on the way."""
        return int(self.settings["n_neighs"])

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `Atlas.train`."""
        own = ("graph", "where")
        options = {key: value for key, value in self.settings.items() if key not in own}
        options |= cells_asked(self.settings.get("where"), all_cells=self.all_cells)
        kept = {"checkpoint": self.checkpoint, "resume": self.resume, "overwrite": self.overwrite}
        return {**options, "graph_key": self.settings.get("graph"), **kept}


@dataclass(frozen=True, slots=True)
class _Traces:
    """What a training leaves beside the atlas."""

    url: str
    record: Run
    run_json: str | None
    curve: Path | None


@command
def train(
    atlas: AtlasArgument,
    *,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Settings as .yaml, .toml or .json; options win."),
    ] = None,
    key_added: Annotated[
        str | None, typer.Option(help="Name of the run and of the embedding (gnn).")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seeds every random choice (0).")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Batches to learn from.")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="How often each cell is learned from, instead of --steps.")
    ] = None,
    graph: GraphKey = None,
    n_neighs: Annotated[
        int | None, typer.Option(min=1, help="Neighbors of a graph that is made on the way (6).")
    ] = None,
    device: Device = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, float32 or bf16 (on CUDA); embedding: float32.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where this training was cut off.")
    ] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save the training here; default: the user's cache."),
    ] = None,
    curve: Annotated[
        str | None,
        typer.Option(
            metavar="PNG", help="Draw the losses; '-' for none. Default: beside the run.json."
        ),
    ] = None,
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
    """Train the graph network on sampled tiles; embed every cell; commit run and embedding."""
    from ..models.network.ranks import this_rank

    first = this_rank()[0] == 0  # under torchrun, one process speaks and writes
    output = Output(json and first, quiet or not first, verbose)
    given = {
        "key_added": key_added,
        "seed": seed,
        "steps": steps,
        "epochs": epochs,
        "graph": graph,
        "n_neighs": n_neighs,
        "device": device,
        "precision": precision,
        "sections": section,
        "where": where,
        "memory_limit": memory_limit,
    }
    needs_torch("train", dry_run=dry_run and config is None)
    known = SHARED_SETTINGS if config is None else known_settings()
    file = {} if config is None else read_config(config, known)
    job = _Job(
        merged(file, given, known),
        all_cells,
        file.get("n_neighs") if n_neighs is None else n_neighs,
        checkpoint,
        resume,
        overwrite,
    )
    told = {"all_cells": True} if all_cells else {}
    record = Run("train", {"config": config, **job.settings, **told})
    place = curve_place(atlas, curve, run_json, output) if first else None
    traces = _Traces(atlas, record, run_json, place)
    with reporter(f"train {atlas}", quiet=output.quiet) as progress:
        opened = open_atlas(atlas, storage_option, read_only=dry_run)
        if not _checked(opened, job, output, dry_run=dry_run):
            return
        model = _train(opened, job, progress)
    if first:
        _finish(opened, job, model, traces, output)


def _checked(atlas: Atlas, job: _Job, output: Output, *, dry_run: bool) -> bool:
    """Refuse what the training would refuse; tell what it works with. False ends a dry run."""
    from ..model_choices import default_graph

    named = job.settings.get("sections")
    wanted = named or atlas.section_names
    if not job.overwrite:
        refuse_existing("a run", job.key, atlas.snapshot.runs)
        refuse_existing("an embedding", job.key, atlas.derived_keys("embedding"))
    cells_asked(job.settings.get("where"), all_cells=job.all_cells)
    graph = default_graph(atlas, job.settings.get("graph"), wanted)
    shared = fitting_genes(atlas, wanted, graph, output)
    tell_unused(output, job.n_neighs_asked, graph, job.n_neighs)
    if dry_run:
        refuse_no_cells(atlas, job.settings.get("where"), wanted, named=bool(named))
        print_intent(output, atlas, wanted, graph_words(graph, job.n_neighs), shared)
        settings = ", ".join(f"{key}={value}" for key, value in job.settings.items())
        output.note(f"settings: {settings}")
        return False
    if graph is None:
        output.note(
            f"note: without a stored graph, the {job.n_neighs} nearest neighbors are found on the "
            "way; `tisseract graph` stores them"
        )
    _tell_checkpoint(atlas, job, output)
    return True


def _tell_checkpoint(atlas: Atlas, job: _Job, output: Output) -> None:
    """Say what becomes of a checkpoint, or that there is none to go on from."""
    from ..models.network.checkpoint_place import default_checkpoint, saved_steps

    place = job.checkpoint or default_checkpoint(atlas, job.key)
    if job.resume and not place.exists():
        output.note(f"note: no checkpoint at {place}; starting from the beginning")
    elif job.resume:
        steps = saved_steps(place)
        if steps is not None:
            output.note(f"note: going on after step {steps:,}, saved at {place}")
    if not job.resume and place.exists():
        output.note(f"note: starting anew, over the checkpoint {place}; --resume would go on")


def _train(atlas: Atlas, job: _Job, progress: Reporter) -> DomainGNN:
    def stages(stage: str, done: float, total: float) -> None:
        if stage != "train":  # told with its loss by on_step
            progress(stage, done, total)

    return atlas.train(progress=stages, on_step=progress, **job.options)


def _finish(atlas: Atlas, job: _Job, model: DomainGNN, traces: _Traces, output: Output) -> None:
    """Say what was made; draw the curve; leave a record."""
    names: Sequence[str] = model.section_names
    entries = [atlas.derived("embedding", job.key, name) for name in names]
    history, run = model.history, str(entries[0].run)
    place = traces.curve
    drawn = place is not None and draw_curve(history, place, f"run {run}", output)
    loss = history.loss[-1] if history.loss else float("nan")
    facts = {
        "run": run,
        "embedding": job.key,
        "graph": model.graph.facts(atlas, names),
        "snapshot": atlas.version,
        "sections": list(names),
        "cells": sum(atlas.section(name).n_obs for name in names),
        "bytes": sum(entry.nbytes for entry in entries),
        "steps": history.n_steps,
        "loss": loss,
        "cells_per_second": round(history.cells_per_second, 1),
        "curve": str(place) if drawn else None,
    }
    text = (
        f"run {run}: {history.n_steps} steps, loss {loss:.4g}; embedded {len(entries)} sections "
        f"as {job.key}; snapshot {atlas.version}"
    )
    output.summary(facts, text=text)
    results = {**facts, "config": model.parameters(), "history": history.to_dict()}
    traces.record.write(traces.url, traces.run_json, output, results=results)
