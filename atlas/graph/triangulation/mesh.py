"""Delaunay triangulations that points are added to, in compiled code.

A triangulation covers the whole plane: beside every edge of the hull lies a *ghost* triangle, whose
third corner, vertex 0, is at infinity. Points are inserted one after another (Bowyer 1981, Watson
1981): the triangles in conflict with the new point are one star-shaped hole, which is filled with
triangles to the point. A point conflicts

    with a triangle   if it lies inside its circle (ties by the rule of `predicates`),
    with a ghost      if it lies beyond the edge of the hull, or on that edge between its ends.

Because ties are decided by coordinates alone, the result does not depend on the order of insertion.
That is also what certificates rest on: the triangles at a vertex stay as they are unless a point
arrives that conflicts with one of them; see `certificate`.
"""

# ruff: noqa: PLR0917 - compiled loops take plain arrays
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..compiled import njit
from .predicates import in_circle, orientation

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Triangulation", "insert", "resized"]

# Places in `Triangulation.counts`.
_N_TRIANGLES, _LAST = 0, 1


class Triangulation(NamedTuple):
    """A triangulation under construction; vertex i + 1 is point i, vertex 0 lies at infinity."""

    x: "NDArray[np.float64]"
    """x of the vertices, shape (n + 1,)."""
    y: "NDArray[np.float64]"
    """y of the vertices, shape (n + 1,)."""
    corners: "NDArray[np.int32]"
    """Corners of the triangles, counterclockwise, shape (t, 3)."""
    across: "NDArray[np.int32]"
    """Triangle across the edge opposite each corner, shape (t, 3)."""
    of_vertex: "NDArray[np.int32]"
    """Some triangle at each vertex, -1 where there is none, shape (n + 1,)."""
    same_as: "NDArray[np.int32]"
    """Vertex inserted earlier at the same position, or 0, shape (n + 1,)."""
    certified: "NDArray[np.uint8]"
    """1 for triangles that no point outside can conflict with, shape (t,)."""
    link: "NDArray[np.int32]"
    """Scratch: the new triangle whose outer edge starts at a vertex, shape (n + 1,)."""
    mark: "NDArray[np.int32]"
    """Scratch: the last vertex that was found to conflict with a triangle, shape (t,)."""
    hole: "NDArray[np.int32]"
    """Scratch: triangles in conflict with a vertex, shape (t,)."""
    rim: "NDArray[np.int32]"
    """Scratch: outer edges of the hole: from, to, triangle beyond; shape (t + 2, 3)."""
    counts: "NDArray[np.int64]"
    """Triangles in use; triangle to start looking from; shape (2,)."""


def resized(old: "Triangulation | None", n: int) -> Triangulation:
    """Return a triangulation with room for n points; what the old one holds is kept.

    Memory: 125 bytes a point.
    """
    rows, room = n + 1, max(2 * n, 4)

    def grown(name: str, size: int, dtype: Any, fill: int = 0) -> Any:
        wide = name in ("corners", "across", "rim")
        array = np.full((size, 3) if wide else size, fill, dtype)
        if old is not None:
            kept = getattr(old, name)
            array[: kept.shape[0]] = kept
        return array

    return Triangulation(
        grown("x", rows, np.float64),
        grown("y", rows, np.float64),
        grown("corners", room, np.int32),
        grown("across", room, np.int32),
        grown("of_vertex", rows, np.int32, -1),
        grown("same_as", rows, np.int32),
        grown("certified", room, np.uint8),
        grown("link", rows, np.int32),
        grown("mark", room, np.int32),
        grown("hole", room, np.int32),
        grown("rim", room + 2, np.int32),
        old.counts if old is not None else np.zeros(2, np.int64),
    )


@njit
def _conflicts(t: int, v: int, x: Any, y: Any, corners: Any) -> bool:
    """Tell whether vertex v conflicts with triangle t."""
    a, b, c = corners[t, 0], corners[t, 1], corners[t, 2]
    if a == 0:
        a, b, c = b, c, a
    elif b == 0:
        a, b, c = c, a, b
    if c != 0:
        return in_circle(x[a], y[a], x[b], y[b], x[c], y[c], x[v], y[v])
    side = orientation(x[a], y[a], x[b], y[b], x[v], y[v])
    if side != 0:
        return side > 0
    between = (x[v] - x[a]) * (x[v] - x[b]) <= 0.0 and (y[v] - y[a]) * (y[v] - y[b]) <= 0.0
    return bool(between)


@njit
def _locate(v: int, t: int, x: Any, y: Any, corners: Any, across: Any) -> int:
    """Walk from triangle t to one that holds vertex v, or to a ghost that it conflicts with."""
    if corners[t, 0] == 0:
        t = across[t, 0]
    elif corners[t, 1] == 0:
        t = across[t, 1]
    elif corners[t, 2] == 0:
        t = across[t, 2]
    before = -1
    while True:
        moved = False
        for i in range(3):
            other = across[t, i]
            if other == before:
                continue
            a, b = corners[t, (i + 1) % 3], corners[t, (i + 2) % 3]
            if orientation(x[a], y[a], x[b], y[b], x[v], y[v]) < 0:
                before, t = t, other
                moved = True
                break
        if not moved:
            return t
        if corners[t, 0] == 0 or corners[t, 1] == 0 or corners[t, 2] == 0:
            return t


