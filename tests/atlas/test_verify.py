"""Verify: every kind of damage is found, and nothing else is called damage."""

import random
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tisseract.atlas.errors import Corrupt, Fault
from tisseract.atlas.keys import catalog_key, panel_key
from tisseract.atlas.panel import Panel
from tisseract.atlas.snapshot import Change, DerivedEntry, RunEntry, SectionEntry
from tisseract.atlas.storage import Storage
from tisseract.atlas.store import AtlasStore, create_store, open_store
from tisseract.atlas.verify import VerifyReport, verify

from .store_fakes import WrappedStorage, derived_entry, run_entry, section_entry, write_attempt

FILES = {f"x/c/{index}": bytes([index]) * (200 + index) for index in range(4)} | {
    "zarr.json": b"{}"
}


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AtlasStore:
    """An atlas with two sections, a graph and a run, sound in every byte."""
    url = tmp_path / "atlas" if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    store = create_store(url)
    panel = Panel.of(["ENSG00000000003", "ENSG00000000005"], organism="human")
    store.storage.put(panel_key(panel.digest), panel.to_parquet())
    for name in "ab":
        receipt = write_attempt(store.storage, f"sections/{name}", FILES)
        entry = section_entry(name, receipt=receipt, panel=panel.digest, n_vars=2)
        graph = write_attempt(store.storage, f"derived/graph/spatial/{name}", FILES)
        derived = derived_entry(entry, attempt=graph.attempt, digest=graph.digest)
        store.commit(Change(add_sections=[entry], add_derived=[derived]), f"add {name}")
    run = write_attempt(store.storage, "models/first")
    entry_run = run_entry("first", attempt=run.attempt, digest=run.digest)
    store.commit(Change(add_runs=[entry_run]), "run")
    return store


def the_entry(store: AtlasStore, kind: int = 0) -> SectionEntry | DerivedEntry | RunEntry:
    if kind == 0:
        return store.snapshot.sections["a"]
    return store.snapshot.derived["graph/spatial/a"] if kind == 1 else store.snapshot.runs["first"]


def only_fault(store: AtlasStore, *, full: bool = True) -> Fault:
    report = verify(store, full)
    assert not report.ok
    assert len(report.faults) == 1, str(report)
    return report.faults[0]


@pytest.mark.parametrize("full", [True, False])
def test_a_sound_atlas(store: AtlasStore, full: bool) -> None:
    report = verify(store, full)
    assert report.ok, str(report)
    assert report.warnings == ()
    assert (report.n_entries, report.n_keys, report.n_snapshots) == (5, 4 * 5 + 2, 3)
    assert report.nbytes > 4 * 800
    assert str(report).endswith("sound")
    assert isinstance(report, VerifyReport)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize(
    ("damage", "message", "seen_by_size"),
    [
        (lambda data: None, "is missing", True),
        (lambda data: data[:-1], "203 bytes are wanted, but got 202", True),
        (lambda data: b"", "but got 0", True),
        (lambda data: bytes(len(data)), "contents", False),
        (lambda data: data[:7] + bytes([data[7] ^ 4]) + data[8:], "contents", False),
    ],
)
def test_damage_is_found(
    store: AtlasStore,
    kind: int,
    damage: Callable[[bytes], bytes | None],
    message: str,
    seen_by_size: bool,
) -> None:
    key = f"{the_entry(store, kind).prefix}/x/c/3"
    after = damage(store.storage.get(key))
    if after is None:
        store.storage.delete([key])
    else:
        store.storage.put(key, after)
    fault = only_fault(store)
    assert fault.location == key
    assert message in fault.message
    assert verify(store, full=False).ok is not seen_by_size


def test_swapped_chunks(store: AtlasStore) -> None:
    prefix = the_entry(store).prefix
    one, two = (store.storage.get(f"{prefix}/x/c/{index}") for index in (0, 1))
    store.storage.put(f"{prefix}/x/c/0", two)
    store.storage.put(f"{prefix}/x/c/1", one)
    assert len(verify(store).faults) == 2


def test_every_bit_counts(store: AtlasStore) -> None:
    key = f"{the_entry(store).prefix}/x/c/3"
    good = store.storage.get(key)
    generator = random.Random(0)
    for _ in range(20):
        bad = bytearray(good)
        bad[generator.randrange(len(bad))] ^= 1 << generator.randrange(8)
        store.storage.put(key, bytes(bad))
        assert only_fault(store).location == key
    store.storage.put(key, good)
    assert verify(store).ok


def test_a_broken_manifest(store: AtlasStore) -> None:
    entry = the_entry(store)
    good = store.storage.get(entry.manifest)
    store.storage.put(entry.manifest, good.replace(b"203", b"204"))
    assert "but got sha256:" in only_fault(store, full=False).message
    store.storage.put(entry.manifest, store.storage.get(the_entry(store, 1).manifest))
    assert only_fault(store).location == entry.manifest
    store.storage.delete([entry.manifest])
    assert "no object" in only_fault(store).message


