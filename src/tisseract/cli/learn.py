"""Commands that learn: `train`, `domains`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .errors import UsageError, command
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

if TYPE_CHECKING:
    from ..handle import Atlas

__all__ = ["register"]

_STORED = "spatial"

GraphKey = Annotated[
    str | None,
    typer.Option(
        "--graph-key",
        help="Stored graph; default 'spatial' if all sections have it, else made on the way.",
    ),
]
Neighbors = Annotated[
    int, typer.Option("--n-neighs", min=1, help="Neighbors of a graph that is made on the way.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("train")(train)
    app.command("domains")(domains)


@command
def train(
    atlas: AtlasArgument,
    *,
    seed: Seed = 0,
    key_added: Annotated[str, typer.Option(help="Name of the run and of the embedding.")] = "gnn",
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps.")] = None,
    graph_key: GraphKey = None,
    n_neighs: Neighbors = 6,
    device: Device = "auto",
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
    """Train the graph network on sampled tiles; embed every cell; commit run and embedding."""
    output = Output(json, quiet, verbose)
    record = Run("train", {"seed": seed, "key_added": key_added, "steps": steps})
    with reporter(f"train {atlas}", quiet=quiet) as progress:
        opened = open_atlas(atlas, storage_option, read_only=dry_run)
        wanted = section or opened.section_names
        if not overwrite:
            _refuse_existing("run", key_added, opened.snapshot.runs)
        graph = find_graph(opened, graph_key, wanted)
        if dry_run:
            output.data(_intent(opened, wanted, graph, n_neighs) | {"run": key_added})
            return
        from ..models import DomainGNN, GraphSource

        options: dict[str, Any] = {} if steps is None else {"steps": steps}
        model = DomainGNN(
            opened,
            sections=section,
            graph=GraphSource(graph, n_neighs),
            memory_limit=memory_limit,
            seed=seed,
            device=device,
            **options,
        )
        model.fit(progress=progress)
        entries = model.embed(key_added, run=key_added, progress=progress)
    facts = {
        "run": key_added,
        "embedding": key_added,
        "graph": graph or f"{n_neighs} nearest, on the way",
        "snapshot": opened.version,
        "sections": [entry.section for entry in entries],
        "bytes": sum(entry.nbytes for entry in entries),
    }
    text = f"run {key_added}: embedded {len(entries)} sections; snapshot {opened.version}"
    output.data(facts, text=text)
    record.write(atlas, run_json, output, results=facts)


@command
def domains(
    atlas: AtlasArgument,
    *,
    n_domains: Annotated[
        int, typer.Option("--n-domains", min=1, metavar="K", help="Domains wanted.")
    ],
    method: Annotated[
        Literal["plain", "gnn", "expression"],
        typer.Option(
            help="plain: means over neighbors; gnn: the trained network; expression: each cell "
            "alone, to compare with."
        ),
    ] = "plain",
    key_added: Annotated[str, typer.Option(help="Name of the labels.")] = "domain",
    seed: Seed = 0,
    run: Annotated[
        str | None,
        typer.Option("--run", help="Trained run to use; default: the only one, else train now."),
    ] = None,
    refine: Annotated[
        bool, typer.Option("--refine", help="Let neighbors vote on each label.")
    ] = False,
    graph_key: GraphKey = None,
    n_neighs: Neighbors = 6,
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
    output = Output(json, quiet, verbose)
    inputs = {"method": method, "n_domains": n_domains, "key_added": key_added, "seed": seed}
    record = Run("domains", inputs)
    with reporter(f"domains {atlas} ({method})", quiet=quiet) as progress:
        opened = open_atlas(atlas, storage_option, read_only=dry_run)
        wanted = section or opened.section_names
        if not overwrite:
            _refuse_existing("labels", key_added, opened.derived_keys("domains"))
        graph = find_graph(opened, graph_key, wanted)
        trained = find_run(opened, run) if method == "gnn" else run
        if dry_run:
            output.data(_intent(opened, wanted, graph, n_neighs) | {"run": trained, **inputs})
            return
        table = opened.find_domains(
            method,
            n_domains=n_domains,
            key_added=key_added,
            sections=section,
            seed=seed,
            run=trained,
            refine=refine,
            graph_key=graph,
            n_neighs=n_neighs,
            memory_limit=memory_limit,
            progress=progress,
        )
    rows = [
        {"domain": str(name), **{str(key): int(value) for key, value in row.items()}}
        for name, row in table.iterrows()
    ]
    output.rows(rows, ["domain", *map(str, table.columns)])
    results = {"run": trained, "snapshot": opened.version, "cells_per_domain": rows}
    record.write(atlas, run_json, output, results=results)


def find_graph(atlas: Atlas, key: str | None, sections: Sequence[str]) -> str | None:
    """Choose a stored graph: the one named, else ``spatial`` if every section has it."""
    if key is not None:
        return key
    return _STORED if set(sections) <= set(atlas.derived_keys("graph").get(_STORED, ())) else None


def find_run(atlas: Atlas, name: str | None) -> str | None:
    """Choose a trained run: the one named, else the only one; None if there is none.

    Raises
    ------
    UsageError
        If several could be meant.
    """
    if name is not None:
        return name
    trained = sorted(key for key, run in atlas.snapshot.runs.items() if run.model == "gnn")
    if len(trained) > 1:
        raise UsageError(f"one trained run is wanted, but got {', '.join(trained)}; give --run")
    return trained[0] if trained else None


def _refuse_existing(what: str, key: str, existing: Any) -> None:
    if key in existing:
        raise UsageError(
            f"a new name is wanted, but got {key!r}, which names {what} of this atlas; pass "
            "--overwrite to replace it, or another --key-added"
        )


def _intent(
    atlas: Atlas, sections: Sequence[str], graph: str | None, n_neighs: int
) -> dict[str, Any]:
    cells = sum(atlas.section(name).n_obs for name in sections)
    used = graph or f"{n_neighs} nearest, on the way"
    return {"sections": list(sections), "cells": cells, "graph": used}
