"""Which genes a model sees, and in which form: chosen once for all sections, applied by blocks.

What is done depends on what a section's matrix holds (`Section.values`), and is recorded:

============  ==========================================================
counts        library size to a common depth, then log1p
expected      the same: expected counts are counts without their rounding
normalized    log1p
log1p         nothing
composition   nothing
============  ==========================================================
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..rows.sparse import Csr, as_csr, selector
from .shared import FEWEST_GENES, FEWEST_PARTS, common_genes, gene_columns, mean_depth
from .variable import FLAVORS, rank_genes

if TYPE_CHECKING:
    from ...atlas.panel import Panel
    from ...atlas.section import Section

__all__ = [
    "CHOICES",
    "TREATMENTS",
    "FeaturePlan",
    "GeneReader",
    "SectionColumns",
    "common_genes",
    "locate_genes",
    "normalized",
    "plan_features",
    "section_blocks",
]

TREATMENTS: Mapping[str, str] = {
    "counts": "library-size + log1p",
    "expected": "library-size + log1p",
    "normalized": "log1p",
    "log1p": "as stored",
    "composition": "as stored",
}
# how the features are chosen of the shared genes
CHOICES: tuple[str, ...] = ("variance", *FLAVORS)


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """The genes of a model and the depth its counts are brought to; the same for every section.

    Attributes
    ----------
    organism, gene_id, symbol : tuple of str
        Identity of the genes that set the library size: those measured in every section.
    chosen : ndarray (g,) int64
        Which of them are features (the most variable ones, or all).
    target_depth : float
        Counts per cell, over those genes, after library-size normalization.
    aliases : tuple of tuple of str
        Other names of each of those genes in the sections it was chosen from; empty where none has
        any.
    """

    organism: tuple[str, ...]
    gene_id: tuple[str, ...]
    symbol: tuple[str, ...]
    chosen: NDArray[np.int64]
    target_depth: float
    aliases: tuple[tuple[str, ...], ...] = ()

    @property
    def n_genes(self) -> int:
        """Number of features."""
        return len(self.chosen)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready facts, for a run's config."""
        return {
            "organism": list(self.organism),
            "gene_id": list(self.gene_id),
            "symbol": list(self.symbol),
            "chosen": self.chosen.tolist(),
            "target_depth": self.target_depth,
            "aliases": [list(names) for names in self.aliases],
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "FeaturePlan":
        """Rebuild a plan from `to_dict`."""
        return cls(
            tuple(map(str, facts["organism"])),
            tuple(map(str, facts["gene_id"])),
            tuple(map(str, facts["symbol"])),
            np.asarray(facts["chosen"], dtype=np.int64),
            float(facts["target_depth"]),
            tuple(tuple(map(str, names)) for names in facts.get("aliases", ())),
        )


@dataclass(frozen=True, slots=True)
class SectionColumns:
    """Where the genes of a plan stand in one section.

    Attributes
    ----------
    column : ndarray (n_plan_genes,) int64
        Matrix column of each gene of the plan, -1 where the section lacks it.
    treatment : str
        One of the values of `TREATMENTS`.
    """

    column: NDArray[np.int64]
    treatment: str

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which genes of the plan the section measured."""
        return self.column >= 0


def normalized(counts: Any, treatment: str, target_depth: float) -> Csr:
    """Bring a block of rows to the scale that models see; zeros stay zeros.

    Parameters
    ----------
    counts : csr (m, g)
        Rows over the genes that set the library size.
    treatment : str
        One of the values of `TREATMENTS`.
    target_depth : float
        Row sum after library-size normalization.

    Returns
    -------
    csr_array (m, g) float32
        A new matrix; a cell without counts stays empty.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> block = sp.csr_array(np.array([[1.0, 3.0], [0.0, 0.0]]))
    >>> np.expm1(normalized(block, TREATMENTS["counts"], 8.0).toarray()).round(4).tolist()
    [[2.0, 6.0], [0.0, 0.0]]
    """
    out = as_csr(counts.copy())
    if treatment == "as stored":
        return out
    if treatment == TREATMENTS["counts"]:
        depth = np.asarray(out.sum(axis=1, dtype=np.float64)).ravel()
        # a cell without counts has nothing to scale
        scale = np.divide(target_depth, depth, out=np.zeros_like(depth), where=depth > 0)
        out.data *= np.repeat(scale, np.diff(out.indptr)).astype(np.float32)
    out.data = np.log1p(out.data)
    return out


def _columns(panel: "Panel", plan: FeaturePlan) -> NDArray[np.int64]:
    """Column of each gene of a plan in a panel, -1 where none can be told to be it."""
    column = np.full(len(plan.gene_id), -1, dtype=np.int64)
    same = [not own or not panel.organism or own == panel.organism for own in plan.organism]
    ids, symbols = ([(name,) for name in names] for names in (plan.gene_id, plan.symbol))
    for names in (ids, symbols, plan.aliases or [()] * len(ids)):
        taken = set(column[column >= 0].tolist())
        claims: dict[int, list[int]] = {}
        for gene in np.flatnonzero((column < 0) & same).tolist():
            found = _one_column(panel, names[gene])
            if found >= 0 and found not in taken:
                claims.setdefault(found, []).append(gene)
        for found, genes in claims.items():
            # names that differ in case alone may be two genes: the same spelling goes first
            own = (panel.gene_id[found], panel.symbol[found])
            same_name = ([gene for gene in genes if name in names[gene]] for name in own)
            surest = next(filter(None, same_name), genes)
            if len(surest) == 1:
                column[surest[0]] = found
    return column


def _one_column(panel: "Panel", names: Sequence[str]) -> int:
    """Column that the first name to fit any means, -1 where that is none or several."""
    found = next((fits for name in names if name and (fits := panel.candidates(name))), ())
    return found[0] if len(found) == 1 else -1


def locate_genes(section: "Section", plan: FeaturePlan) -> SectionColumns:
    """Find the genes of a plan in a section, also one the plan was not made from.

    By identifier, then symbol, then alias, among genes of the same organism; no column is two
    genes.

    Raises
    ------
    InvalidArgument
        When the section measured too few of them.
    """
    panel, nonzero = section.panel, section.totals.nnz
    column = _columns(panel, plan)
    column[panel.zero_padded & (column >= 0) & (nonzero[column] == 0)] = -1
    present = int((column[plan.chosen] >= 0).sum())
    fewest = min(plan.n_genes, FEWEST_PARTS if section.values == "composition" else FEWEST_GENES)
    if present < fewest:
        others = sorted(set(plan.organism) - {"", panel.organism}) if panel.organism else []
        apart = f" (of {panel.organism}, not {', '.join(others)})" if others else ""
        raise InvalidArgument(
            f"wanted at least {fewest} of the model's {plan.n_genes} genes in section "
            f"{section.name!r}{apart}, but got {present}; fit a model on sections that share its "
            "panel"
        )
    return SectionColumns(column, TREATMENTS[section.values])


class GeneReader:
    """Reads the chosen genes of one section, normalized.

    Genes that the section lacks are columns of zeros; centering on the section's own mean turns
    them into "no evidence".

    Parameters
    ----------
    section : Section
    plan : FeaturePlan
    where : SectionColumns
        Of this plan in this section.
    """

    def __init__(self, section: "Section", plan: FeaturePlan, where: SectionColumns) -> None:
        self._section, self._where, self._depth = section, where, plan.target_depth
        present = np.flatnonzero(where.present)
        asked = where.column[present]
        # the reader may want ascending columns; the plan's order is restored afterwards
        ascending = np.argsort(asked, kind="stable")
        self._asked: NDArray[np.int64] | None = asked[ascending]
        back = np.full(len(plan.gene_id), -1, dtype=np.int64)
        back[present[ascending]] = np.arange(len(present))
        take = back[plan.chosen]
        have = np.flatnonzero(take >= 0)
        self._pick: Csr | None = selector(take[have], have, (len(present), plan.n_genes))
        # the plan of a single panel takes the matrix as it is
        if np.array_equal(asked[ascending], np.arange(section.n_vars)):
            self._asked = None
        if np.array_equal(take, np.arange(len(present))):
            self._pick = None

    def rows(self, runs: Sequence[tuple[int, int]]) -> Csr:
        """Return the rows of some runs, (m, n_genes) float32."""
        counts = self._section.counts(runs, genes=self._asked)
        ready = normalized(counts, self._where.treatment, self._depth)
        return ready if self._pick is None else as_csr(ready @ self._pick)


def section_blocks(
    section: "Section", plan: FeaturePlan, where: SectionColumns, block_rows: int
) -> Iterator[tuple[int, Csr]]:
    """Yield `(first row, normalized rows over the chosen genes)`, `(m, g)` float32, in row order.

    As `GeneReader` reads them.
    """
    reader = GeneReader(section, plan, where)
    for start in range(0, section.n_obs, block_rows):
        yield start, reader.rows([(start, min(start + block_rows, section.n_obs))])


def _variances(
    section: "Section", plan: FeaturePlan, where: SectionColumns, block_rows: int
) -> NDArray[np.float64]:
    total, square = np.zeros(plan.n_genes), np.zeros(plan.n_genes)
    for _, block in section_blocks(section, plan, where, block_rows):
        total += np.asarray(block.sum(axis=0, dtype=np.float64)).ravel()
        square += np.asarray(block.power(2).sum(axis=0, dtype=np.float64)).ravel()
    return np.asarray(square / section.n_obs - (total / section.n_obs) ** 2)


def plan_features(
    sections: Sequence["Section"],
    *,
    n_top_genes: int = 2000,
    block_rows: int = 4096,
    flavor: str = "variance",
) -> FeaturePlan:
    """Choose the genes that a model over these sections sees.

    Parameters
    ----------
    sections : sequence of Section
    n_top_genes : int
        Keep this many when more are shared.
    block_rows : int
        Rows read at once.
    flavor : {"variance", "seurat_v3", "seurat"}
        How: by median rank, over sections, of the variance after normalization; or as
        `variable_genes` says.

    Returns
    -------
    FeaturePlan

    Raises
    ------
    InvalidArgument
        When too few genes are measured in every section, the flavor is unknown, or it does not
        fit the values of a section.

    Notes
    -----
    One pass over the counts when genes must be chosen (two for `seurat_v3`), none otherwise.
    Memory: about 16 bytes per non-zero of one block, and 8 bytes per gene and section.
    """
    if flavor not in CHOICES:
        raise InvalidArgument(f"wanted a flavor of {', '.join(CHOICES)}, but got {flavor!r}")
    genes, rows = common_genes(sections)
    aliases = tuple(genes.aliases[row] for row in rows)
    columns = {s.name: gene_columns(s, genes, rows) for s in sections}
    plan = FeaturePlan(
        tuple(map(str, genes.organism[rows])),
        tuple(map(str, genes.gene_id[rows])),
        tuple(map(str, genes.symbol[rows])),
        np.arange(len(rows), dtype=np.int64),
        mean_depth(sections, columns),
        aliases if any(aliases) else (),
    )
    if len(rows) <= n_top_genes:
        return plan
    if flavor == "variance":
        best = _most_varying(sections, plan, columns, n_top_genes, block_rows)
    else:
        ranked = rank_genes(
            sections,
            columns,
            flavor="seurat" if flavor == "seurat" else "seurat_v3",
            n_top_genes=n_top_genes,
            target_depth=plan.target_depth,
            block_rows=block_rows,
        )
        best = np.flatnonzero(ranked.chosen)
    return replace(plan, chosen=np.sort(best).astype(np.int64))


def _most_varying(
    sections: Sequence["Section"],
    plan: FeaturePlan,
    columns: Mapping[str, NDArray[np.int64]],
    n_top_genes: int,
    block_rows: int,
) -> NDArray[np.int64]:
    """Genes of highest median rank, over sections, by variance after normalization."""
    ranks = np.empty((len(sections), plan.n_genes))
    for i, section in enumerate(sections):
        where = SectionColumns(columns[section.name], TREATMENTS[section.values])
        variance = _variances(section, plan, where, block_rows)
        ranks[i, np.argsort(-variance, kind="stable")] = np.arange(plan.n_genes)
    return np.argsort(np.median(ranks, axis=0), kind="stable")[:n_top_genes]
