"""Sampling from graphs on disk: exact where it takes everything, uniform where it draws."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse, stats
from scipy.spatial import cKDTree

from tisseract.atlas.errors import BudgetExceeded, InvalidArgument
from tisseract.atlas.graph import build_graphs, knn, open_graph
from tisseract.atlas.store import AtlasStore
from tisseract.models.sampling.neighbor_sampler import EDGE_SLOTS, NeighborSampler, Sample
from tisseract.models.sampling.neighborhood import expand
from tisseract.models.sampling.node_space import NodeSpace


@dataclass
class Rows:
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    distances: NDArray[np.float64]


class WholeGraph:
    """A graph in memory behind the protocols that models read; degrees differ."""

    def __init__(self, n: int, k: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        points = rng.random((n, 2))
        points = points[np.lexsort((points[:, 1], np.floor(points[:, 0] * 6)))]
        length, near = cKDTree(points).query(points, k + 1)
        rows = np.repeat(np.arange(n), k)
        kept = rng.random(n * k) < np.repeat(rng.random(n), k)
        entries = (length[:, 1:].ravel()[kept], (rows[kept], near[:, 1:].ravel()[kept]))
        self.matrix = sparse.csr_array(entries, shape=(n, n))
        self.matrix.sort_indices()
        self.n_obs = n

    def rows(self, runs: Sequence[tuple[int, int]], /) -> sparse.csr_array:
        return self.matrix[np.concatenate([np.arange(a, b) for a, b in runs])]

    def edges(self, runs: Sequence[tuple[int, int]], /) -> Rows:
        part = self.rows(runs)
        return Rows(part.indptr.astype(np.int64), part.indices.astype(np.int32), part.data)


GRAPHS = (WholeGraph(300, 8, 0), WholeGraph(170, 12, 1))
SPACE = NodeSpace.of_sizes(["a", "b"], [300, 170])


def sampler(fanouts: Sequence[int], **options: object) -> NeighborSampler:
    options = {"page_rows": 32, **options}
    return NeighborSampler(SPACE, GRAPHS, fanouts, **options)  # type: ignore[arg-type]


def neighbors(node: int) -> tuple[list[int], list[float]]:
    """Every neighbor of a node, and how far it is."""
    section, row = SPACE.locate(np.array([node]))
    matrix = GRAPHS[int(section[0])].matrix
    span = slice(matrix.indptr[row[0]], matrix.indptr[row[0] + 1])
    return (matrix.indices[span] + SPACE.offsets[int(section[0])]).tolist(), matrix.data[
        span
    ].tolist()


def check(sample: Sample, fanouts: Sequence[int], *, replace: bool) -> None:
    """What holds for every sample, by comparing cell after cell with the whole graph."""
    starts = np.cumsum([0, *sample.nodes_per_hop])
    assert starts[-1] == len(sample.n_id)
    assert sum(sample.edges_per_hop) == len(sample.source)
    assert (np.diff(sample.target) >= 0).all()
    for hop, fanout in enumerate(fanouts):
        for cell in range(starts[hop], starts[hop + 1]):
            at = np.flatnonzero(sample.target == cell)
            near, length = neighbors(int(sample.n_id[cell]))
            got = sample.n_id[sample.source[at]].tolist()
            place = (sample.e_id[at] % EDGE_SLOTS).tolist()
            assert (sample.e_id[at] // EDGE_SLOTS == sample.n_id[cell]).all()
            assert got == [near[p] for p in place]
            np.testing.assert_allclose(sample.length[at], [length[p] for p in place], rtol=1e-6)
            wanted = len(near) if fanout < 0 else min(fanout, len(near))
            if replace and fanout >= 0:
                wanted = fanout if near else 0
            else:
                assert len(set(place)) == len(place)
            assert len(got) == wanted
    assert (sample.target < starts[-2]).all()


@settings(max_examples=30, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 469), min_size=1, max_size=40),
    fanouts=st.lists(st.integers(-1, 9), min_size=1, max_size=3),
    replace=st.booleans(),
    cache=st.sampled_from([2**14, 2**15, 2**20]),
)
def test_samples_are_part_of_the_graph(
    seeds: list[int], fanouts: list[int], replace: bool, cache: int
) -> None:
    drawn = sampler(fanouts, replace=replace, seed=4, cache_bytes=cache)
    sample = drawn.sample(np.array(seeds), 3)
    assert sample.n_id[: sample.nodes_per_hop[0]].tolist() == seeds
    later = sample.n_id[sample.nodes_per_hop[0] :]
    assert len(set(later.tolist()) | set(seeds)) == len(later) + len(set(seeds))
    check(sample, fanouts, replace=replace)
    whole = sampler(fanouts, replace=replace, seed=4).sample(np.array(seeds), 3)
    for name in ("n_id", "source", "target", "length", "e_id"):
        assert np.array_equal(getattr(sample, name), getattr(whole, name))  # caches change nothing
    np.testing.assert_array_equal(drawn.lengths(sample.e_id), sample.length)


@pytest.mark.parametrize("fanout", [-1, 12, 500])
def test_all_neighbors_equal_the_halo(fanout: int) -> None:
    halo = expand(GRAPHS[1], 40, 70, 2)
    sample = sampler([fanout, fanout]).sample(np.arange(340, 370), 0)
    starts = np.cumsum([0, *sample.nodes_per_hop])
    for hop in range(3):
        own = np.sort(sample.n_id[starts[hop] : starts[hop + 1]] - 300)
        assert own.tolist() == halo.n_id[halo.hop_start[hop] : halo.hop_start[hop + 1]].tolist()
    pairs = set(zip(sample.n_id[sample.target], sample.n_id[sample.source], strict=True))
    inner = halo.adjacency.tocoo()
    wanted = zip(halo.n_id[inner.row] + 300, halo.n_id[inner.col] + 300, strict=True)
    assert pairs == set(wanted)
    assert len(pairs) == len(sample.source)


@pytest.mark.parametrize("replace", [False, True])
def test_every_neighbor_is_as_likely(replace: bool) -> None:
    node = 300 + int(np.argmax(np.diff(GRAPHS[1].matrix.indptr)))
    degree = len(neighbors(node)[0])
    assert degree >= 10
    drawn, fanout, rounds = sampler([4], replace=replace, seed=11), 4, 4000
    counts = np.zeros(degree)
    pairs = np.zeros((degree, degree))
    for batch in range(rounds):
        place = drawn.sample(np.array([node]), batch).e_id % EDGE_SLOTS
        np.add.at(counts, place, 1)
        pairs[place[0], place[-1]] += 1
    assert counts.sum() == fanout * rounds
    # without replacement counts vary less than a multinomial's: the statistic shrinks by this
    shrink = 1.0 if replace else (degree - fanout) / (degree - 1)
    statistic = ((counts - counts.mean()) ** 2 / counts.mean()).sum() / shrink
    assert 1e-4 < stats.chi2.sf(statistic, degree - 1) < 1 - 1e-4
    if replace:  # draws of one cell do not hang together
        assert stats.chisquare(pairs.ravel()).pvalue > 1e-4


def test_draws_differ_between_cells_hops_batches_and_seeds() -> None:
    seeds = np.arange(300, 340)

    def drawn(seed: int, batch: int) -> NDArray[np.int64]:
        return sampler([3, 3], seed=seed).sample(seeds, batch).e_id

    assert np.array_equal(drawn(0, 0), drawn(0, 0))
    others = [drawn(0, 1), drawn(1, 0), drawn(0, 2**63), drawn(-1, 0)]
    for a in range(len(others)):
        assert not np.array_equal(drawn(0, 0), others[a])
        assert not any(np.array_equal(others[a], other) for other in others[a + 1 :])


def test_a_cell_draws_anew_at_another_hop() -> None:
    sample = sampler([3, 3]).sample(np.arange(300, 310), 0)
    second = sample.e_id[sample.edges_per_hop[0] :]
    as_seeds = sampler([3]).sample(np.unique(second // EDGE_SLOTS), 0).e_id
    assert set(as_seeds // EDGE_SLOTS) == set(second // EDGE_SLOTS)
    assert set(as_seeds) != set(second)


def test_what_a_cell_draws_hangs_on_nothing_else() -> None:
    """The order of the seeds, other seeds, and what was sampled before."""
    used = sampler([4], seed=2, cache_bytes=2**14)
    used.sample(np.arange(470), 1)
    together = used.sample(np.arange(469, -1, -1), 7)
    alone = sampler([4], seed=2).sample(np.array([333]), 7)
    at = together.target == 469 - 333
    assert np.array_equal(together.e_id[at], alone.e_id)


def test_pages_are_read_once_while_they_fit() -> None:
    drawn = sampler([-1, -1])
    for batch in range(3):
        drawn.sample(np.arange(470), batch)
    assert drawn.rows_read == 470


def test_a_stored_graph_samples_like_a_lazy_one(planted_store: AtlasStore) -> None:
    names = ["a", "tiny"]
    space = NodeSpace.of(planted_store, names)
    build_graphs(planted_store, sections=names, key_added="sampled", n_neighs=6)
    lazy = [knn(planted_store, names, n_neighs=6)[name] for name in names]
    stored = [open_graph(planted_store, "sampled", name) for name in names]
    samples = []
    for graphs in (lazy, stored):
        copy = pickle.loads(pickle.dumps(NeighborSampler(space, graphs, [4, -1], seed=5)))
        samples.append(copy.sample(np.arange(0, 720, 7), 2))
    for name in ("n_id", "source", "target", "length", "e_id"):
        assert np.array_equal(getattr(samples[0], name), getattr(samples[1], name))


def test_refusals() -> None:
    with pytest.raises(InvalidArgument, match="fan-out"):
        sampler([])
    with pytest.raises(InvalidArgument, match="fan-out"):
        sampler([4, -2])
    with pytest.raises(InvalidArgument, match="one per section"):
        NeighborSampler(SPACE, GRAPHS[:1], [2])
    with pytest.raises(InvalidArgument, match=r"0\.\.469"):
        sampler([2]).sample(np.array([470]), 0)
    with pytest.raises(BudgetExceeded, match="cache_bytes"):
        sampler([2], cache_bytes=300).sample(np.array([3]), 0)
    with pytest.raises(InvalidArgument, match="ids of edges"):
        sampler([2]).lengths(np.array([EDGE_SLOTS - 1]))


def test_a_cell_without_neighbors() -> None:
    lonely = WholeGraph(5, 2, 0)
    lonely.matrix = sparse.csr_array((5, 5))
    drawn = NeighborSampler(NodeSpace.of_sizes(["x"], [5]), [lonely], [3, 3], replace=True)
    sample = drawn.sample(np.array([2, 0]), 0)
    assert (sample.n_id.tolist(), sample.nodes_per_hop, sample.edges_per_hop) == (
        [2, 0],
        (2, 0, 0),
        (0, 0),
    )
