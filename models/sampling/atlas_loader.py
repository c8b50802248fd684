"""One call from an atlas to PyG's `NodeLoader`."""

# The library is untyped.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...atlas.graph import knn, open_graph
from ...atlas.memory import parse_bytes
from .batch_plan import Partition
from .neighbor_sampler import EdgeRows, NeighborSampler
from .node_features import NodeFeatures, open_features
from .node_space import NodeSpace
from .pyg import Data, NodeLoader
from .pyg_stores import AtlasFeatureStore, AtlasGraphStore, AtlasSampler
from .seed_plan import SeedBatches, plan_seeds

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["node_loader"]

CACHE_LIMIT = 2**29


def node_loader(
    store: "AtlasStore",
    sections: Sequence[str] | None = None,
    *,
    graph: str | int = "spatial",
    features: str | NodeFeatures = "normalized",
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
    transform: Callable[[Data], Data] | None = None,
    **options: Any,
) -> NodeLoader:
    """Make a loader of sampled neighborhoods, read from disk, over sections of an atlas.

    Parameters
    ----------
    store : AtlasStore
        An opened atlas.
    sections : sequence of str, optional
        All without.
    graph : str or int
        Key of a committed graph; a number builds that many nearest neighbors on the way.
    features : str or NodeFeatures
        "normalized" or "raw" expression, "embedding/<key>", or anything that hands out rows.
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
        See `plan_seeds`.
    cache_bytes : str or int, optional
        Rows to keep in memory, half of it edges, half features; in every worker. 512 MiB without.
    transform : callable, optional
        Applied to every batch, which has `edge_attr` then.
    **options
        Of PyTorch's `DataLoader`: `num_workers`, `prefetch_factor`, `pin_memory`, ...

    Returns
    -------
    NodeLoader
        Batches have x, edge_index (from neighbor to cell), edge_attr (e, 1; lengths), n_id,
        input_id, section, batch_size, num_sampled_nodes, num_sampled_edges. Each `iter()` is the
        next epoch; `loader.batch_sampler.seek(epoch, batch)` resumes anywhere.

    Raises
    ------
    SectionNotFound, DerivedNotFound, StaleDerived
    InvalidArgument
        Options that mean nothing, or genes that sections do not share.

    Notes
    -----
    Memory: `cache_bytes` per worker, 8 bytes a cell, and the batches on their way. The same batch
    comes out whatever the number of workers.

    An epoch, where the atlas has a graph "spatial"::

        loader = node_loader(atlas, num_neighbors=[10, 5], num_workers=2)
        for data in loader:
            out = network(data.x, data.edge_index)[: data.batch_size]
    """
    import torch

    space = NodeSpace.of(store, sections)
    limit = parse_bytes(cache_bytes) if cache_bytes is not None else CACHE_LIMIT
    graphs = _open_graphs(store, space, graph)
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
        features = open_features(store, space, features, genes=genes, cache_bytes=limit // 2)
    drawn = NeighborSampler(
        space, graphs, num_neighbors, replace=replace, seed=seed, cache_bytes=limit // 2
    )
    sampler = AtlasSampler(drawn)
    return NodeLoader(
        (AtlasFeatureStore(space, {"x": features}), AtlasGraphStore(space, graphs)),
        node_sampler=sampler,
        input_nodes=torch.arange(space.n_nodes),
        transform=_Both(sampler, transform),
        batch_sampler=SeedBatches(plan),
        **options,
    )


class _Both:
    """The lengths of edges, then what the user wants; travels to workers."""

    def __init__(self, sampler: AtlasSampler, then: Callable[[Data], Data] | None) -> None:
        self.sampler, self.then = sampler, then

    def __call__(self, data: Data) -> Data:
        data = self.sampler.attach_lengths(data)
        return data if self.then is None else self.then(data)


def _open_graphs(store: "AtlasStore", space: NodeSpace, graph: str | int) -> list[EdgeRows]:
    if isinstance(graph, str):
        return [open_graph(store, graph, name) for name in space.sections]
    lazy = knn(store, list(space.sections), n_neighs=graph)
    return [lazy[name] for name in space.sections]
