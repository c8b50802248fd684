"""Batches as integers: every tile once an epoch, the same for any start, share and process."""

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
    assert np.mean(mixed) > 0.5


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="2 empty sections"):
        plan_batches([np.zeros(1, dtype=np.int64)] * 2)
    with pytest.raises(InvalidArgument, match="rank 2 of 2"):
        Partition(2, 2)
    lonely = plan_batches([np.array([0, 5])], partition=Partition(0, 2))  # rank 0 says so too
    with pytest.raises(
        InvalidArgument, match="at least 2 batches, one per process, but got 1 an epoch"
    ):
        lonely.steps(0, 1)
