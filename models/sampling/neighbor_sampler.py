"""Neighbor sampling from graphs on disk: fan-outs per hop, in the convention of `NeighborLoader`.

What is drawn for a cell is a function of (seed, epoch, batch, hop, cell) alone: no order of work,
number of workers or state of a cache changes it.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..rows.file import gaps_closed
from ..rows.page_grid import PageGrid
from ..rows.pages import CACHE_BYTES, PAGE_ROWS, RaggedPages, RaggedRows, held_bytes
from .foresight import Foresight
from .kernels import choose_edges, enter_cells, number_cells, sampling_key
from .node_space import NodeSpace

__all__ = [
    "EDGE_SLOTS",
    "EdgeRows",
    "NeighborSampler",
    "Sample",
    "check_fanouts",
    "edge_rows",
    "read_lengths",
]

EDGE_SLOTS = 2**20
"""An edge is known as `node * EDGE_SLOTS + number within the node's row`."""

ENTRY_BYTES = 8  # of an edge in memory: neighbor and distance
_CHUNK_ROWS = 2048  # read together of a graph that has no chunks: it is made on the way
_AHEAD_ROWS = 8192  # read together where all of the graph will be held


class EdgeRows(Protocol):
    """A stored or lazy graph of one section, by rows."""

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        ...

    def edges(self, runs: Any, /) -> Any:
        """Return the edges of some row runs: indptr, indices, distances."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """Cells sampled around some seeds; edges run from neighbor to cell.

    Attributes
    ----------
    n_id : ndarray (n,) int64
        Nodes: the seeds as given, then those first met at hop 1, 2, ...
    source, target : ndarray (e,) int64
        Neighbor and cell of each edge, as numbers into `n_id`; sorted by the hop of the cell.
    length : ndarray (e,) float32
        Distance, in the graph's unit.
    e_id : ndarray (e,) int64
        Identity of the edge: `cell * EDGE_SLOTS + number within its row`.
    nodes_per_hop, edges_per_hop : tuple of int
        Cells first met at hop 0, 1, ...; edges of hop 1, 2, ...
    """

    n_id: NDArray[np.int64]
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    length: NDArray[np.float32]
    e_id: NDArray[np.int64]
    nodes_per_hop: tuple[int, ...]
    edges_per_hop: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Edges chosen of some cells, cell by cell."""

    indptr: NDArray[np.int64]
    neighbor: NDArray[np.int64]
    length: NDArray[np.float32]
    place: NDArray[np.int64]


