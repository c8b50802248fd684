"""Wilcoxon's rank sums over cells, gene by gene from the gene-major copy of the counts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ...atlas.memory import refuse_above
from ..cells.rows import rows_of
from ..expression.normalize import TARGET_SUM
from .groups import Comparison, labeled_parts

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.section import Section
    from ..cells.selection import Selection
    from ..expression.choice import GeneChoice

__all__ = ["rank_cells"]

_ROWS_AT_ONCE = 262_144
# An entry while it is read, scaled, put together and sorted.
_NNZ_BYTES = 72
_CELL_BYTES = 32
_TINY = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """The cells that take part, one section after the other."""

    sections: "tuple[Section, ...]"
    place: tuple[NDArray[np.int32], ...]
    """(n_obs,) number of each row among all cells that take part, -1 for none."""
    codes: NDArray[np.int64]
    """(n,) label of each cell."""


def rank_cells(
    selection: "Selection", comparison: Comparison, choice: "GeneChoice", *, limit: int
) -> "dict[str, tuple[pd.DataFrame, tuple[int, int]]]":
    """Compare ranks of log-normalized values of cells.

    Returns
    -------
    dict of str to (DataFrame, (int, int))
        By group: `log2_fold`, `base_mean`, `stat`, `p`, `p_adj`, (genes,) in order; and the cells
        of the group and of its reference.

    Raises
    ------
    InvalidArgument
        Sections of compositions, or of several kinds of values.
    BudgetExceeded
        One gene's values do not fit the limit.

    Notes
    -----
    Scores are those of `scanpy.tl.rank_genes_groups(method="wilcoxon")` without correction for
    ties, on log1p of counts per 10,000. Memory: 32 bytes a cell, and the values of one batch of
    genes.
    """
    _check_values(selection)
    cells = _gather(selection, comparison, limit)
    sums = {name: _Sums.zeros(len(choice)) for name in comparison.groups}
    sides = {name: _sides(cells.codes, comparison, name) for name in comparison.groups}
    for genes in _gene_batches(cells, choice, limit):
        for gene, at, values in _vectors(cells, choice, genes):
            for name, side in sides.items():
                sums[name].add(gene, at, values, side)
    n = {name: (int((s == 1).sum()), int((s == 0).sum())) for name, s in sides.items()}
    return {name: (sums[name].table(*n[name]), n[name]) for name in comparison.groups}


def _check_values(selection: "Selection") -> None:
    entries = [selection.store.snapshot.sections[name] for name in selection.runs]
    kinds = sorted({"counts" if e.values == "expected" else e.values for e in entries})
    if len(kinds) > 1 or kinds == ["composition"]:
        raise InvalidArgument(
            f"counts, normalized or log1p values of one kind are wanted, but got sections of "
            f"{', '.join(kinds)}; leave some out with where="
        )


def _gather(selection: "Selection", comparison: Comparison, limit: int) -> _Cells:
    n = selection.n_obs
    total = sum(section.n_obs for section, _ in selection.parts())
    refuse_above(
        limit,
        _CELL_BYTES * n + 4 * total,
        f"labels of {n:,} cells",
        "narrow the query, or give a larger memory_limit",
    )
    sections: list[Section] = []
    place: list[NDArray[np.int32]] = []
    codes: list[NDArray[np.int64]] = []
    done = 0
    for section, runs, own in labeled_parts(selection, comparison, _ROWS_AT_ONCE):
        if not sections or sections[-1] is not section:
            sections.append(section)
            place.append(np.full(section.n_obs, -1, np.int32))
        kept = own >= 0
        rows = rows_of(runs)[kept]
        place[-1][rows] = np.arange(done, done + len(rows), dtype=np.int32)
        done += len(rows)
        codes.append(own[kept])
    return _Cells(tuple(sections), tuple(place), np.concatenate(codes))


def _sides(codes: NDArray[np.int64], comparison: Comparison, group: str) -> NDArray[np.int8]:
    """1 for cells of the group, 0 for those of the reference, -1 for others."""
    own, other = comparison.sides(group)
    side = np.full(len(comparison.labels), -1, np.int8)
    side[other] = 0
    side[own] = 1
    return np.asarray(side[codes])


def _gene_batches(cells: _Cells, choice: "GeneChoice", limit: int) -> Iterator[NDArray[np.int64]]:
    """Cut the genes into batches whose values fit beside what is held."""
    nnz = np.zeros(len(choice), np.int64)
    for section in cells.sections:
        nnz += section.totals.nnz[choice.columns[section.name]].astype(np.int64)
    room = limit - _CELL_BYTES * len(cells.codes) - 4 * sum(map(len, cells.place))
    refuse_above(
        limit,
        limit - room + _NNZ_BYTES * int(nnz.max(initial=0)),
        f"the values of one gene in {len(cells.codes):,} cells",
        "narrow the query, or give a larger memory_limit",
    )
    batch = np.cumsum(nnz) * _NNZ_BYTES // max(room // 2, 1)
    batch += np.arange(len(nnz)) // 512
    edges = np.flatnonzero(np.diff(batch, prepend=-1))
    yield from np.split(np.arange(len(nnz)), edges[1:])


def _vectors(
    cells: _Cells, choice: "GeneChoice", genes: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.int32], NDArray[np.float32]]]:
    """Non-zero values of each gene: its number, the cells, log-normalized values."""
    parts = [
        _of_section(section, place, choice.columns[section.name][genes])
        for section, place in zip(cells.sections, cells.place, strict=True)
    ]
    for k, gene in enumerate(genes.tolist()):
        pieces = [(at[ptr[k] : ptr[k + 1]], data[ptr[k] : ptr[k + 1]]) for at, data, ptr in parts]
        at = np.concatenate([piece[0] for piece in pieces])
        kept = at >= 0
        yield gene, at[kept], np.concatenate([piece[1] for piece in pieces])[kept]


def _of_section(
    section: "Section", place: NDArray[np.int32], columns: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.float32], Any]:
    matrix = section.gene_columns(columns)
    data = matrix.data.astype(np.float64)
    if section.values in ("counts", "expected"):
        depth = section.depth()
        scale = np.divide(TARGET_SUM, depth, out=np.zeros_like(depth), where=depth > 0)
        data *= scale[matrix.indices]
    if section.values != "log1p":
        data = np.log1p(data)
    # Rounded as in exports: values that are equal but for the last bits are ties.
    return place[matrix.indices], data.astype(np.float32), matrix.indptr


@dataclass(slots=True, eq=False)
class _Sums:
    """What the statistics of a comparison are made of, one value a gene."""

    rank: NDArray[np.float64]
    """Sum of the ranks of the group's cells."""
    group: NDArray[np.float64]
    """Sum of log-normalized values of the group."""
    reference: NDArray[np.float64]
    """The same of the reference."""

    @classmethod
    def zeros(cls, n: int) -> "_Sums":
        return cls(np.zeros(n), np.zeros(n), np.zeros(n))

    def add(
        self,
        gene: int,
        at: NDArray[np.int32],
        values: NDArray[np.float32],
        side: NDArray[np.int8],
    ) -> None:
        """Rank a gene; cells without it share the lowest ranks, as no value is negative."""
        from scipy.stats import rankdata

        own = side[at]
        known = own >= 0
        own, values = own[known], values[known]
        n_zero = int((side >= 0).sum()) - len(own)
        inside = own == 1
        ranks = rankdata(values) + n_zero
        zeros_inside = int((side == 1).sum()) - int(inside.sum())
        self.rank[gene] = ranks[inside].sum() + zeros_inside * (n_zero + 1) / 2.0
        self.group[gene] = values[inside].sum(dtype=np.float64)
        self.reference[gene] = values[~inside].sum(dtype=np.float64)

    def table(self, n: int, m: int) -> "pd.DataFrame":
        import pandas as pd
        from scipy.stats import false_discovery_control, norm

        spread = np.sqrt(n * m * (n + m + 1) / 12.0)
        stat = (self.rank - n * (n + m + 1) / 2.0) / spread
        p = 2 * norm.sf(np.abs(stat))
        mean, other = self.group / max(n, 1), self.reference / max(m, 1)
        fold = np.log2((np.expm1(mean) + _TINY) / (np.expm1(other) + _TINY))
        return pd.DataFrame(
            {
                "log2_fold": fold,
                "base_mean": (self.group + self.reference) / max(n + m, 1),
                "stat": stat,
                "p": p,
                "p_adj": false_discovery_control(p) if len(p) else p,
            }
        )
