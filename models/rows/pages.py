"""Rows of many sections in bounded memory: pages of rows, read once, dropped oldest first.

A page is some consecutive rows of one section. Missing pages are read by runs, neighboring pages
together; what is held never exceeds the budget, and rows that do not fit at once come in groups.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...atlas.memory import refuse_above
from ..sampling.node_space import NodeSpace
from .file import gaps_closed

__all__ = ["PAGE_ROWS", "DensePages", "Place", "RaggedPages", "RaggedRows", "Runs"]

PAGE_ROWS = 2048  # about an inner chunk of a stored graph: smaller pages would decode chunks twice
FETCH_PAGES = 64  # pages whose rows are held twice while they are read

type Runs = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class RaggedRows:
    """Rows of different lengths, as they are read.

    Attributes
    ----------
    indptr : ndarray (m + 1,) integer
    columns : ndarray (e,) integer
    values : ndarray (e,) floating
    """

    indptr: NDArray[np.integer]
    columns: NDArray[np.integer]
    values: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Place:
    """Where some nodes lie: page and row in it, and the first node of their section."""

    page: NDArray[np.int64]
    row: NDArray[np.int64]
    offset: NDArray[np.int64]

    def take(self, chosen: NDArray[np.int64]) -> "Place":
        """Return the places of some of the nodes."""
        return Place(self.page[chosen], self.row[chosen], self.offset[chosen])


class _Pages:
    """Which pages are held; what they hold is the business of those who inherit."""

    def __init__(self, space: NodeSpace, page_rows: int) -> None:
        self.space, self.page_rows = space, page_rows
        counts = [-(-size // page_rows) for size in space.sizes]
        self._base = np.cumsum([0, *counts], dtype=np.int64)
        self._slot = np.full(int(self._base[-1]), -1, dtype=np.int64)
        self._held: deque[int] = deque()
        self.rows_read = 0

    def place(self, nodes: NDArray[np.int64]) -> Place:
        """Find where nodes lie."""
        section, row = self.space.locate(nodes)
        page = self._base[section] + row // self.page_rows
        return Place(page, row % self.page_rows, np.asarray(self.space.offsets)[section])

    def resident(self, place: Place) -> Iterator[tuple[NDArray[np.int64] | None, Place]]:
        """Yield nodes by groups whose pages are held now: (their numbers, their places).

        One group of all of them, with None for the numbers, wherever they fit together.
        """
        # a flag a page is cheaper than sorting
        wanted = np.zeros(self._slot.size, dtype=np.bool_)
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

    def slots(self, place: Place) -> NDArray[np.int64]:
        """Return where the pages of nodes are held."""
        return self._slot[place.page]

    def _hold(self, pages: NDArray[np.int64]) -> bool:
        """Read the missing ones of some pages; whether all of them are held now."""
        for _ in range(2):  # reading may push out pages that were held: once more for those
            missing = pages[self._slot[pages] < 0]
            if not len(missing):
                return True
            if not self._may_fit(len(pages)):
                return False
            for at in range(0, len(missing), FETCH_PAGES):
                self._fetch(missing[at : at + FETCH_PAGES])
        return bool((self._slot[pages] >= 0).all())

    def _fetch(self, pages: NDArray[np.int64]) -> None:
        owner = np.searchsorted(self._base, pages, side="right") - 1
        for section in np.unique(owner).tolist():
            inside = pages[owner == section]
            size, first = self.space.sizes[section], int(self._base[section])
            spans = [
                (start * self.page_rows, min(stop * self.page_rows, size))
                for start, stop in gaps_closed(inside - first, 0)
            ]
            self.rows_read += sum(stop - start for start, stop in spans)
            self._read(section, spans, inside)

    def _cuts(self, spans: Runs) -> list[int]:
        """Borders of the pages within the rows of some spans put together."""
        sizes = [
            min(self.page_rows, stop - at)
            for start, stop in spans
            for at in range(start, stop, self.page_rows)
        ]
        return [0, *np.cumsum(sizes).tolist()]

    def _may_fit(self, n_pages: int) -> bool:
        raise NotImplementedError

    def _read(self, section: int, spans: Runs, pages: NDArray[np.int64]) -> None:
        raise NotImplementedError


class RaggedPages(_Pages):
    """Pages of rows of different lengths: edges of cells, or their counts.

    Parameters
    ----------
    space : NodeSpace
    read : callable
        `read(section number, runs) -> RaggedRows`.
    limit : int
        Bytes to hold; what a read needs on top is that of 64 pages, twice.
    page_rows : int

    Notes
    -----
    Elements lie in one ring, a page in one piece, so that compiled loops see plain arrays.
    """

    def __init__(
        self,
        space: NodeSpace,
        read: Callable[[int, Runs], RaggedRows],
        limit: int,
        page_rows: int = PAGE_ROWS,
    ) -> None:
        super().__init__(space, page_rows)
        self._source, self._limit = read, limit
        n_slots = max(1, min(self._slot.size, max(16, limit // (16 * page_rows))))
        self.pointers = np.zeros((n_slots, page_rows + 1), dtype=np.int32)
        self.start = np.zeros(n_slots, dtype=np.int64)
        self._room = np.ones(n_slots, dtype=np.int64)
        self._free = list(range(n_slots))
        capacity = max(1, (limit - min(limit // 2, self.pointers.nbytes)) // 8)
        # untouched parts of the ring take no memory
        self.columns = np.empty(capacity, dtype=np.int32)
        self.values = np.empty(capacity, dtype=np.float32)
        self._head = 0
        self._entries = self._put_pages = 0

    def _may_fit(self, n_pages: int) -> bool:
        # as many entries a page as in those read so far
        expected = n_pages * self._entries // max(self._put_pages, 1)
        return n_pages <= len(self.start) and expected <= self.columns.size

    def _read(self, section: int, spans: Runs, pages: NDArray[np.int64]) -> None:
        rows = self._source(section, spans)
        for page, (low, high) in zip(pages.tolist(), pairwise(self._cuts(spans)), strict=True):
            self._put(page, rows, low, high)

    def _put(self, page: int, rows: RaggedRows, low: int, high: int) -> None:
        first, last = int(rows.indptr[low]), int(rows.indptr[high])
        length = last - first
        slot, at = self._place_for(max(length, 1))
        self.pointers[slot, : high - low + 1] = rows.indptr[low : high + 1] - first
        self.columns[at : at + length] = rows.columns[first:last]
        self.values[at : at + length] = rows.values[first:last]
        self.start[slot], self._room[slot] = at, max(length, 1)
        self._slot[page] = slot
        self._held.append(page)
        self._entries, self._put_pages = self._entries + length, self._put_pages + 1

    def _place_for(self, length: int) -> tuple[int, int]:
        """Make room for a page; pages lie in the ring in the order in which they are dropped."""
        refuse_above(
            self.columns.size * 8,
            length * 8,
            f"one page of {self.page_rows} rows with {length:,} entries",
            "raise `cache_bytes`, or choose a graph of fewer neighbors",
        )
        if self._head + length > self.columns.size:
            while self._held and self.start[self._slot[self._held[0]]] >= self._head:
                self._drop()
            self._head = 0
        while self._held:
            slot = self._slot[self._held[0]]
            start, stop = int(self.start[slot]), int(self.start[slot] + self._room[slot])
            if self._free and (stop <= self._head or start >= self._head + length):
                break
            self._drop()
        at, self._head = self._head, self._head + length
        return self._free.pop(), at

    def _drop(self) -> None:
        page = self._held.popleft()
        self._free.append(int(self._slot[page]))
        self._slot[page] = -1


class DensePages(_Pages):
    """Pages of rows of one width: scores and embeddings.

    Parameters
    ----------
    space : NodeSpace
    read : callable
        `read(section number, runs) -> ndarray (m, width) float32`.
    width : int
    limit : int
        Bytes to hold; at least one page is held.
    page_rows : int
    """

    def __init__(
        self,
        space: NodeSpace,
        read: Callable[[int, Runs], NDArray[np.float32]],
        width: int,
        limit: int,
        page_rows: int = PAGE_ROWS,
    ) -> None:
        super().__init__(space, page_rows)
        self._source = read
        n_slots = max(1, min(self._slot.size, limit // (page_rows * width * 4)))
        self.values = np.empty((n_slots, page_rows, width), dtype=np.float32)
        self._free = list(range(n_slots))

    def _may_fit(self, n_pages: int) -> bool:
        return n_pages <= len(self.values)

    def _read(self, section: int, spans: Runs, pages: NDArray[np.int64]) -> None:
        rows = self._source(section, spans)
        for page, (low, high) in zip(pages.tolist(), pairwise(self._cuts(spans)), strict=True):
            if not self._free:
                dropped = self._held.popleft()
                self._free.append(int(self._slot[dropped]))
                self._slot[dropped] = -1
            slot = self._free.pop()
            self.values[slot, : high - low] = rows[low:high]
            self._slot[page] = slot
            self._held.append(page)
