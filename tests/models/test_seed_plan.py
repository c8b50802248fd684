"""Seeds: every cell once, the same batch anywhere, many blocks in every batch."""

import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.models.sampling.batch_plan import Partition
from tisseract.models.sampling.block_plan import plan_blocks
from tisseract.models.sampling.loader_memory import Sizes, plan_loader
from tisseract.models.sampling.node_space import NodeSpace
from tisseract.models.sampling.seed_plan import SeedBatches, SeedPlan, plan_seeds
from tisseract.models.sampling.seed_quality import shuffle_quality

SPACE = NodeSpace.of_sizes(["a", "b", "c"], [40_000, 300, 30_001])


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 400), min_size=1, max_size=5),
    batch=st.integers(1, 300),
    block=st.integers(1, 60),
    lanes=st.integers(1, 20),
    stretch=st.integers(1, 9),
    world=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_every_cell_is_a_seed_of_one_process(
    sizes: list[int], batch: int, block: int, lanes: int, stretch: int, world: int, epoch: int
) -> None:
    space = NodeSpace.of_sizes([str(i) for i in range(len(sizes))], sizes)
    if space.n_nodes < world:
        with pytest.raises(InvalidArgument, match="one cell per process"):
            SeedPlan(space, partition=Partition(0, world))
        return
    found: list[int] = []
    lengths = set()
    for rank in range(world):
        plan = SeedPlan(space, batch, block, lanes, stretch, 3, Partition(rank, world))
        batches = list(plan.epoch(epoch))
        assert all(len(part) == batch for part in batches[:-1])
        lengths.add(len(batches))
        mine = np.concatenate(batches)
        assert len(mine) == space.n_nodes // world
        found += mine.tolist()
        for number in range(len(batches)):  # any of them by its number
            assert np.array_equal(plan.batch(epoch, number), batches[number])
    assert len(lengths) == 1
    assert len(set(found)) == len(found) > space.n_nodes - world
    assert set(found) <= set(range(space.n_nodes))


@pytest.mark.parametrize("partition", [Partition(), Partition(2, 3)])
def test_every_batch_mixes_many_blocks(partition: Partition) -> None:
    plan = plan_seeds(SPACE, batch_size=512, partition=partition)
    for epoch in range(2):
        for batch in list(plan.epoch(epoch))[:-1]:
            assert len(np.unique(plan.blocks(batch))) >= 32


