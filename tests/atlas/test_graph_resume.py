"""Builds that are cut off, killed, raced and collected: what was finished is used, never mixed."""

import dataclasses
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import dask.config
import numpy as np
import pytest

from tisseract.atlas import resumable
from tisseract.atlas.errors import (
    CommitConflict,
    Corrupt,
    InvalidArgument,
    StaleDerived,
    StorageFull,
)
from tisseract.atlas.garbage import gc
from tisseract.atlas.graph import build_graphs, knn, open_graph
from tisseract.atlas.graph.building import block_task, execute, order
from tisseract.atlas.graph.building.workers import Workers
from tisseract.atlas.graph.disk import layout
from tisseract.atlas.graph.planning import plan
from tisseract.atlas.lock import is_locked, try_lock
from tisseract.atlas.manifest import read_manifest
from tisseract.atlas.parts import PartReceipt, place_part
from tisseract.atlas.section_shards import ArrayWriter
from tisseract.atlas.verify import verify

from .graph_fakes import FakeStore, morton_order, put_section, quadtree_section

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RECORDS = resumable.RECORDS


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Blocks are built in their order."""
    with dask.config.set(num_workers=1):
        yield


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    """One section of 700 cells in about twelve blocks."""
    monkeypatch.setattr(plan, "_BLOCK_ROWS", 64)
    made = FakeStore.create(tmp_path / "atlas")
    add_section(made)
    return made


def add_section(store: FakeStore, name: str = "S1", n: int = 700, seed: int = 5) -> None:
    xy = np.random.default_rng(seed).random((n, 2)) * 1000
    section = quadtree_section(xy[morton_order(xy)], 32)
    section.name = name
    put_section(store, section)


class Blocks:
    """Counts the blocks that are built, and does something at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.built: list[int] = []
        self.at: dict[int, Callable[[], object]] = {}
        self._plain = layout.write_pieces
        monkeypatch.setattr(block_task, "write_pieces", self)

    def __call__(self, folder: Path, block: int, *edges: Any) -> layout.BlockReceipt:
        self.at.pop(block, lambda: None)()
        receipt = self._plain(folder, block, *edges)
        self.built.append(block)
        return receipt

    def take(self) -> list[int]:
        """Say which blocks were built since the last time."""
        built, self.built = self.built, []
        return built


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Blocks:
    return Blocks(monkeypatch)


def fail(error: BaseException) -> Callable[[], object]:
    def raise_it() -> None:
        raise error

    return raise_it


def cut_off(store: FakeStore, blocks: Blocks, at: int = 6, **options: Any) -> Path:
    """Build until a block fails; returns the attempt that is left."""
    blocks.at[at] = fail(RuntimeError("power"))
    with pytest.raises(RuntimeError, match="power") as caught:
        build_graphs(store, n_neighs=5, **options)
    assert any(f"{at} finished parts" in note for note in caught.value.__notes__)
    assert blocks.take() == list(range(at))
    (left,) = attempts(store)
    return left


def attempts(store: FakeStore) -> list[Path]:
    """Attempt folders of the graph, committed ones included."""
    parent = store.storage.local_path("derived/graph/spatial/S1")
    return [path for path in sorted(parent.iterdir()) if path.is_dir()] if parent else []


def sound(store: FakeStore, lazy: Any = None) -> None:
    """Check the committed graph, and that gc leaves nothing else."""
    graph = open_graph(store, "spatial", "S1")
    wanted = store_matrix(store, int(graph.parameters["n_neighs"])) if lazy is None else lazy
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(graph.to_csr(), name), getattr(wanted, name))
    gc(store, dry_run=False, grace=0, keep=1)
    report = verify(store)
    assert not [str(fault) for fault in report.faults if "derived/" in fault.location]
    assert not report.warnings
    entry = store.derived("graph", "spatial", "S1")
    for key, _ in store.storage.list("derived"):
        assert key == entry.manifest or key.startswith(f"{entry.prefix}/")
    assert not list((store.storage.local_path() or Path()).glob(".scratch/*"))
    assert not list((store.storage.local_path() or Path()).rglob(RECORDS))


