"""What building the graph between two sections will read, write and need."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..planning.plan import GraphPlan, plan_blocks
from ..search.radius_source import expected_degree
from .source import ZKnnEdges, ZRadiusEdges, greatest_square

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..spec import ParameterValue

__all__ = ["plan_pair"]

# A candidate: 28 while it is searched for, 24 while columns are put in order; an edge: 12 as
# computed, 8 written, 16 for encoding it in chunks.
_BYTES_PER_CANDIDATE = 28 + 24
_BYTES_PER_EDGE = 12 + 8 + 16
# Positions of a row, and its place in grids and in row order.
_BYTES_PER_ROW = 120
# Cells of the neighbor loaded at once, 60 bytes each.
_BAND_BYTES = 262_144 * 60
# Rows of the neighbor read for each row: a block of one and its surroundings in the other.
_HALO_READ = 2.3


def plan_pair(
    source: ZKnnEdges | ZRadiusEdges, parameters: Mapping[str, ParameterValue]
) -> GraphPlan:
    """Plan the graph of an ordered pair from the tile tables of both sections.

    Parameters
    ----------
    source : ZKnnEdges or ZRadiusEdges
        The graph wanted.
    parameters : mapping
        As stored and compared on resume.

    Returns
    -------
    GraphPlan
        Of the section with the rows.
    """
    tiles = source.section.tiles
    degree, row_bytes = _need(source)
    blocks = plan_blocks(tiles, degree)
    n_obs = source.section.n_obs
    edges = math.ceil(float(np.dot(degree, tiles.n_cells)))
    held = np.concatenate([[0.0], np.cumsum(tiles.n_cells * row_bytes)])
    largest = max((float(held[stop] - held[first]) for first, stop in blocks), default=0.0)
    return GraphPlan(
        section=f"{source.section.name} -> {source.neighbor.name}",
        kind="z-knn" if isinstance(source, ZKnnEdges) else "z-radius",
        parameters=parameters,
        n_obs=n_obs,
        n_tiles=len(tiles),
        blocks=blocks,
        row_ptr=(*(int(tiles.ptr[first]) for first, _ in blocks), n_obs),
        edges=edges,
        passes=1,
        bytes_read=int(16 * (n_obs + _HALO_READ * source.neighbor.n_obs)),
        bytes_written=8 * edges + 8 * (n_obs + len(blocks)),
        task_bytes=int(largest) + _BAND_BYTES,
        bounded=isinstance(source, ZKnnEdges),
    )


def _need(source: ZKnnEdges | ZRadiusEdges) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges and bytes of a row of each tile."""
    tiles = source.section.tiles
    if isinstance(source, ZRadiusEdges):
        high = greatest_square(source.radius, source.gap_um)
        degree = np.zeros(len(tiles))
        if high >= 0.0:
            degree = expected_degree(tiles, math.sqrt(high), source.neighbor.tiles)
        return degree, _BYTES_PER_ROW + degree * _BYTES_PER_EDGE
    degree = np.full(len(tiles), float(min(source.n_neighs, source.neighbor.n_obs)))
    return degree, _BYTES_PER_ROW + degree * (_BYTES_PER_CANDIDATE + _BYTES_PER_EDGE)
