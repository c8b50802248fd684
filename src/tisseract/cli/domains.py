"""The command `domains`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .answers import table_target
from .domain_table import By, Markers, Table, cells_of, tell
from .errors import UsageError, command
from .intent import (
    N_NEIGHS,
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
    DryRun,
    GraphKey,
    Json,
    MemoryLimit,
    Overwrite,
    Quiet,
    RunJson,
    Sections,
    Seed,
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
    import pandas as pd

    from ..handle import Atlas
    from ..query import DomainView
    from .progress import Reporter

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("domains")(domains)


@dataclass(frozen=True, slots=True)
class _Job:
    """Domains as asked for."""

    method: Literal["plain", "gnn", "expression"]
    n_domains: int | Literal["auto"]
    key: str
    sections: list[str] | None
    resolutions: tuple[int, ...]
    run: str | None
    graph: str | None
    n_neighs: int | None
    seed: int
    where: str | None
    all_cells: bool
    refine: bool
    memory_limit: str | None
    overwrite: bool

    def __post_init__(self) -> None:
        cells_asked(self.where, all_cells=self.all_cells)

    @property
    def keys(self) -> list[str]:
        """Names of all labels that are made."""
        return [self.key, *(f"{self.key}_{number}" for number in self.resolutions)]

    def refuse_by(self, by: str) -> None:
        """Refuse to describe labels by themselves."""
        if by == "domain" or by.removeprefix("domains:") in self.keys:
            raise UsageError(f"--by wants labels that are there already, but got {by!r}")


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
    resolutions: Annotated[
        str | None,
        typer.Option(
            metavar="K[,K]", help="Also coarser labels NAME_K, each a union of finer domains."
        ),
    ] = None,
    seed: Seed = 0,
    run: Annotated[
        str | None,
        typer.Option("--run", help="Trained run to use; default: the only one, else train now."),
    ] = None,
    where: Where = None,
    all_cells: AllCells = False,
    refine: Annotated[
        bool, typer.Option("--refine/--no-refine", help="Let neighbors vote on each label.")
    ] = True,
    graph: GraphKey = None,
    n_neighs: Annotated[
        int | None, typer.Option(min=1, help="Neighbors of a graph that is made on the way (6).")
    ] = None,
    by: By = None,
    markers: Markers = 3,
    target: Table = None,
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
    """Label every cell of every section with a spatial domain; commit the labels; tell of them."""
    if method == "gnn":
        needs_torch("--method gnn", dry_run=dry_run)
    output = Output(json, quiet, verbose)
    job = _Job(
        method=method,
        n_domains=_number(n_domains),
        key=key_added,
        sections=section,
        resolutions=_levels(resolutions),
        run=run,
        graph=graph,
        n_neighs=n_neighs,
        seed=seed,
        where=where,
        all_cells=all_cells,
        refine=refine,
        memory_limit=memory_limit,
        overwrite=overwrite,
    )
    file = table_target(target, (".csv",), overwrite=overwrite)
    record = Run("domains", asdict(job))
    with reporter(f"domains {atlas} ({method})", quiet=quiet) as progress:
        opened = open_atlas(atlas, storage_option, read_only=dry_run)
        if by is not None:
            _check_by(opened, job, by)
        trained = _checked(opened, job, output, dry_run=dry_run)
        if dry_run:
            return
        _find(opened, job, trained, progress)
        view = opened.domains(key_added)
        table = _table(view, by, markers, job, output)
    rows = [] if table is None else tell(output, table, cells_of(view), file)
    parameters = view.provenance["parameters"]
    choice = parameters.get("n_domains_choice")
    if choice is not None:
        output.note(_chosen(len(view.names), choice))
    results = {
        "run": trained,
        "n_domains": len(view.names),
        **({} if choice is None else {"n_domains_choice": choice}),
        "keys": job.keys,
        "snapshot": opened.version,
        "graph": parameters.get("graph"),
        "domains": rows,
    }
    record.write(atlas, run_json, output, results=results)


def _checked(atlas: Atlas, job: _Job, output: Output, *, dry_run: bool) -> str | None:
    """Refuse what finding domains would refuse; return the run that will be used."""
    from ..model_choices import default_graph, trained_run
    from ..models.domains.find import refuse_taken

    wanted = job.sections or atlas.section_names
    for key in job.keys:
        if not job.overwrite:
            refuse_existing("labels", key, atlas.derived_keys("domains"))
    if job.run is not None and job.run not in atlas.snapshot.runs:
        known = ", ".join(sorted(atlas.snapshot.runs)) or "none"
        raise UsageError(f"--run wants a run of this atlas ({known}), but got {job.run!r}")
    trained = trained_run(atlas, job.run) if job.method == "gnn" else job.run
    graph, n_neighs = default_graph(atlas, job.graph, wanted), job.n_neighs or N_NEIGHS
    if trained is not None and job.graph is None:
        graph, n_neighs = _graph_of(atlas, trained)
    tell_unused(output, job.n_neighs, graph, n_neighs)
    cells = sum(atlas.section(name).n_obs for name in wanted)
    if job.n_domains != "auto" and job.n_domains > cells:
        raise UsageError(f"--n-domains wants at most the {cells:,} cells, but got {job.n_domains}")
    refuse_taken(atlas, job.keys, wanted, run=trained, overwrite=job.overwrite)
    # a trained run brings its own genes
    shared = fitting_genes(atlas, wanted, graph, output) if trained is None else None
    if dry_run:
        refuse_no_cells(atlas, job.where, wanted, named=bool(job.sections))
        print_intent(output, atlas, wanted, graph_words(graph, n_neighs), shared)
    return trained


def _graph_of(atlas: Atlas, run: str) -> tuple[str | None, int]:
    """Return the stored graph that a run was trained with, None if none, and its neighbors."""
    from ..models.runs import load_run

    parameters = load_run(atlas, run).config["parameters"]
    key = parameters.get("graph_key")
    return None if key is None else str(key), int(parameters.get("n_neighs") or N_NEIGHS)


def _find(atlas: Atlas, job: _Job, run: str | None, progress: Reporter) -> None:
    atlas.find_domains(
        job.method,
        n_domains=job.n_domains,
        key_added=job.key,
        sections=job.sections,
        seed=job.seed,
        resolutions=job.resolutions,
        run=run,
        graph_key=job.graph,
        n_neighs=job.n_neighs or N_NEIGHS,
        refine=job.refine,
        overwrite=job.overwrite,
        memory_limit=job.memory_limit,
        progress=progress,
        **cells_asked(job.where, all_cells=job.all_cells),
    )


def _table(
    view: DomainView, by: str | None, markers: int, job: _Job, output: Output
) -> pd.DataFrame | None:
    """Describe the labels; they are committed by now, so what does not fit is only told."""
    from ..atlas.errors import TisseractError

    try:
        return view.table(by, markers=markers, memory_limit=job.memory_limit)
    except TisseractError as error:
        output.note(f"note: the labels are committed, but their table cannot be made: {error}")
        return None


def _chosen(number: int, choice: Mapping[str, Any]) -> str:
    """Say which number was chosen, and how stable the labels of each were.

    Examples
    --------
    >>> curve = {"numbers": [2, 3], "stability": [0.91, 0.8], "spread": [0.1, 0.02]}
    >>> print(_chosen(2, {"candidates": [2], "n_runs": 3, **curve}))
    chosen: 2 domains, by the stability of their labels over 3 runs (1 is alike every time)
      domains    2    3
      stability  0.91 0.80
      spread     0.10 0.02
    """
    about = ", ".join(str(other) for other in choice["candidates"] if other != number)
    head = (
        f"chosen: {number} domains, by the stability of their labels over {choice['n_runs']} runs "
        f"(1 is alike every time){f'; about as stable: {about}' if about else ''}"
    )
    tried = "  domains    " + " ".join(f"{value:<4}" for value in choice["numbers"]).rstrip()
    curves = [
        f"  {name:<11}" + " ".join(f"{value:.2f}" for value in choice[name])
        for name in ("stability", "spread")
    ]
    return "\n".join([head, tried, *curves])


def _check_by(atlas: Atlas, job: _Job, by: str) -> None:
    """Refuse a column that the table cannot show before anything is computed."""
    from ..query.cells.verbs import select
    from ..query.filters.columns import Columns
    from ..query.labels.table import check_groups, check_labels, check_values

    job.refuse_by(by)
    check_labels(Columns(atlas), by)
    chosen = select(atlas, job.where, section=job.sections or atlas.section_names)
    counts = chosen.aggregate([by], "count").reset_index()
    check_values(counts[by])
    check_groups(by, len(counts))


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


def _levels(text: str | None) -> tuple[int, ...]:
    """Read the coarser numbers of domains.

    Raises
    ------
    UsageError
        They are not whole numbers above 0.

    Examples
    --------
    >>> _levels("8, 4"), _levels(None)
    ((8, 4), ())
    """
    parts = [] if text is None else [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--resolutions wants numbers of 1 or more, as 4,8, but got {text!r}")
    return tuple(dict.fromkeys(int(part) for part in parts))
