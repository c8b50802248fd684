"""One call from an atlas to a loader of sampled neighborhoods."""

# The library is untyped.
# pyright: reportAttributeAccessIssue=false

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...atlas.errors import InvalidArgument
from ...atlas.memory import format_bytes, parse_bytes
from ..rows.pages import held_bytes
from .batch_plan import Partition
from .edge_rows import open_edge_rows
from .foresight import Foresight
from .loader_memory import LoaderMemory, Sizes, lanes_want, plan_loader
from .neighbor_loader import AtlasLoader, BatchMaker
from .neighbor_sampler import ENTRY_BYTES, EdgeRows, NeighborSampler, check_fanouts
from .node_features import GeneFeatures, NodeFeatures, open_features
from .node_space import NodeSpace
from .prefetch import ready_ahead
from .pyg import Data
from .seed_plan import SeedPlan, plan_seeds

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["node_loader"]

CACHE_LIMIT = 2**29
_FORESEEN_ROWS = 64  # blocks smaller than this come only from tiny or wholly shuffled atlases
_UNKNOWN_DEGREE = 8.0
FEWEST_LANES = 32  # blocks that every batch should mix


def node_loader(
    store: "AtlasStore",
    sections: Sequence[str] | None = None,
    *,
    graph: str | int = "spatial",
    features: str | NodeFeatures | None = "normalized",
    genes: Sequence[str] | None = None,
    num_neighbors: Sequence[int] = (10, 10),
    replace: bool = False,
    batch_size: int = 1024,
    seed: int = 0,
    partition: Partition | None = None,
    shuffle: str = "blocks",
    block_rows: int = 256,
    lanes: int = 64,
    cache_bytes: str | int | None = None,
    memory_limit: str | int | None = None,
    threads: int = 2,
    transform: Callable[[Data], Data] | None = None,
    **options: Any,
) -> AtlasLoader:
    """Make a loader of sampled neighborhoods, read from disk, over sections of an atlas.

    Parameters
    ----------
    store : AtlasStore
        An opened atlas.
    sections : sequence of str, optional
        All without.
    graph : str or int
        Key of a committed graph; a number builds that many nearest neighbors on the way.
    features : str, NodeFeatures or None
        "normalized" or "raw" expression, "components" (30 principal components, fitted here),
        "embedding/<key>", anything that hands out rows, or nothing.
    genes : sequence of str, optional
        Genes, by id or symbol; without, those shared by all sections, at most the 2,000 most
        variable.
    num_neighbors : sequence of int
        Neighbors per cell at each hop; -1 for all.
    replace : bool
        Whether a neighbor may be drawn twice.
    batch_size : int
    seed : int
        Decides the order of seeds and every draw.
    partition : Partition, optional
        Share of this process among several.
    shuffle : {"blocks", "cells", "none"}
        See `plan_seeds`.
    block_rows, lanes : int
        See `plan_seeds`. Fewer lanes mix less, and need less memory for the same reading.
    cache_bytes : str or int, optional
        Rows to keep in memory, of edges and features together; in every worker. 512 MiB without.
    memory_limit : str or int, optional
        For everything in one process, batches included; lowers `cache_bytes` where needed. Also
        what fitting "components" may take beforehand.
    threads : int
        Background threads that make batches; without effect where `num_workers` is given.
    transform : callable, optional
        Applied to every batch by whoever makes it.
    **options
        Of PyTorch's `DataLoader`: `num_workers`, `prefetch_factor`, `pin_memory`, ...

    Returns
    -------
    AtlasLoader
        Batches have x, edge_index (from neighbor to cell), edge_attr (e, 1; lengths), n_id, e_id,
        input_id, section, batch_size, num_sampled_nodes, num_sampled_edges. Each `iter()` is the
        next epoch; `loader.seek(epoch, batch)` resumes anywhere. `print(loader.memory)` tells what
        it will take.

    Raises
    ------
    SectionNotFound, DerivedNotFound, StaleDerived
    InvalidArgument
        Options that mean nothing, or genes that sections do not share.
    BudgetExceeded
        Batches of this size, or principal components of so many genes, do not fit `memory_limit`.
        A batch raises it, too, where the cache does not hold one page of 256 rows that it wants.

    Warns
    -----
    UserWarning
        The memory for edges and features is so little that an epoch will read more than about
        twice what is stored; says what would do.

    Notes
    -----
    What is drawn is decided by (seed, epoch, batch, hop, cell): the same batch comes out whatever
    the number of threads and workers, and whatever was read before.

    An epoch, where the atlas has a graph "spatial"::

        loader = node_loader(atlas, num_neighbors=[10, 5])
        for data in loader:
            out = network(data.x, data.edge_index)[: data.batch_size]
    """
    if threads < 0:
        raise InvalidArgument(f"wanted threads >= 0, but got threads={threads}")
    check_fanouts(num_neighbors)
    kept = CACHE_LIMIT if cache_bytes is None else parse_bytes(cache_bytes)
    limit = None if memory_limit is None else parse_bytes(memory_limit)
    space = NodeSpace.of(store, sections)
    graphs = open_edge_rows(store, space, graph)
    plan = plan_seeds(
        space,
        batch_size=batch_size,
        block_rows=block_rows,
        lanes=lanes,
        seed=seed,
        partition=partition,
        shuffle=shuffle,
    )
    if isinstance(features, str):
        features = open_features(
            store, space, features, genes=genes, cache_bytes=0, memory_limit=limit
        )
    memory = plan_loader(
        _sizes(space, graphs, graph, features),
        batch_size=batch_size,
        fanouts=num_neighbors,
        in_flight=_in_flight(threads, options),
        cache_bytes=kept,
        memory_limit=limit,
        lanes=plan.lanes if shuffle == "blocks" else 0,
        n_blocks=plan.n_blocks,
    )
    if memory.reads_again:
        warnings.warn(_told(memory, space.n_nodes, plan.lanes), stacklevel=2)
    sampler = _ready(plan, graphs, num_neighbors, replace, memory, features)
    maker = BatchMaker(plan, sampler, features, transform)
    return AtlasLoader(maker, memory, threads=threads, **options)


