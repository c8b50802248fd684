"""What a change makes of a snapshot: pure, so that a lost race costs one more call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .errors import CommitConflict
from .snapshot import Change, DerivedEntry, RunEntry, SectionEntry, Snapshot

__all__ = ["SHARED_KINDS", "rebase", "refuse_mixed"]

SHARED_KINDS = ("domains", "topics")
"""Kinds whose numbered labels mean the same in all sections of a key: one run for all."""

_DETERMINED = ("graph", "zgraph")
"""Kinds that their inputs and parameters determine: whoever builds the same, builds the same."""


def rebase(head: Snapshot, change: Change) -> Snapshot | None:
    """Apply a change to the newest snapshot.

    Parameters
    ----------
    head : Snapshot
        Newest snapshot.
    change : Change
        What shall be done.

    Returns
    -------
    Snapshot or None
        The contents that follow, still with `head`'s number, or None when `head` already holds
        the change.

    Raises
    ------
    CommitConflict
        An attempt that gc has condemned; a section or run present with another input; derived
        data that takes the place of another attempt than it may, or segments that are not those
        seen; an input of derived data that is gone or replaced; labels of another run than those
        that the key has in other sections; a prefix to condemn that is in use.
    """
    _refuse_condemned(head, change)
    _refuse_unseen_segments(head, change)
    sections = _sections(head, change)
    runs = dict(head.runs)
    for run in change.add_runs:
        _add_run(runs, run)
    removed = {name for name in change.remove_sections if name not in sections}
    doomed = set(change.remove_derived)
    derived = {
        name: entry
        for name, entry in head.derived.items()
        if entry.section not in removed and name not in doomed
    }
    derived.update(
        {entry.name: entry for entry in change.add_derived if _takes_place(head, change, entry)}
    )
    dropped = set(change.remove_segments)
    segments = {name: entry for name, entry in head.segments.items() if name not in dropped}
    segments.update({entry.name: entry for entry in change.add_segments})
    after = replace(
        head,
        sections=sections,
        runs=runs,
        derived=derived,
        segments=segments,
        condemned=tuple(sorted({*head.condemned, *change.condemn})),
    )
    for entry in change.add_derived:
        _check_inputs(after, entry)
    _check_runs(after, change)
    _refuse_in_use(after, change)
    return None if after == head else after


def _refuse_condemned(head: Snapshot, change: Change) -> None:
    condemned = set(head.condemned)
    added = [entry.prefix for entry in change.add_sections]
    added += [entry.prefix for entry in change.add_derived]
    added += [entry.prefix for entry in change.add_segments]
    added += [entry.prefix for entry in change.add_runs]
    for prefix in added:
        if prefix in condemned:
            raise CommitConflict(
                f"an attempt that still exists is wanted, but got {prefix!r}, which gc "
                "condemned because it waited longer than the grace period; re-run the step "
                "that wrote it"
            )


def _takes_place(head: Snapshot, change: Change, entry: DerivedEntry) -> bool:
    """Tell whether derived data is to be put in; False where the same graph is there already.

    Raises
    ------
    CommitConflict
        Another attempt is there than the one that was seen.
    """
    present = head.derived.get(entry.name)
    there = None if present is None else present.attempt
    if entry.name not in change.expect or there in (entry.attempt, change.expect[entry.name]):
        return True
    if present is not None and entry.kind in _DETERMINED and _same(present, entry):
        return False
    seen = change.expect[entry.name]
    raise CommitConflict(
        f"{entry.name!r} {_as_seen(seen)} is wanted, as when this step began, but got "
        f"{_who(head, present)}; see what is there with atlas.refresh() and run the step again, "
        "or replace it with overwrite=True"
    )


def _same(one: DerivedEntry, other: DerivedEntry) -> bool:
    said = [(dict(e.inputs), e.info.get("kind"), e.info.get("parameters")) for e in (one, other)]
    return said[0] == said[1]


def _as_seen(attempt: str | None) -> str:
    return "not there" if attempt is None else f"in attempt {attempt}"


def _who(head: Snapshot, present: DerivedEntry | None) -> str:
    if present is None:
        return f"none of it in version {head.number}: it was removed meanwhile"
    run = "" if present.run is None else f" of run {present.run!r}"
    return f"attempt {present.attempt}{run} in version {head.number}, committed meanwhile"


def _refuse_unseen_segments(head: Snapshot, change: Change) -> None:
    own = {entry.name for entry in change.add_segments}
    if own and own <= head.segments.keys():
        return  # the change is in already, and with it what it dropped
    for name, seen in change.expect_segments.items():
        there = {one for one, e in head.segments.items() if f"{e.kind}/{e.key}" == name} - own
        if there != set(seen):
            found = f"{len(there)} ({', '.join(sorted(there)[:2])})" if there else "none"
            raise CommitConflict(
                f"{name!r} with the {len(seen)} segments that were there when this step began is "
                f"wanted, but got {found} in version {head.number}, committed meanwhile; see what "
                "is there with atlas.refresh() and run the step again, or choose another key"
            )


def _sections(head: Snapshot, change: Change) -> dict[str, SectionEntry]:
    sections = dict(head.sections)
    for name in change.remove_sections:
        sections.pop(name, None)
    for entry in change.add_sections:
        present = sections.get(entry.section)
        if present is not None and not change.replace:
            if present.fingerprint == entry.fingerprint:
                continue
            raise CommitConflict(
                f"a new name or the same input is wanted for section {entry.section!r}, but got "
                f"input {entry.fingerprint[:24]!r} where {present.fingerprint[:24]!r} is "
                "committed; rename the section, or ingest with overwrite"
            )
        sections[entry.section] = entry
    return sections


def _add_run(runs: dict[str, RunEntry], run: RunEntry) -> None:
    present = runs.get(run.run)
    if present is not None and present.attempt != run.attempt:
        raise CommitConflict(
            f"a new name is wanted for run {run.run!r}, but got one that is committed already; "
            "runs are never replaced, choose another name"
        )
    runs[run.run] = run


def _check_inputs(after: Snapshot, entry: DerivedEntry) -> None:
    if entry.section not in after.sections:
        raise CommitConflict(
            f"{entry.name!r} needs section {entry.section!r}, but got a snapshot without it; "
            "it was removed meanwhile"
        )
    if entry.run is not None and entry.run not in after.runs:
        raise CommitConflict(
            f"{entry.name!r} needs run {entry.run!r}, but got a snapshot without it; "
            "commit the run first, or together"
        )
    stale = after.stale_inputs(entry)
    if stale:
        raise CommitConflict(
            f"{entry.name!r} needs the inputs it was computed from, but got others: "
            f"{', '.join(stale)} was replaced or removed meanwhile; re-run the step"
        )


def _check_runs(after: Snapshot, change: Change) -> None:
    added: dict[tuple[str, str], dict[str, str]] = {}
    for entry in change.add_derived:
        if entry.kind in SHARED_KINDS and entry.run is not None:
            added.setdefault((entry.kind, entry.key), {})[entry.section] = entry.run
    for (kind, key), runs in added.items():
        found = after.runs_of(kind, key)
        for section, run in runs.items():
            others = [name for name, other in sorted(found.items()) if other != run]
            refuse_mixed(kind, key, section, others)


def refuse_mixed(kind: str, key: str, section: str, others: Sequence[str]) -> None:
    """Refuse labels of a section beside those that other sections have of another run.

    Raises
    ------
    CommitConflict
        There are such sections.
    """
    if others:
        raise CommitConflict(
            f"{kind} {key!r} of one run in all sections are wanted, but got another run for "
            f"{section!r} than {', '.join(map(repr, others[:3]))} has; the same number would mean "
            "different things: use another key, or compute all sections of this key again"
        )


def _refuse_in_use(after: Snapshot, change: Change) -> None:
    if not change.condemn:
        return
    used = {entry.prefix for entry in after.entries()} & set(change.condemn)
    if used:
        raise CommitConflict(
            f"attempts that nobody uses are wanted for deletion, but got {sorted(used)[:3]}, "
            "committed meanwhile; run gc again"
        )
