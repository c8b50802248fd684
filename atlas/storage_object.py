"""A root in a bucket, on a read-only web server, or in memory: obstore behind the same verbs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, override

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import AzureStore, GCSStore, HTTPStore, MemoryStore, S3Store

from .errors import (
    AccessDenied,
    AlreadyExists,
    AtlasError,
    Corrupt,
    InvalidArgument,
    MissingKey,
    ReadOnly,
    StorageUnavailable,
    StorageUnsupported,
    TisseractError,
)
from .keys import check_key
from .storage import Storage, StoredKey
from .storage_options import Options, Place, parse_options

if TYPE_CHECKING:
    from zarr.abc.store import Store

__all__ = ["ObjectStorage"]

# A request that failed is tried again for at most this long; a commit then reads back.
_RETRY = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
_LONGEST_MESSAGE = 600

_memories: dict[str, MemoryStore] = {}
_memories_lock = threading.Lock()


def _connect(place: Place, options: Options, prefix: str) -> Any:
    """Obstore store of a prefix; obstore reads what the options lack from the environment."""
    path = "/".join(part for part in (place.path, prefix) if part) or None
    client: Any = dict(options.client)
    retry: Any = {**_RETRY, **options.retry}
    config: Any = dict(options.config)
    if place.scheme == "s3":
        return S3Store(
            place.host, prefix=path, config=config, client_options=client, retry_config=retry
        )
    if place.scheme == "gs":
        return GCSStore(
            place.host, prefix=path, config=config, client_options=client, retry_config=retry
        )
    if place.scheme == "az":
        return AzureStore(
            place.host, prefix=path, config=config, client_options=client, retry_config=retry
        )
    if place.scheme == "http":
        client["allow_http"] = True
    url = f"{place.scheme}://{place.host}" + (f"/{path}" if path else "")
    return HTTPStore.from_url(url, client_options=client, retry_config=retry)


class ObjectStorage(Storage):
    """A root that obstore speaks to; writing through HTTP is refused."""

    def __init__(
        self, place: Place, storage_options: Mapping[str, Any], *, read_only: bool = True
    ) -> None:
        self._place = place
        self._options = parse_options(place.scheme, storage_options)
        self._withheld = self._options.withheld
        self.url = place.url
        self.read_only = read_only
        self.can_list = place.scheme not in ("http", "https")
        self.lists_in_order = self.can_list
        if not self.can_list and not read_only:
            raise ReadOnly(
                f"a disk or bucket is wanted for writing, but got {self.url}; "
                "open it with read_only=True"
            )
        with self._naming("opening"):
            self._store = self._open("")

    def __reduce__(self) -> tuple[object, ...]:
        # Credentials stay here: the far side takes them from its own environment.
        public = dict(self._options.public)
        return _reopen, (self._place, public, self.read_only, self._withheld)

    def _open(self, prefix: str) -> Any:
        if self._place.scheme != "memory":
            return _connect(self._place, self._options, prefix)
        with _memories_lock:
            return _memories.setdefault(self.url, MemoryStore())

    @contextlib.contextmanager
    def _naming(self, what: str, key: str = "") -> Iterator[None]:
        try:
            yield
        except TisseractError:
            raise
        # The cause is left out: its text may show headers or a signed URL.
        except (BaseError, OSError, ValueError) as error:
            raise self._named(error, what, key) from None

    def _named(self, error: Exception, what: str, key: str) -> AtlasError:
        where = f"{what} {key!r} of {self.url}" if key else f"{what} {self.url}"
        detail = self._struck(str(error))
        if isinstance(error, FileNotFoundError):
            return MissingKey(f"no object {key!r} in {self.url}")
        if isinstance(error, AlreadyExistsError | PreconditionError):
            return AlreadyExists(f"a free key is wanted, but got {key!r}, taken in {self.url}")
        if isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError):
            hint = "check the credentials of this process"
            if self._withheld and not self._options.withheld:
                hint = f"{', '.join(self._withheld)} of storage_options do not travel between "
                hint += "processes; set credentials in the environment of this one"
            return AccessDenied(f"{where}: access denied; {hint}. {detail}")
        if isinstance(error, NotSupportedError | UnknownConfigurationKeyError):
            return StorageUnsupported(f"{where}: the storage cannot do this. {detail}")
        return StorageUnavailable(f"{where}: the storage failed. {detail}")

    def _struck(self, text: str) -> str:
        for secret in self._options.secrets:
            text = text.replace(secret, "***")
        text = " ".join(text.split("\n\nDebug source:")[0].split())
        return text[:_LONGEST_MESSAGE]

    @override
    def get(self, key: str, *, max_bytes: int | None = None) -> bytes:
        with self._naming("reading", key):
            found = obstore.get(self._store, check_key(key))
            if max_bytes is not None and (size := found.meta["size"]) > max_bytes:
                raise Corrupt(f"at most {max_bytes} bytes are wanted in {key!r}, but got {size}")
            return bytes(found.bytes())

    @override
    def get_range(self, key: str, start: int, length: int) -> bytes:
        if start < 0 or length < 0:
            raise InvalidArgument(f"a byte range from 0 on is wanted, but got {start}+{length}")
        check_key(key)
        if length == 0:
            return b""
        # Servers answer a range beyond the end differently; one of known size never is.
        length = min(length, self.size(key) - start) if self._place.scheme == "memory" else length
        if length <= 0:
            return b""
        try:
            with self._naming("reading", key):
                return bytes(obstore.get_range(self._store, key, start=start, length=length))
        except StorageUnavailable:
            left = self.size(key) - start
            if left >= length:
                raise
        with self._naming("reading", key):
            if left <= 0:
                return b""
            return bytes(obstore.get_range(self._store, key, start=start, length=left))

    @override
    def get_tail(self, key: str, length: int) -> tuple[bytes, int]:
        # Azure and plain web servers know no ranges from the end; memory answers them oddly.
        if self._place.scheme not in ("s3", "gs"):
            return super().get_tail(key, length)
        try:
            with self._naming("reading", key):
                found = obstore.get(
                    self._store, check_key(key), options={"range": {"suffix": length}}
                )
                return bytes(found.bytes()), found.meta["size"]
        except (StorageUnsupported, StorageUnavailable):
            return super().get_tail(key, length)

    @override
    def size(self, key: str) -> int:
        with self._naming("reading", key):
            return obstore.head(self._store, check_key(key))["size"]

    @override
    def put(self, key: str, data: bytes) -> None:
        self.forbid_writing(f"writing {key!r}")
        with self._naming("writing", key):
            obstore.put(self._store, check_key(key), data)

    @override
    def put_if_absent(self, key: str, data: bytes) -> None:
        self.forbid_writing(f"writing {key!r}")
        with self._naming("writing", key):
            # One request: a multipart upload checks its condition only at the end, or never.
            obstore.put(self._store, check_key(key), data, mode="create", use_multipart=False)

    @override
    def upload(self, path: Path, key: str) -> None:
        self.forbid_writing(f"writing {key!r}")
        with self._naming("writing", key):
            obstore.put(self._store, check_key(key), path)

    @override
    def entries(self, prefix: str = "") -> Iterator[StoredKey]:
        if prefix:
            check_key(prefix)
        self._need_listing()
        with self._naming("listing", prefix):
            for page in obstore.list(self._store, prefix or None, chunk_size=1000):
                for found in page:
                    modified = found["last_modified"].timestamp()
                    tag = found.get("e_tag") or ""
                    yield StoredKey(found["path"], found["size"], modified, tag)

    @override
    def children(self, prefix: str = "") -> tuple[list[str], list[StoredKey]]:
        if prefix:
            check_key(prefix)
        self._need_listing()
        with self._naming("listing", prefix):
            found = obstore.list_with_delimiter(self._store, prefix or None)
        files = [
            StoredKey(
                entry["path"],
                entry["size"],
                entry["last_modified"].timestamp(),
                entry.get("e_tag") or "",
            )
            for entry in found["objects"]
        ]
        folders = sorted(str(folder).rstrip("/") for folder in found["common_prefixes"])
        return folders, sorted(files, key=lambda entry: entry.key)

    def _need_listing(self) -> None:
        if not self.can_list:
            raise StorageUnsupported(
                f"a storage that lists its keys is wanted, but got {self.url}; "
                "use the bucket's own scheme"
            )

    @override
    def delete(self, keys: Iterable[str]) -> None:
        self.forbid_writing("deleting")
        doomed = [check_key(key) for key in keys]
        if doomed:
            with self._naming("deleting in"), contextlib.suppress(FileNotFoundError):
                obstore.delete(self._store, doomed)

    @override
    def local_path(self, key: str = "") -> Path | None:
        return None

    @override
    def zarr_store(self, prefix: str, read_only: bool = True) -> Store:
        from zarr.storage import ObjectStore

        if prefix:
            check_key(prefix)
        if not read_only:
            self.forbid_writing(f"writing {prefix!r}")
        if self._place.scheme != "memory":
            return ObjectStore(self._open(prefix), read_only=read_only)
        if not read_only:
            raise StorageUnsupported(
                "a zarr store in memory:// is for reading; write into the path of an attempt"
            )
        # obstore's memory has no prefixes; what lies under one never changes, so copy it.
        copy = MemoryStore()
        for entry in self.entries(prefix):
            name = entry.key[len(prefix) + 1 :] if prefix else entry.key
            obstore.put(copy, name, self.get(entry.key))
        return ObjectStore(copy, read_only=True)


def _reopen(
    place: Place, public: Mapping[str, Any], read_only: bool, withheld: tuple[str, ...]
) -> ObjectStorage:
    storage = ObjectStorage(place, public, read_only=read_only)
    storage._withheld = withheld
    return storage
