"""Commits: numbered, contiguous, never lost, never doubled, whatever the storage does."""

import json
import pickle
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from tisseract.atlas.catalog import (
    Tombstone,
    commit,
    history,
    latest_number,
    read_record,
    read_snapshot,
)
from tisseract.atlas.errors import (
    AlreadyExists,
    CommitConflict,
    CommitUncertain,
    Corrupt,
    FormatUnsupported,
    InvalidArgument,
    ReadOnly,
    SnapshotNotFound,
    StorageUnavailable,
)
from tisseract.atlas.keys import catalog_key
from tisseract.atlas.manifest import digest_bytes
from tisseract.atlas.snapshot import Change, SegmentEntry, Snapshot
from tisseract.atlas.storage import Storage, open_storage

from .store_fakes import (
    DIGEST,
    CountingStorage,
    FaultyStorage,
    WrappedStorage,
    derived_entry,
    run_entry,
    section_entry,
)


def add(*names: str) -> Change:
    return Change(add_sections=[section_entry(name) for name in names])


class TestNumbers:
    def test_the_first_is_one(self, storage: Storage) -> None:
        assert latest_number(storage) == 0
        assert read_snapshot(storage) == Snapshot.empty()
        first = commit(storage, add("a"), "first")
        assert (first.number, first.parent) == (1, None)
        assert storage.exists("catalog/999999999999.json")
        second = commit(storage, add("b"), "second")
        assert (second.number, second.parent) == (2, first.digest)
        assert set(second.sections) == {"a", "b"}
        assert second.digest == digest_bytes(storage.get(catalog_key(2)))
        assert read_snapshot(storage) == second
        assert read_snapshot(storage, 1) == first
        assert [record.number for record in history(storage)] == [2, 1]

    def test_more_than_one_page(self, local: Storage) -> None:
        memory = open_storage("memory://pages", read_only=False)
        for storage in (local, memory):
            body = commit(storage, add("a"), "x").to_bytes()
            for number in (7, 1003, 1500, 12):
                storage.put(catalog_key(number), body)
            assert latest_number(storage) == 1500

    @pytest.mark.parametrize("newest", [0, 1, 2, 3, 4, 5, 8, 31, 32, 33, 100])
    def test_a_web_server_is_asked_by_number(self, newest: int) -> None:
        storage = open_storage(f"memory://gallop{newest}", read_only=False)
        for number in range(1, newest + 1):
            storage.put(catalog_key(number), b"{}")
        counting = CountingStorage(storage)
        counting.can_list = False
        assert latest_number(counting) == newest
        assert counting.counts["entries"] == 0
        assert counting.counts["size"] <= 16
        if newest:
            assert latest_number(counting, hint=newest) == newest

    def test_other_objects_in_the_catalog_are_passed_over(self, local: Storage) -> None:
        commit(local, add("a"), "x")
        local.put("catalog/README.json", b"hello")
        assert latest_number(local) == 1

    def test_a_number_that_is_not_there(self, local: Storage) -> None:
        commit(local, add("a"), "x")
        for number in (2, -1, 10**13):
            with pytest.raises(SnapshotNotFound, match=f"snapshot {number} is wanted"):
                read_snapshot(local, number)

    def test_a_commit_takes_few_requests(self, storage: Storage) -> None:
        commit(storage, add("a"), "x")
        counting = CountingStorage(storage)
        commit(counting, add("b"), "x")
        assert counting.counts == {"entries": 1, "get": 1, "put_if_absent": 1}


