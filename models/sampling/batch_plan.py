"""Which tiles make which batch: integers only, decided before anything is read.

Tiles of all sections are shuffled together for every epoch and dealt out in that order, so that a
batch mixes sections. The plan holds no state: any step can be asked for by its number, which is all
that resuming needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument

__all__ = ["BatchPlan", "Partition", "TileSeeds", "plan_batches"]


@dataclass(frozen=True, slots=True)
class TileSeeds:
    """The cells of one tile, to be computed for.

    Attributes
    ----------
    section : int
        Number of the section in the plan's order.
    start, stop : int
        Rows of the section.
    """

    section: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Partition:
    """Share of one process among several: batch b belongs to rank `b % world_size`.

    Attributes
    ----------
    rank, world_size : int
    """

    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise InvalidArgument(
                f"a rank below the world size is wanted, but got rank {self.rank} "
                f"of {self.world_size}"
            )


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Batches of tiles for any number of epochs; equal plans give equal batches anywhere.

    Attributes
    ----------
    tiles : tuple of TileSeeds
        Every tile of every section, in order.
    batch_cells : int
        A batch is closed once it holds this many cells; it has at least one tile.
    seed : int
    partition : Partition
    """

    tiles: tuple[TileSeeds, ...]
    batch_cells: int
    seed: int = 0
    partition: Partition = Partition()

    @property
    def n_cells(self) -> int:
        """Cells of all tiles."""
        return sum(tile.stop - tile.start for tile in self.tiles)

    def epoch(self, number: int) -> list[tuple[int, ...]]:
        """Return this rank's batches of an epoch as numbers into `tiles`.

        Every tile is in one batch of one rank, except for the last few batches of an epoch when
        they do not divide among the ranks: each rank gets equally many.
        """
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(len(self.tiles)).tolist()
        batches: list[tuple[int, ...]] = []
        held: list[int] = []
        cells = 0
        for tile in order:
            held.append(tile)
            cells += self.tiles[tile].stop - self.tiles[tile].start
            if cells >= self.batch_cells:
                batches.append(tuple(held))
                held, cells = [], 0
        if held:
            batches.append(tuple(held))
        world = self.partition.world_size
        whole = len(batches) // world * world or len(batches)
        return batches[self.partition.rank : whole : world]

    def steps(self, start: int, stop: int) -> list[tuple[int, ...]]:
        """Return the batches of steps `start:stop`, counted over epochs.

        Raises
        ------
        InvalidArgument
            When this rank has no batch at all.
        """
        out: list[tuple[int, ...]] = []
        step, number = 0, 0
        while step < stop:
            batches = self.epoch(number)
            if not batches:
                raise InvalidArgument(
                    f"wanted at least {self.partition.world_size} batches, one per process, but "
                    f"got none for rank {self.partition.rank}; make `batch_cells` smaller"
                )
            for batch in batches:
                if start <= step < stop:
                    out.append(batch)
                step += 1
            number += 1
        return out

    def __str__(self) -> str:
        sections = len({tile.section for tile in self.tiles})
        return (
            f"{self.n_cells:,} cells in {len(self.tiles)} tiles of {sections} sections, "
            f"{len(self.epoch(0))} batches an epoch of about {self.batch_cells:,} cells"
        )


def plan_batches(
    ptrs: Sequence[NDArray[np.int64]],
    *,
    batch_cells: int = 4096,
    seed: int = 0,
    partition: Partition | None = None,
) -> BatchPlan:
    """Plan batches over the tiles of some sections.

    Parameters
    ----------
    ptrs : sequence of ndarray (T + 1,) int64
        Tile pointers of each section: tile t is rows `ptr[t]:ptr[t + 1]`.
    batch_cells : int
        Cells after which a batch is closed.
    seed : int
    partition : Partition, optional
        The only process, without.

    Returns
    -------
    BatchPlan

    Raises
    ------
    InvalidArgument
        There is not one cell, or `batch_cells` is below one.

    Examples
    --------
    >>> import numpy as np
    >>> plan = plan_batches([np.array([0, 3, 5]), np.array([0, 4])], batch_cells=5)
    >>> print(plan)
    9 cells in 3 tiles of 2 sections, 2 batches an epoch of about 5 cells
    >>> sorted(tile for batch in plan.epoch(7) for tile in batch)
    [0, 1, 2]
    """
    if batch_cells < 1:
        raise InvalidArgument(f"wanted at least one cell a batch, but got {batch_cells}")
    tiles = tuple(
        TileSeeds(section, int(start), int(stop))
        for section, ptr in enumerate(ptrs)
        for start, stop in pairwise(ptr)
        if stop > start
    )
    if not tiles:
        raise InvalidArgument(f"wanted cells to learn from, but got {len(ptrs)} empty sections")
    return BatchPlan(tiles, batch_cells, seed, partition or Partition())
