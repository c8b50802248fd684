"""Histories of trainings and batches made ahead."""

import json
import math
import threading
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import Corrupt
from tisseract.models.network.history import StepReporter, TrainingHistory
from tisseract.models.sampling.prefetch import prefetched


def test_a_history_survives_json() -> None:
    first = TrainingHistory((2.0, 1.5), {"a": (2.0, math.nan)}, (5, 6), (0.25, 0.5))
    again = TrainingHistory.from_dict(json.loads(json.dumps(first.to_dict(), allow_nan=False)))
    assert (again.loss, again.cells, again.seconds) == (first.loss, first.cells, ())
    assert again.terms["a"][0] == 2.0
    assert math.isnan(again.terms["a"][1])
    assert again.cells_per_second == 0
    assert first.cells_per_second == pytest.approx(11 / 0.75)


def test_times_are_not_kept() -> None:
    made = [TrainingHistory((1.0,), {}, (5,), (t,)).to_dict() for t in (0.1, 0.2)]
    assert made[0] == made[1]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 5000))
def test_a_long_history_is_thinned(steps: int) -> None:
    values = tuple(float(i) for i in range(steps))
    facts = TrainingHistory(values, {"a": values}, (3,) * steps).to_dict()
    assert len(facts["loss"]) == len(facts["terms"]["a"]) == len(facts["cells"]) <= 1000
    assert sum(facts["cells"]) == 3 * steps
    assert facts["loss"] == sorted(facts["loss"])


def test_terms_may_come_and_go() -> None:
    reporter = StepReporter(TrainingHistory((4.0,), {"a": (4.0,)}, (2,), (9.0,)), total=3)
    reporter.add({"a": 1.0}, 3, 2.0)
    report = reporter.add({"b": 2.0}, 3, 5.0)
    history = reporter.history()
    assert history.loss == (4.0, 1.0, 2.0)
    assert history.seconds == (9.0, 2.0, 3.0)
    assert [math.isnan(v) for v in history.terms["a"]] == [False, False, True]
    assert [math.isnan(v) for v in history.terms["b"]] == [True, True, False]
    assert (report.done, report.total, report.n_cells) == (3, 3, 6)
    assert report.cells_per_second == pytest.approx(6 / 5)


def test_growth_overlooks_one_bad_batch_and_small_first_losses() -> None:
    reporter = StepReporter(TrainingHistory(), total=9)
    assert reporter.growth == 0.0
    for loss in (2.0, 1.0, 1e9, 1.0):
        reporter.add({"a": loss}, 1, 1.0)
    assert reporter.growth == pytest.approx(0.75)
    for loss in (1e9, 1e9):
        reporter.add({"a": loss}, 1, 1.0)
    assert reporter.growth == pytest.approx(5e8)
    small = StepReporter(TrainingHistory(), total=9)
    for loss in (1e-9, 1e-3, 1e-3):
        small.add({"a": loss}, 1, 1.0)
    assert small.growth < 1


def test_other_facts_are_refused() -> None:
    wrong: list[dict[str, object]] = [
        {},
        {"loss": 3, "terms": {}, "cells": []},
        {"loss": [], "terms": [], "cells": []},
    ]
    for facts in wrong:
        with pytest.raises(Corrupt, match="losses of a run"):
            TrainingHistory.from_dict(facts)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_things_come_in_order_and_not_too_early(workers: int) -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def make(item: int) -> int:
        with lock:
            begun.append(item)
        return item * item

    for number, made in enumerate(prefetched(make, range(30), threads=workers, depth=workers)):
        assert made == number * number
        assert len(begun) <= number + 1 + max(workers, 0)


def test_a_failure_comes_where_the_result_would() -> None:
    def make(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    stream = prefetched(make, range(9), threads=2, depth=2)
    assert next(stream) == 0
    assert next(stream) == 1
    with pytest.raises(ValueError, match="two"):
        next(stream)


def test_closing_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with closing(prefetched(str, range(1000), threads=2, depth=2)) as stream:
        assert next(stream) == "0"
        assert threading.active_count() > before
    assert threading.active_count() == before
