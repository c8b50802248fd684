"""kNN over tiles equals kNN by definition, whatever the tiles."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tisseract.atlas.errors import Corrupt
from tisseract.atlas.graph.search import certificate, nearest
from tisseract.atlas.graph.search.nearest import ordered_d2
from tisseract.atlas.graph.search.wider import Candidates

from .graph_fakes import FakeSection, brute_force, cut_section, morton_order, quadtree_section

SHAPES = ("uniform", "clusters", "lattice", "line", "duplicates", "outliers", "offset")


def make_points(shape: str, n: int, seed: int) -> NDArray[np.float64]:
    """Points of a named shape, in space-filling order."""
    rng = np.random.default_rng(seed)
    if shape == "clusters":
        centers = rng.random((4, 2)) * 1e3
        xy = centers[rng.integers(0, 4, n)] + rng.normal(0, 1, (n, 2)) * 10.0 ** rng.integers(-3, 2)
    elif shape == "lattice":
        side = int(np.ceil(np.sqrt(n)))
        xy = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)[:n] * 0.1
    elif shape == "line":
        xy = np.outer(rng.random(n), rng.choice([0.0, 1.0], 2) + np.array([0.0, 0.3]))
    elif shape == "duplicates":
        xy = rng.integers(0, 4, (n, 2)).astype(np.float64)
    elif shape == "outliers":
        xy = rng.random((n, 2))
        xy[: 1 + n // 50] *= 1e6
    elif shape == "offset":
        xy = rng.random((n, 2)) + 1e9
    else:
        xy = rng.random((n, 2))
    xy = np.asarray(xy, dtype=np.float64)
    return xy[morton_order(xy)]


def assert_exact(section: FakeSection, k: int, parts: int = 1) -> None:
    """Compare with the definition: rows in order of nearness and squared distances, bit by bit.

    The rows are asked for in so many blocks of whole tiles, each on its own.
    """
    rows, d2 = brute_force(section.xy, k)
    cuts = np.linspace(0, len(section.tiles), min(parts, len(section.tiles)) + 1).astype(int)
    ptr = section.tiles.ptr[cuts].tolist()
    found = [ordered_d2(section, [run], k) for run in pairwise(ptr)]
    np.testing.assert_array_equal(np.concatenate([part.row for part in found]), rows)
    np.testing.assert_array_equal(np.concatenate([part.d2 for part in found]), d2)


def assert_all_exact(points: list[NDArray[np.float64]], k: int) -> None:
    """Compare many small sections, cut into tiles of 8, tile by tile with the definition."""
    for xy in points:
        assert_exact(quadtree_section(xy, 8), k, parts=xy.shape[0])


@given(
    shape=st.sampled_from(SHAPES),
    n=st.integers(1, 220),
    k=st.integers(1, 12),
    tile_cells=st.sampled_from([1, 3, 8, 64]),
    parts=st.sampled_from([1, 2, 5]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_tiles_do_not_show(
    shape: str, n: int, k: int, tile_cells: int, parts: int, seed: int
) -> None:
    assert_exact(quadtree_section(make_points(shape, n, seed), tile_cells), k, parts)


@given(
    shape=st.sampled_from(SHAPES),
    n=st.integers(2, 150),
    k=st.integers(1, 8),
    cuts=st.lists(st.integers(1, 149), max_size=12),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80, deadline=None)
def test_any_partition_will_do(shape: str, n: int, k: int, cuts: list[int], seed: int) -> None:
    xy = make_points(shape, n, seed)
    xy = xy[np.random.default_rng(seed).permutation(n)]  # boxes overlap all over
    assert_exact(cut_section(xy, [cut for cut in cuts if cut < n]), k, parts=3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile_cells", [64, 512, 4096])
def test_thousands_of_points(shape: str, tile_cells: int) -> None:
    assert_exact(quadtree_section(make_points(shape, 1200, 5), tile_cells), 10, parts=3)


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
    whole = ordered_d2(section, [(0, 300)], 5)
    part = ordered_d2(section, checked, 5)
    rows = np.concatenate([np.arange(0), *(np.arange(a, b) for a, b in checked)])
    np.testing.assert_array_equal(part.row, whole.row[rows])
    np.testing.assert_array_equal(part.d2, whole.d2[rows])


@pytest.mark.parametrize("expected", [0.0, 0.3, 0.8])
def test_a_weaker_certificate_is_caught(monkeypatch: pytest.MonkeyPatch, expected: float) -> None:
    """Boxes taken for 30 % farther than they are, with bands of any width: it must show."""
    monkeypatch.setattr(nearest, "_EXPECTED", expected)
    points = [make_points("uniform", 200, seed) for seed in range(20)]
    assert_all_exact(points, 6)
    monkeypatch.setattr(nearest, "SHRINK", certificate.SHRINK * 1.7)
    with pytest.raises(AssertionError):
        assert_all_exact(points, 6)


def test_an_unstrict_certificate_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A box at exactly d_k may hold the tied point that wins: leaving it unread must show."""
    monkeypatch.setattr(nearest, "_EXPECTED", 0.0)
    points = [make_points(shape, n, n) for shape in ("duplicates", "lattice") for n in (100, 196)]
    points = [xy * 10.0 for xy in points]
    assert_all_exact(points, 3)
    monkeypatch.setattr(nearest, "SHRINK", certificate.SHRINK * (1.0 + 1e-9))
    with pytest.raises(AssertionError):
        assert_all_exact(points, 3)


