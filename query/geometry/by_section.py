"""A place that is another one in each section: a named region, a box of a common frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.stale import remaking
from ..telling import tell
from .places import BoolArray, FloatArray, Place

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore
    from ..cells.question import Question

_NAMED = 10


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
    stale: tuple[str, ...] = ()
    """Sections left out, as what tells their place was made from what was replaced since."""
    mend: str = ""
    """What makes it again."""

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
        if section in self.stale:
            return Nowhere(f"was replaced since; make its place again with {self.mend}")
        return Nowhere(self.why_not)

    def __str__(self) -> str:
        n = len(self.places)
        return f"{self.words} ({n} section{'' if n == 1 else 's'})"


class StalePlacesWarning(UserWarning):
    """Sections were left out, as their regions or affines are of what was replaced since."""


def fresh_and_stale(
    store: "AtlasStore", kind: str, key: str, sections: Sequence[str] | None
) -> tuple[list[str], dict[str, Any]]:
    """Divide the sections of a key: those that answer, and what `PlacesBySection` tells of others.

    Parameters
    ----------
    store
        The atlas.
    kind, key
        Derived data that tell the place, one of each section.
    sections
        Those named in the question, none of which is left out; None is all.
    """
    known = store.derived_keys(kind)[key]
    if sections is not None:
        return [name for name in known if name in sections], {}
    stale = [name for name in known if store.is_stale(kind, key, name)]
    if not stale:
        return known, {}
    mend = remaking(store.snapshot.derived[f"{kind}/{key}/{stale[0]}"], store.url)
    facts = {"stale": tuple(stale), "mend": mend}
    return [name for name in known if name not in stale], facts


def warn_stale_places(places: PlacesBySection, among: Sequence[str]) -> None:
    """Warn of sections that were left out, if the rest of the question leaves them."""
    names = [name for name in places.stale if name in among]
    if names:
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        tell(
            f"left out of {places.words}, as what tells their place was made from what was "
            f"replaced since: {', '.join(names[:_NAMED])}{more}; make it again with {places.mend}",
            StalePlacesWarning,
        )


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