class TestRules:
    def test_the_same_input_again_changes_nothing(self, local: Storage) -> None:
        first = commit(local, add("a"), "first")
        again = commit(local, add("a"), "again")
        assert again == first
        assert latest_number(local) == 1

    def test_another_input_conflicts_unless_replaced(self, local: Storage) -> None:
        commit(local, add("a"), "first")
        other = section_entry("a", fingerprint="two")
        with pytest.raises(CommitConflict, match="section 'a'"):
            commit(local, Change(add_sections=[other]), "second")
        assert latest_number(local) == 1
        done = commit(local, Change(add_sections=[other], replace=True), "second")
        assert done.sections["a"] == other

    def test_replacing_with_the_same_input_mends_a_section(self, local: Storage) -> None:
        commit(local, add("a"), "first")
        again = section_entry("a")
        done = commit(local, Change(add_sections=[again], replace=True), "mend")
        assert done.sections["a"].attempt == again.attempt

    def test_removing_takes_what_was_derived(self, local: Storage) -> None:
        a, b = section_entry("a"), section_entry("b")
        change = Change(add_sections=[a, b], add_derived=[derived_entry(a), derived_entry(b)])
        commit(local, change, "add")
        done = commit(local, Change(remove_sections=["a"]), "remove")
        assert set(done.sections) == {"b"}
        assert set(done.derived) == {"graph/spatial/b"}
        done = commit(local, Change(remove_derived=["graph/spatial/b"]), "remove")
        assert not done.derived
        assert commit(local, Change(remove_sections=["a", "z"]), "again") == done

    def test_derived_inputs_must_still_be_there(self, local: Storage) -> None:
        a = section_entry("a")
        commit(local, Change(add_sections=[a]), "add")
        graph = derived_entry(a)
        newer = section_entry("a", fingerprint="two")
        commit(local, Change(add_sections=[newer], replace=True), "replace")
        with pytest.raises(CommitConflict, match="section:a was replaced or removed meanwhile"):
            commit(local, Change(add_derived=[graph]), "late")
        commit(local, Change(remove_sections=["a"]), "remove")
        with pytest.raises(CommitConflict, match="needs section 'a'"):
            commit(local, Change(add_derived=[graph]), "later")

    def test_derived_data_takes_the_place_of_what_was_seen(self, local: Storage) -> None:
        a = section_entry("a")
        commit(local, Change(add_sections=[a]), "add")
        first, second, third = (derived_entry(a, "domains", "d") for _ in range(3))
        seen = Snapshot.empty().attempts_at([first])
        assert seen == {"domains/d/a": None}
        done = commit(local, Change(add_derived=[first], expect=seen), "first")
        assert commit(local, Change(add_derived=[first], expect=seen), "again") == done
        with pytest.raises(CommitConflict, match=f"not there.*attempt {first.attempt}.*version 2"):
            commit(local, Change(add_derived=[second], expect=seen), "late")
        seen = done.attempts_at([second])
        done = commit(local, Change(add_derived=[second], expect=seen), "edit")
        with pytest.raises(CommitConflict, match=f"in attempt {first.attempt}"):
            commit(local, Change(add_derived=[third], expect=seen), "another edit")
        assert read_snapshot(local) == done
        commit(local, Change(remove_derived=[first.name]), "remove")
        with pytest.raises(CommitConflict, match="removed meanwhile"):
            commit(local, Change(add_derived=[third], expect=done.attempts_at([third])), "late")
        with pytest.raises(InvalidArgument, match="expect="):
            Change(add_derived=[third], expect={"domains/other/a": None})

    def test_a_graph_that_is_there_stays(self, local: Storage) -> None:
        a, b = section_entry("a"), section_entry("b")
        first = derived_entry(a)
        commit(local, Change(add_sections=[a, b], add_derived=[first]), "add")
        same, further = derived_entry(a), derived_entry(b)
        expect = dict.fromkeys((same.name, further.name))
        done = commit(local, Change(add_derived=[same, further], expect=expect), "the same")
        assert done.derived == {first.name: first, further.name: further}
        newer = section_entry("a", fingerprint="two")
        commit(local, Change(add_sections=[newer], replace=True), "replace")
        with pytest.raises(CommitConflict, match="section:a was replaced"):
            commit(local, Change(add_derived=[same], expect={same.name: None}), "late")
        other = derived_entry(newer, info={"parameters": {"n_neighs": 8}})
        with pytest.raises(CommitConflict, match=first.attempt):
            commit(local, Change(add_derived=[other], expect={other.name: None}), "another")

    def test_segments_are_those_seen(self, local: Storage) -> None:
        def segment(key: str = "k") -> SegmentEntry:
            return SegmentEntry("index", key, uuid.uuid4().hex, DIGEST, 1)

        def beside(entry: SegmentEntry, *seen: SegmentEntry) -> Change:
            names = {"index/k": [one.name for one in seen]}
            return Change(add_segments=[entry], expect_segments=names)

        first, second = segment(), segment()
        commit(local, Change(add_segments=[segment("other")]), "another key")
        done = commit(local, beside(first), "first")
        assert commit(local, beside(first), "again") == done
        assert commit(local, beside(first, second), "in already") == done
        with pytest.raises(CommitConflict, match="'index/k' with the 0 segments"):
            commit(local, beside(second), "late")
        commit(local, beside(second, first), "seen")
        commit(local, Change(remove_segments=[first.name]), "remove")
        with pytest.raises(CommitConflict, match="'index/k' with the 2 segments"):
            commit(local, beside(segment(), first, second), "late")

    def test_inputs_are_followed_through_other_derived_data(self, local: Storage) -> None:
        a = section_entry("a")
        graph = derived_entry(a)
        commit(local, Change(add_sections=[a], add_derived=[graph]), "add")
        embedding = derived_entry(a, "embedding", "z", inputs={graph.name: graph.attempt})
        commit(local, Change(add_derived=[embedding]), "embed")
        newer = section_entry("a", fingerprint="two")
        done = commit(local, Change(add_sections=[newer], replace=True), "replace")
        assert done.stale_inputs(done.derived["embedding/z/a"]) == ["section:a"]
        late = derived_entry(newer, "domains", "d", inputs={embedding.name: embedding.attempt})
        with pytest.raises(CommitConflict, match="section:a"):
            commit(local, Change(add_derived=[late]), "late")

    def test_a_run_must_be_there_and_is_never_replaced(self, local: Storage) -> None:
        a = section_entry("a")
        labels = derived_entry(a, "domains", "d", run="first")
        with pytest.raises(CommitConflict, match="needs run 'first'"):
            commit(local, Change(add_sections=[a], add_derived=[labels]), "early")
        run = run_entry("first")
        change = Change(add_sections=[a], add_runs=[run], add_derived=[labels])
        done = commit(local, change, "together")
        assert done.runs == {"first": run}
        with pytest.raises(CommitConflict, match="run 'first'"):
            commit(local, Change(add_runs=[run_entry("first")]), "again")

    def test_a_condemned_attempt_cannot_be_committed(self, local: Storage) -> None:
        late = section_entry("a")
        commit(local, Change(condemn=[late.prefix]), "gc")
        with pytest.raises(CommitConflict, match="re-run the step"):
            commit(local, Change(add_sections=[late]), "late")
        assert read_snapshot(local).condemned == (late.prefix,)

    def test_what_is_in_use_cannot_be_condemned(self, local: Storage) -> None:
        a = section_entry("a")
        commit(local, Change(add_sections=[a]), "add")
        with pytest.raises(CommitConflict, match="run gc again"):
            commit(local, Change(condemn=[a.prefix]), "gc")

    def test_a_generator_survives_rebases(self, local: Storage) -> None:
        change = Change(add_sections=(section_entry(name) for name in "ab"))
        assert len(commit(local, change, "x").sections) == 2

    @pytest.mark.parametrize(
        "facts",
        [
            {"section": "../evil"},
            {"section": ".hidden"},
            {"bounds": (0.0, float("nan"), 1.0, 1.0)},
            {"bounds": (0.0, 1.0)},
            {"n_obs": -1},
            {"metadata": {"x": float("inf")}},
            {"metadata": {"x": [1]}},
            {"attempt": "../../x"},
            {"digest": "md5:0"},
            {"panel": "../x"},
        ],
    )
    def test_what_could_not_be_read_back_is_refused(
        self, local: Storage, facts: dict[str, object]
    ) -> None:
        with pytest.raises(InvalidArgument):
            commit(local, Change(add_sections=[section_entry(**facts)]), "x")  # type: ignore[arg-type]
        assert latest_number(local) == 0

    def test_a_long_message_is_refused(self, local: Storage) -> None:
        with pytest.raises(InvalidArgument, match="at most 2000 characters"):
            commit(local, add("a"), "x" * 2001)

    def test_reading_only(self, local: Storage) -> None:
        root = local.local_path()
        assert root is not None
        with pytest.raises(ReadOnly, match="a commit"):
            commit(open_storage(root), add("a"), "x")

    def test_numpy_numbers_are_taken(self, local: Storage) -> None:
        import numpy as np

        entry = section_entry("a", n_obs=np.int64(7), um_per_unit=np.float32(0.5))
        assert commit(local, Change(add_sections=[entry]), "x").sections["a"].n_obs == 7
        assert read_snapshot(local).sections["a"].um_per_unit == 0.5


