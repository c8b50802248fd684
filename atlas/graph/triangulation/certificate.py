"""When the Delaunay neighbors of a cell are final: the certificate of stars, and its proof.

Setting. Some cells of a section are loaded and triangulated (`mesh`); of all others only
boxes that hold them are known. The *star* of a vertex are the triangles around it, ghosts included.

Claim. If no point of any unloaded box could conflict with any triangle of the star of v, then the
star is the same in the triangulation of the whole section, and with it the neighbors of v.

Proof. The triangulation of distinct points is unique (`predicates`), so that of the section is what
comes of inserting the unloaded cells, in any order, into the one at hand. Inserting p removes the
triangles that p conflicts with and makes triangles that all have p as a corner. The star of v is
changed only if one of its triangles is removed or one is added, and a triangle (p, v, w) is added
only where v lies on the rim of the hole, so that a triangle at v was removed. So while no cell
inserted conflicts with the star, it stays; and being the same triangles, they conflict with none of
the cells that follow. []

So circles alone do not suffice: a ghost triangle, beside an edge of the hull of what is loaded,
conflicts with whatever lies beyond that edge, and circles know nothing of it. Looking at circles
only gives wrong stars where tissue ends; a test shows it.

Boxes. A box could hold a point that conflicts

    with a ghost     if a corner lies beyond the edge (exact `orientation`), or the box touches the
                     edge itself: a linear function is greatest at a corner;
    with a triangle  if the *closed* circle meets the box. Circles are computed in float64 and
                     widened by a bound of their error, which grows as the corners near one line.

With corners so near one line that this bound is useless the triangle is *flat*: its circle is huge
and hardly known, but two things are. On the side of the middle corner, the circle is a cap over the
long edge, no higher than L^2 / 8R; a box above that is missed. For other boxes, widen the box by
more than the height of a cap whose chord spans it, and test the corners of the wider box exactly
(`circle_sign`). If none is inside, the circle misses the box: it would enter the wider box through
the inside of one side, by a chord shorter than the diagonal d of that box, and so by a cap at most
d^2 / 8R (1 + small) high, R >= 10 d. Were the cap on the box's side of that side, it would end
before the box. Were it on the other, then the opposite side, two cap heights further, would be
crossed by a longer chord around the same axis, either holding a corner or cutting off a cap higher
than any chord so short can. Where R is not that large, the box counts as met: to load more is
never wrong.

Duplicates. Cells at the position of a vertex lie on the circles around it, so unloaded ones keep
its star open: at a certified vertex, all cells at its position and its neighbors' are loaded.

Which cells next. For every triangle at an open vertex: the box nearest to the vertex, and the one
that lies deepest in the circle or farthest beyond the edge, which takes large steps along borders
(nearest alone took 680 rounds along the straight border of a uniform square, this takes 3); of
flat triangles also every box beside the cap. Where that is not enough for many rounds (cells nearly
on one line, whose stars reach across the section), farther and farther ones as well. Longer row
runs are read and divided in patches, patches are inserted. A section whose cells all lie on one
line has no triangles: it is read whole.
"""

# ruff: noqa: PLR0917 - compiled loops take plain arrays
from typing import Any

import numpy as np

from ..compiled import njit
from ..search.patch_kernels import box_d2
from .predicates import circle_sign, orientation

__all__ = ["certify", "clearances", "group_boxes"]

# Error of a computed circle, in radii, for each unit of (sum of products) / determinant: 53 times
# the sum of what center and radius could be off by.
_ERROR = 160.0 * 2.0**-53
# A circle that could be off by more than this many radii is not used.
_FLAT = 1e-3
_GROUP = 32
# Open vertices after which a look ends; 10 to 300 are open at the border of a block of 65,000.
_MOST_OPEN = 512
_KINDS_GHOST, _KINDS_ROUND, _KINDS_FLAT = 0, 1, 2


@njit
def group_boxes(boxes: Any) -> Any:
    """Return the common boxes of consecutive groups of boxes."""
    n = (boxes.shape[0] + _GROUP - 1) // _GROUP
    groups = np.empty((n, 4))
    for i in range(n):
        first = i * _GROUP
        groups[i] = boxes[first]
        for b in range(first + 1, min(first + _GROUP, boxes.shape[0])):
            groups[i, 0] = min(groups[i, 0], boxes[b, 0])
            groups[i, 1] = min(groups[i, 1], boxes[b, 1])
            groups[i, 2] = max(groups[i, 2], boxes[b, 2])
            groups[i, 3] = max(groups[i, 3], boxes[b, 3])
    return groups


