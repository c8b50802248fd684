"""Batches of whole blocks of cells with their exact surroundings, straight from the store."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from ...atlas.errors import InvalidArgument
from ...atlas.memory import parse_bytes
from ..genes.plan import TREATMENTS, locate_genes
from .batch_plan import Partition, check_start
from .block_plan import BlockPlan, plan_blocks
from .count_rows import CountRows, entry_types
from .densify import AS_STORED, LIBRARY_SIZE, LOG1P
from .edge_pages import EdgePages
from .edge_rows import open_edge_rows
from .epochs import Epochs
from .neighbor_sampler import EdgeRows
from .node_space import NodeSpace
from .prefetch import prefetched, ready_ahead
from .pyg import Data  # pyright: ignore[reportAttributeAccessIssue]  # untyped library
from .tile_buffers import BufferPool
from .tile_memory import TileMemory, plan_memory
from .tile_reader import TileReader

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

__all__ = ["TileLoader", "tile_loader"]

MEMORY_LIMIT = 2**29
_TREATMENT = {
    TREATMENTS["counts"]: LIBRARY_SIZE,
    TREATMENTS["normalized"]: LOG1P,
    TREATMENTS["log1p"]: AS_STORED,
}
MOST_THREADS = 4


class TileLoader(IterableDataset[Data]):
    """Batches of a plan, read on background threads; each `iter()` is the next epoch.

    Inside a `torch.utils.data.DataLoader(loader, batch_size=None, num_workers=n)` each worker
    reads every n-th batch; batches and epochs come out in the same order as without workers.

    Attributes
    ----------
    plan : BlockPlan
        Which cells make which batch.
    memory : TileMemory
        How much each part may hold.
    """

    def __init__(
        self,
        plan: BlockPlan,
        memory: TileMemory,
        sections: "Sequence[Section]",
        graphs: Sequence[EdgeRows],
        genes: "Sequence[NDArray[np.int64]] | None" = None,
        *,
        hops: int = 1,
        threads: int = 2,
        read_rows: int = 4096,
        lengths: bool = True,
        dtype: "np.dtype[Any] | None" = None,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        super().__init__()
        self.plan, self.memory = plan, memory
        self.hops, self.threads, self.read_rows = hops, threads, read_rows
        self.lengths, self.transform = lengths, transform
        self.dtype = np.dtype(np.float32) if dtype is None else dtype
        self._sections, self._graphs, self._genes = tuple(sections), tuple(graphs), genes
        if threads < 0 or read_rows < 1:
            raise InvalidArgument(
                f"wanted threads >= 0 and read_rows >= 1, but got threads={threads}, "
                f"read_rows={read_rows}"
            )
        self._epochs = Epochs()
        self._made: tuple[int, TileReader] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # memory and threads stay behind
        return {**self.__dict__, "_made": None}

    def __len__(self) -> int:
        """Batches of the next `iter()`."""
        return self.plan.n_batches - self._epochs.batch

    def __str__(self) -> str:
        return f"{self.plan}; {self.hops} hops; memory {self.memory}"

    @property
    def reader(self) -> TileReader:
        """What reads the batches, with its caches; a forked process gets its own."""
        if self._made is None or self._made[0] != os.getpid():
            # as many idle bytes as one batch: those who made it want the next one
            buffers = BufferPool(self.memory.batch)
            counts = CountRows(
                self._sections,
                self._genes,
                pointer_bytes=self.memory.pointers,
                entry_bytes=self.memory.entries,
                read_rows=self.read_rows,
                threads=max(1, self.threads),
                buffers=buffers,
                dtype=self.dtype,
            )
            edges = EdgePages(
                self.plan.space,
                self._graphs,
                self.memory.edges,
                self.memory.page_rows,
                buffers,
                lengths=self.lengths,
            )
            treatments = [_TREATMENT[TREATMENTS[section.values]] for section in self._sections]
            reader = TileReader(
                self.plan.space, counts, edges, self.hops, np.array(treatments, dtype=np.uint8)
            )
            self._made = (os.getpid(), reader)
        return self._made[1]

    def seek(self, epoch: int, batch: int = 0) -> None:
        """Begin the next `iter()` at a batch of an epoch, to resume or to repeat.

        Raises
        ------
        InvalidArgument
            No such batch.
        """
        check_start(epoch, batch, self.plan.n_batches)
        self._epochs.seek(epoch, batch)

    def load(self, epoch: int, number: int) -> Data:
        """Read one batch of any epoch; the same wherever and whenever it is asked for."""
        return self._load(self.reader, epoch, number)

    def _load(self, reader: TileReader, epoch: int, number: int) -> Data:
        data = reader.load(self.plan.runs(epoch, number))
        return data if self.transform is None else self.transform(data)

    def __iter__(self) -> Iterator[Data]:
        """Yield the batches of an epoch."""
        epoch, start = self._epochs.begin()
        worker = get_worker_info()
        if worker is not None:
            start, step = start + worker.id, worker.num_workers
        else:
            step = 1
        # made here once: threads that begin together would each make one, and read all twice
        reader = self.reader
        yield from prefetched(
            lambda number: self._load(reader, epoch, number),
            range(start, self.plan.n_batches, step),
            threads=self.threads,
            depth=ready_ahead(self.threads),
        )


def tile_loader(
    store: "AtlasStore",
    sections: Sequence[str] | None = None,
    *,
    graph: str | int = "spatial",
    genes: Sequence[str] | None = None,
    hops: int = 1,
    block_rows: int = 256,
    lanes: int = 32,
    stretch_blocks: int = 128,
    read_rows: int = 4096,
    lengths: bool = True,
    dtype: Literal["float32", "stored"] = "float32",
    seed: int = 0,
    partition: Partition | None = None,
    shuffle: bool = True,
    memory_limit: str | int | None = None,
    threads: int | None = None,
    transform: Callable[[Data], Data] | None = None,
) -> TileLoader:
    """Make a loader of blocks of cells with their exact surroundings, over sections of an atlas.

    Parameters
    ----------
    store : AtlasStore
        An opened atlas.
    sections : sequence of str, optional
        All without.
    graph : str or int
        Key of a committed graph; a number builds that many nearest neighbors on the way.
    genes : sequence of str, optional
        Genes, by id or symbol; without, all that the sections share.
    hops : int
        Edges walked from the seeds, as many as the network has layers: no neighbor is left out.
        0 keeps to the seeds and the edges among them.
    block_rows, lanes, stretch_blocks : int
        A batch is `lanes` blocks of `block_rows` neighboring cells; see `plan_blocks`.
    read_rows : int
        Rows read at once where a lane goes, about.
    lengths : bool
        Whether lengths of edges are read and handed out.
    dtype : "float32" or "stored"
        Number type of counts. "stored" hands bytes out where all sections store such, five bytes an
        entry instead of eight to write, pin and copy to a device; `densify` takes either.
    seed : int
        Decides the order of blocks.
    partition : Partition, optional
        Share of this process among several.
    shuffle : bool
    memory_limit : str or int, optional
        Caches and batches on their way together, in each worker; 512 MiB without.
    threads : int, optional
        Background threads that read; 0 reads in the caller. As many as cores, at most 4, without.
    transform : callable, optional
        Applied to every batch by the thread that made it, such as `densify`.

    Returns
    -------
    TileLoader
        Batches are `torch_geometric.data.Data` with x (n, genes; sparse CSR of `dtype`: stored
        values), depth (n; sum of x over all genes of the section), edge_index (from neighbor to
        cell, sorted by the hop of the cell), edge_attr (e, 1; lengths, or None), n_id (n; seeds
        first, then hop by hop), input_id (the seeds), section (n), treatment (n; see `densify`),
        batch_size, num_sampled_nodes, num_sampled_edges (empty with `hops=0`: nothing can be
        trimmed).
        Each `iter()` is the next epoch; `loader.seek(epoch, batch)` resumes anywhere.

    Raises
    ------
    SectionNotFound, DerivedNotFound, StaleDerived
    InvalidArgument
        Options that mean nothing, or genes that sections do not share.
    BudgetExceeded
        Batches of this size do not fit the memory limit.

    Notes
    -----
    Memory: `memory_limit`, and 100 bytes a block. The same batch comes out whatever the number of
    threads and workers.

    An epoch, where the atlas has a graph "spatial"::

        loader = tile_loader(atlas, hops=2, transform=densify)
        for data in loader:
            out = network(data.x, data.edge_index)[: data.batch_size]
    """
    space = NodeSpace.of(store, sections)
    opened = [store.section(name) for name in space.sections]
    graphs = open_edge_rows(store, space, graph)
    plan = plan_blocks(
        space,
        block_rows=block_rows,
        lanes=lanes,
        stretch_blocks=stretch_blocks,
        seed=seed,
        partition=partition,
        shuffle=shuffle,
    )
    workers = min(MOST_THREADS, os.cpu_count() or 1) if threads is None else threads
    limit = MEMORY_LIMIT if memory_limit is None else parse_bytes(memory_limit)
    edges = [getattr(one, "nnz", graph if isinstance(graph, int) else 0) for one in graphs]
    kind = _value_type(opened, dtype)
    memory = plan_memory(
        limit,
        blocks=plan.largest_batch // plan.block_rows,
        block_rows=plan.block_rows,
        hops=hops,
        degree=sum(edges) / space.n_nodes if isinstance(graph, str) else float(graph),
        entries=sum(section.entry.nnz for section in opened) / space.n_nodes,
        entry_bytes=max(sum(kind.itemsize for kind in entry_types(one)) for one in opened),
        in_flight=ready_ahead(workers) + 2,
        value_bytes=kind.itemsize,
    )
    return TileLoader(
        plan,
        memory,
        opened,
        graphs,
        _columns(opened, genes),
        hops=hops,
        threads=workers,
        read_rows=read_rows,
        lengths=lengths,
        dtype=kind,
        transform=transform,
    )


def _value_type(sections: "Sequence[Section]", dtype: str) -> "np.dtype[Any]":
    """Choose the number type of counts; torch computes with no other narrow whole numbers."""
    if dtype not in {"float32", "stored"}:
        raise InvalidArgument(f'wanted dtype="float32" or "stored", but got {dtype!r}')
    stored = {entry_types(section)[1] for section in sections}
    byte = np.dtype(np.uint8)
    return byte if dtype == "stored" and stored == {byte} else np.dtype(np.float32)


def _columns(
    sections: "Sequence[Section]", genes: Sequence[str] | None
) -> "list[NDArray[np.int64]] | None":
    """Matrix columns of the genes in every section; None for all of one panel."""
    if genes is None and len({section.entry.panel for section in sections}) == 1:
        return None
    from .node_features import plan_genes

    plan = plan_genes(sections, genes, n_top_genes=2**31)
    return [locate_genes(section, plan).column[plan.chosen] for section in sections]
