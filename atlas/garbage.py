"""Removing what nobody can reach: asked for, shown first, and never in a hurry.

Garbage is an attempt that no retained snapshot names and that nobody has touched for the grace
period: crashed writers, lost races, replaced sections of removed snapshots. It is first
*condemned* by a commit, so that a writer who stalled for longer than the grace period cannot
commit it any more; the snapshots that appeared meanwhile are read, and what they name stays; only
then is the rest deleted, its manifest first.

With `keep`, older snapshots are replaced by tombstones: the key stays, since a number that
became free could be taken again by a stalled writer, who would then overwrite history.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from .catalog import Tombstone, latest_number, read_record
from .errors import InvalidArgument
from .keys import attempt_prefix, catalog_key, is_attempt, manifest_key
from .memory import format_bytes
from .resumable import in_use, retire
from .snapshot import Change, Snapshot
from .storage import Storage
from .storage_local import LocalStorage

if TYPE_CHECKING:
    from .store import AtlasStore

__all__ = ["GcReport", "Orphan", "gc", "parse_grace"]

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_GRACE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*([smhdw])")
# How deep the attempts lie under each top folder.
_DEPTH = {"sections": 1, "derived": 3, "segments": 2, "models": 1}


@dataclass(frozen=True, slots=True)
class Orphan:
    """An attempt that no retained snapshot names.

    Attributes
    ----------
    prefix, manifest : str
        Where its objects and its manifest lie, or lay.
    nbytes, n_keys : int
        What deleting it frees.
    modified : float
        Last touched, seconds since 1970.
    """

    prefix: str
    manifest: str
    nbytes: int
    n_keys: int
    modified: float


@dataclass(frozen=True, slots=True)
class GcReport:
    """What was, or would be, removed.

    Attributes
    ----------
    dry_run : bool
        Nothing was touched.
    orphans : tuple of Orphan
        Attempts removed, or to remove.
    too_young : int
        Orphans left alone, because they are younger than the grace period.
    snapshots : tuple of int
        Snapshots replaced by tombstones.
    n_scratch : int
        Half-written objects of a local folder.
    in_use : int
        Attempts left alone, because a living process is writing them.
    """

    dry_run: bool
    orphans: tuple[Orphan, ...]
    too_young: int
    snapshots: tuple[int, ...]
    n_scratch: int
    in_use: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes freed, or to free."""
        return sum(orphan.nbytes for orphan in self.orphans)

    def __str__(self) -> str:
        verb = "would remove" if self.dry_run else "removed"
        return (
            f"{verb} {len(self.orphans)} attempts ({format_bytes(self.nbytes)}), "
            f"{len(self.snapshots)} snapshots, {self.n_scratch} half-written objects; "
            f"{self.too_young} younger attempts left alone"
            + (f", {self.in_use} being written" if self.in_use else "")
        )


def parse_grace(grace: str | float) -> float:
    """Read a grace period into seconds.

    Raises
    ------
    InvalidArgument

    Examples
    --------
    >>> parse_grace("7d"), parse_grace("12h"), parse_grace(90)
    (604800.0, 43200.0, 90.0)
    """
    if isinstance(grace, str):
        found = _GRACE.fullmatch(grace.strip().lower())
        if found:
            return float(found[1]) * _UNITS_S[found[2]]
    elif not isinstance(grace, bool) and grace >= 0:
        return float(grace)
    raise InvalidArgument(f"a time such as '7d', '12h' or '0s' is wanted, but got {grace!r}")


def gc(
    store: AtlasStore,
    *,
    dry_run: bool = True,
    grace: str | float = "7d",
    keep: int | None = None,
) -> GcReport:
    """Remove attempts that no retained snapshot names.

    Parameters
    ----------
    store : AtlasStore
        Opened for writing, unless `dry_run`; shows the newest snapshot afterwards.
    dry_run : bool
        Only report.
    grace : str or float
        Leave alone what was touched within this time; longer than the longest job.
    keep : int, optional
        Also give up all snapshots but the newest `keep` and those younger than the grace
        period; all are retained by default. Whoever has an older one open loses it.

    Returns
    -------
    GcReport

    Raises
    ------
    ReadOnly, InvalidArgument
    CommitConflict
        Something was committed that had just been found unused; run it again.
    """
    if keep is not None and keep < 1:
        raise InvalidArgument(f"at least 1 snapshot is to be kept, but got keep={keep!r}")
    storage = store.storage
    before = time.time() - parse_grace(grace)
    if not dry_run:
        store.require_writing("gc")
        store.refresh()
    newest = latest_number(storage)
    retained, expired = _retained(storage, newest, keep, before)
    used = {entry.prefix for snapshot in retained for entry in snapshot.entries()}
    found = list(_orphans(storage, used))
    held = {orphan.prefix for orphan in found if in_use(storage, orphan.prefix)}
    doomed = tuple(o for o in found if o.modified < before and o.prefix not in held)
    ids = {prefix.rpartition("/")[2] for prefix in held}
    n_scratch = len(storage.scratch(before, ids)) if isinstance(storage, LocalStorage) else 0
    if not dry_run:
        # From here on no build goes on with one of them; one that just did keeps it.
        doomed = tuple(orphan for orphan in doomed if retire(storage, orphan.prefix))
        doomed = _remove(store, doomed, expired, newest)
        if isinstance(storage, LocalStorage):
            storage.clear_scratch(before, ids)
    return GcReport(
        dry_run,
        doomed,
        len(found) - len(doomed) - len(held),
        tuple(snapshot.number for snapshot in expired),
        n_scratch,
        len(held),
    )


