"""Pages of the edges of many sections, read once and shared by threads; oldest dropped first."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .neighbor_sampler import EdgeRows
from .node_space import NodeSpace
from .tile_kernels import copy_edges

__all__ = ["EdgePages", "NodeEdges"]


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
    """

    def __init__(
        self, space: NodeSpace, graphs: Sequence[EdgeRows], limit: int, page_rows: int = 8192
    ) -> None:
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
        order = np.argsort(number, kind="stable")
        cuts = np.flatnonzero(np.diff(number[order])) + 1
        parts = [part for part in np.split(order, cuts) if len(part)]
        inner = row % self.page_rows
        degree = np.zeros(len(nodes), dtype=np.int64)
        pages = [self._page(int(number[part[0]])) for part in parts]
        for page, part in zip(pages, parts, strict=True):
            degree[part] = page.indptr[inner[part] + 1] - page.indptr[inner[part]]
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(degree)])
        node = np.empty(int(indptr[-1]), dtype=np.int64)
        length = np.empty(int(indptr[-1]), dtype=np.float32)
        for page, part in zip(pages, parts, strict=True):
            offset = self.space.offsets[int(section[part[0]])]
            arrays = (page.indptr, page.columns, page.lengths)
            copy_edges(inner[part], *arrays, offset, indptr[part], node, length)
        return NodeEdges(indptr, node, length)

    def _page(self, number: int) -> _Page:
        with self._lock:
            known = self._pages.get(number)
            mine: Future[_Page] = Future() if known is None else known
            self._pages[number] = mine
            self._pages.move_to_end(number)
        if known is not None:
            return known.result()
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
        return page

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
