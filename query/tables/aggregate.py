"""Summaries of genes by groups of cells, streamed: memory is groups x genes, not cells."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ...atlas.memory import parse_bytes, refuse_above
from ..cells.rows import RunArray, batches, count
from ..exports.to_anndata import aligned
from ..expression.mixture import check_group, check_log, warn_mixed
from ..expression.normalize import TARGET_SUM, depth_of, log_normalize
from .obs import chosen_columns, section_table, stale_labels, warn_stale
from .value_kinds import kind_of, named_values, typed

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.section import Section
    from ..cells.selection import Selection
    from ..expression.choice import GeneChoice

type Function = Literal["mean", "sum", "fraction", "count"]
type Normalize = Literal["depth", "log1p"]

FUNCTIONS = ("mean", "sum", "fraction", "count")
NORMALIZATIONS = (None, "depth", "log1p")
_ROWS_AT_ONCE = 32_768
_LABELS = ("annotations", "confidence", "domains")


@dataclass(slots=True)
class _Sums:
    """Running totals of each group; rows are added as groups appear."""

    n_vars: int
    place: dict[tuple[Any, ...], int]
    value: list[NDArray[np.float64]]
    nonzero: list[NDArray[np.int64]]
    n_measured: list[NDArray[np.int64]]
    n_obs: list[int]
    depth: list[NDArray[np.float64]]
    kinds: list[dict[str, str]]
    keys: list[tuple[Any, ...]] = field(default_factory=list)
    held: list[dict[str, set[str]]] = field(default_factory=list)
    """Kinds of the values of each column, by section."""

    def row(self, key: tuple[Any, ...]) -> int:
        own = _typed(key)
        if own not in self.place:
            self.place[own] = len(self.value)
            self.keys.append(key)
            self.value.append(np.zeros(self.n_vars))
            self.nonzero.append(np.zeros(self.n_vars, np.int64))
            self.n_measured.append(np.zeros(self.n_vars, np.int64))
            self.depth.append(np.zeros(self.n_vars))
            self.n_obs.append(0)
            self.kinds.append({})
        return self.place[own]

    def see(self, section: str, key: tuple[Any, ...]) -> None:
        """Keep of which kinds the values of a section are."""
        for held, value in zip(self.held, key, strict=True):
            if value is not None:
                held.setdefault(section, set()).add(kind_of(value))


def aggregate(
    selection: "Selection",
    by: str | Sequence[str],
    func: Function = "mean",
    *,
    normalize: str | None = None,
    memory_limit: str | int | None = None,
    leave_out_stale: bool = False,
) -> "pd.DataFrame":
    """Summarize genes by groups of cells.

    Parameters
    ----------
    selection
        The cells and genes: exactly these, also cells that fail quality control. Ask for
        `atlas.query("qc_pass")` to leave those out; verbs that compute do so on their own.
    by
        Columns whose values make the groups: metadata, obs columns, domain keys. Cells with a
        missing value form groups of their own, with a missing label; "" is a value. Where
        sections hold a column in several kinds, its labels are text, with a `MixedValuesWarning`.
    func
        `mean`, `sum`, `fraction` (of cells with a non-zero value) or `count` (cells alone).
    normalize
        None takes values as stored; `depth` corrects for sequencing depth (sum of counts of the
        group per 10,000 counts of its cells); `log1p` averages log1p of each cell scaled to
        10,000.
    memory_limit
        Refuse above it.
    leave_out_stale
        Take stale labels for missing, with a `StaleLabelsWarning`, rather than refuse them.

    Returns
    -------
    DataFrame
        One row a group, sorted (timepoints in time), indexed by `by`; first column `n_obs`, then
        one a gene, NaN where no cell of the group comes from a section that measured it.
        `attrs["unit"]` names the unit; `columns.name` too. Cells of sections that did not
        measure a gene do not count in its mean.

    Raises
    ------
    InvalidArgument
        A sum or mean over stored values of several kinds (counts and logarithms, say).
    BudgetExceeded
        Estimated above the limit; memory is 32 bytes x genes x groups, and one batch of cells.
    """
    if func not in FUNCTIONS:
        raise InvalidArgument(f"func= one of {', '.join(FUNCTIONS)} is wanted, but got {func!r}")
    if normalize not in NORMALIZATIONS:
        raise InvalidArgument(
            f"normalize=None, 'depth' or 'log1p' is wanted, but got {normalize!r}"
        )
    if normalize is not None and func != "mean":
        raise InvalidArgument(f"func='mean' is wanted with normalize=, but got {func!r}")
    names = [by] if isinstance(by, str) else list(by)
    if not names:
        raise InvalidArgument("columns are wanted for by=, but got none")
    choice = None if func == "count" else selection.genes
    limit = parse_bytes(memory_limit)
    entries = [selection.store.snapshot.sections[name] for name in selection.runs]
    if normalize == "log1p":
        check_log(entries)
        warn_mixed(entries, normalize, ["values"])
    sums = _Sums(0 if choice is None else len(choice), {}, [], [], [], [], [], [])
    columns = [c for c in chosen_columns(selection, names) if c.name in names]
    columns.sort(key=lambda column: names.index(column.name))
    if leave_out_stale:
        columns = [replace(c, optional=c.source in _LABELS) for c in columns]
        warn_stale(stale_labels(selection, columns))
    sums.held = [{} for _ in columns]
    for section, runs in selection.parts():
        for part in batches(runs, _ROWS_AT_ONCE):
            table = section_table(selection, section, part, columns)
            _add(sums, section, part, table, choice=choice, normalize=normalize, limit=limit)
            if func in ("mean", "sum") and normalize is None:
                _check_kinds(sums, section, table, func)
    return _table(sums, columns, choice=choice, func=func, normalize=normalize, selection=selection)


def _add(
    sums: _Sums,
    section: "Section",
    runs: RunArray,
    table: "pd.DataFrame",
    *,
    choice: "GeneChoice | None",
    normalize: str | None,
    limit: int,
) -> None:
    import scipy.sparse as sp

    codes, keys = groups_of(table)
    n = count(runs)
    n_groups = len(sums.value) + sum(_typed(key) not in sums.place for key in keys)
    refuse_above(
        limit,
        # Running sums of all groups, and those of this batch while they are added.
        (n_groups + len(keys)) * sums.n_vars * 32,
        f"sums of {n_groups:,} groups x {sums.n_vars:,} genes",
        "group by fewer columns or ask for fewer genes, or give a larger memory_limit",
    )
    for key in keys:
        sums.see(section.name, key)
    rows = [sums.row(key) for key in keys]
    cells = np.bincount(codes, minlength=len(keys))
    for group, row in enumerate(rows):
        sums.n_obs[row] += int(cells[group])
    if choice is None:
        return
    matrix = aligned(section, runs, choice)
    depth = depth_of(section, runs) if normalize else None
    if normalize == "depth" and depth is None:
        raise InvalidArgument(
            f"counts are wanted for normalize='depth', but got section {section.name!r} of "
            f"{section.values} values"
        )
    if normalize == "log1p":
        matrix = log_normalize(matrix, section.values, depth)
    # One row a group, a one for each of its cells: sums of groups are one sparse product.
    indicator: Any = sp.csr_matrix((np.ones(n), (codes, np.arange(n))), shape=(len(keys), n))
    total = (indicator @ matrix.astype(np.float64)).toarray()
    ones = (matrix.data != 0).astype(np.float64)
    hit = sp.csr_matrix((ones, matrix.indices, matrix.indptr), shape=matrix.shape)
    nonzero = (indicator @ hit).toarray().astype(np.int64)
    depths = indicator @ depth if depth is not None else np.zeros(len(keys))
    measured = choice.measured[section.name]
    for group, row in enumerate(rows):
        sums.value[row] += total[group]
        sums.nonzero[row] += nonzero[group]
        sums.n_measured[row] += int(cells[group]) * measured
        sums.depth[row] += depths[group] * measured


def _check_kinds(sums: _Sums, section: "Section", table: "pd.DataFrame", func: str) -> None:
    for key in groups_of(table)[1]:
        kinds = sums.kinds[sums.row(key)]
        kinds[section.name] = section.values
        check_group(kinds, key, func)


def groups_of(table: "pd.DataFrame") -> tuple[NDArray[np.int64], list[tuple[Any, ...]]]:
    """Group number of each row, and the values of each group; missing ones as None."""
    import pandas as pd

    codes = np.zeros(len(table), np.int64)
    levels: list[list[Any]] = []
    for name in table.columns:
        own, values = pd.factorize(table[name], use_na_sentinel=True)
        labels = [_plain(value) for value in values.tolist()]
        codes = codes * (len(labels) + 1) + (own + 1)
        levels.append([None, *labels])
    present, dense = np.unique(codes, return_inverse=True)
    keys = []
    for code in present.tolist():
        key: list[Any] = []
        rest = code
        for labels in reversed(levels):
            rest, own_code = divmod(rest, len(labels))
            key.append(labels[own_code])
        keys.append(tuple(reversed(key)))
    return np.asarray(dense, np.int64).ravel(), keys


def _typed(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(typed(value) for value in key)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _table(
    sums: _Sums,
    columns: Sequence[Any],
    *,
    choice: "GeneChoice | None",
    func: Function,
    normalize: str | None,
    selection: "Selection",
) -> "pd.DataFrame":
    import pandas as pd

    names = [column.name for column in columns]
    keys = sorted(sums.keys, key=lambda key: sort_key(key, columns))
    rows = [sums.row(key) for key in keys]
    n_obs = np.array([sums.n_obs[row] for row in rows], np.int64)
    values = _finish(sums, rows, func, normalize)
    genes = [] if choice is None else choice.name.astype(str).tolist()
    levels = [
        named_values(name, [key[k] for key in keys], sums.held[k]) for k, name in enumerate(names)
    ]
    index = _index(list(zip(*levels, strict=True)), names)
    data: dict[str, Any] = {"n_obs": n_obs}
    table = pd.DataFrame(
        np.column_stack([values[:, i] for i in range(len(genes))]) if genes else None,
        index=index,
        columns=genes or None,
    )
    table.insert(0, "n_obs", data["n_obs"])
    unit = _unit(func, normalize, selection)
    table.columns.name = unit
    table.attrs = {
        "unit": unit,
        "by": list(names),
        "snapshot": selection.store.snapshot.number,
        "query": str(selection.question),
    }
    return table


def _index(keys: list[tuple[Any, ...]], names: Sequence[str]) -> Any:
    import pandas as pd

    if len(names) == 1:
        return pd.Index([key[0] for key in keys], name=names[0])
    return pd.MultiIndex.from_tuples(keys, names=list(names))


def sort_key(key: tuple[Any, ...], columns: Sequence[Any]) -> tuple[Any, ...]:
    """Order groups: timepoints in time, booleans, numbers, then text; missing values last."""
    parts = []
    for value, column in zip(key, columns, strict=True):
        if value is None:
            parts.append((2, 0, ""))
        elif column.order is not None and str(value) in column.order:
            parts.append((0, column.order.index(str(value)), ""))
        elif isinstance(value, str):
            parts.append((1, 0, value))
        elif isinstance(value, bool):
            parts.append((-1, value, ""))
        else:
            parts.append((0, value, ""))
    return tuple(parts)


def _finish(
    sums: _Sums, rows: Sequence[int], func: Function, normalize: str | None
) -> NDArray[np.float64]:
    shape = (len(rows), sums.n_vars)

    def pick(parts: "list[NDArray[Any]]") -> NDArray[np.float64]:
        return np.array([parts[row] for row in rows], np.float64).reshape(shape)

    n = pick(sums.n_measured)
    value = pick(sums.nonzero if func == "fraction" else sums.value)
    if func == "sum":
        return np.asarray(np.where(n > 0, value, np.nan))
    by = pick(sums.depth) / TARGET_SUM if normalize == "depth" else n
    return np.asarray(np.divide(value, by, out=np.full(shape, np.nan), where=by > 0))


def _unit(func: Function, normalize: str | None, selection: "Selection") -> str:
    if func == "count":
        return "cells"
    if func == "fraction":
        return "fraction of cells"
    if normalize == "depth":
        return "counts per 10,000 counts"
    if normalize == "log1p":
        return "mean log1p(counts per 10,000)"
    kinds = {selection.store.snapshot.sections[name].values for name in selection.runs}
    what = kinds.pop() if len(kinds) == 1 else "stored values (" + ", ".join(sorted(kinds)) + ")"
    return f"{func} {what}"
