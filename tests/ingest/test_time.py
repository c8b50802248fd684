"""Timepoint labels: understood, ordered within a scale, refused across scales."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.ingest.time import CommittedTime, TimeEntry, order_timepoints, parse_timepoint


@pytest.mark.parametrize(
    ("label", "value", "unit", "scale"),
    [
        ("E12.5", 12.5, "embryonic day", "age"),
        ("e8", 8, "embryonic day", "age"),
        ("P7", 7, "postnatal day", "age"),
        ("P-7", 7, "postnatal day", "age"),
        ("day 4", 4, "day", "elapsed"),
        ("D14", 14, "day", "elapsed"),
        ("d_10", 10, "day", "elapsed"),
        ("8 weeks", 8, "week", "elapsed"),
        ("3mo", 3, "month", "elapsed"),
        ("36h", 36, "hour", "elapsed"),
        ("24hpf", 24, "hour post fertilization", "post-fertilization"),
        ("PCW12", 12, "week post conception", "post-fertilization"),
        ("CS 12", 12, "Carnegie stage", "Carnegie stage"),
        ("HH25", 25, "Hamburger-Hamilton stage", "Hamburger-Hamilton stage"),
        ("4", 4, None, "number"),
    ],
)
def test_labels_are_understood(label: str, value: float, unit: str | None, scale: str) -> None:
    point = parse_timepoint(label)
    assert point is not None
    assert (point.value, point.unit, point.scale) == (value, unit, scale)


@pytest.mark.parametrize("label", ["late", "control", "12 e", "E", "x12", "", "1.2.3", "E12.5b"])
def test_other_labels_are_words(label: str) -> None:
    assert parse_timepoint(label) is None


def entries(*labels: str) -> list[TimeEntry]:
    return [TimeEntry(label) for label in labels]


@pytest.mark.parametrize(
    "labels",
    [
        ("E8.5", "E10", "E18.5", "P0", "P7", "P56"),
        ("30 min", "12h", "day 2", "1 week", "2 months", "1 year"),
        ("24hpf", "2dpf", "3 dpc"),
        ("4", "7", "10", "14"),
    ],
)
def test_labels_of_one_scale_order_themselves(labels: tuple[str, ...]) -> None:
    order = order_timepoints(entries(*reversed(labels)))
    assert not order.faults
    assert order.labels == labels


@pytest.mark.parametrize(
    "labels", [("E12.5", "late"), ("E12.5", "24hpf"), ("early", "late"), ("4", "day 7")]
)
def test_mixed_labels_need_an_order(labels: tuple[str, ...]) -> None:
    (fault,) = order_timepoints(entries(*labels)).faults
    assert "more than one scale" in fault.message
    assert "timepoint_order" in fault.message
    order = order_timepoints(entries(*labels), labels)
    assert not order.faults
    assert order.labels == labels


def test_values_with_units_order_any_label() -> None:
    order = order_timepoints([TimeEntry("late", 3, "day"), TimeEntry("early", 12, "hour")])
    assert order.labels == ("early", "late")
    assert order.points["late"] == (3, "day")


def test_a_lone_word_needs_no_order() -> None:
    assert order_timepoints(entries("adult", "adult")).labels == ("adult",)


def test_one_label_is_one_time() -> None:
    (fault,) = order_timepoints(
        [TimeEntry("a", 1, "day", "row 2"), TimeEntry("a", 2, "day", "row 3")]
    ).faults
    assert fault.location == "row 3"
    assert "1 day in row 2" in fault.message


def test_an_order_must_name_all_labels_once() -> None:
    faults = order_timepoints(entries("early", "late"), ["early", "lat", "early"]).faults
    assert "does not name 'late'" in faults[0].message
    assert "'lat'" in faults[0].message
    assert "twice" in faults[1].message


def test_added_sections_find_their_place_between_committed_ones() -> None:
    first = order_timepoints(entries("E12.5", "P7"))
    committed = {label: CommittedTime(place) for label, place in first.order.items()}
    later = order_timepoints(entries("E14.5", "P7"), committed=committed)
    assert not later.faults
    both = {**first.order, **later.order}
    assert sorted(both, key=both.__getitem__) == ["E12.5", "E14.5", "P7"]
    assert later.order["P7"] == first.order["P7"]


def test_an_order_given_by_hand_is_extended_by_hand() -> None:
    committed = {"early": CommittedTime(0.0), "late": CommittedTime(1.0)}
    assert order_timepoints(entries("middle"), committed=committed).faults
    order = order_timepoints(entries("middle"), ["early", "middle", "late"], committed).order
    assert order["early"] == 0.0 < order["middle"] < order["late"] == 1.0
    backwards = order_timepoints(entries("middle"), ["late", "middle", "early"], committed)
    assert "contradicts the atlas" in backwards.faults[0].message


@given(
    st.permutations([f"t{i}" for i in range(7)]).map(list),
    st.sets(st.integers(0, 6)),
)
def test_any_explicit_order_is_kept_whatever_is_committed(names: list[str], kept: set[int]) -> None:
    committed = {names[i]: CommittedTime(float(i * i)) for i in kept}
    order = order_timepoints(entries(*names), names, committed)
    assert not order.faults
    assert order.labels == tuple(names)
    assert all(order.order[a] < order.order[b] for a, b in itertools.pairwise(names))
    assert all(order.order[name] == time.order for name, time in committed.items())