class TestRaces:
    @pytest.mark.parametrize(("writers", "commits"), [(8, 25)])
    def test_no_commit_is_lost_on_a_disk(self, local: Storage, writers: int, commits: int) -> None:
        race(lambda _: local, local, writers, commits)

    def test_no_commit_is_lost_elsewhere(self, make_storage: Callable[..., Storage]) -> None:
        race(lambda _: make_storage(), make_storage(), 4, 8)

    def test_one_of_two_inputs_wins(self, storage: Storage) -> None:
        def run(racer: int) -> bool:
            entry = section_entry("same", fingerprint=f"input {racer}")
            try:
                commit(storage, Change(add_sections=[entry]), f"racer {racer}")
            except CommitConflict:
                return False
            return True

        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(run, range(6))) == 1
        assert latest_number(storage) == 1

    def test_no_edit_is_lost(self, storage: Storage) -> None:
        """Each racer adds its number to what it saw, until it may: all numbers are there."""
        a = section_entry("a")
        commit(storage, Change(add_sections=[a]), "add")

        def run(racer: int) -> None:
            while True:
                head = read_snapshot(storage)
                there = head.derived.get("domains/d/a")
                done = [] if there is None else there.info["done"]
                entry = derived_entry(a, "domains", "d", info={"done": [*done, racer]})
                change = Change(add_derived=[entry], expect=head.attempts_at([entry]))
                try:
                    commit(storage, change, f"racer {racer}")
                except CommitConflict:
                    continue
                return

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(run, [0, 1, 2, 3] * 2))
        found = read_snapshot(storage)
        assert sorted(found.derived["domains/d/a"].info["done"]) == [0, 0, 1, 1, 2, 2, 3, 3]
        assert found.number == 9

    def test_the_same_input_wins_once(self, storage: Storage) -> None:
        with ThreadPoolExecutor(6) as pool:
            done = list(pool.map(lambda _: commit(storage, add("same"), "x"), range(6)))
        assert latest_number(storage) == 1
        assert {snapshot.sections["same"].attempt for snapshot in done} == {
            read_snapshot(storage).sections["same"].attempt
        }


