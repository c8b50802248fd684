"""Batches as integers: every tile once an epoch, the same for any start, share and process."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.models.sampling.batch_plan import BatchPlan, Partition, plan_batches

PTRS = st.lists(
    st.lists(st.integers(1, 50), min_size=1, max_size=8).map(lambda n: np.cumsum([0, *n])),
    min_size=1,
    max_size=5,
)


def many(seed: int = 0) -> BatchPlan:
    return plan_batches([np.arange(0, 41, 4)] * 3, batch_cells=10, seed=seed)


@settings(deadline=None)
@given(ptrs=PTRS, cells=st.integers(1, 200), epoch=st.integers(0, 9))
def test_an_epoch_holds_every_tile_once(ptrs: list[np.ndarray], cells: int, epoch: int) -> None:
    plan = plan_batches(ptrs, batch_cells=cells)
    seen = [tile for batch in plan.epoch(epoch) for tile in batch]
    assert sorted(seen) == list(range(len(plan.tiles)))
    assert plan.n_cells == sum(int(ptr[-1]) for ptr in ptrs)


@settings(deadline=None)
@given(start=st.integers(0, 40), length=st.integers(0, 40))
def test_any_step_can_be_resumed_at(start: int, length: int) -> None:
    plan = many()
    assert plan.steps(start, start + length) == plan.steps(0, start + length)[start:]


@settings(deadline=None)
@given(ptrs=PTRS, rows=st.integers(1, 60))
def test_tiles_are_cut_into_equal_runs(ptrs: list[np.ndarray], rows: int) -> None:
    plan = plan_batches(ptrs, max_rows=rows)
    sizes = np.array([t.stop - t.start for t in plan.tiles])
    assert sizes.max() <= rows
    for section, ptr in enumerate(ptrs):
        own = [t for t in plan.tiles if t.section == section]
        assert [t.start for t in own] == [0, *[t.stop for t in own[:-1]]]
        assert own[-1].stop == ptr[-1]
        assert set(ptr[1:]) <= {t.stop for t in own}  # no run crosses a tile
        for start, stop in pairwise(ptr):
            inside = [t.stop - t.start for t in own if start <= t.start < stop]
            assert max(inside) - min(inside) <= 1


@settings(deadline=None)
@given(
    tiles=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    share=st.integers(1, 30),
    epoch=st.integers(0, 5),
)
def test_every_stretch_mixes_sections(tiles: list[int], share: int, epoch: int) -> None:
    """A stretch of an epoch holds a section within one tile or so of its share of all tiles."""
    plan = plan_batches([np.arange(0, 4 * n + 1, 4) for n in tiles], batch_cells=4, seed=epoch)
    owner = np.array([plan.tiles[batch[0]].section for batch in plan.epoch(epoch)])
    first = owner[:share]
    for section, n in enumerate(tiles):
        expected = n * len(first) / len(owner)
        # places are even for each section: at most one of its tiles is early and one late, and
        # as many of every other section
        assert abs((first == section).sum() - expected) <= 1 + len(tiles)


@settings(deadline=None)
@given(
    ptrs=PTRS,
    cells=st.integers(1, 60),
    world=st.integers(1, 4),
    start=st.integers(0, 12),
    length=st.integers(1, 12),
)
def test_ranks_resume_anywhere_and_agree(
    ptrs: list[np.ndarray], cells: int, world: int, start: int, length: int
) -> None:
    plans = [
        plan_batches(ptrs, batch_cells=cells, partition=Partition(rank, world))
        for rank in range(world)
    ]
    if any(len(plans[0].epoch(e)) == 0 for e in range(start + length)):
        for plan in plans:  # all of them say so, none is left waiting for the others
            with pytest.raises(InvalidArgument, match="one per process"):
                plan.steps(start, 10_000)
        return
    whole = [plan.steps(0, start + length) for plan in plans]
    assert [plan.steps(start, start + length) for plan in plans] == [w[start:] for w in whole]
    for step in range(length):
        together = [tile for w in whole for tile in w[start + step]]
        assert len(together) == len(set(together))  # no tile is used twice in one step


def test_ranks_share_an_epoch() -> None:
    whole = many().epoch(3)
    shares = [
        plan_batches([np.arange(0, 41, 4)] * 3, batch_cells=10, partition=Partition(rank, 3)).epoch(
            3
        )
        for rank in range(3)
    ]
    assert len({len(share) for share in shares}) == 1
    together = [batch for share in shares for batch in share]
    assert len(together) == len(set(together)) == len(whole) // 3 * 3
    assert set(together) <= set(whole)


def test_seeds_and_epochs_shuffle() -> None:
    assert many(0).epoch(0) == many(0).epoch(0)
    assert many(0).epoch(0) != many(1).epoch(0)
    assert many(0).epoch(0) != many(0).epoch(1)


def test_batches_mix_sections() -> None:
    plan = many()
    mixed = [len({plan.tiles[t].section for t in batch}) > 1 for batch in plan.epoch(0)]
    assert np.mean(mixed) > 0.9


def test_empty_tiles_are_left_out() -> None:
    plan = plan_batches([np.array([0, 3, 3, 5]), np.zeros(1, dtype=np.int64)])
    assert [(t.start, t.stop) for t in plan.tiles] == [(0, 3), (3, 5)]


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="2 empty sections"):
        plan_batches([np.zeros(1, dtype=np.int64)] * 2)
    with pytest.raises(InvalidArgument, match="max_rows=0"):
        plan_batches([np.array([0, 5])], max_rows=0)
    with pytest.raises(InvalidArgument, match="rank 2 of 2"):
        Partition(2, 2)
    lonely = plan_batches([np.array([0, 5])], partition=Partition(0, 2))  # rank 0 says so too
    with pytest.raises(
        InvalidArgument, match="at least 2 batches, one per process, but got 1 an epoch"
    ):
        lonely.steps(0, 1)
