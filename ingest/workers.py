"""Where sections are written: threads here, processes here, or a Dask cluster someone else runs.

All three look like one `concurrent.futures.Executor`, so the driver knows one loop. Threads are the
default: the heavy parts (sorting kernels, codecs, hashing, disk) run outside the interpreter lock,
and nothing has to be imported twice. Processes start by `spawn`, never by `fork`: the event loops
behind zarr and the object stores do not survive a fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..atlas.errors import InvalidArgument, near

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Workers", "connected", "count_slots", "cpu_count", "open_workers", "submit_all"]

_LOCAL = ("threads", "processes")
_CONNECT_TIMEOUT = "10s"


@dataclass(frozen=True, slots=True)
class Workers:
    """A place that takes tasks."""

    executor: Executor
    """Takes them."""
    in_process: bool
    """Whether tasks run in this process, and may therefore call back."""
    ahead: int
    """Tasks to keep submitted: the slots, and on a cluster as many again on their way."""
    dashboard: str = ""
    """Address of the Dask dashboard, if there is one."""


def cpu_count() -> int:
    """Count the cores this process may use.

    Examples
    --------
    >>> cpu_count() >= 1
    True
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextmanager
def connected(client: Client | str | None) -> Iterator[Client | str | None]:
    """Turn the address of a scheduler into a client, closed at the end; pass on all else.

    Raises
    ------
    InvalidArgument
        If the string is neither a known word nor an address, or nobody answers there.
    """
    if not isinstance(client, str) or client in _LOCAL:
        yield client
        return
    from distributed import Client

    if "://" not in client:
        raise InvalidArgument(
            "expected a distributed.Client, the address of a scheduler (tcp://host:port), "
            f"'threads' or 'processes', but got {client!r}.{near(client, _LOCAL)}"
        )
    try:
        opened = Client(client, timeout=_CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"no Dask scheduler answers at {client!r}: {error}") from error
    with opened:
        yield opened


def count_slots(client: Client | str | None, n_workers: int | None) -> tuple[int, int]:
    """Count the sections that can be written at once, in all and under one memory limit.

    Here, all share the limit. On a cluster each worker process has the limit to itself, and the
    threads of that process share it.
    """
    if n_workers is not None and n_workers < 1:
        raise InvalidArgument(f"expected n_workers of at least 1, but got {n_workers}")
    if client is None or isinstance(client, str):
        count = n_workers or cpu_count()
        return count, count
    nthreads: Any = client.nthreads()
    threads = [int(count) for count in nthreads.values()]
    return max(1, n_workers or sum(threads)), max(threads, default=1)


@contextmanager
def open_workers(client: Client | str | None, n_workers: int) -> Iterator[Workers]:
    """Open a place for tasks and close what was opened here.

    Parameters
    ----------
    client : distributed.Client, str or None
        A client, or `threads` (as None) or `processes`.
    n_workers : int
        Sections at once.

    Yields
    ------
    Workers
    """
    if client is None or client == "threads":
        with ThreadPoolExecutor(n_workers, thread_name_prefix="tisseract-ingest") as pool:
            yield Workers(pool, in_process=True, ahead=n_workers)
    elif isinstance(client, str):
        with _processes(n_workers) as opened:
            yield _on_cluster(opened, n_workers)
    else:
        yield _on_cluster(client, n_workers)


@contextmanager
def _processes(n_workers: int) -> Iterator[Client]:
    from dask import config
    from distributed import Client, LocalCluster

    no_dashboard: Any = None
    # One thread each: a section at a time per process, and its memory returned with it.
    with (
        config.set({"distributed.worker.multiprocessing-method": "spawn"}),
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=no_dashboard,
            memory_limit=0,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _on_cluster(client: Client, n_workers: int) -> Workers:
    executor: Any = client.get_executor(pure=False)
    dashboard = str(getattr(client, "dashboard_link", "") or "")
    return Workers(executor, in_process=False, ahead=2 * n_workers, dashboard=dashboard)


def submit_all[Task, Receipt](
    workers: Workers,
    work: Callable[[Task], Receipt],
    tasks: Iterable[Task],
    *,
    stopped: Callable[[], bool],
    tick: Callable[[], None],
    tick_seconds: float = 0.5,
) -> Iterator[tuple[Task, Future[Receipt]]]:
    """Keep a bounded number of tasks running and yield each with its future when it ends.

    Parameters
    ----------
    workers : Workers
        Where they run.
    work : callable
        What is done with a task; must be importable on a cluster.
    tasks : iterable
        Taken one by one as places become free.
    stopped : callable
        When it returns True no further task is submitted; those running are waited for.
    tick : callable
        Called at least every `tick_seconds`.
    tick_seconds : float
        Longest time between ticks.

    Yields
    ------
    tuple of task and future
        In the order of completion.
    """
    queue = iter(tasks)
    running: dict[Future[Receipt], Task] = {}
    exhausted = False
    while True:
        while not exhausted and not stopped() and len(running) < workers.ahead:
            task = next(queue, None)
            if task is None:
                exhausted = True
            else:
                running[workers.executor.submit(work, task)] = task
        if not running:
            return
        finished, _ = wait(running, timeout=max(0.01, tick_seconds), return_when=FIRST_COMPLETED)
        for future in finished:
            yield running.pop(future), future
        tick()
