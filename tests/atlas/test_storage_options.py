"""URLs and options: what is understood, what is refused, and where secrets never go."""

import io
import logging
import os
import pickle
import subprocess
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tisseract.atlas.errors import (
    AccessDenied,
    InvalidArgument,
    ReadOnly,
    StorageUnavailable,
    StorageUnsupported,
    TisseractError,
)
from tisseract.atlas.storage import open_storage
from tisseract.atlas.storage_options import parse_options, parse_url
from tisseract.atlas.store import create_store, open_store

CANARY = "canary-7f3a91-secret"


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "clean"),
        [
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("S3A://bucket//a", "s3://bucket/a"),
            ("gcs://bucket", "gs://bucket"),
            ("abfss://container/a", "az://container/a"),
            ("https://host:8080/a", "https://host:8080/a"),
            ("file:///data/a%20b", "/data/a b"),
            ("/data/a b", "/data/a b"),
            ("/data/s3:/x", "/data/s3:/x"),
        ],
    )
    def test_understood(self, url: str, clean: str) -> None:
        assert parse_url(url).url == clean

    def test_a_relative_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert parse_url("a/b").path == str(tmp_path / "a" / "b")
        assert parse_url(Path("~/a")).path == str(Path.home() / "a")
        assert parse_url("~no-such-user/a").path.endswith("/~no-such-user/a")

    @pytest.mark.parametrize(
        ("url", "error", "message"),
        [
            ("ftp://host/a", StorageUnsupported, "got scheme 'ftp'"),
            ("reference://x", StorageUnsupported, "scheme 'reference'"),
            ("simplecache::s3://bucket/a", StorageUnsupported, "chained"),
            ("", InvalidArgument, "a path or URL"),
            ("a\0b", InvalidArgument, "a path or URL"),
            ("s3:///a", InvalidArgument, "a bucket or host"),
            ("s3://bucket/../other", InvalidArgument, "without '..'"),
            (Path("s3://bucket/a"), InvalidArgument, "lost a '/' in a Path"),
        ],
    )
    def test_refused(self, url: str | Path, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            parse_url(url)

    @pytest.mark.parametrize("tail", ["?X-Amz-Signature=%s", "#%s"])
    def test_signed_urls_are_refused_and_not_repeated(self, tail: str) -> None:
        for url in (f"https://host/a{tail % CANARY}", f"https://user:{CANARY}@host/a"):
            with pytest.raises(InvalidArgument, match="without user, query or fragment") as caught:
                parse_url(url)
            assert CANARY not in str(caught.value)

    def test_no_folder_is_named_like_a_scheme(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for url in ("s3:/bucket/a", "gs:/x", "foo://x", "foo:/x"):
            with pytest.raises(TisseractError):
                create_store(url)
        assert list(tmp_path.iterdir()) == []


class TestOptions:
    def test_names_of_fsspec_and_obstore(self) -> None:
        found = parse_options(
            "s3",
            {
                "key": "id",
                "secret": CANARY,
                "client_kwargs": {"endpoint_url": "http://127.0.0.1:9000", "region_name": "eu"},
                "timeout": 5,
                "max_retries": 2,
                "token": None,
            },
        )
        assert found.config == {
            "access_key_id": "id",
            "secret_access_key": CANARY,
            "endpoint": "http://127.0.0.1:9000",
            "region": "eu",
        }
        assert found.client == {"timeout": timedelta(seconds=5), "allow_http": True}
        assert found.retry == {"max_retries": 2}
        assert set(found.public) >= {"endpoint_url", "region_name", "timeout"}
        assert found.withheld == ("key", "secret")

    def test_unknown_options_are_refused(self) -> None:
        with pytest.raises(StorageUnsupported, match=r"'endpont_url'.*Did you mean"):
            parse_options("s3", {"endpont_url": "x"})
        for scheme in ("file", "memory", "https", "gs", "az"):
            with pytest.raises(StorageUnsupported, match="is not known for"):
                parse_options(scheme, {"secret": "x"})
        with pytest.raises(StorageUnsupported, match="client_kwargs"):
            parse_options("gs", {"client_kwargs": {}})
        with pytest.raises(StorageUnsupported, match="not known for file"):
            open_storage("/nowhere", {"anon": True})

    def test_values_are_plain(self) -> None:
        with pytest.raises(InvalidArgument, match="got a dict") as caught:
            parse_options("s3", {"secret": {"x": CANARY}})
        assert CANARY not in str(caught.value)

    def test_plain_http_only_to_this_machine(self) -> None:
        with pytest.raises(InvalidArgument, match="https endpoint"):
            parse_options("s3", {"endpoint_url": "http://example.org"})
        given = {"endpoint_url": "http://example.org", "allow_http": True}
        assert parse_options("s3", given).client["allow_http"] is True

    def test_a_named_profile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "credentials").write_text(
            f"[lab]\naws_access_key_id = id\naws_secret_access_key = {CANARY}\n"
        )
        (tmp_path / "config").write_text("[profile lab]\nregion = eu-north-1\n[profile sso]\n")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
        found = parse_options("s3", {"profile": "lab"})
        assert found.config["secret_access_key"] == CANARY
        assert found.config["region"] == "eu-north-1"
        assert CANARY not in repr(found)
        assert CANARY in found.secrets
        monkeypatch.setenv("AWS_PROFILE", "lab")
        assert parse_options("s3", {}).config["access_key_id"] == "id"
        with pytest.raises(StorageUnsupported, match="profile 'sso' without"):
            parse_options("s3", {"profile": "sso"})

    def test_the_web_is_for_reading(self) -> None:
        assert open_storage("https://example.org/a").can_list is False
        with pytest.raises(ReadOnly, match="a disk or bucket is wanted"):
            open_storage("https://example.org/a", read_only=False)
        with pytest.raises(StorageUnsupported, match="lists its keys"):
            list(open_storage("https://example.org/a").list())


OPTIONS: dict[str, Any] = {
    "key": "testing-key",
    "secret": CANARY,
    "endpoint_url": "http://127.0.0.1:9",
    "max_retries": 0,
    "connect_timeout": 2,
}


class TestSecrets:
    def test_never_in_what_is_printed_pickled_or_raised(self) -> None:
        log = io.StringIO()
        handler = logging.StreamHandler(log)
        logging.getLogger().addHandler(handler)
        previous = logging.getLogger().level
        logging.getLogger().setLevel(logging.DEBUG)
        try:
            storage = open_storage("s3://bucket/a", OPTIONS, read_only=False)
            texts = [repr(storage), str(storage), storage.url, repr(pickle.dumps(storage))]
            texts.append(repr(pickle.loads(pickle.dumps(storage)).__reduce__()))
            for call in (
                lambda: storage.get("a"),
                lambda: storage.put("a", b"x"),
                lambda: list(storage.list("a")),
                lambda: storage.delete(["a"]),
                lambda: create_store("s3://bucket/a", OPTIONS),
                lambda: open_store("s3://bucket/a", storage_options=OPTIONS),
            ):
                with pytest.raises(StorageUnavailable, match="the storage failed") as caught:
                    call()
                texts.append(repr(caught.value))
                texts.append("".join(traceback.format_exception(caught.value)))
                texts.append(repr(pickle.dumps(caught.value)))
        finally:
            logging.getLogger().removeHandler(handler)
            logging.getLogger().setLevel(previous)
        assert CANARY not in "".join([*texts, log.getvalue()])

    def test_struck_from_what_a_server_says(self) -> None:
        from tisseract.atlas.storage_object import ObjectStorage

        storage = open_storage("s3://bucket/a", OPTIONS)
        assert isinstance(storage, ObjectStorage)
        error = storage._named(OSError(f"bad key {CANARY} in request"), "reading", "a")
        assert CANARY not in str(error)
        assert "***" in str(error)

    @pytest.mark.server
    def test_a_committed_atlas_holds_none(
        self, s3_place: tuple[str, dict[str, Any]], tmp_path: Path
    ) -> None:
        from tisseract.atlas.snapshot import Change

        from .store_fakes import run_entry, write_attempt

        url, options = s3_place
        store = create_store(url, options)
        receipt = write_attempt(store.storage, "models/m")
        entry = run_entry("m", attempt=receipt.attempt, digest=receipt.digest)
        store.commit(Change(add_runs=[entry]), "run")
        everything = b"".join(store.storage.get(key) for key, _ in store.storage.list())
        for secret in (options["secret"], options["key"]):
            assert secret.encode() not in everything
            assert secret.encode() not in pickle.dumps(store)

    @pytest.mark.server
    def test_another_process_takes_its_own(self, s3_place: tuple[str, dict[str, Any]]) -> None:
        """Unpickled elsewhere, credentials come from that process's environment."""
        url, options = s3_place
        storage = open_storage(url, options, read_only=False)
        storage.put("a", b"found")
        code = (
            "import sys, pickle; storage = pickle.load(sys.stdin.buffer); "
            "print(storage.get('a').decode(), storage.url)"
        )
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "other-key",
            "AWS_SECRET_ACCESS_KEY": "other-secret",
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=pickle.dumps(storage),
            env=environment,
            capture_output=True,
            check=True,
        )
        assert done.stdout.decode().split() == ["found", url]

    def test_denied_elsewhere_says_why(self) -> None:
        from obstore.exceptions import PermissionDeniedError

        from tisseract.atlas.storage_object import ObjectStorage

        storage = pickle.loads(pickle.dumps(open_storage("s3://bucket/a", OPTIONS)))
        assert isinstance(storage, ObjectStorage)
        error = storage._named(PermissionDeniedError("403"), "reading", "a")
        assert isinstance(error, AccessDenied)
        assert "key, secret of storage_options do not travel" in str(error)
