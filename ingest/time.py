"""Timepoints: a free label, a number with its unit, and one order over all of them.

A label says what people write (`E12.5`, `P7`, `day 4`, `12 hpf`); the order is what queries need.
Labels of one scale order themselves. Labels of two scales (`E12.5` beside `24 hpf`) cannot be
compared without knowing the animal, so their order must be given, never guessed::

    label ── parse_timepoint ──▶ scale, position        same scale: position is the order
                                        │
                              otherwise ▼
                                an explicit list of labels

The order is one float per label, absolute within a scale, so that a section added next month finds
its place without touching the sections already committed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..atlas.errors import Fault, near

__all__ = [
    "CommittedTime",
    "TimeEntry",
    "TimeOrder",
    "Timepoint",
    "order_timepoints",
    "parse_timepoint",
    "parse_unit",
]

# Birth ends the embryonic numbering (mouse: E19.5 at most), so every P sorts after every E. The
# constant is an order, not a duration: nothing subtracts one from the other.
_POSTNATAL_OFFSET = 1000.0

_DAYS = {
    "minute": 1 / 1440,
    "hour": 1 / 24,
    "day": 1.0,
    "week": 7.0,
    "month": 30.4375,
    "year": 365.25,
}
_UNIT_WORDS = {
    "minute": ("min", "mins", "minute", "minutes"),
    "hour": ("h", "hr", "hrs", "hour", "hours"),
    "day": ("d", "day", "days"),
    "week": ("w", "wk", "wks", "week", "weeks"),
    "month": ("mo", "mos", "month", "months"),
    "year": ("y", "yr", "yrs", "year", "years"),
}
_ELAPSED = {word: unit for unit, words in _UNIT_WORDS.items() for word in words}
# (scale, unit written to the metadata, factor to the scale's own axis, offset)
_STAGES: dict[str, tuple[str, str, float, float]] = {
    "e": ("age", "embryonic day", 1.0, 0.0),
    "p": ("age", "postnatal day", 1.0, _POSTNATAL_OFFSET),
    "hpf": ("post-fertilization", "hour post fertilization", 1 / 24, 0.0),
    "dpf": ("post-fertilization", "day post fertilization", 1.0, 0.0),
    "dpc": ("post-fertilization", "day post conception", 1.0, 0.0),
    "pcw": ("post-fertilization", "week post conception", 7.0, 0.0),
    "wpc": ("post-fertilization", "week post conception", 7.0, 0.0),
    "gw": ("gestation", "gestational week", 7.0, 0.0),
    "hpi": ("post-injury", "hour post injury", 1 / 24, 0.0),
    "dpi": ("post-injury", "day post injury", 1.0, 0.0),
    "cs": ("Carnegie stage", "Carnegie stage", 1.0, 0.0),
    "hh": ("Hamburger-Hamilton stage", "Hamburger-Hamilton stage", 1.0, 0.0),
    "ts": ("Theiler stage", "Theiler stage", 1.0, 0.0),
    "st": ("stage", "stage", 1.0, 0.0),
    "stage": ("stage", "stage", 1.0, 0.0),
    "s": ("stage", "stage", 1.0, 0.0),
}
_UNIT_NAMES = {
    unit: key for key, (_, unit, _, _) in _STAGES.items() if key not in {"s", "st", "wpc"}
}
_NUMBER = r"[+-]?\d+(?:\.\d+)?"
_BEFORE = re.compile(rf"([a-z]+)[ _.-]?({_NUMBER})")
_AFTER = re.compile(rf"({_NUMBER})[ _-]?([a-z]+)")
_BARE = re.compile(_NUMBER)


@dataclass(frozen=True, slots=True)
class Timepoint:
    """One label understood: a number on a scale that can be ordered."""

    label: str
    """As written by the user."""
    value: float
    """The number in the label, in `unit`."""
    unit: str | None
    """Unit in words (`embryonic day`, `hour`); None for a bare number."""
    scale: str
    """Name of the axis; only positions on one axis compare."""
    position: float
    """Place on the axis."""


@dataclass(frozen=True, slots=True)
class TimeEntry:
    """What a sheet row says about time."""

    label: str
    """The timepoint label."""
    value: float | None = None
    """`time_value`, when the sheet gives it."""
    unit: str | None = None
    """`time_unit`, when the sheet gives it."""
    location: str = ""
    """Where to point at when something is wrong."""


@dataclass(frozen=True, slots=True)
class CommittedTime:
    """What the atlas already says about a label."""

    order: float
    """Its place; never changed."""
    value: float | None = None
    """`time_value` of the committed sections."""
    unit: str | None = None
    """`time_unit` of the committed sections."""


@dataclass(frozen=True, slots=True)
class TimeOrder:
    """The order of a set of labels: one float per label, or the faults that prevent it."""

    order: Mapping[str, float]
    """Position of every label; equal for labels of the same time."""
    points: Mapping[str, tuple[float | None, str | None]]
    """`(time_value, time_unit)` of every label, as given or as read from the label."""
    faults: tuple[Fault, ...] = ()
    """Everything that prevents an order."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels, earliest first."""
        return tuple(sorted(self.order, key=lambda label: (self.order[label], label)))


