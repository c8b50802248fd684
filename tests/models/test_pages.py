"""Pages of rows: the right rows at any size of memory, and little read twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tisseract.atlas.errors import BudgetExceeded, InvalidArgument
from tisseract.models.rows.page_grid import PageGrid
from tisseract.models.rows.page_kernels import SEGMENT, densify_rows
from tisseract.models.rows.pages import NEVER, DensePages, RaggedPages, RaggedRows, Runs
from tisseract.models.sampling.foresight import Foresight
from tisseract.models.sampling.neighbor_sampler import NeighborSampler
from tisseract.models.sampling.node_space import NodeSpace
from tisseract.models.sampling.seed_plan import SeedPlan

SPACE = NodeSpace.of_sizes(["a", "none", "b"], [700, 0, 333])
RNG = np.random.default_rng(0)
TABLE = np.where(RNG.random((1033, 40)) < RNG.random((1033, 1)), RNG.integers(1, 9, (1033, 40)), 0)


class Source:
    """Rows of the table by section; remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def dense(self, section: int, runs: Runs) -> NDArray[np.float32]:
        self.asked += [(SPACE.offsets[section] + a, SPACE.offsets[section] + b) for a, b in runs]
        rows = np.concatenate([np.arange(a, b) for a, b in runs])
        found: NDArray[np.float32] = TABLE[rows + SPACE.offsets[section]].astype(np.float32)
        return found

    def ragged(self, section: int, runs: Runs) -> RaggedRows:
        rows = self.dense(section, runs)
        indptr = np.append(0, np.cumsum((rows > 0).sum(axis=1)))
        return RaggedRows(
            indptr, np.nonzero(rows)[1].astype(np.uint16), rows[rows > 0].astype(np.uint8)
        )


def ragged(limit: int, page_rows: int = 32, **options: object) -> tuple[RaggedPages, Source]:
    source = Source()
    grid = PageGrid.of(SPACE, page_rows, cuts=(100,))
    types = {"columns": np.uint16, "values": np.uint8}
    return RaggedPages(grid, source.ragged, limit, **types, **options), source  # type: ignore[arg-type]


def rows_of(pages: RaggedPages, nodes: NDArray[np.int64]) -> NDArray[np.float32]:
    out = np.zeros((len(nodes), 40), dtype=np.float32)
    for which, place in pages.resident(pages.grid.place(nodes)):
        part = np.zeros((len(place.page), 40), dtype=np.float32)
        densify_rows(place.page, place.row, pages.held, part)
        out[slice(None) if which is None else which] = part
    return out


@settings(max_examples=25, deadline=None)
@given(data=st.data(), pages=st.sampled_from([1, 7, 32, 256]), together=st.integers(1, 9))
def test_the_right_rows_come_out(data: st.DataObject, pages: int, together: int) -> None:
    # the least is what one page of the fullest rows takes
    limit = data.draw(st.integers(64 * pages + 80 * SEGMENT + 256 * pages, 2**18))
    held, _ = ragged(limit, pages, fetch_pages=together)
    grid = PageGrid.of(SPACE, pages)
    dense = DensePages(grid, Source().dense, 40, limit, fetch_pages=together)
    for _ in range(3):
        nodes = np.array(data.draw(st.lists(st.integers(0, 1032), max_size=60)), dtype=np.int64)
        assert np.array_equal(rows_of(held, nodes), TABLE[nodes])
        for which, place in dense.resident(grid.place(nodes)):
            some = nodes if which is None else nodes[which]
            assert np.array_equal(dense.values[dense.slot[place.page], place.row], TABLE[some])


def test_what_is_held_stays_within_the_limit() -> None:
    held, _ = ragged(40_000)
    arrays = held.held
    assert arrays.pointers.nbytes + arrays.columns.nbytes + arrays.values.nbytes <= 40_000
    for start in range(0, 1000, 50):
        rows_of(held, np.arange(start, start + 33))
    arrays = held.held
    slots = held.slot[held.slot >= 0]
    assert len(set(slots.tolist())) == len(slots)
    used = [
        number
        for slot in slots
        for number in arrays.segment[slot, : held._n_segments[slot]].tolist()
    ]
    assert len(set(used)) == len(used)
    assert len(used) + len(held._spare) == held._capacity


def test_pages_of_one_chunk_are_read_together() -> None:
    held, source = ragged(2**20, fetch_pages=4)
    rows_of(held, np.array([40, 150, 702]))
    # from the section's begin, from the cut, from the next section's begin
    assert source.asked == [(0, 228), (700, 828)]
    rows_of(held, np.arange(0, 228))
    assert held.rows_read == 356


def test_a_page_that_cannot_be_held() -> None:
    held, _ = ragged(2600)
    with pytest.raises(
        BudgetExceeded, match=r"a page of 32 rows .* entries of edges .* the share of edges"
    ):
        rows_of(held, np.array([3]))
    with pytest.raises(InvalidArgument, match=r"0\.\.1032.*got 1033"):
        held.grid.place(np.array([3, 1033]))


