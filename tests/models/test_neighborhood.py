"""Halos and shells: exact for any block, against a breadth-first search over the whole graph."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from tisseract.atlas.errors import InvalidArgument
from tisseract.models.domains.smoothing import (
    majority,
    neighborhood_mean,
    smooth_section,
    smoothed,
)
from tisseract.models.rows.file import RowFile, gaps_closed
from tisseract.models.sampling.neighborhood import expand


class WholeGraph:
    """A graph in memory behind the protocol that models read."""

    def __init__(self, matrix: sp.csr_array) -> None:
        self.matrix = matrix

    def rows(self, runs: Sequence[tuple[int, int]], /) -> sp.csr_array:
        return self.matrix[np.concatenate([np.arange(a, b) for a, b in runs])]


def knn_graph(n: int = 60, k: int = 4, seed: int = 0) -> WholeGraph:
    points = np.random.default_rng(seed).random((n, 2))
    points = points[np.lexsort((points[:, 1], np.floor(points[:, 0] * 4)))]
    _, near = cKDTree(points).query(points, k + 1)
    rows = np.repeat(np.arange(n), k)
    distances = np.zeros(n * k)  # stored zeros: coincident cells are neighbors all the same
    return WholeGraph(sp.csr_array((distances, (rows, near[:, 1:].ravel())), shape=(n, n)))


def shells_by_search(graph: WholeGraph, cell: int, hops: int) -> list[set[int]]:
    """Cells first met at each hop, by breadth-first search."""
    pointer, columns = graph.matrix.indptr, graph.matrix.indices
    seen, frontier, found = {cell}, {cell}, []
    for _ in range(hops):
        met = {int(j) for i in frontier for j in columns[pointer[i] : pointer[i + 1]]}
        frontier = met - seen
        seen |= frontier
        found.append(frontier)
    return found


@settings(max_examples=25, deadline=None)
@given(start=st.integers(0, 50), size=st.integers(1, 60), hops=st.integers(0, 3))
def test_halos_hold_what_a_search_finds(start: int, size: int, hops: int) -> None:
    graph = knn_graph()
    stop = min(start + size, 60)
    halo = expand(graph, start, stop, hops)
    assert halo.n_id[: halo.n_own].tolist() == list(range(start, stop))
    assert len(set(halo.n_id.tolist())) == len(halo.n_id)
    met = [set(range(start, stop))]
    for hop in range(hops):
        near = [shells_by_search(graph, cell, hop + 1) for cell in range(start, stop)]
        reached = {cell for shells in near for shell in shells for cell in shell}
        met.append(reached.difference(*met))
    for (low, high), wanted in zip(pairwise(halo.hop_start), met, strict=True):
        assert halo.n_id[low:high].tolist() == sorted(wanted)
    for row in range(halo.adjacency.shape[0]):
        low, high = halo.adjacency.indptr[row : row + 2]
        pointer, cell = graph.matrix.indptr, halo.n_id[row]
        columns = graph.matrix.indices[pointer[cell] : pointer[cell + 1]]
        assert halo.n_id[halo.adjacency.indices[low:high]].tolist() == columns.tolist()


@settings(max_examples=25, deadline=None)
@given(start=st.integers(0, 50), size=st.integers(1, 60), hops=st.integers(1, 4))
def test_means_are_those_of_a_search(start: int, size: int, hops: int) -> None:
    graph, values = knn_graph(), np.random.default_rng(3).normal(size=(60, 2)).astype(np.float32)
    stop = min(start + size, 60)
    halo = expand(graph, start, stop, hops)
    found = smoothed(halo, values[halo.n_id], hops).reshape(stop - start, hops, 2)
    balls = neighborhood_mean(halo, values[halo.n_id], hops)
    for i, cell in enumerate(range(start, stop)):
        shells = shells_by_search(graph, cell, hops)
        ball = sorted({cell}.union(*shells))
        np.testing.assert_allclose(balls[i], values[ball].mean(axis=0), atol=1e-6)
        shells[0] |= {cell}
        for hop, shell in enumerate(shells):
            wanted = values[sorted(shell or {cell})].mean(axis=0)
            np.testing.assert_allclose(found[i, hop], wanted, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(block=st.integers(1, 70), hops=st.integers(1, 4))
def test_smoothing_does_not_depend_on_blocks(
    tmp_path_factory: pytest.TempPathFactory, block: int, hops: int
) -> None:
    graph, folder = knn_graph(), tmp_path_factory.mktemp("smooth")
    values = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
    found = []
    for number, rows in enumerate((60, block)):
        with RowFile(folder / f"in{number}", 60, 3) as table:
            table.write(0, values)
            path = folder / f"out{number}"
            with smooth_section(graph, table, hops=hops, path=path, block_rows=rows) as out:
                found.append(out.read(0, 60))
    # the same sums in the same order; only the column means are added up by blocks
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    np.testing.assert_allclose(found[0].mean(axis=0), 0.0, atol=1e-5)


def test_first_mean_holds_the_cell_itself(tmp_path: Path) -> None:
    graph = knn_graph()
    values = np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32)
    pattern = graph.matrix.copy()
    pattern.data[:] = 1.0
    wanted = (values + pattern @ values) / 5.0
    with RowFile(tmp_path / "in", 60, 2) as table:
        table.write(0, values)
        with smooth_section(graph, table, hops=1, path=tmp_path / "out") as out:
            np.testing.assert_allclose(out.read(0, 60), wanted - wanted.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(
        neighborhood_mean(expand(graph, 0, 60, 1), values, 1), wanted, atol=1e-5
    )


def test_a_lone_cell_keeps_its_own_profile(tmp_path: Path) -> None:
    lonely = WholeGraph(sp.csr_array((3, 3)))
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    with RowFile(tmp_path / "in", 3, 2) as table:
        table.write(0, values)
        with smooth_section(lonely, table, hops=2, path=tmp_path / "out") as out:
            wanted = np.hstack([values, values]) - values.mean(axis=0)[[0, 1, 0, 1]]
            np.testing.assert_allclose(out.read(0, 3), wanted, atol=1e-6)


@pytest.mark.parametrize("block", [7, 60])
def test_majority_outvotes_a_stray_label(block: int) -> None:
    codes = np.zeros(60, dtype=np.int16)
    codes[30] = 1
    assert majority(knn_graph(), codes, 2, block_rows=block).max() == 0


def test_majority_counts_as_a_search_does() -> None:
    graph = knn_graph()
    codes = np.random.default_rng(5).integers(0, 4, 60).astype(np.int16)
    found = majority(graph, codes, 4, hops=2, block_rows=13)
    for cell in range(60):
        ball = sorted({cell}.union(*shells_by_search(graph, cell, 2)))
        votes = np.bincount(codes[ball], minlength=4)
        wanted = codes[cell] if votes[codes[cell]] == votes.max() else votes.argmax()
        assert found[cell] == wanted


def test_majority_keeps_ties_with_the_cell() -> None:
    pair = WholeGraph(sp.csr_array(([1.0, 1.0], ([0, 1], [1, 0])), shape=(2, 2)))
    codes = np.array([1, 0], dtype=np.int16)
    assert majority(pair, codes, 2, hops=1).tolist() == [1, 0]


@settings(deadline=None)
@given(st.sets(st.integers(0, 200), min_size=1), st.integers(0, 20))
def test_runs_cover_rows(rows: set[int], gap: int) -> None:
    runs = gaps_closed(np.array(sorted(rows)), gap)
    assert rows <= {row for a, b in runs for row in range(a, b)}
    assert all(after[0] - before[1] > gap for before, after in pairwise(runs))


def test_too_narrow_a_halo_is_refused() -> None:
    halo, values = expand(knn_graph(), 0, 5, 2), np.zeros((60, 1), np.float32)
    with pytest.raises(InvalidArgument, match=r"halo of 3 hops \(at least one\), but got one of 2"):
        smoothed(halo, values[halo.n_id], 3)
    with pytest.raises(InvalidArgument, match="5:5"):
        expand(knn_graph(), 5, 5, 1)