class NeighborSampler:
    """Samples neighborhoods of any cells of some sections.

    Parameters
    ----------
    space : NodeSpace
    graphs : sequence of EdgeRows
        One per section, in its order; stored, or lazy ones made on the way.
    fanouts : sequence of int
        Neighbors wanted per cell at each hop; -1 for all.
    replace : bool
        Whether a neighbor may be drawn twice. Without, a cell of fewer neighbors gives all.
    seed : int
    cache_bytes : int
        Edges to keep in memory.
    page_rows : int
        Rows that are kept or dropped together.
    foresight : Foresight, optional
        Knows which rows the batches to come will want; changes what is read again, not what is
        drawn.

    Raises
    ------
    InvalidArgument
        Graphs that do not fit the sections, or a fan-out that means nothing.

    Notes
    -----
    Thread-safe, picklable (without what it holds). Memory: `cache_bytes`, one read of at most
    8,192 rows, and 60 bytes an edge of the sample.
    """

    def __init__(
        self,
        space: NodeSpace,
        graphs: Sequence[EdgeRows],
        fanouts: Sequence[int],
        *,
        replace: bool = False,
        seed: int = 0,
        cache_bytes: int = CACHE_BYTES,
        page_rows: int = PAGE_ROWS,
        foresight: Foresight | None = None,
    ) -> None:
        sizes = tuple(graph.n_obs for graph in graphs)
        if sizes != space.sizes:
            raise InvalidArgument(
                f"graphs of {space.sizes} cells are wanted, one per section, but got {sizes}"
            )
        check_fanouts(fanouts)
        self.space, self.graphs, self.fanouts = space, tuple(graphs), tuple(fanouts)
        self.replace, self.seed = replace, int(seed)
        self.cache_bytes, self.page_rows = cache_bytes, page_rows
        self.foresight = foresight
        grid = PageGrid.of(space, page_rows, _storage_cuts(space, self.graphs))
        self._pages = RaggedPages(
            grid,
            self._read,
            cache_bytes,
            fetch_pages=max(1, self._fetch_rows() // page_rows),
            future=foresight,
        )
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.space, self.graphs, self.fanouts)
        settings = (self.replace, self.seed, self.cache_bytes, self.page_rows, self.foresight)
        return _remake, (arguments, settings)

    @property
    def rows_read(self) -> int:
        """Rows of graphs read so far, those read again included."""
        return self._pages.rows_read

    def sample(self, seeds: NDArray[np.integer], batch: int, epoch: int = 0) -> Sample:
        """Sample around some cells.

        Parameters
        ----------
        seeds : ndarray (m,) integer
            Nodes; one may come twice.
        batch, epoch : int
            Number of the batch and of the epoch; with the sampler's seed they decide every draw.

        Returns
        -------
        Sample

        Raises
        ------
        InvalidArgument
            A seed that is no node.
        BudgetExceeded
            A single page of edges is larger than the cache.
        """
        wanted = np.ascontiguousarray(seeds, dtype=np.int64)
        if self.foresight is not None:
            self.foresight.at(epoch, batch)
        numbering = _Numbering(wanted)
        nodes, edges = [len(wanted)], []
        source, target, length, e_id = [], [], [], []
        begin = 0
        for hop, fanout in enumerate(self.fanouts):
            end = numbering.size
            frontier = numbering.known[begin:end].copy()
            words = [number % 2**64 for number in (self.seed, epoch, batch, hop)]
            key = np.uint64(sampling_key(np.array(words, dtype=np.uint64)))
            chosen = self._choose(frontier, fanout, key)
            count = np.diff(chosen.indptr)
            source.append(numbering.add(chosen.neighbor))
            target.append(np.repeat(np.arange(begin, end, dtype=np.int64), count))
            length.append(chosen.length)
            e_id.append(np.repeat(frontier * EDGE_SLOTS, count) + chosen.place)
            edges.append(len(chosen.neighbor))
            nodes.append(numbering.size - end)
            begin = end
        return Sample(
            numbering.known[: numbering.size].copy(),
            np.concatenate(source),
            np.concatenate(target),
            np.concatenate(length),
            np.concatenate(e_id),
            tuple(nodes),
            tuple(edges),
        )

    def lengths(self, e_id: NDArray[np.integer]) -> NDArray[np.float32]:
        """Read the distances of edges known by their ids, (e,) float32."""
        return read_lengths(self.space, self.graphs, np.asarray(e_id, dtype=np.int64))

    def _fetch_rows(self) -> int:
        """Return how many rows to read together."""
        n_edges = sum(int(getattr(graph, "nnz", 2**62)) for graph in self.graphs)
        if held_bytes(self.space.n_nodes, n_edges, ENTRY_BYTES) <= self.cache_bytes:
            return _AHEAD_ROWS
        if self.foresight is None:
            return 1
        return max(int(getattr(graph, "chunk_rows", _CHUNK_ROWS)) for graph in self.graphs)

    def _read(self, section: int, runs: Any) -> RaggedRows:
        rows = edge_rows(self.graphs[section], runs)
        if self.foresight is not None:
            self.foresight.learn(section, runs, rows.indptr, rows.columns)
        return rows

    def _choose(self, cells: NDArray[np.int64], fanout: int, key: np.uint64) -> _Chosen:
        pages = self._pages
        offset = pages.grid.offset
        parts: list[tuple[NDArray[np.int64] | None, _Chosen]] = []
        with self._lock:
            for which, place in pages.resident(pages.grid.place(cells)):
                own = cells if which is None else cells[which]
                arrays = choose_edges(
                    own, place.page, place.row, offset, pages.held, fanout, self.replace, key
                )
                parts.append((which, _Chosen(*arrays)))
        if len(parts) == 1 and parts[0][0] is None:
            return parts[0][1]
        return _joined(parts, len(cells))


