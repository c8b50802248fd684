"""Storages that count or fail, and small entries to commit: what the store's tests share."""

import random
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tisseract.atlas.attempt import Receipt, new_attempt
from tisseract.atlas.errors import StorageUnavailable
from tisseract.atlas.snapshot import DerivedEntry, RunEntry, SectionEntry
from tisseract.atlas.storage import Storage, StoredKey

if TYPE_CHECKING:
    from zarr.abc.store import Store

DIGEST = "sha256:" + "0" * 64
PANEL = "f" * 64


def section_entry(
    section: str = "E12", fingerprint: str = "one", receipt: Receipt | None = None, **facts: Any
) -> SectionEntry:
    """Build a section entry; the attempt is a fresh id unless a receipt or `attempt` is given."""
    known: dict[str, Any] = {
        "section": section,
        "attempt": receipt.attempt if receipt else uuid.uuid4().hex,
        "digest": receipt.digest if receipt else DIGEST,
        "nbytes": receipt.nbytes if receipt else 10,
        "n_obs": 100,
        "n_vars": 5,
        "nnz": 50,
        "n_tiles": 1,
        "tile_cells": 4096,
        "panel": PANEL,
        "values": "counts",
        "um_per_unit": 1.0,
        "bounds": (0.0, 0.0, 10.0, 20.0),
        "fingerprint": fingerprint,
        "metadata": {"section": section, "timepoint": "E12.5", "donor": None},
        "columns": {"area": {"kind": "numeric", "min": 0.0, "max": 2.0}},
    }
    return SectionEntry(**(known | facts))


def derived_entry(
    section: SectionEntry, kind: str = "graph", key: str = "spatial", **facts: Any
) -> DerivedEntry:
    """Build derived data of a section, computed from its present attempt."""
    known: dict[str, Any] = {
        "kind": kind,
        "key": key,
        "section": section.section,
        "attempt": uuid.uuid4().hex,
        "digest": DIGEST,
        "nbytes": 7,
        "inputs": {f"section:{section.section}": section.attempt},
        "info": {"n_neighs": 6},
    }
    return DerivedEntry(**(known | facts))


def run_entry(run: str = "first", **facts: Any) -> RunEntry:
    """Build a run entry."""
    known: dict[str, Any] = {
        "run": run,
        "attempt": uuid.uuid4().hex,
        "digest": DIGEST,
        "nbytes": 3,
        "model": "domain-gnn",
    }
    return RunEntry(**(known | facts))


def write_attempt(storage: Storage, parent: str, files: dict[str, bytes] | None = None) -> Receipt:
    """Write and seal a small attempt."""
    suffix = ".zarr" if parent.startswith("sections/") else ""
    with new_attempt(storage, parent, suffix=suffix) as attempt:
        for name, data in (files or {"zarr.json": b"{}", "x/c/0": b"01234567"}).items():
            path = attempt.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return attempt.seal()


class WrappedStorage(Storage):
    """Passes every verb on; the base of storages that count or fail."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.url = inner.url
        self.read_only = inner.read_only
        self.can_list = inner.can_list
        self.lists_in_order = inner.lists_in_order

    def call(self, verb: str, *args: Any, **options: Any) -> Any:
        """Run one verb of the inner storage."""
        return getattr(self.inner, verb)(*args, **options)

    def get(self, key: str, *, max_bytes: int | None = None) -> bytes:
        return bytes(self.call("get", key, max_bytes=max_bytes))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return bytes(self.call("get_range", key, start, length))

    def size(self, key: str) -> int:
        return int(self.call("size", key))

    def put(self, key: str, data: bytes) -> None:
        self.call("put", key, data)

    def put_if_absent(self, key: str, data: bytes) -> None:
        self.call("put_if_absent", key, data)

    def upload(self, path: Path, key: str) -> None:
        self.call("upload", path, key)

    def entries(self, prefix: str = "") -> Iterator[StoredKey]:
        return iter(self.call("entries", prefix))

    def children(self, prefix: str = "") -> Any:
        return self.call("children", prefix)

    def delete(self, keys: Iterable[str]) -> None:
        self.call("delete", keys)

    def local_path(self, key: str = "") -> Path | None:
        return self.inner.local_path(key)

    def zarr_store(self, prefix: str, read_only: bool = True) -> "Store":
        return self.inner.zarr_store(prefix, read_only)


class CountingStorage(WrappedStorage):
    """Counts the verbs that reach the inner storage."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.counts: Counter[str] = Counter()

    def call(self, verb: str, *args: Any, **options: Any) -> Any:
        self.counts[verb] += 1
        return super().call(verb, *args, **options)


class FaultyStorage(WrappedStorage):
    """Fails before the verb (a 503) or after it (a lost acknowledgement), by a seeded die."""

    def __init__(
        self, inner: Storage, *, refused: float = 0.0, lost: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__(inner)
        self.refused = refused
        self.lost = lost
        self.n_refused = self.n_lost = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def call(self, verb: str, *args: Any, **options: Any) -> Any:
        with self._lock:
            refused, lost = self._random.random() < self.refused, self._random.random() < self.lost
            self.n_refused += refused
        if refused:
            raise StorageUnavailable(f"503 before {verb}")
        answer = super().call(verb, *args, **options)
        if lost and verb in ("put", "put_if_absent", "delete"):
            with self._lock:
                self.n_lost += 1
            raise StorageUnavailable(f"no acknowledgement of {verb}")
        return answer
