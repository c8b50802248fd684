"""An opened atlas: created once, pinned, described, reopened elsewhere."""

import json
import pickle
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from tisseract.atlas.errors import (
    AtlasExists,
    AtlasNotFound,
    CommitConflict,
    Corrupt,
    DerivedNotFound,
    FormatUnsupported,
    ReadOnly,
    SectionNotFound,
    SnapshotNotFound,
    StaleDerived,
    StorageUnsupported,
)
from tisseract.atlas.probe import probe
from tisseract.atlas.snapshot import Change, DerivedEntry
from tisseract.atlas.storage import Storage, open_storage
from tisseract.atlas.store import AtlasStore, create_store, open_store

from .store_fakes import CountingStorage, WrappedStorage, derived_entry, section_entry


@pytest.fixture
def store(tmp_path: Path) -> AtlasStore:
    return create_store(tmp_path / "brain.atlas")


def add_graph(store: AtlasStore, section: str) -> DerivedEntry:
    """Commit a section and a derived group of one array."""
    entry = section_entry(section)
    with store.new_attempt(f"derived/graph/spatial/{section}") as attempt:
        group = zarr.open_group(attempt.path, mode="w", zarr_format=3)
        group.create_array("a/x", data=np.arange(1, 11), chunks=(4,))
        receipt = attempt.seal()
    graph = derived_entry(entry, attempt=receipt.attempt, digest=receipt.digest)
    store.commit(Change(add_sections=[entry], add_derived=[graph]), f"add {section}")
    return graph


