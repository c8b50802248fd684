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
        self.attempts: dict[tuple[str, str], str] = {}  # (key, section) -> its own attempt
        self.seen: dict[tuple[str, str], str] = {}  # what another handle saw of these
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
            self.attempts = {at: own for at, own in self.attempts.items() if at[1] != name}
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
        self.attempts[key, name] = entry.attempt
        self._committed()

    @rule()
    def look(self) -> None:
        self.seen = dict(self.attempts)

    @rule(names=st.sets(NAMES, min_size=1), key=KEYS, alike=st.booleans())
    def derive_as_seen(self, names: set[str], key: str, alike: bool) -> None:
        """Add to what was seen at the last look; all, or none where one differs by now."""
        entries, expect = [], {}
        for name in sorted(names & set(self.sections)):
            receipt = write_attempt(self.store.storage, f"derived/graph/{key}/{name}")
            known = {"key": key, "attempt": receipt.attempt, "digest": receipt.digest}
            section = self.store.snapshot.sections[name]
            info = {} if alike else {"parameters": {"of": receipt.attempt}}
            entries.append(derived_entry(section, **known, info=info))
            expect[entries[-1].name] = self.seen.get((key, name))
        changed = {
            e.section for e in entries if self.attempts.get((key, e.section)) != expect[e.name]
        }
        # a graph that is there, the same as ours, is left as it is
        same = {
            e.section
            for e in entries
            if e.section in changed
            and alike
            and self.derived.get((key, e.section)) == self.sections[e.section][1]
            and self._parameters(key, e.section) is None
        }
        try:
            self.store.commit(Change(add_derived=entries, expect=expect), "as seen")
        except CommitConflict:
            assert changed - same
            return
        assert changed == same
        for entry in entries:
            if entry.section not in same:
                self.derived[key, entry.section] = self.sections[entry.section][1]
                self.attempts[key, entry.section] = entry.attempt
        self._committed()

    def _parameters(self, key: str, name: str) -> object:
        return self.store.snapshot.derived[f"graph/{key}/{name}"].info.get("parameters")

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
            (entry.key, entry.section): entry.attempt
            for entry in self.store.snapshot.derived.values()
        } == self.attempts
        assert set(self.attempts) == set(self.derived)
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
