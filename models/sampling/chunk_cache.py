"""Decoded chunks of stored arrays in a fixed piece of memory, shared by threads.

Chunks of the same rank in several arrays (values and columns of a matrix) are kept together in one
slot; every slot is equally large, so nothing fragments, and what is read is unpacked right where
compiled loops will look for it. Slots used longest ago are reused first, never pinned ones.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import Corrupt
from ...atlas.memory import refuse_above
from .tile_kernels import narrowed

if TYPE_CHECKING:
    from ...atlas.section_arrays import RowArray

__all__ = ["ChunkCache", "ChunkView"]

_ALIGNED = 64
_PINNED_SHARE = 2  # of a thread's share of the slots, one part of so many may be pinned at once
_LEAST = 4  # slots for each thread: a row may lie across two chunks
_JOB = 16  # chunks unpacked by one thread at a time: what passes through stays in its cache
_NOTHING = np.empty(0, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class ChunkView:
    """Where one array's elements stand: chunk c's j-th at `memory[slot[c] * stride + first + j]`.

    Attributes
    ----------
    memory : ndarray (n,)
        The whole cache as numbers of the array's type.
    stride, first : int
    """

    memory: NDArray[Any]
    stride: int
    first: int


class ChunkCache:
    """Chunks of the arrays of some sections.

    Parameters
    ----------
    arrays : sequence of sequence of RowArray
        For each section some one-dimensional arrays on the same grid.
    kept : sequence of sequence of dtype
        Number type to keep each in, the widest first in each section; numbers must fit.
    limit : int
        Bytes to hold.
    threads : int
        How many may read at once.

    Raises
    ------
    BudgetExceeded
        A few chunks for each thread do not fit.
    """

    def __init__(
        self,
        arrays: "Sequence[Sequence[RowArray]]",
        kept: Sequence[Sequence[np.dtype[Any]]],
        limit: int,
        threads: int = 1,
    ) -> None:
        self._arrays = [tuple(group) for group in arrays]
        self._kept = [tuple(group) for group in kept]
        counts = [-(-len(group[0]) // group[0].layout.chunk) for group in self._arrays]
        self._base = np.cumsum([0, *counts], dtype=np.int64)
        sizes = [
            group[0].layout.chunk * sum(dtype.itemsize for dtype in dtypes)
            for group, dtypes in zip(self._arrays, self._kept, strict=True)
        ]
        self.slot_bytes = -(-max(sizes, default=1) // _ALIGNED) * _ALIGNED
        total = max(1, int(self._base[-1]))
        least = min(total, _LEAST * _PINNED_SHARE * threads)
        refuse_above(
            limit,
            least * self.slot_bytes,
            f"{least} chunks of {self.slot_bytes:,} bytes at once",
            "raise `memory_limit`, or use fewer threads",
        )
        self.n_slots = max(least, min(total, limit // self.slot_bytes))
        # Where everything fits, no thread can take another's slots.
        share = 1 if self.n_slots >= total else _PINNED_SHARE * threads
        self.capacity = self.n_slots // share
        self.holds_all = self.n_slots >= total
        self._ahead = self.capacity // 2
        # untouched parts take no memory
        self._memory = np.empty(self.n_slots * self.slot_bytes, dtype=np.uint8)
        self._slot = np.full(total, -1, dtype=np.int32)
        self._owner = np.full(self.n_slots, -1, dtype=np.int64)
        self._used = np.zeros(self.n_slots, dtype=np.int64)
        self._pins = np.zeros(self.n_slots, dtype=np.int32)
        self._loading = np.zeros(self.n_slots, dtype=np.bool_)
        self._clock = self._short = 0
        self._changed = threading.Condition()
        # what one batch lacks, all threads unpack: the others would only wait for it
        self._pool = ThreadPoolExecutor(threads, "tisseract-unpack") if threads > 1 else None
        self._scratch = threading.local()
        self.requests = self.bytes_read = 0

    def chunk_length(self, section: int) -> int:
        """Elements of a chunk of a section's arrays."""
        return self._arrays[section][0].layout.chunk

    def n_chunks(self, section: int) -> int:
        """Chunks of a section."""
        return int(self._base[section + 1] - self._base[section])

    def slots(self, section: int) -> NDArray[np.int32]:
        """Slot of each chunk of a section; valid for those that are pinned."""
        found: NDArray[np.int32] = self._slot[self._base[section] : self._base[section + 1]]
        return found

    def view(self, section: int, number: int) -> ChunkView:
        """Return the view of the n-th array of a section."""
        dtypes = self._kept[section]
        before = self.chunk_length(section) * sum(d.itemsize for d in dtypes[:number])
        size = dtypes[number].itemsize
        memory = self._memory.view(dtypes[number])
        return ChunkView(memory, self.slot_bytes // size, before // size)

    @contextmanager
    def pinned(
        self, section: int, chunks: NDArray[np.int64], ahead: NDArray[np.int64] | None = None
    ) -> Iterator[None]:
        """Hold some chunks while the block lasts, reading the missing ones.

        Parameters
        ----------
        section : int
        chunks : ndarray (m,) int64
            Ascending, at most `capacity`.
        ahead : ndarray (n,) int64, optional
            Ascending; chunks that will be wanted soon, read along where there is room, if at least
            one chunk is missing.
        """
        wanted = chunks + self._base[section]
        soon = None if ahead is None else ahead + self._base[section]
        slots = self._hold(section, wanted, soon)
        try:
            yield
        finally:
            self._release(slots)

    def _hold(
        self, section: int, wanted: NDArray[np.int64], ahead: NDArray[np.int64] | None
    ) -> NDArray[np.int32]:
        while True:
            loaded, slots = self._claim(wanted, ahead)
            try:
                if len(loaded):
                    self._load(section, loaded)
                if self._arrived(wanted):
                    return slots
            except BaseException:
                self._release(slots)
                raise
            # another thread could not read a chunk: this one tries, and meets the reason itself
            self._release(slots)

    def _release(self, slots: NDArray[np.int32]) -> None:
        with self._changed:
            self._pins[slots] -= 1
            if self._short:
                self._changed.notify_all()

    def _claim(
        self, wanted: NDArray[np.int64], ahead: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Pin what is there, and give slots to what is not: (chunks to load, slots pinned)."""
        with self._changed:
            self._await_slots(wanted)
            self._clock += 1
            present = self._slot[wanted] >= 0
            held = self._slot[wanted[present]]
            self._pins[held] += 1
            self._used[held] = self._clock
            missing = wanted[~present]
            loaded = missing
            if len(missing):
                if ahead is not None:
                    extra = np.setdiff1d(ahead[self._slot[ahead] < 0], missing)
                    room = int(self._free().sum()) - len(missing)
                    loaded = np.concatenate([missing, extra[: min(self._ahead, room)]])
                self._take_slots(loaded)
                self._pins[self._slot[missing]] += 1
                loaded = np.sort(loaded)
            return loaded, self._slot[wanted].copy()

    def _free(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = (self._pins == 0) & ~self._loading
        return found

    def _await_slots(self, wanted: NDArray[np.int64]) -> None:
        # What may be pinned or read at once is bounded such that there is always enough; only where
        # a read failed, those who waited for it hold on to its slots for a moment.
        while int(self._free().sum()) < int((self._slot[wanted] < 0).sum()):
            self._short += 1
            self._changed.wait()
            self._short -= 1

    def _take_slots(self, chunks: NDArray[np.int64]) -> None:
        free = np.flatnonzero(self._free())
        if len(free) > len(chunks):
            oldest = np.argpartition(self._used[free], len(chunks) - 1)[: len(chunks)]
            free = free[np.sort(oldest)]
        dropped = self._owner[free]
        self._slot[dropped[dropped >= 0]] = -1
        self._owner[free] = chunks
        self._slot[chunks] = free
        self._used[free] = self._clock
        self._loading[free] = True

    def _load(self, section: int, chunks: NDArray[np.int64]) -> None:
        slots = self._slot[chunks]
        local = chunks - self._base[section]
        jobs = [(section, local[i : i + _JOB], slots[i : i + _JOB]) for i in _steps(len(chunks))]
        done: list[tuple[int, int]] = []
        sound = False
        try:
            if self._pool is None or len(jobs) < 2:
                done.extend(self._unpack(job) for job in jobs)
            else:
                waiting = [self._pool.submit(self._unpack, job) for job in jobs]
                # nothing may write into these slots any more once they are given up
                wait(waiting)
                done.extend(each.result() for each in waiting)
            sound = True
        finally:
            with self._changed:
                self._loading[slots] = False
                self.requests += sum(requests for requests, _ in done)
                self.bytes_read += sum(n_bytes for _, n_bytes in done)
                if not sound:
                    self._slot[chunks] = -1
                    self._owner[slots] = -1
                self._changed.notify_all()

    def _unpack(self, job: tuple[int, NDArray[np.int64], NDArray[np.int32]]) -> tuple[int, int]:
        """Read some chunks of a section into slots: (requests, bytes)."""
        section, chunks, slots = job
        requests = n_bytes = 0
        for number, array in enumerate(self._arrays[section]):
            view = self.view(section, number)
            starts = slots.astype(np.int64) * view.stride + view.first
            made, read = self._filled(array, chunks.tolist(), view.memory, starts)
            requests, n_bytes = requests + made, n_bytes + read
        return requests, n_bytes

    def _filled(
        self, array: "RowArray", chunks: list[int], memory: NDArray[Any], starts: NDArray[np.int64]
    ) -> tuple[int, int]:
        """Read chunks, through a small piece of memory where they are kept as narrower numbers."""
        stored, length = np.dtype(array.layout.dtype), array.layout.chunk
        if memory.dtype == stored:
            return array.fill(chunks, [memory[at : at + length] for at in starts.tolist()])
        scratch = self._own_scratch(len(chunks) * length * stored.itemsize)
        wide = scratch.view(stored).reshape(len(chunks), length)
        done = array.fill(chunks, list(wide))
        most = np.iinfo(memory.dtype).max
        if not 0 <= narrowed(wide, memory, starts) <= most:
            raise Corrupt(
                f"numbers in 0..{most} are wanted, but got {wide.min()}..{wide.max()} in chunks "
                f"{chunks[0]} to {chunks[-1]} of a section's columns; run `tisseract verify`"
            )
        return done

    def _own_scratch(self, n_bytes: int) -> NDArray[np.uint8]:
        """Memory of this thread: taken anew every time, it would cost as much as unpacking."""
        found: NDArray[np.uint8] = getattr(self._scratch, "memory", _NOTHING)
        if len(found) < n_bytes:
            found = self._scratch.memory = np.empty(n_bytes, dtype=np.uint8)
        return found[:n_bytes]

    def _arrived(self, wanted: NDArray[np.int64]) -> bool:
        """Wait for what other threads read; whether all of it came."""
        with self._changed:
            while True:
                slots = self._slot[wanted]
                if (slots < 0).any():
                    return False
                if not self._loading[slots].any():
                    return True
                self._changed.wait()


def _steps(n_chunks: int) -> range:
    return range(0, n_chunks, _JOB)
