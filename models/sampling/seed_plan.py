"""Which cells are the seeds of which batch: integers only, decided before anything is read.

Cells are dealt out in blocks of consecutive rows, because those lie near each other on disk and in
the tissue. Every batch mixes the blocks of many lanes: lane by lane the plan walks over stretches
of neighboring blocks, so that what one block needed of its surroundings serves the next one too;
one block of every lane makes a buffer, whose cells are shuffled. The plan holds no state: any
batch of any epoch can be asked for by its number, which is all that resuming needs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from .batch_plan import Partition, check_batch, check_start
from .lanes import blocks_of, dealt, stretches_shuffled
from .node_space import NodeSpace

__all__ = ["SeedBatches", "SeedPlan", "plan_seeds"]

# Sequences of seeds are padded with zeros: without a name of their own, the cells of the first
# buffer would be shuffled by the numbers that shuffled the blocks, which undoes it.
_BLOCKS, _CELLS = 1, 2
_WHOLE = Partition()


@dataclass(frozen=True, slots=True)
class SeedPlan:
    """Batches of seeds for any number of epochs; equal plans give equal batches anywhere.

    Attributes
    ----------
    space : NodeSpace
        The cells.
    batch_size : int
        Seeds a batch; the last one of an epoch may have fewer.
    block_rows : int
        Consecutive rows of a section that are dealt out together.
    lanes : int
        Blocks that are mixed: those of one buffer. 1 leaves only the order of blocks random.
    stretch_blocks : int
        Neighboring blocks that a lane walks through in a row; 1 shuffles single blocks.
    seed : int
    partition : Partition
        Each process gets equally many cells, its own; at most `world_size - 1` cells are left out
        of an epoch, other ones each time; in order, always the last.
    shuffled : bool
        Without, seeds come in the order of their numbers.
    """

    space: NodeSpace
    batch_size: int = 1024
    block_rows: int = 256
    lanes: int = 64
    stretch_blocks: int = 128
    seed: int = 0
    partition: Partition = _WHOLE
    shuffled: bool = True

    def __post_init__(self) -> None:
        numbers = (self.batch_size, self.block_rows, self.lanes, self.stretch_blocks)
        if min(numbers) < 1:
            raise InvalidArgument(
                "batch_size, block_rows, lanes and stretch_blocks of at least 1 are wanted, but "
                f"got {numbers}"
            )
        if self.n_seeds < 1:
            raise InvalidArgument(
                f"wanted at least one cell per process, but got {self.space.n_nodes} cells for "
                f"{self.partition.world_size}"
            )

    @property
    def n_seeds(self) -> int:
        """Cells of this process in an epoch."""
        return self.space.n_nodes // self.partition.world_size

    @property
    def n_blocks(self) -> int:
        """Blocks of all processes."""
        return sum(-(-size // self.block_rows) for size in self.space.sizes)

    @property
    def n_batches(self) -> int:
        """Batches of this process in an epoch; of every process as many."""
        return -(-self.n_seeds // self.batch_size)

    def batch(self, epoch: int, number: int) -> NDArray[np.int64]:
        """Return the seeds of one batch.

        Parameters
        ----------
        epoch, number : int
            Any epoch from 0; a batch of it in 0..n_batches - 1.

        Returns
        -------
        ndarray (<= batch_size,) int64
            Nodes.

        Raises
        ------
        InvalidArgument
            No such batch.
        """
        check_batch(epoch, number, self.n_batches)
        start = number * self.batch_size
        stop = min(start + self.batch_size, self.n_seeds)
        border = _schedule(self, epoch).border
        first = int(np.searchsorted(border, start, side="right")) - 1
        last = int(np.searchsorted(border, stop, side="left"))
        parts = [_buffer(self, epoch, buffer) for buffer in range(first, last)]
        offset = int(border[first])
        return np.concatenate(parts)[start - offset : stop - offset]

    def epoch(self, number: int) -> Iterator[NDArray[np.int64]]:
        """Yield the batches of an epoch."""
        for batch in range(self.n_batches):
            yield self.batch(number, batch)

    def step(self, number: int) -> NDArray[np.int64]:
        """Return the batch of a step, counted over epochs."""
        return self.batch(*divmod(number, self.n_batches))

    def blocks(self, nodes: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return which block each of some nodes belongs to, (m,) int64."""
        starts = blocks_of(self.space, self.block_rows)[:, 0]
        return np.asarray(np.searchsorted(starts, nodes, side="right") - 1, dtype=np.int64)

    def rounds(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return when each block of an epoch is dealt out.

        Returns
        -------
        node, number : ndarray (b,) int64
            A cell of each of this process's blocks; which buffer the block is in.
        """
        schedule = _schedule(self, epoch)
        number = np.repeat(np.arange(len(schedule.first) - 1), np.diff(schedule.first))
        return schedule.runs[:, 0], number.astype(np.int64)

    def round_of(self, epoch: int, batch: int) -> int:
        """Return the buffer that a batch begins in."""
        border = _schedule(self, epoch).border
        return int(np.searchsorted(border, batch * self.batch_size, side="right")) - 1

    def __str__(self) -> str:
        how = (
            f"shuffled, {self.lanes} blocks of {self.block_rows} rows at a time"
            if self.shuffled
            else "in order"
        )
        return (
            f"{self.n_seeds:,} seeds of {len(self.space.sections)} sections, {self.n_batches:,} "
            f"batches an epoch of {self.batch_size:,}, {how}"
        )


@dataclass(frozen=True, slots=True)
class _Schedule:
    """The runs of an epoch in the order of their buffers.

    Attributes
    ----------
    runs : ndarray (b, 2) int64
        Nodes `start:stop`.
    first : ndarray (buffers + 1,) int64
        Buffer i has `runs[first[i] : first[i + 1]]`.
    border : ndarray (buffers + 1,) int64
        Cells before each buffer.
    """

    runs: NDArray[np.int64]
    first: NDArray[np.int64]
    border: NDArray[np.int64]


@lru_cache(maxsize=4)
def _schedule(plan: SeedPlan, epoch: int) -> _Schedule:
    blocks = blocks_of(plan.space, plan.block_rows)
    if plan.shuffled:
        rng = np.random.default_rng([plan.seed % 2**64, epoch, _BLOCKS])
        blocks = stretches_shuffled(blocks, plan.stretch_blocks, rng)
    runs = _share(blocks, plan)
    order, first = dealt(len(runs), plan.lanes if plan.shuffled else 1)
    runs = runs[order]
    size = np.concatenate([[0], np.cumsum(np.diff(runs, axis=1)[:, 0])])
    return _Schedule(runs, first, size[first].astype(np.int64))


def _share(blocks: NDArray[np.int64], plan: SeedPlan) -> NDArray[np.int64]:
    """Cut this process's cells out of the blocks of all."""
    low = plan.partition.rank * plan.n_seeds
    high = low + plan.n_seeds
    end = np.cumsum(blocks[:, 1] - blocks[:, 0])
    begin = end - (blocks[:, 1] - blocks[:, 0])
    inside = (end > low) & (begin < high)
    runs: NDArray[np.int64] = blocks[inside]
    runs[0, 0] += low - begin[inside][0]
    runs[-1, 1] -= end[inside][-1] - high
    return runs


@lru_cache(maxsize=2)
def _buffer(plan: SeedPlan, epoch: int, number: int) -> NDArray[np.int64]:
    """Seeds of one buffer in their order; kept, because several batches come from it."""
    schedule = _schedule(plan, epoch)
    runs = schedule.runs[schedule.first[number] : schedule.first[number + 1]]
    size = runs[:, 1] - runs[:, 0]
    skipped = np.repeat(runs[:, 0] - np.concatenate([[0], np.cumsum(size)[:-1]]), size)
    seeds = skipped + np.arange(int(size.sum()), dtype=np.int64)
    if plan.shuffled:
        rank = plan.partition.rank
        rng = np.random.default_rng([plan.seed % 2**64, epoch, _CELLS, rank, number])
        seeds = rng.permutation(seeds)
    seeds.flags.writeable = False
    return seeds


def plan_seeds(
    space: NodeSpace,
    *,
    batch_size: int = 1024,
    block_rows: int = 256,
    lanes: int = 64,
    stretch_blocks: int = 128,
    seed: int = 0,
    partition: Partition | None = None,
    shuffle: str = "blocks",
) -> SeedPlan:
    """Plan batches of seeds over the cells of some sections.

    Parameters
    ----------
    space : NodeSpace
    batch_size : int
    block_rows : int
        Consecutive rows that are dealt out together; fewer where the cells would not make a block
        for each lane.
    lanes : int
        Blocks that every batch draws from, about: 64 keep 32 or more in a batch of 128 seeds.
    stretch_blocks : int
        Neighboring blocks walked through in a row: more read less, and mix epochs less.
    seed : int
    partition : Partition, optional
        The only process, without.
    shuffle : {"blocks", "cells", "none"}
        "cells" is one whole permutation: the best mixing, and a read for every cell.

    Returns
    -------
    SeedPlan

    Raises
    ------
    InvalidArgument
        There are fewer cells than processes, or an unknown word.

    Notes
    -----
    Memory: 160 bytes a block, which is a cell with "cells", and 40 bytes a cell of a buffer.

    Examples
    --------
    >>> from tisseract.models.sampling.node_space import NodeSpace
    >>> plan = plan_seeds(NodeSpace.of_sizes(["a", "b"], [700, 324]), batch_size=256)
    >>> print(plan)
    1,024 seeds of 2 sections, 4 batches an epoch of 256, shuffled, 64 blocks of 16 rows at a time
    >>> sorted(node for batch in plan.epoch(3) for node in batch.tolist()) == list(range(1024))
    True
    """
    if shuffle not in ("blocks", "cells", "none"):
        raise InvalidArgument(
            f"a shuffle of 'blocks', 'cells' or 'none' is wanted, but got {shuffle!r}"
        )
    own = partition or Partition()
    share = space.n_nodes // own.world_size
    if shuffle == "cells":
        block_rows, stretch_blocks, lanes = 1, 1, max(1, share)
    elif shuffle == "blocks":
        block_rows = max(1, min(block_rows, share // max(lanes, 1)))
    return SeedPlan(
        space,
        batch_size,
        block_rows,
        lanes,
        stretch_blocks,
        seed,
        own,
        shuffled=shuffle != "none",
    )


class SeedBatches:
    """Batches of a plan as PyTorch's `batch_sampler`: each `iter()` is the next epoch.

    Parameters
    ----------
    plan : SeedPlan
    epoch, batch : int
        Where to begin.
    """

    def __init__(self, plan: SeedPlan, *, epoch: int = 0, batch: int = 0) -> None:
        self.plan = plan
        self.seek(epoch, batch)

    def seek(self, epoch: int, batch: int = 0) -> None:
        """Begin the next `iter()` at a batch of an epoch, to resume or to repeat.

        Raises
        ------
        InvalidArgument
            No such batch.
        """
        check_start(epoch, batch, self.plan.n_batches)
        self._epoch, self._batch = epoch, batch

    def __len__(self) -> int:
        """Batches of the next `iter()`."""
        return self.plan.n_batches - self._batch

    def __iter__(self) -> Iterator[Any]:
        """Yield the seeds of an epoch, batch by batch."""
        for epoch, number in self.numbers():
            yield self.plan.batch(epoch, number).tolist()

    def numbers(self) -> Iterator[tuple[int, int]]:
        """Yield epoch and number of the batches of an epoch; the next call is the next epoch."""
        # a loader with workers makes an iterator that it never uses: the epoch begins at the
        # first batch asked for
        epoch, start = self._epoch, self._batch
        self._epoch, self._batch = epoch + 1, 0
        for number in range(start, self.plan.n_batches):
            yield epoch, number