@njit
def clearances(own: Any, boxes: Any, groups: Any) -> Any:
    """Return the squared distance from each own box, (p, 4), to the nearest of some boxes."""
    found = np.empty(own.shape[0])
    for p in range(own.shape[0]):
        nearest = np.inf
        for i in range(groups.shape[0]):
            if _boxes_d2(own, p, groups, i) >= nearest:
                continue
            for b in range(i * _GROUP, min((i + 1) * _GROUP, boxes.shape[0])):
                nearest = min(nearest, _boxes_d2(own, p, boxes, b))
        found[p] = nearest
    return found


@njit
def _boxes_d2(own: Any, p: int, boxes: Any, b: int) -> float:
    dx = max(boxes[b, 0] - own[p, 2], own[p, 0] - boxes[b, 2], 0.0)
    dy = max(boxes[b, 1] - own[p, 3], own[p, 1] - boxes[b, 3], 0.0)
    return float(dx * dx + dy * dy)


@njit
def _chord(p: int, q: int, middle: int, x: Any, y: Any, out: Any) -> None:
    """Write the chord of flat corners: start, unit normal towards the middle corner, cap height."""
    dx, dy = x[q] - x[p], y[q] - y[p]
    length = np.sqrt(dx * dx + dy * dy)
    side = orientation(x[p], y[p], x[q], y[q], x[middle], y[middle])
    out[0], out[1] = x[p], y[p]
    out[2], out[3] = -dy / length * side, dx / length * side
    out[5] = 1.01 * length * length / (8.0 * out[4]) if out[4] > length else np.inf


@njit
def _above_chord(boxes: Any, b: int, disc: Any) -> float:
    """Return by how much, at least, a box lies above the cap of a flat triangle."""
    ox, oy, nx, ny = disc[0], disc[1], disc[2], disc[3]
    low_x = (boxes[b, 0] if nx > 0.0 else boxes[b, 2]) - ox
    low_y = (boxes[b, 1] if ny > 0.0 else boxes[b, 3]) - oy
    return float(low_x * nx + low_y * ny - 2e-15 * (abs(low_x) + abs(low_y)) - disc[5])


@njit
def _circle(t: int, x: Any, y: Any, corners: Any, out: Any) -> bool:
    """Write (ox, oy, ux, uy, r2, widened r2): the center is o + u; False if the corners are flat.

    The origin o is an end of the shortest edge, so that the other two corners are not both far
    away and close to each other, where the center would be lost to cancellation.
    """
    a, b, c = corners[t, 0], corners[t, 1], corners[t, 2]
    ab = (x[a] - x[b]) ** 2 + (y[a] - y[b]) ** 2
    bc = (x[b] - x[c]) ** 2 + (y[b] - y[c]) ** 2
    ca = (x[c] - x[a]) ** 2 + (y[c] - y[a]) ** 2
    if bc < ab and bc <= ca:
        a, b, c = b, c, a
    elif ca < ab and ca < bc:
        a, b, c = c, a, b
    px, py, qx, qy = x[b] - x[a], y[b] - y[a], x[c] - x[a], y[c] - y[a]
    one, two = px * qy, py * qx
    det = one - two
    out[0], out[1] = x[a], y[a]
    p2, q2 = px * px + py * py, qx * qx + qy * qy
    scale = abs(one) + abs(two)
    if abs(det) * _FLAT <= _ERROR * scale:
        most = abs(det) + 4e-16 * scale
        far = (px - qx) ** 2 + (py - qy) ** 2
        out[4] = np.sqrt(p2) * np.sqrt(q2) * np.sqrt(far) / (2.0 * most)  # no radius is smaller
        if far > q2:
            _chord(b, c, a, x, y, out)
        else:
            _chord(a, c, b, x, y, out)
        return False
    ux, uy = (qy * p2 - py * q2) * (0.5 / det), (px * q2 - qx * p2) * (0.5 / det)
    r2 = ux * ux + uy * uy
    out[2], out[3], out[4], out[5] = ux, uy, r2, r2 * (1.0 + 3.0 * _ERROR * scale / abs(det))
    return True


