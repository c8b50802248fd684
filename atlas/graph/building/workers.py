"""Where the tasks of a build run: threads of this process, or a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from ...errors import InvalidArgument
from ...memory import refuse_above

if TYPE_CHECKING:
    from concurrent.futures import Future

    from distributed import Client

__all__ = ["Workers", "connect", "open_workers"]

# Tasks in flight for each thread of a cluster: one runs, one waits on its worker, one is a spare
# for the time that an answer takes. The scheduler never holds more, however large the section.
_WINDOW = 3
# Seconds to wait for a scheduler; one that runs answers in a few milliseconds.
_CONNECT_TIMEOUT = 10


@dataclass(frozen=True, slots=True)
class Workers:
    """Where tasks run: threads here when there is no client."""

    client: Any
    threads: int

    def run[Task, Result](
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Generator[Result]:
        """Apply a function to every task and hand out results as they come.

        As many tasks run as there are threads, and the next begins when one ends. Close the
        iterator to stop early: what has not begun is dropped, and tasks of this process are
        waited for.

        Notes
        -----
        Here, the threads are those of a `ThreadPoolExecutor`, the pool that Dask's threaded
        scheduler runs on; `dask.config` (`num_workers`) decides how many. Dask's own
        scheduler hands out nothing before the last task of a graph is done, so results could only
        stream out of it batch by batch, with an idle core at the end of each.

        On a cluster, a task whose worker dies is run again on another one, four times at most
        (`distributed.scheduler.allowed-failures`); a worker that was only out of reach may finish
        the same task a second time. An error of a task is not retried: tasks are deterministic.
        """
        if self.client is not None:
            yield from _run_cluster(self.client, function, tasks)
        elif len(tasks) == 1 or self.threads == 1:
            yield from map(function, tasks)
        else:
            yield from _run_threads(function, tasks, self.threads)


def _run_threads[Task, Result](
    function: Callable[[Task], Result], tasks: Sequence[Task], threads: int
) -> Iterator[Result]:
    from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

    waiting = iter(tasks)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="tisseract-graph")
    try:
        # One spare keeps every thread busy while results are looked at.
        running: set[Future[Result]] = {
            pool.submit(function, task) for task in islice(waiting, threads + 1)
        }
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(function, task) for task in islice(waiting, len(done))}
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _run_cluster[Task, Result](
    client: Client, function: Callable[[Task], Result], tasks: Sequence[Task]
) -> Iterator[Result]:
    from distributed import as_completed

    waiting = iter(tasks)

    def submit(count: int) -> list[Any]:
        return [client.submit(function, task, pure=False) for task in islice(waiting, count)]

    pending = set(submit(_window(client)))
    # The loop is named because the client of an address is nobody's default.
    done = as_completed(pending, loop=client.loop)
    try:
        for future in done:
            result = future.result()
            pending.discard(future)
            # The cluster may have grown meanwhile, or shrunk.
            more = submit(max(0, _window(client) - len(pending)))
            pending.update(more)
            done.update(more)
            yield result
    finally:
        if pending and client.status == "running":
            client.cancel(list(pending))


def _window(client: Client) -> int:
    return _WINDOW * max(1, sum(_threads(client)))


def _threads(client: Any) -> list[int]:
    """Threads of each worker."""
    return [int(count) for count in client.nthreads().values()]


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
        with connect(client) as opened:
            _refuse_threads(opened, largest, limit)
            yield Workers(opened, 1)
        return
    if client is not None:
        _refuse_threads(client, largest, limit)
    from dask.config import get
    from dask.system import CPU_COUNT

    wanted = get("num_workers", None) or CPU_COUNT
    yield Workers(client, max(1, min(int(wanted), limit // max(1, largest))))


def connect(address: str, n_workers: int | None = None) -> Client:
    """Connect to a Dask scheduler, or start a local cluster for `local`, as on the command line.

    Raises
    ------
    InvalidArgument
        No scheduler answers at the address, or it is none.
    """
    from distributed import Client

    if address == "local":
        return Client(n_workers=n_workers, threads_per_worker=1, set_as_default=False)
    try:
        return Client(address, timeout=_CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InvalidArgument(
            f"a running Dask scheduler is wanted, but got {address!r}, where none answered within "
            f"{_CONNECT_TIMEOUT} s; start one (`dask scheduler`), or leave the client out to use "
            "threads here"
        ) from error


def _refuse_threads(client: Client, largest: int, limit: int) -> None:
    """Refuse a cluster whose workers would run more tasks at once than the limit holds."""
    threads = max(_threads(client), default=1)
    refuse_above(
        limit,
        largest * threads,
        f"building {threads} blocks of a graph at once in one worker",
        "raise memory_limit, or start the workers with fewer threads",
    )
