"""Telling what garbage collection took away from what is damaged."""

from __future__ import annotations

from .catalog import read_snapshot
from .errors import SnapshotNotFound
from .storage import Storage

__all__ = ["refuse_collected"]


def refuse_collected(storage: Storage, key: str) -> None:
    """Raise where a missing key lies in an attempt that gc has deleted; return where it does not.

    Reads the newest snapshot, so that only who has found a key missing should call it.

    Raises
    ------
    SnapshotNotFound
        Whoever reads it shows a snapshot that gc gave up; the message says what to do.
    """
    condemned = set(read_snapshot(storage).condemned)
    parts = key.split("/")
    prefixes = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    gone = next((prefix for prefix in prefixes if prefix in condemned), None)
    if gone is not None:
        raise SnapshotNotFound(
            f"a snapshot whose data is still there is wanted, but got one that gc gave up since "
            f"it was opened: it deleted {gone} of {storage.url}; open the atlas again or refresh() "
            "it, and ask anew; `tisseract gc --keep N` keeps more snapshots"
        ) from None
