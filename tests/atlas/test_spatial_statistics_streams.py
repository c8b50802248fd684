"""Degrees, edge lengths, components and moments of streamed graphs against the whole matrix."""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csgraph, csr_array

from tisseract.atlas.errors import Corrupt, InvalidArgument
from tisseract.atlas.graph.edges import Edges
from tisseract.atlas.quadtree import Runs
from tisseract.atlas.spatial_statistics import (
    connected_components,
    degree_histogram,
    edge_length_histogram,
)
from tisseract.atlas.spatial_statistics.moments import graph_moments
from tisseract.atlas.spatial_statistics.row_graph import map_in_order

from .statistics_fakes import MatrixGraph, adjacency, cut, graphs, random_matrix


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(1, 3))
def test_degrees_are_those_of_the_matrix(graph: MatrixGraph, threads: int) -> None:
    degree = np.diff(graph.matrix.indptr)
    found = degree_histogram(graph, threads=threads)
    np.testing.assert_array_equal(found.counts, np.bincount(degree))
    assert found.n_obs == graph.n_obs
    assert found.n_edges == graph.matrix.nnz
    assert found.mean == pytest.approx(degree.mean())
    assert found.n_isolated == (degree == 0).sum()


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(1, 3), st.integers(1, 9))
def test_lengths_are_counted_as_numpy_counts(graph: MatrixGraph, threads: int, bins: int) -> None:
    lengths = graph.matrix.data
    for wanted in (bins, [0.0, 0.25, 1.0, 5.0, 9.75], [2.0, 3.5]):
        found = edge_length_histogram(graph, wanted, threads=threads)
        counts, _ = np.histogram(lengths, found.bins)
        np.testing.assert_array_equal(found.counts, counts)
        assert found.n == lengths.size
        assert found.total == pytest.approx(lengths.sum())
        if lengths.size:
            assert (found.min, found.max) == (lengths.min(), lengths.max())
            assert found.mean == pytest.approx(lengths.mean())
        else:
            assert np.isnan([found.min, found.max, found.mean]).all()
    edges = edge_length_histogram(graph, bins).bins
    if lengths.size:
        np.testing.assert_allclose(edges, np.histogram(lengths, bins)[1])


@settings(max_examples=100, deadline=None)
@given(graphs(), st.integers(1, 3))
def test_components_are_those_of_scipy(graph: MatrixGraph, threads: int) -> None:
    ones = csr_array(adjacency(graph.matrix))
    n, labels = csgraph.connected_components(ones, directed=True, connection="weak")
    found = connected_components(graph, threads=threads)
    assert found.n_components == n
    np.testing.assert_array_equal(found.sizes, np.bincount(found.labels))
    # One label of ours for one of theirs, and ours are numbered by first row.
    assert len({*zip(labels.tolist(), found.labels.tolist(), strict=True)}) == n
    _, first = np.unique(found.labels, return_index=True)
    assert (np.diff(first) > 0).all()


def test_a_long_chain_is_one_component() -> None:
    n = 5000
    chain = csr_array((np.ones(n - 1), (np.arange(n - 1, 0, -1), np.arange(n - 2, -1, -1))))
    found = connected_components(cut(csr_array(chain, shape=(n, n)), 7, 1000, 1001))
    assert found.sizes.tolist() == [n]
    assert found.to_frame()["n_cells"].tolist() == [n]


def dense_moments(weights: Any) -> tuple[float, float, float]:
    """s0, s1, s2 by their definitions."""
    both = weights + weights.T
    ends = weights.sum(axis=0) + weights.sum(axis=1)
    return float(weights.sum()), float((both**2).sum() / 2), float((ends**2).sum())


@settings(max_examples=100, deadline=None)
@given(graphs(), st.booleans(), st.integers(1, 3))
def test_moments_are_those_of_the_matrix(
    graph: MatrixGraph, normalized: bool, threads: int
) -> None:
    weights = adjacency(graph.matrix)
    if normalized:
        weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1)
    found = graph_moments(graph, normalized=normalized, threads=threads)
    np.testing.assert_allclose((found.s0, found.s1, found.s2), dense_moments(weights), rtol=1e-12)
    np.testing.assert_allclose(found.row_sums, weights.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.column_sums, weights.sum(axis=0), rtol=1e-12)


@settings(max_examples=50, deadline=None)
@given(graphs(), st.data())
def test_cells_left_out_leave_the_graph_of_the_others(
    graph: MatrixGraph, data: st.DataObject
) -> None:
    n = graph.n_obs
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    kept[data.draw(st.integers(0, n - 1))] = True
    alone = cut(graph.matrix[kept][:, kept])
    for compute in (degree_histogram, edge_length_histogram):
        here, there = compute(graph, cells=kept), compute(alone)
        np.testing.assert_array_equal(here.counts, there.counts)
    found, wanted = connected_components(graph, cells=kept), connected_components(alone)
    np.testing.assert_array_equal(found.labels[kept], wanted.labels)
    assert (found.labels[~kept] == -1).all()
    np.testing.assert_array_equal(found.sizes, wanted.sizes)


def test_results_come_in_order_and_do_not_pile_up() -> None:
    made, seen = [0], 0
    lock = threading.Lock()

    def work(task: int) -> int:
        with lock:
            made[0] += 1
        return task

    for task in map_in_order(work, list(range(100)), 3):
        assert task == seen
        seen += 1
        assert made[0] <= seen + 4
    assert seen == 100


@dataclass
class DamagedGraph(MatrixGraph):
    """A graph whose second block cannot be read."""

    def edges(self, runs: Runs) -> Edges:
        if runs[0][0] == 10:
            raise Corrupt("columns within 30 cells are wanted, but got others")
        return super().edges(runs)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_damaged_block_fails_the_whole(threads: int) -> None:
    graph = DamagedGraph(random_matrix(30, 3, 0), (0, 10, 20, 30))
    with pytest.raises(Corrupt):
        connected_components(graph, threads=threads)


@pytest.mark.parametrize("bins", [0, [1.0], [1.0, 1.0], [2.0, 1.0]])
def test_bad_bins_are_refused(bins: Any) -> None:
    with pytest.raises(InvalidArgument, match="bins must be"):
        edge_length_histogram(cut(random_matrix(10, 3, 0)), bins)


def test_bad_masks_and_threads_are_refused() -> None:
    graph = cut(random_matrix(10, 3, 0))
    for cells in (np.ones(9, bool), np.ones(10)):
        with pytest.raises(InvalidArgument, match="cells must be 10 booleans"):
            degree_histogram(graph, cells=cells)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="keeps none of 10"):
        degree_histogram(graph, cells=np.zeros(10, bool))
    with pytest.raises(InvalidArgument, match="threads"):
        degree_histogram(graph, threads=0)


def test_results_print_themselves() -> None:
    graph = cut(random_matrix(60, 3, 0), 20)
    assert "60 cells" in str(degree_histogram(graph))
    assert "on average" in str(edge_length_histogram(graph))
    assert "components: " in str(connected_components(graph))
    assert degree_histogram(graph).to_frame()["n_cells"].sum() == 60
    frame = edge_length_histogram(graph, 4).to_frame()
    assert list(frame.columns) == ["start", "stop", "n_edges"]
    assert frame["n_edges"].sum() == graph.matrix.nnz