def race(storage_of: Callable[[int], Storage], plain: Storage, writers: int, commits: int) -> None:
    """Commit from several threads; everything acknowledged is there, once, in one chain."""

    def run(writer: int) -> list[int]:
        storage = storage_of(writer)
        return [
            commit(storage, add(f"w{writer}_{index}"), f"w{writer}_{index}").number
            for index in range(commits)
        ]

    with ThreadPoolExecutor(writers) as pool:
        numbers = [number for part in pool.map(run, range(writers)) for number in part]
    total = writers * commits
    assert sorted(numbers) == list(range(1, total + 1))
    newest = read_snapshot(plain)
    assert newest.number == total
    assert len(newest.sections) == total
    records = list(history(plain))
    assert len({record.message for record in records}) == total
    for later, earlier in pairwise(records):
        assert isinstance(earlier, Snapshot)
        assert later.parent == earlier.digest
        assert set(earlier.sections) < set(later.sections)  # type: ignore[union-attr]


class TestFaults:
    def test_503s_and_lost_acknowledgements(self, make_storage: Callable[..., Storage]) -> None:
        plain = make_storage()
        faulty = [
            FaultyStorage(make_storage(), refused=0.1, lost=0.1, seed=seed) for seed in range(4)
        ]
        race(lambda writer: faulty[writer], plain, 4, 12)
        assert sum(storage.n_lost for storage in faulty) > 0
        assert sum(storage.n_refused for storage in faulty) > 0

    def test_a_lost_acknowledgement_is_known_again(self, local: Storage) -> None:
        faulty = FaultyStorage(local, lost=1.0)
        done = commit(faulty, add("a"), "x")
        assert done == read_snapshot(local)
        assert latest_number(local) == 1

    def test_sent_twice_under_the_hood(self, local: Storage) -> None:
        class Retrying(WrappedStorage):
            """The client's own retry after a lost answer finds the first request's object."""

            def put_if_absent(self, key: str, data: bytes) -> None:
                self.inner.put_if_absent(key, data)
                raise AlreadyExists("taken")

        done = commit(Retrying(local), add("a"), "x")
        assert (done.number, latest_number(local)) == (1, 1)

    def test_a_put_that_lands_late(self, local: Storage) -> None:
        class Late(WrappedStorage):
            """The first put fails and is not there when asked, but arrives a little later."""

            pending: tuple[str, bytes] | None = None
            n_puts = 0

            def put_if_absent(self, key: str, data: bytes) -> None:
                self.n_puts += 1
                if self.n_puts == 1:
                    self.pending = (key, data)
                    raise StorageUnavailable("timeout")
                if self.pending is not None:
                    pending, self.pending = self.pending, None
                    self.inner.put_if_absent(*pending)
                    # ... and another writer builds on it before we look again.
                    commit(self.inner, Change(add_sections=[section_entry("b")]), "other")
                self.inner.put_if_absent(key, data)

        done = commit(Late(local), add("a"), "mine")
        assert (done.number, done.message) == (1, "mine")
        assert [record.message for record in history(local)] == ["other", "mine"]

    def test_a_late_put_is_not_committed_twice(self, local: Storage) -> None:
        class LateListing(WrappedStorage):
            n_puts = 0

            def put_if_absent(self, key: str, data: bytes) -> None:
                self.n_puts += 1
                if self.n_puts > 1:
                    raise AssertionError("the commit had landed already")
                self.data = (key, data)
                raise StorageUnavailable("timeout")

            def entries(self, prefix: str = ""):  # type: ignore[no-untyped-def]
                if self.n_puts == 1 and not self.inner.exists(self.data[0]):
                    self.inner.put_if_absent(*self.data)
                    replaced = section_entry("a", fingerprint="theirs")
                    commit(self.inner, Change(add_sections=[replaced], replace=True), "other")
                return self.inner.entries(prefix)

        change = Change(add_sections=[section_entry("a", fingerprint="mine")], replace=True)
        done = commit(LateListing(local), change, "mine")
        assert done.number == 1
        assert read_snapshot(local).sections["a"].fingerprint == "theirs"

    def test_a_storage_that_never_answers(self, local: Storage) -> None:
        class Dead(WrappedStorage):
            def put_if_absent(self, key: str, data: bytes) -> None:
                raise StorageUnavailable("no route to host")

        with pytest.raises(CommitUncertain, match="look for it in `tisseract history`"):
            commit(Dead(local), add("a"), "x")
        with pytest.raises(StorageUnavailable):
            commit(FaultyStorage(local, refused=1.0), add("a"), "x")


