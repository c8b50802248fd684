"""Pages of the edges of many sections, read once and shared by threads; oldest dropped first."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .neighbor_sampler import EdgeRows
from .node_space import NodeSpace
from .tile_buffers import BufferPool
from .tile_kernels import copy_edges

__all__ = ["EdgePages", "NodeEdges"]

# below so many stretches, or with so many cells in each, they are worked through one by one
_MOST_STRETCHES, _STRETCH = 16, 64

_Part = slice | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NodeEdges:
    """Edges of some cells.

    Attributes
    ----------
    indptr : ndarray (m + 1,) int64
    node : ndarray (e,) int64
        Neighbors.
    length : ndarray (e,) float32
    """

    indptr: NDArray[np.int64]
    node: NDArray[np.int64]
    length: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Page:
    indptr: NDArray[np.int64]
    columns: NDArray[np.int32]
    lengths: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        return int(self.indptr.nbytes + self.columns.nbytes + self.lengths.nbytes)


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
    """

    def __init__(
        self,
        space: NodeSpace,
        graphs: Sequence[EdgeRows],
        limit: int,
        page_rows: int = 8192,
        buffers: BufferPool | None = None,
    ) -> None:
        self.buffers = BufferPool(0) if buffers is None else buffers
        self.space, self.graphs, self.page_rows = space, tuple(graphs), page_rows
        counts = [-(-size // page_rows) for size in space.sizes]
        self._base = np.cumsum([0, *counts], dtype=np.int64)
        self._limit, self._held = limit, 0
        self._pages: OrderedDict[int, Future[_Page]] = OrderedDict()
        self._lock = threading.Lock()
        self.rows_read = 0

    def edges(self, nodes: NDArray[np.int64]) -> NodeEdges:
        """Return the edges of some cells, in their order."""
        section, row = self.space.locate(nodes)
        number = self._base[section] + row // self.page_rows
        parts = _parts(number)
        firsts = [part.start if isinstance(part, slice) else int(part[0]) for part in parts]
        inner = row % self.page_rows
        indptr = np.zeros(len(nodes) + 1, dtype=np.int64)
        pages = self._pages_of([int(number[first]) for first in firsts])
        for page, part in zip(pages, parts, strict=True):
            indptr[1:][part] = page.indptr[inner[part] + 1] - page.indptr[inner[part]]
        np.cumsum(indptr, out=indptr)
        node = self.buffers.empty(int(indptr[-1]), np.int64)
        length = self.buffers.empty(int(indptr[-1]), np.float32)
        for page, part, first in zip(pages, parts, firsts, strict=True):
            offset = self.space.offsets[int(section[first])]
            arrays = (page.indptr, page.columns, page.lengths)
            copy_edges(inner[part], *arrays, offset, indptr[:-1][part], node, length)
        return NodeEdges(indptr, node, length)

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
        found = self.graphs[section].edges([(start, stop)])
        with self._lock:
            self.rows_read += stop - start
        return _Page(
            np.ascontiguousarray(found.indptr, dtype=np.int64),
            np.ascontiguousarray(found.indices, dtype=np.int32),
            np.ascontiguousarray(found.distances, dtype=np.float32),
        )


def _parts(number: NDArray[np.int64]) -> list[_Part]:
    """Which cells lie in the same page: stretches where they come in runs, as seeds do."""
    cuts = (np.flatnonzero(np.diff(number)) + 1).tolist()
    if len(cuts) < _MOST_STRETCHES or len(cuts) * _STRETCH < len(number):
        edges = [0, *cuts, len(number)]
        return [slice(a, b) for a, b in pairwise(edges) if a < b]
    order = np.argsort(number, kind="stable")
    cuts = (np.flatnonzero(np.diff(number[order])) + 1).tolist()
    return list(np.split(order, cuts))