def _remove(
    store: AtlasStore, doomed: tuple[Orphan, ...], expired: list[Snapshot], newest: int
) -> tuple[Orphan, ...]:
    """Condemn, then delete what is still named nowhere; return what was deleted."""
    storage = store.storage
    known = set(store.snapshot.condemned)
    condemn = [orphan.prefix for orphan in doomed if orphan.prefix not in known]
    if condemn:
        store.commit(Change(condemn=condemn), f"gc: condemn {len(condemn)} attempts")
    doomed = _unnamed(storage, doomed, newest)
    for snapshot in expired:
        storage.put(catalog_key(snapshot.number), _tombstone(snapshot).to_bytes())
    for orphan in doomed:
        storage.delete([orphan.manifest])
        storage.delete_prefix(orphan.prefix)
    return doomed


def _unnamed(storage: Storage, doomed: tuple[Orphan, ...], newest: int) -> tuple[Orphan, ...]:
    """Leave out what a snapshot younger than `newest` names.

    Between the look and the condemning, one commit may have added an attempt and the next have
    replaced it: the head does not use it, history does. Once condemned, nobody can add it.
    """
    named: set[str] = set()
    for number in range(newest + 1, latest_number(storage, newest) + 1):
        record = read_record(storage, number)
        if isinstance(record, Snapshot):
            named |= {entry.prefix for entry in record.entries()}
    return tuple(orphan for orphan in doomed if orphan.prefix not in named)


def _tombstone(snapshot: Snapshot) -> Tombstone:
    return Tombstone(
        snapshot.number,
        snapshot.commit,
        snapshot.parent,
        snapshot.digest,
        snapshot.created,
        snapshot.message,
    )


def _retained(
    storage: Storage, newest: int, keep: int | None, before: float
) -> tuple[list[Snapshot], list[Snapshot]]:
    """Split the snapshots into those whose contents stay and those to replace by tombstones."""
    retained: list[Snapshot] = []
    expired: list[Snapshot] = []
    for number in range(newest, 0, -1):
        record = read_record(storage, number)
        if isinstance(record, Tombstone):
            continue
        young = datetime.fromisoformat(record.created).timestamp() >= before
        if keep is None or newest - number < keep or young:
            retained.append(record)
        else:
            expired.append(record)
    return retained, expired


def _orphans(storage: Storage, used: set[str]) -> Iterator[Orphan]:
    for top, depth in _DEPTH.items():
        for parent in _folders(storage, top, depth):
            yield from _orphans_of(storage, parent, used)


def _folders(storage: Storage, prefix: str, depth: int) -> Iterator[str]:
    if depth == 0:
        yield prefix
        return
    for folder in storage.list_prefixes(prefix):
        yield from _folders(storage, folder, depth - 1)


def _orphans_of(storage: Storage, parent: str, used: set[str]) -> Iterator[Orphan]:
    folders, files = storage.children(parent)
    manifests = {entry.key: entry for entry in files}
    names = {folder.rpartition("/")[2].removesuffix(".zarr") for folder in folders}
    names |= {key.rpartition("/")[2].removesuffix(".manifest.json") for key in manifests}
    for attempt in sorted(filter(is_attempt, names)):
        prefix, manifest = attempt_prefix(parent, attempt), manifest_key(parent, attempt)
        if prefix in used:
            continue
        entries = list(storage.entries(prefix)) if prefix in folders else []
        if manifest in manifests:
            entries.append(manifests[manifest])
        yield Orphan(
            prefix,
            manifest,
            sum(max(0, entry.size) for entry in entries),
            len(entries),
            # An empty folder has no objects to tell its age by; only a local disk has them.
            max((entry.modified for entry in entries), default=_folder_time(storage, prefix)),
        )


def _folder_time(storage: Storage, prefix: str) -> float:
    path = storage.local_path(prefix)
    try:
        return path.stat().st_mtime if path is not None else 0.0
    except FileNotFoundError:
        return 0.0
