"""Exact search: windows are gone through in blocks, the best are kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .opened import Index
from .scoring import Scorer
from .windows import apart

BLOCK_WINDOWS = 65_536
# A window overlaps eight others of its size: with that many spares the k best apart are found.
SPARE = 9


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Windows, best first."""

    section: NDArray[np.int64]
    """(m,) number of the section among those of the index."""
    segment: NDArray[np.int64]
    row: NDArray[np.int64]
    """(m,) in the arrays of the segment."""
    score: NDArray[np.float64]

    @classmethod
    def none(cls) -> "Found":
        """No window."""
        none = np.zeros(0, np.int64)
        return cls(none, none, none, np.zeros(0))

    def __len__(self) -> int:
        return len(self.row)

    def take(self, chosen: NDArray[np.int64]) -> "Found":
        """Pick some of them, in the order given."""
        return Found(
            self.section[chosen], self.segment[chosen], self.row[chosen], self.score[chosen]
        )

    def best(self, other: "Found", n: int) -> "Found":
        """Keep the n best of both; ties go to the section first by name, then to the row."""
        both = Found(
            np.concatenate([self.section, other.section]),
            np.concatenate([self.segment, other.segment]),
            np.concatenate([self.row, other.row]),
            np.concatenate([self.score, other.score]),
        )
        return both.take(np.lexsort((both.row, both.section, -both.score))[:n])


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """Which windows may be found."""

    sections: Sequence[str]
    """Names, ascending."""
    size: int
    banned: Mapping[str, NDArray[np.int64]]
    """Rows of windows of a section that are not wanted, counted from its first."""
    having: Mapping[int, tuple[tuple[int, float], ...]]
    """Column number -> least share of values: (value number, share)."""


def scan(index: Index, scope: Scope, scorer: Scorer, n: int) -> Found:
    """Find the n best windows by going through all of them; memory one block of 65,536."""
    best = Found.none()
    for segment, runs, section in _blocks(index, scope):
        rows = np.concatenate([np.arange(*run) for run in runs])
        keep = _allowed(index, scope, segment, runs, section)
        names = {part: _array(index, scope.size, part) for part in scorer.needs()}
        parts = {part: index.segments[segment].read(name, runs) for part, name in names.items()}
        score = scorer.score(parts)
        # What cannot enter is dropped before anything is sorted.
        if len(best) == n:
            keep &= score >= best.score[-1]
        at = np.flatnonzero(keep)
        if len(at) > 4 * n:
            edge = np.partition(score[at], len(at) - n)[len(at) - n]
            at = at[score[at] >= edge]
        found = Found(section[at], np.full(len(at), segment), rows[at], score[at])
        best = best.best(found, n)
    return best


def _array(index: Index, size: int, part: str) -> str:
    columns = index.parameters.columns
    return f"w{size}.share{columns.index(part)}" if part in columns else f"w{size}.{part}"


def _blocks(
    index: Index, scope: Scope
) -> Iterator[tuple[int, list[tuple[int, int]], NDArray[np.int64]]]:
    """Segment, row runs and the section number of each row, at most a block at a time."""
    order = {name: i for i, name in enumerate(index.rows)}
    for segment in range(len(index.segments)):
        here = [n for n in scope.sections if index.rows[n].segment == segment]
        here.sort(key=lambda name: index.rows[name].start[scope.size])
        runs: list[tuple[int, int]] = []
        owners: list[tuple[int, int]] = []
        held = 0
        for name in here:
            at = index.rows[name]
            low, stop = at.start[scope.size], at.stop[scope.size]
            while low < stop:
                high = min(stop, low + BLOCK_WINDOWS - held)
                if runs and runs[-1][1] == low:
                    runs[-1] = (runs[-1][0], high)
                else:
                    runs.append((low, high))
                owners.append((order[name], high - low))
                held += high - low
                low = high
                if held == BLOCK_WINDOWS:
                    yield segment, runs, _owner(owners)
                    runs, owners, held = [], [], 0
        if runs:
            yield segment, runs, _owner(owners)


def _owner(owners: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    numbers, lengths = np.array(owners, np.int64).T
    return np.repeat(numbers, lengths)


def _allowed(
    index: Index,
    scope: Scope,
    segment: int,
    runs: Sequence[tuple[int, int]],
    section: NDArray[np.int64],
) -> NDArray[np.bool_]:
    keep = np.ones(len(section), bool)
    rows = np.concatenate([np.arange(*run) for run in runs])
    for name, banned in scope.banned.items():
        at = index.rows[name]
        if at.segment == segment and len(banned):
            keep &= ~np.isin(rows, banned + at.start[scope.size])
    for column, least in scope.having.items():
        shares = index.segments[segment].read(f"w{scope.size}.share{column}", runs)
        for value, share in least:
            keep &= shares[:, value] >= share
    return keep


def spread_out(
    index: Index, found: Found, size: int, k: int, max_overlap: float
) -> tuple[Found, NDArray[np.int64]]:
    """Keep the k best windows that overlap by at most a share of a window, best first.

    Returns
    -------
    Found
        At most k.
    ndarray (k, 2)
        Their columns and rows in the grids of their sections.
    """
    grid = read_rows(index, found, f"w{size}.grid")
    chosen: list[int] = []
    for at in range(len(found)):
        same = [c for c in chosen if found.section[c] == found.section[at]]
        if apart(grid[at : at + 1], grid[same], max_overlap)[0]:
            chosen.append(at)
        if len(chosen) == k:
            break
    kept = np.array(chosen, np.int64)
    return found.take(kept), grid[kept]


def read_rows(index: Index, found: Found, name: str) -> NDArray[np.int64]:
    """Rows of an array of windows, (m, width), in the order of `found`."""
    width = index.segments[0].read(name, [(0, 0)]).shape[1]
    out = np.zeros((len(found), width), np.int64)
    for number, segment in enumerate(index.segments):
        mine = np.flatnonzero(found.segment == number)
        if len(mine):
            rows, back = np.unique(found.row[mine], return_inverse=True)
            values = segment.read(name, [(int(r), int(r) + 1) for r in rows])
            out[mine] = values[back]
    return out
