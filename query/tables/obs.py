"""Tables of cells: section metadata, obs columns and derived labels side by side."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.memory import parse_bytes, refuse_above
from ..cells.fetch import read_column, read_counts, read_ids
from ..cells.rows import RunArray, count
from ..expression.mixture import told_apart, warn_mixed
from ..filters.columns import Column, Columns, timepoint_order
from .positions import position_names, read_position_columns, without_positions
from .value_kinds import label_among, text_of, warn_kinds

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


class CategoryOrderWarning(UserWarning):
    """Sections disagree on the order of a column's categories, so that the answer has none."""


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
    entry = store.snapshot.derived.get(f"{kind}/{column.key}/{section}")
    return entry is not None and bool(store.snapshot.stale_inputs(entry))


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
        warnings.warn(
            f"labels {key!r} of {', '.join(sections[:_NAMED])}{more} were computed from what was "
            "replaced since, and are missing in this answer; compute them again",
            StaleLabelsWarning,
            stacklevel=4,
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
        if tables
        else empty_column(column)
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


def empty_column(column: Column) -> Any:
    """Make a column of an answer without cells."""
    import pandas as pd

    if column.kinds == {"numeric"}:
        return pd.Series([], dtype=np.float64)
    if column.kinds == {"boolean"}:
        return pd.Series([], dtype=bool)
    return pd.Categorical([])


def joined_column(
    parts: "list[pd.Series]",
    column: Column,
    order: tuple[str, ...] | None,
    sections: Sequence[str],
) -> Any:
    """Join a column of several sections into one of a kind that holds them all.

    Values of several kinds become text, in the groups of `aggregate`, with its warning.
    """
    import pandas as pd

    present = [part for part in parts if not _is_absent(part)]
    if not present:
        return pd.Categorical([None] * sum(map(len, parts)))
    if all(isinstance(part.dtype, pd.CategoricalDtype) for part in present):
        return _joined_categories(parts, column, order)
    named = zip(sections, parts, strict=True)
    held = {name: {_kind(part)} for name, part in named if part.notna().any()}
    kinds = set().union(*held.values()) or {_kind(part) for part in present}
    if len(kinds) > 1:
        warn_kinds(column.name, held)
        return _joined_kinds(parts)
    if kinds == {"number"}:
        return _joined_numbers(parts, present)
    if kinds == {"text"}:
        text = [part.astype(object).where(part.notna(), None) for part in parts]
        joined = pd.concat([t.map(str, na_action="ignore") for t in text], ignore_index=True)
        few = any(isinstance(part.dtype, pd.CategoricalDtype) for part in present)
        return pd.Categorical(joined) if few else joined.astype(object).to_numpy()
    plain = len(present) == len(parts) and all(part.dtype == bool for part in parts)
    return pd.concat(
        parts if plain else [part.astype("boolean") for part in parts], ignore_index=True
    ).array


def _joined_kinds(parts: "list[pd.Series]") -> "pd.Categorical[str]":
    import pandas as pd

    found = [pd.factorize(part, use_na_sentinel=True) for part in parts]
    values = [names.tolist() for _, names in found]
    texts = {value for names in values for value in names if isinstance(value, str)}
    joined = [
        np.array([*(label_among(value, texts) for value in names), None], dtype=object)[codes]
        for (codes, _), names in zip(found, values, strict=True)
    ]
    return pd.Categorical(np.concatenate(joined))


def _joined_numbers(parts: "list[pd.Series]", present: "list[pd.Series]") -> Any:
    import pandas as pd

    whole = all(part.dtype.kind in "iu" for part in present)
    exact = whole or all(part.dtype.kind == "f" or _fits_float(part) for part in present)
    dtype = _whole_dtype(present) if whole else "float64"
    if dtype is None or not exact:
        # No dtype of numbers holds them all as they are.
        text = [part.astype(object).where(part.notna(), None) for part in parts]
        joined = pd.concat(text, ignore_index=True).map(text_of, na_action="ignore")
        return pd.Categorical(joined)
    if len(present) == len(parts) and len({part.dtype for part in parts}) == 1:
        return pd.concat(parts, ignore_index=True).array
    if not whole:
        values = [part.to_numpy(dtype=np.float64, na_value=np.nan) for part in parts]
        return np.concatenate(values)
    if len(present) == len(parts) and all(isinstance(part.dtype, np.dtype) for part in parts):
        return np.concatenate([part.to_numpy().astype(dtype) for part in parts])
    nullable: Any = dtype.replace("uint", "UInt") if dtype.startswith("u") else dtype.capitalize()
    return pd.concat([part.astype(nullable) for part in parts], ignore_index=True).array


def _whole_dtype(present: "list[pd.Series]") -> str | None:
    """Narrowest dtype of integers that holds all values, None where there is none."""
    dtypes = [np.dtype(str(part.dtype).lower()) for part in present]
    common = np.result_type(*dtypes)
    if common.kind in "iu":
        return common.name
    least = min(int(part.min()) for part in present if part.notna().any())
    most = max(int(part.max()) for part in present if part.notna().any())
    if most < 2**63:
        return "int64"
    return "uint64" if least >= 0 else None


def _fits_float(part: "pd.Series") -> bool:
    known = part.dropna()
    return not len(known) or (int(known.max()) <= 2**53 and int(known.min()) >= -(2**53))


def _is_absent(part: "pd.Series") -> bool:
    return part.dtype == object and bool(part.isna().all())


def _kind(part: "pd.Series") -> str:
    import pandas as pd

    if pd.api.types.is_bool_dtype(part.dtype):
        return "boolean"
    return "number" if pd.api.types.is_numeric_dtype(part.dtype) else "text"


def _joined_categories(
    parts: "list[pd.Series]", column: Column, order: tuple[str, ...] | None
) -> "pd.Categorical":
    import pandas as pd

    names: dict[object, None] = {}
    for part in parts:
        if isinstance(part.dtype, pd.CategoricalDtype):
            names |= dict.fromkeys(part.cat.categories.tolist())
    in_time = column.source == "meta" and column.key == "timepoint" and order is not None
    if in_time and order is not None:
        names = dict.fromkeys(name for name in order if name in names)
    dtype = pd.CategoricalDtype(list(names), ordered=in_time or _agree(parts, column))
    codes = []
    for part in parts:
        if isinstance(part.dtype, pd.CategoricalDtype):
            own = dtype.categories.get_indexer(part.cat.categories)
            codes.append(np.append(own, -1)[part.cat.codes.to_numpy()])
        else:
            codes.append(np.full(len(part), -1))
    return pd.Categorical.from_codes(np.concatenate(codes), dtype=dtype)


def _agree(parts: "list[pd.Series]", column: Column) -> bool:
    """Whether all sections give the categories one order."""
    import pandas as pd

    dtypes = [part.dtype for part in parts if isinstance(part.dtype, pd.CategoricalDtype)]
    ordered = [bool(dtype.ordered) for dtype in dtypes]
    agree = all(ordered) and len({tuple(dtype.categories) for dtype in dtypes}) == 1
    if any(ordered) and not agree:
        warnings.warn(
            f"categories of {column.name!r} have an order in some sections that others do not "
            "share; in this answer they have none",
            CategoryOrderWarning,
            stacklevel=5,
        )
    return agree


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
