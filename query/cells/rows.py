"""Arithmetic on row runs: sorted, disjoint, half-open pairs (start, stop)."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

type RunArray = NDArray[np.int64]
"""(k, 2) row runs."""


def as_runs(pairs: Sequence[tuple[int, int]] | RunArray) -> RunArray:
    """Row runs as an array (k, 2).

    >>> as_runs([]).shape
    (0, 2)
    """
    return np.asarray(pairs, dtype=np.int64).reshape(-1, 2)


def pairs_of(runs: RunArray) -> list[tuple[int, int]]:
    """Row runs as the store takes them.

    >>> pairs_of(as_runs([(0, 3), (5, 6)]))
    [(0, 3), (5, 6)]
    """
    return [(start, stop) for start, stop in runs.tolist()]


def count(runs: RunArray) -> int:
    """Rows in all runs.

    >>> count(as_runs([(0, 3), (5, 6)]))
    4
    """
    return int((runs[:, 1] - runs[:, 0]).sum())


def coalesce(runs: RunArray, gap: int = 0) -> RunArray:
    """Join runs that lie at most `gap` rows apart: fewer requests for a few rows read in vain.

    >>> coalesce(as_runs([(0, 3), (5, 6), (90, 91)]), gap=2).tolist()
    [[0, 6], [90, 91]]
    """
    if len(runs) == 0:
        return runs
    breaks = np.flatnonzero(runs[1:, 0] - runs[:-1, 1] > gap)
    first = np.concatenate([[0], breaks + 1])
    last = np.concatenate([breaks, [len(runs) - 1]])
    return np.stack([runs[first, 0], runs[last, 1]], axis=1)


def rows_of(runs: RunArray) -> NDArray[np.int64]:
    """Every row of the runs, ascending; 8 bytes each.

    >>> rows_of(as_runs([(0, 3), (5, 6)]))
    array([0, 1, 2, 5])
    """
    lengths = runs[:, 1] - runs[:, 0]
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(runs) else lengths
    return np.repeat(runs[:, 0] - offsets, lengths) + np.arange(lengths.sum())


def runs_of(rows: NDArray[np.int64]) -> RunArray:
    """Shortest list of runs over ascending rows.

    >>> runs_of(np.array([0, 1, 2, 5])).tolist()
    [[0, 3], [5, 6]]
    """
    if len(rows) == 0:
        return as_runs([])
    breaks = np.flatnonzero(np.diff(rows) != 1)
    first = np.concatenate([[0], breaks + 1])
    last = np.concatenate([breaks, [len(rows) - 1]])
    return np.stack([rows[first], rows[last] + 1], axis=1)


def within(rows: NDArray[np.int64], wide: RunArray) -> NDArray[np.int64]:
    """Place of each row among the rows of `wide`, which holds them all.

    >>> within(np.array([1, 6]), as_runs([(0, 3), (5, 8)]))
    array([1, 4])
    """
    lengths = wide[:, 1] - wide[:, 0]
    before = np.cumsum(lengths) - lengths
    run = np.searchsorted(wide[:, 0], rows, side="right") - 1
    return np.asarray(rows - wide[run, 0] + before[run], dtype=np.int64)


def batches(runs: RunArray, n_rows: int) -> Iterator[RunArray]:
    """Cut runs into consecutive groups of at most `n_rows` rows.

    >>> [part.tolist() for part in batches(as_runs([(0, 3), (5, 7)]), 2)]
    [[[0, 2]], [[2, 3], [5, 6]], [[6, 7]]]
    """
    lengths = runs[:, 1] - runs[:, 0]
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(runs) else 0
    for low in range(0, total, n_rows):
        high = min(low + n_rows, total)
        first, last = np.searchsorted(ends, [low, high - 1], side="right")
        part = runs[first : last + 1].copy()
        part[0, 0] += low - (ends[first] - lengths[first])
        part[-1, 1] -= ends[last] - high
        yield part