@given(
    shape=st.sampled_from(SHAPES),
    n=st.integers(1, 220),
    k=st.integers(1, 12),
    tile_cells=st.sampled_from([1, 8, 64]),
    expected=st.sampled_from([0.0, 0.1, 0.5, 1.0, 30.0]),
    rows=st.sampled_from([1, 20, 131_072]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_any_band_will_do(
    shape: str, n: int, k: int, tile_cells: int, expected: float, rows: int, seed: int
) -> None:
    """Too narrow a band, or none, or one that is cut off, costs time and changes nothing."""
    section = quadtree_section(make_points(shape, n, seed), tile_cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "_EXPECTED", expected)
        patch.setattr(nearest, "_BAND_ROWS", rows)
        patch.setattr(nearest, "_GROUP_ROWS", 40)
        patch.setattr(nearest, "_ROUND_ROWS", 50)
        assert_exact(section, k, parts=3)


def test_columns_ascend_with_their_distances() -> None:
    section = quadtree_section(make_points("clusters", 500, 4), 64)
    edges = nearest.nearest(section, [(100, 400)], 7)
    table = ordered_d2(section, [(100, 400)], 7)
    order = np.argsort(table.row, axis=1)
    np.testing.assert_array_equal(edges.indices, np.take_along_axis(table.row, order, 1).ravel())
    d2 = np.take_along_axis(table.d2, order, 1).ravel()
    np.testing.assert_array_equal(edges.distances, np.sqrt(d2))


def test_ties_go_to_smaller_x_then_y_then_row() -> None:
    xy = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [-1.0, 0.0]])
    found = ordered_d2(cut_section(xy, [2, 4]), [(0, 1)], 4)
    assert found.row.tolist() == [[2, 5, 4, 3]]


def test_few_cells_connect_with_everybody() -> None:
    xy = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]])
    found = ordered_d2(cut_section(xy, [1, 2]), [(0, 3)], 10)
    assert found.row.tolist() == [[1, 2], [0, 2], [1, 0]]
    assert ordered_d2(cut_section(xy[:1], []), [(0, 1)], 10).row.shape == (1, 0)


def test_thousands_of_duplicates_stay_cheap() -> None:
    xy = np.zeros((20_000, 2))
    found = ordered_d2(cut_section(xy, []), [(0, 20_000)], 3)
    assert found.row[7].tolist() == [0, 1, 2]
    assert found.row[1].tolist() == [0, 2, 3]
    assert not found.d2.any()


def test_squares_that_underflow_and_overflow() -> None:
    xy = np.array([[0.0, 0.0], [1e-170, 0.0], [1e200, 0.0], [-1e200, 3.0], [2e-170, 0.0]])
    with np.errstate(over="ignore"):
        for parts in (1, 2, 4):
            assert_exact(cut_section(xy, [1, 2, 3]), 4, parts)


def test_an_outlier_does_not_read_the_section_into_memory() -> None:
    xy = np.concatenate([np.random.default_rng(0).random((40_000, 2)), [[1e6, 1e6]]])
    section = quadtree_section(xy[morton_order(xy)], 256)
    last = section.n_obs - 1
    ordered_d2(section, [(last, last + 1)], 10)
    assert section.rows_read < 12 * 256


def test_far_cells_in_a_block_do_not_read_the_section() -> None:
    rng = np.random.default_rng(1)
    xy = rng.random((60_000, 2)) * 1e3
    xy[rng.integers(0, 60_000, 5)] *= 1e4
    section = quadtree_section(xy[morton_order(xy)], 512)
    rows = int(section.tiles.ptr[-20]), section.n_obs
    ordered_d2(section, [rows], 10)
    assert section.rows_read < 4 * (rows[1] - rows[0])


def test_little_is_read_around_a_block() -> None:
    section = quadtree_section(make_points("uniform", 30_000, 2), 512)
    ordered_d2(section, [(0, section.n_obs)], 10)
    assert section.rows_read == section.n_obs
    section.rows_read = 0
    ordered_d2(section, [(0, int(section.tiles.ptr[16]))], 10)
    assert section.rows_read <= int(section.tiles.ptr[16]) * 2.5


def test_positions_that_are_not_finite_are_refused() -> None:
    section = quadtree_section(make_points("uniform", 50, 0), 8)
    section.xy[7, 1] = np.nan
    with pytest.raises(Corrupt, match="finite positions"):
        ordered_d2(section, [(0, 50)], 3)


def test_the_table_starts_empty() -> None:
    table = Candidates.empty(2, 3)
    assert np.isinf(table.d2).all()
    assert (table.row == -1).all()
