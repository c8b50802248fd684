"""Domains under other names, joined or divided: new labels that tell what they were made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.derived import Provenance, tile_histogram, write_derived
from ...atlas.derived_read import read_domains
from ...atlas.errors import InvalidArgument, near_or_all
from ...atlas.keys import check_name
from ...atlas.memory import parse_bytes, refuse_above
from ...atlas.snapshot import Change
from ..cells.fetch import read_column
from ..cells.rows import as_runs
from ..filters.columns import Column, Columns
from ..tables.value_kinds import codes_among, text_of
from .table import MOST_GROUPS

if TYPE_CHECKING:
    from ...atlas.snapshot import DerivedEntry
    from ...atlas.store import AtlasStore
    from .view import DomainView

__all__ = ["commit_edit", "merged", "renamed", "split_domain"]

# Codes before and after, confidence, values of the column that divides.
_CELL_BYTES = 64


@dataclass(frozen=True, slots=True)
class _Edit:
    """What is done to labels."""

    words: Mapping[str, Any]
    """For provenance: `edit` and its arguments."""
    target: Mapping[str, str]
    """New name of each old one."""
    names: tuple[str, ...]
    """All new names, in order."""
    divided: str | None = None
    """Old name that is divided."""
    by: Column | None = None
    """Column that divides it."""
    parts: Mapping[str, str] | None = None
    """New name for each value of the column."""


def renamed(names: Sequence[str], mapping: Mapping[str, str]) -> _Edit:
    """Plan other names.

    Raises
    ------
    InvalidArgument
        A domain that is not there, or two of one name.
    """
    _known(mapping, names)
    target = {name: str(mapping.get(name, name)) for name in names}
    new = tuple(target[name] for name in names)
    _check_names(new)
    if len(set(new)) < len(new):
        twice = sorted({name for name in new if new.count(name) > 1})
        raise InvalidArgument(
            f"a name of its own for every domain is wanted, but {', '.join(map(repr, twice))} "
            "would name several; join them with merge"
        )
    return _Edit({"edit": "rename", "mapping": dict(mapping)}, target, new)


def merged(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> _Edit:
    """Plan joined domains; each stands where its first part stood.

    Raises
    ------
    InvalidArgument
        A domain that is not there or in two groups, or the name of another as the new one.
    """
    plain = {
        str(new): [old] if isinstance(old, str) else [str(one) for one in old]
        for new, old in groups.items()
    }
    target = {name: name for name in names}
    for new, old in plain.items():
        _known(old, names)
        if not old:
            raise InvalidArgument(f"domains to join are wanted for {new!r}, but got none")
        if new in names and new not in old:
            raise InvalidArgument(
                f"a new name, or that of one of its parts, is wanted, but got {new!r}, which "
                "names another domain"
            )
        for name in old:
            if target[name] != name or sum(name in part for part in plain.values()) > 1:
                raise InvalidArgument(f"each domain in one group is wanted, but {name!r} is in two")
            target[name] = new
    _check_names(tuple(plain))
    order = tuple(dict.fromkeys(target[name] for name in names))
    return _Edit({"edit": "merge", "groups": plain}, target, order)


def split_domain(view: "DomainView", domain: str, by: str) -> _Edit:
    """Plan the parts of a domain, `<domain>: <value>`, in the order of the values.

    Cells of the domain without a value keep its name.

    Raises
    ------
    ColumnNotFound
        No such column.
    InvalidArgument
        No such domain, or a column with one value there, or too many.
    """
    from ..cells.verbs import select

    names = view.names
    _known([domain], names)
    columns = Columns(view.store, view.key)
    column = columns.resolve(by)
    cells = select(view.store, section=list(view.sections), domain=domain, domain_key=view.key)
    found = cells.aggregate([by], "count").index
    values = [value for value in found if value is not None and value == value]  # noqa: PLR0124
    if not 1 < len(values) + (len(found) > len(values)) <= MOST_GROUPS or not values:
        raise InvalidArgument(
            f"a column with 2 to {MOST_GROUPS} values in domain {domain!r} is wanted for by=, but "
            f"got {by!r}, which has {len(values)}"
        )
    parts = {text_of(value): f"{domain}: {text_of(value)}" for value in values}
    kept = (domain,) if len(found) > len(values) else ()
    at = names.index(domain)
    order = (*names[:at], *kept, *parts.values(), *names[at + 1 :])
    if len(set(order)) < len(order):
        raise InvalidArgument(f"new names are wanted, but {', '.join(parts.values())} are taken")
    target = {name: name for name in names}
    words = {"edit": "split", "domain": domain, "by": by, "source": column.source}
    return _Edit(words, target, order, domain, column, parts)


def commit_edit(
    view: "DomainView",
    store: "AtlasStore",
    edit: _Edit,
    key_added: str | None,
    *,
    overwrite: bool,
    note: str | None,
    memory_limit: str | int | None,
) -> str:
    """Write and commit the new labels; returns their key.

    Parameters
    ----------
    view
        The labels as they are.
    store
        Where to commit, opened for writing.
    edit
        What to do.
    key_added
        Key of the new labels; None replaces those of the view (older snapshots keep them).
    overwrite
        Replace other labels of `key_added`, and in place also what was edited since the view was
        made; without, such an edit is a conflict.
    note
        Words kept with the provenance.
    memory_limit
        Refuse above it: 64 bytes a cell of the largest section.

    Raises
    ------
    ReadOnly, InvalidArgument, BudgetExceeded, StaleDerived, CommitConflict
    """
    store.require_writing("an edit of domains")
    key = view.key if key_added is None else check_name(key_added, "domains")
    seen = store.snapshot if key != view.key else view.store.snapshot
    _check_key(view, store, key, overwrite=overwrite)
    limit = parse_bytes(memory_limit)
    entries = []
    for section in view.sections:
        refuse_above(
            limit,
            _CELL_BYTES * view.store.section(section).n_obs,
            f"labels of section {section!r}",
            "give a larger memory_limit",
        )
        entries.append(_write(view, store, section, edit, key=key, note=note))
    change = Change(add_derived=entries, expect={} if overwrite else seen.attempts_at(entries))
    store.commit(change, f"{edit.words['edit']} domains {view.key}")
    return key


def _check_key(view: "DomainView", store: "AtlasStore", key: str, *, overwrite: bool) -> None:
    there = store.derived_keys("domains").get(key, [])
    if key == view.key:
        left = sorted(set(there) - set(view.sections))
        if left:
            raise InvalidArgument(
                f"all sections with labels {key!r} are wanted when they are replaced, but "
                f"{', '.join(left[:3])} are not among these; give key_added="
            )
    elif there and not overwrite:
        raise InvalidArgument(
            f"a new name is wanted, but got {key!r}, which names labels of "
            f"{', '.join(map(repr, there[:3]))}; give another key_added, or overwrite=True"
        )
    if key in Columns(store).annotation_keys:
        raise InvalidArgument(f"a new name is wanted, but got {key!r}, which names an annotation")


def _write(
    view: "DomainView",
    store: "AtlasStore",
    section: str,
    edit: _Edit,
    *,
    key: str,
    note: str | None,
) -> "DerivedEntry":
    old = view.store.derived("domains", view.key, section)
    read = read_domains(view.store, view.key, section)
    codes = _codes(view, section, edit, read.codes, read.categories)
    tiles = tile_histogram(codes, view.store.section(section).tiles.ptr, len(edit.names))
    counts = tiles.sum(axis=0)
    # Labels that take the place of their own input would be stale at once.
    inputs = dict(old.inputs) if key == view.key else {old.name: old.attempt}
    inputs[f"section:{section}"] = view.store.section(section).attempt
    if edit.by is not None and edit.by.source in ("domains", "annotations", "confidence"):
        kind = "annotation" if edit.by.source == "annotations" else "domains"
        by = view.store.snapshot.derived.get(f"{kind}/{edit.by.key}/{section}")
        if by is not None and by.name != f"domains/{key}/{section}":
            inputs[by.name] = by.attempt
    parameters = {**edit.words, "from": {"key": view.key, "attempt": old.attempt}, "note": note}
    known = codes >= 0
    kept = {name: old.info[name] for name in ("where", "refine", "seed") if name in old.info}
    return write_derived(
        store,
        "domains",
        key,
        section,
        arrays={"codes": codes, "confidence": read.confidence, "tile_hist": tiles},
        attrs={"categories": list(edit.names)},
        provenance=Provenance(inputs, parameters),
        info={
            **kept,
            "edit": edit.words["edit"],
            "edited_from": view.key,
            "n_domains": len(edit.names),
            "categories": list(edit.names),
            "counts": {name: int(n) for name, n in zip(edit.names, counts, strict=True)},
            "n_without": int((~known).sum()),
            "mean_confidence": round(float(read.confidence[known].mean()), 6) if known.any() else 0,
        },
    )


def _codes(
    view: "DomainView",
    section: str,
    edit: _Edit,
    codes: NDArray[np.int16],
    categories: Sequence[str],
) -> NDArray[np.int16]:
    """Give every cell its new code."""
    place = {name: number for number, name in enumerate(edit.names)}
    number = [place.get(edit.target.get(name, name), -1) for name in categories]
    new = np.array([*number, -1], np.int16)[codes]
    if edit.by is None or edit.divided not in categories:
        return new
    inside = codes == list(categories).index(str(edit.divided))
    opened = view.store.section(section)
    values = read_column(view.store, opened, as_runs([(0, opened.n_obs)]), edit.by)
    if values is None or edit.parts is None:
        return new
    parts = [place[name] for name in edit.parts.values()]
    divided = np.array([*parts, -1], np.int16)[codes_among(values, list(edit.parts))]
    return np.where(inside & (divided >= 0), divided, new)


def _known(asked: Any, names: Sequence[str]) -> None:
    for name in asked:
        if name not in names:
            raise InvalidArgument(
                f"a domain of these labels is wanted, but got {name!r}.{near_or_all(name, names)}"
            )


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if not name.strip():
            raise InvalidArgument(f"text is wanted for the name of a domain, but got {name!r}")
