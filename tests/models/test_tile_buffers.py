"""Memory of batches: used again, never while somebody still looks at it."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tisseract.models.sampling.tile_buffers import BufferPool

N = 1 << 18


def address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_comes_back_when_the_last_view_is_gone() -> None:
    pool = BufferPool(2**30)
    first = pool.empty((2, N), np.int64)
    where = address(first)
    tensor = torch.from_numpy(first)[1, 10:20]
    tensor[:] = 7
    del first
    other = pool.empty((2, N), np.int64)
    assert address(other) != where
    other[:] = 0
    assert (tensor == 7).all()
    del tensor
    assert address(pool.empty((2, N), np.int64)) == where


def test_idle_memory_stays_within_the_limit() -> None:
    pool = BufferPool(3 * N * 8)
    held = [pool.empty(N, np.int64) for _ in range(5)]
    held.clear()
    assert 0 < sum(one.nbytes for one in pool._idle) <= 3 * N * 8


def test_much_larger_buffers_are_not_spent_on_little() -> None:
    pool = BufferPool(2**30)
    large = pool.empty(8 * N, np.int64)
    where = address(large)
    del large
    small = pool.empty(N, np.float32)
    assert address(small) != where
    assert small.dtype == np.float32
    assert small.shape == (N,)
