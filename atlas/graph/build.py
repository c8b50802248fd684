"""Building graphs: blocks as tasks, sections as attempts, groups of sections as commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import InvalidArgument
from ..memory import parse_bytes
from ..snapshot import Change, DerivedEntry
from .layout import GRAPH_FORMAT, BlockReceipt, seal_graph, write_block
from .workers import Workers, open_workers

if TYPE_CHECKING:
    from distributed import Client

    from ..attempt import Attempt
    from ..quadtree import Runs
    from ..store import AtlasStore
    from .edges import EdgeSource
    from .section_graph import SectionGraph

__all__ = ["GraphProgress", "write_graphs"]

type GraphProgress = Callable[[str, int, int], None]
"""Called with a sentence, tasks done and tasks in all; from the driver's thread or a worker's."""

# A commit is one object of the catalog: groups keep it rare, and bound what a crash throws away.
_GROUP_BLOCKS = 256
_GROUP_SECTIONS = 64


def write_graphs(
    store: AtlasStore,
    graphs: Sequence[SectionGraph],
    key: str,
    *,
    client: Client | str | None = None,
    memory_limit: str | int | None = None,
    overwrite: bool = False,
    progress: GraphProgress | None = None,
) -> list[DerivedEntry]:
    """Build and commit lazy graphs; see `build_graphs`."""
    store.require_writing("a graph")
    limit = parse_bytes(memory_limit)
    done = {graph.plan.section: entry for graph in graphs if (entry := _committed(graph, key))}
    missing = [graph for graph in graphs if graph.plan.section not in done]
    if not overwrite:
        _refuse_replacing(store, missing, key)
    for graph in missing:
        # Before the first is built: a section without a lattice should not show up hours later.
        graph.check()
    report = _Report(progress, sum(graph.plan.n_tasks for graph in missing))
    with open_workers(
        client, max((graph.plan.task_bytes for graph in missing), default=0), limit
    ) as workers:
        for group in _groups(missing):
            with ExitStack() as stack:
                entries = _build_group(group, key, workers, stack, report)
                plural = "s" if len(entries) > 1 else ""
                store.commit(
                    Change(add_derived=entries),
                    f"graph {key!r} of {len(entries)} section{plural}",
                )
            done.update((entry.section, entry) for entry in entries)
    return [done[graph.plan.section] for graph in graphs]


def _committed(graph: SectionGraph, key: str) -> DerivedEntry | None:
    """Entry of a graph that is there already and equal to the one wanted."""
    plan = graph.plan
    entry = graph.store.snapshot.derived.get(f"graph/{key}/{plan.section}")
    if entry is None or dict(entry.inputs) != _inputs(graph):
        return None
    same = entry.info.get("kind") == plan.kind and entry.info.get("parameters") == plan.parameters
    return entry if same else None


def _refuse_replacing(store: AtlasStore, graphs: Sequence[SectionGraph], key: str) -> None:
    """Refuse to replace good graphs unasked: labels that hang on them would become stale."""
    for graph in graphs:
        section = graph.plan.section
        entry = store.snapshot.derived.get(f"graph/{key}/{section}")
        if entry is None or dict(entry.inputs) != _inputs(graph):
            continue
        hanging = sorted(
            other.name for other in store.snapshot.derived.values() if entry.name in other.inputs
        )
        cost = f", which would make {', '.join(hanging[:3])} stale" if hanging else ""
        raise InvalidArgument(
            f"a new name is wanted for this graph, but section {section!r} has a graph {key!r} "
            f"built with {entry.info.get('kind')} {dict(entry.info.get('parameters', {}))}; "
            f"give another key_added, or overwrite it{cost}"
        )


def _inputs(graph: SectionGraph) -> dict[str, str]:
    return {f"section:{graph.plan.section}": graph.section.attempt}


def _groups(graphs: Sequence[SectionGraph]) -> Iterator[list[SectionGraph]]:
    """Consecutive sections that are built together and committed at once."""
    group: list[SectionGraph] = []
    blocks = 0
    for graph in graphs:
        size = len(graph.plan.blocks)
        if group and (blocks + size > _GROUP_BLOCKS or len(group) == _GROUP_SECTIONS):
            yield group
            group, blocks = [], 0
        group.append(graph)
        blocks += size
    if group:
        yield group


class _Report:
    """Counts finished tasks for the caller; called from one thread at a time."""

    def __init__(self, progress: GraphProgress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def step(self, message: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(message, min(self._done, self._total), self._total)


@dataclass(frozen=True, slots=True)
class _BlockTask:
    """One block to build, as a value: opened on arrival, returns a receipt."""

    source: EdgeSource
    folder: str
    section: str
    block: int
    rows: tuple[int, int]

    def __call__(self) -> tuple[str, BlockReceipt]:
        try:
            edges = self.source.edges([self.rows])
            return self.section, write_block(Path(self.folder), self.block, edges)
        except Exception as error:
            error.add_note(f"while building block {self.block} of section {self.section!r}")
            raise


def _call(task: Callable[[], Any]) -> Any:
    return task()


def _build_group(
    group: Sequence[SectionGraph],
    key: str,
    workers: Workers,
    stack: ExitStack,
    report: _Report,
) -> list[DerivedEntry]:
    """Build some sections, all their blocks side by side; nothing is committed."""
    if workers.client is not None and group[0].store.storage.local_path() is None:
        return _build_on_cluster(group, key, workers, report)
    attempts: dict[str, Attempt] = {}
    ready: dict[str, SectionGraph] = {}
    tasks: list[_BlockTask] = []
    for graph in group:
        name = graph.plan.section
        attempts[name] = stack.enter_context(graph.store.new_attempt(f"derived/graph/{key}/{name}"))
        ready[name] = _prepare(graph, workers, report)
        tasks.extend(_block_tasks(ready[name], attempts[name].path))
    nnz = dict.fromkeys(ready, 0)
    for name, receipt in workers.run(_call, tasks):
        nnz[name] += receipt.nnz
        report.step(f"graph of {name}")
    return [_seal(ready[name], key, attempts[name], nnz[name]) for name in ready]


def _block_tasks(graph: SectionGraph, folder: Path) -> list[_BlockTask]:
    ptr = graph.plan.row_ptr
    return [
        _BlockTask(graph.source, str(folder), graph.plan.section, block, rows)
        for block, rows in enumerate(pairwise(ptr))
    ]


def _prepare(graph: SectionGraph, workers: Workers, report: _Report) -> SectionGraph:
    def run(function: Callable[[Runs], object], blocks: Sequence[Runs]) -> Iterable[object]:
        for result in workers.run(function, blocks):
            report.step(f"lattice of {graph.plan.section}")
            yield result

    return graph.prepare(run)


def _seal(graph: SectionGraph, key: str, attempt: Attempt, nnz: int) -> DerivedEntry:
    """Write attributes and provenance, seal the attempt and describe it for the snapshot."""
    from importlib.metadata import version

    plan = graph.plan
    unit = "micrometers" if graph.section.um_per_unit is not None else "source_units"
    facts = dict(plan.facts)
    attributes = {
        "format": GRAPH_FORMAT,
        "kind": plan.kind,
        "parameters": dict(plan.parameters),
        "facts": facts,
        "distance_unit": "rings" if plan.kind == "grid" else unit,
        "n_obs": plan.n_obs,
        "nnz": nnz,
        "row_ptr": list(plan.row_ptr),
    }
    provenance = {
        "tool": "tisseract",
        "version": version("tisseract"),
        "snapshot": graph.store.version,
        "inputs": _inputs(graph),
        "kind": "graph",
        "parameters": {"kind": plan.kind, **plan.parameters},
        "seed": None,
        "run": None,
    }
    seal_graph(attempt.path, attributes, provenance)
    receipt = attempt.seal()
    return DerivedEntry(
        kind="graph",
        key=key,
        section=plan.section,
        attempt=receipt.attempt,
        digest=receipt.digest,
        nbytes=receipt.nbytes,
        inputs=_inputs(graph),
        info={
            "kind": plan.kind,
            "parameters": dict(plan.parameters),
            "facts": facts,
            "n_obs": plan.n_obs,
            "nnz": nnz,
        },
    )


@dataclass(frozen=True, slots=True)
class _SectionTask:
    """One whole section to build on a worker whose disk the driver does not see."""

    graph: SectionGraph
    key: str

    def __call__(self) -> DerivedEntry:
        graph = self.graph.prepare()
        name = graph.plan.section
        with graph.store.new_attempt(f"derived/graph/{self.key}/{name}") as attempt:
            receipts = [task() for task in _block_tasks(graph, attempt.path)]
            return _seal(graph, self.key, attempt, sum(receipt.nnz for _, receipt in receipts))


def _build_on_cluster(
    group: Sequence[SectionGraph],
    key: str,
    workers: Workers,
    report: _Report,
) -> list[DerivedEntry]:
    """Build for a bucket from a cluster: each worker stages and uploads whole sections."""
    tasks = [_SectionTask(graph, key) for graph in group]
    entries: list[DerivedEntry] = []
    for entry in cast("Iterator[DerivedEntry]", workers.run(_call, tasks)):
        entries.append(entry)
        report.step(f"graph of {entry.section}")
    return entries