def test_small_atlases_get_small_blocks() -> None:
    plan = plan_seeds(NodeSpace.of_sizes(["x"], [640]), batch_size=200)
    assert plan.block_rows == 10
    assert len(np.unique(plan.batch(0, 0) // 10)) >= 32


def test_lanes_walk_through_neighboring_blocks() -> None:
    """What a buffer read is near to what the next one reads."""
    plan = plan_seeds(SPACE, batch_size=64 * 256)
    first, second = (set(plan.blocks(plan.batch(0, i)).tolist()) for i in (0, 1))
    beside = {block + 1 for block in first} & second
    assert len(beside) > 55, len(beside)
    shuffled = plan_seeds(SPACE, batch_size=64 * 256, stretch_blocks=1)
    first, second = (set(shuffled.blocks(shuffled.batch(0, i)).tolist()) for i in (0, 1))
    assert len({block + 1 for block in first} & second) < 40


def test_epochs_seeds_and_ranks_differ() -> None:
    one = plan_seeds(SPACE)
    assert np.array_equal(one.batch(0, 5), plan_seeds(SPACE).batch(0, 5))
    assert np.array_equal(one.step(one.n_batches + 2), one.batch(1, 2))
    others = [
        one.batch(1, 5),
        plan_seeds(SPACE, seed=1).batch(0, 5),
        plan_seeds(SPACE, seed=-1).batch(0, 5),
    ]
    assert not any(np.array_equal(one.batch(0, 5), other) for other in others)


def test_quality_tells_shuffles_apart() -> None:
    patches = np.arange(SPACE.n_nodes) // 2000 % 7
    found = {
        how: shuffle_quality(plan_seeds(SPACE, batch_size=512, shuffle=how), patches)
        for how in ("none", "blocks", "cells")
    }
    assert found["none"].variance_ratio > 50
    assert found["cells"].variance_ratio == pytest.approx(1.0, abs=0.25)
    assert found["cells"].blocks_mean == pytest.approx(found["cells"].blocks_ideal, rel=0.02)
    assert 1.0 < found["blocks"].variance_ratio < 12
    assert found["blocks"].blocks_least >= 32
    assert "blocks a batch" in str(found["blocks"])
    short = NodeSpace.of_sizes([str(i) for i in range(400)], [300] * 400)
    independent = np.random.default_rng(0).integers(0, 5, short.n_nodes)
    blocks = shuffle_quality(plan_blocks(short), independent)
    assert blocks.variance_ratio == pytest.approx(1.0, abs=0.15)
    # 25 batches of 32 blocks each, of 256 and 44 cells
    assert blocks.blocks_mean >= 32
    assert blocks.blocks_ideal == pytest.approx(469 * (1 - (1 - 1 / 469) ** 4800), rel=1e-3)
    with pytest.raises(InvalidArgument, match="two or more kinds"):
        shuffle_quality(plan_seeds(SPACE), np.zeros(SPACE.n_nodes, dtype=np.int64))


def test_a_batch_sampler_goes_on_and_resumes() -> None:
    plan = plan_seeds(SPACE, batch_size=9000)
    sampler = SeedBatches(plan)
    epochs = [list(sampler), list(sampler)]
    assert len(sampler) == plan.n_batches == len(epochs[0]) == 8
    assert epochs[0] != epochs[1]
    sampler.seek(1, 3)
    assert len(sampler) == 5
    copy = pickle.loads(pickle.dumps(sampler))
    assert list(copy) == list(sampler) == epochs[1][3:]
    assert next(iter(sampler)) == plan.batch(2, 0).tolist()
    with pytest.raises(InvalidArgument, match=r"batch in 0\.\.8"):
        sampler.seek(0, 9)


@pytest.mark.parametrize("shuffle", ["cells", "blocks"])
def test_the_memory_of_an_order_is_planned(shuffle: str) -> None:
    n_obs = 200_000
    plan = plan_seeds(NodeSpace.of_sizes(["x"], [n_obs]), shuffle=shuffle, batch_size=64)
    sizes = Sizes(n_obs, 0.0, 0.0, 0, 0, 0)
    options: dict[str, Any] = {"batch_size": 64, "fanouts": [1], "in_flight": 1, "cache_bytes": 0}
    tracemalloc.start()
    for epoch in range(5):  # those that are kept, and one more
        plan.batch(epoch, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # without what is planned for reads, which begin afterwards
    planned = plan_loader(sizes, **options, n_blocks=plan.n_blocks).reading - 32 * 2**20
    assert peak <= planned, (peak / n_obs, planned / n_obs)
    assert planned <= 1.5 * peak or shuffle == "blocks"


def test_refusals() -> None:
    wrong: list[dict[str, Any]] = [
        {"shuffle": "rows"},
        {"batch_size": 0},
        {"lanes": 0},
        {"stretch_blocks": 0},
    ]
    for options in wrong:
        with pytest.raises(InvalidArgument):
            plan_seeds(SPACE, **options)
    for epoch, number in ((-1, 0), (0, -1), (0, 10**6)):
        with pytest.raises(InvalidArgument, match="of an epoch"):
            plan_seeds(SPACE).batch(epoch, number)


def test_a_loader_in_one_call(planted_store: Any) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_geometric")
    from tisseract.models import node_loader

    def make(**options: Any) -> Any:
        return node_loader(
            planted_store, ["a", "b"], graph=6, num_neighbors=[3, -1], batch_size=300, **options
        )

    plain = make()
    first, second = list(plain), list(plain)
    assert len(plain) == len(first) == 4
    for epoch in (first, second):
        seeds = torch.cat([data.n_id[: data.batch_size] for data in epoch])
        assert sorted(seeds.tolist()) == list(range(1100))
        assert all(torch.equal(d.input_id, d.n_id[: d.batch_size]) for d in epoch)
    assert not torch.equal(first[0].input_id, second[0].input_id)
    late = make(num_workers=2, transform=_count)
    late.batch_sampler.seek(1, 2)
    rest = list(late)
    assert len(rest) == 2
    for wanted, found in zip(second[2:], rest, strict=True):
        assert torch.equal(wanted.x, found.x)
        assert torch.equal(wanted.edge_index, found.edge_index)
        assert torch.equal(wanted.edge_attr, found.edge_attr)
        assert found.count == len(found.edge_attr)
    ranks = [make(partition=Partition(rank, 2)) for rank in range(2)]
    parts = [torch.cat([data.input_id for data in loader]) for loader in ranks]
    assert sorted(torch.cat(parts).tolist()) == list(range(1100))


def _count(data: Any) -> Any:
    data.count = len(data.edge_attr)
    return data
