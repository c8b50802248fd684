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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..atlas.errors import InvalidArgument
from ..atlas.genes import union
from .sparse import Csr, as_csr, selector

if TYPE_CHECKING:
    from ..atlas.section import Section

__all__ = [
    "TREATMENTS",
    "FeaturePlan",
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
# fewer shared genes than this tell cells apart by chance; a composition has few columns by nature
FEWEST_GENES = 10
FEWEST_PARTS = 3


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
    """

    organism: tuple[str, ...]
    gene_id: tuple[str, ...]
    symbol: tuple[str, ...]
    chosen: NDArray[np.int64]
    target_depth: float

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


def common_genes(sections: Sequence["Section"]) -> tuple[Any, NDArray[np.int64]]:
    """Find the genes measured in every section.

    Parameters
    ----------
    sections : sequence of Section

    Returns
    -------
    genes : GeneUnion
    rows : ndarray int64
        Rows of the union that every section measured.

    Raises
    ------
    InvalidArgument
        When there are too few, with what each section would allow by itself.
    """
    genes = union({section.name: section.panel for section in sections})
    measured = np.ones(len(genes), dtype=bool)
    counts: list[tuple[str, int]] = []
    for section in sections:
        found = genes.presence(section.name, detected=section.totals.nnz > 0) == "measured"
        counts.append((section.name, int(found.sum())))
        measured &= found
    rows = np.flatnonzero(measured)
    fewest = FEWEST_PARTS if all(s.values == "composition" for s in sections) else FEWEST_GENES
    if len(rows) < fewest:
        listed = ", ".join(f"{name} ({n} genes)" for name, n in counts[:12])
        more = f" and {len(counts) - 12} more" if len(counts) > 12 else ""
        raise InvalidArgument(
            f"wanted at least {fewest} genes measured in every chosen section, but got "
            f"{len(rows)} shared by {listed}{more}; choose sections of one panel or organism "
            "with `sections=`, or give a `gene_map` at ingest"
        )
    return genes, rows


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


def locate_genes(section: "Section", plan: FeaturePlan) -> SectionColumns:
    """Find the genes of a plan in a section, also one the plan was not made from.

    Raises
    ------
    InvalidArgument
        When the section measured too few of them.
    """
    panel, nonzero = section.panel, section.totals.nnz
    column = np.full(len(plan.gene_id), -1, dtype=np.int64)
    for i, names in enumerate(zip(plan.gene_id, plan.symbol, strict=True)):
        for name in names:
            found = panel.candidates(name) if name else ()
            if len(found) == 1:
                column[i] = found[0]
                break
    column[panel.zero_padded & (column >= 0) & (nonzero[column] == 0)] = -1
    present = int((column[plan.chosen] >= 0).sum())
    fewest = min(plan.n_genes, FEWEST_PARTS if section.values == "composition" else FEWEST_GENES)
    if present < fewest:
        raise InvalidArgument(
            f"wanted at least {fewest} of the model's {plan.n_genes} genes in section "
            f"{section.name!r}, but got {present}; fit a model on sections that share its panel"
        )
    return SectionColumns(column, TREATMENTS[section.values])


def section_blocks(
    section: "Section", plan: FeaturePlan, where: SectionColumns, block_rows: int
) -> Iterator[tuple[int, Csr]]:
    """Yield `(first row, normalized rows over the chosen genes)`, `(m, g)` float32, in row order.

    Genes that the section lacks are columns of zeros; centering on the section's own mean turns
    them into "no evidence".
    """
    present = np.flatnonzero(where.present)
    asked = where.column[present]
    # the reader may want ascending columns; the plan's order is restored afterwards
    ascending = np.argsort(asked, kind="stable")
    back = np.full(len(plan.gene_id), -1, dtype=np.int64)
    back[present[ascending]] = np.arange(len(present))
    take = back[plan.chosen]
    have = np.flatnonzero(take >= 0)
    pick = selector(take[have], have, (len(present), plan.n_genes))
    for start in range(0, section.n_obs, block_rows):
        stop = min(start + block_rows, section.n_obs)
        counts = section.counts([(start, stop)], genes=asked[ascending])
        yield start, as_csr(normalized(counts, where.treatment, plan.target_depth) @ pick)


def _mean_depth(sections: Sequence["Section"], columns: Mapping[str, NDArray[np.int64]]) -> float:
    """Mean counts per cell over the common genes, from the sections' stored totals."""
    counted = [s for s in sections if TREATMENTS[s.values] == TREATMENTS["counts"]]
    total = sum(float(s.totals.sums[columns[s.name]].sum()) for s in counted)
    cells = sum(s.n_obs for s in counted)
    return total / cells if cells and total > 0 else 1.0


def _variances(
    section: "Section", plan: FeaturePlan, where: SectionColumns, block_rows: int
) -> NDArray[np.float64]:
    total, square = np.zeros(plan.n_genes), np.zeros(plan.n_genes)
    for _, block in section_blocks(section, plan, where, block_rows):
        total += np.asarray(block.sum(axis=0, dtype=np.float64)).ravel()
        square += np.asarray(block.power(2).sum(axis=0, dtype=np.float64)).ravel()
    return np.asarray(square / section.n_obs - (total / section.n_obs) ** 2)


def plan_features(
    sections: Sequence["Section"], *, n_top_genes: int = 2000, block_rows: int = 4096
) -> FeaturePlan:
    """Choose the genes that a model over these sections sees.

    Parameters
    ----------
    sections : sequence of Section
    n_top_genes : int
        Keep this many when more are shared: those of highest median rank, over sections, by
        variance after normalization.
    block_rows : int
        Rows read at once.

    Returns
    -------
    FeaturePlan

    Raises
    ------
    InvalidArgument
        When too few genes are measured in every section.

    Notes
    -----
    One pass over the counts when genes must be chosen, none otherwise.
    Memory: about 16 bytes per non-zero of one block, and 8 bytes per gene and section.
    """
    genes, rows = common_genes(sections)
    columns = {s.name: genes.columns(s.name)[rows].astype(np.int64) for s in sections}
    plan = FeaturePlan(
        tuple(map(str, genes.organism[rows])),
        tuple(map(str, genes.gene_id[rows])),
        tuple(map(str, genes.symbol[rows])),
        np.arange(len(rows), dtype=np.int64),
        _mean_depth(sections, columns),
    )
    if len(rows) <= n_top_genes:
        return plan
    ranks = np.empty((len(sections), len(rows)))
    for i, section in enumerate(sections):
        where = SectionColumns(columns[section.name], TREATMENTS[section.values])
        variance = _variances(section, plan, where, block_rows)
        ranks[i, np.argsort(-variance, kind="stable")] = np.arange(len(rows))
    best = np.argsort(np.median(ranks, axis=0), kind="stable")[:n_top_genes]
    return FeaturePlan(
        plan.organism, plan.gene_id, plan.symbol, np.sort(best).astype(np.int64), plan.target_depth
    )