@njit
def _meets_round(boxes: Any, b: int, disc: Any) -> bool:
    """Tell whether a circle, widened, meets a box."""
    ox, oy, ux, uy = disc[0], disc[1], disc[2], disc[3]
    dx = max((boxes[b, 0] - ox) - ux, ux - (boxes[b, 2] - ox), 0.0)
    dy = max((boxes[b, 1] - oy) - uy, uy - (boxes[b, 3] - oy), 0.0)
    return bool(dx * dx + dy * dy <= disc[5])


@njit
def _meets_flat(t: int, x: Any, y: Any, corners: Any, boxes: Any, b: int, disc: Any) -> bool:
    """Tell whether the circle of three corners nearly on one line could meet a box."""
    w, h = boxes[b, 2] - boxes[b, 0], boxes[b, 3] - boxes[b, 1]
    if _above_chord(boxes, b, disc) > 0.0:
        return False
    radius = disc[4]
    size = w + h + np.spacing(max(abs(boxes[b, 0]), abs(boxes[b, 3]), abs(boxes[b, 1])))
    size = 2.0 * (size + np.spacing(abs(boxes[b, 2])))
    if not radius >= 16.0 * size:
        return True
    more = 1.1 * size * size / (8.0 * radius)
    # One step further out: a corner rounded towards the box would not be far enough.
    x0, x1 = np.nextafter(boxes[b, 0] - more, -np.inf), np.nextafter(boxes[b, 2] + more, np.inf)
    y0, y1 = np.nextafter(boxes[b, 1] - more, -np.inf), np.nextafter(boxes[b, 3] + more, np.inf)
    p, q, r = corners[t, 0], corners[t, 1], corners[t, 2]
    for cx, cy in ((x0, y0), (x0, y1), (x1, y0), (x1, y1)):
        if circle_sign(x[p], y[p], x[q], y[q], x[r], y[r], cx, cy) >= 0:
            return True
    return False


@njit
def _meets_ghost(t: int, x: Any, y: Any, corners: Any, boxes: Any, b: int) -> bool:
    """Tell whether a box reaches beyond an edge of the hull, or touches the edge."""
    p, q = corners[t, 1], corners[t, 2]
    if corners[t, 1] == 0:
        p, q = corners[t, 2], corners[t, 0]
    elif corners[t, 2] == 0:
        p, q = corners[t, 0], corners[t, 1]
    on_line = False
    for cx, cy in (
        (boxes[b, 0], boxes[b, 1]),
        (boxes[b, 0], boxes[b, 3]),
        (boxes[b, 2], boxes[b, 1]),
        (boxes[b, 2], boxes[b, 3]),
    ):
        side = orientation(x[p], y[p], x[q], y[q], cx, cy)
        if side > 0:
            return True
        on_line = on_line or side == 0
    if not on_line:
        return False
    across_x = min(x[p], x[q]) <= boxes[b, 2] and max(x[p], x[q]) >= boxes[b, 0]
    return bool(across_x and min(y[p], y[q]) <= boxes[b, 3] and max(y[p], y[q]) >= boxes[b, 1])


@njit
def _meets(kind: int, t: int, x: Any, y: Any, corners: Any, boxes: Any, b: int, disc: Any) -> bool:
    if kind == _KINDS_ROUND:
        return bool(_meets_round(boxes, b, disc))
    if kind == _KINDS_GHOST:
        return bool(_meets_ghost(t, x, y, corners, boxes, b))
    return bool(_meets_flat(t, x, y, corners, boxes, b, disc))


@njit
def _beyond(t: int, x: Any, y: Any, corners: Any, boxes: Any, b: int) -> float:
    """Return how far a box reaches beyond an edge of the hull, times the length of the edge."""
    p, q = corners[t, 1], corners[t, 2]
    if corners[t, 1] == 0:
        p, q = corners[t, 2], corners[t, 0]
    elif corners[t, 2] == 0:
        p, q = corners[t, 0], corners[t, 1]
    nx, ny = y[p] - y[q], x[q] - x[p]
    far_x = boxes[b, 2] if nx > 0.0 else boxes[b, 0]
    far_y = boxes[b, 3] if ny > 0.0 else boxes[b, 1]
    return float((far_x - x[p]) * nx + (far_y - y[p]) * ny)