def _told(memory: LoaderMemory, n_nodes: int, lanes: int) -> str:
    """Say that an epoch will read much again, and what would do."""
    kept = memory.edges + memory.features
    little = lanes_want(memory.edges_full + memory.features_full, n_nodes, FEWEST_LANES)
    fewer = ""
    if lanes > FEWEST_LANES and little < memory.wanted:
        fewer = f", or take lanes={FEWEST_LANES}, which mix less and want {format_bytes(little)}"
    return (
        f"{format_bytes(memory.wanted)} of edges and features are wanted in memory for {lanes} "
        f"lanes, but got {format_bytes(kept)}: an epoch will read more than twice what is stored; "
        f"raise cache_bytes to that, and memory_limit by {format_bytes(memory.wanted - kept)} "
        f"where it is given{fewer}"
    )


def _ready(  # noqa: PLR0917 - all of them decided by the caller
    plan: SeedPlan,
    graphs: Sequence[EdgeRows],
    fanouts: Sequence[int],
    replace: bool,
    memory: LoaderMemory,
    features: NodeFeatures | None,
) -> NeighborSampler:
    """Make the sampler, and give features their memory."""
    foresight = Foresight(plan) if plan.block_rows >= _FORESEEN_ROWS else None
    hold = getattr(features, "hold", None)
    if hold is not None:
        hold(memory.features, foresight)
    return NeighborSampler(
        plan.space,
        graphs,
        fanouts,
        replace=replace,
        seed=plan.seed,
        cache_bytes=memory.edges,
        foresight=foresight,
    )


def _sizes(
    space: NodeSpace,
    graphs: Sequence[EdgeRows],
    graph: str | int,
    features: NodeFeatures | None,
) -> Sizes:
    """Find out what the memory of a loader hangs on."""
    n_edges = sum(int(getattr(one, "nnz", 0)) for one in graphs)
    degree = n_edges / space.n_nodes
    if not n_edges:  # a lazy graph
        degree = float(graph) if isinstance(graph, int) else _UNKNOWN_DEGREE
    width = 0 if features is None else features.width
    entries = float(width)
    if isinstance(features, GeneFeatures):
        entries = sum(section.entry.nnz for section in features.sections) / space.n_nodes
    return Sizes(
        space.n_nodes,
        degree,
        entries,
        width,
        held_bytes(space.n_nodes, int(degree * space.n_nodes), ENTRY_BYTES),
        int(getattr(features, "full_bytes", 0)),
    )


def _in_flight(threads: int, options: dict[str, Any]) -> int:
    """Return how many batches there are at once in a process, the user's own among them."""
    if options.get("num_workers", 0) > 0:
        return 2 + int(options.get("prefetch_factor") or 2)
    return 2 if threads < 1 else ready_ahead(threads) + 2