def parse_timepoint(label: str, unit: str | None = None) -> Timepoint | None:
    """Understand a timepoint label, or return None.

    Parameters
    ----------
    label : str
        Such as `E12.5`, `P7`, `day 4`, `D14`, `12 hpf`, `8 weeks`, `CS12`, or a bare number.
    unit : str, optional
        Unit of a bare number.

    Returns
    -------
    Timepoint or None
        None when the label is not a number on a known scale (`control`, `late`).

    Examples
    --------
    >>> parse_timepoint("E12.5").position < parse_timepoint("P7").position
    True
    >>> parse_timepoint("8 weeks").unit
    'week'
    >>> parse_timepoint("late") is None
    True
    """
    text = label.strip().lower()
    if _BARE.fullmatch(text):
        return _on_scale(label, float(text), unit)
    if found := _BEFORE.fullmatch(text):
        return _worded(label, found[1], float(found[2]), before=True)
    if found := _AFTER.fullmatch(text):
        return _worded(label, found[2], float(found[1]), before=False)
    return None


def parse_unit(unit: str) -> tuple[str, str, float, float] | None:
    """Understand a time unit: `(scale, unit in full, factor, offset)`, or None when unknown.

    Examples
    --------
    >>> parse_unit("hrs")[:2]
    ('elapsed', 'hour')
    >>> parse_unit("embryonic day")[0]
    'age'
    """
    word = " ".join(unit.strip().lower().replace("_", " ").split())
    if word in _ELAPSED:
        name = _ELAPSED[word]
        return "elapsed", name, _DAYS[name], 0.0
    singular = re.sub(r"^(\w+?)s\b", r"\1", word)
    key = word if word in _STAGES else _UNIT_NAMES.get(word) or _UNIT_NAMES.get(singular)
    return _STAGES[key] if key else None


def _worded(label: str, word: str, value: float, *, before: bool) -> Timepoint | None:
    if word in _STAGES and (before or len(word) > 1):  # "12 e" is not a stage
        return _on_scale(label, value, word)
    if word in _ELAPSED and not (before and word == "min"):
        return _on_scale(label, value, word)
    return None


def _on_scale(label: str, value: float, unit: str | None) -> Timepoint | None:
    if unit is None:
        return Timepoint(label, value, None, "number", value)
    known = parse_unit(unit)
    if known is None:
        # A unit of the user's own orders by its number, against the same unit alone.
        return Timepoint(label, value, unit, f"unit {unit!r}", value)
    scale, name, factor, offset = known
    return Timepoint(label, value, name, scale, value * factor + offset)


def order_timepoints(
    entries: Sequence[TimeEntry],
    explicit: Sequence[str] | None = None,
    committed: Mapping[str, CommittedTime] | None = None,
) -> TimeOrder:
    """Give every label its place in time, or say what is missing.

    Parameters
    ----------
    entries : sequence of TimeEntry
        One per row that has a label; repeats are fine.
    explicit : sequence of str, optional
        All labels, earliest first. Needed when the labels are of more than one scale.
    committed : mapping of str to CommittedTime, optional
        The labels already in the atlas; their order never changes, new labels fit between them.

    Returns
    -------
    TimeOrder
        With `faults` when a label has two times, an explicit list forgets a label or contradicts
        the atlas, or labels of several scales have no explicit order.

    Examples
    --------
    >>> order_timepoints([TimeEntry("P7"), TimeEntry("E12.5")]).labels
    ('E12.5', 'P7')
    >>> print(order_timepoints([TimeEntry("E12.5"), TimeEntry("late")]).faults[0].message[:47])
    labels of more than one scale cannot be ordered
    """
    known = dict(committed or {})
    points, faults = _points(entries)
    values = {label: (point.value, point.unit) for label, point in points.items() if point}
    given = {
        label: values.get(label) or _stated(entries, label)
        for label in dict.fromkeys(entry.label for entry in entries)
    }
    if explicit is not None:
        places = {label: time.order for label, time in known.items()}
        order, more = _explicit(list(given), explicit, places)
    else:
        order, more = _implicit(points, known)
    return TimeOrder(order, given, tuple(faults + more))


