"""Which epoch begins next, counted together by a process and the workers it starts."""

import multiprocessing
from multiprocessing.context import get_spawning_popen
from typing import Any

from torch.utils.data import get_worker_info

__all__ = ["Epochs"]

_NEXT, _BATCH, _SEED, _JOINED, _ROUND, _EPOCH, _START = range(7)


class Epochs:
    """Hands out (epoch, first batch) at every `iter()`, the same to all workers of one.

    The workers of a `DataLoader` get a copy of the data set, and with it of every plain number in
    it: what they count is lost with them. Here they share one count. A pickled copy counts for
    itself from where this one is.
    """

    def __init__(self) -> None:
        # of the context that may be handed to workers however they are started
        self._shared: Any = multiprocessing.get_context("spawn").Array("q", 7)
        self._shared[_SEED] = -1
        self._round, self._turn = -1, 0

    def __getstate__(self) -> Any:
        return self._shared if get_spawning_popen() is not None else (self.epoch, self.batch)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple):
            Epochs.__init__(self)
            self.seek(*state)
        else:
            self._shared, self._round, self._turn = state, -1, 0

    @property
    def epoch(self) -> int:
        """The epoch that the next `iter()` goes over."""
        return int(self._shared[_NEXT])

    @property
    def batch(self) -> int:
        """The batch that it begins at."""
        return int(self._shared[_BATCH])

    def seek(self, epoch: int, batch: int = 0) -> None:
        """Set both."""
        with self._shared.get_lock():
            # workers that live on begin a round of their own
            self._shared[_NEXT], self._shared[_BATCH], self._shared[_SEED] = epoch, batch, -1

    def begin(self) -> tuple[int, int]:
        """Return the epoch and first batch of this `iter()`."""
        worker = get_worker_info()
        with self._shared.get_lock():
            if worker is None:
                return self._advance()
            return self._joined(worker.seed - worker.id, worker.num_workers)

    def _advance(self) -> tuple[int, int]:
        shared = self._shared
        epoch, start = int(shared[_NEXT]), int(shared[_BATCH])
        shared[_NEXT], shared[_BATCH] = epoch + 1, 0
        return epoch, start

    def _joined(self, seed: int, workers: int) -> tuple[int, int]:
        """Begin a round with the first of its workers, join it with the others.

        The seed is that of the `DataLoader`'s iterator, drawn anew for every set of workers; a set
        that lives on goes from epoch to epoch together.
        """
        shared = self._shared
        same = shared[_SEED] == seed
        if same and self._round == shared[_ROUND]:
            self._turn += 1
            epoch = int(shared[_EPOCH]) + self._turn
            shared[_NEXT] = max(shared[_NEXT], epoch + 1)
            return epoch, 0
        # the seed alone would not do: who seeds torch before every epoch draws it again
        if not same or shared[_JOINED] >= workers:
            shared[_EPOCH], shared[_START] = self._advance()
            shared[_SEED], shared[_JOINED] = seed, 0
            shared[_ROUND] += 1
        shared[_JOINED] += 1
        self._round, self._turn = int(shared[_ROUND]), 0
        return int(shared[_EPOCH]), int(shared[_START])
