"""Enrichment and co-occurrence of labels against their definitions."""

import time
import tracemalloc
from importlib import import_module
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tisseract.atlas.errors import BudgetExceeded, ColumnNotFound, InvalidArgument
from tisseract.atlas.section import Section
from tisseract.atlas.spatial_statistics import (
    co_occurrence,
    enrichment,
    neighborhood_enrichment,
)
from tisseract.atlas.spatial_statistics.join_counts import join_count_moments
from tisseract.atlas.spatial_statistics.labels import Labels, read_labels

from ..sections import make_raw, write_one
from .statistics_fakes import MatrixGraph, adjacency, cut, graphs, random_matrix

N = 400


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> Section:
    """400 cells on quarter micrometers, some at one position; some labels are missing."""
    xy = np.random.default_rng(2).integers(0, 800, (N, 2)) / 4.0
    xy[:6] = xy[0]
    raw = make_raw(n_obs=N, n_vars=3, positions=xy)
    return write_one(tmp_path_factory.mktemp("labels"), raw, tile_cells=16)


def pairs_by_label(weights: NDArray[Any], labels: Labels) -> NDArray[np.float64]:
    """Sum the weights by the labels of row and column."""
    c = len(labels.categories)
    member = (labels.codes[:, None] == np.arange(c)).astype(np.float64)
    return np.asarray(member.T @ weights @ member)