def test_without_foresight_the_longest_unused_goes() -> None:
    held, source = ragged(2**20)
    held._free = held._free[:3]  # room for three pages
    for page in (0, 1, 2, 0, 3, 0, 2):
        rows_of(held, held.grid.border[[page]])
    assert [start // 32 for start, _ in source.asked] == [0, 1, 2, 3]


class Known:
    """Wants pages in the order of their numbers, those from 5 on never."""

    def next_use(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
        assert (last >= first).all()
        return np.where(first < 160, first, NEVER)


def test_with_foresight_the_last_wanted_goes() -> None:
    held, source = ragged(2**20, future=Known())
    held._free = held._free[:3]
    for page in (0, 2, 1, 8, 0, 1, 3, 0, 1):
        rows_of(held, held.grid.border[[page]])
    found = [int(np.searchsorted(held.grid.border, start)) for start, _ in source.asked]
    assert found == [0, 2, 1, 8, 3]
    ahead, source = ragged(2**20, future=Known(), fetch_pages=99)
    rows_of(ahead, np.array([0, 800]))
    assert source.asked == [(0, 100), (800, 828)] or source.asked[-1][1] - source.asked[-1][0] <= 32


class Grid:
    """Cells on a square grid in Morton order, each with its eight neighbors and itself."""

    def __init__(self, bits: int) -> None:
        side = 2**bits
        self.n_obs, self.nnz = side * side, side * side * 9
        code = np.arange(self.n_obs)
        bit = np.arange(bits)
        x = (((code[:, None] >> (2 * bit)) & 1) << bit).sum(axis=1)
        y = (((code[:, None] >> (2 * bit + 1)) & 1) << bit).sum(axis=1)
        node = np.empty((side, side), dtype=np.int64)
        node[x, y] = code
        steps = np.array([(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)])
        near = node[(x[:, None] + steps[:, 0]) % side, (y[:, None] + steps[:, 1]) % side]
        self.near = np.sort(near, axis=1).astype(np.int32)
        self.chunks = 0

    def edges(self, runs: Runs, /) -> object:
        from types import SimpleNamespace

        near = np.concatenate([self.near[a:b] for a, b in runs])
        self.chunks += len({chunk for a, b in runs for chunk in range(a // 2048, -(-b // 2048))})
        return SimpleNamespace(
            indptr=np.arange(len(near) + 1) * 9,
            indices=near.ravel(),
            distances=np.zeros(near.size, dtype=np.float32),
        )


def test_foresight_reads_less_again() -> None:
    """A fifth of a graph in memory: a plan that is known costs a fraction of one that is not."""
    graph = Grid(8)
    space = NodeSpace.of_sizes(["x"], [graph.n_obs])
    plan = SeedPlan(space, batch_size=512, block_rows=64, lanes=8, stretch_blocks=32)
    read = {}
    for foresight in (None, Foresight(plan)):
        sampler = NeighborSampler(
            space, [graph], [3, 3], page_rows=64, cache_bytes=2**20, foresight=foresight
        )
        graph.chunks = 0
        for batch in range(plan.n_batches):
            sampler.sample(plan.batch(0, batch), batch)
        read[foresight is None] = graph.chunks * 2048 / graph.n_obs
    assert read[True] > 2.0 * read[False], read


def test_batches_without_a_number_read_each_chunk_once() -> None:
    """`AtlasSampler` knows seeds, and hands over a key of them."""
    graph = Grid(7)
    space = NodeSpace.of_sizes(["x"], [graph.n_obs])
    plan = SeedPlan(space, batch_size=64, block_rows=256, lanes=8)
    read = {}
    for key in (0, 2**63):
        sampler = NeighborSampler(space, [graph], [3, 3], foresight=Foresight(plan))
        graph.chunks = 0
        for batch in range(plan.n_batches):
            sampler.sample(plan.batch(0, batch), key + batch)
        read[key] = graph.chunks * 2048 / graph.n_obs
    assert read == {0: 1.0, 2**63: 1.0}
    foresight = Foresight(plan)
    first = np.arange(0, graph.n_obs, 256)
    foresight.at(0, 2**63)
    assert (foresight.next_use(first, first + 255) == 0).all()
    foresight.at(0, 1)
    assert len(set(foresight.next_use(first, first + 255).tolist())) > 1


def test_foresight_knows_the_walk_and_what_lies_beside() -> None:
    graph = Grid(6)
    space = NodeSpace.of_sizes(["x"], [graph.n_obs])
    plan = SeedPlan(space, batch_size=64, block_rows=64, lanes=4, stretch_blocks=4)
    known = Foresight(plan)
    first = np.arange(0, graph.n_obs, 64)
    known.at(2, 0)
    nodes, rounds = plan.rounds(2)
    turn = np.empty(64, dtype=np.int64)
    turn[nodes // 64] = rounds
    assert np.array_equal(known.next_use(first, first + 63), turn)
    known.learn(0, [(0, graph.n_obs)], graph.edges([(0, graph.n_obs)]).indptr, graph.near.ravel())  # type: ignore[attr-defined]
    beside = np.array([len({*(graph.near[a : a + 64] // 64).ravel()}) for a in first])
    assert (beside == 9).all()
    for batch in (0, 17, 63):
        known.at(2, batch)
        now = plan.round_of(2, batch)
        near = [turn[np.unique(graph.near[a : a + 64] // 64)] for a in first]
        wanted = [min((t for t in some.tolist() if t >= now), default=NEVER) for some in near]
        assert known.next_use(first, first + 63).tolist() == wanted
