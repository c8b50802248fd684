"""Heaps of variable-length text in HDF5 files, looked through before the library reads them.

The library walks the objects of a heap by their sizes. A free object of size 0, as zeros on a bad
disk make it, keeps it in place for ever, out of reach of any exception or signal handler.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO

from ..atlas.errors import Fault, InputError
from .reader import faults_of

__all__ = ["check_heaps"]

_SIGNATURE = b"GCOL\x01\0\0\0"
_PIECE = 2**22
_HEADER = 16  # of a heap, and of an object in it
_MOST = 2**28  # bytes of one heap; they have 4,096 unless one text is longer
_OVER = 3  # objects of all heaps, in those the file has room for
_LEAST_STEPS = 1_000


def check_heaps(path: Path) -> None:
    """Refuse a file with a heap that the library would not get through.

    Heaps are looked for also inside of heaps: a whole one around it may hide a broken one.

    Raises
    ------
    InputError
        Naming where the heap lies. Cost: a file is read once, 4 MiB at a time; variable-length
        texts are stepped over one by one, three times as many at most as the file has room for.
    """
    with faults_of(path, "an HDF5 file"):
        facts = path.stat()
    _check(path, (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns))


@lru_cache(maxsize=256)
def _check(path: Path, _: tuple[int, ...]) -> None:
    # The same file is opened again and again: to inspect it, to open it, for each section in it.
    with faults_of(path, "an HDF5 file"), path.open("rb") as file, path.open("rb") as heaps:
        steps = _LEAST_STEPS + _OVER * (file.seek(0, 2) // _HEADER)
        file.seek(0)
        for at in _found(file):
            taken = _steps(heaps, at, steps)
            if taken is None:
                raise InputError(
                    Fault(
                        f"{path} byte {at}",
                        "expected texts one after another, but got sizes that lead nowhere; the "
                        "file is damaged: copy it again",
                    )
                )
            steps -= taken
            if steps <= 0:
                raise InputError(
                    Fault(
                        str(path),
                        "expected texts beside one another, but got heaps of them that lie in each "
                        "other; the file is damaged: copy it again",
                    )
                )


def _found(file: IO[bytes]) -> Iterator[int]:
    """Places of the heaps."""
    start, rest = 0, b""
    while piece := file.read(_PIECE):
        text = rest + piece
        at = text.find(_SIGNATURE)
        while at >= 0:
            yield start + at
            at = text.find(_SIGNATURE, at + 1)
        rest = text[-len(_SIGNATURE) + 1 :]
        start += len(text) - len(rest)


def _steps(file: IO[bytes], start: int, most: int) -> int | None:
    """Count the steps to the end of a heap, at most so many; None where one leads nowhere."""
    file.seek(start)
    head = file.read(_HEADER)
    if len(head) < _HEADER:
        return 1  # cut off: the library says so
    size = int(struct.unpack_from("<Q", head, 8)[0])
    if not _HEADER <= size <= _MOST:
        # What is longer is no heap of ours, and the library checks its end.
        return 1 if size > _MOST else None
    at, steps = _HEADER, 1
    while at + _HEADER <= size and steps < most:
        file.seek(start + at)
        head = file.read(_HEADER)
        if len(head) < _HEADER:
            break
        number, length = struct.unpack("<H6xQ", head)
        step = length if number == 0 else _HEADER + -(-length // 8) * 8
        if step < _HEADER:
            return None
        at += step
        steps += 1
    return steps
