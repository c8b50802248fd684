"""Which sections a summary lacks, which segments are merged: decided from the catalog alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...atlas.entries import derived_name
from ...atlas.errors import Corrupt, InvalidArgument

if TYPE_CHECKING:
    from ...atlas.snapshot import SegmentEntry, Snapshot
    from ..filters.columns import Column

__all__ = [
    "KIND",
    "MOST_SEGMENTS",
    "GroupedBy",
    "SummaryPlan",
    "cell_columns",
    "fresh_sections",
    "holds_cells",
    "inputs_of",
    "number_in",
    "plan_summary",
    "segments_of",
    "to_merge",
]

KIND = "summary"
MOST_SEGMENTS = 3
"""Segments of one key that are left unmerged; a gene costs a request and an index for each."""

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
# Sources of columns that are derived data of their own, and the kind of it.
_DERIVED = {"domains": "domains", "confidence": "domains", "annotations": "annotation"}

type GroupedBy = tuple[tuple[str, str], ...]
"""Source and key of each column that cells are grouped by."""


def cell_columns(columns: Sequence[Column]) -> list[Column]:
    """Columns that differ within a section; those of the sections are in the catalog."""
    return [column for column in columns if column.source != "meta"]


def inputs_of(snapshot: Snapshot, section: str, by: GroupedBy) -> dict[str, str]:
    """Name what a section's part of a summary is computed from: input -> attempt."""
    inputs = {f"section:{section}": snapshot.sections[section].attempt}
    for source, key in by:
        if source in _DERIVED:
            entry = snapshot.derived.get(derived_name(_DERIVED[source], key, section))
            if entry is not None:
                inputs[entry.name] = entry.attempt
    return inputs


def fresh_sections(snapshot: Snapshot, entry: SegmentEntry) -> list[str]:
    """Sections of a segment whose numbers were computed from what the snapshot holds.

    One whose labels are stale themselves is not fresh: who asks shall be told.
    """
    by = grouped_by(entry)
    covered = [name[8:] for name in entry.inputs if name.startswith("section:")]
    return [
        section
        for section in covered
        if section in snapshot.sections and _is_fresh(snapshot, entry, section, by)
    ]


def _is_fresh(snapshot: Snapshot, entry: SegmentEntry, section: str, by: GroupedBy) -> bool:
    wanted = inputs_of(snapshot, section, by)
    names = [f"section:{section}"]
    names += [derived_name(_DERIVED[s], key, section) for s, key in by if s in _DERIVED]
    if any(entry.inputs.get(name) != wanted.get(name) for name in names):
        return False
    return not any(
        snapshot.stale_inputs(snapshot.derived[name]) for name in names[1:] if name in wanted
    )


def holds_cells(snapshot: Snapshot, entry: SegmentEntry, section: str, *, all_cells: bool) -> bool:
    """Tell whether a segment summed the cells that are asked for: all, or those passing QC."""
    if bool(entry.info.get("all_cells", False)) == all_cells:
        return True
    flag = snapshot.sections[section].columns.get("qc_pass", {})
    return flag.get("kind") != "boolean"


def grouped_by(entry: SegmentEntry) -> GroupedBy:
    """Tell what a segment's cells were grouped by, as its entry says."""
    try:
        found = entry.info["by"]
        return tuple((str(one["source"]), str(one["key"])) for one in found)
    except (KeyError, TypeError) as error:
        raise Corrupt(
            f"columns that cells are grouped by are wanted in the entry of {entry.name!r}, but got "
            f"{entry.info.get('by')!r:.100}; run `tisseract verify`"
        ) from error


def segments_of(snapshot: Snapshot, key: str) -> list[SegmentEntry]:
    """Segments of a summary, the newest first."""
    found = [e for e in snapshot.segments.values() if (e.kind, e.key) == (KIND, key)]
    return sorted(found, key=lambda e: (-number_in(e, "snapshot"), e.attempt))


def number_in(entry: SegmentEntry, name: str) -> int:
    """Return a number of a segment's facts, 0 where it is none."""
    value = entry.info.get(name)
    return value if isinstance(value, int) else 0


