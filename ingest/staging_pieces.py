"""Pieces of an object by which its technology is told, without fetching the rest."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator

__all__ = ["telling_pieces"]

_TEXT = re.compile(r"\.(tsv|csv|txt)(\.gz)?$")
_PIECE = 2**17
_MOST = 2**24  # of one object
_AHEAD = 2**18  # unpacked beyond the second line: gzip readers read that far ahead
_TAIL = 2**16 + 2**10  # a zip ends with its directory, then a record and up to 64 KiB of comment
_END, _END64 = b"PK\x05\x06", b"PK\x06\x06"


def telling_pieces(
    name: str, size: int, read: Callable[[int, int], bytes], head_bytes: int
) -> Iterator[tuple[int, bytes]]:
    r"""Fetch the head of an object: of text two lines at least; of a zip its directory as well.

    Parameters
    ----------
    name : str
        Of the object; its ending says what it is.
    size : int
        Bytes of it.
    read : callable
        Bytes from a place, as many as asked for.
    head_bytes : int
        Fetched of any object.

    Yields
    ------
    place, bytes
        16 MiB at most.

    Examples
    --------
    >>> text = b"a,b\n" + b"1" * 9 + b"\n" + b"2" * 10**6
    >>> [(place, len(piece)) for place, piece in telling_pieces(
    ...     "a.csv", len(text), lambda start, n: text[start : start + n], 4)]
    [(0, 4), (4, 131072)]
    """
    head = read(0, min(head_bytes, size))
    yield 0, head
    folded = name.casefold()
    if found := _TEXT.search(folded):
        yield from _lines(head, size, read, packed=found[2] is not None)
    elif folded.endswith(".zip"):
        yield from _directory(size, read)


def _lines(
    head: bytes, size: int, read: Callable[[int, int], bytes], *, packed: bool
) -> Iterator[tuple[int, bytes]]:
    unpack = zlib.decompressobj(31) if packed else None
    piece, at, newlines, beyond = head, len(head), 0, 0
    while True:
        try:
            text = unpack.decompress(piece) if unpack is not None else piece
        except zlib.error:
            return  # whoever reads it will say so
        newlines += text.count(b"\n")
        beyond += len(text) if newlines > 1 else 0
        if (newlines > 1 and (unpack is None or beyond > _AHEAD)) or at >= min(size, _MOST):
            return
        piece = read(at, min(_PIECE, size - at))
        if not piece:
            return
        yield at, piece
        at += len(piece)


def _directory(size: int, read: Callable[[int, int], bytes]) -> Iterator[tuple[int, bytes]]:
    start = max(0, size - _TAIL)
    tail = read(start, size - start)
    yield start, tail
    end, long = tail.rfind(_END), tail.rfind(_END64)
    try:
        first = struct.unpack_from("<L", tail, end + 16)[0] if end >= 0 else size
        if first == 0xFFFFFFFF and long >= 0:
            first = struct.unpack_from("<Q", tail, long + 48)[0]
    except struct.error:
        return
    if start - _MOST <= first < start:
        yield first, read(first, start - first)