def check_fanouts(fanouts: object) -> None:
    """Refuse what is not a fan-out for each of one hop or more.

    Raises
    ------
    InvalidArgument
        A single number, none, or one that means nothing.
    """
    found = list(fanouts) if isinstance(fanouts, Sequence | np.ndarray) else []
    if not found or not all(
        isinstance(fanout, int | np.integer) and -1 <= fanout < EDGE_SLOTS for fanout in found
    ):
        raise InvalidArgument(
            f"a fan-out of -1 (all) or more per hop is wanted, but got {fanouts!r}; "
            "give one number for each hop, such as [10, 5]"
        )


def _remake(arguments: tuple[Any, ...], settings: tuple[Any, ...]) -> NeighborSampler:
    replace, seed, cache_bytes, page_rows, foresight = settings
    return NeighborSampler(
        *arguments,
        replace=replace,
        seed=seed,
        cache_bytes=cache_bytes,
        page_rows=page_rows,
        foresight=foresight,
    )


def _storage_cuts(space: NodeSpace, graphs: Sequence[EdgeRows]) -> tuple[int, ...]:
    """Return the nodes where blocks of graphs begin, of graphs that have blocks."""
    return tuple(
        offset + row
        for offset, graph in zip(space.offsets, graphs, strict=False)
        for row in getattr(graph, "row_ptr", ())
    )


def _joined(parts: Sequence[tuple[NDArray[np.int64] | None, _Chosen]], n_cells: int) -> _Chosen:
    """Put edges that were chosen in groups of cells into the order of the cells."""
    count = np.zeros(n_cells + 1, dtype=np.int64)
    for which, part in parts:
        assert which is not None
        count[which + 1] = np.diff(part.indptr)
    indptr = np.cumsum(count)
    total = int(indptr[-1])
    out = _Chosen(
        indptr, np.empty(total, np.int64), np.empty(total, np.float32), np.empty(total, np.int64)
    )
    for which, part in parts:
        assert which is not None
        own = np.diff(part.indptr)
        to = np.repeat(indptr[which] - part.indptr[:-1], own) + np.arange(len(part.neighbor))
        out.neighbor[to], out.length[to], out.place[to] = part.neighbor, part.length, part.place
    return out


class _Numbering:
    """Nodes of a sample by number, and back."""

    def __init__(self, seeds: NDArray[np.int64]) -> None:
        self.known = seeds
        self.size = len(seeds)
        self._reserve(len(seeds))

    def add(self, met: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of nodes, giving new ones to those not known yet."""
        self._reserve(self.size + len(met))
        self.size, number = number_cells(self._table, self.known, self.size, met)
        return number

    def _reserve(self, capacity: int) -> None:
        """Make room for so many nodes."""
        known = np.empty(capacity, dtype=np.int64)
        known[: self.size] = self.known[: self.size]
        table = np.full(2 ** max(1, 2 * capacity - 1).bit_length(), -1, dtype=np.int32)
        enter_cells(table, known, self.size)
        self.known, self._table = known, table


def edge_rows(graph: EdgeRows, runs: Any) -> RaggedRows:
    """Read rows of a graph."""
    edges = graph.edges(runs)
    return RaggedRows(edges.indptr, edges.indices, edges.distances)


def read_lengths(
    space: NodeSpace, graphs: Sequence[EdgeRows], e_id: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Read the distances of edges known by their ids.

    Parameters
    ----------
    space : NodeSpace
    graphs : sequence of EdgeRows
    e_id : ndarray (e,) int64
        As in `Sample`.

    Returns
    -------
    ndarray (e,) float32

    Raises
    ------
    InvalidArgument
        An id that no edge has.
    """
    cells, back = np.unique(e_id // EDGE_SLOTS, return_inverse=True)
    place = e_id % EDGE_SLOTS
    section, row = space.locate(cells)
    first = np.empty(len(cells), dtype=np.int64)
    degree = np.empty(len(cells), dtype=np.int64)
    values: list[NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)]
    held = 0
    for number in np.unique(section).tolist():
        inside = np.flatnonzero(section == number)
        rows = edge_rows(graphs[number], gaps_closed(row[inside], 0))
        first[inside], degree[inside] = rows.indptr[:-1] + held, np.diff(rows.indptr)
        values.append(rows.values.astype(np.float32))
        held += len(rows.values)
    if (place >= degree[back]).any():
        raise InvalidArgument("ids of edges of these graphs are wanted, but got others")
    found: NDArray[np.float32] = np.concatenate(values)[first[back] + place]
    return found
