"""Pages of the edges of many sections, read once and shared by threads; oldest dropped first."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .neighbor_sampler import EdgeRows
from .node_space import NodeSpace
from .tile_buffers import BufferPool
from .tile_kernels import copy_edges

__all__ = ["EdgePages", "EdgePart"]

# below so many stretches, or with so many cells in each, they are worked through one by one
_MOST_STRETCHES, _STRETCH = 16, 64

_Cut = slice | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EdgePart:
    """Edges of some cells, where they lie: cell i has those of row `rows[i]` of a page.

    Attributes
    ----------
    rows : ndarray (m,) int64
    indptr : ndarray integer
    columns : ndarray integer
        Neighbors, less `offset`.
    lengths : ndarray float32
        Empty where nobody wants them.
    offset : int
        Node of column 0.
    n_edges : int
    """

    rows: NDArray[np.int64]
    indptr: NDArray[np.integer]
    columns: NDArray[np.integer]
    lengths: NDArray[np.float32]
    offset: int
    n_edges: int


@dataclass(frozen=True, slots=True)
class _Page:
    indptr: NDArray[np.int32]
    columns: NDArray[np.int32]
    lengths: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        return int(self.indptr.nbytes + self.columns.nbytes + self.lengths.nbytes)

    def part(self, rows: NDArray[np.int64], offset: int) -> EdgePart:
        """Return the edges of some rows."""
        n_edges = int((self.indptr[rows + 1] - self.indptr[rows]).sum())
        return EdgePart(rows, self.indptr, self.columns, self.lengths, offset, n_edges)


class EdgePages:
    """Edges of cells by node.

    Parameters
    ----------
    space : NodeSpace
    graphs : sequence of EdgeRows
        In the order of the space.
    limit : int
        Bytes to hold, apart from the pages that are in use.
    page_rows : int
        Rows read at once.
    buffers : BufferPool, optional
        Where the memory of edges comes from.
    lengths : bool
        Whether the lengths of edges are wanted.
    """

    def __init__(
        self,
        space: NodeSpace,
        graphs: Sequence[EdgeRows],
        limit: int,
        page_rows: int = 8192,
        buffers: BufferPool | None = None,
        *,
        lengths: bool = True,
    ) -> None:
        self.lengths = lengths
        self.buffers = BufferPool(0) if buffers is None else buffers
        self.space, self.graphs, self.page_rows = space, tuple(graphs), page_rows
        counts = [-(-size // page_rows) for size in space.sizes]
        self._base = np.cumsum([0, *counts], dtype=np.int64)
        self._limit, self._held = limit, 0
        self._pages: OrderedDict[int, Future[_Page]] = OrderedDict()
        self._lock = threading.Lock()
        self.rows_read = 0

    def parts(self, nodes: NDArray[np.int64]) -> list[EdgePart]:
        """Return the edges of some cells part by part, in their order.

        Cells that come in runs, as seeds do, are looked up in the pages themselves; of others the
        edges are copied first, into one part.
        """
        section, row = self.space.locate(nodes)
        number = self._base[section] + row // self.page_rows
        cuts = _parts(number)
        firsts = [cut.start if isinstance(cut, slice) else int(cut[0]) for cut in cuts]
        inner = row % self.page_rows
        pages = self._pages_of([int(number[first]) for first in firsts])
        parts = [
            page.part(inner[cut], self.space.offsets[int(section[first])])
            for page, cut, first in zip(pages, cuts, firsts, strict=True)
        ]
        if all(isinstance(cut, slice) for cut in cuts):
            return parts
        return [self._copied(parts, cuts, len(nodes))]

    def _copied(self, parts: list[EdgePart], cuts: list[_Cut], n_cells: int) -> EdgePart:
        """Put edges into the order of their cells."""
        indptr = np.zeros(n_cells + 1, dtype=np.int64)
        for part, cut in zip(parts, cuts, strict=True):
            indptr[1:][cut] = part.indptr[part.rows + 1] - part.indptr[part.rows]
        np.cumsum(indptr, out=indptr)
        total = int(indptr[-1])
        node = self.buffers.empty(total, np.int64)
        length = self.buffers.empty(total if self.lengths else 0, np.float32)
        for part, cut in zip(parts, cuts, strict=True):
            arrays = (part.indptr, part.columns, part.lengths)
            copy_edges(part.rows, *arrays, part.offset, indptr[:-1][cut], node, length)
        return EdgePart(np.arange(n_cells), indptr, node, length, 0, total)

    def _pages_of(self, numbers: list[int]) -> list[_Page]:
        """Read the pages that nobody reads yet, then wait for the others."""
        return [page.result() for page in [self._page(number) for number in numbers]]

    def _page(self, number: int) -> "Future[_Page]":
        with self._lock:
            known = self._pages.get(number)
            mine: Future[_Page] = Future() if known is None else known
            self._pages[number] = mine
            self._pages.move_to_end(number)
        if known is not None:
            return known
        try:
            page = self._read(number)
        except BaseException as error:
            with self._lock:
                del self._pages[number]
            mine.set_exception(error)
            raise
        mine.set_result(page)
        with self._lock:
            self._held += page.nbytes
            self._drop()
        return mine

    def _drop(self) -> None:
        for number in list(self._pages):
            if self._held <= self._limit:
                return
            page = self._pages[number]
            if page.done() and page.exception() is None:
                del self._pages[number]
                self._held -= page.result().nbytes

    def _read(self, number: int) -> _Page:
        section = int(np.searchsorted(self._base, number, side="right")) - 1
        start = (number - int(self._base[section])) * self.page_rows
        stop = min(start + self.page_rows, self.space.sizes[section])
        indptr, columns, lengths = self._rows(section, start, stop)
        with self._lock:
            self.rows_read += stop - start
        return _Page(
            np.ascontiguousarray(indptr, dtype=np.int32),
            np.ascontiguousarray(columns, dtype=np.int32),
            np.ascontiguousarray(lengths, dtype=np.float32),
        )

    def _rows(self, section: int, start: int, stop: int) -> tuple[NDArray[Any], ...]:
        graph: Any = self.graphs[section]
        if not self.lengths and hasattr(graph, "links"):
            return (*graph.links([(start, stop)]), np.empty(0, np.float32))
        found = graph.edges([(start, stop)])
        return found.indptr, found.indices, found.distances if self.lengths else found.distances[:0]


def _parts(number: NDArray[np.int64]) -> list[_Cut]:
    """Which cells lie in the same page: stretches where they come in runs, as seeds do."""
    cuts = (np.flatnonzero(np.diff(number)) + 1).tolist()
    if len(cuts) < _MOST_STRETCHES or len(cuts) * _STRETCH < len(number):
        edges = [0, *cuts, len(number)]
        return [slice(a, b) for a, b in pairwise(edges) if a < b]
    order = np.argsort(number, kind="stable")
    cuts = (np.flatnonzero(np.diff(number[order])) + 1).tolist()
    return list(np.split(order, cuts))
