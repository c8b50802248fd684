"""The contract of a storage, kept by a disk, a bucket and memory alike."""

import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import LocalStore

from tisseract.atlas.errors import (
    AlreadyExists,
    Corrupt,
    InvalidArgument,
    MissingKey,
    ReadOnly,
    StorageFull,
    StorageUnavailable,
    StorageUnsupported,
)
from tisseract.atlas.keys import catalog_key, check_key, check_name, number_of
from tisseract.atlas.storage import Storage, open_storage
from tisseract.atlas.storage_local import LocalStorage, name_os_error


class TestContract:
    def test_what_was_put_is_read_back(self, storage: Storage) -> None:
        storage.put("a/b", b"one")
        storage.put("a/b", b"two")
        assert storage.get("a/b") == b"two"
        assert storage.size("a/b") == 3
        assert storage.exists("a/b")

    def test_an_empty_object_is_an_object(self, storage: Storage) -> None:
        storage.put("a/empty", b"")
        assert storage.get("a/empty") == b""
        assert storage.exists("a/empty")
        assert storage.get_range("a/empty", 0, 5) == b""

    def test_a_key_that_is_not_there(self, storage: Storage) -> None:
        storage.put("a/b", b"one")
        for call in (storage.get, storage.size, lambda key: storage.get_range(key, 0, 1)):
            with pytest.raises(MissingKey, match="no object 'a/c'"):
                call("a/c")
            with pytest.raises(KeyError):
                call("a")  # a folder is no object
        assert not storage.exists("a/c")
        assert not storage.exists("a")

    def test_ranges(self, storage: Storage) -> None:
        storage.put("r", b"0123456789")
        assert storage.get_range("r", 2, 3) == b"234"
        assert storage.get_range("r", 8, 100) == b"89"
        assert storage.get_range("r", 10, 1) == b""
        assert storage.get_range("r", 99, 1) == b""
        assert storage.get_range("r", 3, 0) == b""
        with pytest.raises(InvalidArgument, match="byte range"):
            storage.get_range("r", -1, 2)

    def test_the_size_is_checked_before_reading(self, storage: Storage) -> None:
        storage.put("big", b"x" * 100)
        assert len(storage.get("big", max_bytes=100)) == 100
        with pytest.raises(Corrupt, match="at most 99 bytes"):
            storage.get("big", max_bytes=99)

    def test_put_if_absent_never_overwrites(self, storage: Storage) -> None:
        storage.put_if_absent("catalog/1", b"first")
        with pytest.raises(AlreadyExists, match="'catalog/1'"):
            storage.put_if_absent("catalog/1", b"second")
        assert storage.get("catalog/1") == b"first"

    def test_one_of_eight_racers_wins(self, storage: Storage) -> None:
        for trial in range(5):
            barrier = Barrier(8)

            def race(racer: int, key: str = f"race/{trial}", gate: Barrier = barrier) -> bool:
                gate.wait()
                try:
                    storage.put_if_absent(key, str(racer).encode())
                except AlreadyExists:
                    return False
                return True

            with ThreadPoolExecutor(8) as pool:
                won = list(pool.map(race, range(8)))
            assert sum(won) == 1
            assert storage.get(f"race/{trial}") == str(won.index(True)).encode()

    def test_listing_goes_by_folders(self, storage: Storage) -> None:
        for key in ("a/1", "a/b/2", "ab/3", "c"):
            storage.put(key, key.encode())
        assert sorted(storage.list("a")) == [("a/1", 3), ("a/b/2", 5)]
        assert sorted(key for key, _ in storage.list()) == ["a/1", "a/b/2", "ab/3", "c"]
        assert storage.list_prefixes() == ["a", "ab"]
        assert storage.list_prefixes("a") == ["a/b"]
        folders, files = storage.children("a")
        assert folders == ["a/b"]
        assert [entry.key for entry in files] == ["a/1"]
        assert list(storage.list("nowhere")) == []
        assert storage.children("nowhere") == ([], [])

    def test_entries_carry_the_time(self, storage: Storage) -> None:
        import time

        storage.put("a", b"1")
        (entry,) = storage.entries()
        assert abs(entry.modified - time.time()) < 120

    def test_deleting(self, storage: Storage) -> None:
        for key in ("a/1", "a/b/2", "ab/3"):
            storage.put(key, b"x")
        storage.delete(["a/1", "not/there"])
        assert [key for key, _ in storage.list("a")] == ["a/b/2"]
        storage.delete_prefix("a")
        assert [key for key, _ in storage.list()] == ["ab/3"]
        storage.delete_prefix("a")

    def test_uploading_a_large_file(self, storage: Storage, tmp_path: Path) -> None:
        data = np.random.default_rng(0).bytes(11 * 2**20)  # more than two parts
        (tmp_path / "file").write_bytes(data)
        storage.upload(tmp_path / "file", "up/file")
        assert storage.get("up/file") == data

    def test_reading_only(self, make_storage: Callable[..., Storage], tmp_path: Path) -> None:
        make_storage().put("a", b"1")
        storage = make_storage(read_only=True)
        assert storage.get("a") == b"1"
        writes: list[Callable[[], object]] = [
            lambda: storage.put("a", b"2"),
            lambda: storage.put_if_absent("b", b"2"),
            lambda: storage.upload(tmp_path, "b"),
            lambda: storage.delete(["a"]),
            lambda: storage.delete_prefix("a"),
            lambda: storage.zarr_store("z", read_only=False),
        ]
        for write in writes:
            with pytest.raises(ReadOnly, match="read_only=False"):
                write()
        assert storage.get("a") == b"1"

    @pytest.mark.parametrize("key", ["../x", "a/../b", "/a", "a//b", "", "a\0b", "a\\b", "./a"])
    def test_no_key_leaves_the_root(self, storage: Storage, key: str) -> None:
        for call in (storage.get, storage.size, storage.exists, storage.zarr_store):
            if key == "" and call == storage.zarr_store:
                continue  # the root itself
            with pytest.raises(InvalidArgument, match="a key is relative"):
                call(key)
        with pytest.raises(InvalidArgument):
            storage.put(key, b"x")
        with pytest.raises(InvalidArgument):
            storage.delete([key])

    def test_pickling(self, make_storage: Callable[..., Storage]) -> None:
        storage = make_storage()
        storage.put("a", b"1")
        again = pickle.loads(pickle.dumps(storage))
        assert again == storage
        assert hash(again) == hash(storage)
        assert again.url == storage.url
        assert again.read_only == storage.read_only

    def test_a_zarr_store_of_a_prefix(self, storage: Storage, tmp_path: Path) -> None:
        group = zarr.create_group(tmp_path / "group.zarr")
        group.create_array("x", data=np.arange(10), chunks=(4,))
        for path in sorted((tmp_path / "group.zarr").rglob("*")):
            if path.is_file():
                name = path.relative_to(tmp_path / "group.zarr").as_posix()
                storage.upload(path, f"sections/s/group.zarr/{name}")
        store = storage.zarr_store("sections/s/group.zarr")
        found = zarr.open_group(store, mode="r")
        np.testing.assert_array_equal(found["x"][:], np.arange(10))  # type: ignore[index]
        with pytest.raises(ValueError, match="read-only"):
            zarr.open_group(store, mode="r+").create_array("y", data=np.arange(3))


