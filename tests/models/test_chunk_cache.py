"""Chunks in fixed slots: right whatever is dropped meanwhile, for any number of threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from tisseract.atlas.errors import BudgetExceeded, Corrupt
from tisseract.models.sampling.chunk_cache import ChunkCache
from tisseract.models.sampling.prefetch import prefetched

LENGTH = 8


class Layout:
    chunk = LENGTH
    dtype = "int32"
    row_bytes = 4


class Stored:
    """An array in memory behind what the cache asks of one on disk."""

    layout = Layout()

    def __init__(self, values: NDArray[np.int32]) -> None:
        self.values, self.read, self.broken = values, 0, -1

    def __len__(self) -> int:
        return len(self.values)

    def fill(self, chunks: list[int], into: list[NDArray[np.int32]]) -> tuple[int, int]:
        for number, out in zip(chunks, into, strict=True):
            if number == self.broken:
                raise Corrupt("a chunk cannot be read")
            part = self.values[number * LENGTH : (number + 1) * LENGTH]
            out[: len(part)] = part
        self.read += len(chunks)
        return 1, len(chunks)


def cache_of(
    arrays: list[Stored], limit: int, threads: int = 1, kept: str = "uint16"
) -> ChunkCache:
    return ChunkCache([(a,) for a in arrays], [(np.dtype(kept),)] * len(arrays), limit, threads)  # type: ignore[misc]


def pinned_values(cache: ChunkCache, section: int, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
    view = cache.view(section, 0)
    with cache.pinned(section, chunks, np.unique(chunks // 2 * 2)):
        first = cache.slots(section)[chunks].astype(np.int64) * view.stride + view.first
        found = view.memory[first[:, None] + np.arange(LENGTH)].ravel()
    return np.asarray(found, dtype=np.int64)


@pytest.mark.parametrize("threads", [1, 4])
def test_what_is_pinned_is_right_while_others_drop(threads: int) -> None:
    arrays = [Stored(np.arange(400, dtype=np.int32) + 1000 * s) for s in range(2)]
    cache = cache_of(arrays, 64 * 40, threads)
    assert cache.n_slots < 100

    def work(number: int) -> bool:
        rng = np.random.default_rng(number)
        section = int(rng.integers(2))
        chunks = np.sort(rng.choice(50, int(rng.integers(1, cache.capacity + 1)), replace=False))
        wanted = (chunks[:, None] * LENGTH + np.arange(LENGTH)).ravel() + 1000 * section
        return np.array_equal(pinned_values(cache, section, chunks), wanted)

    with ThreadPoolExecutor(threads) as pool:
        assert all(pool.map(work, range(300)))
    assert sum(array.read for array in arrays) > 100  # some were read again


def test_what_fits_is_read_once() -> None:
    array = Stored(np.arange(100, dtype=np.int32))
    cache = cache_of([array], 10_000)
    for _ in range(3):
        pinned_values(cache, 0, np.arange(5))
        pinned_values(cache, 0, np.arange(12))
    assert array.read == 12


def test_what_cannot_be_read_is_told_each_time() -> None:
    array = Stored(np.arange(100, dtype=np.int32))
    cache = cache_of([array], 10_000, threads=3)
    array.broken = 4

    def work(_: int) -> str:
        with pytest.raises(Corrupt) as told:
            pinned_values(cache, 0, np.array([2, 4]))
        return str(told.value)

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(work, range(20))) == {"a chunk cannot be read"}
    array.broken = -1
    assert pinned_values(cache, 0, np.array([4]))[0] == 32


def test_a_failed_read_leaves_others_to_wait_for_its_slot() -> None:
    array = Stored(np.arange(LENGTH, dtype=np.int32))
    array.broken = 0
    cache = cache_of([array], 64, threads=4)
    chunks = np.arange(1)

    def read(_: int) -> str:
        try:
            pinned_values(cache, 0, chunks)
        except Corrupt:
            return "corrupt"
        return "read"

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(read, range(400))) == {"corrupt"}
    array.broken = -1
    assert (pinned_values(cache, 0, chunks) == np.arange(LENGTH)).all()


def test_what_one_batch_lacks_is_unpacked_by_several_threads() -> None:
    array = Stored(np.arange(100 * LENGTH, dtype=np.int32))
    cache = cache_of([array], 64 * 100, threads=3)
    chunks = np.arange(100)
    assert (pinned_values(cache, 0, chunks) == array.values).all()
    assert cache.requests == 7
    assert cache.bytes_read == 100


def test_numbers_that_do_not_fit_are_refused() -> None:
    for value in (70_000, -1):
        cache = cache_of([Stored(np.full(20, value, dtype=np.int32))], 10_000)
        with pytest.raises(Corrupt, match=f"{value}"):
            pinned_values(cache, 0, np.array([1]))


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(BudgetExceeded, match="memory_limit"):
        cache_of([Stored(np.zeros(4000, dtype=np.int32))], 100)


@pytest.mark.parametrize("threads", [0, 2])
def test_work_keeps_its_order_and_fails_at_its_turn(threads: int) -> None:
    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    found = prefetched(work, range(9), threads=threads, depth=4)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(found)


def test_work_stops_when_nobody_wants_it_any_more() -> None:
    begun: list[int] = []
    found = prefetched(begun.append, range(10_000), threads=2, depth=3)
    next(found)
    found.close()
    assert len(begun) < 20