def test_labels_of_every_kind(section: Section, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tisseract.atlas.spatial_statistics.labels._ROWS", 150)
    table = section.obs(index=False)
    for column, names in (
        ("layer", ("L1", "L2", "WM")),
        ("note", tuple(f"note {k}" for k in range(7))),
        ("good", ("False", "True")),
        ("sure", ("False", "True")),
    ):
        labels = read_labels(section, column)
        assert labels.categories == names
        known = table[column].notna().to_numpy()
        np.testing.assert_array_equal(labels.codes >= 0, known)
        spelled = np.array(names)[labels.codes[known]]
        assert spelled.tolist() == [str(value) for value in table[column][known]]
    kept = np.arange(N) < 50
    some = read_labels(section, "note", kept)
    assert (some.codes[50:] == -1).all()
    assert (some.codes[:50] >= 0).any()


def test_columns_that_are_no_labels_are_refused(section: Section) -> None:
    with pytest.raises(ColumnNotFound, match="Did you mean 'layer'"):
        read_labels(section, "layers")
    for column in ("area", "volume"):
        with pytest.raises(InvalidArgument, match="a categorical, text or boolean column"):
            read_labels(section, column)


@pytest.mark.parametrize("column", ["layer", "note", "good"])
def test_enrichment_counts_edges_between_labels(section: Section, column: str) -> None:
    matrix = random_matrix(N, 5, 3)
    found = neighborhood_enrichment(cut(matrix, 100, 101, 350), section, column, n_perms=20)
    labels = read_labels(section, column)
    np.testing.assert_array_equal(found.counts, pairs_by_label(adjacency(matrix), labels))
    assert found.categories == labels.categories
    assert found.n_obs == (labels.codes >= 0).sum()


def test_shuffles_agree_with_the_moments_over_all_shuffles(section: Section) -> None:
    graph = cut(random_matrix(N, 5, 3, symmetric=True), 100)
    exact = neighborhood_enrichment(graph, section, "layer", n_perms=None)
    n = 2000
    drawn = neighborhood_enrichment(graph, section, "layer", n_perms=n)
    np.testing.assert_array_equal(drawn.counts, exact.counts)
    # Five standard errors of a mean, and of a standard deviation, of n draws.
    assert (np.abs(drawn.mean - exact.mean) <= 5 * exact.std / np.sqrt(n)).all()
    np.testing.assert_allclose(drawn.std, exact.std, rtol=5 / np.sqrt(2 * n))
    error = 5 * np.sqrt(1 / n + exact.zscore**2 / (2 * n))
    assert (np.abs(drawn.zscore - exact.zscore) <= error).all()


@settings(max_examples=25, deadline=None)
@given(graphs(5), st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_moments_are_those_of_every_order(graph: MatrixGraph, codes: list[int]) -> None:
    labels = Labels(np.array(codes, np.int32), ("a", "b", "c"))
    weights = adjacency(graph.matrix)
    every = [
        pairs_by_label(weights, Labels(labels.codes[list(order)], labels.categories))
        for order in permutations(range(5))
    ]
    mean, variance = join_count_moments(graph, labels, 1)
    np.testing.assert_allclose(mean, np.mean(every, axis=0), atol=1e-12)
    np.testing.assert_allclose(variance, np.var(every, axis=0), atol=1e-10)


def test_shuffles_do_not_depend_on_blocks_threads_and_memory(
    section: Section, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = random_matrix(N, 5, 3)
    whole = neighborhood_enrichment(cut(matrix), section, "layer", n_perms=50, threads=1)
    monkeypatch.setattr(enrichment, "_MOST_AT_ONCE", 7)
    monkeypatch.setattr(enrichment, "_SHUFFLED", 3)
    other = neighborhood_enrichment(cut(matrix, 5, 200), section, "layer", n_perms=50, threads=3)
    np.testing.assert_array_equal(whole.mean, other.mean)
    np.testing.assert_array_equal(whole.std, other.std)
    seeded = neighborhood_enrichment(cut(matrix), section, "layer", n_perms=50, seed=1)
    assert (seeded.mean != whole.mean).any()


def test_cells_left_out_and_missing_labels_take_their_edges_along(section: Section) -> None:
    matrix = random_matrix(N, 5, 3)
    kept = np.random.default_rng(0).random(N) < 0.6
    for n_perms in (None, 30):
        found = neighborhood_enrichment(
            cut(matrix, 70), section, "layer", n_perms=n_perms, cells=kept
        )
        labels = read_labels(section, "layer", kept)
        np.testing.assert_array_equal(found.counts, pairs_by_label(adjacency(matrix), labels))
        known = labels.codes >= 0
        assert found.n_obs == known.sum()
        edges = adjacency(matrix)[known][:, known].sum()
        assert found.counts.sum() == edges
        assert found.mean.sum() == pytest.approx(edges)


def test_several_sections_add_up(section: Section, tmp_path: Path) -> None:
    second = write_one(tmp_path, make_raw(n_obs=N, n_vars=3, seed=8))
    matrices = random_matrix(N, 5, 3), random_matrix(N, 4, 4)
    together = [cut(matrix, 90) for matrix in matrices]
    both = neighborhood_enrichment(together, [section, second], "layer", n_perms=None)
    parts = [
        neighborhood_enrichment(graph, where, "layer", n_perms=None)
        for graph, where in zip(together, (section, second), strict=True)
    ]
    np.testing.assert_array_equal(both.counts, parts[0].counts + parts[1].counts)
    np.testing.assert_allclose(both.mean, parts[0].mean + parts[1].mean)
    np.testing.assert_allclose(both.std**2, parts[0].std ** 2 + parts[1].std ** 2)
    drawn = neighborhood_enrichment(together, [section, second], "layer", n_perms=1000)
    assert (np.abs(drawn.mean - both.mean) <= 5 * both.std / np.sqrt(1000)).all()
    np.testing.assert_allclose(drawn.std, both.std, rtol=5 / np.sqrt(2000))
    with pytest.raises(InvalidArgument, match="one graph"):
        neighborhood_enrichment(together, [section], "layer")


def test_enrichment_prints_itself_and_refuses(section: Section) -> None:
    graph = cut(random_matrix(N, 5, 3))
    found = neighborhood_enrichment(graph, section, "layer", n_perms=10)
    assert str(found).startswith("enrichment of 3 labels, ")
    frame = found.to_frame()
    assert list(frame.columns) == ["label", "neighbor", "count", "expected", "zscore"]
    assert frame.set_index(["label", "neighbor"])["count"]["L1", "WM"] == found.counts[0, 2]
    with pytest.raises(InvalidArgument, match="n_perms"):
        neighborhood_enrichment(graph, section, "layer", n_perms=0)
    with pytest.raises(BudgetExceeded, match="shuffling the labels"):
        neighborhood_enrichment(graph, section, "layer", memory_limit="1 MiB")


@pytest.mark.parametrize(
    "wrong", [{"n_perms": 2.5}, {"n_perms": True}, {"seed": -1}, {"seed": 1.5}, {"threads": 1.5}]
)
def test_numbers_of_shuffles_are_whole(section: Section, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=f"{next(iter(wrong))}.* must be a whole number"):
        neighborhood_enrichment(cut(random_matrix(N, 5, 3)), section, "layer", **wrong)
    several: dict[str, Any] = {name: np.int64(2) for name in ("n_perms", "seed", "threads")}
    neighborhood_enrichment(cut(random_matrix(N, 5, 3)), section, "layer", **several)


def many_labels(monkeypatch: pytest.MonkeyPatch, c: int) -> None:
    """Give every section c labels, cell by cell in turn."""

    def labels_of(section: Section, column: str, kept: Any = None) -> Labels:
        del column, kept
        codes = np.arange(section.n_obs, dtype=np.int32) % c
        return Labels(codes, tuple(f"label {k}" for k in range(c)))

    monkeypatch.setattr(enrichment, "read_labels", labels_of)


def test_memory_of_shuffles_does_not_grow_with_their_number(
    section: Section, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_labels(monkeypatch, 300)
    graph = cut(random_matrix(N, 5, 3), 100, 200)
    options: dict[str, Any] = {"threads": 1, "memory_limit": "64 MiB"}
    neighborhood_enrichment(graph, section, "layer", n_perms=2, **options)
    tracemalloc.start()
    neighborhood_enrichment(graph, section, "layer", n_perms=200, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 64 * 2**20  # the counts of all shuffles together are 137 MiB


@pytest.mark.parametrize("n_perms", [3, None])
def test_tables_of_too_many_labels_are_refused(
    section: Section, monkeypatch: pytest.MonkeyPatch, n_perms: int | None
) -> None:
    many_labels(monkeypatch, 70_000)
    graph = cut(random_matrix(N, 5, 3))
    with pytest.raises(BudgetExceeded, match=r"pairs of 70,000 labels.*or name a column of fewer"):
        neighborhood_enrichment(graph, section, "layer", n_perms=n_perms, memory_limit="4 GiB")


def test_moments_of_many_labels_take_no_time() -> None:
    n, c = 3000, 1500
    codes = np.random.default_rng(0).integers(0, c, n).astype(np.int32)
    labels = Labels(codes, tuple(map(str, range(c))))
    graph = cut(random_matrix(n, 5, 3))
    before = time.process_time()
    mean, variance = join_count_moments(graph, labels, 1)
    assert time.process_time() - before < 5  # one fraction after the other took minutes
    assert mean.sum() == pytest.approx(graph.matrix.nnz)
    assert (variance >= 0).all()


def all_pairs(section: Section, labels: Labels, ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pairs up to each distance by labels, from all distances; positions here are exact."""
    xy = section.positions()
    squares = ((xy[:, None] - xy[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    found = [pairs_by_label((squares <= end**2).astype(float), labels) for end in ends[1:]]
    return np.stack(found, axis=2)


@pytest.mark.parametrize("column", ["layer", "note", "good"])
@pytest.mark.parametrize("largest", [3.0, 40.0, 300.0])
def test_co_occurrence_counts_all_pairs(
    section: Section, monkeypatch: pytest.MonkeyPatch, column: str, largest: float
) -> None:
    ends = np.linspace(0.0, largest, 13)
    labels = read_labels(section, column)
    wanted = all_pairs(section, labels, ends)
    module = import_module("tisseract.atlas.spatial_statistics.co_occurrence")
    for own, others, threads in ((2**14, 2**16, 1), (1, 1, 3), (60, 40, 2)):
        monkeypatch.setattr(module, "_OWN_ROWS", own)
        monkeypatch.setattr(module, "_OTHER_ROWS", others)
        found = co_occurrence(section, column, ends, threads=threads)
        np.testing.assert_array_equal(found.counts, wanted)


def test_distances_are_given_or_counted(section: Section) -> None:
    counted = co_occurrence(section, "layer", np.int64(6), max_distance=50)  # type: ignore[arg-type]
    given = co_occurrence(section, "layer", np.linspace(0, 50, 6))
    np.testing.assert_array_equal(counted.counts, given.counts)
    with pytest.raises(InvalidArgument, match="distances and max_distance=50; leave one out"):
        co_occurrence(section, "layer", [0, 10], max_distance=50)
    for wrong in (2.5, np.int64(1), True):
        with pytest.raises(InvalidArgument, match="or their number and max_distance"):
            co_occurrence(section, "layer", wrong, max_distance=50)  # type: ignore[arg-type]


def test_co_occurrence_is_a_ratio_of_chances(section: Section) -> None:
    found = co_occurrence(section, "layer", 6, max_distance=50.0)
    assert found.interval.tolist() == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    counts = found.counts.astype(float)
    for r in range(5):
        pairs = counts[..., r]
        for a in range(3):
            for b in range(3):
                given = pairs[a, b] / pairs[:, b].sum()
                alone = pairs[a].sum() / pairs.sum()
                assert found.occurrence[a, b, r] == pytest.approx(given / alone)
    frame = found.to_frame()
    assert len(frame) == 3 * 3 * 5
    row = frame.iloc[(0 * 3 + 2) * 5 + 4]
    assert (row["label"], row["given"], row["distance"]) == ("L1", "WM", 50.0)
    assert row["occurrence"] == found.occurrence[0, 2, 4]
    assert "5 distances up to 50" in str(found)


def test_co_occurrence_of_some_cells(section: Section) -> None:
    kept = np.random.default_rng(0).random(N) < 0.5
    ends = np.array([0.0, 20.0, 60.0])
    found = co_occurrence(section, "layer", ends, cells=kept)
    labels = read_labels(section, "layer", kept)
    np.testing.assert_array_equal(found.counts, all_pairs(section, labels, ends))


def test_without_a_distance_the_section_says_how_far(section: Section) -> None:
    x0, y0, x1, y1 = section.bounds
    found = co_occurrence(section, "layer", 6)
    assert found.interval[-1] == pytest.approx(np.hypot(x1 - x0, y1 - y0) / 4, rel=0.05)
    module = import_module("tisseract.atlas.spatial_statistics.co_occurrence")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CELLS_WITHIN", 10)
        assert co_occurrence(section, "layer", 6).interval[-1] < found.interval[-1]


def test_labels_that_no_cell_has_do_not_co_occur(section: Section) -> None:
    whole = co_occurrence(section, "layer", 3, max_distance=50.0)
    labels = read_labels(section, "layer")
    kept = labels.codes != 0
    found = co_occurrence(section, "layer", 3, max_distance=50.0, cells=kept)
    assert found.categories == whole.categories[1:]
    assert found.counts.shape == (2, 2, 2)
    np.testing.assert_array_equal(found.counts, whole.counts[1:, 1:])


@pytest.mark.parametrize(
    "interval", [1, [3.0], [-1.0, 2.0], [0.0, 0.0], [0.0, np.nan], [0.0, np.inf], [0.0, 9.0, 5.0]]
)
def test_bad_distances_are_refused(section: Section, interval: Any) -> None:
    with pytest.raises(InvalidArgument, match="distances"):
        co_occurrence(section, "layer", interval)
