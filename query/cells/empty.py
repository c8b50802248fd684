"""Answers without a cell: say so, and where cells are."""

from typing import TYPE_CHECKING

from ..filters.cell_ids import COLUMN
from ..filters.predicate import In
from ..telling import tell

if TYPE_CHECKING:
    from .question import Question
    from .selection import Selection


class EmptyAnswerWarning(UserWarning):
    """No cell answers."""


class UnknownCellsWarning(UserWarning):
    """Some cells asked for by name are not in the atlas."""


def warn_nothing_found(selection: "Selection", n_found: int) -> None:
    """Warn where a place holds no cell; a filter may well find none."""
    if not n_found and selection.question.place is not None:
        tell(nothing_found(selection), EmptyAnswerWarning)


def warn_unknown_cells(question: "Question", n_found: int) -> None:
    """Warn where a question names cells, and nothing else, and some are not there."""
    asked = question.predicate
    if not isinstance(asked, In) or asked.column != COLUMN or question.place is not None:
        return
    if n_found < len(set(asked.values)):
        tell(
            f"{len(set(asked.values)):,} cells are asked for by name, but {n_found:,} are in the "
            "atlas; compare the index of .obs with the list",
            UnknownCellsWarning,
        )


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
