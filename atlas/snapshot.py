"""A snapshot: what the atlas holds at one number, as values and as JSON.

A snapshot is immutable. It names every section, every piece of derived data and every run, and
for each of them the attempt that holds it and the digest of that attempt's manifest.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

from . import schema
from .entries import DerivedEntry, RunEntry, SectionEntry, SegmentEntry, derived_name
from .errors import InvalidArgument
from .manifest import digest_bytes, parse_json
from .packing import pack, unpack

__all__ = [
    "Change",
    "DerivedEntry",
    "RunEntry",
    "SectionEntry",
    "SegmentEntry",
    "Snapshot",
    "derived_name",
]


_NO_LISTS = ("replace", "expect", "expect_segments")


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit shall do to the newest snapshot, whichever that is by then.

    Attributes
    ----------
    add_sections, add_derived, add_runs : iterable of entries
        To add, or to put in the place of what bears the same name.
    remove_sections : iterable of str
        Sections to drop, with what was derived for them.
    remove_derived : iterable of str
        `<kind>/<key>/<section>` to drop.
    add_segments : iterable of SegmentEntry
        To add beside those that are there.
    remove_segments : iterable of str
        `<kind>/<key>/<attempt>` to drop; one that is gone is no fault.
    condemn : iterable of str
        Prefixes of attempts that gc is about to delete and nobody may commit any more.
    replace : bool
        Let a section take the place of another input under the same name; a conflict otherwise.
    expect : mapping of str to str or None
        `<kind>/<key>/<section>` of derived data that is added -> the attempt that it may take the
        place of, None where nothing may be there; a conflict otherwise. A name that is left out
        takes the place of whatever is there. See `Snapshot.attempts_at`.
    expect_segments : mapping of str to collection of str
        `<kind>/<key>` -> names of the segments that were seen under it; a conflict where others
        are there.
    """

    add_sections: Iterable[SectionEntry] = ()
    remove_sections: Iterable[str] = ()
    add_derived: Iterable[DerivedEntry] = ()
    remove_derived: Iterable[str] = ()
    add_segments: Iterable[SegmentEntry] = ()
    remove_segments: Iterable[str] = ()
    add_runs: Iterable[RunEntry] = ()
    condemn: Iterable[str] = ()
    replace: bool = False
    expect: Mapping[str, str | None] = field(default_factory=dict)
    expect_segments: Mapping[str, Collection[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A commit walks over the change once per rebase: a generator would be empty by then.
        for name in (item.name for item in fields(self) if item.name not in _NO_LISTS):
            value = getattr(self, name)
            if isinstance(value, str | SectionEntry | DerivedEntry | SegmentEntry | RunEntry):
                value = (value,)
            object.__setattr__(self, name, tuple(value))
        object.__setattr__(self, "expect", dict(self.expect))
        seen = {name: tuple(names) for name, names in self.expect_segments.items()}
        object.__setattr__(self, "expect_segments", seen)
        if strange := sorted(set(self.expect) - {entry.name for entry in self.add_derived}):
            raise InvalidArgument(
                f"names of derived data that is added are wanted in expect=, but got {strange[:3]}"
            )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One numbered, immutable state of the catalog.

    Attributes
    ----------
    number : int
        1 for the first; 0 for the state before it.
    parent : str, optional
        Digest of the bytes of the snapshot before.
    commit : str
        Id by which a writer knows its own commit again.
    created : str
        UTC, ISO 8601; by the writer's clock.
    message : str
        What was done, in the writer's words.
    sections, derived, segments, runs : mapping
        By section name; by `<kind>/<key>/<section>`; by `<kind>/<key>/<attempt>`; by run name.
    condemned : tuple of str
        Prefixes of deleted attempts, sorted.
    format_version : str
        `<major>.<minor>` of the writer.
    digest : str
        Digest of this snapshot's own bytes; not part of them.
    """

    number: int
    parent: str | None
    commit: str
    created: str
    message: str
    sections: Mapping[str, SectionEntry] = field(default_factory=dict)
    derived: Mapping[str, DerivedEntry] = field(default_factory=dict)
    segments: Mapping[str, SegmentEntry] = field(default_factory=dict)
    runs: Mapping[str, RunEntry] = field(default_factory=dict)
    condemned: tuple[str, ...] = ()
    format_version: str = schema.FORMAT_VERSION
    digest: str = field(default="", compare=False)
    _of_runs: dict[str, frozenset[str]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def empty(cls) -> Snapshot:
        """State of an atlas before its first commit."""
        return cls(0, None, "", "", "")

    def entries(self) -> list[SectionEntry | DerivedEntry | SegmentEntry | RunEntry]:
        """List everything that has an attempt, in the order of names."""
        sections = [self.sections[name] for name in sorted(self.sections)]
        derived = [self.derived[name] for name in sorted(self.derived)]
        segments = [self.segments[name] for name in sorted(self.segments)]
        return [
            *sections,
            *derived,
            *segments,
            *(self.runs[name] for name in sorted(self.runs)),
        ]

    def stale_inputs(self, entry: DerivedEntry | SegmentEntry) -> list[str]:
        """List the inputs, near and far, that are no longer what `entry` was computed from.

        An input `run:<name>` stands for all that the run was trained on. The field `run` alone does
        not: a saved model stays what it is when a section it learned from is replaced, and may be
        applied to others.
        """
        stale, runs = self._changed(entry.inputs)
        for run in runs:
            if run not in self._of_runs:  # every section of a key asks for the same run
                self._of_runs[run] = self._changed_of_run(run)
            stale |= self._of_runs[run]
        return sorted(stale)

    def _changed(self, inputs: Mapping[str, str]) -> tuple[set[str], set[str]]:
        """Find changed inputs, through derived data; and the runs met, unchanged themselves."""
        changed: set[str] = set()
        runs: set[str] = set()
        seen: set[str] = set()
        pending = [inputs]
        while pending:
            for name, attempt in pending.pop().items():
                if self.attempt_of(name) != attempt:
                    changed.add(name)
                elif name.startswith("run:"):
                    runs.add(name.removeprefix("run:"))
                elif name in self.derived and name not in seen:
                    seen.add(name)
                    pending.append(self.derived[name].inputs)
        return changed, runs

    def _changed_of_run(self, run: str) -> frozenset[str]:
        """Find changed inputs of a run and of the runs it was trained on."""
        changed: set[str] = set()
        seen, pending = {run}, [run]
        while pending:
            found, runs = self._changed(self.runs[pending.pop()].inputs)
            changed |= found
            pending += runs - seen
            seen |= runs
        return frozenset(changed)

    def runs_of(self, kind: str, key: str) -> dict[str, str]:
        """Section -> run, of derived data of a key that came from a run and is not stale."""
        return {
            entry.section: entry.run
            for entry in self.derived.values()
            if (entry.kind, entry.key) == (kind, key)
            and entry.run is not None
            and not self.stale_inputs(entry)
        }

    def attempt_of(self, name: str) -> str | None:
        """Attempt behind an input's name; None when the snapshot lacks it.

        `name` is `section:<name>`, `run:<name>` or `<kind>/<key>/<section>`.
        """
        scheme, _, rest = name.partition(":")
        if scheme == "section" and rest:
            return self.sections[rest].attempt if rest in self.sections else None
        if scheme == "run" and rest:
            return self.runs[rest].attempt if rest in self.runs else None
        return self.derived[name].attempt if name in self.derived else None

    def attempts_at(self, entries: Iterable[DerivedEntry]) -> dict[str, str | None]:
        """Attempt that this snapshot has under the name of each entry, None where it has none.

        What `Change.expect` wants of a writer that looked at this snapshot before it wrote.
        """
        return {entry.name: self.attempt_of(entry.name) for entry in entries}

    def to_bytes(self) -> bytes:
        """Serialize; equal snapshots give equal bytes.

        Raises
        ------
        InvalidArgument
            NaN, infinity or a value that JSON does not know in a field.
        """
        head = {
            "format": schema.SNAPSHOT_FORMAT,
            "format_version": self.format_version,
            "number": self.number,
            "parent": self.parent,
            "commit": self.commit,
            "created": self.created,
            "message": self.message,
        }
        lists = {
            "sections": [_row(self.sections[name]) for name in sorted(self.sections)],
            "derived": [_row(self.derived[name]) for name in sorted(self.derived)],
            "segments": [_row(self.segments[name]) for name in sorted(self.segments)],
            "runs": [_row(self.runs[name]) for name in sorted(self.runs)],
            "condemned": list(self.condemned),
        }
        try:
            body = pack(_encoded(head), _encoded(lists))
        except (ValueError, TypeError) as error:
            raise InvalidArgument(
                f"finite numbers, text, truth values and lists are wanted in a snapshot: {error}"
            ) from error
        return body.encode("utf-8")

    @classmethod
    def from_bytes(cls, data: bytes, number: int) -> Snapshot:
        """Read a snapshot back.

        Raises
        ------
        Corrupt
            Out of shape, or of another number.
        FormatUnsupported
            A newer format, or a required feature that is not known.
        """
        what = f"snapshot {number}"
        body = parse_json(data, what)
        schema.check_format(body, schema.SNAPSHOT_FORMAT, what)
        body = unpack(body, what)
        facts = schema.snapshot_facts(body, number, what)
        listed = schema.rows(_with_quality(body), "sections", schema.SECTION, what)
        sections = [SectionEntry(**row) for row in listed]
        derived = [
            DerivedEntry(**row) for row in schema.rows(body, "derived", schema.DERIVED, what)
        ]
        # Snapshots of format 1.0 have none.
        grouped = schema.rows({"segments": []} | dict(body), "segments", schema.SEGMENT, what)
        segments = [SegmentEntry(**row) for row in grouped]
        runs = [RunEntry(**row) for row in schema.rows(body, "runs", schema.RUN, what)]
        return cls(
            sections={entry.section: entry for entry in sections},
            derived={entry.name: entry for entry in derived},
            segments={entry.name: entry for entry in segments},
            runs={entry.run: entry for entry in runs},
            digest=digest_bytes(data),
            **facts,
        )


def _with_quality(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give sections of snapshots before format 1.2 the quality that nobody counted."""
    rows = body.get("sections")
    if not isinstance(rows, list):
        return body
    return {
        **body,
        "sections": [{"qc": {}, **row} if isinstance(row, dict) else row for row in rows],
    }


def _row(entry: SectionEntry | DerivedEntry | SegmentEntry | RunEntry) -> dict[str, object]:
    # dataclasses.asdict copies every inner mapping, which made it half the cost of a commit.
    return {name: getattr(entry, name) for name in entry.__slots__}


def _encoded(part: Mapping[str, object]) -> str:
    return json.dumps(
        part, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
    )


def _plain(value: object) -> object:
    """Turn a NumPy scalar into the Python number it holds, and any mapping into a dict."""
    if isinstance(value, Mapping):
        return dict(value)
    item = getattr(value, "item", None)
    if item is None or getattr(value, "shape", None) != ():
        raise TypeError(f"{type(value).__name__} is no JSON value")
    return cast("object", item())
