"""Which tiles make which batch: integers only, decided before anything is read.

Tiles are shuffled within their section for every epoch, then the sections are dealt out evenly, so
that every stretch of the epoch, and so every batch, holds each section in about its share of all
tiles. The plan holds no state: any step can be asked for by its number, which is all that resuming
needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument

__all__ = ["BatchPlan", "Partition", "TileSeeds", "check_batch", "check_start", "plan_batches"]


@dataclass(frozen=True, slots=True)
class TileSeeds:
    """The cells of one tile, or of a part of it, to be computed for.

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
        they do not divide among the ranks: each rank gets equally many, none where there are
        fewer batches than ranks.
        """
        batches = self._all_batches(number)
        world = self.partition.world_size
        return batches[self.partition.rank : len(batches) // world * world : world]

    def _all_batches(self, number: int) -> list[tuple[int, ...]]:
        """Return the batches of all ranks."""
        batches: list[tuple[int, ...]] = []
        held: list[int] = []
        cells = 0
        for tile in self._order(number):
            held.append(tile)
            cells += self.tiles[tile].stop - self.tiles[tile].start
            if cells >= self.batch_cells:
                batches.append(tuple(held))
                held, cells = [], 0
        if held:
            batches.append(tuple(held))
        return batches

    def _order(self, number: int) -> list[int]:
        """Shuffle the tiles: at random within a section, evenly over sections.

        The i-th of a section's n shuffled tiles gets a random place in the i-th n-th of the epoch.
        """
        rng = np.random.default_rng([self.seed, number])
        owner = np.array([tile.section for tile in self.tiles], dtype=np.int64)
        shuffled = rng.permutation(len(owner))
        by_owner = shuffled[np.argsort(owner[shuffled], kind="stable")]
        count = np.bincount(owner)
        first = np.cumsum(count) - count
        own = owner[by_owner]
        place = (np.arange(len(owner)) - first[own] + rng.random(len(owner))) / count[own]
        order: list[int] = by_owner[np.argsort(place, kind="stable")].tolist()
        return order

    def steps(self, start: int, stop: int) -> list[tuple[int, ...]]:
        """Return the batches of steps `start:stop`, counted over epochs.

        Raises
        ------
        InvalidArgument
            When there are fewer batches than ranks; every rank says so, none is left waiting.
        """
        out: list[tuple[int, ...]] = []
        step, number = 0, 0
        while step < stop:
            batches = self.epoch(number)
            if not batches:
                found = len(self._all_batches(number))
                raise InvalidArgument(
                    f"wanted at least {self.partition.world_size} batches, one per process, but "
                    f"got {found} an epoch for {self.n_cells:,} cells; make `batch_cells` smaller, "
                    "or start fewer processes"
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
    max_rows: int | None = None,
    seed: int = 0,
    partition: Partition | None = None,
    masks: Sequence[NDArray[np.bool_] | None] | None = None,
) -> BatchPlan:
    """Plan batches over the tiles of some sections.

    Parameters
    ----------
    ptrs : sequence of ndarray (T + 1,) int64
        Tile pointers of each section: tile t is rows `ptr[t]:ptr[t + 1]`.
    batch_cells : int
        Cells after which a batch is closed.
    max_rows : int, optional
        Tiles of more cells are cut into equal runs of at most that many, so that a batch mixes
        more places; the halos around them grow together. Whole tiles without.
    seed : int
    partition : Partition, optional
        The only process, without.
    masks : sequence of (ndarray (n_obs,) bool or None), optional
        Cells that take part, by section; tiles without any are left out.

    Returns
    -------
    BatchPlan

    Raises
    ------
    InvalidArgument
        There is not one cell, or `batch_cells` or `max_rows` is below one.

    Examples
    --------
    >>> import numpy as np
    >>> plan = plan_batches([np.array([0, 3, 5]), np.array([0, 4])], batch_cells=5)
    >>> print(plan)
    9 cells in 3 tiles of 2 sections, 2 batches an epoch of about 5 cells
    >>> sorted(tile for batch in plan.epoch(7) for tile in batch)
    [0, 1, 2]
    """
    if batch_cells < 1 or (max_rows is not None and max_rows < 1):
        raise InvalidArgument(
            f"wanted at least one cell a batch and a run, but got batch_cells={batch_cells}, "
            f"max_rows={max_rows}"
        )
    kept = [None] * len(ptrs) if masks is None else list(masks)
    tiles = tuple(
        TileSeeds(section, a, b)
        for section, (ptr, mask) in enumerate(zip(ptrs, kept, strict=True))
        for start, stop in pairwise(ptr)
        for a, b in _cut(int(start), int(stop), max_rows)
        if mask is None or mask[a:b].any()
    )
    if not tiles:
        raise InvalidArgument(f"wanted cells to learn from, but got {len(ptrs)} empty sections")
    return BatchPlan(tiles, batch_cells, seed, partition or Partition())


def _cut(start: int, stop: int, max_rows: int | None) -> list[tuple[int, int]]:
    """Cut rows into equal runs of at most `max_rows`; nothing of an empty tile."""
    if stop <= start:
        return []
    parts = 1 if max_rows is None else -(-(stop - start) // max_rows)
    edges = [start + (stop - start) * i // parts for i in range(parts + 1)]
    return list(pairwise(edges))


def check_batch(epoch: int, number: int, n_batches: int) -> None:
    """Refuse a batch that no epoch has.

    Raises
    ------
    InvalidArgument
    """
    if epoch < 0 or not 0 <= number < n_batches:
        raise InvalidArgument(
            f"a batch in 0..{n_batches - 1} of an epoch from 0 is wanted, but got batch "
            f"{number} of epoch {epoch}"
        )


def check_start(epoch: int, batch: int, n_batches: int) -> None:
    """Refuse a place that no epoch can go on from; past its last batch is one.

    Raises
    ------
    InvalidArgument
    """
    if epoch < 0 or not 0 <= batch <= n_batches:
        raise InvalidArgument(
            f"an epoch from 0 and a batch in 0..{n_batches} are wanted, but got "
            f"epoch {epoch}, batch {batch}"
        )
