"""Sums of every gene over groups of the cells of one section, streamed by rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.memory import format_bytes, refuse_above
from ...atlas.statistics import log_norm
from ..cells.fetch import read_column
from ..cells.rows import as_runs, pairs_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore
    from ..filters.columns import Column

__all__ = ["GroupSums", "group_table", "section_sums"]

# Entries of the matrix that are in memory at once, and bytes each takes while they are added.
_ENTRIES, _ENTRY_BYTES = 2**22, 64


@dataclass(frozen=True, slots=True, eq=False)
class GroupSums:
    """Statistics of g genes in k groups of the cells of a section."""

    section: str
    labels: list[tuple[Any, ...]]
    """(k,) values of the columns; None where a cell has none."""
    n: NDArray[np.int64]
    """(k,) cells."""
    values: NDArray[np.float64]
    """(g, 3, k) cells above zero, sum of stored values, sum of log-normalized values."""


def group_table(
    store: AtlasStore, section: Section, runs: NDArray[np.int64], columns: Sequence[Column]
) -> tuple[NDArray[np.int64], list[tuple[Any, ...]]]:
    """Group number of each of some rows (m,), and the labels of each group."""
    import pandas as pd

    from ..tables.aggregate import groups_of

    n = int((runs[:, 1] - runs[:, 0]).sum())
    if not columns:
        return np.zeros(n, np.int64), [()]
    table: dict[str, pd.Series | list[None]] = {}
    for number, column in enumerate(columns):
        values = read_column(store, section, runs, column)
        table[str(number)] = [None] * n if values is None else values
    return groups_of(pd.DataFrame(table))


def section_sums(
    store: AtlasStore,
    section: Section,
    columns: Sequence[Column],
    limit: int,
    kept: NDArray[np.bool_] | None = None,
) -> GroupSums:
    """Sum every gene over the groups of a section's cells.

    Parameters
    ----------
    store, section
        Where the cells are.
    columns
        What groups them.
    limit
        Bytes to stay under.
    kept
        Cells (n_obs,) that take part; all without.

    Returns
    -------
    GroupSums
        Logarithms are as `log_norm` has them for what the section holds. Memory: 48 bytes a gene
        and group, and about 256 MiB for the rows in work.

    Raises
    ------
    BudgetExceeded
        So many groups that their sums are above the limit.
    """
    rows = max(1, int(_ENTRIES / max(1.0, section.entry.nnz / max(1, section.n_obs))))
    place: dict[tuple[Any, ...], int] = {}
    n: list[int] = []
    sums: list[NDArray[np.float64]] = []
    for start in range(0, section.n_obs, rows):
        runs = as_runs([(start, min(start + rows, section.n_obs))])
        codes, keys = group_table(store, section, runs, columns)
        refuse_above(
            limit,
            (len(set(place) | set(keys)) + len(keys)) * section.n_vars * 48
            + min(rows, section.n_obs) * 16
            + min(_ENTRIES, section.entry.nnz) * _ENTRY_BYTES,
            f"sums of {len(place) + len(keys):,} groups x {section.n_vars:,} genes of section "
            f"{section.name!r}",
            f"group by fewer columns, or give a memory_limit above {format_bytes(limit)}",
        )
        if kept is not None:
            # A last group, of cells that take no part, is never looked at.
            codes = np.where(kept[start : start + len(codes)], codes, len(keys))
        cells = np.bincount(codes, minlength=len(keys) + 1)
        added = _add(section, runs, codes, len(keys) + 1)
        for group, key in enumerate(keys):
            if not cells[group]:
                continue
            if key not in place:
                place[key] = len(n)
                n.append(0)
                sums.append(np.zeros((3, section.n_vars)))
            n[place[key]] += int(cells[group])
            sums[place[key]] += added[:, group]
    values = np.stack(sums) if sums else np.zeros((0, 3, section.n_vars))
    return GroupSums(
        section.name,
        list(place),
        np.array(n, np.int64),
        np.ascontiguousarray(values.transpose(2, 1, 0)),
    )


def _add(
    section: Section, runs: NDArray[np.int64], codes: NDArray[np.int64], n_groups: int
) -> NDArray[np.float64]:
    """Sum some rows: (3, groups, genes)."""
    matrix = section.counts(pairs_of(runs))
    n_vars = section.n_vars
    per_row = np.diff(matrix.indptr)
    data = matrix.data.astype(np.float64)
    flat = np.repeat(codes * n_vars, per_row)
    flat += matrix.indices
    size = n_groups * n_vars
    norm = log_norm(section.values)
    logged = data
    if norm.scale:
        depth = section.depth(pairs_of(runs))
        scale = np.divide(norm.scale, depth, out=np.zeros_like(depth), where=depth > 0)
        logged = data * np.repeat(scale, per_row)
    if norm.log:
        logged = np.log1p(logged)
    parts = [np.bincount(flat, w, size) for w in ((data != 0).astype(np.float64), data, logged)]
    return np.stack(parts).reshape(3, n_groups, n_vars)
