"""An atlas as PyTorch Geometric sees it: a feature store, a graph store and a sampler.

``NodeLoader((features, graph), node_sampler=sampler, input_nodes=...)`` then gives batches in
PyG's own convention, from disk. Nodes are numbered over all sections by a `NodeSpace`. Edges run
from neighbor to cell. PyG's own `NeighborLoader` wants the whole `edge_index` in memory and is not
what these are for.
"""

# The library is untyped.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...atlas.errors import InvalidArgument
from ...atlas.memory import parse_bytes, refuse_above
from .kernels import sampling_key
from .neighbor_sampler import EdgeRows, NeighborSampler, edge_rows
from .node_features import NodeFeatures
from .node_space import NodeSpace
from .pyg import (
    BaseSampler,
    Data,
    EdgeAttr,
    EdgeLayout,
    FeatureStore,
    GraphStore,
    NodeSamplerInput,
    SamplerOutput,
    TensorAttr,
)

__all__ = ["AtlasFeatureStore", "AtlasGraphStore", "AtlasSampler"]

MATERIALIZE_ROWS = 65_536


class AtlasFeatureStore(FeatureStore):  # type: ignore[misc]  # untyped library
    """Features of cells for PyG; read only, one unnamed kind of node.

    Parameters
    ----------
    space : NodeSpace
    tensors : mapping of str to NodeFeatures
        Usually {"x": ...}; each becomes an attribute of the batch. `section`, the number of each
        cell's section (int64), is always there.

    Raises
    ------
    InvalidArgument
        A tensor named `section`.
    """

    def __init__(self, space: NodeSpace, tensors: Mapping[str, NodeFeatures]) -> None:
        super().__init__()
        if "section" in tensors:
            raise InvalidArgument("tensors are wanted, but got one called 'section', which is ours")
        self.space, self.tensors = space, dict(tensors)

    def get_all_tensor_attrs(self) -> list[TensorAttr]:
        """Return what there is."""
        return [TensorAttr(None, name) for name in (*self.tensors, "section")]

    def _get_tensor(self, attr: TensorAttr) -> Tensor | None:
        if attr.attr_name == "section":
            section, _ = self.space.locate(self._nodes(attr.index))
            return torch.from_numpy(section)
        found = self.tensors.get(attr.attr_name)
        return None if found is None else torch.from_numpy(found.take(self._nodes(attr.index)))

    def _get_tensor_size(self, attr: TensorAttr) -> tuple[int, ...] | None:
        if attr.attr_name == "section":
            return (self.space.n_nodes,)
        found = self.tensors.get(attr.attr_name)
        return None if found is None else (self.space.n_nodes, found.width)

    def _put_tensor(self, tensor: Tensor, attr: TensorAttr) -> bool:
        raise _read_only("features")

    def _remove_tensor(self, attr: TensorAttr) -> bool:
        raise _read_only("features")

    def _nodes(self, index: Any) -> NDArray[np.int64]:
        """Return node numbers of any index that PyG allows."""
        if index is None:
            index = slice(None)
        if isinstance(index, slice):
            return np.arange(self.space.n_nodes, dtype=np.int64)[index]
        if isinstance(index, Tensor):
            index = index.cpu().numpy()
        nodes = np.atleast_1d(np.asarray(index))
        return np.flatnonzero(nodes) if nodes.dtype == np.bool_ else nodes.astype(np.int64)