class TestTombstones:
    def test_a_removed_snapshot_keeps_its_number_and_chain(self, local: Storage) -> None:
        first = commit(local, add("a"), "first")
        commit(local, add("b"), "second")
        stone = Tombstone(1, first.commit, None, first.digest, first.created, "first")
        local.put(catalog_key(1), stone.to_bytes())
        assert read_record(local, 1) == stone
        with pytest.raises(SnapshotNotFound, match="gc removed"):
            read_snapshot(local, 1)
        assert [record.number for record in history(local)] == [2, 1]
        local.put(catalog_key(1), stone.to_bytes().replace(b'"number":1', b'"number":9'))
        with pytest.raises(Corrupt, match="number 1 is wanted"):
            read_record(local, 1)


class TestHostile:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xff\xfe",
            b"null",
            b"[]",
            b"{" * 100_000,
            b"[" * 1_000_000,
            b'{"format": "tisseract-snapshot"}',
            b'{"format": "tisseract-snapshot", "format_version": 7}',
            b'{"format": "other", "format_version": "1.0"}',
            b'{"format": "tisseract-snapshot", "format_version": "1.0", "x": NaN}',
            b'{"format": "tisseract-snapshot", "format_version": "1.0", "number": ' + b"9" * 9999,
        ],
    )
    def test_no_snapshot(self, local: Storage, data: bytes) -> None:
        local.put(catalog_key(1), data)
        with pytest.raises(Corrupt):
            read_snapshot(local)
        with pytest.raises(Corrupt):
            commit(local, add("a"), "on top of it")

    @pytest.mark.parametrize(
        ("group", "field", "value"),
        [
            ("sections", "section", "../../etc"),
            ("sections", "attempt", "../x"),
            ("sections", "digest", 7),
            ("sections", "n_obs", -1),
            ("sections", "n_obs", 1.5),
            ("sections", "n_obs", True),
            ("sections", "n_obs", 2**64),
            ("sections", "panel", "../../x"),
            ("sections", "bounds", [0, 0, 1]),
            ("sections", "bounds", [0, 0, 1, "1"]),
            ("sections", "bounds", [0, 0, 1, 1e308]),
            ("sections", "metadata", []),
            ("sections", "metadata", {"x": {"y": 1}}),
            ("sections", "columns", {"x": 1}),
            ("derived", "kind", "../x"),
            ("derived", "inputs", {"section:a": "../x"}),
            ("derived", "info", 3),
            ("runs", "run", ".."),
        ],
    )
    def test_no_field_is_trusted(
        self, local: Storage, group: str, field: str, value: object
    ) -> None:
        a = section_entry("a")
        change = Change(add_sections=[a], add_derived=[derived_entry(a)], add_runs=[run_entry()])
        commit(local, change, "x")
        body = json.loads(local.get(catalog_key(1)))
        body[group][0][field] = value
        local.put(catalog_key(1), json.dumps(body).encode())
        with pytest.raises(Corrupt, match=f"{group} 0"):
            read_snapshot(local)
        del body[group][0][field]
        local.put(catalog_key(1), json.dumps(body).encode())
        with pytest.raises(Corrupt, match=f"a field {field!r} is wanted"):
            read_snapshot(local)

    def test_deep_information(self, local: Storage) -> None:
        a = section_entry("a")
        deep: dict[str, object] = {}
        for _ in range(50):
            deep = {"x": deep}
        change = Change(add_sections=[a], add_derived=[derived_entry(a, info=deep)])
        with pytest.raises(InvalidArgument, match="12 levels"):
            commit(local, change, "x")

    def test_condemned_keys_stay_inside(self, local: Storage) -> None:
        commit(local, add("a"), "x")
        body = json.loads(local.get(catalog_key(1)))
        body["condemned"] = ["../../home"]
        local.put(catalog_key(1), json.dumps(body).encode())
        with pytest.raises(Corrupt, match="condemned"):
            read_snapshot(local)

    def test_a_newer_format(self, local: Storage) -> None:
        commit(local, add("a"), "x")
        body = json.loads(local.get(catalog_key(1)))
        body["format_version"] = "2.0"
        local.put(catalog_key(1), json.dumps(body).encode())
        with pytest.raises(FormatUnsupported, match=r"got 2\.0; upgrade"):
            read_snapshot(local)
        body |= {"format_version": "1.0", "requires": ["quantum"]}
        local.put(catalog_key(1), json.dumps(body).encode())
        with pytest.raises(FormatUnsupported, match="quantum"):
            read_snapshot(local)

    def test_a_newer_minor_format_is_read_but_not_written(self, local: Storage) -> None:
        commit(local, add("a"), "x")
        body = json.loads(local.get(catalog_key(1)))
        body |= {"format_version": "1.9", "novelty": [1]}
        body["sections"][0]["novelty"] = 1
        local.put(catalog_key(1), json.dumps(body).encode())
        assert set(read_snapshot(local).sections) == {"a"}
        with pytest.raises(FormatUnsupported, match="for writing"):
            commit(local, add("b"), "x")

    def test_a_snapshot_of_another_number(self, local: Storage) -> None:
        commit(local, add("a"), "x")
        local.put(catalog_key(2), local.get(catalog_key(1)))
        with pytest.raises(Corrupt, match="number 2 is wanted"):
            read_snapshot(local)


def test_a_snapshot_pickles(local: Storage) -> None:
    a = section_entry("a")
    done = commit(local, Change(add_sections=[a], add_derived=[derived_entry(a)]), "x")
    assert pickle.loads(pickle.dumps(done)) == done
    assert Snapshot.from_bytes(done.to_bytes(), 1) == done
    assert done.to_bytes() == local.get(catalog_key(1))
