"""Tables of cells: section metadata, obs columns and derived labels side by side."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.memory import parse_bytes, refuse_above
from ..cells.fetch import read_column, read_counts, read_ids
from ..cells.rows import RunArray, count
from ..expression.mixture import told_apart, warn_mixed
from ..filters.columns import Column, Columns, timepoint_order
from ..telling import tell
from .joined import joined_column
from .positions import position_names, read_position_columns, without_positions

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore
    from ..cells.selection import Selection
    from ..expression.choice import Missing

# Metadata that only says how to sort the timepoints; their categories come sorted.
_INTERNAL = ("timepoint_order",)
_FIXED_BYTES = 16 * 2**20
_CELL_BYTES = 120
_VALUE_BYTES = 12
_NAMED = 5


class StaleLabelsWarning(UserWarning):
    """Labels were left out of an answer, as they were computed from what was replaced since."""


def default_columns(columns: Columns, sections: Sequence[str]) -> list[Column]:
    """`section`, its metadata, obs columns and all labels, each under one unambiguous name.

    An obs column that shares its name with metadata or a domain key becomes `obs:<name>`. Labels
    that a replaced section has made stale are left out (missing), as nobody asked for them.
    """
    chosen = [columns.resolve("section")]
    taken = {"section"}
    for name in columns.metadata:
        if name not in taken and name not in _INTERNAL:
            chosen.append(_named(columns.resolve(f"meta:{name}"), name))
            taken.add(name)
    here = set(sections)
    for name in columns.obs_of(here):
        spelled = f"obs:{name}" if name in taken or name in columns.domain_keys else name
        chosen.append(_named(columns.resolve(f"obs:{name}"), spelled))
        taken.add(spelled)
    for key in columns.domain_keys:
        spelled = f"domains:{key}" if key in taken else key
        chosen.append(replace(_named(columns.resolve(f"domains:{key}"), spelled), optional=True))
        taken.add(spelled)
    for key in columns.annotation_keys:
        spelled = f"annotations:{key}" if key in taken else key
        added = _named(columns.resolve(f"annotations:{key}"), spelled)
        chosen.append(replace(added, optional=True))
        taken.add(spelled)
    return chosen


def _named(column: Column, name: str) -> Column:
    return replace(column, name=name)


def chosen_columns(selection: "Selection", names: Sequence[str] | None) -> list[Column]:
    """Columns by name, `section` always first; None is every column."""
    if names is None:
        # Where no cell answers, the columns of the sections that could have held one.
        here = list(selection.runs) or selection.sections or selection.store.section_names
        return default_columns(selection.columns, here)
    names = [names] if isinstance(names, str) else names
    wanted = ["section", *(name for name in names if name != "section")]
    return [selection.columns.resolve(name) for name in dict.fromkeys(wanted)]


def section_table(
    selection: "Selection", section: "Section", runs: RunArray, columns: Sequence[Column]
) -> "pd.DataFrame":
    """Columns of some rows of one section; those it lacks are all missing (object None)."""
    import pandas as pd

    n = count(runs)
    data: dict[str, Any] = {}
    for column in columns:
        stale = column.optional and is_stale(selection.store, column, section.name)
        values = None if stale else read_column(selection.store, section, runs, column)
        data[column.name] = pd.Series([None] * n, dtype=object) if values is None else values
    return pd.DataFrame(data, index=pd.RangeIndex(n))


def is_stale(store: "AtlasStore", column: Column, section: str) -> bool:
    """Whether a section's labels were computed from what was replaced since."""
    kind = "annotation" if column.source == "annotations" else "domains"
    return store.is_stale(kind, column.key, section)


def stale_labels(selection: "Selection", columns: Iterable[Column]) -> dict[str, list[str]]:
    """Sections whose labels an answer leaves out as stale, by the name of their column."""
    found = {
        column.name: [s for s in selection.runs if is_stale(selection.store, column, s)]
        for column in columns
        if column.optional
    }
    return {name: sections for name, sections in found.items() if sections}


def warn_stale(stale: dict[str, list[str]]) -> None:
    """Warn with `StaleLabelsWarning` of labels that are left out, by column."""
    for key, sections in stale.items():
        more = f" and {len(sections) - _NAMED:,} more" if len(sections) > _NAMED else ""
        tell(
            f"labels {key!r} of {', '.join(sections[:_NAMED])}{more} were computed from what was "
            "replaced since, and are missing in this answer; compute them again",
            StaleLabelsWarning,
        )


def cell_ids(section: "Section", runs: RunArray) -> "pd.Index":
    """`{section}:{cell id}` of some rows."""
    import pandas as pd

    # One Arrow concatenation: a Python loop over a million cells takes a second.
    names = pd.array(read_ids(section, runs), dtype="str")
    return pd.Index(pd.Series(names).radd(f"{section.name}:"))


