"""A state machine: the atlas against a dictionary, through any order of steps."""

import uuid
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tisseract.atlas.errors import CommitConflict, SnapshotNotFound, StaleDerived
from tisseract.atlas.garbage import gc
from tisseract.atlas.snapshot import Change
from tisseract.atlas.store import AtlasStore, create_store, open_store
from tisseract.atlas.verify import verify

from .store_fakes import derived_entry, section_entry, write_attempt

NAMES = st.sampled_from(["a", "b", "c"])
INPUTS = st.sampled_from(["one", "two", "three"])
KEYS = st.sampled_from(["spatial", "wide"])


class AtlasMachine(RuleBasedStateMachine):
    """Sections, derived data, history and garbage; the model is plain dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: dict[str, tuple[str, str]] = {}  # name -> (fingerprint, attempt)
        self.derived: dict[tuple[str, str], str] = {}  # (key, section) -> section's attempt
        self.history: dict[int, dict[str, tuple[str, str]]] = {0: {}}
        self.removed: set[int] = set()
        self.orphans: list[Any] = []

    @initialize()
    def create(self) -> None:
        self.url = f"memory://{uuid.uuid4().hex}"
        self.store = create_store(self.url)

    def _committed(self) -> None:
        self.history.setdefault(self.store.version, dict(self.sections))

    @rule(name=NAMES, fingerprint=INPUTS, replace=st.booleans())
    def add_section(self, name: str, fingerprint: str, replace: bool) -> None:
        receipt = write_attempt(self.store.storage, f"sections/{name}")
        entry = section_entry(name, fingerprint, receipt=receipt)
        present = self.sections.get(name)
        try:
            self.store.commit(Change(add_sections=[entry], replace=replace), "add")
        except CommitConflict:
            assert present is not None
            assert present[0] != fingerprint
            assert not replace
            return
        if present is None or replace:
            self.sections[name] = (fingerprint, entry.attempt)
        else:
            assert present[0] == fingerprint
        self._committed()

    @rule(name=NAMES)
    def remove_section(self, name: str) -> None:
        self.store.commit(Change(remove_sections=[name]), "remove")
        if self.sections.pop(name, None):
            self.derived = {at: why for at, why in self.derived.items() if at[1] != name}
        self._committed()

    @rule(name=NAMES, key=KEYS, late=st.booleans())
    def derive(self, name: str, key: str, late: bool) -> None:
        if name not in self.sections:
            return
        seen = self.store.snapshot.sections[name]
        receipt = write_attempt(self.store.storage, f"derived/graph/{key}/{name}")
        entry = derived_entry(seen, key=key, attempt=receipt.attempt, digest=receipt.digest)
        if late:  # another writer replaces the section while this one computes
            self.add_section(name, "four", True)
        try:
            self.store.commit(Change(add_derived=[entry]), "derive")
        except CommitConflict:
            assert late
            return
        assert not late
        self.derived[key, name] = seen.attempt
        self._committed()

    @rule(name=NAMES)
    def crash(self, name: str) -> None:
        receipt = write_attempt(self.store.storage, f"sections/{name}")
        self.orphans.append(section_entry(name, "late", receipt=receipt))

    @rule()
    def come_back_late(self) -> None:
        if not self.orphans:
            return
        entry = self.orphans.pop()
        condemned = entry.prefix in self.store.snapshot.condemned
        try:
            self.store.commit(Change(add_sections=[entry], replace=True), "late")
        except CommitConflict:
            assert condemned
            return
        assert not condemned
        self.sections[entry.section] = ("late", entry.attempt)
        self._committed()

    @rule(keep=st.sampled_from([None, 1, 2]))
    def collect(self, keep: int | None) -> None:
        report = gc(self.store, dry_run=False, grace="0s", keep=keep)
        self.removed |= set(report.snapshots)
        self._committed()
        if keep == 1:
            left = {key.split("/")[2] for key, _ in self.store.storage.list("sections")}
            used = {attempt for _, attempt in self.sections.values()}
            assert {name.split(".")[0] for name in left} == used

    @rule()
    def reopen(self) -> None:
        self.store = open_store(self.url, read_only=False)

    @rule(data=st.data())
    def pin(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.history)))
        if number in self.removed:
            try:
                open_store(self.url, version=number)
            except SnapshotNotFound:
                return
            raise AssertionError(f"snapshot {number} should be gone")
        pinned = open_store(self.url, version=number)
        found = {
            name: (entry.fingerprint, entry.attempt)
            for name, entry in pinned.snapshot.sections.items()
        }
        assert found == self.history[number]
        for entry in pinned.snapshot.entries():
            assert pinned.storage.exists(entry.manifest)

    @invariant()
    def same_as_the_model(self) -> None:
        if not hasattr(self, "store"):
            return
        found = {
            name: (entry.fingerprint, entry.attempt)
            for name, entry in self.store.snapshot.sections.items()
        }
        assert found == self.sections
        assert {
            (entry.key, entry.section) for entry in self.store.snapshot.derived.values()
        } == set(self.derived)
        for (key, name), attempt in self.derived.items():
            try:
                self.store.derived("graph", key, name)
            except StaleDerived:
                assert self.sections[name][1] != attempt
            else:
                assert self.sections[name][1] == attempt

    def teardown(self) -> None:
        if hasattr(self, "store"):
            report = verify(AtlasStore(self.store.storage, self.store.refresh().snapshot))
            faults = [fault for fault in report.faults if "panels/" not in fault.location]
            assert faults == []


AtlasMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestAtlasMachine = AtlasMachine.TestCase
