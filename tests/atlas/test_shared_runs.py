"""One run for all sections of a key, and results that grow stale with what a run learned from."""

import uuid

import pytest

from tisseract.atlas.errors import CommitConflict, StaleDerived
from tisseract.atlas.snapshot import Change, RunEntry, SectionEntry
from tisseract.atlas.store import AtlasStore, create_store, open_store

from .store_fakes import derived_entry, run_entry, section_entry


@pytest.fixture
def store() -> AtlasStore:
    """Sections a and b, labeled under one key by a run that was trained on both."""
    store = create_store(f"memory://{uuid.uuid4().hex}")
    store.commit(Change(add_sections=[section_entry("a"), section_entry("b")]), "sections")
    run = trained(store, "first", "a", "b")
    store.commit(Change(add_runs=[run], add_derived=labels(store, run, "a", "b")), "label")
    return store


def trained(store: AtlasStore, name: str, *sections: str, **more: str) -> RunEntry:
    inputs = {f"section:{one}": store.snapshot.sections[one].attempt for one in sections}
    return run_entry(name, inputs=inputs | more)


def labels(
    store: AtlasStore, run: RunEntry | None, *sections: str, kind: str = "domains", key: str = "d"
) -> list:  # type: ignore[type-arg]
    found = []
    for name in sections:
        section = store.snapshot.sections[name]
        entry = derived_entry(section, kind, key)
        inputs = dict(entry.inputs)
        if run is not None:
            inputs[f"run:{run.run}"] = run.attempt
        name_of_run = run.run if run else None
        found.append(derived_entry(section, kind, key, inputs=inputs, run=name_of_run))
    return found


def replace_section(store: AtlasStore, name: str) -> SectionEntry:
    entry = section_entry(name, uuid.uuid4().hex)
    store.commit(Change(add_sections=[entry], replace=True), f"replace {name}")
    return entry


@pytest.mark.parametrize("kind", ["domains", "topics"])
def test_labels_of_two_runs_under_one_key_are_refused(store: AtlasStore, kind: str) -> None:
    run = trained(store, "one", "a", "b")
    key = "other"
    change = Change(add_runs=[run], add_derived=labels(store, run, "a", "b", kind=kind, key=key))
    store.commit(change, "label")
    second = trained(store, "second", "a")
    again = Change(add_runs=[second], add_derived=labels(store, second, "a", kind=kind, key=key))
    with pytest.raises(CommitConflict, match=r"another run for 'a' than 'b' has.*another key"):
        store.commit(again, "label a alone")
    both = trained(store, "both", "a", "b")
    whole = labels(store, both, "a", "b", kind=kind, key=key)
    store.commit(Change(add_runs=[both], add_derived=whole), "label both")
    assert store.snapshot.runs_of(kind, key) == {"a": "both", "b": "both"}


def test_two_runs_in_one_change_are_refused(store: AtlasStore) -> None:
    runs = [trained(store, "x", "a"), trained(store, "y", "b")]
    entries = [*labels(store, runs[0], "a"), *labels(store, runs[1], "b")]
    with pytest.raises(CommitConflict, match="another run"):
        store.commit(Change(add_runs=runs, add_derived=entries), "mixed")


def test_what_is_removed_in_the_same_change_does_not_count(store: AtlasStore) -> None:
    second = trained(store, "second", "a")
    change = Change(
        add_runs=[second],
        add_derived=labels(store, second, "a"),
        remove_derived=["domains/d/b"],
    )
    store.commit(change, "label a alone")
    assert store.snapshot.runs_of("domains", "d") == {"a": "second"}


def test_labels_without_a_run_and_other_kinds_are_free(store: AtlasStore) -> None:
    store.commit(Change(add_derived=labels(store, None, "a")), "drawn by hand")
    second = trained(store, "second", "a")
    embedding = labels(store, second, "a", kind="embedding")
    store.commit(Change(add_runs=[second], add_derived=embedding), "embed a")


def test_a_replaced_section_makes_all_that_its_run_labeled_stale(store: AtlasStore) -> None:
    replace_section(store, "a")
    with pytest.raises(StaleDerived, match="section:a"):
        store.derived("domains", "d", "b")
    reopened = open_store(store.url)
    assert reopened.snapshot.stale_inputs(reopened.snapshot.derived["domains/d/b"]) == ["section:a"]
    # Nothing that is left of the key can be meant together with new labels.
    second = trained(store, "second", "a")
    change = Change(add_runs=[second], add_derived=labels(store, second, "a"))
    store.commit(change, "label a alone")
    assert store.snapshot.runs_of("domains", "d") == {"a": "second"}


def test_runs_of_runs_count(store: AtlasStore) -> None:
    encoder = store.snapshot.runs["first"]
    readout = trained(store, "readout", "b", **{"run:first": encoder.attempt})
    entries = labels(store, readout, "b", key="far")
    store.commit(Change(add_runs=[readout], add_derived=entries), "x")
    assert store.derived("domains", "far", "b").run == "readout"
    replace_section(store, "a")
    with pytest.raises(StaleDerived, match="section:a"):
        store.derived("domains", "far", "b")


def test_runs_that_name_each_other_end(store: AtlasStore) -> None:
    one, two = uuid.uuid4().hex, uuid.uuid4().hex
    runs = [
        run_entry("one", attempt=one, inputs={"run:two": two}),
        run_entry("two", attempt=two, inputs={"run:one": one, "section:gone": one}),
    ]
    store.commit(Change(add_runs=runs), "a ring")
    (entry,) = labels(store, runs[0], "a", key="ring")
    with pytest.raises(CommitConflict, match="section:gone"):
        store.commit(Change(add_derived=[entry]), "label")


def test_a_saved_model_is_applied_though_its_training_is_outdated(store: AtlasStore) -> None:
    replace_section(store, "a")
    section = store.snapshot.sections["a"]
    entry = derived_entry(section, "embedding", "again", run="first")
    store.commit(Change(add_derived=[entry]), "apply")
    assert store.derived("embedding", "again", "a") == entry
