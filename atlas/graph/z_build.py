"""Building graphs between sections: blocks as tasks, pairs as attempts, groups as commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..errors import InvalidArgument
from ..keys import check_name
from ..memory import parse_bytes
from ..resumable import ResumableAttempt, open_resumable
from ..snapshot import Change, DerivedEntry, derived_name
from .block_task import BlockTask, part_name
from .layout import GRAPH_FORMAT, seal_graph
from .workers import Workers, open_workers
from .z_stored import Z_KIND, z_key

if TYPE_CHECKING:
    from distributed import Client

    from ..attempt import Attempt
    from ..parts import PartReceipt
    from ..store import AtlasStore
    from .build import GraphProgress
    from .z_graph import ZGraph

__all__ = ["unbuilt_pairs", "write_z_graphs"]

# Blocks and pairs that one commit holds at most; see `build`.
_GROUP_BLOCKS = 256
_GROUP_PAIRS = 64


def write_z_graphs(
    store: AtlasStore,
    graphs: Sequence[ZGraph],
    key: str = "z",
    *,
    client: Client | str | None = None,
    memory_limit: str | int | None = None,
    overwrite: bool = False,
    progress: GraphProgress | None = None,
) -> list[DerivedEntry]:
    """Build and commit graphs between sections, out of core.

    Pairs whose graph is there already, with the same parameters and computed from both sections as
    they are now, are left alone; of the others, finished blocks of a build that was cut off are
    used again, as `write_graphs` does.

    Parameters
    ----------
    store : AtlasStore
        Opened for writing.
    graphs : sequence of ZGraph
        See `z_neighbors`.
    key : str
        Name of the graphs.
    client, memory_limit, progress
        See `build_graphs`.
    overwrite : bool
        Replace graphs of the same name that were built otherwise.

    Returns
    -------
    list of DerivedEntry
        One a pair, in order; those found done included.

    Raises
    ------
    InvalidArgument
        A name that a graph with other parameters has; nothing is built then.
    ReadOnly, BudgetExceeded
    """
    store.require_writing("a graph")
    limit = parse_bytes(memory_limit)
    missing = unbuilt_pairs(store, graphs, key, overwrite=overwrite)
    pending = {graph.pair for graph in missing}
    done = {
        graph.pair: entry
        for graph in graphs
        if graph.pair not in pending and (entry := _found(store, graph, key)) is not None
    }
    total, ready = sum(len(graph.plan.blocks) for graph in missing), 0

    def step(message: str, count: int = 1) -> None:
        nonlocal ready
        ready += count
        if progress is not None and count:
            progress(message, ready, total)

    largest = max((graph.plan.task_bytes for graph in missing), default=0)
    with open_workers(client, largest, limit) as workers:
        build = _Build(store, key, workers, step)
        for group in _groups(missing):
            with ExitStack() as stack:
                entries = _build_group(build, group, stack)
                plural = "s" if len(entries) > 1 else ""
                store.commit(
                    Change(add_derived=entries),
                    f"graph {key!r} between {len(entries)} pair{plural} of sections",
                )
            done.update(zip((graph.pair for graph in group), entries, strict=True))
    return [done[graph.pair] for graph in graphs]


def unbuilt_pairs(
    store: AtlasStore, graphs: Sequence[ZGraph], key: str, *, overwrite: bool = False
) -> list[ZGraph]:
    """Return the pairs whose graph is not there yet; see `build.unbuilt`.

    Raises
    ------
    InvalidArgument
        Not a name, or a graph with other parameters is there.
    """
    check_name(key, "graph")
    missing = []
    for graph in graphs:
        entry = _found(store, graph, key)
        if entry is None or not _is_equal(entry, graph):
            missing.append(graph)
    if not overwrite:
        _refuse_replacing(store, missing, key)
    return missing


def _found(store: AtlasStore, graph: ZGraph, key: str) -> DerivedEntry | None:
    """Entry of the graph that has the name, if it was computed from the sections as they are."""
    name = derived_name(Z_KIND, z_key(key, graph.pair.neighbor), graph.pair.section)
    entry = store.snapshot.derived.get(name)
    return entry if entry is not None and dict(entry.inputs) == graph.inputs else None


def _is_equal(entry: DerivedEntry, graph: ZGraph) -> bool:
    """Tell whether a graph was built with the parameters wanted."""
    plan = graph.plan
    return bool(
        entry.info.get("kind") == plan.kind and entry.info.get("parameters") == plan.parameters
    )


def _refuse_replacing(store: AtlasStore, graphs: Sequence[ZGraph], key: str) -> None:
    """Refuse to replace good graphs unasked."""
    for graph in graphs:
        entry = _found(store, graph, key)
        if entry is not None:
            raise InvalidArgument(
                f"a new name is wanted for this graph, but {graph.plan.section} has a graph "
                f"{key!r} built with {entry.info.get('kind')} "
                f"{dict(entry.info.get('parameters', {}))}; give another key_added, or "
                "overwrite=True"
            )


def _groups(graphs: Sequence[ZGraph]) -> Iterator[list[ZGraph]]:
    """Consecutive pairs that are built together and committed at once."""
    group: list[ZGraph] = []
    blocks = 0
    for graph in graphs:
        size = len(graph.plan.blocks)
        if group and (blocks + size > _GROUP_BLOCKS or len(group) == _GROUP_PAIRS):
            yield group
            group, blocks = [], 0
        group.append(graph)
        blocks += size
    if group:
        yield group


def _call(task: Callable[[], Any]) -> Any:
    return task()


@dataclass(frozen=True, slots=True)
class _Build:
    """What all pairs of one build share."""

    store: AtlasStore
    key: str
    workers: Workers
    step: Callable[..., None]


def _build_group(build: _Build, group: Sequence[ZGraph], stack: ExitStack) -> list[DerivedEntry]:
    """Build some pairs, all their blocks side by side; nothing is committed."""
    store, key = build.store, build.key
    if build.workers.client is not None and store.storage.local_path() is None:
        return _build_on_cluster(build, group)
    attempts: dict[str, ResumableAttempt] = {}
    tasks: list[BlockTask] = []
    for graph in group:
        attempt = stack.enter_context(
            open_resumable(store.storage, _parent(graph, key), _build_plan(graph))
        )
        attempts[graph.plan.section] = attempt
        tasks.extend(_block_tasks(graph, attempt, attempt.finished))
        build.step(f"graph of {graph.plan.section}", len(attempt.finished))
    # Closed before the attempts are left: no task of this process may outlive its attempt.
    with closing(build.workers.run(_call, tasks)) as receipts:
        for name, receipt in receipts:
            attempts[name].record(receipt)
            build.step(f"graph of {name}")
    entries = [
        _seal(graph, key, attempts[graph.plan.section], store.version, blocks.values())
        for graph in group
        for blocks in [attempts[graph.plan.section].finished]
    ]
    for attempt in attempts.values():
        attempt.close_records()
    return entries


def _parent(graph: ZGraph, key: str) -> str:
    name = derived_name(Z_KIND, z_key(key, graph.pair.neighbor), graph.pair.section)
    return f"derived/{name}"


def _block_tasks(graph: ZGraph, attempt: Attempt, finished: Iterable[str]) -> list[BlockTask]:
    """Make the tasks of a graph, without those whose parts are finished."""
    (attempt.path / "blocks").mkdir(exist_ok=True)
    done = set(finished)
    return [
        BlockTask(
            graph.source, str(attempt.path), str(attempt.parts), graph.plan.section, block, rows
        )
        for block, rows in enumerate(pairwise(graph.row_ptr))
        if part_name(block) not in done
    ]


def _build_plan(graph: ZGraph) -> dict[str, Any]:
    """Say all that decides what the blocks of a graph hold, as JSON; see `block_task`."""
    return {
        "what": Z_KIND,
        "format": GRAPH_FORMAT,
        "version": version("tisseract"),
        "inputs": dict(graph.inputs),
        "kind": graph.plan.kind,
        "parameters": dict(graph.plan.parameters),
        "row_ptr": list(graph.row_ptr),
    }


def _seal(
    graph: ZGraph, key: str, attempt: Attempt, snapshot: int, blocks: Iterable[PartReceipt]
) -> DerivedEntry:
    """Write attributes and provenance, seal the attempt and describe it for the snapshot."""
    plan = graph.plan
    facts = {
        "kind": plan.kind,
        "parameters": dict(plan.parameters),
        "neighbor": graph.pair.neighbor,
        "n_obs": plan.n_obs,
        "n_columns": graph.n_columns,
        "nnz": sum(block.facts["nnz"] for block in blocks),
    }
    attributes = {
        "format": GRAPH_FORMAT,
        "facts": {},
        "distance_unit": "micrometers",
        "row_ptr": list(graph.row_ptr),
        **facts,
    }
    provenance = {
        "tool": "tisseract",
        "version": version("tisseract"),
        "snapshot": snapshot,
        "inputs": dict(graph.inputs),
        "kind": Z_KIND,
        "parameters": {"kind": plan.kind, **plan.parameters},
        "seed": None,
        "run": None,
    }
    seal_graph(attempt.path, attributes, provenance)
    receipt = attempt.seal()
    return DerivedEntry(
        kind=Z_KIND,
        key=z_key(key, graph.pair.neighbor),
        section=graph.pair.section,
        attempt=receipt.attempt,
        digest=receipt.digest,
        nbytes=receipt.nbytes,
        inputs=dict(graph.inputs),
        info=facts,
    )


@dataclass(frozen=True, slots=True)
class _PairTask:
    """One whole pair to build on a worker whose disk the driver does not see."""

    store: AtlasStore
    graph: ZGraph
    key: str

    def __call__(self) -> DerivedEntry:
        with self.store.new_attempt(_parent(self.graph, self.key)) as attempt:
            blocks = [task()[1] for task in _block_tasks(self.graph, attempt, ())]
            attempt.known.update((key.key, key) for block in blocks for key in block.files)
            return _seal(self.graph, self.key, attempt, self.store.version, blocks)


def _build_on_cluster(build: _Build, group: Sequence[ZGraph]) -> list[DerivedEntry]:
    """Build for a bucket from a cluster: each worker stages and uploads whole pairs."""
    built: dict[str, DerivedEntry] = {}
    tasks = [_PairTask(build.store, graph, build.key) for graph in group]
    with closing(build.workers.run(_call, tasks)) as entries:
        for entry in entries:
            built[derived_name(entry.kind, entry.key, entry.section)] = entry
            build.step(f"graph of {entry.section}")
    return [built[_parent(graph, build.key).removeprefix("derived/")] for graph in group]
