"""Neighbors, read off a triangulation whose stars are certified."""

# ruff: noqa: PLR0917 - compiled loops take plain arrays
from typing import TYPE_CHECKING, Any

import numpy as np

from ..compiled import njit
from ..edges import Edges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .mesh import Triangulation

__all__ = ["joined_line", "read_stars"]

_SORT_IN_PLACE = 32


@njit
def _count(vertices: Any, g: Any, counts: Any) -> None:
    """Write the number of neighbors of each vertex; 0 where `vertices` says 0.

    Parameters
    ----------
    vertices : array (m,) int32
        Vertices with a star, or 0.
    g : Triangulation
    counts : array (m,) int64
        Filled in place.
    """
    corners, across, of_vertex = g.corners, g.across, g.of_vertex
    for place in range(vertices.size):
        v = vertices[place]
        n = 0
        if v != 0:
            first = of_vertex[v]
            t = first
            while True:
                i = 0 if corners[t, 0] == v else (1 if corners[t, 1] == v else 2)
                n += corners[t, (i + 1) % 3] != 0
                t = across[t, (i + 1) % 3]
                if t == first:
                    break
        counts[place] = n


@njit
def _fill(vertices: Any, g: Any, row: Any, indptr: Any, indices: Any, lengths: Any) -> None:
    """Write the neighbors of each vertex, ascending by row, with their distances.

    Parameters
    ----------
    vertices : array (m,) int32
        As for `_count`.
    g : Triangulation
    row : array (n + 1,) int32
        Section row that stands for each vertex.
    indptr : array (m + 1,) int64
        Where the neighbors of each go.
    indices, lengths : array (nnz,) int32, float64
        Filled in place; lengths in the unit of the triangulation.
    """
    x, y, corners, across, of_vertex = g.x, g.y, g.corners, g.across, g.of_vertex
    for place in range(vertices.size):
        v = vertices[place]
        if v == 0:
            continue
        begin, end = indptr[place], indptr[place + 1]
        few = end - begin <= _SORT_IN_PLACE
        at = begin
        first = of_vertex[v]
        t = first
        while True:
            i = 0 if corners[t, 0] == v else (1 if corners[t, 1] == v else 2)
            w = corners[t, (i + 1) % 3]
            if w != 0:
                dx, dy = x[w] - x[v], y[w] - y[v]
                d, r = np.sqrt(dx * dx + dy * dy), row[w]
                p = at
                while few and p > begin and indices[p - 1] > r:
                    indices[p], lengths[p] = indices[p - 1], lengths[p - 1]
                    p -= 1
                indices[p], lengths[p] = r, d
                at += 1
            t = across[t, (i + 1) % 3]
            if t == first:
                break
        if not few:
            order = np.argsort(indices[begin:end])
            indices[begin:end] = indices[begin:end][order]
            lengths[begin:end] = lengths[begin:end][order]


def read_stars(mesh: "Triangulation", rows: "NDArray[np.int32]", n_own: int, unit: float) -> Edges:
    """Return the edges of the first vertices of a triangulation.

    Parameters
    ----------
    mesh : Triangulation
        With a certified star for each of the vertices 1 to n_own, or for their twins.
    rows : array (n + 1,) int32
        Section row of each vertex.
    n_own : int
        Number of vertices wanted; their rows ascend.
    unit : float
        Length of the triangulation's unit in that of the positions.

    Returns
    -------
    Edges
        Columns ascend; cells at one position are joined to the first row among them.
    """
    own = np.arange(1, n_own + 1)
    position = mesh.same_as[: rows.size].copy()  # the vertex at each cell's position
    alone = position == 0
    position[alone] = np.flatnonzero(alone)
    first = rows.copy()
    np.minimum.at(first, position[~alone], rows[~alone])
    leads = rows[own] == first[position[own]]
    vertices = np.where(leads, position[own], 0).astype(np.int32)
    counts = np.empty(n_own, np.int64)
    _count(vertices, mesh, counts)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    indices = np.empty(indptr[-1], np.int32)
    lengths = np.empty(indptr[-1])
    _fill(vertices, mesh, first, indptr, indices, lengths)
    edges = Edges(indptr, indices, lengths * unit)
    shared = np.flatnonzero(rows != first[position])
    shared = shared[shared > 0]
    if shared.size == 0:
        return edges
    followers, leaders = rows[shared], first[position[shared]]
    return _merged(edges, rows[own], followers, leaders, np.zeros(shared.size))


def joined_line(mesh: "Triangulation", rows: "NDArray[np.int32]", n_own: int, unit: float) -> Edges:
    """Return the edges of the first vertices when all cells of the section lie on one line.

    Each position is joined to the next on either side: the limit of triangulations of points that
    are almost on a line.
    """
    n = rows.size - 1
    x, y, rows = mesh.x[1 : n + 1], mesh.y[1 : n + 1], rows[1:]
    order = np.lexsort((rows, y, x))
    new = np.ones(n, dtype=np.bool_)
    new[1:] = (np.diff(x[order]) != 0.0) | (np.diff(y[order]) != 0.0)
    leaders = order[new]
    lengths = np.hypot(np.diff(x[leaders]), np.diff(y[leaders])) * unit
    of_each = leaders[np.cumsum(new) - 1]
    followers, theirs = rows[order[~new]], rows[of_each[~new]]
    return _merged(
        Edges(np.zeros(n_own + 1, np.int64), np.empty(0, np.int32), np.empty(0)),
        rows[:n_own],
        np.concatenate([rows[leaders[:-1]], followers]),
        np.concatenate([rows[leaders[1:]], theirs]),
        np.concatenate([lengths, np.zeros(followers.size)]),
    )


def _merged(
    edges: Edges,
    own: "NDArray[np.int32]",
    one: "NDArray[np.int32]",
    other: "NDArray[np.int32]",
    lengths: "NDArray[np.float64]",
) -> Edges:
    """Add pairs of rows, in both directions, to the edges of the rows `own`, which ascend."""
    m = edges.indptr.size - 1
    start, column = np.concatenate([one, other]), np.concatenate([other, one])
    place = np.searchsorted(own, start)
    inside = own[np.minimum(place, m - 1)] == start
    places = np.concatenate([np.repeat(np.arange(m), np.diff(edges.indptr)), place[inside]])
    columns = np.concatenate([edges.indices, column[inside]])
    distances = np.concatenate([edges.distances, np.concatenate([lengths, lengths])[inside]])
    order = np.lexsort((columns, places))
    counts = np.bincount(places, minlength=m)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    return Edges(indptr, columns[order].astype(np.int32), distances[order])