@njit
def _want(
    kind: int,
    t: int,
    v: int,
    x: Any,
    y: Any,
    corners: Any,
    boxes: Any,
    groups: Any,
    disc: Any,
    spread: float,
    wanted: Any,
) -> bool:
    """Mark boxes that triangle t could conflict with a point of; False when there are none.

    Marked are the one nearest to vertex v, and the one that lies deepest: nearest to the middle of
    a circle, farthest beyond an edge of the hull. The first ends what is local; the second takes
    large steps along the border of tissue, where hulls are long. With a `spread` above 1 also all
    whose squared distance from v is less than so many times that of the nearest.
    """
    near, nearest = -1, np.inf
    deep, deepest = -1, np.inf
    for i in range(groups.shape[0]):
        if kind == _KINDS_FLAT:
            if _above_chord(groups, i, disc) > 0.0:
                continue
        elif not _meets(kind, t, x, y, corners, groups, i, disc):
            continue
        for b in range(i * _GROUP, min((i + 1) * _GROUP, boxes.shape[0])):
            if not _meets(kind, t, x, y, corners, boxes, b, disc):
                continue
            d2 = box_d2(x[v], y[v], boxes, b)
            if d2 < nearest:
                near, nearest = b, d2
            if kind == _KINDS_ROUND:
                depth = box_d2(disc[0] + disc[2], disc[1] + disc[3], boxes, b)
            elif kind == _KINDS_GHOST:
                depth = -_beyond(t, x, y, corners, boxes, b)
            else:
                depth = d2
                # Along a straight border, all that reaches it between the corners is needed.
                middle_x = 0.5 * (boxes[b, 0] + boxes[b, 2]) - disc[0]
                middle_y = 0.5 * (boxes[b, 1] + boxes[b, 3]) - disc[1]
                if middle_x * disc[2] + middle_y * disc[3] > 0.0:
                    wanted[b] = True
            if depth < deepest:
                deep, deepest = b, depth
    if near < 0:
        return False
    wanted[near] = True
    wanted[deep] = True
    if spread > 1.0:
        for i in range(groups.shape[0]):
            if box_d2(x[v], y[v], groups, i) >= spread * nearest:
                continue
            for b in range(i * _GROUP, min((i + 1) * _GROUP, boxes.shape[0])):
                if box_d2(x[v], y[v], boxes, b) < spread * nearest and not wanted[b]:
                    wanted[b] = _meets(kind, t, x, y, corners, boxes, b, disc)
    return True


@njit
def certify(
    vertices: Any,
    clear_d2: Any,
    g: Any,
    boxes: Any,
    groups: Any,
    spread: float,
    wanted: Any,
    still: Any,
) -> int:
    """Look for vertices whose star some unloaded cell could change.

    Parameters
    ----------
    vertices : array (m,) int32
        Vertices to certify, each with a star.
    clear_d2 : array (m,) float64
        No unloaded box is nearer to the vertex than this, squared.
    g : Triangulation
        `certified` is set for triangles that nothing unloaded conflicts with: they stay so.
    boxes, groups : array (b, 4), array (c, 4) float64
        Boxes of what is not loaded, and `group_boxes` of them.
    spread : float
        How many times as far as the nearest, squared, boxes are wanted as well; at least 1.
    wanted : array (b,) bool
        Set to true for boxes to load next, in place.
    still : array (m,) int32
        Filled with the places in `vertices` that are not certified, or not looked at.

    Returns
    -------
    int
        How many these are.
    """
    x, y, corners, across = g.x, g.y, g.corners, g.across
    certified, of_vertex = g.certified, g.of_vertex
    disc = np.empty(6)
    n_open = 0
    for place in range(vertices.size):
        if n_open >= _MOST_OPEN:  # what these want will settle others: look at those later
            still[n_open] = place
            n_open += 1
            continue
        v = vertices[place]
        first = of_vertex[v]
        t = first
        failed = False
        while True:
            i = 0 if corners[t, 0] == v else (1 if corners[t, 1] == v else 2)
            if certified[t] == 0:
                kind = _KINDS_ROUND
                if corners[t, 0] == 0 or corners[t, 1] == 0 or corners[t, 2] == 0:
                    kind = _KINDS_GHOST
                elif not _circle(t, x, y, corners, disc):
                    kind = _KINDS_FLAT
                # The whole circle lies within twice its radius of the vertex.
                if kind != _KINDS_ROUND or 4.01 * disc[4] >= clear_d2[place]:
                    if _want(kind, t, v, x, y, corners, boxes, groups, disc, spread, wanted):
                        failed = True
                    else:
                        certified[t] = 1
                else:
                    certified[t] = 1
            t = across[t, (i + 1) % 3]
            if t == first:
                break
        if failed:
            still[n_open] = place
            n_open += 1
    return n_open
