"""When pages will be wanted again, from the plan of the seeds and the edges met on the way.

A page of cells is wanted while the plan walks through it, and while it walks through the blocks
beside it. The plan knows the first; which blocks lie beside each other the edges tell as they are
read. Nothing of this decides what is sampled: it decides what stays in memory.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rows.page_grid import PageGrid
from ..rows.page_kernels import LINKS, link_pages
from ..rows.pages import NEVER, Runs
from .seed_plan import SeedPlan

__all__ = ["Foresight"]


class Foresight:
    """Next use of pages under a plan of seeds; shared by all that hold pages for one loader.

    Parameters
    ----------
    plan : SeedPlan

    Notes
    -----
    Memory: 68 bytes a block of the plan. Safe to share between threads: two at work in different
    places of the plan only make worse guesses.
    """

    def __init__(self, plan: SeedPlan) -> None:
        self.plan = plan
        self._grid = PageGrid.of(plan.space, plan.block_rows)
        self._links = np.full((len(self._grid), LINKS), -1, dtype=np.int32)
        self._round: NDArray[np.int64] = np.full(len(self._grid), NEVER)
        self._epoch = -1
        self._now = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return Foresight, (self.plan,)

    def at(self, epoch: int, batch: int) -> None:
        """Tell where in the plan we are; a batch that it has not tells that nobody knows."""
        if batch >= self.plan.n_batches:  # a key of the seeds, as `AtlasSampler` has
            self._round, self._epoch, self._now = np.zeros(len(self._grid), dtype=np.int64), -1, 0
            return
        if epoch != self._epoch:
            turn = np.full(len(self._grid), NEVER)
            nodes, rounds = self.plan.rounds(epoch)
            turn[self._grid.place(nodes).page] = rounds
            self._round, self._epoch = turn, epoch
        self._now = self.plan.round_of(epoch, batch)

    def learn(self, section: int, runs: Runs, indptr: NDArray[Any], columns: NDArray[Any]) -> None:
        """Remember where the edges of some rows lead.

        Parameters
        ----------
        section : int
            Number of the section.
        runs : row runs
            Its rows.
        indptr, columns
            Their edges.
        """
        grid, offset, at = self._grid, self.plan.space.offsets[section], 0
        for start, stop in runs:
            rows = indptr[at : at + stop - start + 1]
            link_pages(start + offset, offset, rows, columns, grid.border, grid.coarse, self._links)
            at += stop - start

    def next_use(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the round in which each of some pages is wanted next, `NEVER` if in none.

        Parameters
        ----------
        first, last : ndarray (m,) int64
            First and last node of each page; of blocks between them nothing is asked.
        """
        found = self._of_blocks(self._grid.place(first).page)
        return np.minimum(found, self._of_blocks(self._grid.place(last).page))

    def _of_blocks(self, block: NDArray[np.int64]) -> NDArray[np.int64]:
        beside = self._links[block]
        turn = self._round[np.column_stack([block, np.maximum(beside, 0)])]
        turn[:, 1:][beside < 0] = NEVER
        turn[turn < self._now] = NEVER
        return np.asarray(turn.min(axis=1), dtype=np.int64)
