"""Building graphs: blocks as tasks, sections as attempts, groups of sections as commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InvalidArgument
from ..keys import check_name
from ..memory import parse_bytes
from ..resumable import ResumableAttempt, open_resumable
from ..snapshot import Change, DerivedEntry
from .block_task import BlockTask, block_tasks, build_plan
from .layout import GRAPH_FORMAT, seal_graph
from .lengths import unit_of
from .workers import Workers, open_workers

if TYPE_CHECKING:
    from distributed import Client

    from ..attempt import Attempt
    from ..parts import PartReceipt
    from ..quadtree import Runs
    from ..store import AtlasStore
    from .section_graph import SectionGraph

__all__ = ["GraphProgress", "unbuilt", "write_graphs"]

type GraphProgress = Callable[[str, int, int], None]
"""Called with a sentence, tasks done and tasks in all; from the driver's thread or a worker's."""

# A commit is one object of the catalog: groups keep it rare, and bound what a crash throws away.
_GROUP_BLOCKS = 256
_GROUP_SECTIONS = 64
_FLUSHES = 8


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
    """Build and commit lazy graphs; see `build_graphs` for the options.

    Nothing is visible to readers before a commit, one for a group of sections. A build that was
    cut off, by an error, by Ctrl-C or by the death of the process, is resumed by running it again:
    sections that were committed are left alone, and of the others, on a disk, the blocks that
    were finished are used, after a comparison with the digests taken when they were written.
    Passes over the whole section (a lattice's scale, percentiles) are made again. Only blocks of
    an equal build are used: the same attempt of the section, parameters, findings, block borders
    and version of this package. A build refused for its parameters leaves nothing; what any other
    leaves is found by gc once it is older than the grace period. Of a build for a bucket nothing
    but committed sections is used again.

    Two builds of one graph at the same time never share an attempt: both are completed, and the
    later commit stands.
    """
    store.require_writing("a graph")
    limit = parse_bytes(memory_limit)
    missing = unbuilt(store, graphs, key, overwrite=overwrite)
    done = {graph.plan.section: entry for graph in graphs if (entry := _committed(graph, key))}
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


def unbuilt(
    store: AtlasStore, graphs: Sequence[SectionGraph], key: str, *, overwrite: bool = False
) -> list[SectionGraph]:
    """Return the graphs that are not there yet, having refused what building would refuse.

    Parameters
    ----------
    store : AtlasStore
        The atlas.
    graphs : sequence of SectionGraph
        The graphs wanted.
    key : str
        Their name.
    overwrite : bool
        Whether graphs of that name that were built otherwise may be replaced.

    Returns
    -------
    list of SectionGraph

    Raises
    ------
    InvalidArgument
        Not a name, such a graph is there, or a section lies on no lattice.
    """
    check_name(key, "graph")
    missing = [graph for graph in graphs if _committed(graph, key) is None]
    if not overwrite:
        _refuse_replacing(store, missing, key)
    for graph in missing:
        # Before the first is built: a section without a lattice should not show up hours later.
        graph.check()
    return missing


def _committed(graph: SectionGraph, key: str) -> DerivedEntry | None:
    """Entry of a graph that is there already and equal to the one wanted."""
    plan = graph.plan
    entry = graph.store.snapshot.derived.get(f"graph/{key}/{plan.section}")
    if entry is None or dict(entry.inputs) != graph.inputs:
        return None
    same = entry.info.get("kind") == plan.kind and entry.info.get("parameters") == plan.parameters
    return entry if same else None


def _refuse_replacing(store: AtlasStore, graphs: Sequence[SectionGraph], key: str) -> None:
    """Refuse to replace good graphs unasked: labels that hang on them would become stale.

    Nor is a stale graph replaced by another kind while other sections hold what it was: one name
    would then mean two things.
    """
    rebuilt = {graph.plan.section for graph in graphs}
    held = [
        entry
        for entry in store.snapshot.derived.values()
        if (entry.kind, entry.key) == ("graph", key) and entry.section not in rebuilt
    ]
    for graph in graphs:
        section = graph.plan.section
        entry = store.snapshot.derived.get(f"graph/{key}/{section}")
        if entry is None:
            continue
        cost = ""
        if dict(entry.inputs) != graph.inputs:
            same = [other.section for other in held if _recipe(other) == _recipe(entry)]
            if not same or _recipe(entry) == (graph.plan.kind, _lasting(graph.plan.parameters)):
                continue
            cost = f"; sections {', '.join(map(repr, same[:3]))} keep theirs"
        hanging = sorted(
            other.name for other in store.snapshot.derived.values() if entry.name in other.inputs
        )
        if hanging and not cost:
            cost = f", which would make {', '.join(hanging[:3])} stale"
        raise InvalidArgument(
            f"a new name is wanted for this graph, but section {section!r} has a graph {key!r} "
            f"built with {entry.info.get('kind')} {dict(entry.info.get('parameters', {}))}; "
            f"give another key_added, or overwrite=True{cost}"
        )


def _recipe(entry: DerivedEntry) -> tuple[object, dict[str, object]]:
    """Kind and parameters of a graph that is there."""
    return entry.info.get("kind"), _lasting(entry.info.get("parameters", {}))


def _lasting(parameters: Mapping[str, Any]) -> dict[str, object]:
    """Parameters without those that differ from section to section."""
    return {name: value for name, value in parameters.items() if name != "mask"}


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

    def found(self, message: str, count: int) -> None:
        """Count tasks that need not be run any more."""
        if count:
            self.step(message, count)

    def step(self, message: str, count: int = 1) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(message, min(self._done, self._total), self._total)


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
    attempts: dict[str, ResumableAttempt] = {}
    ready: dict[str, SectionGraph] = {}
    tasks: list[BlockTask] = []
    for graph in group:
        name = graph.plan.section
        ready[name] = _prepare(graph, workers, report)
        attempts[name] = stack.enter_context(_open_attempt(ready[name], key))
        finished = attempts[name].finished
        tasks.extend(block_tasks(ready[name], attempts[name], finished))
        report.found(f"graph of {name}", len(finished))
    # Closed before the attempts are left: no task of this process may outlive its attempt.
    with closing(workers.run(_call, tasks)) as receipts:
        for name, receipt in receipts:
            attempts[name].record(receipt)
            report.step(f"graph of {name}")
    entries = [
        _seal(graph, key, attempts[name], attempts[name].finished.values())
        for name, graph in ready.items()
    ]
    # Side by side, right before the commit: what a crash between the two cuts off is built again.
    with ThreadPoolExecutor(_FLUSHES) as pool:
        list(pool.map(ResumableAttempt.close_records, attempts.values()))
    return entries


def _open_attempt(graph: SectionGraph, key: str) -> ResumableAttempt:
    """Go on with what a build of the same graph left, or begin afresh."""
    parent = f"derived/graph/{key}/{graph.plan.section}"
    return open_resumable(graph.store.storage, parent, build_plan(graph))


def _prepare(graph: SectionGraph, workers: Workers, report: _Report) -> SectionGraph:
    def run(function: Callable[[Runs], object], blocks: Sequence[Runs]) -> Iterable[object]:
        with closing(workers.run(function, blocks)) as results:
            for result in results:
                report.step(f"lattice of {graph.plan.section}")
                yield result

    return graph.prepare(run)


def _seal(
    graph: SectionGraph, key: str, attempt: Attempt, blocks: Iterable[PartReceipt]
) -> DerivedEntry:
    """Write attributes and provenance, seal the attempt and describe it for the snapshot."""
    from importlib.metadata import version

    nnz = sum(block.facts["nnz"] for block in blocks)
    plan = graph.plan
    facts = dict(plan.facts)
    attributes = {
        "format": GRAPH_FORMAT,
        "kind": plan.kind,
        "parameters": dict(plan.parameters),
        "facts": facts,
        "distance_unit": "rings" if plan.kind == "grid" else unit_of(graph.section.um_per_unit),
        "n_obs": plan.n_obs,
        "nnz": nnz,
        "row_ptr": list(plan.row_ptr),
    }
    provenance = {
        "tool": "tisseract",
        "version": version("tisseract"),
        "snapshot": graph.store.version,
        "inputs": graph.inputs,
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
        inputs=graph.inputs,
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
            blocks = [task()[1] for task in block_tasks(graph, attempt)]
            attempt.known.update((key.key, key) for block in blocks for key in block.files)
            return _seal(graph, self.key, attempt, blocks)


def _build_on_cluster(
    group: Sequence[SectionGraph],
    key: str,
    workers: Workers,
    report: _Report,
) -> list[DerivedEntry]:
    """Build for a bucket from a cluster: each worker stages and uploads whole sections."""
    tasks = [_SectionTask(graph, key) for graph in group]
    entries: list[DerivedEntry] = []
    with closing(workers.run(_call, tasks)) as built:
        for entry in built:
            entries.append(entry)
            report.step(f"graph of {entry.section}")
    return entries
