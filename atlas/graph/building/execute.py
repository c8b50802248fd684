"""Carrying out orders: blocks as tasks, graphs as attempts, groups of graphs as commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...resumable import ResumableAttempt, open_resumable
from ...snapshot import Change, DerivedEntry
from .block_task import BlockTask, block_tasks
from .replacing import unbuilt_orders
from .workers import Workers, open_workers

if TYPE_CHECKING:
    from distributed import Client

    from ...quadtree import Runs
    from .order import Order

__all__ = ["GraphProgress", "write_orders"]

type GraphProgress = Callable[[str, int, int], None]
"""Called with a sentence, tasks done and tasks in all; from the driver's thread or a worker's."""

# A commit is one object of the catalog: groups keep it rare, and bound what a crash throws away.
_GROUP_BLOCKS = 256
_GROUP_GRAPHS = 64
_FLUSHES = 8


def write_orders(
    orders: Sequence[Order],
    message: Callable[[int], str],
    *,
    client: Client | str | None,
    limit: int,
    overwrite: bool,
    progress: GraphProgress | None,
) -> list[DerivedEntry]:
    """Build and commit the graphs that are not there yet, group by group.

    Parameters
    ----------
    orders : sequence of Order
        All of one store.
    message : callable
        Says what is committed, given how many graphs.
    client, overwrite, progress
        See `build_graphs`.
    limit : int
        Bytes for this process, or for each worker of a cluster.

    Returns
    -------
    list of DerivedEntry
        One an order; those found done included.

    Raises
    ------
    InvalidArgument, BudgetExceeded
        See `build_graphs`.
    """
    seen = {order.name: None if (was := order.found()) is None else was.attempt for order in orders}
    missing = unbuilt_orders(orders, overwrite=overwrite)
    done = {order.name: entry for order in orders if (entry := order.committed())}
    plans = [order.graph.plan for order in missing]
    report = _Report(progress, sum(plan.n_tasks for plan in plans))
    largest = max((plan.task_bytes for plan in plans), default=0)
    with open_workers(client, largest, limit) as workers:
        for group in _groups(missing):
            with ExitStack() as stack:
                entries = _build_group(group, workers, stack, report)
                expect = {} if overwrite else {entry.name: seen[entry.name] for entry in entries}
                change = Change(add_derived=entries, expect=expect)
                after = group[0].store.commit(change, message(len(entries)))
            # Where another process was first with the same graph, its own is the one that stays.
            done.update((entry.name, after.derived[entry.name]) for entry in entries)
    return [done[order.name] for order in orders]


def _groups(orders: Sequence[Order]) -> Iterator[list[Order]]:
    """Consecutive graphs that are built together and committed at once."""
    group: list[Order] = []
    blocks = 0
    for order in orders:
        size = len(order.graph.plan.blocks)
        if group and (blocks + size > _GROUP_BLOCKS or len(group) == _GROUP_GRAPHS):
            yield group
            group, blocks = [], 0
        group.append(order)
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
    group: Sequence[Order], workers: Workers, stack: ExitStack, report: _Report
) -> list[DerivedEntry]:
    """Build some graphs, all their blocks side by side; nothing is committed."""
    if workers.client is not None and group[0].store.storage.local_path() is None:
        return _build_on_cluster(group, workers, report)
    attempts: dict[str, ResumableAttempt] = {}
    ready: dict[str, Order] = {}
    tasks: list[BlockTask] = []
    for wanted in group:
        label = wanted.label
        order = ready[label] = _prepare(wanted, workers, report)
        attempts[label] = attempt = stack.enter_context(
            # Goes on with what a build of the same graph left, or begins afresh.
            open_resumable(order.store.storage, order.parent, order.build_plan())
        )
        tasks.extend(block_tasks(order, attempt, attempt.finished))
        report.found(f"graph of {label}", len(attempt.finished))
    # Closed before the attempts are left: no task of this process may outlive its attempt.
    with closing(workers.run(_call, tasks)) as receipts:
        for label, receipt in receipts:
            attempts[label].record(receipt)
            report.step(f"graph of {label}")
    entries = [
        order.seal(attempts[label], attempts[label].finished.values())
        for label, order in ready.items()
    ]
    # Side by side, right before the commit: what a crash between the two cuts off is built again.
    with ThreadPoolExecutor(_FLUSHES) as pool:
        list(pool.map(ResumableAttempt.close_records, attempts.values()))
    return entries


def _prepare(order: Order, workers: Workers, report: _Report) -> Order:
    def run(function: Callable[[Runs], object], blocks: Sequence[Runs]) -> Iterable[object]:
        with closing(workers.run(function, blocks)) as results:
            for result in results:
                report.step(f"pass over {order.label}")
                yield result

    return order.prepare(run)


@dataclass(frozen=True, slots=True)
class _GraphTask:
    """One whole graph to build on a worker whose disk the driver does not see."""

    order: Order

    def __call__(self) -> DerivedEntry:
        order = self.order.prepare()
        with order.store.new_attempt(order.parent) as attempt:
            blocks = [task()[1] for task in block_tasks(order, attempt)]
            attempt.known.update((key.key, key) for block in blocks for key in block.files)
            return order.seal(attempt, blocks)


def _build_on_cluster(
    group: Sequence[Order], workers: Workers, report: _Report
) -> list[DerivedEntry]:
    """Build for a bucket from a cluster: each worker stages and uploads whole graphs."""
    labels = {order.name: order.label for order in group}
    entries: list[DerivedEntry] = []
    with closing(workers.run(_call, [_GraphTask(order) for order in group])) as built:
        for entry in built:
            entries.append(entry)
            report.step(f"graph of {labels[entry.name]}")
    return entries
