"""Garbage collection: only what nobody can reach, only when asked, never what is young."""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tisseract.atlas.catalog import Tombstone, history
from tisseract.atlas.errors import (
    AtlasError,
    CommitConflict,
    InvalidArgument,
    ReadOnly,
    SnapshotNotFound,
)
from tisseract.atlas.garbage import gc, parse_grace
from tisseract.atlas.snapshot import Change, SectionEntry, Snapshot
from tisseract.atlas.storage import Storage
from tisseract.atlas.store import AtlasStore, create_store, open_store
from tisseract.atlas.verify import verify

from .store_fakes import WrappedStorage, derived_entry, section_entry, write_attempt


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AtlasStore:
    url = tmp_path / "atlas" if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    return create_store(url)


def add(store: AtlasStore, name: str, fingerprint: str = "one") -> SectionEntry:
    receipt = write_attempt(store.storage, f"sections/{name}")
    entry = section_entry(name, fingerprint, receipt=receipt)
    store.commit(Change(add_sections=[entry], replace=True), f"add {name} {fingerprint}")
    return entry


def keys(store: AtlasStore) -> set[str]:
    return {key for key, _ in store.storage.list() if not key.startswith("catalog/")}


def test_by_default_nothing_is_touched(store: AtlasStore) -> None:
    add(store, "a")
    write_attempt(store.storage, "sections/a")
    before = keys(store)
    report = gc(store, grace="0s")
    assert report.dry_run
    assert len(report.orphans) == 1
    assert report.nbytes > 0
    assert str(report).startswith("would remove 1 attempts")
    assert keys(store) == before
    assert store.version == 1


def test_only_orphans_go(store: AtlasStore) -> None:
    entry = add(store, "a")
    kept = keys(store)
    graph = derived_entry(entry)
    for parent in ("sections/a", "sections/b", graph.parent, "models/m"):
        write_attempt(store.storage, parent)
    report = gc(store, dry_run=False, grace="0s")
    assert len(report.orphans) == 4
    assert keys(store) == kept
    assert store.snapshot.sections == {"a": entry}
    assert set(store.snapshot.condemned) == {orphan.prefix for orphan in report.orphans}
    again = gc(store, dry_run=False, grace="0s")
    assert again.orphans == ()
    assert store.version == 2


def test_the_young_are_left_alone(store: AtlasStore) -> None:
    add(store, "a")
    write_attempt(store.storage, "sections/a")
    before = keys(store)
    report = gc(store, dry_run=False)
    assert (report.orphans, report.too_young) == ((), 1)
    assert keys(store) == before


def test_a_late_writer_is_told(store: AtlasStore) -> None:
    receipt = write_attempt(store.storage, "sections/late")
    late = section_entry("late", receipt=receipt)
    gc(store, dry_run=False, grace="0s")
    with pytest.raises(CommitConflict, match="re-run the step"):
        store.commit(Change(add_sections=[late]), "late")


def test_a_writer_who_is_just_in_time(store: AtlasStore) -> None:
    receipt = write_attempt(store.storage, "sections/a")
    entry = section_entry("a", receipt=receipt)

    class Slow(WrappedStorage):
        """The orphan is committed between gc's look and gc's commit."""

        done = False

        def put_if_absent(self, key: str, data: bytes) -> None:
            if not self.done:
                self.done = True
                open_store(store.url, read_only=False).commit(Change(add_sections=[entry]), "just")
            self.inner.put_if_absent(key, data)

    slow = AtlasStore(Slow(store.storage), store.snapshot)
    with pytest.raises(CommitConflict, match="run gc again"):
        gc(slow, dry_run=False, grace="0s")
    assert store.refresh().has_section("a")
    assert store.storage.exists(f"{entry.prefix}/zarr.json")


def test_a_crashed_gc_is_finished_by_the_next(store: AtlasStore) -> None:
    receipt = write_attempt(store.storage, "sections/a")

    class Dies(WrappedStorage):
        def delete_prefix(self, prefix: str) -> None:
            raise KeyboardInterrupt

    dying = AtlasStore(Dies(store.storage), store.snapshot)
    with pytest.raises(KeyboardInterrupt):
        gc(dying, dry_run=False, grace="0s")
    assert not store.storage.exists(receipt.manifest)
    assert store.storage.exists(f"{receipt.prefix}/zarr.json")
    gc(store, dry_run=False, grace="0s")
    assert not list(store.storage.list("sections"))


def test_history_holds_what_it_names(store: AtlasStore) -> None:
    old = add(store, "a", "one")
    new = add(store, "a", "two")
    assert gc(store, dry_run=False, grace="0s").orphans == ()
    report = gc(store, dry_run=False, grace="0s", keep=1)
    assert report.snapshots == (1,)
    assert [orphan.prefix for orphan in report.orphans] == [old.prefix]
    assert not store.storage.exists(f"{old.prefix}/zarr.json")
    assert store.storage.exists(f"{new.prefix}/zarr.json")
    with pytest.raises(SnapshotNotFound, match="gc removed"):
        open_store(store.url, version=1)
    records = list(history(store.storage))
    assert [record.number for record in records] == [3, 2, 1]
    assert isinstance(records[-1], Tombstone)
    assert records[-1].message == "add a one"
    chain = [fault for fault in verify(store).faults if fault.location.startswith("catalog")]
    assert chain == []
    assert gc(store, dry_run=False, grace="0s", keep=5).snapshots == ()


def test_young_snapshots_are_kept(store: AtlasStore) -> None:
    add(store, "a", "one")
    add(store, "a", "two")
    assert gc(store, dry_run=False, grace="1h", keep=1).snapshots == ()
    assert open_store(store.url, version=1).version == 1


