"""Attempts whose finished parts outlive their writer: the next run of the same step goes on.

An attempt is made of *parts*, folders two levels deep (`blocks/12`), each written by one task. A
task writes into the scratch folder and renames its part into place, so a part is whole or absent,
and a task that runs twice loses harmlessly. While the attempt grows, its folder `.building` holds

    lock            locked (`flock`) by the writer for as long as it lives
    plan.json       what is being made, with a digest
    <part>.json     receipt of a finished part: every file with its size and SHA-256

An attempt is adopted only where `plan.json` says the same plan, nobody holds the lock, and the
newest snapshot neither names nor condemns it. Its parts are adopted only where the files are
exactly those of the receipt: nothing is flushed before the seal, so after a power cut any of them
may be torn. The records go, for good, before anything is committed: what has them was never
visible to a reader.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .attempt import Attempt, walk
from .catalog import read_snapshot
from .errors import AtlasError, InvalidArgument
from .keys import is_attempt
from .lock import FileLock, is_locked, try_lock
from .manifest import digest_bytes, parse_json
from .parts import PartReceipt, part_digests
from .storage_local import LocalStorage, flush_folder

if TYPE_CHECKING:
    from types import TracebackType

    from .storage import Storage

__all__ = [
    "RECORDS",
    "ResumableAttempt",
    "in_use",
    "open_resumable",
    "retire",
]

RECORDS = ".building"
"""Folder of an attempt that holds what is known of it while it grows; never committed."""

_FORMAT = "tisseract-building/1"
_PLAN, _LOCK = "plan.json", "lock"
_LARGEST = 16 * 2**20
_THREADS = 4


class ResumableAttempt(Attempt):
    """An attempt whose finished parts are kept when its writer fails or dies.

    Attributes
    ----------
    finished : dict of str to PartReceipt
        Parts that are there, by name: those adopted, and those recorded since.
    resumable : bool
        Whether records are kept; not for a bucket, and not where files cannot be locked.
    """

    def __init__(
        self,
        storage: Storage,
        parent: str,
        *,
        adopt: str | None = None,
        lock: FileLock | None = None,
    ) -> None:
        super().__init__(storage, parent, adopt=adopt)
        self.finished: dict[str, PartReceipt] = {}
        self._records = self.path / RECORDS
        self._lock = lock

    @property
    def resumable(self) -> bool:
        """Whether a later run could go on with what this one leaves."""
        return self._lock is not None

    def start(self, plan: bytes) -> None:
        """Begin to keep records, where files can be locked."""
        if not isinstance(self.storage, LocalStorage):
            return
        self._records.mkdir()
        self._lock = try_lock(self._records / _LOCK, create=True)
        if self._lock is None:
            shutil.rmtree(self._records)
        else:
            self._note(_PLAN, plan)

    def adopt(self) -> None:
        """Keep the parts that are exactly as their receipts say, and remove everything else."""
        self.storage.delete([self.manifest])
        receipts: list[PartReceipt] = []
        for path in sorted(self._records.iterdir()):
            if path.name in (_PLAN, _LOCK):
                continue
            receipt = PartReceipt.from_bytes(_read(path), path.name)
            if receipt is None or path.name != _receipt_name(receipt.part):
                _remove(path)
            else:
                receipts.append(receipt)
        with ThreadPoolExecutor(_THREADS) as pool:
            whole = list(pool.map(self._is_whole, receipts))
        for receipt, kept in zip(receipts, whole, strict=True):
            if kept:
                self._accept(receipt)
            else:
                _remove(self._records / _receipt_name(receipt.part))
        self._remove_others()

    def _is_whole(self, receipt: PartReceipt) -> bool:
        group = self.path / receipt.part.partition("/")[0]
        if group.is_symlink() or (self.path / receipt.part).is_symlink():
            return False
        try:
            names = [f"{receipt.part}/{name}" for name in walk(self.path / receipt.part)[0]]
            sizes = [(self.path / name).stat().st_size for name in names]
            if [(key.key, key.size) for key in receipt.files] != list(
                zip(names, sizes, strict=True)
            ):
                return False
            return bool(names) and part_digests(self.path, receipt.part) == receipt.files
        except (InvalidArgument, OSError):
            return False

    def _remove_others(self) -> None:
        groups = {part.partition("/")[0] for part in self.finished}
        for place in self.path.iterdir():
            if place.name == RECORDS:
                continue
            if place.name not in groups:
                _remove(place)
                continue
            for child in place.iterdir():
                if f"{place.name}/{child.name}" not in self.finished:
                    _remove(child)

    def record(self, receipt: PartReceipt) -> None:
        """Note that a part is finished; the receipt appears whole or not at all."""
        self._accept(receipt)
        if self.resumable:
            self._note(_receipt_name(receipt.part), receipt.to_bytes())

    def _accept(self, receipt: PartReceipt) -> None:
        self.finished[receipt.part] = receipt
        self.known.update((key.key, key) for key in receipt.files)

    def _note(self, name: str, data: bytes) -> None:
        scratch = self._records / f"{name}.tmp"
        scratch.write_bytes(data)
        scratch.rename(self._records / name)

    def _contents(self) -> tuple[list[str], list[Path]]:
        files, folders = super()._contents()
        records = {self._records}
        return (
            [name for name in files if not name.startswith(f"{RECORDS}/")],
            [folder for folder in folders if folder not in records],
        )

    def close_records(self) -> None:
        """Remove the records, for good; to be called once sealed, before the commit.

        From here on the attempt cannot be adopted. Flushed, since after a power cut a committed
        attempt must not look like one that is being written.
        """
        if self.resumable:
            (self._records / _PLAN).unlink(missing_ok=True)
            flush_folder(self._records)
            shutil.rmtree(self._records)
            flush_folder(self.path)

    def _give_up(self, error: BaseException | None) -> None:
        """Keep finished parts for the next run, unless the parameters were what failed."""
        if (
            error is None
            or isinstance(error, InvalidArgument)
            or not (self.resumable and self.finished)
        ):
            self.discard()
            return
        error.add_note(
            f"{len(self.finished)} finished parts of {self.prefix} are kept: the same step goes "
            "on with them, gc removes them"
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            super().__exit__(kind, error, traceback)
        finally:
            if self._lock is not None:
                self._lock.release()


def open_resumable(storage: Storage, parent: str, plan: Mapping[str, Any]) -> ResumableAttempt:
    """Open a place to make something in parts: what a dead writer left of it, or a fresh one.

    Parameters
    ----------
    storage : Storage
        Opened for writing. On a disk finished parts survive; elsewhere this is `new_attempt`.
    parent : str
        `derived/<kind>/<key>/<section>`.
    plan : mapping
        All that decides what the parts hold, as JSON: inputs, parameters, borders, versions. Only
        parts made under an equal plan are used.

    Returns
    -------
    ResumableAttempt
        To be used in a `with` statement; `finished` says which parts are there.

    Raises
    ------
    ReadOnly, InvalidArgument

    Notes
    -----
    Of several candidates the one with the most finished parts is taken. A writer that lives keeps
    its attempt locked, so two never share one. What is adopted is read once, to be compared with
    its receipts.
    """
    body = json.dumps(plan, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()
    note = json.dumps({"format": _FORMAT, "digest": digest_bytes(body), "plan": plan}).encode()
    if isinstance(storage, LocalStorage) and not storage.read_only:
        for attempt in _candidates(storage, parent, body):
            found = _adopt(storage, parent, attempt, body)
            if found is not None:
                return found
    fresh = ResumableAttempt(storage, parent)
    try:
        fresh.start(note)
    except BaseException:
        fresh.discard()
        raise
    return fresh


def _candidates(storage: LocalStorage, parent: str, body: bytes) -> list[str]:
    """List attempts under construction with an equal plan, most finished parts first."""
    found: list[tuple[int, str]] = []
    for folder in storage.list_prefixes(parent):
        attempt = folder.rpartition("/")[2]
        records = storage.root / folder / RECORDS
        if is_attempt(attempt) and _has_plan(records, body):
            found.append((sum(1 for _ in records.iterdir()), attempt))
    return [attempt for _, attempt in sorted(found, reverse=True)]


def _has_plan(records: Path, body: bytes) -> bool:
    if records.is_symlink():
        return False
    try:
        note = parse_json(_read(records / _PLAN), _PLAN)
        plan = json.dumps(note.get("plan"), sort_keys=True, separators=(",", ":")).encode()
    except (AtlasError, ValueError):
        return False
    same = plan == body and note.get("digest") == digest_bytes(body)
    return same and note.get("format") == _FORMAT


def _adopt(
    storage: LocalStorage, parent: str, attempt: str, body: bytes
) -> ResumableAttempt | None:
    prefix = f"{parent}/{attempt}"
    records = storage.root / prefix / RECORDS
    lock = try_lock(records / _LOCK)
    if lock is None:
        return None
    try:
        newest = read_snapshot(storage)
        seen = {entry.prefix for entry in newest.entries()} | set(newest.condemned)
        # Asked again under the lock: gc takes the plan away before it deletes.
        if prefix not in seen and _has_plan(records, body):
            found = ResumableAttempt(storage, parent, adopt=attempt, lock=lock)
            found.adopt()
            return found
    except PermissionError:  # somebody else's: a fresh one it is
        pass
    except BaseException:
        lock.release()
        raise
    lock.release()
    return None


def in_use(storage: Storage, prefix: str) -> bool:
    """Tell whether a living writer is at work in an attempt; False where that is not known."""
    records = _records(storage, prefix)
    return records is not None and is_locked(records / _LOCK)


def retire(storage: Storage, prefix: str) -> bool:
    """Make sure that nobody goes on with an attempt; False where a living writer does."""
    records = _records(storage, prefix)
    if records is None:
        return True
    lock = try_lock(records / _LOCK)
    if lock is None:
        return not is_locked(records / _LOCK)
    with lock:
        (records / _PLAN).unlink(missing_ok=True)
    return True


def _records(storage: Storage, prefix: str) -> Path | None:
    """Find the records of an attempt on a disk; a link, which may lead anywhere, is none."""
    path = storage.local_path(f"{prefix}/{RECORDS}")
    return None if path is None or path.is_symlink() or not path.is_dir() else path


def _receipt_name(part: str) -> str:
    return f"{part.replace('/', '.')}.json"


def _read(path: Path) -> bytes:
    """Contents of a small regular file; nothing for anything else."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST:
            return b""
        return path.read_bytes()
    except OSError:
        return b""


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
