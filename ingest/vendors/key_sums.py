"""Distinct keys of a long stream with sums beside them, such as bins and their molecules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["KeySums"]

_PENDING = 1 << 20  # keys that wait before they are merged, at least


@dataclass(slots=True)
class KeySums:
    """Grows by batches; keys are merged whenever as many wait as there are.

    Memory: 8 bytes a key and sum, three times that while merging.

    Examples
    --------
    >>> import numpy as np
    >>> found = KeySums(1)
    >>> found.add(np.array([7, 3, 7]), np.array([1, 1, 1]))
    >>> found.add(np.array([3]), np.array([5]))
    >>> keys, sums = found.result()
    >>> keys.tolist(), sums[0].tolist()
    ([3, 7], [6, 2])
    """

    n_sums: int
    """Sums beside each key."""
    _merged: list[NDArray[np.int64]] = field(default_factory=list)
    _pending: list[list[NDArray[np.int64]]] = field(default_factory=list)
    _waiting: int = 0

    def add(self, keys: NDArray[np.int64], *values: NDArray[np.int64]) -> None:
        """Take keys in any order, (k,), and a number for each sum."""
        if len(values) != self.n_sums:
            raise ValueError(f"expected {self.n_sums} sums, but got {len(values)}")
        if keys.size == 0:
            return
        part = _reduced([keys, *values])
        self._pending.append(part)
        self._waiting += part[0].size
        if self._waiting >= max(_PENDING, self._merged[0].size if self._merged else 0):
            self._merge()

    def result(self) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], ...]]:
        """Keys, ascending, and the sums of each."""
        self._merge()
        if not self._merged:
            empty = np.empty(0, np.int64)
            return empty, (empty,) * self.n_sums
        return self._merged[0], tuple(self._merged[1:])

    def _merge(self) -> None:
        parts = ([self._merged] if self._merged else []) + self._pending
        if len(parts) > 1:
            self._merged = _reduced([np.concatenate(column) for column in zip(*parts, strict=True)])
        elif parts:
            self._merged = parts[0]
        self._pending, self._waiting = [], 0


def _reduced(columns: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    keys = columns[0]
    if len(columns) == 1:
        # By sorting: `np.unique` hashes, and takes ten times as long over keys of bins.
        keys = np.sort(keys)
        return [keys[np.diff(keys, prepend=keys[0] - 1) != 0]]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
    sums = [np.add.reduceat(np.asarray(one, np.int64)[order], first) for one in columns[1:]]
    return [keys[first], *sums]
