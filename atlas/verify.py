"""Is everything there, and unchanged? Compares the storage with what was committed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .catalog import latest_number, read_record
from .errors import Fault, TisseractError
from .keys import catalog_key, panel_key
from .manifest import ManifestKey, read_manifest
from .memory import format_bytes
from .snapshot import DerivedEntry, RunEntry, SectionEntry, SegmentEntry, Snapshot
from .storage import Storage

if TYPE_CHECKING:
    from .store import AtlasStore

__all__ = ["VerifyReport", "verify"]

_READ = 8 * 2**20
_THREADS = 4

Entry = SectionEntry | DerivedEntry | SegmentEntry | RunEntry


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was compared, and all that is wrong.

    Attributes
    ----------
    url : str
        The atlas.
    version : int
        Snapshot that was checked.
    full : bool
        Whether contents were read and hashed, or only sizes compared.
    n_entries, n_keys, nbytes : int
        Sections, derived data and runs; their objects; the bytes of these.
    n_snapshots : int
        Snapshots whose chain was followed.
    faults : tuple of Fault
        Missing, short or changed objects; broken manifests, panels or snapshots.
    warnings : tuple of Fault
        Foreign objects in committed places; stale derived data.
    """

    url: str
    version: int
    full: bool
    n_entries: int
    n_keys: int
    nbytes: int
    n_snapshots: int
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; warnings do not count."""
        return not self.faults

    def __str__(self) -> str:
        depth = "contents" if self.full else "sizes"
        head = (
            f"{self.url} version {self.version}: {self.n_entries} entries, {self.n_keys} objects, "
            f"{format_bytes(self.nbytes)} ({depth}), {self.n_snapshots} snapshots: "
        )
        head += "sound" if self.ok else f"{len(self.faults)} faults"
        lines = [f"  fault: {fault}" for fault in self.faults]
        lines += [f"  warning: {warning}" for warning in self.warnings]
        return "\n".join([head, *lines])


@dataclass(frozen=True, slots=True)
class _Found:
    n_keys: int = 0
    nbytes: int = 0
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()


def verify(store: AtlasStore, full: bool = True) -> VerifyReport:
    """Compare every committed object with its manifest, and the snapshots with one another.

    Reads in blocks of 8 MiB; memory is that times the threads, plus one manifest.

    Parameters
    ----------
    store : AtlasStore
        Opened at the version to check.
    full : bool
        Read and hash every object; else compare existence and sizes only.

    Returns
    -------
    VerifyReport
        Everything found; nothing is raised for damage.
    """
    snapshot, storage = store.snapshot, store.storage
    entries = snapshot.entries()
    with ThreadPoolExecutor(_THREADS) as pool:
        found = [_check_entry(storage, entry, full, pool) for entry in entries]
    n_snapshots, chain = _check_chain(storage)
    faults = [fault for one in found for fault in one.faults]
    warnings = [warning for one in found for warning in one.warnings]
    return VerifyReport(
        url=store.url,
        version=snapshot.number,
        full=full,
        n_entries=len(entries),
        n_keys=sum(one.n_keys for one in found),
        nbytes=sum(one.nbytes for one in found),
        n_snapshots=n_snapshots,
        faults=(*faults, *_check_panels(storage, snapshot), *chain),
        warnings=(*warnings, *_stale(snapshot)),
    )


def _check_entry(storage: Storage, entry: Entry, full: bool, pool: ThreadPoolExecutor) -> _Found:
    sizes: dict[str, int | None]
    try:
        manifest = read_manifest(storage, entry.manifest, entry.digest)
        if manifest.prefix != entry.prefix:
            where = Fault(entry.manifest, f"is about {manifest.prefix!r}; ingest it again")
            return _Found(faults=(where,))
        # A web server cannot list; every object is then asked for by name.
        if storage.can_list:
            skip = len(entry.prefix) + 1
            sizes = {key[skip:]: size for key, size in storage.list(entry.prefix)}
        else:
            sizes = {key.key: _size(storage, f"{entry.prefix}/{key.key}") for key in manifest.keys}
    except TisseractError as error:
        return _Found(faults=(Fault(entry.manifest, str(error)),))

    def check(key: ManifestKey) -> Fault | None:
        return _check_key(storage, f"{entry.prefix}/{key.key}", key, sizes.get(key.key), full)

    faults = tuple(fault for fault in pool.map(check, manifest.keys) if fault is not None)
    foreign = sorted(set(sizes) - {key.key for key in manifest.keys})
    return _Found(
        n_keys=len(manifest.keys),
        nbytes=manifest.nbytes,
        faults=faults,
        warnings=tuple(
            Fault(f"{entry.prefix}/{key}", "is not part of what was committed") for key in foreign
        ),
    )


def _size(storage: Storage, key: str) -> int | None:
    try:
        return storage.size(key)
    except TisseractError:
        return None


def _check_key(
    storage: Storage, name: str, key: ManifestKey, size: int | None, full: bool
) -> Fault | None:
    if size is None:
        return Fault(name, "is missing; a reader that trusts it would see zeros")
    if size != key.size:
        return Fault(name, f"{key.size} bytes are wanted, but got {size}")
    if not full:
        return None
    try:
        digest = _digest(storage, name, key.size)
    except TisseractError as error:
        return Fault(name, str(error))
    if digest != key.sha256:
        return Fault(name, f"contents {key.sha256[:12]} are wanted, but got {digest[:12]}")
    return None


def _digest(storage: Storage, name: str, size: int) -> str:
    state = hashlib.sha256()
    for start in range(0, size, _READ):
        state.update(storage.get_range(name, start, min(_READ, size - start)))
    return state.hexdigest()


def _check_panels(storage: Storage, snapshot: Snapshot) -> Iterator[Fault]:
    from .panel_file import read_panel

    for digest in sorted({entry.panel for entry in snapshot.sections.values()}):
        lengths = {entry.n_vars for entry in snapshot.sections.values() if entry.panel == digest}
        try:
            for n_vars in sorted(lengths):
                read_panel(storage, digest, n_vars)
        except TisseractError as error:
            yield Fault(panel_key(digest), str(error))


def _check_chain(storage: Storage) -> tuple[int, tuple[Fault, ...]]:
    """Follow the snapshots from the newest to the first by their parents' digests."""
    newest = latest_number(storage)
    faults: list[Fault] = []
    wanted: str | None = None
    for number in range(newest, 0, -1):
        try:
            record = read_record(storage, number)
        except TisseractError as error:
            faults.append(Fault(catalog_key(number), str(error)))
            wanted = None
            continue
        if wanted is not None and record.digest != wanted:
            text = f"digest {wanted} is wanted by snapshot {number + 1}, but got {record.digest}"
            faults.append(Fault(catalog_key(number), text))
        wanted = record.parent
        if (number == 1) != (record.parent is None):
            faults.append(Fault(catalog_key(number), "exactly the first has no parent"))
    return newest, tuple(faults)


def _stale(snapshot: Snapshot) -> Iterator[Fault]:
    for name, entry in sorted(snapshot.derived.items()):
        if stale := snapshot.stale_inputs(entry):
            yield Fault(f"derived/{name}", f"is stale: {', '.join(stale)} was replaced or removed")
    for name, segment in sorted(snapshot.segments.items()):
        if stale := snapshot.stale_inputs(segment):
            text = f"is stale in part: {', '.join(stale[:5])} was replaced or removed"
            yield Fault(f"segments/{name}", text)
