"""Heaps of variable-length text in HDF5 files, looked through before the library reads them.

The library walks the objects of a heap by their sizes. A free object of size 0, as zeros on a bad
disk make it, keeps it in place for ever, out of reach of any exception or signal handler.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..atlas.errors import Fault, InputError
from .reader import faults_of

__all__ = ["check_heaps"]

_SIGNATURE = b"GCOL\x01\0\0\0"
_PIECE = 2**22
_HEADER = 16  # of a heap, and of an object in it
_MOST = 2**28  # bytes of one heap; they have 4,096 unless one text is longer


def check_heaps(path: Path) -> None:
    """Refuse a file with a heap that the library would not get through.

    Raises
    ------
    InputError
        Naming where the heap lies. Cost: the file is read once, 4 MiB at a time; variable-length
        texts are stepped over one by one.
    """
    with faults_of(path, "an HDF5 file"), path.open("rb") as file, path.open("rb") as heaps:
        for at in _found(file):
            heaps.seek(at)
            if not _ends(heaps):
                raise InputError(
                    Fault(
                        f"{path} byte {at}",
                        "expected texts one after another, but got sizes that lead nowhere; the "
                        "file is damaged: copy it again",
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


def _ends(file: IO[bytes]) -> bool:
    """Whether the sizes of the objects lead from the first to the end of the heap."""
    head = file.read(_HEADER)
    if len(head) < _HEADER:
        return True  # cut off: the library says so
    size = int(struct.unpack_from("<Q", head, 8)[0])
    if not _HEADER <= size <= _MOST:
        return size > _MOST  # what is longer is no heap of ours, and the library checks its end
    body = file.read(size - _HEADER)
    at = 0
    while at + _HEADER <= len(body):
        number, length = struct.unpack_from("<H6xQ", body, at)
        step = length if number == 0 else _HEADER + -(-length // 8) * 8
        if step < _HEADER:
            return False
        at += step
    return True
