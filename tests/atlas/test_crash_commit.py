"""Writers killed at random instants: what was acknowledged is there, nothing is half there."""

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tisseract.atlas.catalog import history
from tisseract.atlas.errors import TisseractError
from tisseract.atlas.garbage import gc
from tisseract.atlas.snapshot import Change
from tisseract.atlas.storage import Storage, open_storage
from tisseract.atlas.store import AtlasStore, create_store, open_store
from tisseract.atlas.verify import verify

from .store_fakes import FaultyStorage, WrappedStorage, run_entry, section_entry, write_attempt

WRITER = """
import sys
from tisseract.atlas.attempt import new_attempt
from tisseract.atlas.snapshot import Change, RunEntry
from tisseract.atlas.store import open_store

store = open_store(sys.argv[1], read_only=False)
print("ready", flush=True)
for index in range(10_000):
    run = f"{sys.argv[2]}_{index}"
    with store.new_attempt(f"models/{run}") as attempt:
        for name in range(4):
            (attempt.path / f"weights{name}").write_bytes(bytes([name]) * 30_000)
        receipt = attempt.seal()
    entry = RunEntry(run, receipt.attempt, receipt.digest, receipt.nbytes, "toy")
    store.commit(Change(add_runs=[entry]), run)
    print(run, flush=True)
"""


def kill_writers(store: AtlasStore, rounds: int) -> list[str]:
    """Run two writers at once, kill both after a random time; the runs they acknowledged."""
    generator = random.Random(7)
    acknowledged: list[str] = []
    for round_ in range(rounds):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, store.url, f"r{round_}w{writer}"],
                stdout=subprocess.PIPE,
                text=True,
            )
            for writer in range(2)
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        time.sleep(generator.uniform(0.0, 0.25))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            output, _ = writer.communicate(timeout=30)
            # A last line without its end was not acknowledged in full.
            acknowledged += [line[:-1] for line in output.splitlines(True) if line.endswith("\n")]
    return acknowledged


@pytest.mark.parametrize("rounds", [8, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_writers(tmp_path: Path, rounds: int) -> None:
    store = create_store(tmp_path / "atlas")
    acknowledged = kill_writers(store, rounds)
    store.refresh()
    assert acknowledged, "no writer committed anything; the kills came too early"
    assert set(acknowledged) <= set(store.snapshot.runs)
    report = verify(store)
    assert report.ok, str(report)
    assert report.warnings == ()
    numbers = [record.number for record in history(store.storage)]
    assert numbers == list(range(store.version, 0, -1))
    gc(store, dry_run=False, grace="0s")
    assert verify(store).ok
    left = {key.split("/")[1] for key, _ in store.storage.list("models")}
    assert left == set(store.snapshot.runs)


class StopsAt(WrappedStorage):
    """Raises before or after the k-th verb that changes the storage, as a crash would."""

    def __init__(self, inner: Storage, at: int, *, after: bool) -> None:
        super().__init__(inner)
        self.left = at
        self.after = after
        self._lock = threading.Lock()  # an attempt uploads from several threads

    def call(self, verb: str, *args: object, **options: object) -> object:
        if verb in ("put", "put_if_absent", "upload", "delete", "delete_prefix"):
            with self._lock:
                self.left -= 1
                stop = self.left == 0
            if stop and not self.after:
                raise KeyboardInterrupt
            answer = super().call(verb, *args, **options)
            if stop:
                raise KeyboardInterrupt
            return answer
        return super().call(verb, *args, **options)

    def delete_prefix(self, prefix: str) -> None:
        self.call("delete_prefix", prefix)


@pytest.mark.parametrize("after", [False, True])
def test_stopped_at_every_change(after: bool, tmp_path: Path) -> None:
    """One ingest, one replacement, one gc, stopped at each change of the storage in turn."""

    def work(storage: Storage) -> None:
        for fingerprint in ("one", "two"):
            receipt = write_attempt(storage, f"models/m_{fingerprint}")
            run = run_entry(f"m_{fingerprint}", attempt=receipt.attempt, digest=receipt.digest)
            AtlasStore(storage, open_store(plain.url).snapshot).commit(
                Change(
                    add_sections=[section_entry("a", fingerprint)], add_runs=[run], replace=True
                ),
                fingerprint,
            )
        write_attempt(storage, "models/orphan")
        gc(AtlasStore(storage, open_store(plain.url).snapshot), dry_run=False, grace="0s")

    step = 0
    while True:
        step += 1
        plain = create_store(f"memory://{tmp_path.name}-{after}-{step}")
        try:
            work(StopsAt(plain.storage, step, after=after))
        except KeyboardInterrupt:
            check_after_crash(plain)
        else:
            break
    assert step > 10


def check_after_crash(plain: AtlasStore) -> None:
    """The catalog is whole, what it names is whole, and gc takes all that is left over."""
    records = list(history(plain.storage))
    assert [record.number for record in records] == list(range(len(records), 0, -1))
    seen = plain.refresh().snapshot
    assert len(seen.sections) in (0, 1)
    for entry in seen.sections.values():
        assert entry.fingerprint in ("one", "two")
    gc(plain, dry_run=False, grace="0s")
    faults = [fault for fault in verify(plain).faults if fault.location.startswith("models")]
    assert faults == []
    left = {key.split("/")[1] for key, _ in plain.storage.list("models")}
    assert left == set(plain.snapshot.runs)


def test_faults_during_ingest_and_gc() -> None:
    """With every tenth request refused and every tenth answer lost, retries lose nothing."""
    plain = create_store("memory://faulty-ingest")
    faulty = FaultyStorage(plain.storage, refused=0.05, lost=0.05, seed=3)
    store = AtlasStore(faulty, plain.snapshot)
    done: set[str] = set()
    for index in range(30):
        name = f"s{index}"
        for _ in range(20):
            try:
                receipt = write_attempt(faulty, f"models/{name}")
                entry = run_entry(name, attempt=receipt.attempt, digest=receipt.digest)
                store.commit(Change(add_runs=[entry]), name)
            except TisseractError:
                if name in plain.refresh().snapshot.runs:
                    break
            else:
                break
        done.add(name)
    plain.refresh()
    assert set(plain.snapshot.runs) == done
    gc(plain, dry_run=False, grace="0s")
    assert verify(plain).ok
    assert open_storage("memory://faulty-ingest").exists("atlas.json")
