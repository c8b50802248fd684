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
_FEW_GENES = 100

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
        shared = fitting_genes(opened, wanted, graph, output)
        if dry_run:
            _print_intent(output, opened, wanted, graph or _on_the_way(n_neighs), shared)
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
        "graph": graph or _on_the_way(n_neighs),
        "snapshot": opened.version,
        "sections": [entry.section for entry in entries],
        "bytes": sum(entry.nbytes for entry in entries),
    }
    text = f"run {key_added}: embedded {len(entries)} sections; snapshot {opened.version}"
    output.summary(facts, text=text)
    record.write(atlas, run_json, output, results=facts)


@command
def domains(
    atlas: AtlasArgument,
    *,
    n_domains: Annotated[
        str,
        typer.Option(
            "--n-domains",
            metavar="K|auto",
            help="Domains wanted; auto: the number, 2 to 20, whose labels are stable.",
        ),
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
    number = _number(n_domains)
    inputs = {"method": method, "n_domains": number, "key_added": key_added, "seed": seed}
    record = Run("domains", inputs)
    from ..atlas.rebase import refuse_mixed

    with reporter(f"domains {atlas} ({method})", quiet=quiet) as progress:
        opened = open_atlas(atlas, storage_option, read_only=dry_run)
        wanted = section or opened.section_names
        if not overwrite:
            _refuse_existing("labels", key_added, opened.derived_keys("domains"))
        graph = find_graph(opened, graph_key, wanted)
        trained = find_run(opened, run) if method == "gnn" else run
        if trained is not None and trained not in opened.snapshot.runs:
            known = ", ".join(sorted(opened.snapshot.runs)) or "none"
            raise UsageError(f"--run wants a run of this atlas ({known}), but got {trained!r}")
        cells = sum(opened.section(name).n_obs for name in wanted)
        if number != "auto" and number > cells:
            raise UsageError(f"--n-domains wants at most the {cells:,} cells, but got {number}")
        labeled = opened.snapshot.runs_of("domains", key_added)
        others = [name for name in labeled if name not in wanted]
        refuse_mixed("domains", key_added, ", ".join(wanted[:3]), others)
        # a trained run brings its own genes
        shared = fitting_genes(opened, wanted, graph, output) if trained is None else None
        if dry_run:
            _print_intent(output, opened, wanted, graph or _on_the_way(n_neighs), shared)
            return
        table = opened.find_domains(
            method,
            n_domains=number,
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
    if json or not quiet:
        output.rows(rows, ["domain", *map(str, table.columns)])
    results = {
        "run": trained,
        "n_domains": len(rows),
        "snapshot": opened.version,
        "cells_per_domain": rows,
    }
    record.write(atlas, run_json, output, results=results)


def _number(text: str) -> int | Literal["auto"]:
    """Read the number of domains.

    Raises
    ------
    UsageError
        It is neither a whole number above 0 nor `auto`.
    """
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--n-domains wants a number of 1 or more, or auto, but got {text!r}")
    return int(text)


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


def fitting_genes(atlas: Atlas, sections: Sequence[str], graph: str | None, output: Output) -> int:
    """Count the genes that all sections share, and warn where they hardly fit together.

    Raises
    ------
    InvalidArgument
        If they share too few to work with.
    NotInAtlas, StaleDerived
        If a section or its graph is not there.
    """
    from ..models.genes.plan import common_genes

    for name in sections if graph is not None else ():
        atlas.derived("graph", str(graph), name)
    opened = [atlas.section(name) for name in sections]
    if not opened:
        raise UsageError("sections to work on are wanted, but the atlas has none; ingest some")
    shared = len(common_genes(opened)[1])
    holds: dict[str, list[str]] = {}
    for section in opened:
        holds.setdefault(section.values, []).append(section.name)
    if len(holds) > 1:
        listed = "; ".join(f"{values}: {', '.join(names[:3])}" for values, names in holds.items())
        output.note(
            f"warning: the sections hold different values ({listed}); domains may follow them "
            "instead of the tissue: choose sections of one kind with --section"
        )
    most = max(section.n_vars for section in opened)
    if shared < min(_FEW_GENES, most / 2):
        output.note(
            f"warning: the sections share only {shared} genes, of up to {most:,} in one; domains "
            "rest on these alone: choose sections of one panel with --section"
        )
    return shared


def _on_the_way(n_neighs: int) -> str:
    return f"{n_neighs} nearest, on the way"


def _print_intent(
    output: Output, atlas: Atlas, sections: Sequence[str], graph: str, shared: int | None
) -> None:
    rows = [
        {
            "section": name,
            "n_obs": atlas.section(name).n_obs,
            "values": atlas.section(name).values,
            "shared_genes": shared,
            "graph": graph,
        }
        for name in sections
    ]
    output.rows(rows, ["section", "n_obs", "values", "shared_genes", "graph"])
