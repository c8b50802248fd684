"""Compiled loops over pages of rows: finding them, filling them, reading rows out of them."""

# ruff: noqa: PLR0917 - compiled loops take plain arrays

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import njit

__all__ = [
    "COARSE",
    "LINKS",
    "SEGMENT",
    "Held",
    "densify_rows",
    "entry_at",
    "find_pages",
    "link_pages",
    "store_page",
]

COARSE = 64
"""Nodes between two entries of the table that finds pages."""

SEGMENT = 256
"""Entries of a segment: what a page takes of the memory is rounded up to this."""

LINKS = 15
"""Pages remembered beside a page: a square has 8 around it, and borders of tiles do not match."""

_SHIFT, _MASK = 8, SEGMENT - 1


class Held(NamedTuple):
    """Pages in memory as compiled loops see them.

    Attributes
    ----------
    slot : ndarray (P,) int64
        Where each page is held, -1 where it is not.
    pointers : ndarray (slots, rows + 1) int32
        Entries before each row of the page.
    segment : ndarray (slots, w) int32
        The segments that hold a page's entries, in order.
    columns, values : ndarray (segments * SEGMENT,)
        Entry e of slot s stands at `segment[s, e // SEGMENT] * SEGMENT + e % SEGMENT`.
    """

    slot: NDArray[np.int64]
    pointers: NDArray[np.int32]
    segment: NDArray[np.int32]
    columns: NDArray[Any]
    values: NDArray[Any]


@njit
def entry_at(segment: NDArray[np.int32], slot: Any, entry: Any) -> Any:
    """Return where an entry of a page stands."""
    return (np.int64(segment[slot, entry >> _SHIFT]) << _SHIFT) | (entry & _MASK)


@njit
def find_pages(
    nodes: NDArray[np.int64],
    border: NDArray[np.int64],
    coarse: NDArray[np.int64],
    page: NDArray[np.int64],
    row: NDArray[np.int64],
) -> int:
    """Write page and row in it of every node; number of the first one that is none, or -1."""
    last = border[border.size - 1]
    for i in range(nodes.size):
        node = nodes[i]
        if node < 0 or node >= last:
            return i
        at = coarse[node // COARSE]
        while border[at + 1] <= node:
            at += 1
        page[i] = at
        row[i] = node - border[at]
    return -1


@njit
def store_page(
    new_columns: NDArray[Any],
    new_values: NDArray[Any],
    segment: NDArray[np.int32],
    columns: NDArray[Any],
    values: NDArray[Any],
) -> None:
    """Copy the entries of a page into its segments."""
    for part in range(segment.size):
        first = part * SEGMENT
        to = np.int64(segment[part]) * SEGMENT - first
        for e in range(first, min(first + SEGMENT, new_columns.size)):
            columns[to + e] = new_columns[e]
            values[to + e] = new_values[e]


@njit
def densify_rows(
    page: NDArray[np.int64], row: NDArray[np.int64], held: Held, out: NDArray[np.float32]
) -> None:
    """Write sparse rows of pages into the rows of a dense table of zeros."""
    columns, values = held.columns, held.values
    for i in range(page.size):
        slot = held.slot[page[i]]
        e = np.int64(held.pointers[slot, row[i]])
        end = np.int64(held.pointers[slot, row[i] + 1])
        while e < end:
            stop = min(end, (e | _MASK) + 1)
            at = entry_at(held.segment, slot, e)
            for j in range(at, at + stop - e):
                out[i, columns[j]] = values[j]
            e = stop


@njit
def link_pages(
    first: int,
    offset: int,
    indptr: NDArray[np.int64],
    columns: NDArray[np.int32],
    border: NDArray[np.int64],
    coarse: NDArray[np.int64],
    links: NDArray[np.int32],
) -> None:
    """Remember which pages the edges of some rows lead to, and back.

    Parameters
    ----------
    first, offset : int
        Node of the first row, first node of its section.
    indptr, columns
        Edges of consecutive rows.
    border, coarse
        Of the grid of pages.
    links : ndarray (P, LINKS) int32
        Pages beside each page, -1 behind the last. Changed.
    """
    own = coarse[first // COARSE]
    for r in range(indptr.size - 1):
        while border[own + 1] <= first + r:
            own += 1
        last = own
        for e in range(indptr[r], indptr[r + 1]):
            node = offset + np.int64(columns[e])
            if border[last] <= node < border[last + 1]:
                continue
            other = coarse[node // COARSE]
            while border[other + 1] <= node:
                other += 1
            last = other
            if other != own:
                _link(links, own, other)
                _link(links, other, own)


@njit
def _link(links: NDArray[np.int32], page: int, other: int) -> None:
    for at in range(LINKS):
        if links[page, at] == other:
            return
        if links[page, at] < 0:
            links[page, at] = other
            return
