"""Named regions: polygons attached to sections, found by name and by what they are part of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import DerivedNotFound, InvalidArgument, near, near_or_all
from ...atlas.polygons import united
from ...atlas.regions import KIND, read_ontology, read_regions, region_areas
from .by_section import PlacesBySection, fresh_and_stale
from .places import BoolArray, FloatArray, Polygon

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.store import AtlasStore

type Ontology = Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class NamedRegion:
    """The polygons of some names in one section, read on first use (one small file)."""

    names: tuple[str, ...]
    """Ascending."""
    prefix: str
    """Attempt that holds them."""
    key: str
    section: str
    store: "AtlasStore" = field(compare=False, repr=False)

    @cached_property
    def polygon(self) -> Polygon:
        """All polygons of these names as one."""
        import shapely

        entry = self.store.derived(KIND, self.key, self.section)
        regions = read_regions(self.store, entry)
        wanted = set(self.names)
        pairs = zip(regions.names, regions.polygons, strict=True)
        return Polygon(shapely.to_wkb(united([one for name, one in pairs if name in wanted])))

    @property
    def geometry(self) -> Any:
        """All polygons of these names as one shapely geometry."""
        return self.polygon.geometry

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest enclosing box."""
        return self.polygon.bounds

    def contains(self, points: FloatArray) -> BoolArray:
        """Whether each of m points (m, 2) lies in the region or on its edge."""
        return self.polygon.contains(points)

    def cover(self, boxes: FloatArray) -> tuple[BoolArray, BoolArray]:
        """Tell which boxes (T, 4) may hold a point of it, and which lie wholly in it."""
        return self.polygon.cover(boxes)

    def __str__(self) -> str:
        return f"region {_spelled(self.names)}"


def named_places(
    store: "AtlasStore",
    names: str | Sequence[str],
    *,
    key: str | None = None,
    descendants: bool = False,
    sections: Sequence[str] | None = None,
) -> PlacesBySection:
    """Find regions by name on every section that has them.

    Parameters
    ----------
    store
        The atlas.
    names
        One name or several; a cell in any of them answers.
    key
        Which annotation; may be left out where there is one.
    descendants
        Also whatever the ontology has below these names. Names may be ids of the ontology.
    sections
        Look at these alone; None is all but those that were replaced since.

    Raises
    ------
    DerivedNotFound
        No regions at all, or none of these names in these sections; near matches are offered.
    InvalidArgument
        Several keys and none named; descendants without an ontology.
    StaleDerived
        A section that was named, or every one, was replaced since its regions were drawn.
    """
    wanted = (names,) if isinstance(names, str) else tuple(names)
    key = _one_key(store, key)
    chosen, stale = fresh_and_stale(store, KIND, key, sections)
    trees = _Ontologies(store)
    places, seen = {}, set[str]()
    for section in chosen:
        entry = store.derived(KIND, key, section)
        here = region_areas(store, entry)
        seen.update(here)
        found = set(wanted)
        if descendants:
            tree = trees.of(key, section)
            seen.update(part for row in tree for part in row if part)
            found |= below(tree, wanted)
        hits = tuple(sorted(found & here.keys()))
        if hits:
            places[section] = NamedRegion(hits, entry.prefix, key, section, store)
    what = f"region {_spelled(wanted)}{' and its parts' if descendants else ''}"
    if descendants and chosen and not any(trees.known.values()):
        raise InvalidArgument(
            f"regions with an ontology are wanted for descendants=True, but got key {key!r} "
            "without one; annotate_regions(..., ontology=table) adds it"
        )
    if not places:
        for section in stale.get("stale", ()):
            if not chosen or set(wanted) & set(_listed(store, key, section)):
                store.derived(KIND, key, section)  # raises: it was replaced since
        raise DerivedNotFound(
            f"a region of key {key!r} is wanted, but got {_spelled(wanted)}, which "
            f"{'no section has' if sections is None else 'these sections lack'}."
            f"{near_or_all(wanted[0] if wanted else '', seen)}"
        )
    return replace(PlacesBySection.of(places, what, f"has no {what} (key {key!r})"), **stale)


def _listed(store: "AtlasStore", key: str, section: str) -> list[str]:
    """Names that a snapshot lists; the files of stale regions are not opened."""
    listed: Any = store.snapshot.derived[f"{KIND}/{key}/{section}"].info.get("regions") or ()
    return [str(name) for name, _ in listed]


class _Ontologies:
    """Ontologies by their digest: sections of one key mostly share one."""

    def __init__(self, store: "AtlasStore") -> None:
        self.store = store
        self.known: dict[object, Ontology] = {}

    def of(self, key: str, section: str) -> Ontology:
        entry = self.store.derived(KIND, key, section)
        digest = entry.info.get("ontology")
        if digest not in self.known:
            self.known[digest] = read_ontology(self.store, entry)
        return self.known[digest]


def below(tree: Ontology, wanted: Iterable[str]) -> set[str]:
    """Names and ids of all nodes at or below some, which are given by name or id.

    >>> tree = [("brain", "1", ""), ("cortex", "2", "brain"), ("layer 5", "3", "cortex")]
    >>> sorted(below(tree, ["2"]))
    ['2', '3', 'cortex', 'layer 5']
    """
    children: dict[str, list[str]] = {}
    code = {name: identity for name, identity, _ in tree}
    for name, _, parent in tree:
        children.setdefault(parent, []).append(name)
    names = set(wanted)
    pending = [name for name, identity in code.items() if name in names or identity in names]
    found: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += children.get(name, [])
    return found | {code[name] for name in found if code[name]}


def _one_key(store: "AtlasStore", key: str | None) -> str:
    known = store.derived_keys(KIND)
    if key is not None and key in known:
        return key
    if not known:
        raise DerivedNotFound(
            "regions are wanted, but got an atlas without any; "
            "`tisseract annotate ATLAS --section S --regions FILE` adds them"
        )
    if key is not None:
        raise DerivedNotFound(f"regions of key {key!r} are wanted, but got none.{near(key, known)}")
    if len(known) > 1:
        raise InvalidArgument(
            f"region_key= is wanted where there are several, but got none of {sorted(known)}"
        )
    return next(iter(known))


def region_table(store: "AtlasStore") -> "pd.DataFrame":
    """Every named region: section, key, name, area in square micrometers, whether it is stale.

    The area is NaN where the unit is unknown. `stale`: the section was replaced since, and is left
    out of answers until its regions are drawn again.

    Notes
    -----
    Reads one file for each section of more than 64 names, nothing for the others.
    """
    import pandas as pd

    rows: list[tuple[str, str, str, float, bool]] = []
    snapshot = store.snapshot
    for key, sections in store.derived_keys(KIND).items():
        for section in sections:
            entry, here = snapshot.derived[f"{KIND}/{key}/{section}"], snapshot.sections
            known = section in here and here[section].um_per_unit is not None
            stale = bool(snapshot.stale_inputs(entry))
            for name, area in region_areas(store, entry).items():
                rows.append((section, key, name, area if known else np.nan, stale))
    return pd.DataFrame(rows, columns=["section", "key", "name", "area_um2", "stale"])


def _spelled(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:3]))
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
