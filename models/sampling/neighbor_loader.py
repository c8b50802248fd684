"""The loader of sampled neighborhoods: batches by their number, made by threads or by processes."""

# The library is untyped.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from .loader_memory import LoaderMemory
from .neighbor_sampler import NeighborSampler
from .node_features import NodeFeatures
from .prefetch import prefetched, ready_ahead
from .pyg import Data
from .pyg_stores import AtlasFeatureStore, AtlasGraphStore, AtlasSampler
from .seed_plan import SeedBatches, SeedPlan

__all__ = ["AtlasLoader", "BatchMaker"]


@dataclass(frozen=True, slots=True)
class BatchMaker:
    """Makes any batch of any epoch; the same one wherever, whenever and beside whatever else.

    Attributes
    ----------
    plan : SeedPlan
    sampler : NeighborSampler
    features : NodeFeatures or None
    transform : callable or None
        Applied to every batch.
    """

    plan: SeedPlan
    sampler: NeighborSampler
    features: NodeFeatures | None = None
    transform: Callable[[Data], Data] | None = None

    def __call__(self, which: tuple[int, int]) -> Data:
        """Make a batch.

        Parameters
        ----------
        which : (int, int)
            Epoch and number of the batch.

        Returns
        -------
        Data
            As `node_loader` says.

        Raises
        ------
        InvalidArgument
            No such batch.
        Exception
            Whatever reading or `transform` raise, with a note that names the batch.
        """
        epoch, number = which
        try:
            data = self._make(epoch, number)
            return data if self.transform is None else self.transform(data)
        except Exception as error:
            error.add_note(f"in batch {number} of epoch {epoch}")
            raise

    def _make(self, epoch: int, number: int) -> Data:
        seeds = self.plan.batch(epoch, number)
        sample = self.sampler.sample(seeds, number, epoch)
        section, _ = self.plan.space.locate(sample.n_id)
        n_id = torch.from_numpy(sample.n_id)
        data = Data(
            edge_index=torch.from_numpy(np.stack([sample.source, sample.target])),
            edge_attr=torch.from_numpy(sample.length)[:, None],
            n_id=n_id,
            e_id=torch.from_numpy(sample.e_id),
            input_id=n_id[: len(seeds)].clone(),
            section=torch.from_numpy(section),
            num_nodes=len(n_id),
        )
        if self.features is not None:
            data.x = torch.from_numpy(self.features.take(sample.n_id))
        data.batch_size = len(seeds)
        data.num_sampled_nodes = list(sample.nodes_per_hop)
        data.num_sampled_edges = list(sample.edges_per_hop)
        return data


class AtlasLoader(DataLoader):  # type: ignore[type-arg]  # batches of any kind
    """Loader of sampled neighborhoods; each `iter()` is the next epoch.

    Parameters
    ----------
    maker : BatchMaker
    memory : LoaderMemory
        What it will take.
    threads : int
        Background threads that make batches while none of PyTorch's workers do; 0 makes them when
        they are asked for.
    **options
        Of PyTorch's `DataLoader`.

    Attributes
    ----------
    plan : SeedPlan
    memory : LoaderMemory
    data : (AtlasFeatureStore, AtlasGraphStore)
    node_sampler : AtlasSampler
        With `data`, what PyG's own `NodeLoader` takes.
    """

    def __init__(
        self, maker: BatchMaker, memory: LoaderMemory, *, threads: int = 2, **options: Any
    ) -> None:
        self.maker, self.memory, self.threads = maker, memory, threads
        self.plan, space = maker.plan, maker.plan.space
        tensors = {} if maker.features is None else {"x": maker.features}
        graph = AtlasGraphStore(space, maker.sampler.graphs)
        self.data = (AtlasFeatureStore(space, tensors), graph)
        self.node_sampler = AtlasSampler(maker.sampler)
        collate: Any = maker  # of a number, not of a list: this data set hands out whole batches
        super().__init__(
            _Numbers(self.plan),
            batch_sampler=_BatchNumbers(self.plan),
            collate_fn=collate,
            **options,
        )

    def seek(self, epoch: int, batch: int = 0) -> None:
        """Begin the next `iter()` at a batch of an epoch, to resume or to repeat.

        Raises
        ------
        InvalidArgument
            No such batch.
        """
        self.batch_sampler.seek(epoch, batch)  # type: ignore[union-attr]  # ours

    def load(self, epoch: int, batch: int) -> Data:
        """Make one batch of any epoch, the same as iterating gives."""
        return self.maker((epoch, batch))

    def __str__(self) -> str:
        return f"{self.plan}; {self.memory}"

    def _get_iterator(self) -> Any:
        if self.num_workers > 0 or self.threads < 1:
            return super()._get_iterator()
        return self._made_by_threads()

    def _made_by_threads(self) -> Iterator[Data]:
        make: Callable[[tuple[int, int]], Data] = self.maker
        if self.pin_memory and torch.cuda.is_available():
            make = self._make_pinned
        numbers: Any = self.batch_sampler
        yield from prefetched(make, numbers, threads=self.threads, depth=ready_ahead(self.threads))

    def _make_pinned(self, which: tuple[int, int]) -> Data:
        return self.maker(which).pin_memory()


class _BatchNumbers(SeedBatches):
    """Batches by epoch and number: whoever makes a batch finds its seeds from the plan."""

    def __iter__(self) -> Iterator[Any]:
        return self.numbers()


class _Numbers(Dataset[Any]):
    """A data set whose items are the numbers of batches themselves."""

    def __init__(self, plan: SeedPlan) -> None:
        self._length = plan.n_seeds

    def __len__(self) -> int:
        return self._length

    def __getitems__(self, which: tuple[int, int]) -> tuple[int, int]:
        return which