def store_matrix(store: FakeStore, k: int) -> Any:
    return knn(store, "S1", k)["S1"].compute().astype(np.float32)


def n_blocks(store: FakeStore) -> int:
    return len(open_graph(store, "spatial", "S1")._row_ptr) - 1


@pytest.mark.parametrize(
    "error", [OSError("the disk went away"), KeyboardInterrupt(), StorageFull("no space")]
)
def test_finished_blocks_are_used_again(
    store: FakeStore, blocks: Blocks, error: BaseException
) -> None:
    blocks.at[4] = fail(error)
    with pytest.raises(type(error)):
        build_graphs(store, n_neighs=5)
    assert blocks.take() == [0, 1, 2, 3]
    assert store.derived_keys("graph") == {}
    told: list[int] = []
    (entry,) = build_graphs(store, n_neighs=5, progress=lambda _, done, __: told.append(done))
    assert blocks.take() == list(range(4, n_blocks(store)))
    assert told[0] == 4
    assert told[-1] == n_blocks(store)
    assert entry.attempt == attempts(store)[0].name
    sound(store)


def test_a_build_cut_off_many_times(store: FakeStore, blocks: Blocks) -> None:
    built: list[int] = []
    for at in (2, 3, 7):
        blocks.at[at] = fail(RuntimeError("power"))
        with pytest.raises(RuntimeError):
            build_graphs(store, n_neighs=5)
        built += blocks.take()
        assert len(attempts(store)) == 1
    build_graphs(store, n_neighs=5)
    assert built + blocks.take() == list(range(n_blocks(store)))
    sound(store)


def test_a_build_refused_for_its_parameters_leaves_nothing(
    store: FakeStore, blocks: Blocks
) -> None:
    blocks.at[4] = fail(InvalidArgument("another radius is wanted"))
    with pytest.raises(InvalidArgument):
        build_graphs(store, n_neighs=5)
    assert attempts(store) == []
    assert not list((store.storage.local_path() or Path()).glob(".scratch/*"))


def test_sections_of_a_group_keep_their_blocks(store: FakeStore, blocks: Blocks) -> None:
    add_section(store, "S2", 400)
    blocks.at[0] = lambda: blocks.at.update({0: fail(RuntimeError("power"))})
    with pytest.raises(RuntimeError):
        build_graphs(store, n_neighs=5)
    first = len(blocks.take())
    entries = build_graphs(store, n_neighs=5)
    assert len(entries) == 2
    assert 0 < first == n_blocks(store)
    assert len(blocks.take()) < first
    sound_without_s2 = store.derived("graph", "spatial", "S2")
    assert sound_without_s2.attempt == entries[1].attempt


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def zero_page(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def foreign(file: Path) -> None:
    (file.parent / "1").write_bytes(b"x")


def link(file: Path) -> None:
    shutil.copy(file, file.parents[10] / "outside")
    file.unlink()
    file.symlink_to(file.parents[10] / "outside")


@pytest.mark.parametrize("damage", [truncate, zero_page, Path.unlink, foreign, link])
def test_a_torn_block_is_built_again(
    store: FakeStore, blocks: Blocks, damage: Callable[[Path], object]
) -> None:
    left = cut_off(store, blocks)
    damage(left / "blocks/3/distances/c/0")
    build_graphs(store, n_neighs=5)
    assert blocks.take() == [3, *range(6, n_blocks(store))]
    sound(store)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"part": "blocks/3", "files": [], "facts": {"nnz": 1}}',
        '{"part": "blocks/2", "files": [["blocks/2/zarr.json", 1, "0"]], "facts": {"nnz": 1}}',
        '{"part": "../../../..", "files": [["../x", 1, "0"]], "facts": {}}',
        '{"part": "blocks/3", "files": 7, "facts": {"nnz": "1"}}',
    ],
)
def test_a_torn_receipt_is_no_receipt(store: FakeStore, blocks: Blocks, text: str) -> None:
    left = cut_off(store, blocks)
    (left / RECORDS / "blocks.3.json").write_text(text)
    build_graphs(store, n_neighs=5)
    assert blocks.take() == [3, *range(6, n_blocks(store))]
    sound(store)


