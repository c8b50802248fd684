"""Delaunay graphs of real tissue: rational arithmetic for the proof, squidpy for the comparison."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tisseract.atlas.graph.edges import Edges
from tisseract.atlas.graph.triangulation.source import DelaunayEdges

from .graph_fakes import cut_section, quadtree_section
from .test_graph_delaunay import assert_same, by_tiles, triangles, whole
from .test_graph_real import all_sections, squidpy_builders

pytestmark = [pytest.mark.real, pytest.mark.slow]
__all__ = ["squidpy_builders"]


def as_integers(xy: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The same points on a raster of whole numbers, exactly."""
    parts = [(Fraction(x), Fraction(y)) for x, y in xy.tolist()]
    scale = max(part.denominator for point in parts for part in point)
    return [(int(x * scale), int(y * scale)) for x, y in parts]


def circle(points: list[tuple[int, int]], a: int, b: int, c: int, d: int) -> int:
    """Positive where d lies inside the circle of a, b, c; exact."""
    dx, dy = points[d]
    rows = [(points[i][0] - dx, points[i][1] - dy) for i in (a, b, c)]
    return sum(
        (p[0] * p[0] + p[1] * p[1]) * (q[0] * r[1] - r[0] * q[1])
        for p, q, r in ((rows[0], rows[1], rows[2]), (rows[1], rows[2], rows[0]),
                        (rows[2], rows[0], rows[1]))
    )  # fmt: skip


def count_ties(xy: NDArray[np.float64]) -> int:
    """Check that no circle holds its neighbor's corner; count those that it passes through."""
    points = as_integers(xy)
    apex = {}
    for a, b, c in triangles(xy).tolist():
        apex[a, b], apex[b, c], apex[c, a] = c, a, b
    ties = 0
    for (p, q), r in apex.items():
        other = apex.get((q, p))
        if p < q and other is not None:
            value = circle(points, p, q, r, other)
            assert value <= 0
            ties += value == 0
    return ties


def edge_keys(edges: Edges | Any, n: int) -> NDArray[np.int64]:
    rows = np.repeat(np.arange(n), np.diff(edges.indptr))
    return np.asarray(np.sort(rows * n + edges.indices))


def test_delaunay_equals_squidpy(real_data: Path, squidpy_builders: Any) -> None:
    general = 0
    for name, xy in all_sections(real_data).items():
        ours = whole(xy)
        assert_same(by_tiles(quadtree_section(xy, 512)), ours)
        ties = count_ties(xy)
        if ties or len(np.unique(xy, axis=0)) < len(xy):
            continue
        general += 1
        theirs, lengths = squidpy_builders.DelaunayBuilder().build(xy)
        np.testing.assert_array_equal(edge_keys(ours, len(xy)), edge_keys(theirs, len(xy)), name)
        lengths.sort_indices()
        np.testing.assert_allclose(ours.distances, lengths.data, rtol=1e-6)
    assert general >= 10


def test_blocks_of_real_tissue_read_few_rows(real_data: Path) -> None:
    for name, xy in all_sections(real_data).items():
        section = quadtree_section(xy, 512)
        if len(section.tiles) < 20:
            continue
        source = DelaunayEdges(section)
        for first, stop in pairwise(section.tiles.ptr[::4].tolist()):
            source.edges([(first, stop)])
        assert section.rows_read < 6 * section.n_obs, name


def test_one_tile_needs_no_neighbors(real_data: Path) -> None:
    (name, xy) = next(iter(all_sections(real_data).items()))
    section = cut_section(xy, [])
    DelaunayEdges(section).edges([(0, len(xy))])
    assert section.rows_read == len(xy), name
