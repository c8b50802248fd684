"""Radius graphs over tiles equal the definition, and squidpy, whatever the tiles."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tisseract.atlas.errors import InvalidArgument
from tisseract.atlas.graph.edges import Edges
from tisseract.atlas.graph.search import pairs
from tisseract.atlas.graph.search.halo import surround
from tisseract.atlas.graph.search.pairs import least_square
from tisseract.atlas.graph.search.radius_source import (
    RadiusEdges,
    check_radius,
    cut_by_edges,
    expected_degree,
)
from tisseract.atlas.graph.search.within import search_reach
from tisseract.atlas.quadtree import TileTable, tight_boxes

from .graph_fakes import FakeSection, cut_section, quadtree_section
from .test_graph_nearest import SHAPES, make_points
from .test_graph_real import all_sections


def whole_d2(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances of all pairs, each operation rounded once."""
    dx = xy[:, None, 0] - xy[None, :, 0]
    dy = xy[:, None, 1] - xy[None, :, 1]
    with np.errstate(over="ignore"):
        return np.asarray(dx * dx + dy * dy)


def by_definition(
    xy: NDArray[np.float64], shortest: float, longest: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rows, columns and lengths of all edges, from all pairs, 1,000 rows at a time."""
    found = []
    for at in range(0, len(xy), 1000):
        part = xy[at : at + 1000]
        dx, dy = xy[:, 0] - part[:, 0, None], xy[:, 1] - part[:, 1, None]
        with np.errstate(over="ignore"):
            d2 = dx * dx + dy * dy
        near = (d2 <= longest * longest) & (np.sqrt(d2) >= shortest)
        near[np.arange(len(part)), at + np.arange(len(part))] = False
        rows, columns = np.nonzero(near)
        found.append((rows + at, columns, np.sqrt(d2[near])))
    rows, columns, lengths = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return rows, columns, lengths


def assert_exact(section: FakeSection, shortest: float, longest: float) -> Edges:
    """Compare all edges with the definition, distances bit by bit, and the counts."""
    rows, columns, lengths = by_definition(section.xy, shortest, longest)
    source = RadiusEdges(section, shortest, longest)
    edges = source.edges([(0, section.n_obs)])
    degrees = np.bincount(rows, minlength=section.n_obs)
    np.testing.assert_array_equal(np.diff(edges.indptr), degrees)
    np.testing.assert_array_equal(edges.indices, columns)
    np.testing.assert_array_equal(edges.distances, lengths)
    np.testing.assert_array_equal(source.counts([(0, section.n_obs)]), degrees)
    return edges


def some_radius(xy: NDArray[np.float64], share: float) -> float:
    """Length that lies between two cells, so that some pair ties with it exactly."""
    d2 = whole_d2(xy[:300])
    lengths = np.unique(np.sqrt(d2[np.triu_indices(len(d2), 1)]))
    lengths = lengths[lengths > 0]
    return float(lengths[int(share * (lengths.size - 1))]) if lengths.size else 1.0


@given(
    shape=st.sampled_from(SHAPES),
    n=st.integers(1, 220),
    share=st.floats(0.0, 0.6),
    lower=st.sampled_from([0.0, 0.3, 0.9]),
    tile_cells=st.sampled_from([1, 8, 64]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80, deadline=None)
def test_tiles_do_not_show(
    shape: str, n: int, share: float, lower: float, tile_cells: int, seed: int
) -> None:
    xy = make_points(shape, n, seed)
    longest = some_radius(xy, share**2)
    assert_exact(quadtree_section(xy, tile_cells), lower * longest, longest)


@given(
    shape=st.sampled_from(SHAPES),
    n=st.integers(2, 150),
    share=st.floats(0.0, 0.5),
    cuts=st.lists(st.integers(1, 149), max_size=12),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_any_partition_will_do(
    shape: str, n: int, share: float, cuts: list[int], seed: int
) -> None:
    xy = make_points(shape, n, seed)
    xy = xy[np.random.default_rng(seed).permutation(n)]  # boxes overlap all over
    section = cut_section(xy, [cut for cut in cuts if cut < n])
    assert_exact(section, 0.0, some_radius(xy, share))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile_cells", [8, 64, 512, 4096])
def test_thousands_of_points(shape: str, tile_cells: int) -> None:
    xy = make_points(shape, 1200 if shape != "duplicates" else 500, 5)
    longest = some_radius(xy, 0.004)
    assert_exact(quadtree_section(xy, tile_cells), 0.5 * longest, longest)


@pytest.mark.slow
@given(
    shape=st.sampled_from(SHAPES),
    n=st.integers(1, 5000),
    share=st.floats(0.0, 0.1),
    lower=st.sampled_from([0.0, 0.5]),
    tile_cells=st.sampled_from([8, 64, 512, 4096]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=500, deadline=None)
def test_hundreds_of_sections(
    shape: str, n: int, share: float, lower: float, tile_cells: int, seed: int
) -> None:
    xy = make_points(shape, n if shape != "duplicates" else n // 5 + 1, seed)
    longest = some_radius(xy, share**2)
    assert_exact(quadtree_section(xy, tile_cells), lower * longest, longest)


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_lengths_that_tie_with_the_radius(offset: float) -> None:
    """A lattice of 0.1: whether 3 x 0.1 is within 0.3 is for rounding to say, for all alike."""
    xy = make_points("lattice", 900, 0) + offset
    for longest in (0.1, 0.3, 0.5, np.sqrt(0.02), np.hypot(0.1, 0.2)):
        assert_exact(quadtree_section(xy, 64), 0.0, float(longest))
        assert_exact(quadtree_section(xy, 64), 0.1, float(longest) + 1e-3)


@given(
    runs=st.lists(st.tuples(st.integers(0, 299), st.integers(0, 40)), max_size=6),
    tile_cells=st.sampled_from([8, 64]),
)
@settings(max_examples=40, deadline=None)
def test_some_rows_are_rows_of_the_whole(runs: list[tuple[int, int]], tile_cells: int) -> None:
    section = quadtree_section(make_points("clusters", 300, 1), tile_cells)
    checked: list[tuple[int, int]] = []
    end = 0
    for start, length in sorted(runs):
        if start >= end:
            checked.append((start, end := min(300, start + length)))
    source = RadiusEdges(section, 0.0, some_radius(section.xy, 0.1))
    whole = source.edges([(0, 300)]).to_csr(300)
    part = source.edges(checked).to_csr(300)
    rows = np.concatenate([np.arange(0), *(np.arange(a, b) for a, b in checked)])
    assert_same(part, whole[rows])
    np.testing.assert_array_equal(source.counts(checked), np.diff(part.indptr))


def assert_same(ours: csr_array, theirs: csr_array) -> None:
    np.testing.assert_array_equal(ours.indptr, theirs.indptr)
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_array_equal(ours.data, theirs.data)


def test_symmetric_bit_by_bit() -> None:
    xy = make_points("uniform", 900, 3) * 123.456 + 1e6
    matrix = assert_exact(quadtree_section(xy, 64), 0.0, 9.0).to_csr(900)
    assert matrix.nnz > 900
    transposed = matrix.T.tocsr()
    transposed.sort_indices()
    assert_same(matrix, transposed)


@pytest.mark.parametrize("weaker", [0.97, 0.5])
def test_a_shorter_reach_is_caught(monkeypatch: pytest.MonkeyPatch, weaker: float) -> None:
    """Neighbors are missed when the band is too thin, or the square that is searched too small."""
    section = quadtree_section(make_points("uniform", 1000, 1), 8)
    counts_by_parts(section)
    monkeypatch.setattr(
        pairs, "surround", lambda section, own, reach: surround(section, own, reach * weaker)
    )
    with pytest.raises(AssertionError):
        counts_by_parts(section)
    monkeypatch.undo()
    monkeypatch.setattr(pairs, "search_reach", lambda radius: search_reach(radius) * weaker)
    with pytest.raises(AssertionError):
        assert_exact(section, 0.0, 0.05)


def counts_by_parts(section: FakeSection) -> None:
    """Compare counts of 100 rows at a time, each with a band of its own, with the definition."""
    rows = by_definition(section.xy, 0.0, 0.05)[0]
    wanted = np.bincount(rows, minlength=section.n_obs)
    source = RadiusEdges(section, 0.0, 0.05)
    found = [source.counts([(at, at + 100)]) for at in range(0, section.n_obs, 100)]
    np.testing.assert_array_equal(np.concatenate(found), wanted)


def test_cells_at_one_position_are_neighbors_at_zero() -> None:
    xy = np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    section = cut_section(xy, [1, 2])
    edges = RadiusEdges(section, 0.0, 1.0).edges([(0, 4)])
    assert edges.indices.tolist() == [1, 3, 0, 3, 0, 1]
    assert edges.distances.tolist() == [0.0] * 6
    far = RadiusEdges(section, 1e-9, 5.0).edges([(0, 4)])
    assert far.indices.tolist() == [2, 2, 0, 1, 3, 2]
    assert far.distances.tolist() == [5.0] * 6


def test_one_cell_and_no_row() -> None:
    section = cut_section(np.array([[1.0, 2.0]]), [])
    source = RadiusEdges(section, 0.0, 10.0)
    assert source.edges([(0, 1)]).indptr.tolist() == [0, 0]
    assert source.edges([]).indptr.tolist() == [0]
    assert source.counts([]).size == 0
    assert source.prepare([], lambda *_: []) is source
    assert pickle.loads(pickle.dumps(source)).longest == 10.0


def test_squares_that_underflow_and_overflow() -> None:
    xy = np.array([[0.0, 0.0], [1e-170, 0.0], [1e200, 0.0], [-1e200, 3.0], [2e-170, 0.0]])
    with np.errstate(over="ignore"):
        for longest in (1e-169, 1e-3, 1e150):
            assert_exact(cut_section(xy, [1, 2, 3]), 0.0, longest)


@given(st.floats(0.0, 1e150))
@settings(max_examples=200, deadline=None)
def test_lower_bound_of_the_square(shortest: float) -> None:
    least = least_square(shortest)
    assert np.sqrt(least) >= shortest
    assert least == 0.0 or np.sqrt(np.nextafter(least, 0.0)) < shortest


def test_far_cells_do_not_make_a_dense_nest_slow() -> None:
    """20,000 cells in a nest, few far away: the grid over all is a single cell of the nest."""
    rng = np.random.default_rng(2)
    nest = rng.random((20_000, 2))
    section = cut_section(np.concatenate([[[-1e9, -1e9]], nest, [[1e9, 1e9]]]), [1, 20_001])
    parts = list(pairs._split(section.xy, 0.01))
    assert len(parts) > 2
    counts = RadiusEdges(section, 0.0, 0.01).counts([(0, section.n_obs)])
    alone = RadiusEdges(cut_section(nest, []), 0.0, 0.01).counts([(0, 20_000)])
    np.testing.assert_array_equal(counts[1:-1], alone)
    assert counts[0] == counts[-1] == 0


@given(
    sizes=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=8),
    most=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_groups_of_rows_by_their_edges(sizes: list[tuple[int, int]], most: int, seed: int) -> None:
    starts = np.cumsum([gap + size for gap, size in sizes])
    runs = [(int(end) - size, int(end)) for end, (_, size) in zip(starts, sizes, strict=True)]
    rows = np.concatenate([np.arange(0), *(np.arange(a, b) for a, b in runs)])
    counts = np.random.default_rng(seed).integers(0, 20, rows.size)
    groups = cut_by_edges(runs, counts, most)
    found = [np.concatenate([np.arange(a, b) for a, b in group]) for group in groups]
    np.testing.assert_array_equal(np.concatenate([np.arange(0), *found]), rows)
    at = 0
    for group in found:
        total = counts[at : at + group.size].sum()
        at += group.size
        assert total <= most or group.size == 1
        assert at == rows.size or total + counts[at] > most


def test_a_dense_nest_comes_in_pieces() -> None:
    xy = np.concatenate([np.zeros((300, 2)), make_points("uniform", 500, 0) + 1.0])
    source = RadiusEdges(cut_section(xy, [250, 400]), 0.0, 0.05)
    indptr, pieces = source.stream([(0, 800)], 5000)
    parts = list(pieces)
    np.testing.assert_array_equal(indptr, source.edges([(0, 800)]).indptr)
    assert max(part.indices.size for part in parts) <= 5000
    assert len(parts) > 15
    assert_same(Edges.concatenate(parts).to_csr(800), source.edges([(0, 800)]).to_csr(800))


class BlockSection(FakeSection):
    """A section that also knows boxes of 32 rows, rounded outwards as the store rounds them."""

    @property
    def blocks(self) -> TileTable:
        ptr = np.unique(np.append(np.arange(0, self.n_obs, 32), self.n_obs))
        boxes = tight_boxes(self.xy, ptr).astype(np.float32)
        boxes[:, :2] = np.nextafter(boxes[:, :2], np.float32(-np.inf))
        boxes[:, 2:] = np.nextafter(boxes[:, 2:], np.float32(np.inf))
        return TileTable(ptr, boxes.astype(np.float64))


@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_of_blocks_are_used(shape: str) -> None:
    xy = make_points(shape, 700, 4)
    section = BlockSection(xy, quadtree_section(xy, 512).tiles)
    assert_exact(section, 0.0, some_radius(xy, 0.005))
    part = [(100, 150), (600, 640)]
    section.rows_read = 0
    RadiusEdges(section, 0.0, some_radius(xy, 0.0)).counts(part)
    assert section.rows_read < 700 or shape in {"duplicates", "lattice"}


def test_only_what_is_near_is_read() -> None:
    section = quadtree_section(make_points("uniform", 30_000, 2), 512)
    RadiusEdges(section, 0.0, 0.01).edges([(0, int(section.tiles.ptr[16]))])
    assert section.rows_read <= int(section.tiles.ptr[16]) * 2.5


@pytest.mark.parametrize(
    "radius", [0, -1.0, np.nan, np.inf, (5, 5), (-1, 5), (1, np.inf), (0, 0), "30", True, (1, 2, 3)]
)
def test_radii_that_make_no_sense(radius: Any) -> None:
    with pytest.raises(InvalidArgument, match="radius must be") as caught:
        check_radius(radius, "um")
    assert repr(radius) in str(caught.value)
    assert " um;" in str(caught.value)


def test_radii_as_squidpy_takes_them() -> None:
    assert check_radius(np.float32(30)) == (0.0, 30.0)
    assert check_radius([30, 10]) == (10.0, 30.0)
    assert check_radius((0, 30)) == check_radius(30)
    with pytest.raises(InvalidArgument, match="but got -3;"):
        check_radius(-3)


@pytest.mark.parametrize("degree", [0.1, 10.0, 300.0, 5000.0])
@pytest.mark.parametrize("tile_cells", [64, 4096])
def test_expected_degree_of_even_tissue(degree: float, tile_cells: int) -> None:
    xy = make_points("uniform", 20_000, 1)
    section = quadtree_section(xy, tile_cells)
    longest = float(np.sqrt(degree / 20_000 / np.pi))
    true = RadiusEdges(section, 0.0, longest).counts([(0, 20_000)])
    expected = expected_degree(section.tiles, longest)
    mean = float(expected @ section.tiles.n_cells) / 20_000
    assert 0.85 <= mean / true.mean() <= 1.3
    assert expected.max() <= 20_000 - 1


def test_expected_degree_of_odd_tiles() -> None:
    everyone = quadtree_section(np.zeros((50, 2)), 8)
    np.testing.assert_allclose(expected_degree(everyone.tiles, 1.0), 49.0)
    line = np.stack([np.sort(np.random.default_rng(0).random(2000)), np.zeros(2000)], axis=1)
    np.testing.assert_allclose(
        expected_degree(quadtree_section(line, 64).tiles, 0.01)[3:-3], 40.0, rtol=0.35
    )
    far = cut_section(np.array([[0.0, 0.0], [1e9, 0.0], [1e9, 1.0]]), [1, 2])
    assert expected_degree(far.tiles, 1e3).tolist() == [0.0, 1.0, 1.0]
    assert expected_degree(far.tiles, 1e3).sum() == 2.0


@pytest.mark.real
@pytest.mark.slow
def test_radius_equals_squidpy(real_data: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        builders = pytest.importorskip("squidpy.gr.neighbors")
    sections = all_sections(real_data)
    assert len(sections) >= 40
    for name, xy in sections.items():
        section = quadtree_section(xy, 512)
        longest = 2.0 * median_gap(xy)
        compare(builders, name, section, longest, (0.0, longest))
        interval = (0.75 * longest, 1.25 * longest)
        compare(builders, name, section, interval, interval)


def median_gap(xy: NDArray[np.float64]) -> float:
    """Median distance to the nearest other position."""
    from scipy.spatial import cKDTree

    lengths = cKDTree(np.unique(xy, axis=0)).query(np.unique(xy, axis=0), 2)[0]
    return float(np.median(lengths[:, 1]))


def compare(
    builders: Any, name: str, section: FakeSection, radius: Any, bounds: tuple[float, float]
) -> None:
    """Compare edges and lengths; edges of length zero are in squidpy's adjacency alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adjacency, lengths = builders.RadiusBuilder(radius=radius).build(section.xy)
    adjacency.sort_indices()
    lengths.sort_indices()
    ours = RadiusEdges(section, *bounds).edges([(0, section.n_obs)])
    np.testing.assert_array_equal(ours.indptr, adjacency.indptr, err_msg=name)
    np.testing.assert_array_equal(ours.indices, adjacency.indices, err_msg=name)
    apart = ours.distances > 0
    np.testing.assert_array_equal(ours.indices[apart], lengths.indices, err_msg=name)
    np.testing.assert_allclose(ours.distances[apart], lengths.data, rtol=1e-12, err_msg=name)
