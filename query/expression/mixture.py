"""Sections whose numbers do not compare: counts beside logarithms, micrometers beside pixels."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...atlas.errors import InvalidArgument
from ..telling import tell

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.snapshot import SectionEntry

# Sections named in a message.
_NAMED = 3

LOG_RULES: Mapping[str, str] = {
    "counts": "log1p(counts per 10,000)",
    "expected": "log1p(counts per 10,000)",
    "normalized": "log1p(stored)",
    "log1p": "as stored",
}
"""What `normalize="log1p"` does, by what a section holds; compositions are refused."""


class MixedValuesWarning(UserWarning):
    """Sections of one answer hold numbers of different kinds or units; the answer says which."""


def unit_of(entry: "SectionEntry") -> str:
    """Tell the unit of a section's positions, `um` or `source`."""
    return "um" if entry.um_per_unit is not None else "source"


def differing(entries: Sequence["SectionEntry"]) -> dict[str, dict[str, str]]:
    """Find what sections differ in, `values` or `unit`, and for each what every section has."""
    facts = {
        "values": {entry.section: entry.values for entry in entries},
        "unit": {entry.section: unit_of(entry) for entry in entries},
    }
    return {name: found for name, found in facts.items() if len(set(found.values())) > 1}


def warn_mixed(
    entries: Sequence["SectionEntry"],
    normalize: str | None = None,
    facts: Iterable[str] = ("values", "unit"),
) -> None:
    """Warn with `MixedValuesWarning` where numbers of the sections do not compare."""
    mixed = {name: found for name, found in differing(entries).items() if name in set(facts)}
    parts = []
    if "values" in mixed and not normalize:
        parts.append(f"the stored values are of several kinds: {_groups(mixed['values'])}")
    unscaled = {e.section: e.values for e in entries if e.values in ("normalized", "log1p")}
    if normalize and unscaled:
        done = "normalized values are only logged, log1p values left as stored"
        parts.append(f"not all sections hold counts: {_groups(unscaled)}; {done}")
    if "unit" in mixed:
        parts.append(f"positions are in several units: {_groups(mixed['unit'])}")
    if parts:
        where = " and ".join(f"obs[{name!r}]" for name in mixed) or "uns['tisseract']"
        message = f"{'; '.join(parts)}. {where} tells cells apart"
        tell(message, MixedValuesWarning)


def _groups(kinds: Mapping[str, str]) -> str:
    """Say which sections are of which kind.

    >>> _groups({"a": "counts", "b": "log1p", "c": "counts"})
    'counts (a, c), log1p (b)'
    """
    groups: dict[str, list[str]] = {}
    for section, kind in kinds.items():
        groups.setdefault(kind, []).append(section)
    parts = []
    for kind in sorted(groups):
        more = len(groups[kind]) - _NAMED
        shown = ", ".join(groups[kind][:_NAMED]) + (f" and {more} more" if more > 0 else "")
        parts.append(f"{kind} ({shown})")
    return ", ".join(parts)


def told_apart(
    obs: "pd.DataFrame",
    entries: Sequence["SectionEntry"],
    facts: Iterable[str] = ("values", "unit"),
) -> "pd.DataFrame":
    """Join a column for each fact the sections differ in; `section:<name>` where it is taken."""
    import pandas as pd

    mixed = differing(entries)
    for name in facts:
        if name in mixed:
            section = obs["section"].astype(object)
            spelled = name if name not in obs.columns else f"section:{name}"
            obs[spelled] = pd.Categorical(section.map(mixed[name]).to_numpy())
    return obs


def check_log(entries: Sequence["SectionEntry"]) -> None:
    """Refuse to take logarithms of compositions, before anything is read."""
    names = {e.section: e.values for e in entries if e.values not in LOG_RULES}
    if names:
        raise InvalidArgument(
            "sections of counts or normalized values are wanted for normalize='log1p', but got "
            f"{_groups(names)}; leave normalize out, or choose other sections"
        )


def check_group(kinds: Mapping[str, str], key: tuple[Any, ...], func: str) -> None:
    """Refuse to add up values of several kinds; `kinds` is that of each section of a group."""
    if len(set(kinds.values())) > 1:
        shown = ", ".join(map(str, key))
        raise InvalidArgument(
            f"values of one kind are wanted for the {func} of a group, but group ({shown}) got "
            f"{_groups(kinds)}; group by 'section' too, or choose sections of one kind"
        )
