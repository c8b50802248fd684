"""Compiled loops of neighbor sampling: choosing edges of cells, numbering the cells met.

Random numbers are a function of (key, cell, number of the draw) and hold no state, so that what is
drawn for a cell hangs on nothing else: splitmix64's finalizer over a Weyl sequence (Steele, Lea,
Flood, *Fast splittable pseudorandom number generators*, 2014). A draw below n is the high half of a
32-bit product; its bias is below n / 2^32.
"""

# ruff: noqa: PLR0917 - compiled loops take plain arrays

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rows.compiled import njit
from ..rows.page_kernels import entry_at

__all__ = ["choose_edges", "enter_cells", "mix", "njit", "number_cells", "sampling_key"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_30, _27, _31, _32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)


@njit
def mix(value: np.uint64) -> np.uint64:
    """Scatter 64 bits; a bijection."""
    value = (value ^ (value >> _30)) * _FIRST
    value = (value ^ (value >> _27)) * _SECOND
    return value ^ (value >> _31)


@njit
def sampling_key(parts: NDArray[np.uint64]) -> np.uint64:
    """Fold some numbers into one key; their order counts."""
    key = _GOLDEN
    for part in parts:
        key = mix((key ^ mix(part + _GOLDEN)) + _GOLDEN)
    return key


@njit
def _draw(state: np.uint64, number: Any, below: Any) -> int:
    """Return draw `number` of a cell, uniform in 0..below - 1; below < 2^32."""
    bits = mix(state + np.uint64(number + 1) * _GOLDEN)
    return int(((bits >> _32) * np.uint64(below)) >> _32)


@njit
def choose_edges(
    cell: NDArray[np.int64],
    page: NDArray[np.int64],
    row: NDArray[np.int64],
    offset: NDArray[np.int64],
    held: Any,
    fanout: int,
    replace: bool,
    key: np.uint64,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Choose edges of some cells.

    Parameters
    ----------
    cell, page, row : ndarray (m,) int64
        Node of each cell, its page, its row in the page.
    offset : ndarray (P,) int64
        First node of the section of each page.
    held : Held
        The pages.
    fanout : int
        Edges wanted of each cell; negative for all.
    replace : bool
        Whether an edge may be chosen more than once.
    key : uint64
        Decides the draws, with the cell.

    Returns
    -------
    indptr : ndarray (m + 1,) int64
    neighbor : ndarray (e,) int64
        Nodes; without replacement in the order of the row.
    length : ndarray (e,) float32
    place : ndarray (e,) int64
        Number of the edge within its row.
    """
    m = cell.size
    indptr = np.zeros(m + 1, np.int64)
    for i in range(m):
        slot = held.slot[page[i]]
        degree: Any = np.int64(held.pointers[slot, row[i] + 1] - held.pointers[slot, row[i]])
        taken: Any = degree
        if fanout >= 0:
            taken = min(degree, fanout)
            if replace and degree > 0:
                taken = fanout
        indptr[i + 1] = indptr[i] + taken
    neighbor = np.empty(indptr[m], np.int64)
    length = np.empty(indptr[m], np.float32)
    place = np.empty(indptr[m], np.int64)
    for i in range(m):
        at, end = indptr[i], indptr[i + 1]
        if at == end:
            continue
        slot = held.slot[page[i]]
        first = np.int64(held.pointers[slot, row[i]])
        degree = np.int64(held.pointers[slot, row[i] + 1]) - first
        state = mix(key ^ mix(np.uint64(cell[i]) + _GOLDEN))
        if replace and fanout >= 0:
            for j in range(at, end):
                place[j] = _draw(state, j - at, degree)
        else:
            _choose(state, degree, place[at:end])
        origin = offset[page[i]]
        for j in range(at, end):
            e = entry_at(held.segment, slot, first + place[j])
            neighbor[j] = origin + held.columns[e]
            length[j] = held.values[e]
    return indptr, neighbor, length, place


@njit
def _choose(state: np.uint64, degree: Any, place: NDArray[np.int64]) -> None:
    """Choose some of the edges of a cell, in order."""
    missing = place.size
    if missing == degree:
        for e in range(degree):
            place[e] = e
        return
    # Selection sampling (Knuth, TAOCP 2, algorithm 3.4.2 S): uniform, and in order.
    for e in range(degree):
        left = degree - e
        if missing == left or _draw(state, e, left) < missing:
            place[place.size - missing] = e
            missing -= 1
            if missing == 0:
                return


@njit
def number_cells(
    table: NDArray[np.int32], known: NDArray[np.int64], n_known: int, met: NDArray[np.int64]
) -> tuple[int, NDArray[np.int64]]:
    """Give numbers to cells in the order in which they are met.

    Parameters
    ----------
    table : ndarray (2^b,) int32
        Open hash table of numbers, -1 where it is free; at least twice as long as the cells that
        will be in it. Changed.
    known : ndarray (>= n_known + len(met),) int64
        Nodes by number. New ones are added.
    n_known : int
        How many there are.
    met : ndarray (m,) int64
        Nodes met.

    Returns
    -------
    n_known : int
        How many there are now.
    number : ndarray (m,) int64
        Number of each cell met.
    """
    mask = np.uint64(table.size - 1)
    number = np.empty(met.size, np.int64)
    for j in range(met.size):
        node = met[j]
        at = mix(np.uint64(node)) & mask
        while table[at] >= 0 and known[table[at]] != node:
            at = (at + np.uint64(1)) & mask
        if table[at] < 0:
            table[at] = n_known
            known[n_known] = node
            n_known += 1
        number[j] = table[at]
    return n_known, number


@njit
def enter_cells(table: NDArray[np.int32], known: NDArray[np.int64], n_known: int) -> None:
    """Enter known cells into an empty table; of a cell that comes twice the first place."""
    mask = np.uint64(table.size - 1)
    for number in range(n_known):
        at = mix(np.uint64(known[number])) & mask
        while table[at] >= 0 and known[table[at]] != known[number]:
            at = (at + np.uint64(1)) & mask
        if table[at] < 0:
            table[at] = number
