"""Compiled loops of the tile loader: copying rows out of cached chunks, numbering neighbors."""

# ruff: noqa: PLR0917 - compiled loops take plain arrays

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rows.compiled import njit
from .kernels import mix

__all__ = [
    "copy_edges",
    "copy_entries",
    "keep_columns",
    "mark_chunks",
    "narrowed",
    "number_neighbors",
    "read_spans",
    "refill_table",
]


@njit
def mark_chunks(
    start: NDArray[np.int64], stop: NDArray[np.int64], length: int, flags: NDArray[np.bool_]
) -> None:
    """Flag the chunks of `length` elements that some spans `start:stop` touch."""
    for i in range(start.size):
        if stop[i] > start[i]:
            for chunk in range(start[i] // length, (stop[i] - 1) // length + 1):
                flags[chunk] = True


@njit
def read_spans(
    rows: NDArray[np.int64],
    slot: NDArray[np.int32],
    length: int,
    memory: NDArray[np.int64],
    stride: int,
    first: int,
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
) -> None:
    """Look up where the elements of rows begin and end, in cached chunks of row pointers."""
    for i in range(rows.size):
        row = rows[i]
        start[i] = memory[slot[row // length] * np.int64(stride) + first + row % length]
        row += 1
        stop[i] = memory[slot[row // length] * np.int64(stride) + first + row % length]


@njit
def copy_entries(
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    slot: NDArray[np.int32],
    length: int,
    columns: NDArray[Any],
    column_stride: int,
    column_first: int,
    values: NDArray[Any],
    value_stride: int,
    value_first: int,
    at: NDArray[np.int64],
    out_columns: NDArray[np.int32],
    out_values: NDArray[Any],
    out_sums: NDArray[np.float32],
) -> int:
    """Copy elements `start[i]:stop[i]` of cached chunks to `at[i]` of plain arrays, and sum them.

    Returns
    -------
    int
        The largest column; negative ones count as larger than any.
    """
    most = np.uint32(0)
    for i in range(start.size):
        low, to = start[i], np.uint64(at[i])
        total = 0  # stays a whole number where the values are: such sums are faster
        while low < stop[i]:
            chunk = low // length
            inner = low - chunk * length
            # unsigned: numbers that may be negative keep loops from being vectorized
            n = np.uint64(min(stop[i] - low, length - inner))
            c = np.uint64(slot[chunk] * np.int64(column_stride) + column_first + inner)
            v = np.uint64(slot[chunk] * np.int64(value_stride) + value_first + inner)
            for j in range(n):
                column = columns[c + np.uint64(j)]
                out_columns[to + np.uint64(j)] = column
                most = max(most, np.uint32(column))
            for j in range(n):
                value = values[v + np.uint64(j)]
                out_values[to + np.uint64(j)] = value
                total += value
            low += np.int64(n)
            to += n
        out_sums[i] = total
    return int(most)


@njit
def narrowed(wide: NDArray[Any], memory: NDArray[Any], starts: NDArray[np.int64]) -> int:
    """Copy rows of whole numbers to places in an array of a narrower type.

    Returns
    -------
    int
        All bits that are set anywhere: it is within the narrow type if and only if all numbers are.
    """
    bits = np.int64(0)
    for i in range(starts.size):
        to = np.uint64(starts[i])
        for j in range(wide.shape[1]):
            value = wide[i, j]
            memory[to + np.uint64(j)] = value
            bits |= value
    return int(bits)


@njit
def keep_columns(
    section: NDArray[np.int64],
    target: NDArray[np.int32],
    indptr: NDArray[np.int32],
    columns: NDArray[np.int32],
    values: NDArray[Any],
    out: NDArray[np.int32],
) -> None:
    """Give columns their new numbers, in place, and drop the others.

    Parameters
    ----------
    section : ndarray (m,) int64
        Section of each row.
    target : ndarray (sections, columns) int32
        New number of a section's columns, negative for those to drop.
    indptr, columns, values
        Rows; columns and values are overwritten from the front.
    out : ndarray (m + 1,) int32
        The new pointers.
    """
    to = 0
    out[0] = 0
    for i in range(section.size):
        begin = to
        for j in range(indptr[i], indptr[i + 1]):
            column = target[section[i], columns[j]]
            if column >= 0:
                value = values[j]
                # genes named in an order of their own: rows stay sorted
                k = to
                while k > begin and columns[k - 1] > column:
                    columns[k] = columns[k - 1]
                    values[k] = values[k - 1]
                    k -= 1
                columns[k] = column
                values[k] = value
                to += 1
        out[i + 1] = to


@njit
def copy_edges(
    rows: NDArray[np.int64],
    indptr: NDArray[np.integer],
    columns: NDArray[np.integer],
    lengths: NDArray[np.float32],
    offset: int,
    at: NDArray[np.int64],
    out_node: NDArray[np.int64],
    out_length: NDArray[np.float32],
) -> None:
    """Copy the edges of some rows of a page; `at[i]` is where those of `rows[i]` go."""
    measured = out_length.size > 0
    for i in range(rows.size):
        to = np.uint64(at[i])
        low, high = np.uint64(indptr[rows[i]]), np.uint64(indptr[rows[i] + 1])
        for j in range(high - low):
            out_node[to + np.uint64(j)] = offset + columns[low + np.uint64(j)]
        if measured:
            for j in range(high - low):
                out_length[to + np.uint64(j)] = lengths[low + np.uint64(j)]


@njit
def number_neighbors(
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    base: NDArray[np.int64],
    rows: NDArray[np.int64],
    indptr: NDArray[np.integer],
    columns: NDArray[np.integer],
    lengths: NDArray[np.float32],
    offset: int,
    first: int,
    table: NDArray[np.int32],
    known: NDArray[np.int64],
    n_known: int,
    grow: bool,
    kept: int,
    source: NDArray[np.int64],
    target: NDArray[np.int64],
    out_length: NDArray[np.float32],
) -> tuple[int, int]:
    """Give neighbors their numbers in a batch: those of the seeds, then as they are met.

    Parameters
    ----------
    low, high, base : ndarray (blocks,) int64
        Ascending blocks of seeds: nodes low:high have the numbers from base on.
    rows : ndarray (m,) int64
        Rows of a page of edges, one for each cell; the first cell has the number `first`.
    indptr, columns, lengths : ndarray
        The page; `lengths` is empty where nobody wants them.
    offset : int
        Node of column 0.
    table : ndarray (2^b,) int32
        Open hash table of numbers, -1 where it is free, for cells that are no seeds; at least
        twice as long as they will be. Changed.
    known : ndarray (>= n_known + new ones,) int64
        Nodes by number. New ones are added.
    n_known : int
        How many there are.
    grow : bool
        Whether cells not met before get a number; else edges to them are dropped.
    kept : int
        Edges written before.
    source, target : ndarray (e,) int64
        Written: numbers of neighbor and cell.
    out_length : ndarray (e,) float32
        Written.

    Returns
    -------
    n_known, n_edges : int
        With those before.
    """
    mask = np.uint64(table.size - 1)
    measured = lengths.size > 0
    block = 0
    for i in range(rows.size):
        for j in range(indptr[rows[i]], indptr[rows[i] + 1]):
            wanted: Any = np.int64(columns[j]) + offset
            # most neighbors lie in the block of the one before
            if not low[block] <= wanted < high[block]:
                block = max(np.searchsorted(low, wanted, side="right") - 1, 0)
            if low[block] <= wanted < high[block]:
                number = base[block] + wanted - low[block]
            else:
                at = mix(np.uint64(wanted)) & mask
                while table[at] >= 0 and known[table[at]] != wanted:
                    at = (at + np.uint64(1)) & mask
                if table[at] < 0:
                    if not grow:
                        continue
                    table[at] = n_known
                    known[n_known] = wanted
                    n_known += 1
                number = table[at]
            source[kept] = number
            target[kept] = first + i
            if measured:
                out_length[kept] = lengths[j]
            kept += 1
    return n_known, kept


@njit
def refill_table(
    table: NDArray[np.int32], known: NDArray[np.int64], first: int, n_known: int
) -> None:
    """Put the numbers first:n_known into an empty hash table."""
    mask = np.uint64(table.size - 1)
    for number in range(first, n_known):
        at = mix(np.uint64(known[number])) & mask
        while table[at] >= 0:
            at = (at + np.uint64(1)) & mask
        table[at] = number