@dataclass(frozen=True, slots=True)
class SummaryPlan:
    """What `summarize` will do; printing it says so."""

    key: str
    by: GroupedBy
    all_cells: bool
    """Every cell, not only those that pass quality control."""
    todo: tuple[str, ...]
    """Sections to compute."""
    done: tuple[str, ...]
    """Sections whose summary is there and current."""
    dropped: tuple[str, ...]
    """Segments of which nothing is wanted any more, by name."""

    def __str__(self) -> str:
        by = ", ".join(key for _, key in self.by) or "whole sections"
        return (
            f"summary {self.key!r} by {by}: {len(self.todo)} sections to compute, "
            f"{len(self.done)} there, {len(self.dropped)} segments to drop"
        )


def plan_summary(
    snapshot: Snapshot,
    columns: Sequence[Column],
    sections: Sequence[str],
    *,
    key: str | None = None,
    all_cells: bool = False,
    overwrite: bool = False,
) -> SummaryPlan:
    """Decide what a summary lacks.

    Parameters
    ----------
    snapshot
        What the atlas holds.
    columns
        Columns to group by; those of sections are left out, as the catalog has them.
    sections
        Sections wanted.
    key
        Name of the summary; made from the columns without.
    all_cells
        Every cell, not only those that pass quality control.
    overwrite
        Compute what is there again.

    Raises
    ------
    InvalidArgument
        A summary of this name is there and was grouped by other columns, or of other cells.
    """
    by = tuple(dict.fromkeys((c.source, c.key) for c in cell_columns(columns)))
    name = summary_key(by) + ("-all_cells" if all_cells else "") if key is None else key
    there = segments_of(snapshot, name)
    for entry in there:
        same = bool(entry.info.get("all_cells", False)) == all_cells
        if set(grouped_by(entry)) != set(by) or not same:
            was = ", ".join(":".join(one) for one in grouped_by(entry)) or "nothing"
            was += "" if same else ", of other cells"
            raise InvalidArgument(
                f"a new name is wanted for this summary, but got {name!r}, which groups by {was}; "
                "give another key_added"
            )
    fresh = {entry.name: fresh_sections(snapshot, entry) for entry in there}
    known = set() if overwrite else {section for found in fresh.values() for section in found}
    again = set(sections) if overwrite else set()
    return SummaryPlan(
        name,
        grouped_by(there[0]) if there else by,
        all_cells,
        tuple(s for s in sections if s not in known),
        tuple(s for s in sections if s in known),
        tuple(entry.name for entry in there if set(fresh[entry.name]) <= again),
    )


def summary_key(by: GroupedBy) -> str:
    """Name of a summary by what it groups by.

    >>> summary_key(()), summary_key((("domains", "gnn"), ("obs", "cell_type")))
    ('whole', 'domains.gnn-obs.cell_type')
    >>> summary_key((("obs", "Zelltyp ü"),))
    'by-5d9c00ac50'
    """
    if not by:
        return "whole"
    text = "-".join(f"{source}.{key}" for source, key in by)
    if _PLAIN.fullmatch(text) and len(text) <= 100:
        return text
    return f"by-{hashlib.sha256(json.dumps(by).encode()).hexdigest()[:10]}"


def to_merge(widths: Mapping[str, int], most: int = MOST_SEGMENTS) -> list[str]:
    """Choose segments to make one of, so that at most `most` remain; none where there are few.

    The smallest are taken first, then those that are not twice as large as what was taken: a
    section's numbers are then written again a number of times that grows with the logarithm of
    the sections, not with how often some were added.

    Parameters
    ----------
    widths
        Columns of each segment by name.
    most
        How many may remain.

    >>> to_merge({"a": 1000, "b": 10, "c": 20})
    []
    >>> to_merge({"a": 1000, "b": 10, "c": 20, "d": 1})
    ['d', 'b', 'c']
    """
    if len(widths) <= most:
        return []
    ordered = sorted(widths, key=lambda name: (widths[name], name))
    taken = ordered[: len(widths) - most + 1]
    total = sum(widths[name] for name in taken)
    for name in ordered[len(taken) :]:
        if widths[name] > 2 * total:
            break
        taken.append(name)
        total += widths[name]
    return taken