def test_a_clock_that_is_wrong_removes_nothing_in_use(
    store: AtlasStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = add(store, "a")
    write_attempt(store.storage, "sections/a")
    now = time.time()
    for skew in (-86400.0, 86400.0, 10 * 365 * 86400.0):
        monkeypatch.setattr(time, "time", lambda skew=skew: now + skew)
        gc(store, dry_run=False)
        assert store.storage.exists(f"{entry.prefix}/zarr.json")
        assert store.storage.exists(entry.manifest)


def test_half_written_objects_of_a_disk(tmp_path: Path) -> None:
    store = create_store(tmp_path / "atlas")
    scratch = tmp_path / "atlas" / ".scratch"
    (scratch / "half").write_bytes(b"x")
    assert gc(store).n_scratch == 0
    os.utime(scratch / "half", (0, 0))
    assert gc(store).n_scratch == 1
    gc(store, dry_run=False)
    assert list(scratch.iterdir()) == []


def test_an_empty_attempt_folder(tmp_path: Path) -> None:
    store = create_store(tmp_path / "atlas")
    attempt = store.new_attempt("sections/a", suffix=".zarr")
    assert gc(store).too_young == 1
    gc(store, dry_run=False, grace="0s")
    assert not attempt.path.exists()
    assert not (tmp_path / "atlas" / "sections").exists()


def test_foreign_files_are_left_alone(store: AtlasStore) -> None:
    store.storage.put("sections/a/notes.txt", b"mine")
    store.storage.put("sections/a/folder/notes.txt", b"mine")
    store.storage.put("panels/x.parquet", b"shared")
    gc(store, dry_run=False, grace="0s")
    assert len(keys(store)) == 4


def test_reading_only(store: AtlasStore) -> None:
    add(store, "a")
    write_attempt(store.storage, "sections/a")
    reader = open_store(store.url)
    assert len(gc(reader, grace="0s").orphans) == 1
    with pytest.raises(ReadOnly):
        gc(reader, dry_run=False)


@pytest.mark.parametrize("grace", ["", "7", "7 years", "-1d", -1, True])
def test_bad_times(grace: str) -> None:
    with pytest.raises(InvalidArgument, match="a time such as"):
        parse_grace(grace)


def test_bad_keep(store: AtlasStore) -> None:
    with pytest.raises(InvalidArgument, match="at least 1"):
        gc(store, keep=0)


@pytest.mark.server
def test_in_a_bucket(make_storage: Callable[..., Storage]) -> None:
    storage = make_storage()
    write_attempt(storage, "sections/a")
    storage.put("atlas.json", b"{}")
    store = AtlasStore(storage, Snapshot.empty())
    assert len(gc(store, dry_run=False, grace="0s").orphans) == 1
    assert [key for key, _ in storage.list("sections")] == []


class Between(WrappedStorage):
    """Lets others commit between gc's look and gc's own commit."""

    def __init__(self, inner: Storage, others: Callable[[], None]) -> None:
        super().__init__(inner)
        self.others: Callable[[], None] | None = others

    def put_if_absent(self, key: str, data: bytes) -> None:
        if self.others is not None:
            others, self.others = self.others, None
            others()
        self.inner.put_if_absent(key, data)


def test_what_history_came_to_name_meanwhile_stays(store: AtlasStore) -> None:
    receipt = write_attempt(store.storage, "sections/a")
    passing = section_entry("a", "passing", receipt=receipt)
    write_attempt(store.storage, "sections/b")

    def others() -> None:
        writer = open_store(store.url, read_only=False)
        writer.commit(Change(add_sections=[passing]), "passing")
        add(writer, "a", "lasting")

    collector = AtlasStore(Between(store.storage, others), store.snapshot)
    report = gc(collector, dry_run=False, grace="0s")
    assert [orphan.prefix.split("/")[1] for orphan in report.orphans] == ["b"]
    assert verify(open_store(store.url, version=1)).n_keys == 2
    assert store.storage.exists(f"{passing.prefix}/zarr.json")
    assert store.storage.exists(passing.manifest)
    assert passing.prefix in store.refresh().snapshot.condemned
    assert gc(store, dry_run=False, grace="0s", keep=1).orphans != ()
    assert not store.storage.exists(passing.manifest)


def test_beside_a_running_writer(tmp_path: Path) -> None:
    store = create_store(tmp_path / "atlas")
    done = threading.Event()

    def write() -> None:
        writer = open_store(store.url, read_only=False)
        k = 0
        while not done.is_set():
            k += 1
            # Without grace, what is being written may vanish: with its folder, or before its seal.
            with contextlib.suppress(AtlasError, InvalidArgument, FileNotFoundError):
                add(writer, f"s{k % 3}", str(k))

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write) for _ in range(2)]
        try:
            for _ in range(25):
                with contextlib.suppress(CommitConflict):
                    gc(open_store(store.url, read_only=False), dry_run=False, grace="0s")
        finally:
            done.set()
        for writer in writers:
            writer.result()
    assert not [one for one in verify(store.refresh()).faults if "panels/" not in one.location]


def test_scratch_that_goes_away_while_it_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create_store(tmp_path / "atlas")
    scratch = tmp_path / "atlas" / ".scratch"
    for name in ("one", "two"):
        (scratch / name).write_bytes(b"x")
    plain = Path.lstat

    def lstat(self: Path) -> os.stat_result:
        if self.name == "one":
            self.unlink(missing_ok=True)
        return plain(self)

    monkeypatch.setattr(Path, "lstat", lstat)
    assert gc(store, grace="0s").n_scratch == 1