def test_a_torn_plan_is_no_plan(store: FakeStore, blocks: Blocks) -> None:
    left = cut_off(store, blocks)
    truncate(left / RECORDS / "plan.json")
    build_graphs(store, n_neighs=5)
    assert blocks.take() == list(range(n_blocks(store)))
    sound(store)


def test_other_parameters_are_not_adopted(store: FakeStore, blocks: Blocks) -> None:
    left = cut_off(store, blocks)
    build_graphs(store, n_neighs=4)
    assert blocks.take() == list(range(n_blocks(store)))
    assert left.is_dir()
    sound(store)


def test_blocks_of_a_replaced_section_are_not_adopted(store: FakeStore, blocks: Blocks) -> None:
    cut_off(store, blocks)
    put_section(store, store.section("S1"))
    build_graphs(store, n_neighs=5)
    assert blocks.take() == list(range(n_blocks(store)))
    sound(store)


def test_other_borders_and_versions_are_not_adopted(
    store: FakeStore, blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    cut_off(store, blocks)
    with monkeypatch.context() as patched:
        patched.setattr(importlib.metadata, "version", lambda _: "9")
        blocks.at[2] = fail(RuntimeError("power"))
        with pytest.raises(RuntimeError):
            build_graphs(store, n_neighs=5)
    assert blocks.take() == [0, 1]
    monkeypatch.setattr(plan, "_BLOCK_ROWS", 200)
    build_graphs(store, n_neighs=5)
    assert blocks.take() == list(range(n_blocks(store)))
    sound(store)


def test_a_section_replaced_during_the_build_is_a_conflict(
    store: FakeStore, blocks: Blocks
) -> None:
    reader = FakeStore.open(store.url)

    def replace() -> None:
        again = dataclasses.replace(reader.section("S1"))
        put_section(FakeStore.open(store.url, read_only=False), again)

    blocks.at[4] = replace
    with pytest.raises(CommitConflict, match="section:S1"):
        build_graphs(store, n_neighs=5)
    build_graphs(store.refresh(), n_neighs=5)
    sound(store)


def test_a_stale_graph_is_told_when_opened(store: FakeStore) -> None:
    build_graphs(store, n_neighs=5)
    opened = open_graph(store, "spatial", "S1")
    before = opened.to_csr()
    put_section(FakeStore.open(store.url, read_only=False), store.section("S1"))
    # What is open shows its snapshot for as long as it lives; what is opened now does not.
    np.testing.assert_array_equal(opened.to_csr().data, before.data)
    with pytest.raises(StaleDerived, match=r"section 'S1' was replaced"):
        open_graph(store.refresh(), "spatial", "S1")


def test_sealed_but_not_committed_is_used_whole(
    store: FakeStore, blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(
            resumable.ResumableAttempt, "close_records", lambda _: fail(RuntimeError("power"))()
        )
        with pytest.raises(RuntimeError):
            build_graphs(store, n_neighs=5)
    (left,) = attempts(store)
    assert left.with_name(f"{left.name}.manifest.json").exists()
    blocks.take()
    (entry,) = build_graphs(store, n_neighs=5)
    assert entry.attempt == left.name
    assert blocks.take() == []
    sound(store)


def test_what_is_committed_is_never_adopted(store: FakeStore, blocks: Blocks) -> None:
    """Also where a power cut brought its records back."""
    left = cut_off(store, blocks)
    shutil.copytree(left / RECORDS, left.parents[4] / "kept")
    (entry,) = build_graphs(store, n_neighs=5)
    shutil.move(left.parents[4] / "kept", left / RECORDS)
    older = FakeStore.open(store.url, version=1)
    older._pinned = False
    older.storage.read_only = False
    blocks.take()
    (again,) = build_graphs(older, n_neighs=5, overwrite=True)  # else what is there would stay
    assert again.attempt != entry.attempt
    assert blocks.take() == list(range(n_blocks(store)))
    found = verify(FakeStore.open(store.url, version=entry_version(store)))
    assert not [fault for fault in found.faults if "derived/" in fault.location]


def entry_version(store: FakeStore) -> int:
    return store.version


def test_two_builders_never_share(store: FakeStore, blocks: Blocks) -> None:
    """The second begins while the first is at block 5, and ends before it: its graph stays."""
    other = FakeStore.open(store.url, read_only=False)
    blocks.at[5] = lambda: build_graphs(other, n_neighs=5)
    (first,) = build_graphs(store, n_neighs=5)
    second = other.derived("graph", "spatial", "S1")
    assert first == second
    assert len(attempts(store)) == 2
    built = blocks.take()
    assert sorted(built) == sorted(2 * list(range(n_blocks(store))))
    sound(store)


def test_two_builders_after_a_crash(store: FakeStore, blocks: Blocks) -> None:
    """One of them gets what is left, the other begins afresh; then the commit is a race."""
    cut_off(store, blocks)
    ready = threading.Barrier(2)

    def run() -> str:
        handle = FakeStore.open(store.url, read_only=False)
        ready.wait(10)
        return build_graphs(handle, n_neighs=5)[0].attempt

    with ThreadPoolExecutor(2) as pool:
        found = {future.result() for future in [pool.submit(run), pool.submit(run)]}
    n = n_blocks(store.refresh())
    assert len(blocks.take()) in (n - 6, 2 * n - 6)  # the late one may find the graph committed
    assert store.derived("graph", "spatial", "S1").attempt in found
    sound(store)


class TestGarbage:
    def test_what_is_being_written_stays(self, store: FakeStore, blocks: Blocks) -> None:
        collector = FakeStore.open(store.url, read_only=False)
        reports: list[Any] = []
        blocks.at[5] = lambda: reports.extend(
            gc(collector, dry_run=dry, grace=0) for dry in (True, False)
        )
        build_graphs(store, n_neighs=5)
        for report in reports:
            assert (report.orphans, report.in_use, report.n_scratch) == ((), 1, 0)
            assert str(report).endswith("0 younger attempts left alone, 1 being written")
        sound(store)

    def test_what_was_cut_off_goes(self, store: FakeStore, blocks: Blocks) -> None:
        left = cut_off(store, blocks)
        assert gc(store).too_young == 1
        assert left.is_dir()
        report = gc(store, dry_run=False, grace=0)
        assert (len(report.orphans), report.in_use) == (1, 0)
        assert not left.exists()
        build_graphs(store, n_neighs=5)
        assert blocks.take() == list(range(n_blocks(store)))
        sound(store)

    def test_what_gc_is_about_to_remove_is_not_adopted(
        self, store: FakeStore, blocks: Blocks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A build begins between the look of gc and its commit."""
        cut_off(store, blocks)
        other = FakeStore.open(store.url, read_only=False)
        plain = store.commit

        def commit(*change: Any) -> Any:
            build_graphs(other, n_neighs=5)
            return plain(*change)

        monkeypatch.setattr(store, "commit", commit)
        assert len(gc(store, dry_run=False, grace=0).orphans) == 1
        assert blocks.take() == list(range(n_blocks(store)))
        monkeypatch.undo()
        sound(store.refresh())

    def test_what_a_build_just_took_stays(
        self, store: FakeStore, blocks: Blocks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A build begins after gc asked who is writing, and before it takes the plans away."""
        from tisseract.atlas import garbage

        left = cut_off(store, blocks)
        monkeypatch.setattr(garbage, "in_use", lambda *_: False)
        collector = FakeStore.open(store.url, read_only=False)
        reports: list[Any] = []
        blocks.at[8] = lambda: reports.append(gc(collector, dry_run=False, grace="0s"))
        (entry,) = build_graphs(store, n_neighs=5)
        assert reports[0].orphans == ()
        assert entry.attempt == left.name
        monkeypatch.undo()
        sound(store)

    def test_scratch_of_the_dead_goes(self, store: FakeStore) -> None:
        root = store.storage.local_path() or Path()
        (root / ".scratch" / ("0" * 32) / "x" / "blocks").mkdir(parents=True)
        assert gc(store).n_scratch == 0
        assert gc(store, dry_run=False, grace=0).n_scratch == 1
        assert not list((root / ".scratch").iterdir())


class TestParts:
    @staticmethod
    def write(place: Path) -> dict[str, int]:
        (place / "blocks/0").mkdir(parents=True)
        (place / "blocks/0/data").write_bytes(place.name.encode())
        return {"nnz": 1}

    def test_the_second_finds_the_place_taken(self, tmp_path: Path) -> None:
        (tmp_path / "a/blocks").mkdir(parents=True)
        first = place_part(tmp_path / "a", tmp_path / "s", "blocks/0", self.write)
        again = place_part(tmp_path / "a", tmp_path / "s", "blocks/0", self.write)
        assert first == again
        assert list((tmp_path / "s").iterdir()) == []
        assert PartReceipt.from_bytes(first.to_bytes(), "receipt") == first

    def test_many_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "a/blocks").mkdir(parents=True)

        def run(_: int) -> PartReceipt:
            return place_part(tmp_path / "a", tmp_path / "s", "blocks/0", self.write)

        with ThreadPoolExecutor(8) as pool:
            assert len({receipt.files for receipt in pool.map(run, range(64))}) == 1

    def test_an_attempt_that_is_gone_stays_gone(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            place_part(tmp_path / "a", tmp_path / "s", "blocks/0", self.write)
        assert not (tmp_path / "a").exists()


def test_a_task_that_outlives_its_driver_changes_nothing(
    store: FakeStore, blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[block_task.BlockTask] = []
    plain = block_task.block_tasks

    def keep(*arguments: Any) -> list[block_task.BlockTask]:
        tasks.extend(plain(*arguments))
        return tasks

    monkeypatch.setattr(execute, "block_tasks", keep)
    (entry,) = build_graphs(store, n_neighs=5)
    for task in tasks:
        assert task()[1].facts == {"nnz": 5 * (task.rows[1] - task.rows[0])}
    sound(store)
    put_section(store, store.section("S1"))
    build_graphs(store, n_neighs=5)
    gc(store, dry_run=False, grace=0, keep=1)
    with pytest.raises(FileNotFoundError):
        tasks[0]()
    assert not list(store.storage.list(entry.prefix))


def test_a_file_that_changed_after_its_receipt_is_not_sealed(
    store: FakeStore, blocks: Blocks
) -> None:
    blocks.at[9] = lambda: truncate(attempts(store)[0] / "blocks/2/indices/c/0")
    with pytest.raises(Corrupt, match="something else wrote there"):
        build_graphs(store, n_neighs=5)
    blocks.take()
    build_graphs(store, n_neighs=5)
    assert blocks.take() == [2]
    sound(store)


@pytest.mark.parametrize("name", [RECORDS, "blocks"])
def test_links_are_not_followed(
    store: FakeStore, blocks: Blocks, tmp_path: Path, name: str
) -> None:
    left = cut_off(store, blocks)
    outside = tmp_path / "outside"
    shutil.move(left / name, outside)
    (left / name).symlink_to(outside)
    before = sorted(outside.rglob("*"))
    build_graphs(store, n_neighs=5)
    assert blocks.take() == list(range(n_blocks(store)))
    sound(store)
    assert sorted(outside.rglob("*")) == before


def test_without_locks_nothing_is_kept(
    store: FakeStore, blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "try_lock", lambda *_, **__: None)
    blocks.at[4] = fail(RuntimeError("power"))
    with pytest.raises(RuntimeError):
        build_graphs(store, n_neighs=5)
    assert attempts(store) == []
    blocks.take()
    build_graphs(store, n_neighs=5)
    assert blocks.take() == list(range(n_blocks(store)))
    sound(store)


def test_a_bucket_resumes_sections(
    tmp_path: Path, blocks: Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_BLOCK_ROWS", 64)
    monkeypatch.setattr(execute, "_GROUP_GRAPHS", 1)
    store = FakeStore.create(f"memory://resume-{tmp_path.name}")
    add_section(store, "S1")
    add_section(store, "S2")
    first: list[int] = []

    def second() -> None:
        first.extend(blocks.take())
        blocks.at[3] = fail(RuntimeError("power"))

    blocks.at[0] = lambda: blocks.at.update({0: second})
    with pytest.raises(RuntimeError):
        build_graphs(store, n_neighs=5)
    assert store.derived_keys("graph") == {"spatial": ["S1"]}
    assert not list(store.storage.list("derived/graph/spatial/S2"))
    blocks.take()
    build_graphs(store, n_neighs=5)
    assert blocks.take() == first == list(range(n_blocks(store)))


class TestLock:
    def test_dies_with_its_process(self, tmp_path: Path) -> None:
        code = (
            "import sys, pathlib\n"
            "from tisseract.atlas.lock import try_lock\n"
            f"held = try_lock(pathlib.Path({str(tmp_path / 'lock')!r}), create=True)\n"
            "print('held' if held else 'not', flush=True)\n"
            "sys.stdin.read()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            assert is_locked(tmp_path / "lock")
            assert try_lock(tmp_path / "lock") is None
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert not is_locked(tmp_path / "lock")
        with try_lock(tmp_path / "lock") as held:  # type: ignore[union-attr]
            assert is_locked(tmp_path / "lock")
            held.release()
            held.release()

    def test_a_lock_that_was_taken_away_guards_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "lock"
        old = try_lock(path, create=True)
        assert old is not None
        path.unlink()
        assert not is_locked(path)
        assert try_lock(path) is None
        with try_lock(path, create=True) as new:  # type: ignore[union-attr]
            old.release()
            assert is_locked(path)
            assert new is not None


class TestWorkers:
    def test_threads_are_fed_as_they_come_free(self) -> None:
        started: list[int] = []
        slow = threading.Event()

        def work(task: int) -> int:
            started.append(task)
            if task == 0:
                assert slow.wait(10)
            return task

        found = []
        for result in Workers(None, 2).run(work, list(range(20))):
            found.append(result)
            assert len(started) <= len(found) + 3
            if len(found) == 19:
                slow.set()  # all others were done beside the slow one
        assert sorted(found) == list(range(20))
        assert found[-1] == 0

    def test_closing_drops_what_has_not_begun(self) -> None:
        started: list[int] = []
        results = Workers(None, 2).run(started.append, list(range(100)))
        next(results)
        results.close()
        assert len(started) <= 5
        names = {thread.name for thread in threading.enumerate()}
        assert not any(name.startswith("tisseract-graph") for name in names)

    def test_an_error_ends_it(self) -> None:
        with pytest.raises(ZeroDivisionError):
            list(Workers(None, 2).run(lambda task: 1 // task, [1, 1, 0, *[1] * 50]))


@pytest.mark.slow
def test_a_cluster_holds_few_tasks_and_drops_them_on_an_error() -> None:
    from distributed import Client

    with Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None) as c:
        seen: list[int] = []
        for _ in Workers(c, 1).run(abs, list(range(40))):
            seen.append(len(c.futures))
        assert len(seen) == 40
        assert max(seen) <= 7
        with pytest.raises(ZeroDivisionError):
            list(Workers(c, 1).run(lambda task: 1 // task, [1, 0, *[1] * 50]))
        assert len(c.futures) <= 1


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # On the path, not loaded by it: the killed processes import the module by name.
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("crash_graph")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "options",
    [{"n_neighs": 6}, {"kind": "radius", "radius": 40.0, "percentile": 90.0}],
    ids=["knn", "two passes"],
)
def test_killed_drivers_lose_and_repeat_nothing(
    rig: ModuleType, tmp_path: Path, options: dict[str, Any]
) -> None:
    result = rig.campaign(tmp_path, kills=10, seed=10, options=options)
    assert result.kills >= 10
    assert result.ok, result
    assert result.finished >= 1
    assert result.adopted > 0
    assert len(set(result.blocks_at_kill)) > 3  # spread over the build's life


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_workers_cost_a_retry(
    rig: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers die (SIGKILL) in the middle of a block; nannies bring new ones."""
    distributed: Any = importlib.import_module("distributed")
    crash_campaign = importlib.import_module("crash_campaign")
    ingest = importlib.import_module("tisseract.ingest.pipeline").ingest
    store_module = importlib.import_module("tisseract.atlas.store")
    sheet = crash_campaign.write_inputs(tmp_path / "inputs", 2, 1500)
    ingest(sheet, tmp_path / "atlas", tile_cells=64)
    shutil.copytree(tmp_path / "atlas", tmp_path / "plain")
    monkeypatch.setattr(plan, "_BLOCK_ROWS", 150)
    build_graphs(store_module.open_store(tmp_path / "plain", read_only=False), n_neighs=6)
    expected = rig.matrices(store_module.open_store(tmp_path / "plain"))
    options = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": 0}
    with (
        distributed.LocalCluster(dashboard_address=None, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.run(rig.small_blocks, 0.05)
        killed: list[int] = []

        def progress(_: str, done: int, __: int) -> None:
            if done in (5, 15, 25):
                pids = list(client.run(os.getpid).values())
                os.kill(pids[len(killed) % len(pids)], signal.SIGKILL)
                killed.append(done)

        atlas = store_module.open_store(tmp_path / "atlas", read_only=False)
        build_graphs(atlas, n_neighs=6, client=client, progress=progress)
        assert len(killed) == 3
    found = rig.matrices(atlas)
    assert len(found) == 2
    assert all(rig.same(found[name], expected[name]) for name in expected)
    gc(atlas, dry_run=False, grace=0)
    report = verify(atlas)
    assert report.ok, report
    assert not report.warnings
    assert not list((tmp_path / "atlas" / ".scratch").iterdir())


def test_a_block_of_many_edges_is_written_in_pieces(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes, whatever a task may hold at a time."""
    options: dict[str, Any] = {"kind": "radius", "radius": 150.0}
    (whole,) = build_graphs(store, **options)
    held: list[int] = []
    plain = ArrayWriter.append

    def append(self: Any, values: Any) -> None:
        held.append(len(values))
        plain(self, values)

    monkeypatch.setattr(block_task, "_MOST_EDGES", 300)
    monkeypatch.setattr(ArrayWriter, "append", append)
    (cut,) = build_graphs(store, key_added="pieces", **options)
    assert max(held) <= 300
    assert len(held) > 6 * (len(open_graph(store, "pieces", "S1")._row_ptr) - 1)
    files = [
        {key.key: key.sha256 for key in manifest.keys if key.key.startswith("blocks/")}
        for entry in (whole, cut)
        for manifest in [read_manifest(store.storage, entry.manifest, entry.digest)]
    ]
    assert files[0] == files[1]


def test_plans_are_json(store: FakeStore) -> None:
    wanted = order.order_section(store, knn(store, "S1", 5)["S1"], "k").prepare()
    assert json.loads(json.dumps(wanted.build_plan())) == wanted.build_plan()
