"""Does this storage really refuse to overwrite? Asked once, when an atlas is created."""

from __future__ import annotations

import contextlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from .errors import AccessDenied, AlreadyExists, StorageUnavailable, StorageUnsupported
from .keys import PROBE
from .storage import Storage

__all__ = ["probe"]

_RACERS = 8


def probe(storage: Storage) -> None:
    """Check that put-if-absent holds, one after the other and in a race.

    Some servers accept the condition and ignore it; commits of two writers would then overwrite
    each other without a word. Writes two small objects under `probe/` and removes them.

    Parameters
    ----------
    storage : Storage
        Opened for writing.

    Raises
    ------
    StorageUnsupported
        The storage overwrote an object it was told not to, or let several of eight racers win.
    """
    token = uuid.uuid4().hex
    twice, race = f"{PROBE}/{token}-twice", f"{PROBE}/{token}-race"
    try:
        _check_twice(storage, twice)
        _check_race(storage, race)
    finally:
        with contextlib.suppress(StorageUnavailable, AccessDenied):  # may write, not delete
            storage.delete([twice, race])


def _check_twice(storage: Storage, key: str) -> None:
    with contextlib.suppress(AlreadyExists):  # the first may be sent twice under the hood
        storage.put_if_absent(key, b"first")
    try:
        storage.put_if_absent(key, b"second")
    except AlreadyExists:
        if storage.get(key) == b"first":
            return
    raise _refusal(storage, "it overwrote an object it was told not to")


def _check_race(storage: Storage, key: str) -> None:
    barrier = Barrier(_RACERS)

    def run(racer: int) -> bool:
        barrier.wait()
        try:
            storage.put_if_absent(key, str(racer).encode())
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(_RACERS) as pool:
        winners = [racer for racer, won in enumerate(pool.map(run, range(_RACERS))) if won]
    # A winner whose acknowledgement was lost believes that it lost: none is allowed, two are not.
    if len(winners) > 1 or (winners and storage.get(key) != str(winners[0]).encode()):
        raise _refusal(storage, f"{len(winners)} of {_RACERS} racing writers won")


def _refusal(storage: Storage, found: str) -> StorageUnsupported:
    return StorageUnsupported(
        f"a storage with conditional writes is wanted for an atlas of many writers, but got "
        f"{storage.url}: {found}; use another one, or create(..., single_writer=True) and never "
        "run two writers at once"
    )