def test_foreign_objects_are_only_warned_of(store: AtlasStore) -> None:
    key = f"{the_entry(store).prefix}/x/c/99"
    store.storage.put(key, b"stowaway")
    report = verify(store)
    assert report.ok
    assert [warning.location for warning in report.warnings] == [key]


def test_stale_derived_data_is_warned_of(store: AtlasStore) -> None:
    receipt = write_attempt(store.storage, "sections/a", FILES)
    newer = section_entry(
        "a",
        fingerprint="two",
        receipt=receipt,
        panel=store.snapshot.sections["a"].panel,
        n_vars=2,
    )
    store.commit(Change(add_sections=[newer], replace=True), "replace")
    report = verify(store)
    assert report.ok
    assert [warning.location for warning in report.warnings] == ["derived/graph/spatial/a"]
    assert "section:a" in report.warnings[0].message


def test_panels(store: AtlasStore) -> None:
    key = panel_key(store.snapshot.sections["a"].panel)
    other = Panel.of(["ENSG00000000003", "ENSG00000000419"], organism="human")
    store.storage.put(key, other.to_parquet())
    assert other.digest[:12] in only_fault(store).message
    with pytest.raises(Corrupt, match="ingest one of the sections"):
        _ = store.section("a").panel
    short = Panel.of(["ENSG00000000003"], organism="human")
    store.storage.put(key, short.to_parquet())
    assert "1 genes" in only_fault(store).message
    store.storage.put(key, b"PAR1")
    assert only_fault(store).location == key
    store.storage.delete([key])
    assert "no object" in only_fault(store).message


def test_a_rewritten_snapshot_breaks_the_chain(store: AtlasStore) -> None:
    data = store.storage.get(catalog_key(2))
    store.storage.put(catalog_key(2), data.replace(b"add b", b"add B"))
    fault = only_fault(store)
    assert fault.location == catalog_key(2)
    assert "is wanted by snapshot 3" in fault.message
    store.storage.put(catalog_key(2), b"{}")
    assert only_fault(store).location == catalog_key(2)
    store.storage.delete([catalog_key(2)])
    assert only_fault(store).location == catalog_key(2)


def test_a_link_in_place_of_an_object(tmp_path: Path) -> None:
    store = create_store(tmp_path / "atlas")
    receipt = write_attempt(store.storage, "models/m", {"a": b"secret", "b": b"1"})
    entry = run_entry("m", attempt=receipt.attempt, digest=receipt.digest)
    store.commit(Change(add_runs=[entry]), "x")
    (tmp_path / "elsewhere").write_bytes(b"secret")
    path = tmp_path / "atlas" / receipt.prefix / "a"
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert only_fault(store, full=False).location.endswith("/a")
    assert only_fault(store).location.endswith("/a")


def test_without_listing(store: AtlasStore) -> None:
    class Web(WrappedStorage):
        def __init__(self, inner: Storage) -> None:
            super().__init__(inner)
            self.can_list = False

    web = AtlasStore(Web(store.storage), store.snapshot)
    assert verify(web).ok
    store.storage.delete([f"{the_entry(store).prefix}/x/c/1"])
    assert "is missing" in only_fault(web).message


def test_an_older_version(store: AtlasStore) -> None:
    assert verify(open_store(store.url, version=1)).n_entries == 2


@pytest.mark.parametrize("what", ["panel", "manifest", "snapshot", "chunk"])
def test_no_damage_makes_verify_raise(what: str) -> None:
    store = create_store(f"memory://{uuid.uuid4().hex}")
    panel = Panel.of([f"ENSG{k:011d}" for k in range(40)], organism="human")
    store.storage.put(panel_key(panel.digest), panel.to_parquet())
    receipt = write_attempt(store.storage, "sections/a", FILES)
    entry = section_entry("a", receipt=receipt, panel=panel.digest, n_vars=40)
    store.commit(Change(add_sections=[entry]), "add")
    key = {
        "panel": panel_key(panel.digest),
        "manifest": receipt.manifest,
        "snapshot": catalog_key(1),
        "chunk": f"{receipt.prefix}/x/c/3",
    }[what]
    good = store.storage.get(key)
    generator = random.Random(7)
    for _ in range(150):
        bad = bytearray(good)
        for _ in range(generator.choice([1, 1, 8])):
            bad[generator.randrange(len(bad))] ^= 1 << generator.randrange(8)
        cut = len(bad) if generator.random() < 0.8 else generator.randrange(len(bad))
        store.storage.put(key, bytes(bad[:cut]))
        report = verify(store)
        assert all(fault.location == key for fault in report.faults)
        assert not report.ok or what in ("panel", "snapshot")
    store.storage.put(key, good)
    assert verify(store).ok
