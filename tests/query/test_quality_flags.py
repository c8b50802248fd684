"""Flags of sections: what is planted is found, what is alike is not, and nothing raises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.atlas.quality import Distribution, LogHistogram, QcSummary, TranscriptCounts
from tisseract.query.quality import Cohort, Limits, flags
from tisseract.query.quality.flags import MEANINGS


def distribution(values: object) -> Distribution:
    found = LogHistogram()
    found.add(np.asarray(values))
    return found.distribution()


def summary(median: float = 200.0, middle: float = 80.0, **more: Any) -> QcSummary:
    sound = QcSummary(
        1000,
        distribution(np.full(1000, median)),
        distribution(np.full(1000, middle)),
        0,
        box_um2=2e6,
        images=1,
    )
    return replace(sound, **more)


def codes(one: QcSummary, cohort: Cohort | None = None, *, recorded: bool = True) -> list[str]:
    return [flag.code for flag in flags(one, cohort or Cohort.of([]), recorded=recorded)]


def like(n: int = 8) -> list[QcSummary]:
    return [summary(200.0 + 5 * k, 80.0 + k, box_um2=2e6 * (1 + k / 100)) for k in range(n)]


def test_a_sound_section_has_no_flags() -> None:
    assert codes(summary(), Cohort.of(like())) == []


@pytest.mark.parametrize(
    ("code", "more"),
    [
        ("empty", {"genes": distribution([0] * 60 + [9] * 940)}),
        ("duplicated", {"duplicated": 2}),
        ("controls", {"controls": 5000.0}),
        ("outside", {"transcripts": {"t": TranscriptCounts(100, 51, 0)}}),
        ("no-unit", {"box_um2": None}),
        ("notes", {"n_notes": 1, "notes": ("no image",)}),
    ],
)
def test_each_share_has_its_flag(code: str, more: dict[str, Any]) -> None:
    (found,) = flags(replace(summary(), **more), Cohort.of([]))
    assert found.code == code
    assert code in MEANINGS
    assert found.message
    assert found.next_step
    assert str(found).startswith(code)
    if found.value is not None and found.threshold is not None:
        assert found.value > found.threshold


@pytest.mark.parametrize(
    ("code", "odd"),
    [
        ("low-counts", summary(median=30.0)),
        ("low-counts", summary(median=0.0)),
        ("low-genes", summary(middle=10.0)),
        ("density", summary(box_um2=2e4)),
        ("density", summary(box_um2=2e8)),
        ("no-image", summary(images=0)),
    ],
)
def test_outliers_of_a_technology(code: str, odd: QcSummary) -> None:
    cohort = Cohort.of([*like(), odd])
    assert code in codes(odd, cohort)
    assert all(codes(one, cohort) == [] for one in like())
    # Too few to compare with, all the same.
    few = Cohort.of([summary(), summary(), odd])
    assert code in ("no-image",) or code not in codes(odd, few)


def test_more_counts_than_others_are_no_fault() -> None:
    rich = summary(median=5000.0, middle=900.0)
    assert codes(rich, Cohort.of([*like(), rich])) == []


def test_what_was_not_recorded_is_told() -> None:
    (found,) = flags(summary(), Cohort.of([]), recorded=False)
    assert (found.code, found.level) == ("not-recorded", "note")


NUMBERS = st.floats(0, 1e12)
SUMMARIES = st.builds(
    QcSummary,
    st.integers(0, 10**9),
    st.lists(NUMBERS, max_size=6).map(distribution),
    st.lists(st.integers(0, 30000), max_size=6).map(distribution),
    st.integers(0, 1000),
    controls=st.none() | NUMBERS,
    area=st.none() | st.lists(NUMBERS, max_size=3).map(distribution),
    box_um2=st.none() | NUMBERS,
    transcripts=st.dictionaries(
        st.text(max_size=3), st.builds(TranscriptCounts, st.integers(0, 9), st.none(), st.just(0))
    ),
    images=st.none() | st.integers(0, 3),
    n_notes=st.integers(0, 3),
)


@given(SUMMARIES, st.lists(SUMMARIES, max_size=7))
def test_flags_never_raise_and_warnings_come_first(one: QcSummary, others: list[QcSummary]) -> None:
    found = flags(one, Cohort.of([one, *others]))
    assert {flag.code for flag in found} <= set(MEANINGS)
    levels = [flag.level for flag in found]
    assert levels == sorted(levels, key=lambda level: level != "warning")
    assert QcSummary.of(one.as_json()) is not None


@given(st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_higher_limit_never_flags_more(low: float, high: float) -> None:
    low, high = sorted((low, high))
    one = summary(genes=distribution([0] * 30 + [4] * 70))
    strict = flags(one, Cohort.of([]), Limits(empty_fraction=low))
    mild = flags(one, Cohort.of([]), Limits(empty_fraction=high))
    assert {flag.code for flag in mild} <= {flag.code for flag in strict}


@given(st.floats(1e-3, 1e3))
def test_outliers_do_not_depend_on_the_scale(factor: float) -> None:
    # Powers of two: the bins are relative, and rounding would otherwise differ.
    factor = 2.0 ** round(np.log2(factor))
    odd = [summary(200.0 * factor), *[summary((200.0 + k) * factor) for k in range(9)]]
    odd.append(summary(20.0 * factor))
    cohort = Cohort.of(odd)
    assert [codes(one, cohort) for one in odd] == [[]] * 10 + [["low-counts"]]


def test_images_are_missed_where_most_have_one() -> None:
    few = Cohort.of([summary(images=1), *(summary(images=0) for _ in range(2))])
    assert "no-image" not in codes(summary(images=0), few)
    most = Cohort.of([summary(images=0), *(summary(images=1) for _ in range(2))])
    assert "no-image" in codes(summary(images=0), most)
