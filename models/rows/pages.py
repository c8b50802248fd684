"""Rows of many sections in bounded memory: pages of rows, read once, dropped when least needed.

A page is some consecutive rows of one section. Missing pages are read by runs, neighboring pages
together; what is held never exceeds the budget, and rows that do not fit at once come in groups.
Dropped are the pages needed last of all, where somebody knows the future; the longest unused
otherwise.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import BudgetExceeded
from ...atlas.memory import format_bytes
from .page_grid import PageGrid, Place
from .page_kernels import SEGMENT, Held, store_page

__all__ = [
    "CACHE_BYTES",
    "NEVER",
    "PAGE_ROWS",
    "DensePages",
    "NextUse",
    "RaggedPages",
    "RaggedRows",
    "Runs",
    "held_bytes",
    "pages_together",
]

PAGE_ROWS = 256  # what is kept or dropped; a block of seeds, so that both end together
CACHE_BYTES = 2**28
FETCH_ROWS = 8192  # rows that are held twice while they are read
_BESIDE = 4  # pages do not follow the chunks of a matrix: the more, the fewer chunks read twice
_AHEAD = 32  # read together where everything will be held
_DROPPED = 32  # one part in so many is dropped at once: choosing costs a look at every page

NEVER = 2**62
"""The time of what will not be wanted again."""

type Runs = Sequence[tuple[int, int]]


class NextUse(Protocol):
    """Knows when pages will be wanted again."""

    def next_use(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return times from now on, (m,) int64, of pages of nodes `first..last` (inclusive)."""
        ...


@dataclass(frozen=True, slots=True)
class RaggedRows:
    """Rows of different lengths, as they are read.

    Attributes
    ----------
    indptr : ndarray (m + 1,) integer
    columns : ndarray (e,) integer
    values : ndarray (e,) number
    """

    indptr: NDArray[np.integer]
    columns: NDArray[np.integer]
    values: NDArray[Any]


def held_bytes(n_rows: int, n_entries: int, entry_bytes: int) -> int:
    """Return about what it takes to hold so many rows: pointers, entries, half-empty segments."""
    return 5 * n_rows + n_entries * entry_bytes + n_rows * SEGMENT // PAGE_ROWS * entry_bytes


def pages_together(limit: int, everything: int, future: NextUse | None) -> int:
    """Return how many pages to read together, of which all take so many bytes."""
    if everything <= limit:
        return _AHEAD
    return 1 if future is None else _BESIDE


