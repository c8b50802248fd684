"""Numbers of one gene by section and group of cells: from a summary, else from its vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import InvalidArgument
from ...atlas.statistics import log_norm
from ..cells.rows import as_runs, count, rows_of
from ..tables.value_kinds import typed
from .summary_read import Summary, find_summary
from .sums import group_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...atlas.genes import GeneUnion
    from ...atlas.section import Section
    from ..filters.columns import Column
    from .view import GeneView

__all__ = ["GroupRows", "gene_row", "group_rows", "log1p_of"]


@dataclass(frozen=True, slots=True, eq=False)
class GroupRows:
    """One gene in r groups of cells, each within one section."""

    section: list[str]
    """(r,) name of the section; its groups are neighbors."""
    labels: list[tuple[Any, ...]]
    """(r,) values of the columns that differ within a section."""
    n: NDArray[np.int64]
    """(r,) cells."""
    sums: NDArray[np.float64]
    """(3, r) cells above zero, sum of stored and of log-normalized values; NaN: not measured."""
    summary: str | None
    """Name of the summary that answered; None without."""
    computed: tuple[str, ...]
    """Sections that were computed from the gene's vector."""

    @property
    def measured(self) -> NDArray[np.bool_]:
        """(r,) whether the section measured the gene."""
        return np.asarray(~np.isnan(self.sums[0]))


def group_rows(
    view: GeneView,
    columns: Sequence[Column],
    where: str | None = None,
    *,
    all_cells: bool = False,
) -> GroupRows:
    """Sum one gene over groups of cells, section by section.

    A committed summary that groups by these columns, or finer, answers for its sections without
    a look at them; the rest is computed from the gene-major copy.

    Parameters
    ----------
    view
        The gene.
    columns
        Columns that differ within a section.
    where
        Filter string: only these cells; no summary can answer then. Without, those that pass
        quality control.
    all_cells
        Every cell.
    """
    if all_cells and where is not None:
        raise InvalidArgument(f"where= or all_cells=True is wanted, but got both: {where!r}")

    from ..labels.taking_part import runs_taking_part

    by = [(column.source, column.key) for column in columns]
    summary = None
    if where is None:
        summary = find_summary(view.store, view.sections, by, all_cells=all_cells)
    parts = [] if summary is None else _from_summary(view, summary, by)
    known = {name for part in parts for name in part.section}
    rest = [name for name in view.sections if name not in known]
    runs = runs_taking_part(view.store, rest, where, all_cells=all_cells)
    for name in rest:
        chosen = as_runs([(0, view.store.section(name).n_obs)])
        if runs is not None:
            chosen = runs.get(name, as_runs([]))
        parts.append(_computed(view, view.store.section(name), columns, chosen))
    place = {name: number for number, name in enumerate(view.sections)}
    order = sorted(
        (place[part.section[r]], p, r) for p, part in enumerate(parts) for r in range(len(part.n))
    )
    return GroupRows(
        [parts[p].section[r] for _, p, r in order],
        [parts[p].labels[r] for _, p, r in order],
        np.array([parts[p].n[r] for _, p, r in order], np.int64),
        np.array([parts[p].sums[:, r] for _, p, r in order]).reshape(-1, 3).T,
        summary.key if summary is not None and known else None,
        tuple(rest),
    )


def _from_summary(
    view: GeneView, summary: Summary, by: Sequence[tuple[str, str]]
) -> list[GroupRows]:
    """Rows of the sections that a summary answers for, its groups joined to those asked for."""
    joined = summary.open(view.store.storage)
    listed = [joined.gene_rows(row) for row in _rows_of(joined.genes, view)]
    found = []
    for number, (entry, segment) in enumerate(zip(summary.entries, joined.segments, strict=True)):
        kept = segment.columns.of_sections(set(summary.share[entry.name]))
        columns = segment.columns.take(kept).arranged([segment.by.index(one) for one in by])
        values = np.full((3, kept.size), np.nan)
        for row in (rows[number] for rows in listed if rows[number] >= 0):
            own = segment.rows(row, row + 1)[0][:, kept]
            values = np.where(np.isnan(values), own, values)
        seen: dict[tuple[Any, ...], int] = {}
        code = np.array(
            [
                seen.setdefault((section, *map(typed, label)), len(seen))
                for section, *label in zip(columns.section.tolist(), *columns.labels, strict=True)
            ],
            np.int64,
        )
        found.append(
            GroupRows(
                [columns.sections[key[0]] for key in seen],
                [tuple(one and one[1] for one in key[1:]) for key in seen],
                np.bincount(code, columns.n, len(seen)).astype(np.int64),
                np.stack([np.bincount(code, one, len(seen)) for one in values]),
                None,
                (),
            )
        )
    return found


def _rows_of(genes: GeneUnion, view: GeneView) -> list[int]:
    """Rows of a gene in the genes of a summary, those of sections without an organism last."""
    bare = [r for r in genes.candidates(view.name) if not genes.organism[r]]
    own = [gene_row(genes, view), *bare]
    return [r for r in dict.fromkeys(own) if r >= 0 and genes.feature_type[r] == view.feature_type]


def gene_row(genes: GeneUnion, view: GeneView) -> int:
    """Row of a gene in the genes of a summary, -1 where its sections do not list it.

    By identifier, never by another spelling: the summary may cover sections of other animals. A
    summary older than the identifier of a gene has it by its symbol.
    """
    same = (genes.organism == view.organism) & (genes.feature_type == view.feature_type)
    for name in dict.fromkeys((view.gene_id, view.symbol)):
        found = np.flatnonzero(same & (genes.gene_id == name))
        if name and found.size:
            return int(found[0])
    return -1


def _computed(
    view: GeneView, section: Section, columns: Sequence[Column], runs: NDArray[np.int64]
) -> GroupRows:
    """Rows of one section, from the gene's vector; from its totals where there are no groups."""
    whole = count(runs) == section.n_obs
    measured = view.is_measured(section.name)
    if not columns and whole:
        sums = np.full((3, 1), np.nan)
        if measured:
            totals, column = section.totals, view.column(section.name)
            sums[:, 0] = totals.nnz[column], totals.sums[column], totals.logged[column]
        n = np.array([section.n_obs], np.int64)
        return GroupRows([section.name], [()], n, sums, None, ())
    codes, labels = group_table(view.store, section, runs, columns)
    sums = np.full((3, len(labels)), np.nan)
    if measured:
        vector = view.vector(section.name).astype(np.float64)
        logged = log1p_of(section, vector)
        if not whole:
            vector, logged = vector[rows_of(runs)], logged[rows_of(runs)]
        for number, weight in enumerate((vector != 0, vector, logged)):
            sums[number] = np.bincount(codes, weight, len(labels))
    cells = np.bincount(codes, minlength=len(labels)).astype(np.int64)
    if not cells.sum():
        labels, cells, sums = [], cells[:0], sums[:, :0]
    return GroupRows([section.name] * len(labels), labels, cells, sums, None, ())


def log1p_of(section: Section, vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-normalized values of one gene (n_obs,), by what the section holds.

    Reads the depth of each cell where counts must be scaled.
    """
    norm = log_norm(section.values)
    if norm.scale:
        known = section.depth()
        vector = vector * np.divide(norm.scale, known, out=np.zeros_like(known), where=known > 0)
    return np.asarray(np.log1p(vector)) if norm.log else vector
