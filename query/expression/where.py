"""Where a gene is seen: its numbers by any columns of sections and cells, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import GeneNotFound, InvalidArgument
from ..filters.columns import Column, Columns, section_value
from ..tables.value_kinds import kind_of, named_values, typed
from .groups import GroupRows, group_rows
from .summary_plan import cell_columns

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from .view import GeneView

__all__ = ["MISSING", "per_section_table", "resolve_by", "where_table"]

MISSING = ("nan", "drop", "error")
_OWN = (
    "n",
    "n_sections",
    "n_unmeasured",
    "n_nonzero",
    "fraction",
    "values",
)
_NAMED = 5


def resolve_by(
    view: GeneView, by: str | Sequence[str] | None, domain_key: str | None
) -> list[Column]:
    """Find the columns to group by.

    Raises
    ------
    ColumnNotFound
    InvalidArgument
        A name that the table needs for itself, or one that does not group.
    """
    names = [] if by is None else [by] if isinstance(by, str) else list(by)
    for name in names:
        if name in _OWN or name.startswith("mean_"):
            raise InvalidArgument(
                f"columns that the table does not have itself are wanted for by=, but got "
                f"{name!r}; write obs:{name} for the cells' own column"
            )
    columns = Columns(view.store, domain_key)
    resolved = [columns.resolve(name) for name in dict.fromkeys(names)]
    for column in resolved:
        if column.source in ("gene", "cell"):
            raise InvalidArgument(
                f"columns that group cells are wanted for by=, but got {column.name!r}; name "
                "section metadata, obs columns, domain keys or annotations"
            )
    return resolved


def where_table(
    view: GeneView,
    by: str | Sequence[str],
    *,
    missing: str,
    domain_key: str | None,
    where: str | None,
    all_cells: bool,
) -> pd.DataFrame:
    """Build the table of `GeneView.where`."""
    import pandas as pd

    if missing not in MISSING:
        raise InvalidArgument(
            f"missing= one of {', '.join(MISSING)} is wanted, but got {missing!r}"
        )
    columns = resolve_by(view, by, domain_key)
    rows = group_rows(view, cell_columns(columns), where, all_cells=all_cells)
    if missing == "error":
        _refuse_unmeasured(view, rows)
    used = rows.measured if missing == "drop" else np.ones(len(rows.n), bool)
    keys = _keys(view, rows, columns)
    code, groups = _grouped(keys, used, columns)
    held = _held(rows.section, keys, used, columns)
    data: dict[Any, Any] = {}
    for i, column in enumerate(columns):
        labels = named_values(column.name, [key[i] for key in groups], held[i])
        data[column.name] = pd.Series(labels, dtype=None if groups else object)
    frame = pd.DataFrame(data | _pooled(view, rows, code, len(groups)))
    frame.attrs = _attributes(view, rows, frame, columns)
    return frame


def _refuse_unmeasured(view: GeneView, rows: GroupRows) -> None:
    lacking = dict.fromkeys(s for s, m in zip(rows.section, rows.measured, strict=True) if not m)
    if lacking:
        shown = ", ".join(list(lacking)[:_NAMED]) + (" ..." if len(lacking) > _NAMED else "")
        raise GeneNotFound(
            f"sections that all measured {view.name!r} are wanted, but got {len(lacking)} that did "
            f"not: {shown}; choose missing='nan' or 'drop', or name sections"
        )


def _keys(view: GeneView, rows: GroupRows, columns: Sequence[Column]) -> list[tuple[Any, ...]]:
    """Values of all columns for each row; those of sections come from the catalog."""
    entries = view.store.snapshot.sections
    metadata = {
        name: {
            i: section_value(name, entries[name].metadata, column.key)
            for i, column in enumerate(columns)
            if column.source == "meta"
        }
        for name in dict.fromkeys(rows.section)
    }
    keys = []
    for section, label in zip(rows.section, rows.labels, strict=True):
        rest = iter(label)
        known = metadata[section]
        keys.append(tuple(known[i] if i in known else next(rest) for i in range(len(columns))))
    return keys


def _grouped(
    keys: Sequence[tuple[Any, ...]], used: NDArray[np.bool_], columns: Sequence[Column]
) -> tuple[NDArray[np.int64], list[tuple[Any, ...]]]:
    """Group number of each row, -1 where it takes no part, and the values of each group."""
    from ..tables.aggregate import sort_key

    own = [tuple(map(typed, key)) for key in keys]
    present: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for name, key, use in zip(own, keys, used, strict=True):
        if use:
            present.setdefault(name, key)
    order = sorted(present, key=lambda name: sort_key(present[name], columns))
    place = {name: number for number, name in enumerate(order)}
    code = np.array([place.get(name, -1) for name in own], np.int64)
    return np.where(used, code, -1), [present[name] for name in order]


def _held(
    sections: Sequence[str],
    keys: Sequence[tuple[Any, ...]],
    used: NDArray[np.bool_],
    columns: Sequence[Column],
) -> list[dict[str, set[str]]]:
    """Kinds of the values of each column, by section, in rows that take part."""
    held: list[dict[str, set[str]]] = [{} for _ in columns]
    for section, key, use in zip(sections, keys, used, strict=True):
        for kinds, value in zip(held, key, strict=True):
            if use and value is not None:
                kinds.setdefault(section, set()).add(kind_of(value))
    return held


def _pooled(
    view: GeneView, rows: GroupRows, code: NDArray[np.int64], size: int
) -> dict[str, NDArray[Any]]:
    """Sum rows with the same code; -1 takes no part."""
    kind = np.array([view.store.snapshot.sections[s].values for s in rows.section], dtype=object)
    measured = rows.measured & (code >= 0)

    def add(values: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        found = np.bincount(code[chosen], values[chosen], size)
        return np.asarray(found, np.float64)

    def mean(values: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        cells = add(rows.n, chosen)
        share = np.full(size, np.nan)
        np.divide(add(values, chosen), cells, share, where=cells > 0)
        return share

    n = add(rows.n, measured)
    pairs = {(s, c) for s, c in zip(rows.section, code.tolist(), strict=True) if c >= 0}
    some = n > 0
    table: dict[str, NDArray[Any]] = {
        "n_sections": np.bincount([c for _, c in pairs], minlength=size).astype(np.int64),
        "n": n.astype(np.int64),
        "n_unmeasured": add(rows.n, ~rows.measured & (code >= 0)).astype(np.int64),
        "n_nonzero": np.where(some, add(rows.sums[0], measured), np.nan),
        "fraction": mean(rows.sums[0], measured),
    }
    for name in sorted(set(kind.tolist())):
        table[f"mean_{name}"] = mean(rows.sums[1], measured & (kind == name))
    if "mean_log1p" not in table or len(set(kind.tolist())) > 1:
        table["mean_log1p"] = mean(rows.sums[2], measured & (kind != "composition"))
    return table


def _attributes(
    view: GeneView, rows: GroupRows, frame: pd.DataFrame, columns: Sequence[Column]
) -> dict[Any, Any]:
    cells = ", ".join(column.name for column in cell_columns(columns))
    note = ""
    if rows.computed:
        note = (
            f"{len(rows.computed)} of {len(view.sections)} sections were computed from the gene's "
            f"vector; summarize(by=[{cells}]) makes such answers a few requests"
        )
    return {
        "gene": view.gene_id,
        "snapshot": view.store.snapshot.number,
        "summary": rows.summary,
        "computed": list(rows.computed),
        "note": "; ".join(filter(None, (view.note, note))),
        "units": {
            "n": "cells of sections that measured the gene",
            "n_unmeasured": "cells of sections that did not measure the gene",
            "n_nonzero": "cells",
            "fraction": "of the n cells",
            **_units(frame),
        },
    }


def _units(frame: pd.DataFrame) -> dict[str, str]:
    kinds = [name for name in frame.columns if str(name).startswith("mean_")]
    return {
        **{name: f"mean of stored {name.removeprefix('mean_')} values" for name in kinds},
        "mean_log1p": "mean log1p(counts per 10,000)",
    }


def per_section_table(
    view: GeneView, by: str | Sequence[str] | None, domain_key: str | None
) -> pd.DataFrame:
    """Build the table of `GeneView.per_section`."""
    import pandas as pd

    columns = [c for c in resolve_by(view, by, domain_key) if c.name != "section"]
    rows = group_rows(view, cell_columns(columns), all_cells=True)
    keys = _keys(view, rows, columns)
    entries = view.store.snapshot.sections
    records: list[dict[str, Any]] = []
    for r, (section, key) in enumerate(zip(rows.section, keys, strict=True)):
        entry = entries[section]
        n, share = int(rows.n[r]), 1 / rows.n[r] if rows.n[r] else np.nan
        labels: dict[str, Any] = dict(zip((c.name for c in columns), key, strict=True))
        nonzero, total, logged = rows.sums[:, r]
        if not rows.measured[r]:
            if records and records[-1]["section"] == section:
                continue
            n, labels = entry.n_obs, dict.fromkeys(labels)
        records.append(
            {
                "section": section,
                **labels,
                "n": n,
                "n_nonzero": nonzero if np.isnan(nonzero) else int(nonzero),
                "fraction": nonzero * share,
                f"mean_{entry.values}": total * share,
                "mean_log1p": logged * share if entry.values != "composition" else np.nan,
                "values": entry.values,
            }
        )
    frame = pd.DataFrame(records)
    last = [name for name in ("mean_log1p", "values") if name in frame.columns]
    frame = frame[[*(name for name in frame.columns if name not in last), *last]]
    frame.attrs = {
        "gene": view.gene_id,
        "snapshot": view.store.snapshot.number,
        "summary": rows.summary,
        "units": _units(frame),
    }
    return frame
