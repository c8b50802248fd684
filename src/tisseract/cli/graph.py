"""Commands on neighborhood graphs: `graph`, `graph-stats`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from .errors import UsageError, command
from .options import (
    AtlasArgument,
    Dask,
    DryRun,
    Json,
    MemoryLimit,
    Overwrite,
    Quiet,
    RunJson,
    Sections,
    StorageOptions,
    Verbose,
    Workers,
)
from .output import Output
from .progress import reporter
from .record import Run
from .session import dask_client, open_atlas

if TYPE_CHECKING:
    from ..atlas.graph import GraphPlan

__all__ = ["register"]

_LATTICES = ("hex", "square", "auto")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("graph", cls=_GraphCommand)(graph)


class _GraphCommand(TyperCommand):
    """Lets ``--grid`` stand alone and ``--radius`` take two lengths."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spell_out(args))


def spell_out(arguments: list[str]) -> list[str]:
    """Give every option of `graph` exactly one value.

    Examples
    --------
    >>> spell_out(["A", "--grid", "--radius", "10", "30"])
    ['A', '--grid', 'auto', '--radius', '10:30']
    >>> spell_out(["A", "--radius=10", "30"])
    ['A', '--radius=10:30']
    """
    spelled: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        spelled.append(word)
        pair = word.startswith("--radius=") and _is_number(word.partition("=")[2])
        if pair and len(rest) > 0 and _is_number(rest[0]):
            spelled[-1] = f"{word}:{rest.pop(0)}"
        elif word == "--grid" and not _lattice_follows(spelled, rest):
            spelled.append("auto")
        elif word == "--radius" and len(rest) > 1 and all(map(_is_number, rest[:2])):
            spelled.append(f"{rest.pop(0)}:{rest.pop(0)}")
    return spelled


def _lattice_follows(before: list[str], rest: list[str]) -> bool:
    """Tell whether the next word belongs to ``--grid``; behind ATLAS, it does even if unknown."""
    if not rest or rest[0].startswith("-"):
        return False
    return rest[0] in _LATTICES or not before[0].startswith("-")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def lengths(text: str) -> float | tuple[float, float]:
    """Read one length, or two with a colon between them.

    Raises
    ------
    UsageError
        If there are no such numbers.

    Examples
    --------
    >>> lengths("30"), lengths("10:30")
    (30.0, (10.0, 30.0))
    """
    parts = text.split(":")
    if len(parts) > 2 or not all(map(_is_number, parts)):
        raise UsageError(
            f"--radius wants a length, or the shortest and the longest (10:30), but got {text!r}"
        )
    values = sorted(float(part) for part in parts)
    if not (values[0] >= 0 and 0 < values[-1] < float("inf")) or len(set(values)) < len(values):
        raise UsageError(
            f"--radius wants a finite length above 0, or two that differ, but got {text!r}"
        )
    return values[0] if len(values) == 1 else (values[0], values[1])


