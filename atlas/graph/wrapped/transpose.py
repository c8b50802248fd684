"""Compiled loops that turn edges round and join them with those that point the other way."""

# ruff: noqa: PLR0917 - compiled loops take plain arrays, see `search.wider.extend`
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..compiled import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Arrows", "arrows_into", "turned_round", "united", "visited_tiles"]


class Arrows(NamedTuple):
    """Edges as a list, sources ascending."""

    source: "NDArray[np.int32]"
    """(e,) row that the edge belongs to."""
    target: "NDArray[np.int32]"
    """(e,) where its column stands among the rows asked for."""
    distance: "NDArray[np.float64]"
    """(e,) length."""


@njit
def _holding(starts: Any, row: int) -> int:
    """Last of some ascending starts that is not above a row; -1 if all are."""
    low, high = 0, starts.size
    while low < high:
        middle = (low + high) // 2
        if starts[middle] <= row:
            low = middle + 1
        else:
            high = middle
    return low - 1


@njit
def arrows_into(
    rows: Any, indptr: Any, indices: Any, distances: Any, starts: Any, stops: Any, before: Any
) -> Arrows:
    """List the edges whose columns lie in some row runs.

    Parameters
    ----------
    rows : array (m,) int32
        The rows that the edges belong to, ascending.
    indptr, indices, distances : arrays
        Their edges.
    starts, stops, before : arrays (r,) int64
        The runs, and how many rows come before each.

    Returns
    -------
    Arrows
        16 bytes an edge found.
    """
    at = np.empty(indices.size, dtype=np.int32)
    n = 0
    run = 0
    for e in range(indices.size):
        column = indices[e]
        if not starts[run] <= column < stops[run]:
            run = max(_holding(starts, column), 0)
        inside = starts[run] <= column < stops[run]
        at[e] = before[run] + column - starts[run] if inside else -1
        n += inside
    source = np.empty(n, dtype=np.int32)
    target = np.empty(n, dtype=np.int32)
    distance = np.empty(n)
    n = 0
    for i in range(rows.size):
        for e in range(indptr[i], indptr[i + 1]):
            if at[e] >= 0:
                source[n], target[n], distance[n] = rows[i], at[e], distances[e]
                n += 1
    return Arrows(source, target, distance)


@njit
def turned_round(m: int, a: Any, b: Any) -> Any:
    """Sort two lists of arrows by target, and by source within a target.

    Both are in order of their sources, of which they have none in common; so taking the arrow of
    the smaller source each time, and counting, is all the sorting there is.

    Returns
    -------
    indptr (m + 1,) int64, sources (e,) int32, distances (e,) float64
    """
    indptr = np.zeros(m + 1, dtype=np.int64)
    for target in a.target:
        indptr[target + 1] += 1
    for target in b.target:
        indptr[target + 1] += 1
    for i in range(m):
        indptr[i + 1] += indptr[i]
    cursor = indptr[:-1].copy()
    n = a.source.size + b.source.size
    source = np.empty(n, dtype=np.int32)
    distance = np.empty(n)
    i, j = 0, 0
    while i < a.source.size or j < b.source.size:
        if j == b.source.size or (i < a.source.size and a.source[i] < b.source[j]):
            row, target, d = a.source[i], a.target[i], a.distance[i]
            i += 1
        else:
            row, target, d = b.source[j], b.target[j], b.distance[j]
            j += 1
        at = cursor[target]
        cursor[target] = at + 1
        source[at], distance[at] = row, d
    return indptr, source, distance


@njit
def united(
    indptr: Any, indices: Any, distances: Any, turned_ptr: Any, turned: Any, lengths: Any
) -> Any:
    """Join the rows of two graphs whose columns ascend; the smaller distance where both have one.

    Returns
    -------
    indptr (m + 1,) int64, indices (e,) int32, distances (e,) float64
    """
    m = indptr.size - 1
    columns = np.empty(indices.size + turned.size, dtype=np.int32)
    found = np.empty(columns.size)
    ends = np.zeros(m + 1, dtype=np.int64)
    n = 0
    for i in range(m):
        a, b = indptr[i], turned_ptr[i]
        while a < indptr[i + 1] or b < turned_ptr[i + 1]:
            if b == turned_ptr[i + 1] or (a < indptr[i + 1] and indices[a] < turned[b]):
                columns[n], found[n] = indices[a], distances[a]
                a += 1
            elif a == indptr[i + 1] or turned[b] < indices[a]:
                columns[n], found[n] = turned[b], lengths[b]
                b += 1
            else:
                columns[n], found[n] = indices[a], min(distances[a], lengths[b])
                a += 1
                b += 1
            n += 1
        ends[i + 1] = n
    return ends, columns[:n].copy(), found[:n].copy()


@njit
def visited_tiles(rows: Any, indptr: Any, indices: Any, ptr: Any, chunk: int, n_chunks: int) -> Any:
    """Name the pairs of a tile and a chunk of rows from which an edge leads into it.

    Parameters
    ----------
    rows : array (m,) int32
        The rows that the edges belong to.
    indptr, indices : arrays
        Their edges, columns ascending.
    ptr : array (T + 1,) int64
        Tile t is rows ``ptr[t]:ptr[t + 1]``.
    chunk, n_chunks : int
        Rows of a chunk, and how many chunks there are.

    Returns
    -------
    array (p,) int64
        ``tile * n_chunks + chunk``; in no order, some of them more than once.
    """
    # A row names a tile once, for its columns ascend.
    pairs = np.empty(indices.size, dtype=np.int64)
    n = 0
    tile = 0
    last = np.int64(-1)
    for i in range(rows.size):
        for e in range(indptr[i], indptr[i + 1]):
            column = indices[e]
            if not ptr[tile] <= column < ptr[tile + 1]:
                tile = _holding(ptr, column)
            pair = np.int64(tile) * n_chunks + rows[i] // chunk
            if pair != last:
                pairs[n] = pair
                n += 1
                last = pair
    return pairs[:n].copy()
