"""The numbered snapshots: find the newest, read one, add the next.

::

    read newest n ── rebase the change on it ── put n+1 if absent ── done
         ▲                    │ conflict: raise         │ taken, or no clear answer
         │                    ▼                         ▼
         └── wait a little ◄── another's ◄── read n+1: whose commit id? ── ours ── done

Only put-if-absent is needed. A lost acknowledgement and a lost race look alike until the commit
id inside the snapshot tells them apart. Keys of the catalog are never deleted: a writer that
stalled could otherwise create an old number again, and its commit would be lost.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice

from . import schema
from .errors import (
    AlreadyExists,
    AtlasError,
    CommitConflict,
    CommitUncertain,
    FormatUnsupported,
    InvalidArgument,
    MissingKey,
    SnapshotNotFound,
    StorageUnavailable,
)
from .keys import CATALOG, catalog_key, number_of
from .manifest import digest_bytes, parse_json
from .rebase import rebase
from .snapshot import Change, Snapshot
from .storage import Storage

__all__ = [
    "Tombstone",
    "commit",
    "history",
    "latest_number",
    "read_record",
    "read_snapshot",
]

# 10^5 sections with 64 categories each.
_LARGEST = 512 * 2**20
_LONGEST_MESSAGE = 2_000
_PAGE = 1_000
# Losing this often in a row means something other than a race.
_MOST_TRIES = 200
_MOST_FAILURES = 12
_FIRST_WAIT_S = 0.002
_LONGEST_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What stays of a snapshot that gc removed: enough to keep its number and the chain.

    Attributes
    ----------
    number : int
        Number that stays taken.
    commit : str
        Id of the removed commit, for a writer that still waits for its answer.
    parent : str, optional
        Digest of the snapshot before.
    digest : str
        Digest of the removed bytes, which the next snapshot names as its parent.
    created, message : str
        When and what, for the history.
    """

    number: int
    commit: str
    parent: str | None
    digest: str
    created: str
    message: str

    def to_bytes(self) -> bytes:
        """Serialize."""
        import json

        body = {
            "format": schema.TOMBSTONE_FORMAT,
            "format_version": schema.FORMAT_VERSION,
            **asdict(self),
        }
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def latest_number(storage: Storage, hint: int = 0) -> int:
    """Find the number of the newest snapshot; 0 when there is none.

    Parameters
    ----------
    storage : Storage
        Root of the atlas.
    hint : int
        A number known to exist: asking upwards from it is cheaper than listing.
    """
    if storage.can_list and not hint:
        keys = storage.list(CATALOG)
        # In order, the newest is on the first page; without, it may be anywhere.
        if storage.lists_in_order:
            keys = islice(keys, _PAGE)
        return max((number_of(key) or 0 for key, _ in keys), default=0)
    # Numbers have no gaps: gallop past the end, then halve the distance to it.
    low, step = hint, 1
    while storage.exists(catalog_key(low + step)):
        low, step = low + step, step * 2
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if storage.exists(catalog_key(middle)) else (low, middle)
    return low


def read_record(storage: Storage, number: int) -> Snapshot | Tombstone:
    """Read what the catalog holds at a number.

    Raises
    ------
    SnapshotNotFound, Corrupt, FormatUnsupported
    """
    try:
        data = storage.get(catalog_key(number), max_bytes=_LARGEST)
    except (MissingKey, InvalidArgument):
        raise SnapshotNotFound(
            f"snapshot {number} is wanted, but got none of this number in {storage.url}; "
            "`tisseract history` lists them"
        ) from None
    what = f"snapshot {number}"
    # A snapshot is parsed once; only one that mentions tombstones, in a message perhaps, twice.
    named = schema.TOMBSTONE_FORMAT.encode() in data
    body = parse_json(data, what) if named else {}
    if body.get("format") != schema.TOMBSTONE_FORMAT:
        return Snapshot.from_bytes(data, number)
    schema.check_format(body, schema.TOMBSTONE_FORMAT, what)
    facts = schema.tombstone_facts(body, number, what)
    return Tombstone(**facts)


def read_snapshot(storage: Storage, number: int | None = None) -> Snapshot:
    """Read a snapshot; the newest when no number is given.

    Parameters
    ----------
    storage : Storage
        Root of the atlas.
    number : int, optional
        0 is the empty state before the first commit.

    Raises
    ------
    SnapshotNotFound
        No snapshot of this number, or one removed by gc.
    Corrupt, FormatUnsupported
    """
    if number is None:
        number = latest_number(storage)
    if number == 0:
        return Snapshot.empty()
    record = read_record(storage, number)
    if isinstance(record, Tombstone):
        raise SnapshotNotFound(
            f"snapshot {number} is wanted, but got one that gc removed from {storage.url}; "
            "`tisseract history` lists those that are left"
        )
    return record


def history(storage: Storage) -> Iterator[Snapshot | Tombstone]:
    """Read all snapshots, newest first; what gc removed comes as a `Tombstone`."""
    for number in range(latest_number(storage), 0, -1):
        yield read_record(storage, number)


