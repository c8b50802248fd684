"""Where sections are written: threads, processes and a cluster give the same atlas."""

import importlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.store import open_store
from tisseract.ingest import ingest
from tisseract.ingest.workers import Workers, count_slots, submit_all


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    crash_campaign = importlib.import_module("crash_campaign")
    found = []
    for i in range(4):
        path = tmp_path / f"s{i}.h5ad"
        crash_campaign.write_h5ad(path, seed=i, n_obs=60)
        found.append({"sample": f"s{i}", "data_path": path, "um_per_unit": 1})
    return found


def contents(atlas: Path) -> dict[str, str]:
    crash_campaign = importlib.import_module("crash_campaign")
    store = open_store(atlas)
    return {name: crash_campaign.content_digest(store, name) for name in store.section_names}


@pytest.mark.slow
def test_processes_and_clusters_write_what_threads_write(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    distributed: Any = importlib.import_module("distributed")
    ingest(rows, tmp_path / "threads")
    ingest(rows, tmp_path / "processes", client="processes", n_workers=2)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, dashboard_address=None, memory_limit=0
    ) as cluster:
        with distributed.Client(cluster) as client:
            report = ingest(rows, tmp_path / "client", client=client, memory_limit="1GiB")
        assert report.options["n_workers"] == 4
        ingest(rows, tmp_path / "address", client=cluster.scheduler_address)
    wanted = contents(tmp_path / "threads")
    assert len(wanted) == 4
    for name in ("processes", "client", "address"):
        assert contents(tmp_path / name) == wanted, name


@pytest.mark.slow
def test_a_killed_worker_costs_a_retry(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """Workers die (SIGKILL) while they write; the nanny brings new ones, the sheet completes."""
    import threading

    distributed: Any = importlib.import_module("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        pids = list(client.run(os.getpid).values())
        timer = threading.Timer(0.3, os.kill, (pids[0], 9))
        timer.start()
        ingest(rows, tmp_path / "killed", client=client)
        timer.join()
    ingest(rows, tmp_path / "threads")
    assert contents(tmp_path / "killed") == contents(tmp_path / "threads")


@pytest.fixture
def pool() -> Iterator[Workers]:
    with ThreadPoolExecutor(2) as executor:
        yield Workers(executor, in_process=True, ahead=3)


def test_a_bounded_number_of_tasks_is_submitted(pool: Workers) -> None:
    submitted: list[int] = []

    def tasks() -> Iterator[int]:
        for i in range(10):
            submitted.append(i)
            yield i

    ended: list[int] = []
    for task, future in submit_all(
        pool, lambda i: i * i, tasks(), stopped=lambda: False, tick=lambda: None
    ):
        assert future.result() == task * task
        ended.append(task)
        assert len(submitted) - len(ended) <= 3
    assert sorted(ended) == list(range(10))


def test_a_stop_waits_for_what_runs_and_submits_no_more(pool: Workers) -> None:
    stop: list[bool] = []
    ended: list[tuple[int, Future[int]]] = []
    for task, future in submit_all(
        pool, lambda i: i, range(1, 100), stopped=lambda: bool(stop), tick=lambda: None
    ):
        ended.append((task, future))
        stop.append(True)
    assert 1 <= len(ended) <= 3


def test_ticks_come_while_a_long_task_runs(pool: Workers) -> None:
    ticks: list[float] = []
    list(
        submit_all(
            pool,
            time.sleep,
            [0.3],
            stopped=lambda: False,
            tick=lambda: ticks.append(time.monotonic()),
            tick_seconds=0.05,
        )
    )
    assert len(ticks) >= 3


def test_slots_of_this_machine() -> None:
    assert count_slots(None, 3) == (3, 3)
    assert count_slots("processes", 2) == (2, 2)
    assert count_slots(None, None)[0] >= 1
    with pytest.raises(InvalidArgument, match="n_workers of at least 1"):
        count_slots(None, 0)