class AtlasGraphStore(GraphStore):  # type: ignore[misc]  # untyped library
    """Edges of the graphs of some sections for PyG; read only, one unnamed kind of edge.

    Samplers here never ask for the whole of it. Whoever does gets it, by columns (CSC: the
    neighbors of each cell; PyG converts to its other layouts), as long as it fits the limit.

    Parameters
    ----------
    space : NodeSpace
    graphs : sequence of EdgeRows
        One per section, in its order.
    memory_limit : str or int, optional
        Above which the whole `edge_index` is refused.
    """

    def __init__(
        self,
        space: NodeSpace,
        graphs: Sequence[EdgeRows],
        *,
        memory_limit: str | int | None = None,
    ) -> None:
        super().__init__()
        sizes = tuple(graph.n_obs for graph in graphs)
        if sizes != space.sizes:
            raise InvalidArgument(
                f"graphs of {space.sizes} cells are wanted, one per section, but got {sizes}"
            )
        self.space, self.graphs, self.limit = space, tuple(graphs), parse_bytes(memory_limit)

    def get_all_edge_attrs(self) -> list[EdgeAttr]:
        """Return what there is: edges by columns."""
        return [EdgeAttr(None, EdgeLayout.CSC, size=(self.space.n_nodes, self.space.n_nodes))]

    def _get_edge_index(self, edge_attr: EdgeAttr) -> tuple[Tensor, Tensor] | None:
        if edge_attr.edge_type is not None or edge_attr.layout == EdgeLayout.CSR:
            return None
        source, pointers = self._whole()
        if edge_attr.layout == EdgeLayout.COO:
            target = np.repeat(np.arange(self.space.n_nodes, dtype=np.int64), np.diff(pointers))
            return torch.from_numpy(source), torch.from_numpy(target)
        return torch.from_numpy(source), torch.from_numpy(pointers)

    def _put_edge_index(self, edge_index: Any, edge_attr: EdgeAttr) -> bool:
        raise _read_only("edges")

    def _remove_edge_index(self, edge_attr: EdgeAttr) -> bool:
        raise _read_only("edges")

    def _whole(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Read neighbors and pointers of all cells."""
        known = sum(int(getattr(graph, "nnz", 0)) for graph in self.graphs)
        self._allow(known)
        sources, counts = [np.zeros(0, np.int64)], [np.zeros(1, np.int64)]
        n_edges = 0
        for graph, offset in zip(self.graphs, self.space.offsets, strict=False):
            cuts = [*range(0, graph.n_obs, MATERIALIZE_ROWS), graph.n_obs]
            for start, stop in pairwise(cuts):
                rows = edge_rows(graph, [(start, stop)])
                n_edges += len(rows.columns)
                self._allow(n_edges)  # of a lazy graph nobody knew
                sources.append(rows.columns.astype(np.int64) + offset)
                counts.append(np.diff(rows.indptr))
        return np.concatenate(sources), np.cumsum(np.concatenate(counts))

    def _allow(self, n_edges: int) -> None:
        # neighbors twice while they are put together, and the cells of the edges
        refuse_above(
            self.limit,
            24 * n_edges + 16 * self.space.n_nodes,
            f"the whole edge_index of {self.space.n_nodes:,} cells",
            "sample from it with NodeLoader and AtlasSampler, choose fewer sections, or raise "
            "`memory_limit`",
        )


class AtlasSampler(BaseSampler):  # type: ignore[misc]  # untyped library
    """Neighbor sampling for `NodeLoader`; edges carry their lengths if `attach_lengths` is given.

    Parameters
    ----------
    sampler : NeighborSampler

    Notes
    -----
    PyG hands over seeds, not the number of their batch: draws are keyed by the seeds and their
    order. The same batch gives the same sample in any worker, and in any epoch that has it again;
    `node_loader` keys them by epoch and batch. Every loading worker holds a cache of its own.
    """

    def __init__(self, sampler: NeighborSampler) -> None:
        super().__init__()
        self.sampler = sampler
        self._last: tuple[Tensor, Tensor] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return AtlasSampler, (self.sampler,)

    def sample_from_nodes(self, index: NodeSamplerInput, **kwargs: Any) -> SamplerOutput:
        """Sample around seeds.

        Parameters
        ----------
        index : NodeSamplerInput
            Nodes, and what the loader calls them.
        **kwargs
            None is known.

        Returns
        -------
        SamplerOutput
            As PyG's own sampler; `edge` identifies edges as `Sample.e_id` does.

        Raises
        ------
        InvalidArgument
            Times of seeds, a kind of node, or an unknown option.
        """
        if index.time is not None or index.input_type is not None or kwargs:
            raise InvalidArgument(
                "seeds of the one kind of cell, without times, are wanted, but got "
                f"time={index.time is not None}, input_type={index.input_type!r}, {sorted(kwargs)}"
            )
        seeds = index.node.numpy()
        batch = int(sampling_key(seeds.astype(np.uint64)))
        sample = self.sampler.sample(seeds, batch)
        edge = torch.from_numpy(sample.e_id)
        self._last = (edge, torch.from_numpy(sample.length))
        return SamplerOutput(
            node=torch.from_numpy(sample.n_id),
            row=torch.from_numpy(sample.source),
            col=torch.from_numpy(sample.target),
            edge=edge,
            num_sampled_nodes=list(sample.nodes_per_hop),
            num_sampled_edges=list(sample.edges_per_hop),
            metadata=(index.input_id, index.time),
        )

    def sample_from_edges(self, index: Any, neg_sampling: Any = None) -> SamplerOutput:
        """Refuse: links are not seeds here.

        Raises
        ------
        InvalidArgument
            Always.
        """
        raise InvalidArgument(
            "cells are wanted as seeds, but got edges; an atlas is sampled by NodeLoader, and "
            "neighbors are known, not predicted: for a loss over links, take the cells at both "
            "ends as seeds"
        )

    def attach_lengths(self, data: Data) -> Data:
        """Give a batch the lengths of its edges; for `transform=` of a loader.

        PyG's loaders drop features of edges that come from a store.

        Parameters
        ----------
        data : Data
            With `e_id`.

        Returns
        -------
        Data
            The same, with `edge_attr` (e, 1) float32, in the graph's unit.
        """
        last = self._last
        if last is not None and last[0] is data.e_id:
            length = last[1]
        else:  # sampled elsewhere: read them again
            length = torch.from_numpy(self.sampler.lengths(data.e_id.cpu().numpy()))
        data.edge_attr = length[:, None]
        return data


def _read_only(what: str) -> InvalidArgument:
    return InvalidArgument(
        f"{what} of an atlas are only read, but got a call that changes them; write derived data "
        "with `tisseract.atlas.derived`"
    )
