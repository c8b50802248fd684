"""An index as it is on disk now: which windows of which sections still hold."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...atlas.errors import DerivedNotFound, StaleDerived, near_or_all
from .features import Projected
from .parameters import IndexParameters
from .segment import Segment
from .windows import WindowGrid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.snapshot import SegmentEntry
    from ...atlas.store import AtlasStore

KIND = "index"


@dataclass(frozen=True, slots=True)
class SectionWindows:
    """Where the windows of a section lie in its segment."""

    segment: int
    number: int
    """Of the section in its segment."""
    start: tuple[int, ...]
    """First row, for each size."""
    stop: tuple[int, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Segments of one key, and the sections whose windows still hold."""

    key: str
    parameters: IndexParameters
    segments: tuple[Segment, ...]
    rows: Mapping[str, SectionWindows]
    """By section, in order of names."""
    stale: tuple[str, ...]
    """Sections whose windows were made from what was replaced since."""

    @property
    def entries(self) -> "list[SegmentEntry]":
        """Entries of the segments in use."""
        return [segment.entry for segment in self.segments]

    @property
    def width(self) -> int:
        """Numbers of a description."""
        return int(self.segments[0].facts["width"])

    @property
    def values(self) -> Mapping[str, list[str]]:
        """Values of each column of which shares are kept."""
        return cast("Mapping[str, list[str]]", self.segments[0].facts["values"])

    def projection(self) -> Projected:
        """Directions of the plain space, with no section in it yet."""
        genes = tuple(map(str, self.segments[0].facts["genes"]))
        weights = self.segments[0].read("projection").astype(np.float32)
        return Projected(genes, {}, weights)

    def grid(self, section: str, size: int) -> WindowGrid:
        """Grid of one size in a section."""
        facts = self.rows[section].facts
        side = self.parameters.sizes[size] * float(facts["scale"])
        return WindowGrid(float(facts["x"]), float(facts["y"]), side)

    def center(self, section: str) -> "NDArray[np.float64]":
        """Mean of the features over a section, (d,)."""
        at = self.rows[section]
        found = self.segments[at.segment].read("center", [(at.number, at.number + 1)])
        return np.asarray(found[0], np.float64)

    def _moments(self, size: int, part: str) -> "tuple[NDArray[np.float64], ...]":
        """Mean and mean square of a part over the windows that hold, (d,) each."""
        n, total, square = 0, np.zeros(self.width), np.zeros(self.width)
        first = 0 if part == "mean" else 2
        for number, segment in enumerate(self.segments):
            here = [at for at in self.rows.values() if at.segment == number]
            sums = segment.read(f"w{size}.moments").reshape(-1, 4, self.width)
            chosen = sums[[at.number for at in here]]
            n += sum(at.stop[size] - at.start[size] for at in here)
            total += chosen[:, first].sum(axis=0)
            square += chosen[:, first + 1].sum(axis=0)
        return total / max(n, 1), square / max(n, 1)

    def scale(self, size: int, part: str) -> "NDArray[np.float64]":
        """Find the deviation of each number of a description over all windows, (d,).

        Over the windows of one size of all sections that still hold; a twentieth of the mean
        variance over all numbers is added to each, so that directions in which windows hardly
        differ do not count like the others.
        """
        mean, square = self._moments(size, part)
        variance = np.maximum(square - mean**2, 0.0)
        floor = 0.05 * float(variance.mean())
        return np.sqrt(variance + floor) if floor > 0 else np.ones(self.width)

    def level(self, size: int) -> "NDArray[np.float64]":
        """Mean spread of the windows of a size, (d,)."""
        return self._moments(size, "spread")[0]


def open_index(store: "AtlasStore", key: str, *, missing_ok: bool = False) -> Index | None:
    """Open an index; None where there is none and that is no fault.

    Raises
    ------
    DerivedNotFound
        No index of this key.
    StaleDerived
        No section of it holds any more.
    """
    snapshot = store.snapshot
    entries = [e for e in snapshot.segments.values() if (e.kind, e.key) == (KIND, key)]
    if not entries:
        if missing_ok:
            return None
        keys = sorted({e.key for e in snapshot.segments.values() if e.kind == KIND})
        raise DerivedNotFound(
            f"an index {key!r} is wanted, but got none.{near_or_all(key, keys)} Make it with "
            f"`tisseract index {store.url} --key {key}`, or atlas.build_index({key!r})"
        )
    segments: list[Segment] = []
    rows: dict[str, SectionWindows] = {}
    stale: set[str] = set()
    for entry in sorted(entries, key=lambda e: e.attempt):
        segment = Segment(store.storage, entry)
        held = _held(store, segment, len(segments))
        stale |= {name for name, at in held.items() if at is None}
        fresh = {name: at for name, at in held.items() if at is not None and name not in rows}
        if fresh and (not segments or _alike(segments[0], segment)):
            segments.append(segment)
            rows |= fresh
    stale -= set(rows)
    if not rows:
        if missing_ok:
            return None
        raise StaleDerived(
            f"index {key!r} made from what the atlas holds now is wanted, but all of its "
            f"{len(stale)} sections were replaced or removed since; run "
            f"`tisseract index {store.url} --key {key}` (and the options of then)"
        )
    parameters = IndexParameters.from_dict(segments[0].facts["parameters"])
    ordered = {name: rows[name] for name in sorted(rows)}
    return Index(key, parameters, tuple(segments), ordered, tuple(sorted(stale)))


def _alike(one: Segment, other: Segment) -> bool:
    return all(
        one.facts.get(n) == other.facts.get(n) for n in ("parameters", "genes", "values", "width")
    )


def _held(store: "AtlasStore", segment: Segment, number: int) -> dict[str, SectionWindows | None]:
    """Sections of a segment with their rows; None for those that were replaced since."""
    snapshot = store.snapshot
    found: dict[str, SectionWindows | None] = {}
    described = segment.facts["sections"]
    begin = [0] * len(segment.facts["parameters"]["sizes"])
    for place, facts in enumerate(described):
        end = [a + int(n) for a, n in zip(begin, facts["windows"], strict=True)]
        name = str(facts["section"])
        if name in snapshot.sections:
            changed = bool(snapshot.stale_inputs(replace(segment.entry, inputs=facts["inputs"])))
            changed |= any(label in snapshot.derived for label in facts.get("without", ()))
            at = SectionWindows(number, place, tuple(begin), tuple(end), facts)
            found[name] = None if changed else at
        begin = end
    return found
