"""Which rings are boundaries; many at a time, as counts and vertices one ring after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .cell_areas import ring_areas

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "LEAST_VERTICES",
    "MOST_VERTICES",
    "kept_rings",
    "largest_first",
    "largest_part",
    "opened",
    "ragged",
    "sound_rings",
]

LEAST_VERTICES = 3
"""Vertices of the smallest ring, the first not repeated."""
MOST_VERTICES = 1 << 16
"""Vertices of the largest ring; who streams rings holds no more of one."""
# Farther from its cell than any section is wide; larger ones would make every search look there.
_FARTHEST = 1e6


def ragged(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the positions of stretches that begin at `starts`, one stretch after another."""
    shift = starts - (np.cumsum(counts) - counts)
    places: NDArray[np.int64] = np.arange(int(counts.sum())) + np.repeat(shift, counts)
    return places


def kept_rings(
    mask: NDArray[np.bool_],
    rows: NDArray[np.int64],
    counts: NDArray[np.int64],
    vertices: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Take the rings of a mask."""
    if mask.all():
        return rows, counts, vertices
    return rows[mask], counts[mask], vertices[np.repeat(mask, counts)]


def opened(
    counts: NDArray[np.int64], vertices: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give rings without a last vertex that repeats the first; each has one vertex at least."""
    if counts.size == 0:
        return counts, vertices
    ends = np.cumsum(counts)
    closed = (vertices[ends - counts] == vertices[ends - 1]).all(axis=1)
    if not closed.any():
        return counts, vertices
    kept = np.ones(vertices.shape[0], np.bool_)
    kept[ends[closed] - 1] = False
    return counts - closed, vertices[kept]


def largest_first(areas: NDArray[np.floating], owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """(u,) place of the largest ring of each owner, owners ascending; the first of equal ones.

    One rule for all readers: of several polygons of a cell the largest is its boundary.

    Examples
    --------
    >>> import numpy as np
    >>> largest_first(np.array([1.0, 4.0, 2.0, np.nan]), np.array([7, 7, 3, 3])).tolist()
    [2, 1]
    """
    order = np.lexsort((-areas, owner))
    _, first = np.unique(owner[order], return_index=True)
    places: NDArray[np.int64] = order[first]
    return places


def largest_part(rings: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(v, 2) the ring of the largest area of some, each (v, 2)."""
    if len(rings) == 1:
        return rings[0]
    counts = np.array([len(ring) for ring in rings])
    areas = np.zeros(len(rings))
    with np.errstate(over="ignore", invalid="ignore"):  # the writer judges coordinates
        areas[counts > 0] = ring_areas(np.concatenate(rings), counts[counts > 0])
    return rings[int(largest_first(areas, np.zeros(len(rings), np.int64))[0])]


def sound_rings(
    counts: NDArray[np.int64], vertices: NDArray[np.float64], centers: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Tell which rings have three vertices, are finite, have an area, and lie at their cells."""
    if counts.size == 0:
        return np.zeros(0, np.bool_)
    ends = np.cumsum(counts)
    starts = ends - counts
    # Relative to the cell: differences of large coordinates would lose the area of a small ring.
    with np.errstate(over="ignore", invalid="ignore"):
        x, y = (vertices - np.repeat(centers, counts, axis=0)).T
        following = np.arange(1, vertices.shape[0] + 1)
        following[ends - 1] = starts
        area = np.abs(np.add.reduceat(x * y[following] - x[following] * y, starts))
        far = np.maximum.reduceat(np.maximum(np.abs(x), np.abs(y)), starts)
        wide = np.maximum.reduceat(x, starts) - np.minimum.reduceat(x, starts)
        high = np.maximum.reduceat(y, starts) - np.minimum.reduceat(y, starts)
        # Not finite compares false; rounding leaves a little area even to a line.
        sound: NDArray[np.bool_] = (far <= _FARTHEST) & (area > 1e-9 * wide * high)
    return sound & (counts >= LEAST_VERTICES)
