"""Labels of users, joined to cells by their ids and kept as columns of the atlas."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...atlas.annotations import ANNOTATION, write_annotation
from ...atlas.derived import Provenance
from ...atlas.errors import Fault, InputError, InvalidArgument, near
from ...atlas.keys import check_name
from ...atlas.label_values import spread, typed
from ...atlas.memory import parse_bytes, refuse_above
from ...atlas.section_columns import ColumnValues, StringValues
from ...atlas.snapshot import Change
from ..cells.rows import as_runs, batches, pairs_of
from ..filters.columns import Columns
from .given import Given, read_given

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.section import Section
    from ...atlas.snapshot import DerivedEntry, Snapshot
    from ...atlas.store import AtlasStore

__all__ = ["annotate", "annotate_rows"]

type Missing = Literal["error", "ok"]
type Unknown = Literal["error", "drop"]

_NAMED = 5  # examples in a message
# A cell id as a Python string and again as Arrow text, its hash and its place in the table.
_ID_BYTES = 240
_VALUE_BYTES = 40
_FEWEST_ROWS = 65_536
_RESERVED = ("section", "domain", "timepoint")


def annotate(
    store: "AtlasStore",
    table: "pd.DataFrame | str | Path",
    key: str | None = None,
    *,
    on: str | None = None,
    columns: Sequence[str] | None = None,
    missing: Missing = "error",
    unknown: Unknown = "error",
    note: str | None = None,
    overwrite: bool = False,
    memory_limit: str | int | None = None,
) -> "list[DerivedEntry]":
    """Add columns to cells by their ids; they are then columns of queries like any other.

    Parameters
    ----------
    store
        The atlas, opened for writing.
    table
        A DataFrame, or the path of a CSV, TSV or Parquet file. Its index (in a CSV the first
        column) holds our ids, `{section}:{cell id}`, as `to_obs` writes them; or it has columns
        `section` and `cell_id`.
    key
        Name of the new column; with several, the names are `{key}_{column}`. None takes the
        names of the table.
    on
        `index`, or the column that holds the ids: `cell_id` beside `section` holds the cell's own
        id, any other the whole one. None is `cell_id` where there is one, else the index.
    columns
        Columns of the table to add; None is all.
    missing
        `ok` accepts that cells of the sections named are not in the table; they have no value.
    unknown
        `drop` leaves out rows whose cell is not in the atlas.
    note
        Words kept with the provenance.
    overwrite
        Replace annotations of these names in the sections of the table; those of replaced
        sections always are.
    memory_limit
        Refuse above it.

    Returns
    -------
    list of DerivedEntry
        One a section and column, committed together.

    Raises
    ------
    InputError
        Duplicate ids, ids that are not in the atlas, cells that the table leaves out: all at
        once, with their numbers and the first few.
    InvalidArgument
        A name that is taken, or values of no known kind.
    ReadOnly, BudgetExceeded, CommitConflict

    Notes
    -----
    Memory: the table, 8 bytes a cell, and some 240 bytes for each cell of the block of ids that
    is joined at a time. Sections that the table does not name are left alone.
    """
    store.require_writing("an annotation")
    for name, value, known in (
        ("missing", missing, ("error", "ok")),
        ("unknown", unknown, ("error", "drop")),
    ):
        if value not in known:
            raise InvalidArgument(f"{name}= one of {', '.join(known)} is wanted, but got {value!r}")
    limit = parse_bytes(memory_limit)
    given = read_given(table, on, columns, limit=limit)
    names = _names(given, key)
    values = {names[name]: typed(name, series) for name, series in given.columns.items()}
    present = [name for name in given.sections if store.has_section(name)]
    seen = None if overwrite else store.snapshot
    refuse_taken(store, list(values), present, overwrite=overwrite)
    rows = _join(store, given, missing=missing, unknown=unknown, limit=limit)
    facts = {
        "source": given.source,
        "digest": given.digest,
        "note": note,
        "missing": missing,
        "unknown": unknown,
    }
    return annotate_rows(store, values, rows, facts, f"annotate {', '.join(values)}", seen=seen)


def annotate_rows(
    store: "AtlasStore",
    values: dict[str, ColumnValues],
    rows: dict[str, NDArray[np.int64]],
    facts: dict[str, Any],
    message: str,
    *,
    seen: "Snapshot | None" = None,
) -> "list[DerivedEntry]":
    """Write and commit columns of which the row of each cell is known.

    Parameters
    ----------
    store
        The atlas, opened for writing.
    values
        Columns of a table by the name they get.
    rows
        (n_obs,) row of each cell in the table by section; -1 for none.
    facts
        What provenance keeps.
    message
        Of the commit.
    seen
        What the names were looked up in: what others gave them since is a conflict. None replaces
        whatever is there.
    """
    entries = []
    for section, row in rows.items():
        inputs = {f"section:{section}": store.section(section).attempt}
        for key, column in values.items():
            parameters = {**facts, "key": key}
            entries.append(
                write_annotation(
                    store, key, section, spread(column, row), Provenance(inputs, parameters)
                )
            )
    expect = {} if seen is None else seen.attempts_at(entries)
    store.commit(Change(add_derived=entries, expect=expect), message)
    return entries


def _names(given: Given, key: str | None) -> dict[str, str]:
    """Name under which each column of the table is kept."""
    names = list(given.columns)
    if key is None:
        kept = {name: name for name in names}
    else:
        kept = {name: key if len(names) == 1 else f"{key}_{name}" for name in names}
    for name in kept.values():
        check_name(name, "annotation")
    return kept


def refuse_taken(
    store: "AtlasStore", keys: Sequence[str], sections: Sequence[str], *, overwrite: bool
) -> None:
    """Refuse names that mean something else already, or annotations that would be replaced.

    Raises
    ------
    InvalidArgument
    """
    columns = Columns(store)
    taken = {"metadata of sections": columns.metadata, "an obs column": columns.obs}
    taken |= {"domains": columns.domain_keys, "every atlas's own column": _RESERVED}
    for key in keys:
        for what, known in taken.items():
            if key in known:
                raise InvalidArgument(
                    f"a new name is wanted, but got {key!r}, which names {what}; give another key="
                )
        there = {
            name
            for name in store.derived_keys(ANNOTATION).get(key, ())
            if name in sections and not store.is_stale(ANNOTATION, key, name)
        }
        if there and not overwrite:
            raise InvalidArgument(
                f"a new name is wanted, but got {key!r}, which names an annotation of "
                f"{', '.join(map(repr, sorted(there)[:3]))}; give another key=, or overwrite=True "
                "to replace it"
            )


@dataclass(slots=True)
class _Faults:
    """What is wrong with the ids, over all sections."""

    source: str
    found: list[Fault]

    def add(self, count: int, what: str, examples: Sequence[str], hint: str) -> None:
        if count:
            shown = ", ".join(map(repr, examples[:_NAMED]))
            more = " ..." if count > len(examples[:_NAMED]) else ""
            self.found.append(Fault(self.source, f"{count:,} {what}: {shown}{more}; {hint}"))


def _join(
    store: "AtlasStore", given: Given, *, missing: Missing, unknown: Unknown, limit: int
) -> dict[str, NDArray[np.int64]]:
    """Find the row of each cell of the sections named, and tell all that does not fit."""
    faults = _Faults(given.source, [])
    order = np.argsort(given.code, kind="stable")
    edges = np.searchsorted(given.code[order], np.arange(len(given.sections) + 1))
    absent: list[str] = []
    twice, strange, uncovered = _Tally(), _Tally(), _Tally()
    rows: dict[str, NDArray[np.int64]] = {}
    for number, name in enumerate(given.sections):
        own = order[edges[number] : edges[number + 1]]
        cells = StringValues.from_strings(given.cells.take(own))
        if not store.has_section(name):
            absent.append(name)
            strange.add(name, len(own), cells.take(np.arange(min(len(own), _NAMED))).to_list())
            continue
        section = store.section(name)
        repeated = cells.repeated()
        twice.add(name, len(repeated), repeated)
        found, without = _match(section, cells, limit)
        used = np.zeros(len(own), bool)
        used[found[found >= 0]] = True
        lost = np.flatnonzero(~used)
        if repeated:
            again = np.array(repeated, dtype=object)
            lost = lost[~np.isin(np.array(cells.take(lost).to_list(), dtype=object), again)]
        strange.add(name, len(lost), cells.take(lost[:_NAMED]).to_list())
        uncovered.add(name, int((found < 0).sum()), without)
        rows[name] = np.append(own, -1)[found]
    faults.add(twice.count, "ids occur more than once", twice.examples, "keep one row of each")
    if unknown == "error":
        hint = "leave these rows out with unknown='drop'" + _hint(absent, store)
        faults.add(strange.count, "ids are not in the atlas", strange.examples, hint)
    if missing == "error":
        hint = "add them, or accept cells without a value with missing='ok'"
        faults.add(uncovered.count, "cells are not in the table", uncovered.examples, hint)
    if faults.found:
        raise InputError(faults.found, "labels do not fit the atlas")
    if not rows:
        raise InputError(
            Fault(given.source, "rows of cells of this atlas are wanted, but got none")
        )
    return rows


@dataclass(slots=True)
class _Tally:
    """A number of ids and the first few."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, section: str, count: int, cells: Sequence[str | None]) -> None:
        self.count += count
        room = _NAMED - len(self.examples)
        self.examples += [f"{section}:{cell}" for cell in cells[: max(room, 0)]]


