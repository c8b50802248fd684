"""Compiled loops over neighborhoods: numbering the cells of a halo, walking it hop by hop.

Neighbors are visited in the order of the graph's rows, so that sums do not hang on the block that
a cell is computed in.
"""

# ruff: noqa: PLR0917 - compiled loops take plain arrays

import numpy as np
from numpy.typing import NDArray

from .kernels import njit

__all__ = ["ball_means", "ball_votes", "number_hop", "pick_rows", "shell_means"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit
def _slot(keys: NDArray[np.int64], shift: np.uint64, key: np.int64) -> np.int64:
    """Place of a key in an open table of a power of two places, or the free place for it."""
    at = np.int64((np.uint64(key) * _GOLDEN) >> shift)
    while keys[at] != -1 and keys[at] != key:
        at = at + np.int64(1) if at + 1 < len(keys) else np.int64(0)
    return at


@njit
def number_hop(
    start: int,
    stop: int,
    n_known: int,
    known: NDArray[np.int64],
    neighbors: NDArray[np.int32],
    local: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Give the neighbors of one hop local numbers; return those not met before, ascending.

    Parameters
    ----------
    start, stop : int
        The cells that the halo is for: their local numbers are known without looking.
    n_known : int
        Cells met before: the halo's own, then `known`.
    known : array (n_known - (stop - start),) int64
    neighbors : array (e,) int32
    local : array (e,) int32
        Filled with local numbers.
    """
    bits, need = 4, 2 * (len(known) + len(neighbors))
    while (1 << bits) < need:
        bits += 1
    shift = np.uint64(64 - bits)
    keys = np.full(1 << bits, -1, np.int64)
    numbers = np.empty(1 << bits, np.int32)
    for i in range(len(known)):
        at = _slot(keys, shift, known[i])
        keys[at], numbers[at] = known[i], stop - start + i
    fresh = np.empty(len(neighbors), np.int64)
    n_fresh = 0
    for e in range(len(neighbors)):
        cell = np.int64(neighbors[e])
        if start <= cell < stop:
            local[e] = cell - start
            continue
        at = _slot(keys, shift, cell)
        if keys[at] == -1:
            keys[at], numbers[at] = cell, n_known + n_fresh
            fresh[n_fresh] = cell
            n_fresh += 1
        local[e] = numbers[at]
    found = fresh[:n_fresh]
    order = np.argsort(found)
    rank = np.empty(n_fresh, np.int32)
    for i in range(n_fresh):
        rank[order[i]] = n_known + i
    for e in range(len(neighbors)):
        if local[e] >= n_known:
            local[e] = rank[local[e] - n_known]
    return found[order]


@njit
def pick_rows(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    at: NDArray[np.int64],
    out: NDArray[np.int32],
) -> None:
    """Copy the columns of some rows of a matrix, one after the other."""
    end = 0
    for row in at:
        for e in range(indptr[row], indptr[row + 1]):
            out[end] = indices[e]
            end += 1


@njit
def _walk(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    cell: int,
    stamp: NDArray[np.int32],
    queue: NDArray[np.int32],
    ends: NDArray[np.int64],
) -> None:
    """Put a cell and all within len(ends) - 1 hops in `queue`; hop h ends at `ends[h]`."""
    stamp[cell], queue[0] = cell, cell
    low, end = 0, 1
    ends[0] = 1
    for hop in range(1, len(ends)):
        high = end
        for q in range(low, high):
            for e in range(indptr[queue[q]], indptr[queue[q] + 1]):
                other = indices[e]
                if stamp[other] != cell:
                    stamp[other] = cell
                    queue[end] = other
                    end += 1
        low = high
        ends[hop] = end


@njit
def _mean(
    values: NDArray[np.float32],
    cells: NDArray[np.int32],
    total: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    total[:] = 0.0
    for cell in cells:
        for j in range(len(total)):
            total[j] += values[cell, j]
    for j in range(len(total)):
        out[j] = total[j] / len(cells)


@njit
def shell_means(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    hops: int,
    out: NDArray[np.float32],
) -> None:
    """Fill (n_own, hops * d) with means of the cell and hop 1, of hop 2, ..., of the last hop.

    A shell without cells takes the cell's own values.
    """
    width = values.shape[1]
    stamp = np.full(len(values), -1, np.int32)
    queue = np.empty(len(values), np.int32)
    ends = np.empty(hops + 1, np.int64)
    total = np.empty(width, np.float64)
    for cell in range(len(out)):
        _walk(indptr, indices, cell, stamp, queue, ends)
        _mean(values, queue[: ends[1]], total, out[cell, :width])
        for hop in range(2, hops + 1):
            shell = queue[ends[hop - 1] : ends[hop]]
            if len(shell) == 0:
                shell = queue[:1]
            _mean(values, shell, total, out[cell, (hop - 1) * width : hop * width])


@njit
def ball_means(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    hops: int,
    out: NDArray[np.float32],
) -> None:
    """Fill (n_own, d) with means over all cells within some hops, the cell itself included."""
    stamp = np.full(len(values), -1, np.int32)
    queue = np.empty(len(values), np.int32)
    ends = np.empty(hops + 1, np.int64)
    total = np.empty(values.shape[1], np.float64)
    for cell in range(len(out)):
        _walk(indptr, indices, cell, stamp, queue, ends)
        _mean(values, queue[: ends[hops]], total, out[cell])


@njit
def ball_votes(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    codes: NDArray[np.int16],
    n_categories: int,
    hops: int,
    out: NDArray[np.int16],
) -> None:
    """Fill (n_own,) with the most frequent code within some hops; ties keep the cell's own."""
    stamp = np.full(len(codes), -1, np.int32)
    queue = np.empty(len(codes), np.int32)
    ends = np.empty(hops + 1, np.int64)
    votes = np.zeros(n_categories, np.int64)
    for cell in range(len(out)):
        _walk(indptr, indices, cell, stamp, queue, ends)
        votes[:] = 0
        for q in range(ends[hops]):
            votes[codes[queue[q]]] += 1
        best = codes[cell]
        for code in range(n_categories):
            if votes[code] > votes[best] or (votes[code] == votes[best] and code < best):
                best = code
        out[cell] = codes[cell] if votes[codes[cell]] == votes[best] else best