@command
def graph(
    atlas: AtlasArgument,
    *,
    knn: Annotated[
        int | None,
        typer.Option("--knn", min=1, metavar="K", help="K nearest neighbors (6)."),
    ] = None,
    radius: Annotated[
        str | None,
        typer.Option(
            "--radius",
            metavar="LENGTH[:LENGTH]",
            help="All cells up to this distance (micrometers), or between two. With --knn: the "
            "nearest of these; with --delaunay: its edges of such lengths.",
        ),
    ] = None,
    units: Annotated[
        Literal["um", "source"],
        typer.Option(help="Of --radius; 'source' for sections whose unit is unknown."),
    ] = "um",
    delaunay: Annotated[
        bool, typer.Option("--delaunay", help="Edges of the Delaunay triangulation.")
    ] = False,
    grid: Annotated[
        Literal["hex", "square", "auto"] | None,
        typer.Option("--grid", help="Neighbors on the lattice of spots or bins; alone: auto."),
    ] = None,
    n_rings: Annotated[
        int | None, typer.Option(min=1, help="Rings of neighbors on a lattice (1).")
    ] = None,
    percentile: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Leave out edges longer than this percentile of all."),
    ] = None,
    symmetrize: Annotated[
        bool, typer.Option("--symmetrize", help="Neighbors of each other where one chose.")
    ] = False,
    set_diag: Annotated[
        bool, typer.Option("--set-diag", help="Ones on the diagonal, in squidpy's form.")
    ] = False,
    transform: Annotated[
        Literal["spectral", "cosine"] | None,
        typer.Option(help="Of the connectivities, in squidpy's form."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="FILTER", help='Only these cells take part: "qc_pass and n > 9".'),
    ] = None,
    z: Annotated[
        bool,
        typer.Option(
            "--z", help="Between registered serial sections (z_um) instead, with --knn or --radius."
        ),
    ] = False,
    max_gap_um: Annotated[
        float | None,
        typer.Option("--max-gap", metavar="UM", help="With --z: no farther apart."),
    ] = None,
    key_added: Annotated[
        str | None, typer.Option(help="Name of the graph; default: spatial, or z with --z.")
    ] = None,
    section: Sections = None,
    memory_limit: MemoryLimit = None,
    n_workers: Workers = None,
    dask: Dask = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    storage_option: StorageOptions = None,
    run_json: RunJson = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Build the neighbor graph of every section, exactly, tile by tile."""
    output = Output(json, quiet, verbose)
    if key_added is None:
        key_added = "z" if z else "spatial"
    from ..atlas.keys import check_name

    check_name(key_added, "graph")
    chosen: dict[str, Any] = {
        "n_neighs": knn,
        "radius": None if radius is None else lengths(radius),
        "lattice": grid,
        "n_rings": n_rings,
        "percentile": percentile,
        "symmetrize": symmetrize or None,
        "transform": transform,
        "set_diag": set_diag or None,
    }
    kind = choose_kind(chosen, delaunay=delaunay)
    given = {name: value for name, value in chosen.items() if value is not None}
    if z:
        _check_z(kind, {**given, "where": where, "units": None if units == "um" else units})
    elif max_gap_um is not None:
        raise UsageError("--max-gap belongs to --z: give both or none")
    run = Run("graph", {"kind": kind, **given, "where": where, "key_added": key_added, "z": z})
    with reporter(f"graph {atlas}", quiet=quiet) as progress:
        opened = open_atlas(atlas, storage_option, read_only=dry_run)
        _tell_small(output, opened, section, knn)
        described: Any
        if z:
            described = opened.z_neighbors(
                **_needed(kind, given), sections=section, max_gap_um=max_gap_um
            )
            _tell_unnamed(output, opened, section)
        else:
            described = getattr(opened, kind)(section, **given, **_units(given, units), where=where)
        if dry_run:
            _explain(output, described, key_added, overwrite=overwrite)
            return
        before = {entry.attempt for entry in opened.snapshot.derived.values()}
        with dask_client(dask, output, n_workers=n_workers) as client:
            entries = described.write(
                key_added,
                overwrite=overwrite,
                client=client,
                memory_limit=memory_limit,
                progress=progress,
            )
    rows = [graph_row(entry, kept=entry.attempt in before) for entry in entries]
    _tell_isolated(output, rows)
    if json or not quiet:
        output.rows(rows, ["section", "graph", "kind", "edges", "bytes", "state"])
    run.write(atlas, run_json, output, results={"snapshot": opened.version, "graphs": rows})


def choose_kind(chosen: dict[str, Any], *, delaunay: bool) -> str:
    """Tell the kind of graph from the options given.

    Raises
    ------
    UsageError
        Options of two kinds.

    Examples
    --------
    >>> choose_kind({"n_neighs": 10, "radius": 30.0}, delaunay=False)
    'knn'
    """
    kinds = {
        "--knn": chosen.get("n_neighs") is not None,
        "--delaunay": delaunay,
        "--grid": chosen.get("lattice") is not None,
    }
    asked = [option for option, given in kinds.items() if given]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} are different kinds of graph: give one")
    kind = asked[0].lstrip("-") if asked else ""
    if not kind:
        kind = "radius" if chosen.get("radius") is not None else "knn"
    if kind == "grid":
        for name in ("radius", "percentile"):
            if chosen.get(name) is not None:
                raise UsageError(f"--{name} is about lengths, which --grid does not have: drop one")
    elif chosen.get("n_rings") is not None:
        raise UsageError("--n-rings belongs to --grid: give both or none")
    return kind


def _check_z(kind: str, given: dict[str, Any]) -> None:
    """Refuse what there is not between sections."""
    known = {"n_neighs", "radius"}
    others = [name for name, value in given.items() if value is not None and name not in known]
    both = kind == "knn" and given.get("radius") is not None
    if kind not in ("knn", "radius") or others or both or isinstance(given.get("radius"), tuple):
        raise UsageError("--z goes with --knn K or with --radius LENGTH, and nothing else")


def _needed(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    if kind == "radius":
        return {"radius": given["radius"]}
    return {"n_neighs": given.get("n_neighs", 6)}


def _units(given: dict[str, Any], units: str) -> dict[str, str]:
    """Pass units on where there are lengths.

    Raises
    ------
    UsageError
        There are none.
    """
    if units == "um":
        return {}
    if given.get("radius") is None:
        raise UsageError("--units belongs to --radius: give both or none")
    return {"units": units}


def _tell_unnamed(output: Output, atlas: Any, section: Sequence[str] | None) -> None:
    """Note which sections are a series only because they were named."""
    lone = [
        name
        for name in section or ()
        if not any(
            atlas.section(name).entry.metadata.get(column) for column in ("donor", "specimen")
        )
    ]
    if lone:
        output.note(
            f"note: {', '.join(lone[:5])}{' and others' if len(lone) > 5 else ''}: no donor or "
            "specimen in the sample sheet; taken for one series because named"
        )


def _tell_isolated(output: Output, rows: Sequence[dict[str, Any]]) -> None:
    """Note in which sections no cell has a neighbor."""
    alone = [row["section"] for row in rows if not row["edges"]]
    if alone:
        output.note(
            f"note: no cell has a neighbor in {', '.join(alone[:5])}"
            f"{f' and {len(alone) - 5} others' if len(alone) > 5 else ''}; the distances there are "
            "longer than asked for: see --dry-run for their unit"
        )


def _tell_small(output: Output, atlas: Any, section: list[str] | None, knn: int | None) -> None:
    """Note which sections have fewer cells than neighbors are asked for."""
    sizes = {name: atlas.section(name).n_obs for name in section or atlas.section_names}
    small = [f"{name} ({n:,} cells)" for name, n in sizes.items() if knn and n <= knn]
    if small:
        output.note(
            f"note: --knn {knn} asks for more neighbors than there are in "
            f"{', '.join(small[:5])}; every other cell becomes one"
        )


def _explain(output: Output, described: Any, key: str, *, overwrite: bool) -> None:
    """Print what building would take, blocks with -v; refuse what it would refuse."""
    from ..atlas.graph import NeighborGraph, unbuilt
    from ..atlas.graph.serial.build import unbuilt_pairs

    check: Any = unbuilt if isinstance(described, NeighborGraph) else unbuilt_pairs
    missing = check(described.store, list(described), key, overwrite=overwrite)
    there = len(described) - len(missing)
    if there:
        output.note(f"note: {there} of {len(described)} are there already and would be kept")
    brief = not output.verbose and len(described) > 1
    text = str(getattr(described, "plan", described)) if brief else described.explain()
    output.data([plan_row(one.plan) for one in described], text=text)


def plan_row(plan: GraphPlan) -> dict[str, Any]:
    """Tell what building one graph takes."""
    return {
        "section": plan.section,
        "kind": plan.kind,
        "parameters": dict(plan.parameters),
        "n_obs": plan.n_obs,
        "tiles": plan.n_tiles,
        "tasks": plan.n_tasks,
        "edges": plan.edges,
        "edges_are_at_most": plan.bounded,
        "bytes_read": plan.bytes_read * plan.passes,
        "bytes_written": plan.bytes_written,
        "task_bytes": plan.task_bytes,
        "unit": plan.unit or None,
    }


def graph_row(entry: Any, *, kept: bool = False) -> dict[str, Any]:
    """Tell what `graph` made, or found, for one section."""
    return {
        "section": entry.section,
        "graph": entry.key,
        "kind": entry.info.get("kind"),
        "parameters": dict(entry.info.get("parameters", {})),
        "edges": entry.info.get("nnz"),
        "bytes": entry.nbytes,
        "state": "kept" if kept else "built",
    }