class TestLocal:
    def test_reading_makes_no_folder(self, tmp_path: Path) -> None:
        storage = open_storage(tmp_path / "none")
        assert not storage.exists("a")
        assert list(storage.list()) == []
        assert not (tmp_path / "none").exists()

    def test_a_disk_gives_zarr_its_own_store(self, local: Storage) -> None:
        assert isinstance(local.zarr_store("a"), LocalStore)

    def test_links_out_of_the_root_are_refused(self, local: Storage, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"secret")
        local.put("a/b", b"1")
        root = tmp_path / "atlas"
        (root / "a" / "link").symlink_to(tmp_path / "secret")
        (root / "out").symlink_to(tmp_path)
        for key in ("a/link", "out/secret"):
            for call in (local.get, local.size, lambda key: local.get_range(key, 0, 1)):
                with pytest.raises(Corrupt, match="linked outside"):
                    call(key)

    def test_a_root_behind_a_link_works(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        storage = open_storage(tmp_path / "link" / "atlas", read_only=False)
        storage.put("a/b", b"1")
        assert storage.get("a/b") == b"1"

    def test_no_half_written_object_is_listed_or_left(
        self, local: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        local.put("a", b"old")
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StorageFull, match="no space is left"):
            local.put("a", b"new")
        monkeypatch.undo()
        assert local.get("a") == b"old"
        assert [key for key, _ in local.list()] == ["a"]
        assert isinstance(local, LocalStorage)
        assert local.scratch(before=float("inf")) == []

    def test_a_disk_without_links_says_so(
        self, local: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", fail)
        with pytest.raises(StorageUnsupported, match="hard links"):
            local.put_if_absent("a", b"1")

    def test_every_object_and_its_folder_are_flushed(
        self, local: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flushed: list[str] = []
        real = os.fsync

        def note(descriptor: int) -> None:
            flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
            real(descriptor)

        if not Path("/proc/self/fd").is_dir():
            pytest.skip("needs /proc to see what is flushed")
        monkeypatch.setattr(os, "fsync", note)
        local.put_if_absent("new/deep/key", b"1")
        root = str(local.local_path())
        assert any(path.startswith(f"{root}/.scratch/") for path in flushed)
        assert {root, f"{root}/new", f"{root}/new/deep"} <= set(flushed)

    def test_other_disk_errors(self) -> None:
        assert name_os_error(OSError(5, "Input/output error"), "x").kind == "storage-unavailable"
        assert isinstance(name_os_error(OSError(5, "x"), "x"), StorageUnavailable)
        assert name_os_error(OSError(30, "Read-only file system"), "x").kind == "access-denied"


class TestKeys:
    @given(st.integers(min_value=1, max_value=10**12 - 1))
    def test_catalog_keys_count_down(self, number: int) -> None:
        assert number_of(catalog_key(number)) == number
        if number > 1:
            assert catalog_key(number) < catalog_key(number - 1)

    @pytest.mark.parametrize("number", [0, -1, 10**12])
    def test_numbers_outside_are_refused(self, number: int) -> None:
        with pytest.raises(InvalidArgument, match="starts at 1"):
            catalog_key(number)

    @pytest.mark.parametrize(
        "key", ["catalog/x.json", "catalog/1.json", "catalog/000000000000.json"]
    )
    def test_other_keys_are_no_snapshots(self, key: str) -> None:
        assert number_of(key) is None

    @pytest.mark.parametrize("name", ["", ".", "..", ".a", "a/b", "a b", "é", "a" * 129, "a\n"])
    def test_bad_names(self, name: str) -> None:
        with pytest.raises(InvalidArgument, match="1 to 128 letters"):
            check_name(name)

    @given(st.text(max_size=40))
    def test_an_accepted_key_stays_inside(self, key: str) -> None:
        try:
            check_key(key)
        except InvalidArgument:
            return
        root = Path("/data/of/atlas")
        assert Path(os.path.normpath(root / key)).is_relative_to(root)
        assert Path(os.path.normpath(root / key)) != root
