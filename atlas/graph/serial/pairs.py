"""Which sections of a series are neighbors in z: a pure choice from the catalog."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ...errors import InvalidArgument, SectionNotFound, UnitUnknown, near

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ...snapshot import SectionEntry

__all__ = ["ZPair", "choose_pairs"]

# Columns of the sample sheet that tell one block of tissue from another.
_SPECIMEN = ("donor", "specimen")


@dataclass(frozen=True, slots=True)
class ZPair:
    """An ordered pair of sections: cells of the first have neighbors in the second."""

    section: str
    """Name of the section whose cells are the rows."""
    neighbor: str
    """Name of the section whose cells are the columns."""
    gap_um: float
    """Distance of the two in z, micrometers, not negative."""


def choose_pairs(
    entries: Mapping[str, SectionEntry],
    *,
    sections: Iterable[str] | None = None,
    pairs: Iterable[tuple[str, str]] | None = None,
    max_gap_um: float | None = None,
) -> tuple[ZPair, ...]:
    """Choose ordered pairs of sections.

    Parameters
    ----------
    entries : mapping of str to SectionEntry
        All sections of the catalog; `z_um` is read from their metadata.
    sections : iterable of str, optional
        Sections of the series; all that have a `z_um` and a donor or specimen by default.
        Sections of one donor and specimen make a series; each is paired with those at the next
        height, in both directions. Sections with neither are a series only where named here.
    pairs : iterable of (str, str), optional
        Exactly these pairs instead, in this order.
    max_gap_um : float, optional
        Leave out pairs that lie farther apart in z; no bound by default.

    Returns
    -------
    tuple of ZPair
        None twice.

    Raises
    ------
    SectionNotFound
        An unknown name.
    UnitUnknown
        The unit of a section's x and y is not known, so z cannot be compared with them.
    InvalidArgument
        A section without `z_um`, a section paired with itself or with one of another organism,
        or no pair at all.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> heights = {"s1": 0.0, "s2": 10.0, "s3": 25.0}
    >>> entries = {s: SimpleNamespace(um_per_unit=1.0, metadata={"z_um": z, "donor": "d1"})
    ...            for s, z in heights.items()}
    >>> [(pair.section, pair.neighbor, pair.gap_um) for pair in choose_pairs(entries)]
    [('s1', 's2', 10.0), ('s2', 's1', 10.0), ('s2', 's3', 15.0), ('s3', 's2', 15.0)]
    """
    if sections is not None and pairs is not None:
        raise InvalidArgument("either sections or pairs are wanted, but got both; leave one out")
    bound = math.inf if max_gap_um is None else _gap(max_gap_um)
    if pairs is not None:
        named = [_named(pair) for pair in pairs]
        heights = _heights(entries, [name for pair in named for name in pair])
    else:
        heights = _heights(entries, _in_series(entries) if sections is None else sections)
        named = _consecutive(entries, heights)
    _refuse_organisms(entries, named)
    found = [ZPair(a, b, abs(heights[b] - heights[a])) for a, b in dict.fromkeys(named)]
    chosen = tuple(pair for pair in found if pair.gap_um <= bound)
    if not chosen:
        closest = min((pair.gap_um for pair in found), default=None)
        got = (
            f"{len(heights)} sections with z_um and a donor, none consecutive in a series"
            if closest is None
            else f"none nearer than {closest:g} um with max_gap_um={bound:g}"
        )
        raise InvalidArgument(
            f"two sections of one series, with z_um, are wanted, but got {got}; fill the columns "
            "z_um and donor (or specimen) of the sample sheet and ingest again, or name the "
            "sections"
        )
    return chosen


def _in_series(entries: Mapping[str, SectionEntry]) -> list[str]:
    """Sections of which the sheet says both the height and the tissue block."""
    return [
        name
        for name, entry in entries.items()
        if entry.metadata.get("z_um") is not None and any(_series(entry))
    ]


def _series(entry: SectionEntry) -> tuple[object, ...]:
    """Tell the tissue block of a section; empty text is no answer."""
    return tuple(entry.metadata.get(column) or None for column in _SPECIMEN)


def _refuse_organisms(
    entries: Mapping[str, SectionEntry], pairs: Iterable[tuple[str, str]]
) -> None:
    """Refuse pairs that cannot be of one body."""
    for a, b in pairs:
        one, other = (entries[name].metadata.get("organism") or None for name in (a, b))
        if one is not None and other is not None and one != other:
            raise InvalidArgument(
                f"serial sections of one organism are wanted, but got {one!r} ({a!r}) and "
                f"{other!r} ({b!r}); mend the column donor or organism of the sample sheet and "
                "ingest again, or name other sections"
            )


def _named(pair: Iterable[str]) -> tuple[str, str]:
    names = [] if isinstance(pair, str) else list(pair)
    if len(names) != 2 or names[0] == names[1]:
        raise InvalidArgument(
            f"pairs of two different sections are wanted, but got {pair!r}; the neighbors of a "
            "section in itself are a graph of its own"
        )
    return names[0], names[1]


def _gap(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise InvalidArgument(f"max_gap_um must be a length above 0 um, but got {value!r}")
    return float(value)


def _heights(entries: Mapping[str, SectionEntry], names: Iterable[str]) -> dict[str, float]:
    """Heights of sections in micrometers; refuses sections that lack one, all at once."""
    heights: dict[str, float] = {}
    missing: list[str] = []
    for name in dict.fromkeys([names] if isinstance(names, str) else names):
        entry = entries.get(name)
        if entry is None:
            raise SectionNotFound(f"a section is wanted, but got {name!r}.{near(name, entries)}")
        if entry.um_per_unit is None:
            raise UnitUnknown(
                f"positions in micrometers are wanted to compare z_um with, but the unit of "
                f"section {name!r} is not known; ingest it again with um_per_unit"
            )
        height = entry.metadata.get("z_um")
        if isinstance(height, int | float) and not isinstance(height, bool):
            heights[name] = float(height)
        else:
            missing.append(name)
    if missing:
        shown = ", ".join(repr(name) for name in missing[:5])
        raise InvalidArgument(
            f"the height z_um of every section is wanted, but got none for {shown}"
            f"{' and others' if len(missing) > 5 else ''}; fill the column z_um of the sample "
            "sheet and ingest again, or leave them out"
        )
    return heights


def _consecutive(
    entries: Mapping[str, SectionEntry], heights: Mapping[str, float]
) -> list[tuple[str, str]]:
    """Pairs of sections at neighboring heights of one series, in both directions."""
    series: dict[tuple[object, ...], dict[float, list[str]]] = {}
    for name in sorted(heights, key=lambda name: (heights[name], name)):
        series.setdefault(_series(entries[name]), {}).setdefault(heights[name], []).append(name)
    return [
        ordered
        for levels in series.values()
        for below, above in pairwise(levels.values())
        for ordered in _both_ways(below, above)
    ]


def _both_ways(below: Sequence[str], above: Sequence[str]) -> list[tuple[str, str]]:
    up = [(a, b) for a in below for b in above]
    return up + [(b, a) for a, b in up]