class _Pages:
    """Which pages are held; what they hold is the business of those who inherit."""

    def __init__(self, grid: PageGrid, fetch_pages: int, future: NextUse | None) -> None:
        self.grid = grid
        self.slot = np.full(len(grid), -1, dtype=np.int64)
        self.rows_read = 0
        self._future = future
        self._free: list[int] = []
        self._used = np.zeros(len(grid), dtype=np.int64)
        self._clock = 1
        # pages that are read together: so many from where storage begins
        begins = grid.run % max(1, fetch_pages) == 0
        self._unit = np.cumsum(begins) - 1
        self._unit_start = np.append(np.flatnonzero(begins), len(grid))

    def resident(self, place: Place) -> Iterator[tuple[NDArray[np.int64] | None, Place]]:
        """Yield nodes by groups whose pages are held now: (their numbers, their places).

        One group of all of them, with None for the numbers, wherever they fit together.
        """
        # a flag a page is cheaper than sorting
        wanted = np.zeros(len(self.grid), dtype=np.bool_)
        wanted[place.page] = True
        pages = np.flatnonzero(wanted)
        if self._hold(pages):
            yield None, place
            return
        groups = [pages]
        while groups:
            group = groups.pop()
            if len(group) > 1 and not self._hold(group):
                groups += [group[len(group) // 2 :], group[: len(group) // 2]]
                continue
            self._hold(group)
            chosen = np.flatnonzero((place.page >= group[0]) & (place.page <= group[-1]))
            yield chosen, place.take(chosen)

    def _hold(self, pages: NDArray[np.int64]) -> bool:
        """Read the missing ones of some pages; whether all of them are held now."""
        self._clock += 1
        self._used[pages] = self._clock  # and is not dropped before the next call
        missing = pages[self.slot[pages] < 0]
        if not len(missing):
            return True
        if not self._may_fit(len(pages)):
            return False
        wanted = self._with_neighbors(missing)
        step = max(1, FETCH_ROWS // self.grid.page_rows)
        for at in range(0, len(wanted), step):
            self._fetch(wanted[at : at + step])
        return bool((self.slot[pages] >= 0).all())

    def _with_neighbors(self, missing: NDArray[np.int64]) -> NDArray[np.int64]:
        """Add what lies in the same chunks and will be wanted before what is held."""
        wanted = np.zeros(len(self.grid), dtype=np.bool_)
        for unit in np.unique(self._unit[missing]).tolist():
            wanted[self._unit_start[unit] : self._unit_start[unit + 1]] = True
        wanted &= self.slot < 0
        wanted[missing] = False
        beside = np.flatnonzero(wanted)
        if self._future is not None and len(beside):
            beside = beside[self._next_use(beside) < self._latest(len(missing))]
        found = np.sort(np.concatenate([missing, beside]))
        # among equals the read-ahead goes first
        self._used[found] = np.maximum(self._used[found], self._clock - 1)
        return found

    def _latest(self, n_missing: int) -> int:
        """Return when pages are wanted that would be dropped soon after some are read."""
        if self._has_room(2 * n_missing):
            return NEVER
        held = np.flatnonzero((self.slot >= 0) & (self._used < self._clock))
        if len(held) <= 2 * n_missing:
            return -1
        return int(np.partition(self._next_use(held), -2 * n_missing)[-2 * n_missing])

    def _fetch(self, pages: NDArray[np.int64]) -> None:
        border, space = self.grid.border, self.grid.space
        owner = np.searchsorted(np.asarray(space.offsets), border[pages], side="right") - 1
        for section in np.unique(owner).tolist():
            inside = pages[owner == section]
            start = border[inside] - space.offsets[section]
            stop = border[inside + 1] - space.offsets[section]
            gap = np.flatnonzero(start[1:] != stop[:-1])
            spans = list(
                zip(
                    start[np.append(0, gap + 1)].tolist(),
                    stop[np.append(gap, len(inside) - 1)].tolist(),
                    strict=True,
                )
            )
            self.rows_read += int((stop - start).sum())
            self._read(section, spans, inside, np.append(0, np.cumsum(stop - start)))

    def _next_use(self, pages: NDArray[np.int64]) -> NDArray[np.int64]:
        assert self._future is not None
        border = self.grid.border
        return self._future.next_use(border[pages], border[pages + 1] - 1)

    def _drop_some(self) -> bool:
        """Drop the pages that are wanted last; whether there was one."""
        found = np.flatnonzero((self.slot >= 0) & (self._used < self._clock))
        if not len(found):
            return False
        n = max(1, len(found) // _DROPPED)
        keys = [self._used[found]]
        if self._future is not None:
            keys.append(-self._next_use(found))
        for page in found[np.lexsort(keys)[:n]].tolist():
            self._drop(page, int(self.slot[page]))
            self._free.append(int(self.slot[page]))
            self.slot[page] = -1
        return True

    def _drop(self, page: int, slot: int) -> None:
        """Give back what a page holds."""

    def _may_fit(self, n_pages: int) -> bool:
        raise NotImplementedError

    def _has_room(self, n_pages: int) -> bool:
        """Whether so many pages can be read without dropping any."""
        raise NotImplementedError

    def _read(
        self, section: int, spans: Runs, pages: NDArray[np.int64], cuts: NDArray[np.int64]
    ) -> None:
        """Read pages, `cuts` being their borders among the rows of the spans."""
        raise NotImplementedError


class RaggedPages(_Pages):
    """Pages of rows of different lengths: edges of cells, or their counts.

    Parameters
    ----------
    grid : PageGrid
    read : callable
        `read(section number, runs) -> RaggedRows`.
    limit : int
        Bytes to hold; what a read needs on top is that of 8,192 rows, twice.
    columns, values : dtype
        Of what is held.
    fetch_pages : int
        Pages that are read together, where they will be wanted.
    future : NextUse, optional
        Without, the page unused for longest is dropped first.
    what : {"edges", "counts"}
        What the entries are, as a message says.

    Notes
    -----
    Entries lie in segments of 256, any of which may belong to any page, so that compiled loops
    see plain arrays and pages can be dropped in any order.
    """

    def __init__(
        self,
        grid: PageGrid,
        read: Callable[[int, Runs], RaggedRows],
        limit: int,
        *,
        columns: Any = np.int32,
        values: Any = np.float32,
        fetch_pages: int = 1,
        future: NextUse | None = None,
        what: str = "edges",
    ) -> None:
        super().__init__(grid, fetch_pages, future)
        self._source, self._limit, self._what = read, limit, what
        row_bytes = 4 * (grid.page_rows + 1)
        n_slots = max(1, min(len(grid), max(16, limit // (4 * row_bytes))))
        self._free = list(range(n_slots))
        self._entry_bytes = np.dtype(columns).itemsize + np.dtype(values).itemsize
        capacity = max(0, limit - n_slots * row_bytes) // (SEGMENT * self._entry_bytes)
        # untouched parts of the arrays take no memory
        self._pointers = np.zeros((n_slots, grid.page_rows + 1), dtype=np.int32)
        self._segment = np.zeros((n_slots, 1), dtype=np.int32)
        self._columns = np.empty(capacity * SEGMENT, dtype=columns)
        self._values = np.empty(capacity * SEGMENT, dtype=values)
        self._spare = list(range(capacity))
        self._capacity = capacity
        self._n_segments = np.zeros(n_slots, dtype=np.int64)
        self._taken = self._n_put = 0

    @property
    def held(self) -> Held:
        """What is in memory now."""
        return Held(self.slot, self._pointers, self._segment, self._columns, self._values)

    def _may_fit(self, n_pages: int) -> bool:
        # as many segments a page as those read so far took
        expected = n_pages * self._taken // max(self._n_put, 1)
        return n_pages <= len(self._n_segments) and expected <= self._capacity

    def _has_room(self, n_pages: int) -> bool:
        expected = n_pages * self._taken // max(self._n_put, 1)
        return n_pages <= len(self._free) and expected <= len(self._spare)

    def _read(
        self, section: int, spans: Runs, pages: NDArray[np.int64], cuts: NDArray[np.int64]
    ) -> None:
        rows = self._source(section, spans)
        for page, (low, high) in zip(pages.tolist(), pairwise(cuts.tolist()), strict=True):
            self._put(page, rows, low, high)

    def _too_large(self, entries: int, need: int) -> BudgetExceeded:
        fewer = "a graph of fewer neighbors" if self._what == "edges" else "fewer genes"
        held = format_bytes(self._capacity * SEGMENT * self._entry_bytes)
        return BudgetExceeded(
            f"room for a page of {self.grid.page_rows} rows with {entries:,} entries of "
            f"{self._what} is wanted, {format_bytes(need)}, but got {held}, the share of "
            f"{self._what} in the cache; raise `cache_bytes` or `memory_limit`, or choose {fewer}"
        )

    def _put(self, page: int, rows: RaggedRows, low: int, high: int) -> None:
        first, last = int(rows.indptr[low]), int(rows.indptr[high])
        n = -(-(last - first) // SEGMENT)
        if n > self._capacity:
            raise self._too_large(last - first, n * SEGMENT * self._entry_bytes)
        while not self._free or len(self._spare) < n:
            if not self._drop_some():
                return  # whoever wanted it asks again, for less
        slot = self._free.pop()
        if n > self._segment.shape[1]:
            wider = np.zeros((len(self._n_segments), n + n // 4), dtype=np.int32)
            wider[:, : self._segment.shape[1]] = self._segment
            self._segment = wider
        if n:
            self._segment[slot, :n] = self._spare[-n:]
            del self._spare[-n:]
        self._n_segments[slot] = n
        self._pointers[slot, : high - low + 1] = rows.indptr[low : high + 1] - first
        store_page(
            rows.columns[first:last],
            rows.values[first:last],
            self._segment[slot, :n],
            self._columns,
            self._values,
        )
        self.slot[page] = slot
        self._taken, self._n_put = self._taken + n, self._n_put + 1

    def _drop(self, page: int, slot: int) -> None:
        self._spare.extend(self._segment[slot, : self._n_segments[slot]].tolist())


class DensePages(_Pages):
    """Pages of rows of one width: scores and embeddings.

    Parameters
    ----------
    grid : PageGrid
    read : callable
        `read(section number, runs) -> ndarray (m, width) float32`.
    width : int
    limit : int
        Bytes to hold; at least one page is held.
    fetch_pages, future
        As for `RaggedPages`.
    """

    def __init__(
        self,
        grid: PageGrid,
        read: Callable[[int, Runs], NDArray[np.float32]],
        width: int,
        limit: int,
        *,
        fetch_pages: int = 1,
        future: NextUse | None = None,
    ) -> None:
        super().__init__(grid, fetch_pages, future)
        self._source = read
        n_slots = max(1, min(len(grid), limit // (grid.page_rows * width * 4)))
        self.values = np.empty((n_slots, grid.page_rows, width), dtype=np.float32)
        self._free = list(range(n_slots))

    def _may_fit(self, n_pages: int) -> bool:
        return n_pages <= len(self.values)

    def _has_room(self, n_pages: int) -> bool:
        return n_pages <= len(self._free)

    def _read(
        self, section: int, spans: Runs, pages: NDArray[np.int64], cuts: NDArray[np.int64]
    ) -> None:
        rows = self._source(section, spans)
        for page, (low, high) in zip(pages.tolist(), pairwise(cuts.tolist()), strict=True):
            while not self._free:
                if not self._drop_some():
                    return
            slot = self._free.pop()
            self.values[slot, : high - low] = rows[low:high]
            self.slot[page] = slot