def obs_table(
    selection: "Selection", names: Sequence[str] | None = None, *, positions: bool = False
) -> "pd.DataFrame":
    """Tabulate the cells of a selection, one row each, in its order.

    Text of few values comes as categories, timepoints ordered in time where the catalog says
    how; sections without a column hold missing values, integers as nullable ones. Stale labels,
    unless named, are missing with a `StaleLabelsWarning`; `attrs["stale_labels"]` names their
    sections. With `positions`, these come last, all or those named. Memory: some 100 bytes a
    cell and 10 a value.
    """
    import pandas as pd

    places = position_names(selection) if positions else {}
    if names is not None:
        names = [names] if isinstance(names, str) else names
        places = {kind: pair for kind, pair in places.items() if set(pair) & set(names)}
    taken = {name for pair in places.values() for name in pair}
    named = names if names is None else [name for name in names if name not in taken]
    columns = without_positions(chosen_columns(selection, named), taken)
    stale = stale_labels(selection, columns)
    warn_stale(stale)
    parts = selection.parts()
    tables = [section_table(selection, section, runs, columns) for section, runs in parts]
    ids = [cell_ids(section, runs) for section, runs in parts]
    order = timepoint_order(selection.store.snapshot.sections.values())
    data = {
        column.name: joined_column(
            [table[column.name] for table in tables], column, order, list(selection.runs)
        )
        for column in columns
    }
    if places:
        found = read_position_columns(selection, places)
        data |= {n: v for n, v in found.items() if names is None or n in names}
    index = ids[0].append(ids[1:]) if ids else pd.Index([], dtype="str")
    table = pd.DataFrame(data, index=index)
    if stale:
        table.attrs["stale_labels"] = stale
    return table


def stale_note(table: "pd.DataFrame") -> dict[str, Any]:
    """Tell, for the notes of an export, which labels its table leaves out, if any."""
    return {name: table.attrs[name] for name in ("stale_labels",) if name in table.attrs}


def to_pandas(
    selection: "Selection",
    names: Sequence[str] | None,
    *,
    missing: "Missing | None" = None,
    memory_limit: str | int | None = None,
) -> "pd.DataFrame":
    """Tabulate the cells, with a column of stored values for each gene asked for by name.

    Without `names`, positions come too: `x_um`, `y_um` (NaN in sections of unknown unit, which
    have `x_source`, `y_source`) and, of an answer asked in a frame, `x_<frame>`, `y_<frame>`. A
    column of the source that has such a name is `obs:x_um` then. `names` may name them.
    A gene's column is dense float32; under `missing="nan"` (the default is to refuse) it is NaN
    for cells of sections that have not measured it. Where
    sections hold values of several kinds, a `MixedValuesWarning` says so, and a column `values`.

    Raises
    ------
    BudgetExceeded
        Estimated above `memory_limit`, before any cell is read.
    """
    asked = selection.question.genes
    names = [names] if isinstance(names, str) else names
    n_genes = len(asked or ())
    width = len(names) if names is not None else len(selection.columns.obs) + 14
    refuse_above(
        parse_bytes(memory_limit),
        _FIXED_BYTES + selection.n_obs_bound * (_CELL_BYTES + _VALUE_BYTES * width + 8 * n_genes),
        f"a table of {selection.n_obs_bound:,} cells",
        "narrow the query or name fewer columns, or give a larger memory_limit",
    )
    if asked is None:
        return obs_table(selection, names, positions=True)
    from ..expression.choice import settle

    choice, kept = settle(
        selection.genes, list(selection.runs), asked=True, join="outer", missing=missing
    )
    table = obs_table(selection, names, positions=True)
    values = np.full((len(table), len(choice)), np.nan, np.float32)
    keep = np.ones(len(table), bool)
    start = 0
    for section, runs in selection.parts():
        stop = start + count(runs)
        keep[start:stop] = section.name in kept
        if section.name in kept:
            values[start:stop] = _dense(section, runs, choice, zero=missing == "zero")
        start = stop
    entries = [selection.store.snapshot.sections[name] for name in kept]
    warn_mixed(entries, facts=["values"])
    table = told_apart(table, entries, ["values"])
    for row, name in enumerate(choice.name.tolist()):
        spelled = name if name not in table.columns else f"gene:{name}"
        table[spelled] = values[:, row]
    table.attrs |= {"genes": "stored values; see atlas.sections['values'] for their unit"}
    return table if keep.all() else table[keep]


def _dense(section: "Section", runs: RunArray, choice: Any, *, zero: bool) -> Any:
    listed = choice.columns[section.name] >= 0
    out = np.zeros((count(runs), len(choice)), np.float32)
    if listed.any():
        out[:, listed] = read_counts(section, runs, choice.columns[section.name][listed]).toarray()
    if not zero:
        out[:, ~choice.measured[section.name]] = np.nan
    return out
