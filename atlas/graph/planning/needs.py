"""What a row of each kind of graph needs of a task, from the tile table alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...quadtree import TileTable
    from ..spec import GraphSpec

__all__ = ["BYTES_PER_SPREAD", "Need", "need_of"]

# Search: 28 a candidate, 12 an edge, 16 + 16 for positions read and sorted; then 8 an edge for the
# narrow copy that is written, 16 for encoding it in chunks.
_BYTES_PER_CANDIDATE = 28 + 12 + 8 + 16
_BYTES_PER_ROW = 64
# An edge that is not searched for: 12 as computed, 8 written, 16 for encoding.
_BYTES_PER_EDGE = 12 + 8 + 16
# Keys of the ring search, about six copies of 8 bytes while they are sorted and compared.
_BYTES_PER_STEP = 48
# Triangles, their neighbors, corners and the edges made of them, for each point: measured.
_BYTES_PER_CORNER = 350
# Keys, order and lengths while the rows that choose a row are brought together.
_BYTES_PER_UNION = 60
# Edges that are chosen by length, and edges that are spread over the rows of the whole section:
# copies of what was computed.
_BYTES_PER_CHOSEN = 21
BYTES_PER_SPREAD = 36
# A plane triangulation of n points has at most 3 n - 6 edges, each stored in both directions.
_DELAUNAY_DEGREE = 6


@dataclass(frozen=True, slots=True)
class Need:
    """What each row of a section needs."""

    edges: int
    """Edges of all rows together."""
    elements: NDArray[np.float64]
    """(T,) numbers that a task holds for each row of a tile."""
    row_bytes: NDArray[np.float64]
    """(T,) bytes that a task holds for each row of a tile."""
    bounded: bool = True
    """Whether there cannot be more edges."""


def need_of(spec: GraphSpec, tiles: TileTable) -> Need:
    """Return what the rows of a graph need.

    Parameters
    ----------
    spec : GraphSpec
        The graph wanted.
    tiles : TileTable
        T tiles of the cells that take part.

    Returns
    -------
    Need
        Of a symmetrized graph: a row may be chosen by many others, but all rows together have at
        most twice the edges.

    Examples
    --------
    >>> from tisseract.atlas.graph.spec import GraphSpec
    >>> from tisseract.atlas.quadtree import TileTable
    >>> need = need_of(GraphSpec.knn(6), TileTable(np.array([0, 500]), np.zeros((1, 4))))
    >>> need.edges, need.row_bytes
    (3000, array([448.]))
    """
    need = _NEEDS[spec.kind](tiles, spec)
    if spec.prunes:
        need = replace(need, row_bytes=need.row_bytes + _BYTES_PER_CHOSEN * need.elements)
    if not spec.symmetrize:
        return need
    union = 2 * need.elements * _BYTES_PER_UNION
    return replace(
        need,
        edges=2 * need.edges,
        elements=2 * need.elements,
        row_bytes=need.row_bytes + union,
    )


def _knn(tiles: TileTable, spec: GraphSpec) -> Need:
    k = min(spec.n_neighs or 0, _others(tiles))
    row_bytes = _BYTES_PER_ROW + k * _BYTES_PER_CANDIDATE
    return _alike(tiles, k, elements=k, row_bytes=row_bytes)


def _radius(tiles: TileTable, spec: GraphSpec) -> Need:
    from ..search.radius_source import expected_degree

    shortest, longest = spec.interval
    degree = expected_degree(tiles, longest)
    inner = expected_degree(tiles, shortest) if shortest > 0 else 0.0
    edges = math.ceil(float(np.dot(degree - inner, tiles.n_cells)))
    row_bytes = _BYTES_PER_ROW + degree * _BYTES_PER_EDGE
    return Need(edges, degree, row_bytes, bounded=False)


def _delaunay(tiles: TileTable, spec: GraphSpec) -> Need:
    del spec
    degree = min(_DELAUNAY_DEGREE, _others(tiles))
    # Around the smallest blocks, a band of as many cells again is triangulated with them.
    row_bytes = _BYTES_PER_ROW + 2 * _BYTES_PER_CORNER + degree * _BYTES_PER_EDGE
    return _alike(tiles, degree, elements=2 * degree, row_bytes=row_bytes)


def _grid(tiles: TileTable, spec: GraphSpec) -> Need:
    n_rings = spec.n_rings or 1
    # A ring search step visits at most 6 neighbors of each of the 6 r cells of ring r.
    steps = 36 * n_rings if n_rings > 1 else 6
    sides = 2 if spec.lattice == "square" else 3
    degree = min(sides * n_rings * (n_rings + 1), _others(tiles))
    row_bytes = _BYTES_PER_ROW + 6 * _BYTES_PER_CANDIDATE + steps * _BYTES_PER_STEP
    return _alike(tiles, degree, elements=steps, row_bytes=row_bytes)


_NEEDS = {"knn": _knn, "radius": _radius, "delaunay": _delaunay, "grid": _grid}


def _others(tiles: TileTable) -> int:
    """Cells that a cell could have for neighbors."""
    return max(0, int(tiles.ptr[-1]) - 1)


def _alike(tiles: TileTable, degree: int, *, elements: int, row_bytes: int) -> Need:
    """Rows that all need the same."""
    ones = np.ones(len(tiles))
    return Need(int(tiles.ptr[-1]) * degree, elements * ones, row_bytes * ones)
