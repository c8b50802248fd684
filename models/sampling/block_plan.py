"""Which blocks of neighboring cells make which batch: integers only, decided before any read.

A batch is one block of each of many lanes. Lanes walk over stretches of neighboring blocks, so that
what a block needs of its surroundings, and what was read along with it, serves the next one too.
Unlike in `SeedPlan`, blocks stay whole: cells come with the edges between them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from .batch_plan import Partition, check_batch
from .lanes import blocks_of, dealt, stretches_shuffled
from .node_space import NodeSpace

__all__ = ["BlockPlan", "plan_blocks"]

_BLOCKS = 3  # names the draws of this plan among those of the same seed
_WHOLE = Partition()


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """Batches of blocks for any number of epochs; equal plans give equal batches anywhere.

    Attributes
    ----------
    space : NodeSpace
        The cells.
    block_rows : int
        Consecutive rows of a section that stay together; blocks end where their section ends.
    lanes : int
        Blocks of a batch; the last ones of an epoch may have more, never fewer where there are
        as many.
    stretch_blocks : int
        Neighboring blocks that a lane walks through in a row.
    seed : int
    partition : Partition
        Each process gets equally many blocks, its own; at most `world_size - 1` blocks are left
        out of an epoch, other ones each time; in order, always the last.
    shuffled : bool
        Without, blocks come in the order of their rows.
    """

    space: NodeSpace
    block_rows: int = 256
    lanes: int = 32
    stretch_blocks: int = 128
    seed: int = 0
    partition: Partition = _WHOLE
    shuffled: bool = True

    def __post_init__(self) -> None:
        numbers = (self.block_rows, self.lanes, self.stretch_blocks)
        if min(numbers) < 1:
            raise InvalidArgument(
                f"block_rows, lanes and stretch_blocks of at least 1 are wanted, but got {numbers}"
            )
        if self.n_blocks < 1:
            raise InvalidArgument(
                "wanted at least one block per process, but got "
                f"{len(blocks_of(self.space, self.block_rows))} for "
                f"{self.partition.world_size}; make `block_rows` smaller"
            )

    @property
    def n_blocks(self) -> int:
        """Blocks of this process in an epoch."""
        return len(blocks_of(self.space, self.block_rows)) // self.partition.world_size

    @property
    def n_seeds(self) -> int:
        """Cells of this process in an epoch; a little else where blocks at ends are shorter."""
        return self.space.n_nodes // self.partition.world_size

    @property
    def n_batches(self) -> int:
        """Batches of this process in an epoch; of every process as many."""
        return max(1, self.n_blocks // self.lanes)

    @property
    def batch_size(self) -> int:
        """Seeds of a full batch."""
        return self.block_rows * min(self.lanes, self.n_blocks)

    @property
    def largest_batch(self) -> int:
        """Seeds that no batch has more of."""
        return self.block_rows * int(np.diff(_schedule(self, 0).first).max())

    def runs(self, epoch: int, number: int) -> NDArray[np.int64]:
        """Return the blocks of one batch.

        Parameters
        ----------
        epoch, number : int
            Any epoch from 0; a batch of it in 0..n_batches - 1.

        Returns
        -------
        ndarray (blocks, 2) int64
            Nodes `start:stop`, within a section each.

        Raises
        ------
        InvalidArgument
            No such batch.
        """
        check_batch(epoch, number, self.n_batches)
        schedule = _schedule(self, epoch)
        found: NDArray[np.int64] = schedule.runs[
            schedule.first[number] : schedule.first[number + 1]
        ]
        return found

    def batch(self, epoch: int, number: int) -> NDArray[np.int64]:
        """Return the seeds of one batch, (m,) int64 nodes; see `runs`."""
        return np.concatenate([np.arange(a, b) for a, b in self.runs(epoch, number).tolist()])

    def epoch(self, number: int) -> Iterator[NDArray[np.int64]]:
        """Yield the seeds of the batches of an epoch."""
        for batch in range(self.n_batches):
            yield self.batch(number, batch)

    def __str__(self) -> str:
        how = "shuffled" if self.shuffled else "in order"
        return (
            f"{self.n_blocks:,} blocks of {self.block_rows} cells of {len(self.space.sections)} "
            f"sections, {self.n_batches:,} batches an epoch of {min(self.lanes, self.n_blocks)} "
            f"blocks, {how}"
        )


@dataclass(frozen=True, slots=True)
class _Schedule:
    """The blocks of an epoch: batch i has `runs[first[i] : first[i + 1]]`."""

    runs: NDArray[np.int64]
    first: NDArray[np.int64]


@lru_cache(maxsize=4)
def _schedule(plan: BlockPlan, epoch: int) -> _Schedule:
    blocks = blocks_of(plan.space, plan.block_rows)
    rank = plan.partition.rank
    if not plan.shuffled:
        runs = blocks[rank * plan.n_blocks : (rank + 1) * plan.n_blocks]
        return _Schedule(runs, np.append(np.arange(plan.n_batches) * plan.lanes, len(runs)))
    rng = np.random.default_rng([plan.seed % 2**64, epoch, _BLOCKS])
    blocks = stretches_shuffled(blocks, plan.stretch_blocks, rng)
    # what does not divide among the processes is left out, and lies elsewhere in every epoch
    runs = blocks[rank * plan.n_blocks : (rank + 1) * plan.n_blocks]
    order, first = dealt(len(runs), plan.lanes)
    return _Schedule(runs[order], first)


def plan_blocks(
    space: NodeSpace,
    *,
    block_rows: int = 256,
    lanes: int = 32,
    stretch_blocks: int = 128,
    seed: int = 0,
    partition: Partition | None = None,
    shuffle: bool = True,
) -> BlockPlan:
    """Plan batches of blocks over the cells of some sections.

    Parameters
    ----------
    space : NodeSpace
    block_rows : int
        Consecutive rows that stay together; fewer where the cells would not make a block for each
        lane. Fewer mix better, and have more neighbors outside.
    lanes : int
        Blocks of a batch.
    stretch_blocks : int
        Neighboring blocks walked through in a row: more read less, and mix epochs less.
    seed : int
    partition : Partition, optional
        The only process, without.
    shuffle : bool
        Without, blocks come in the order of their rows.

    Returns
    -------
    BlockPlan

    Raises
    ------
    InvalidArgument
        There are fewer cells than processes, numbers below 1, or a word for `shuffle`.

    Notes
    -----
    Memory: 130 bytes a block.

    Examples
    --------
    >>> from tisseract.models.sampling.node_space import NodeSpace
    >>> plan = plan_blocks(NodeSpace.of_sizes(["a", "b"], [700, 324]), block_rows=64, lanes=8)
    >>> print(plan)
    17 blocks of 64 cells of 2 sections, 2 batches an epoch of 8 blocks, shuffled
    >>> sorted(node for batch in plan.epoch(3) for node in batch.tolist()) == list(range(1024))
    True
    """
    if not isinstance(shuffle, bool):
        raise InvalidArgument(f"shuffle=True or False is wanted, but got {shuffle!r}")
    own = partition or Partition()
    fitting = space.n_nodes // own.world_size // max(lanes, 1)
    return BlockPlan(
        space,
        min(block_rows, max(1, fitting)),
        lanes,
        stretch_blocks,
        seed,
        own,
        shuffled=shuffle,
    )