def _stated(entries: Sequence[TimeEntry], label: str) -> tuple[float | None, str | None]:
    for entry in entries:
        if entry.label == label and entry.value is not None:
            return entry.value, entry.unit
    return None, None


def _points(entries: Sequence[TimeEntry]) -> tuple[dict[str, Timepoint | None], list[Fault]]:
    """One point per label: from `time_value` and `time_unit` when given, else from the label."""
    points: dict[str, Timepoint | None] = {}
    faults: list[Fault] = []
    first: dict[str, TimeEntry] = {}
    for entry in entries:
        stated = (entry.value, entry.unit)
        if entry.label in first:
            before = first[entry.label]
            if stated != (before.value, before.unit):
                faults.append(
                    Fault(
                        entry.location,
                        f"timepoint {entry.label!r} has time {_show(stated)} here but "
                        f"{_show((before.value, before.unit))} in {before.location}; "
                        "one label is one time: correct the value, or use two labels",
                    )
                )
            continue
        first[entry.label] = entry
        points[entry.label] = (
            parse_timepoint(entry.label, entry.unit)
            if entry.value is None
            else _on_scale(entry.label, entry.value, entry.unit)
        )
    return points, faults


def _show(stated: tuple[float | None, str | None]) -> str:
    value, unit = stated
    return "unstated" if value is None else f"{value:g} {unit or '(no unit)'}"


def _implicit(
    points: Mapping[str, Timepoint | None], known: Mapping[str, CommittedTime]
) -> tuple[dict[str, float], list[Fault]]:
    """Order labels by their scale, when all of them, committed ones included, share one."""
    order = {label: known[label].order for label in points if label in known}
    new = {label: point for label, point in points.items() if label not in known}
    if not new:
        return order, []
    everyone = {label: _committed_point(label, time) for label, time in known.items()}
    everyone.update(points)
    scales: dict[str, list[str]] = {}
    for label, point in everyone.items():
        scales.setdefault(point.scale if point else f"free text {label!r}", []).append(label)
    if len(scales) == 1:
        # A lone free label needs no order. A committed order that is not the scale's own was
        # given by hand, and only a hand can extend it.
        by_hand = any(
            (point := everyone[label]) is None or point.position != time.order
            for label, time in known.items()
        )
        if not by_hand:
            return {**order, **{a: p.position if p else 0.0 for a, p in new.items()}}, []
    named = "; ".join(f"{scale}: {', '.join(labels[:5])}" for scale, labels in scales.items())
    return order, [
        Fault(
            "timepoint",
            "labels of more than one scale cannot be ordered without being told "
            f"({named}); add a column timepoint_order, a `timepoints:` list to the YAML sheet, "
            "or time_value and time_unit for every row",
        )
    ]


def _committed_point(label: str, time: CommittedTime) -> Timepoint | None:
    if time.value is None:
        return parse_timepoint(label, time.unit)
    return _on_scale(label, time.value, time.unit)


def _explicit(
    labels: Sequence[str], explicit: Sequence[str], known: Mapping[str, float]
) -> tuple[dict[str, float], list[Fault]]:
    faults = [
        Fault(
            "timepoints",
            f"the order does not name {label!r}, a label in use.{near(label, explicit)}",
        )
        for label in dict.fromkeys([*labels, *known])
        if label not in explicit
    ]
    if len(set(explicit)) != len(explicit):
        twice = sorted({label for label in explicit if list(explicit).count(label) > 1})
        faults.append(Fault("timepoints", f"the order names {', '.join(map(repr, twice))} twice"))
    anchors = [label for label in explicit if label in known]
    if any(known[a] > known[b] for a, b in itertools.pairwise(anchors)):
        has = ", ".join(sorted(known, key=known.__getitem__))
        faults.append(Fault("timepoints", f"the order contradicts the atlas, which has {has}"))
    if faults:
        return {}, faults
    return _interpolate(explicit, known), []


def _interpolate(explicit: Sequence[str], known: Mapping[str, float]) -> dict[str, float]:
    """Place the labels at 0, 1, 2 and so on, or new ones between their committed neighbors."""
    order: dict[str, float] = {}
    places = [known.get(label) for label in explicit]
    for i, label in enumerate(explicit):
        if (place := places[i]) is not None:
            order[label] = place
            continue
        left = order[explicit[i - 1]] if i else None
        gap = next((j for j in range(i, len(places)) if places[j] is not None), None)
        if gap is None:
            order[label] = 0.0 if left is None else left + 1.0
        else:
            right = places[gap]
            assert right is not None
            start = right - (gap - i + 1) if left is None else left
            order[label] = start + (right - start) / (gap - i + 1)
    return order
