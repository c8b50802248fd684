"""Where the tasks of a build run: threads of this process, or a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..memory import refuse_above

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Workers", "open_workers"]


@dataclass(frozen=True, slots=True)
class Workers:
    """Where tasks run: threads here when there is no client."""

    client: Any
    threads: int

    def run[Task, Result](
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[Result]:
        """Apply a function to every task and hand out results as they come."""
        if self.client is not None:
            from distributed import as_completed

            futures = self.client.map(function, tasks, pure=False)
            for _, result in as_completed(futures, with_results=True):
                yield result
            return
        if len(tasks) == 1 or self.threads == 1:
            yield from map(function, tasks)
            return
        yield from _run_threads(function, tasks, self.threads)


def _run_threads[Task, Result](
    function: Callable[[Task], Result], tasks: Sequence[Task], threads: int
) -> Iterator[Result]:
    from concurrent.futures import ThreadPoolExecutor

    from dask.base import compute
    from dask.delayed import delayed

    # One Dask call a batch: progress between batches, and at most one idle wait for each.
    batch = 8 * threads
    with ThreadPoolExecutor(threads, thread_name_prefix="tisseract-graph") as pool:
        for at in range(0, len(tasks), batch):
            calls = [delayed(function)(task) for task in tasks[at : at + batch]]
            yield from compute(*calls, scheduler="threads", pool=pool)


@contextmanager
def open_workers(client: Client | str | None, largest: int, limit: int) -> Iterator[Workers]:
    """Check the memory of the largest task, in bytes, and open a place for tasks."""
    refuse_above(
        limit,
        largest,
        "building one block of a graph",
        "raise memory_limit, or ask for fewer neighbors or rings",
    )
    if isinstance(client, str):
        from distributed import Client

        with Client(client, set_as_default=False) as opened:
            _refuse_threads(opened, largest, limit)
            yield Workers(opened, 1)
        return
    if client is not None:
        _refuse_threads(client, largest, limit)
    from dask.system import CPU_COUNT

    yield Workers(client, max(1, min(CPU_COUNT, limit // max(1, largest))))


def _refuse_threads(client: Client, largest: int, limit: int) -> None:
    """Refuse a cluster whose workers would run more tasks at once than the limit holds."""
    workers = client.scheduler_info()["workers"].values()
    threads = max((int(worker["nthreads"]) for worker in workers), default=1)
    refuse_above(
        limit,
        largest * threads,
        f"building {threads} blocks of a graph at once in one worker",
        "raise memory_limit, or start the workers with fewer threads",
    )
