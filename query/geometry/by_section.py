"""A place that is another one in each section: a named region, a box of a common frame."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .places import BoolArray, FloatArray, Place

if TYPE_CHECKING:
    from ..cells.question import Question


@dataclass(frozen=True, slots=True)
class Nowhere:
    """No point at all: what a place is in a section that lacks it."""

    why: str
    """The reason, such as "has no region 'CA1'"; a plan prints it beside the section."""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """An empty box, inside out: it meets no other."""
        return np.inf, np.inf, -np.inf, -np.inf

    def contains(self, points: FloatArray) -> BoolArray:
        """Answer False for each of m points (m, 2)."""
        return np.zeros(len(points), bool)

    def cover(self, boxes: FloatArray) -> tuple[BoolArray, BoolArray]:
        """Tell that no box (T, 4) holds a point of it, nor lies in it."""
        return np.zeros(len(boxes), bool), np.zeros(len(boxes), bool)

    def __str__(self) -> str:
        return "nowhere"


@dataclass(frozen=True, slots=True)
class PlacesBySection:
    """One place a section, each in the coordinates of its section.

    A section that is not named has no point of it: its place is `Nowhere`.
    """

    places: tuple[tuple[str, Place], ...]
    """Sections in ascending order, each with its place."""
    words: str
    """What was asked for, such as "region 'CA1'"."""
    why_not: str = "does not have this place"
    """What is told of a section without one."""

    @classmethod
    def of(
        cls, places: Mapping[str, Place], words: str, why_not: str = "does not have this place"
    ) -> "PlacesBySection":
        """Gather places by the name of their section.

        >>> from .places import Box
        >>> found = PlacesBySection.of({"s2": Box(0, 0, 1, 1)}, "region 'CA1'", "has no CA1")
        >>> str(found.at("s2")), found.at("s1").why
        ('box (0, 0, 1, 1)', 'has no CA1')
        """
        return cls(tuple(sorted(places.items())), words, why_not)

    @property
    def sections(self) -> tuple[str, ...]:
        """Sections that have the place."""
        return tuple(name for name, _ in self.places)

    def at(self, section: str) -> Place:
        """Place in one section, `Nowhere` where it has none."""
        for name, place in self.places:
            if name == section:
                return place
        return Nowhere(self.why_not)

    def __str__(self) -> str:
        n = len(self.places)
        return f"{self.words} ({n} section{'' if n == 1 else 's'})"


def place_of(question: "Question", section: str) -> Place | None:
    """Where the cells of one section must lie, in its own coordinates; None is everywhere.

    Parameters
    ----------
    question
        What is asked.
    section
        Name of a section.

    Returns
    -------
    Place or None
        `Nowhere` where the question is about places that this section does not have.
    """
    where = question.place
    return where.at(section) if isinstance(where, PlacesBySection) else where
