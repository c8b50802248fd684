"""Delaunay graphs over tiles: exact by rational arithmetic, whatever the tiles."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.graph.edges import Edges
from tisseract.atlas.graph.triangulation import block as delaunay_block
from tisseract.atlas.graph.triangulation import certificate as delaunay_certificate
from tisseract.atlas.graph.triangulation.mesh import insert, resized
from tisseract.atlas.graph.triangulation.source import DelaunayEdges

from .graph_fakes import FakeSection, cut_section, morton_order, quadtree_section
from .test_graph_nearest import SHAPES, make_points
from .test_graph_predicates import exact_circle, exact_orientation


def by_tiles(section: FakeSection) -> Edges:
    """Edges of a section, each tile computed alone."""
    source = DelaunayEdges(section)
    ptr = section.tiles.ptr.tolist()
    return Edges.concatenate([source.edges([rows]) for rows in pairwise(ptr)])


def whole(xy: NDArray[np.float64]) -> Edges:
    """Edges of all points computed at once: nothing is apart, nothing needs a certificate."""
    return DelaunayEdges(cut_section(xy, [])).edges([(0, len(xy))])


def assert_same(one: Edges, other: Edges) -> None:
    np.testing.assert_array_equal(one.indptr, other.indptr)
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.distances, other.distances)


def triangles(xy: NDArray[np.float64]) -> NDArray[np.int64]:
    """All triangles of the triangulation of some points, ghosts left out."""
    mesh = resized(None, len(xy))
    mesh.x[1:], mesh.y[1:] = xy[:, 0], xy[:, 1]
    n = insert(np.arange(1, len(xy) + 1, dtype=np.int32), mesh)
    found = mesh.corners[:n].astype(np.int64) - 1
    return found[(found >= 0).all(axis=1)]


def assert_delaunay(xy: NDArray[np.float64]) -> None:
    """Empty circles, in rational arithmetic: across every edge, which is enough for all."""
    points = [(float(x), float(y)) for x, y in xy]
    corners = triangles(xy)
    apex: dict[tuple[int, int], int] = {}
    for a, b, c in corners.tolist():
        assert exact_orientation(points[a], points[b], points[c]) > 0
        for p, q, r in ((a, b, c), (b, c, a), (c, a, b)):
            assert (p, q) not in apex
            apex[p, q] = r
    border = 0
    for (p, q), r in apex.items():
        other = apex.get((q, p))
        if other is None:
            border += 1
            continue
        assert exact_circle(points[p], points[q], points[r], points[other]) <= 0
    # Euler: as many triangles as a triangulation of the whole convex hull has.
    n = len(np.unique(xy, axis=0))
    assert len(corners) == (2 * n - 2 - border if len(corners) else 0)
    # And the border is the hull: no point lies beyond any of its edges.
    for p, q in apex:
        if (q, p) not in apex:
            (ax, ay), (bx, by) = points[p], points[q]
            beyond = (bx - ax) * (xy[:, 1] - ay) - (by - ay) * (xy[:, 0] - ax)
            for i in np.flatnonzero(beyond < 1e-9 * np.abs(beyond).max()).tolist():
                assert exact_orientation(points[p], points[q], points[i]) >= 0


def edge_set(edges: Edges) -> set[tuple[int, int]]:
    rows = np.repeat(np.arange(edges.indptr.size - 1), np.diff(edges.indptr))
    return set(zip(rows.tolist(), edges.indices.tolist(), strict=True))


@given(
    shape=st.sampled_from(SHAPES),
    n=st.integers(1, 260),
    tile_cells=st.sampled_from([1, 3, 8, 64]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80, deadline=None)
def test_tiles_do_not_show(shape: str, n: int, tile_cells: int, seed: int) -> None:
    xy = make_points(shape, n, seed)
    assert_same(by_tiles(quadtree_section(xy, tile_cells)), whole(xy))


@given(
    shape=st.sampled_from(SHAPES),
    n=st.integers(2, 150),
    cuts=st.lists(st.integers(1, 149), max_size=12),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=120, deadline=None)
def test_any_partition_will_do(shape: str, n: int, cuts: list[int], seed: int) -> None:
    xy = make_points(shape, n, seed)
    xy = xy[np.random.default_rng(seed).permutation(n)]  # boxes overlap all over
    assert_same(by_tiles(cut_section(xy, [cut for cut in cuts if cut < n])), whole(xy))


@given(
    shape=st.sampled_from(SHAPES),
    n=st.integers(1, 120),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=100, deadline=None)
def test_circles_are_empty(shape: str, n: int, seed: int) -> None:
    assert_delaunay(make_points(shape, n, seed))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile_cells", [8, 64, 512, 4096])
def test_thousands_of_points(shape: str, tile_cells: int) -> None:
    xy = make_points(shape, 5000 if tile_cells > 8 else 1200, 5)
    assert_same(by_tiles(quadtree_section(xy, tile_cells)), whole(xy))


@pytest.mark.parametrize("shape", ["uniform", "clusters"])
@pytest.mark.parametrize("n", [4, 50, 3000])
def test_general_position_equals_qhull(shape: str, n: int) -> None:
    xy = make_points(shape, n, n)
    ours = by_tiles(quadtree_section(xy, 64))
    indptr, indices = Delaunay(xy).vertex_neighbor_vertices
    np.testing.assert_array_equal(ours.indptr, indptr)
    for row in range(n):
        theirs = np.sort(indices[indptr[row] : indptr[row + 1]])
        np.testing.assert_array_equal(ours.indices[ours.indptr[row] : ours.indptr[row + 1]], theirs)
    rows = np.repeat(np.arange(n), np.diff(ours.indptr))
    lengths = np.linalg.norm(xy[rows] - xy[ours.indices], axis=1)
    np.testing.assert_allclose(ours.distances, lengths, rtol=1e-14)


@given(shape=st.sampled_from(SHAPES), n=st.integers(1, 200), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_every_edge_goes_both_ways(shape: str, n: int, seed: int) -> None:
    found = edge_set(by_tiles(quadtree_section(make_points(shape, n, seed), 8)))
    assert found == {(q, p) for p, q in found}
    assert all(p != q for p, q in found)


def rotated_lattice(side: int, angle: float) -> NDArray[np.float64]:
    """Points whose borders are straight but for rounding: circles as large as they come."""
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) * 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    xy = np.asarray(grid @ turn, dtype=np.float64)
    return np.asarray(xy[morton_order(xy)])


@pytest.mark.parametrize("angle", [0.3, 0.7853981633974483, 1e-9])
def test_borders_that_are_almost_straight(angle: float) -> None:
    xy = rotated_lattice(24, angle)
    assert_delaunay(xy)
    for tile_cells in (8, 64):
        assert_same(by_tiles(quadtree_section(xy, tile_cells)), whole(xy))


def assert_tiles_do_not_show(points: list[NDArray[np.float64]]) -> None:
    for xy in points:
        assert_same(by_tiles(quadtree_section(xy, 8)), whole(xy))


def test_circles_alone_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at circles and not beyond the hull must give wrong stars where tissue ends."""
    look = delaunay_certificate.certify

    def circles_only(*arguments: Any) -> int:
        mesh = arguments[2]
        mesh.certified[(mesh.corners == 0).any(axis=1)] = 1
        return int(look(*arguments))

    monkeypatch.setattr(delaunay_block, "certify", circles_only)
    with pytest.raises(AssertionError):
        assert_tiles_do_not_show([make_points("clusters", 250, seed) for seed in range(20)])