class TestCreation:
    def test_create_then_open(self, tmp_path: Path) -> None:
        store = create_store(tmp_path / "a.atlas")
        assert (store.version, store.section_names, store.read_only) == (0, [], False)
        header = json.loads((tmp_path / "a.atlas" / "atlas.json").read_text())
        assert header["format"] == "tisseract"
        assert open_store(tmp_path / "a.atlas").read_only
        assert sorted(path.name for path in (tmp_path / "a.atlas").iterdir()) == [
            ".scratch",
            "atlas.json",
        ]

    def test_only_where_nothing_is(self, tmp_path: Path) -> None:
        create_store(tmp_path / "a")
        with pytest.raises(AtlasExists, match="holds one; open it"):
            create_store(tmp_path / "a")
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "thesis.docx").write_bytes(b"x")
        with pytest.raises(AtlasExists, match="other files"):
            create_store(tmp_path / "b")
        assert [path.name for path in (tmp_path / "b").iterdir()] == ["thesis.docx"]

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(AtlasNotFound, match="tisseract ingest"):
            open_store(tmp_path / "none")
        assert not (tmp_path / "none").exists()

    def test_after_a_creation_that_was_killed(self, tmp_path: Path) -> None:
        open_storage(tmp_path / "a", read_only=False).put("probe/x-race", b"1")
        assert create_store(tmp_path / "a").version == 0

    @pytest.mark.server
    def test_in_a_bucket(self, s3_place: tuple[str, dict[str, object]]) -> None:
        url, options = s3_place
        store = create_store(url, options)
        store.commit(Change(add_sections=[section_entry("a")]), "add")
        again = open_store(url, storage_options=options)
        assert again.section_names == ["a"]
        with pytest.raises(AtlasExists):
            create_store(url, options)

    def test_the_probe_passes(self, storage: Storage) -> None:
        probe(storage)
        assert list(storage.list()) == []

    def test_the_probe_refuses_a_careless_server(self) -> None:
        class Careless(WrappedStorage):
            def put_if_absent(self, key: str, data: bytes) -> None:
                self.inner.put(key, data)

        class Racy(WrappedStorage):
            def put_if_absent(self, key: str, data: bytes) -> None:
                if "race" in key:
                    self.inner.put(key, data)
                else:
                    self.inner.put_if_absent(key, data)

        inner = open_storage(f"memory://{uuid.uuid4().hex}", read_only=False)
        with pytest.raises(StorageUnsupported, match="overwrote an object"):
            probe(Careless(inner))
        with pytest.raises(StorageUnsupported, match="8 of 8 racing writers won"):
            probe(Racy(inner))
        assert list(inner.list()) == []

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"format_version": "2.0"}, FormatUnsupported),
            ({"requires": ["quantum"]}, FormatUnsupported),
            ({"requires": "quantum"}, Corrupt),
            ({"format": "zarr"}, Corrupt),
            ({"writers": 3}, Corrupt),
            ({"format_version": None}, Corrupt),
        ],
    )
    def test_a_header_that_does_not_fit(
        self, store: AtlasStore, change: dict[str, object], error: type[Exception]
    ) -> None:
        header = json.loads(store.storage.get("atlas.json"))
        store.storage.put("atlas.json", json.dumps(header | change).encode())
        with pytest.raises(error, match=r"atlas\.json"):
            open_store(store.url)

    def test_a_huge_header(self, store: AtlasStore) -> None:
        store.storage.put("atlas.json", b" " * (2**20 + 1))
        with pytest.raises(Corrupt, match="at most"):
            open_store(store.url)

    def test_opening_takes_few_requests(
        self, store: AtlasStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.commit(Change(add_sections=[section_entry("a")]), "add")
        counting = CountingStorage(store.storage)
        monkeypatch.setattr("tisseract.atlas.store.open_storage", lambda *_, **__: counting)
        open_store(store.url)
        assert counting.counts == {"get": 2, "entries": 1}


class TestVersions:
    def test_a_handle_does_not_move(self, store: AtlasStore) -> None:
        reader = open_store(store.url)
        store.commit(Change(add_sections=[section_entry("a")]), "add")
        assert reader.section_names == []
        assert reader.refresh().section_names == ["a"]

    def test_pinned(self, store: AtlasStore) -> None:
        for name in "abc":
            store.commit(Change(add_sections=[section_entry(name)]), f"add {name}")
        pinned = open_store(store.url, version=2, read_only=False)
        assert (pinned.version, pinned.section_names) == (2, ["a", "b"])
        with pytest.raises(ReadOnly, match="opened at version 2"):
            pinned.commit(Change(remove_sections=["a"]), "no")
        with pytest.raises(ReadOnly):
            pinned.new_attempt("models/m")
        assert open_store(store.url, version=0).section_names == []
        with pytest.raises(SnapshotNotFound, match="snapshot 9"):
            open_store(store.url, version=9)

    def test_reading_only(self, store: AtlasStore) -> None:
        reader = open_store(store.url)
        with pytest.raises(ReadOnly, match="read_only=False"):
            reader.commit(Change(), "no")
        with pytest.raises(ReadOnly):
            reader.new_attempt("models/m")

    def test_pickling_keeps_the_version(self, store: AtlasStore) -> None:
        store.commit(Change(add_sections=[section_entry("a")]), "add")
        data = pickle.dumps(store)
        assert len(data) < 1000
        store.commit(Change(add_sections=[section_entry("b")]), "add")
        again = pickle.loads(data)
        assert (again.version, again.section_names, again.read_only) == (1, ["a"], False)

    def test_a_subclass_stays_one(self, store: AtlasStore) -> None:
        found = pickle.loads(pickle.dumps(Front.open(store.url)))
        assert isinstance(found, Front)


class Front(AtlasStore):
    """What the public handle does: one class more."""


class TestContents:
    def test_the_table(self, store: AtlasStore) -> None:
        assert list(store.sections.index) == []
        known = section_entry("b", metadata={"timepoint": "E12", "stain": "HE", "section": "b"})
        blind = section_entry(
            "a", um_per_unit=None, metadata={"donor": "m1", "timepoint": "E10", "section": "a"}
        )
        store.commit(Change(add_sections=[known, blind]), "add")
        table = store.sections
        assert list(table.index) == ["a", "b"]
        assert table.index.name == "section"
        assert list(table.columns[:3]) == ["timepoint", "donor", "stain"]
        assert table.loc["b", "area_um2"] == 200.0
        assert np.isnan(table.loc["a", "area_um2"])  # type: ignore[arg-type]
        assert table["n_obs"].tolist() == [100, 100]
        assert table.loc["a", "donor"] == "m1"

    def test_names(self, store: AtlasStore) -> None:
        store.commit(Change(add_sections=[section_entry("E12_s03")]), "add")
        assert store.has_section("E12_s03")
        with pytest.raises(SectionNotFound, match="Did you mean 'E12_s03'"):
            store.section("E12_s3")
        assert "version 1: 1 sections, 100 cells" in repr(store)

    def test_derived(self, store: AtlasStore) -> None:
        with pytest.raises(DerivedNotFound, match="There is no graph at all"):
            store.derived("graph", "spatial", "a")
        graph = add_graph(store, "a")
        assert store.derived("graph", "spatial", "a") == graph
        assert store.derived_keys("graph") == {"spatial": ["a"]}
        assert store.derived_keys("domains") == {}
        with pytest.raises(DerivedNotFound, match="Did you mean 'spatial'"):
            store.derived("graph", "spatiel", "a")
        with pytest.raises(DerivedNotFound, match="no section of this name"):
            store.derived("graph", "spatial", "b")
        store.commit(Change(add_sections=[section_entry("b")]), "add")
        with pytest.raises(DerivedNotFound, match="for other sections only"):
            store.derived("graph", "spatial", "b")

    def test_stale(self, store: AtlasStore) -> None:
        graph = add_graph(store, "a")
        inputs = {graph.name: graph.attempt}
        labels = derived_entry(section_entry("a"), "domains", "d", inputs=inputs)
        store.commit(Change(add_derived=[labels]), "label")
        newer = section_entry("a", fingerprint="two")
        store.commit(Change(add_sections=[newer], replace=True), "replace")
        with pytest.raises(StaleDerived, match=r"section.*a.* was replaced"):
            store.derived("graph", "spatial", "a")
        with pytest.raises(StaleDerived, match=r"section.*a.* was replaced"):
            store.derived("domains", "d", "a")
        assert open_store(store.url, version=2).derived("domains", "d", "a") == labels

    def test_a_missing_chunk_is_no_zero(self, store: AtlasStore) -> None:
        graph = add_graph(store, "a")
        group = store.derived_group("graph", "spatial", "a")
        np.testing.assert_array_equal(group["a/x"][:], np.arange(1, 11))
        np.testing.assert_array_equal(group["a"]["x"][:], np.arange(1, 11))
        store.storage.delete([f"{graph.prefix}/a/x/c/1"])
        group = store.derived_group("graph", "spatial", "a")
        for array in (group["a/x"], group["a"]["x"]):
            with pytest.raises(Exception, match=r"(?i)chunk") as caught:
                array[:]
            assert type(caught.value).__name__ == "ChunkNotFoundError"
        with pytest.raises(Exception, match=r"(?i)read.only"):
            group.create_array("y", data=np.arange(3))

    def test_a_conflict_leaves_the_handle_where_it_was(self, store: AtlasStore) -> None:
        store.commit(Change(add_sections=[section_entry("a")]), "add")
        with pytest.raises(CommitConflict):
            store.commit(Change(add_sections=[section_entry("a", fingerprint="b")]), "no")
        assert store.version == 1


def test_opening_needs_no_heavy_library(store: AtlasStore) -> None:
    code = (
        "import sys; from tisseract.atlas.store import open_store; "
        f"store = open_store({store.url!r}); store.section_names; "
        "heavy = {'pandas', 'zarr', 'anndata', 'spatialdata', 'dask', 'torch', 'numpy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_make_storage_is_fresh(make_storage: Callable[..., Storage]) -> None:
    assert list(make_storage().list()) == []


def test_the_folder_shows_its_names() -> None:
    import tisseract.atlas as folder

    assert set(folder.__all__) == set(folder._NAMES)
    assert all(getattr(folder, name).__name__ == name for name in folder.__all__)
    assert set(folder.__all__) <= set(dir(folder))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = folder.nonsense  # type: ignore[attr-defined]
