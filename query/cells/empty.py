"""Answers without a cell: say so, and where cells are."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .selection import Selection


class EmptyAnswerWarning(UserWarning):
    """No cell answers."""


def nothing_found(selection: "Selection") -> str:
    """Say that no cell answers and, for a place, what the section it lies in spans."""
    place = selection.question.place
    if place is None:
        return f"no cell answers: {selection.question}"
    spans = []
    for name in selection.candidates:
        entry = selection.store.snapshot.sections[name]
        unit = "um" if entry.um_per_unit is not None else "source units"
        xmin, ymin, xmax, ymax = entry.bounds
        spans.append(
            f"section {name!r} spans x {xmin:,.6g} to {xmax:,.6g} and y {ymin:,.6g} to "
            f"{ymax:,.6g} ({unit})"
        )
    return "; ".join([f"no cell answers: {selection.question}", *spans[:3]])
