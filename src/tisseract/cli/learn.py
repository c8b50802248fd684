"""Commands that learn: `train`, `domains`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from .errors import command
from .options import (
    AtlasArgument,
    DryRun,
    Json,
    MemoryLimit,
    Overwrite,
    Quiet,
    RunJson,
    Sections,
    Seed,
    StorageOptions,
    Verbose,
)
from .output import Output
from .progress import reporter
from .record import Run
from .session import open_atlas

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("train")(train)
    app.command("domains")(domains)


@command
def train(
    atlas: AtlasArgument,
    *,
    seed: Seed = 0,
    key_added: Annotated[str, typer.Option(help="Name of the run and of its embedding.")] = "gnn",
    graph_key: Annotated[str, typer.Option(help="Graph to train on.")] = "spatial",
    max_epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the cells.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps or auto.")] = "auto",
    section: Sections = None,
    memory_limit: MemoryLimit = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    storage_option: StorageOptions = None,
    run_json: RunJson = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Train the graph neural network on sampled tiles; embed every cell; commit both."""
    output = Output(json, quiet, verbose)
    run = Run("train", {"seed": seed, "key_added": key_added, "graph_key": graph_key})
    with reporter(f"train {atlas}", quiet=quiet) as progress:
        opened = open_atlas(atlas, storage_option, read_only=dry_run)
        raise NotImplementedError
    run.write(atlas, run_json, output, results={})


@command
def domains(
    atlas: AtlasArgument,
    *,
    n_domains: Annotated[int, typer.Option("--n-domains", min=2, metavar="K")],
    method: Annotated[
        Literal["plain", "gnn", "expression"],
        typer.Option(help="plain: smoothed over neighbors; gnn: trained; expression: no neighbors"),
    ] = "plain",
    key_added: Annotated[str, typer.Option(help="Name of the labels.")] = "domain",
    seed: Seed = 0,
    section: Sections = None,
    memory_limit: MemoryLimit = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    storage_option: StorageOptions = None,
    run_json: RunJson = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Label every cell of every section with a spatial domain; commit the labels."""
    raise NotImplementedError