def test_a_smaller_clearance_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patches believed to be farther from what is apart than they are: stars must go wrong."""
    honest = delaunay_certificate.clearances
    monkeypatch.setattr(
        delaunay_block, "clearances", lambda *arguments: honest(*arguments) * 100.0 + 1.0
    )
    monkeypatch.setattr(delaunay_block, "_REACH", 0.0)
    with pytest.raises(AssertionError):
        assert_tiles_do_not_show([make_points("uniform", 250, seed) for seed in range(20)])


def test_some_rows_are_rows_of_the_whole() -> None:
    xy = make_points("clusters", 400, 2)
    section = quadtree_section(xy, 32)
    complete = whole(xy).to_csr(400)
    part = DelaunayEdges(section).edges([(3, 4), (50, 130), (399, 400)]).to_csr(400)
    rows = [3, *range(50, 130), 399]
    np.testing.assert_array_equal(part.toarray(), complete.toarray()[rows])


def test_cells_at_one_position_hang_on_the_first() -> None:
    xy = np.array([[0.0, 0], [1, 0], [0, 0], [0, 1], [0, 0]])
    found = by_tiles(cut_section(xy, [2, 3])).to_csr(5)
    assert edge_set(whole(xy)) == set(zip(*(i.tolist() for i in found.nonzero()), strict=True)) | {
        (0, 2), (2, 0), (0, 4), (4, 0)
    }  # fmt: skip
    lengths = whole(xy)
    assert lengths.indices[: lengths.indptr[1]].tolist() == [1, 2, 3, 4]
    assert lengths.distances[: lengths.indptr[1]].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert lengths.indices[lengths.indptr[2] : lengths.indptr[3]].tolist() == [0]


def test_cells_on_a_line_are_joined_along_it() -> None:
    along = np.array([5.0, 1, 3, 3, 2])
    xy = np.stack([along, 2 * along], axis=1)
    expected = {(1, 4), (4, 2), (2, 0), (2, 3)}
    found = edge_set(by_tiles(cut_section(xy, [2, 3])))
    assert found == expected | {(q, p) for p, q in expected}


def test_few_cells() -> None:
    assert whole(np.zeros((1, 2))).indices.size == 0
    assert whole(np.zeros((3, 2))).indices.tolist() == [1, 2, 0, 0]
    assert whole(np.array([[0.0, 0], [1, 0]])).indices.tolist() == [1, 0]
    assert edge_set(whole(np.array([[0.0, 0], [1, 0], [0, 1]]))) == {
        (p, q) for p in range(3) for q in range(3) if p != q
    }


def test_coordinates_too_small_beside_others_are_refused() -> None:
    xy = np.array([[0.0, 0], [1.0, 0], [1e-70, 1.0]])
    with pytest.raises(InvalidArgument, match="6e-61 of the greatest"):
        whole(xy)


def test_subnormal_coordinates_are_no_matter() -> None:
    found = whole(np.array([[0.0, 0.0], [5e-324, 0.0], [0.0, 5e-324]]))
    assert found.indices.tolist() == [1, 2, 0, 2, 0, 1]
    assert found.distances[0] == 5e-324


def test_cells_almost_on_a_line_take_few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    along = np.sort(rng.random(6000)) * 1e3
    xy = np.stack([along, along + rng.normal(0, 1e-9, 6000)], axis=1)
    rounds = []
    look = delaunay_block.Block._look

    def counted(*arguments: Any) -> Any:
        rounds.append(1)
        return look(*arguments)

    monkeypatch.setattr(delaunay_block.Block, "_look", counted)
    section = cut_section(xy, list(range(500, 6000, 500)))
    assert_same(by_tiles(section), whole(xy))
    assert len(rounds) < 20 * len(section.tiles)


def test_huge_and_tiny_units_change_nothing() -> None:
    xy = make_points("clusters", 300, 8)
    expected = whole(xy)
    for factor in (2.0**400, 2.0**-400):
        found = by_tiles(cut_section(xy * factor, [60, 150, 220]))
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.distances, expected.distances * factor)


def test_a_block_reads_what_is_near() -> None:
    xy = make_points("uniform", 40_000, 2)
    section = quadtree_section(xy, 512)
    ptr = section.tiles.ptr
    middle = len(section.tiles) // 2
    DelaunayEdges(section).edges([(int(ptr[middle]), int(ptr[middle + 4]))])
    assert section.rows_read < 20 * 700