@njit
def _put(g: Any, t: int, a: int, b: int, c: int, over_a: int, over_b: int, over_c: int) -> None:
    g.corners[t, 0], g.corners[t, 1], g.corners[t, 2] = a, b, c
    g.across[t, 0], g.across[t, 1], g.across[t, 2] = over_a, over_b, over_c
    g.certified[t] = 0


@njit
def _start(order: Any, g: Any) -> int:
    """Make the first triangle of the first three vertices not on one line; 0 when there are none.

    Returns
    -------
    int
        Place in `order` of the third vertex of that triangle; what comes before it, two vertices
        apart, is inserted afterwards.
    """
    x, y = g.x, g.y
    a = order[0]
    second = -1
    for i in range(1, order.size):
        v = order[i]
        if second < 0:
            if x[v] != x[a] or y[v] != y[a]:
                second = i
            continue
        b = order[second]
        turn = orientation(x[a], y[a], x[b], y[b], x[v], y[v])
        if turn == 0:
            continue
        if turn < 0:
            a, b = b, a
        # Triangle 0, and the ghosts of its edges a-b, b-v and v-a.
        _put(g, 0, a, b, v, 2, 3, 1)
        _put(g, 1, 0, b, a, 0, 3, 2)
        _put(g, 2, 0, v, b, 0, 1, 3)
        _put(g, 3, 0, a, v, 0, 2, 1)
        g.of_vertex[a], g.of_vertex[b], g.of_vertex[v], g.of_vertex[0] = 0, 0, 0, 1
        g.counts[_N_TRIANGLES], g.counts[_LAST] = 4, 0
        return int(second * order.size + i)
    return 0


@njit
def _dig(v: int, t: int, g: Any) -> tuple[int, int]:
    """Find the triangles in conflict with vertex v, from one of them, and the hole's outer edges.

    Returns
    -------
    tuple of int
        Triangles in `hole`; edges in `rim`.
    """
    x, y, corners, across = g.x, g.y, g.corners, g.across
    mark, hole, rim = g.mark, g.hole, g.rim
    hole[0] = t
    mark[t] = v
    n_hole, n_rim, at = 1, 0, 0
    while at < n_hole:
        t = hole[at]
        at += 1
        for i in range(3):
            other = across[t, i]
            if mark[other] == v:
                continue
            if _conflicts(other, v, x, y, corners):
                mark[other] = v
                hole[n_hole] = other
                n_hole += 1
            else:
                rim[n_rim, 0] = corners[t, (i + 1) % 3]
                rim[n_rim, 1] = corners[t, (i + 2) % 3]
                rim[n_rim, 2] = other
                n_rim += 1
    return n_hole, n_rim


@njit
def _fill(v: int, n_hole: int, n_rim: int, n_triangles: int, g: Any) -> int:
    """Fill the hole with triangles from its outer edges to vertex v; return one of them.

    A hole of h triangles has h + 2 outer edges: its places are used again, and two new ones.
    """
    corners, across, of_vertex = g.corners, g.across, g.of_vertex
    certified, link, hole, rim = g.certified, g.link, g.hole, g.rim
    for j in range(n_rim):
        t = hole[j] if j < n_hole else n_triangles + j - n_hole
        a, b, beyond = rim[j, 0], rim[j, 1], rim[j, 2]
        for i in range(3):
            c = corners[beyond, i]
            if c not in (a, b):
                across[beyond, i] = t
        corners[t, 0], corners[t, 1], corners[t, 2] = v, a, b
        across[t, 0] = beyond
        certified[t] = 0
        of_vertex[a] = t
        of_vertex[b] = t
        link[a] = t
        rim[j, 2] = t
    for j in range(n_rim):
        t, following = rim[j, 2], link[rim[j, 1]]
        across[t, 1] = following  # across edge (b, v), where the next one starts
        across[following, 2] = t
    of_vertex[v] = rim[0, 2]
    return int(rim[0, 2])


@njit
def insert(order: Any, g: Any) -> int:
    """Insert vertices; their coordinates are in place.

    Parameters
    ----------
    order : array (m,) int32
        Vertices not inserted before; near ones should follow each other. While the triangulation
        is empty, all vertices at hand must come at once.
    g : Triangulation
        Changed in place.

    Returns
    -------
    int
        Triangles in use; 0 when all vertices lie on one line, and nothing was inserted.
    """
    x, y, corners = g.x, g.y, g.corners
    second, third, first = -1, -1, 0
    if g.counts[_N_TRIANGLES] == 0:
        places = _start(order, g) if order.size > 2 else 0
        if places == 0:
            return 0
        second, third, first = places // order.size, places % order.size, 1
    n_triangles, last = g.counts[_N_TRIANGLES], g.counts[_LAST]
    for place in range(first, order.size):
        if place in (second, third):
            continue
        v = order[place]
        t = _locate(v, last, x, y, corners, g.across)
        twin = 0
        for i in range(3):
            c = corners[t, i]
            if c != 0 and x[c] == x[v] and y[c] == y[v]:
                twin = c
        if twin != 0:
            g.same_as[v] = twin
            continue
        n_hole, n_rim = _dig(v, t, g)
        last = _fill(v, n_hole, n_rim, n_triangles, g)
        n_triangles += n_rim - n_hole
    g.counts[_N_TRIANGLES], g.counts[_LAST] = n_triangles, last
    return int(n_triangles)
