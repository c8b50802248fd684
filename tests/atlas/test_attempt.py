"""Attempts: a fresh place, a receipt once whole, nothing left otherwise."""

import errno
import hashlib
import pickle
from pathlib import Path

import pytest

from tisseract.atlas.attempt import Receipt, new_attempt
from tisseract.atlas.errors import Corrupt, InvalidArgument, MissingKey, ReadOnly, StorageFull
from tisseract.atlas.keys import is_attempt
from tisseract.atlas.manifest import Manifest, digest_bytes, parse_json, read_manifest
from tisseract.atlas.storage import Storage, open_storage

from .store_fakes import FaultyStorage, WrappedStorage, write_attempt


def test_a_sealed_attempt_is_there_with_its_manifest(storage: Storage) -> None:
    receipt = write_attempt(storage, "sections/E12_s03", {"zarr.json": b"{}", "a/c/0/1": b"123"})
    assert is_attempt(receipt.attempt)
    assert receipt.prefix == f"sections/E12_s03/{receipt.attempt}.zarr"
    assert receipt.manifest == f"sections/E12_s03/{receipt.attempt}.manifest.json"
    assert (receipt.nbytes, receipt.n_keys) == (5, 2)
    assert receipt.digest == digest_bytes(storage.get(receipt.manifest))
    assert storage.get(f"{receipt.prefix}/a/c/0/1") == b"123"
    manifest = read_manifest(storage, receipt.manifest, receipt.digest)
    assert [(key.key, key.size, key.sha256) for key in manifest.keys] == [
        ("a/c/0/1", 3, hashlib.sha256(b"123").hexdigest()),
        ("zarr.json", 2, hashlib.sha256(b"{}").hexdigest()),
    ]
    assert manifest.nbytes == 5
    assert pickle.loads(pickle.dumps(receipt)) == receipt
    assert len(pickle.dumps(receipt)) < 1000


def test_derived_data_has_no_suffix(storage: Storage) -> None:
    receipt = write_attempt(storage, "derived/graph/spatial/E12")
    assert receipt.prefix == f"derived/graph/spatial/E12/{receipt.attempt}"


def test_the_manifest_comes_last(local: Storage) -> None:
    order: list[str] = []

    class Noting(WrappedStorage):
        def call(self, verb: str, *args: object, **options: object) -> object:
            if verb in ("upload", "put", "put_if_absent"):
                order.append(str(args[1] if verb == "upload" else args[0]))
            return super().call(verb, *args, **options)

    receipt = write_attempt(Noting(open_storage("memory://last", read_only=False)), "models/m")
    assert order[-1] == receipt.manifest
    assert len(order) == 3


def test_an_exception_leaves_nothing(storage: Storage) -> None:
    with pytest.raises(KeyError), new_attempt(storage, "models/m") as attempt:  # noqa: PT012
        (attempt.path / "half").write_bytes(b"x")
        raise KeyError("half way")
    assert not attempt.path.exists()
    assert list(storage.list()) == []


def test_without_seal_nothing_is_left(storage: Storage) -> None:
    with new_attempt(storage, "models/m") as attempt:
        (attempt.path / "half").write_bytes(b"x")
    assert not attempt.path.exists()
    assert list(storage.list()) == []


def test_staging_is_gone_after_a_seal(tmp_path: Path) -> None:
    storage = open_storage("memory://staging", read_only=False)
    with new_attempt(storage, "models/m", scratch=tmp_path) as attempt:
        assert attempt.path.is_relative_to(tmp_path)
        (attempt.path / "a").write_bytes(b"x")
        receipt = attempt.seal()
        assert attempt.seal() == receipt
    assert list(tmp_path.iterdir()) == []
    assert storage.exists(f"{receipt.prefix}/a")


def test_a_failing_upload_leaves_no_manifest() -> None:
    inner = open_storage("memory://failing", read_only=False)
    with pytest.raises(Exception, match="503"):
        write_attempt(FaultyStorage(inner, refused=1.0), "models/m")
    assert list(inner.list()) == []


def test_a_lost_acknowledgement_of_the_manifest(local: Storage) -> None:
    class Retrying(WrappedStorage):
        def put_if_absent(self, key: str, data: bytes) -> None:
            self.inner.put_if_absent(key, data)
            self.inner.put_if_absent(key, data)

    inner = open_storage("memory://ack", read_only=False)
    receipt = write_attempt(Retrying(inner), "models/m")
    assert read_manifest(inner, receipt.manifest, receipt.digest).attempt == receipt.attempt


@pytest.mark.parametrize("parent", ["../x", "", "/models", "a//b", ".scratch/x"])
def test_bad_places(local: Storage, parent: str) -> None:
    with pytest.raises(InvalidArgument):
        new_attempt(local, parent)
    with pytest.raises(InvalidArgument, match="suffix"):
        new_attempt(local, "models/m", suffix="/../..")


def test_only_files_are_taken(local: Storage, tmp_path: Path) -> None:
    with (  # noqa: PT012
        pytest.raises(InvalidArgument, match="regular file"),
        new_attempt(local, "models/m") as attempt,
    ):
        (attempt.path / "link").symlink_to(tmp_path)
        attempt.seal()
    with pytest.raises(InvalidArgument, match="got none"), new_attempt(local, "models/m") as empty:
        empty.seal()
    assert list(local.list()) == []


def test_a_full_disk_is_named(local: Storage) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(StorageFull, match="no space"), new_attempt(local, "models/m") as a:  # noqa: PT012
        (a.path / "half").write_bytes(b"x")
        raise full
    assert list(local.list()) == []


def test_reading_only(tmp_path: Path) -> None:
    with pytest.raises(ReadOnly, match="new attempt"):
        new_attempt(open_storage(tmp_path), "models/m")


def test_an_attempt_stays_where_it_is(local: Storage) -> None:
    with new_attempt(local, "models/m") as attempt, pytest.raises(TypeError, match="Receipt"):
        pickle.dumps(attempt)


class TestManifest:
    def test_another_digest(self, local: Storage) -> None:
        receipt: Receipt = write_attempt(local, "models/m")
        with pytest.raises(Corrupt, match="is wanted, but got sha256:"):
            read_manifest(local, receipt.manifest, "sha256:" + "0" * 64)
        with pytest.raises(MissingKey):
            read_manifest(local, "models/none.manifest.json")

    @pytest.mark.parametrize(
        "keys",
        [
            '[["../x", 1, "%s"]]' % ("0" * 64),
            '[["a", -1, "%s"]]' % ("0" * 64),
            '[["a", 1, "0"]]',
            '[["a", 1]]',
            '["a"]',
            "{}",
            "7",
        ],
    )
    def test_hostile_rows(self, keys: str) -> None:
        data = '{"format":"tisseract-manifest","attempt":"%s","prefix":"x","keys":%s}'
        with pytest.raises(Corrupt):
            Manifest.from_bytes((data % ("0" * 32, keys)).encode(), "here")

    def test_hostile_json(self) -> None:
        for data in (b"[" * 10**6, b'{"a": Infinity}', b"\xff", b"", b"1", b"9" * 10_000):
            with pytest.raises(Corrupt, match="in here"):
                parse_json(data, "here")
