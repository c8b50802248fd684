"""Memory of batches that is used again once a batch is let go of.

Memory touched for the first time costs as much as unpacking the counts that are put there, and
every batch would be made of such memory.
"""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["BufferPool"]

_SMALL = 1 << 17  # bytes; the allocator keeps such pieces itself
_ROOM = 1.25  # batches differ in size: one made for the last one should do for the next
_WASTE = 2  # at most so many times the bytes asked for


class _Lease:
    """Lends a buffer to one array; the array and its views keep this alive."""

    def __init__(self, pool: "BufferPool", buffer: NDArray[np.uint8], n_bytes: int) -> None:
        self._pool, self._buffer = pool, buffer
        self.__array_interface__ = {**buffer.__array_interface__, "shape": (n_bytes,)}

    def __del__(self) -> None:
        self._pool.give_back(self._buffer)


class BufferPool:
    """Buffers that no array uses any more; thread-safe.

    Parameters
    ----------
    limit : int
        Bytes to keep for later.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: deque[NDArray[np.uint8]] = deque()

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array with anything in it; its memory comes back when all views are gone."""
        kind = np.dtype(dtype)
        n_bytes = int(np.prod(shape)) * kind.itemsize
        if n_bytes < _SMALL:
            return np.empty(shape, kind)
        buffer = self._take(n_bytes)
        if buffer is None:
            buffer = np.empty(int(n_bytes * _ROOM), dtype=np.uint8)
        return np.asarray(_Lease(self, buffer, n_bytes)).view(kind).reshape(shape)

    def _take(self, n_bytes: int) -> NDArray[np.uint8] | None:
        # neither a lock nor a search: an array may die, and come back, in between
        for _ in range(len(self._idle)):
            try:
                buffer = self._idle.popleft()
            except IndexError:
                return None
            if n_bytes <= buffer.nbytes <= _WASTE * n_bytes:
                return buffer
            self._idle.append(buffer)
        return None

    def give_back(self, buffer: NDArray[np.uint8]) -> None:
        """Keep a buffer for later, or let go of it and of others that nobody wanted."""
        self._idle.append(buffer)
        while sum(one.nbytes for one in self._idle.copy()) > self._limit and self._idle:
            self._idle.popleft()
