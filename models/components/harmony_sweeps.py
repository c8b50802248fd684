"""The soft clustering of Harmony, over rows dealt into piles on disk."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from ..rows.file import RowFile
from .harmony_stages import Floats, HarmonyOptions, shared, unit

__all__ = ["Piles", "Sweeps", "settled"]

N_PILES = 20
MOST_SWEEPS, WINDOW = 20, 3
SWEEP_TOLERANCE = 1e-5  # relative change of the objective below which sweeps end: the program's


class Piles:
    """Rows of all tables dealt into piles, every twentieth row to the same one, in one file.

    A table's rows of one pile lie together, so that a pile is read in a few pieces.
    """

    def __init__(
        self, path: Path, tables: Mapping[str, RowFile], code: Mapping[str, int], block_rows: int
    ) -> None:
        self.block_rows = block_rows
        self.pieces: list[list[tuple[int, int, int]]] = [[] for _ in range(N_PILES)]
        self.width = next(iter(tables.values())).width
        self.n_of_batch = np.zeros(max(code.values()) + 1)
        self.file = RowFile(path, sum(t.n_rows for t in tables.values()), self.width)
        place = 0
        for name, table in tables.items():
            place = self._deal(table, code[name], place)

    def _deal(self, table: RowFile, batch: int, place: int) -> int:
        """Copy one table, and return where the next one begins."""
        self.n_of_batch[batch] += table.n_rows
        starts = []
        for pile in range(N_PILES):
            size = len(range(pile, table.n_rows, N_PILES))
            self.pieces[pile].append((place, place + size, batch))
            starts.append(place)
            place += size
        # whole rounds of dealing at a time, so that every block begins with the first pile
        step = max(self.block_rows // N_PILES, 1) * N_PILES
        for turn, block in enumerate(table.blocks(step)):
            for pile in range(min(N_PILES, len(block))):
                self.file.write(starts[pile] + turn * step // N_PILES, block[pile::N_PILES])
        return place

    def __enter__(self) -> "Piles":
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()

    def runs(self, pile: int) -> Iterator[tuple[int, int, int]]:
        """Yield (start, stop, batch) of the parts of a pile, each at most a block."""
        for first, last, batch in self.pieces[pile]:
            for start in range(first, last, self.block_rows):
                yield start, min(start + self.block_rows, last), batch

    def all_runs(self) -> Iterator[tuple[int, int, int]]:
        """Yield the parts of all piles."""
        for pile in range(N_PILES):
            yield from self.runs(pile)

    def read(self, table: RowFile, start: int, stop: int) -> Floats:
        """Read rows of a file of this order."""
        return table.read(start, stop).astype(np.float64)


def settled(objective: Iterable[float], window: int, tolerance: float) -> bool:
    """Tell whether the sum over the last values is no longer clearly below the sum before."""
    values = list(objective)
    if len(values) <= window:
        return False
    before, now = sum(values[-window - 1 : -1]), sum(values[-window:])
    return (before - now) / max(abs(before), 1e-300) < tolerance


class Sweeps:
    """The soft clustering of one round: counts `(K, B)` of every pile, and centers."""

    def __init__(
        self,
        piles: Piles,
        table: RowFile,
        centers: Floats,
        options: HarmonyOptions,
        counts: Floats | None,
    ) -> None:
        self.piles, self.table, self.options = piles, table, options
        self.centers = centers
        self.expected = piles.n_of_batch / piles.n_of_batch.sum()
        self.counts = np.zeros((N_PILES, len(centers), len(self.expected)))
        if counts is None:
            self._sweep(plain=True)
        else:
            self.counts = counts

    def penalty(self, without: Floats | float = 0.0) -> Floats:
        """Return the factor of each cluster and batch, some counts left out."""
        observed = self.counts.sum(axis=0) - without
        expected = observed.sum(axis=1, keepdims=True) * self.expected
        return np.asarray(
            ((expected + 1.0) / (np.maximum(observed, 0.0) + 1.0)) ** self.options.theta
        )

    def settle(self) -> float:
        """Sweep until the objective stays; return it."""
        values: list[float] = []
        for _ in range(MOST_SWEEPS):
            values.append(self._sweep())
            if settled(values, WINDOW, SWEEP_TOLERANCE):
                break
        return values[-1]

    def _sweep(self, *, plain: bool = False) -> float:
        """Assign every pile once, its own counts left out; then move the centers."""
        total, objective = np.zeros_like(self.centers), 0.0
        for pile in range(N_PILES):
            ones = np.ones(self.counts.shape[1:])
            penalty = ones if plain else self.penalty(self.counts[pile])
            fresh = np.zeros_like(self.counts[pile])
            for start, stop, batch in self.piles.runs(pile):
                rows = unit(self.piles.read(self.table, start, stop))
                shares, part = shared(rows @ self.centers.T, penalty[:, batch], self.options.sigma)
                fresh[:, batch] += shares.sum(axis=0)
                total += shares.T @ rows
                objective += part
            self.counts[pile] = fresh
        self.centers = unit(total)
        observed = self.counts.sum(axis=0)
        expected = observed.sum(axis=1, keepdims=True) * self.expected
        mixing = observed * np.log((observed + 1.0) / (expected + 1.0))
        return objective + self.options.sigma * self.options.theta * float(mixing.sum())
