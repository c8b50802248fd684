"""The only door to bytes: one root, on a disk or in a bucket, behind a dozen verbs.

Everything an atlas holds lies under one root and is named by a relative key. Two
implementations speak the same contract: `storage_local` (durable files) and `storage_object`
(buckets, read-only web servers and memory, through obstore).
"""

from __future__ import annotations

import builtins
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import MissingKey, ReadOnly
from .storage_options import parse_url

if TYPE_CHECKING:
    from zarr.abc.store import Store

__all__ = ["Storage", "StoredKey", "open_storage"]


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One object of a listing.

    Attributes
    ----------
    key : str
        Relative to the root.
    size : int
        Bytes.
    modified : float
        Seconds since 1970, by the clock of the storage.
    tag : str
        What the storage says of its contents (ETag), "" where it says nothing.
    """

    key: str
    size: int
    modified: float
    tag: str = ""


class Storage(ABC):
    """One root; cannot reach outside it, and cannot write when it was opened for reading.

    Safe to use from several threads. Pickles as its URL and its options without secrets; the
    process that unpickles it takes credentials from its own environment.

    Attributes
    ----------
    url : str
        Where the root is; never holds a credential.
    read_only : bool
        Whether writing verbs raise `ReadOnly`.
    """

    url: str
    read_only: bool
    # Listings come in the order of keys, first page first: the newest snapshot is on page one.
    lists_in_order: bool = False
    # A plain web server serves keys but cannot list them.
    can_list: bool = True

    @abstractmethod
    def get(self, key: str, *, max_bytes: int | None = None) -> bytes:
        """Read a whole object; `MissingKey` when there is none, `Corrupt` above `max_bytes`."""

    @abstractmethod
    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read `length` bytes from `start`; shorter only where the object ends."""

    def get_tail(self, key: str, length: int) -> tuple[bytes, int]:
        """Read the last `length` bytes of an object, all of a shorter one; and tell its size.

        One request where the storage knows ranges from the end, else two.
        """
        size = self.size(key)
        length = min(length, size)
        return self.get_range(key, size - length, length), size

    @abstractmethod
    def size(self, key: str) -> int:
        """Size of an object in bytes; `MissingKey` when there is none."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write a whole object, replacing any; readers see the old one or the new one."""

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> None:
        """Write a whole object when there is none, else raise `AlreadyExists`."""

    @abstractmethod
    def upload(self, path: Path, key: str) -> None:
        """Write a local file as an object, in parts when it is large."""

    @abstractmethod
    def entries(self, prefix: str = "") -> Iterator[StoredKey]:
        """List the objects under a folder, at any depth, with size and time."""

    @abstractmethod
    def children(self, prefix: str = "") -> tuple[builtins.list[str], builtins.list[StoredKey]]:
        """List one level of a folder: its folders (whole prefixes, no final `/`) and objects."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are no fault."""

    @abstractmethod
    def local_path(self, key: str = "") -> Path | None:
        """Path of a key on this machine; None for a bucket."""

    @abstractmethod
    def zarr_store(self, prefix: str, read_only: bool = True) -> Store:
        """Zarr store of a prefix: a `LocalStore` on disk, an obstore `ObjectStore` elsewhere."""

    def exists(self, key: str) -> bool:
        """Tell whether there is an object of this key."""
        try:
            self.size(key)
        except MissingKey:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """List `(key, size)` of the objects under a folder, at any depth."""
        return ((entry.key, entry.size) for entry in self.entries(prefix))

    def list_prefixes(self, prefix: str = "") -> builtins.list[str]:
        """List the folders directly under a folder, as whole prefixes without a final `/`."""
        return self.children(prefix)[0]

    def delete_prefix(self, prefix: str) -> None:
        """Remove every object under a folder."""
        self.delete([entry.key for entry in self.entries(prefix)])

    def forbid_writing(self, what: str) -> None:
        """Raise `ReadOnly` when this root was opened for reading."""
        if self.read_only:
            raise ReadOnly(
                f"{what} needs a root opened for writing, but got {self.url} read-only; "
                "open it with read_only=False"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, read_only={self.read_only})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Storage):
            return NotImplemented
        return (type(self), self.url, self.read_only) == (type(other), other.url, other.read_only)

    def __hash__(self) -> int:
        return hash((type(self), self.url, self.read_only))


def open_storage(
    url: str | Path,
    storage_options: Mapping[str, Any] | None = None,
    *,
    read_only: bool = True,
) -> Storage:
    """Open the root of an atlas, on a disk or in a bucket.

    Parameters
    ----------
    url : str or Path
        A local path, or a URL of scheme `file`, `s3`, `gs`, `az`, `http(s)` (reading only) or
        `memory` (this process only; for tests).
    storage_options : mapping, optional
        As fsspec takes them: `key`, `secret`, `token`, `anon`, `endpoint_url`, `profile`, ...
        Unknown options are refused. Credentials are better left to the environment: given here,
        they stay in this process and never travel with a pickle.
    read_only : bool
        Refuse every write.

    Returns
    -------
    Storage

    Raises
    ------
    StorageUnsupported
        Unknown scheme or option, or a chained URL.
    InvalidArgument
        A URL with credentials in it.

    Examples
    --------
    >>> storage = open_storage("memory://doctest", read_only=False)
    >>> storage.put("a/b", b"1")
    >>> list(storage.list("a"))
    [('a/b', 1)]
    """
    place = parse_url(url)
    if place.scheme == "file":
        from .storage_local import LocalStorage
        from .storage_options import refuse_options

        refuse_options("file", storage_options or {})
        return LocalStorage(Path(place.path), read_only=read_only)
    from .storage_object import ObjectStorage

    return ObjectStorage(place, storage_options or {}, read_only=read_only)