def _hint(absent: Sequence[str], store: "AtlasStore") -> str:
    if not absent:
        return ""
    return f"; there is no section {absent[0]!r}.{near(absent[0], store.section_names)}"


def _match(
    section: "Section", cells: StringValues, limit: int
) -> tuple[NDArray[np.int64], list[str]]:
    """Row of `cells` for each cell of a section, -1 for none; and the first ids without one."""
    n = section.n_obs
    held = (8 + _VALUE_BYTES) * n + 32 * len(cells)
    refuse_above(
        limit,
        held + _ID_BYTES * min(n, _FEWEST_ROWS),
        f"joining labels to the {n:,} cells of section {section.name!r}",
        "annotate fewer sections at a time, or give a larger memory_limit",
    )
    at_once = int(np.clip((limit - held) // _ID_BYTES, _FEWEST_ROWS, max(n, _FEWEST_ROWS)))
    found = np.full(n, -1, np.int64)
    without: list[str] = []
    for runs in batches(as_runs([(0, n)]), at_once):
        (start, stop) = pairs_of(runs)[0]
        ids = StringValues.from_strings(section.cell_ids([(start, stop)]))
        found[start:stop] = ids.find_in(cells)
        if len(without) < _NAMED:
            lost = np.flatnonzero(found[start:stop] < 0)[: _NAMED - len(without)]
            without += [str(one) for one in ids.take(lost).to_list()]
    return found, without