@dataclass(slots=True)
class _Writer:
    """One commit on its way; remembers every number where its bytes may yet arrive."""

    storage: Storage
    change: Change
    message: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    uncertain: dict[int, bytes] = field(default_factory=dict)
    known: int = 0

    def attempt(self) -> Snapshot | None:
        """Try once; None when another writer was first.

        Raises
        ------
        StorageUnavailable
            No clear answer; what may yet arrive is remembered.
        """
        self.known = latest_number(self.storage, self.known)
        head = read_snapshot(self.storage, self.known)
        if (ours := self._landed(head.number)) is not None:
            return ours
        if not schema.writable(head.format_version):
            raise FormatUnsupported(
                f"an atlas of format {schema.FORMAT_VERSION} or older is wanted for writing, but "
                f"got {head.format_version}; upgrade tisseract"
            )
        after = rebase(head, self.change)
        if after is None:
            return head
        number = head.number + 1
        following = replace(
            after,
            number=number,
            parent=head.digest or None,
            commit=self.id,
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            message=self.message,
            format_version=schema.FORMAT_VERSION,
        )
        # Bytes that may still be under way to this number are sent again unchanged.
        if (data := self.uncertain.get(number)) is None:
            data = following.to_bytes()
        else:
            following = Snapshot.from_bytes(data, number)
        if not self._put(number, data):
            return None
        return replace(following, digest=digest_bytes(data))

    def _put(self, number: int, data: bytes) -> bool:
        try:
            self.storage.put_if_absent(catalog_key(number), data)
        except AlreadyExists:
            # Until it is read back, the one who was first may be ourselves.
            self.uncertain[number] = data
            ours = self._is_ours(number)
            del self.uncertain[number]
            return ours
        except StorageUnavailable:
            self.uncertain[number] = data
            if self._is_ours(number):
                return True
            raise
        return True

    def _landed(self, newest: int) -> Snapshot | None:
        """Find our commit where an earlier try ended without an answer."""
        for number in sorted(self.uncertain):
            if number > newest:
                break
            if self._is_ours(number):
                return read_snapshot(self.storage, number)
            # Another's commit stands there for good; ours can no longer arrive.
            del self.uncertain[number]
        return None

    def _is_ours(self, number: int) -> bool:
        try:
            return read_record(self.storage, number).commit == self.id
        except SnapshotNotFound:
            return False


def commit(storage: Storage, change: Change, message: str) -> Snapshot:
    """Add a snapshot that holds the change; retries until it is in, or cannot be.

    Parameters
    ----------
    storage : Storage
        Root of the atlas, opened for writing.
    change : Change
        Applied to whatever snapshot is the newest by then.
    message : str
        What was done.

    Returns
    -------
    Snapshot
        The new snapshot, or the newest one when it already holds the change.

    Raises
    ------
    CommitConflict
        The change does not fit what others have committed; see `rebase`.
    CommitUncertain
        The storage kept failing and the outcome is not known.
    ReadOnly, InvalidArgument, FormatUnsupported
    """
    storage.forbid_writing("a commit")
    _check_entries(change)
    if len(message) > _LONGEST_MESSAGE:
        raise InvalidArgument(
            f"a message of at most {_LONGEST_MESSAGE} characters is wanted, but got {len(message)}"
        )
    writer = _Writer(storage, change, message)
    wait, failures = _FIRST_WAIT_S, 0
    for _ in range(_MOST_TRIES):
        try:
            done = writer.attempt()
            failures = 0
        except StorageUnavailable as error:
            done, failures = None, failures + 1
            if failures >= _MOST_FAILURES:
                _give_up(writer, error)
                raise
        if done is not None:
            return done
        time.sleep(random.uniform(0, wait))
        wait = min(wait * 2, _LONGEST_WAIT_S)
    raise CommitConflict(
        f"a free number is wanted, but got none in {_MOST_TRIES} tries; fewer writers at once, "
        "or larger commits, will help"
    )


def _give_up(writer: _Writer, error: StorageUnavailable) -> None:
    if writer.uncertain:
        raise CommitUncertain(
            f"an answer is wanted for commit {writer.id}, but got none in {_MOST_FAILURES} tries "
            "in a row; look for it in `tisseract history`, and commit again if it is not there. "
            f"Last error: {error}"
        ) from error


def _check_entries(change: Change) -> None:
    """Refuse what could not be read back, before anything is written."""
    probe = Snapshot(
        1,
        None,
        "0" * 32,
        "",
        "",
        sections={entry.section: entry for entry in change.add_sections},
        derived={entry.name: entry for entry in change.add_derived},
        runs={entry.run: entry for entry in change.add_runs},
        condemned=tuple(change.condemn),
    )
    try:
        Snapshot.from_bytes(probe.to_bytes(), 1)
    except AtlasError as error:
        raise InvalidArgument(f"cannot commit: {error}") from error
