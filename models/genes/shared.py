"""Which genes several sections share, where each stands in each matrix, and how deep they count."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ...atlas.genes import union

if TYPE_CHECKING:
    from ...atlas.section import Section

__all__ = [
    "COUNTED",
    "FEWEST_GENES",
    "FEWEST_PARTS",
    "GenePolicy",
    "common_genes",
    "gene_columns",
    "mean_depth",
]

type GenePolicy = Literal["intersection", "union"]

POLICIES: tuple[GenePolicy, ...] = ("intersection", "union")
# kinds of values whose row sums are a library size
COUNTED = ("counts", "expected")
# fewer shared genes than this tell cells apart by chance; a composition has few columns by nature
FEWEST_GENES = 10
FEWEST_PARTS = 3


def _measured(genes: Any, section: "Section") -> NDArray[np.bool_]:
    found = genes.presence(section.name, detected=section.totals.nnz > 0) == "measured"
    return np.asarray(found, dtype=bool)


def common_genes(
    sections: Sequence["Section"], policy: GenePolicy = "intersection"
) -> tuple[Any, NDArray[np.int64]]:
    """Find the genes measured in every section, or in any.

    Parameters
    ----------
    sections : sequence of Section
    policy : {"intersection", "union"}
        Every section must have measured a gene, or one is enough.

    Returns
    -------
    genes : GeneUnion
    rows : ndarray int64
        Rows of the union that the policy keeps.

    Raises
    ------
    InvalidArgument
        When there are too few, with what each section would allow by itself; unknown policy.
    """
    if policy not in POLICIES:
        raise InvalidArgument(f"wanted genes of {' or '.join(POLICIES)}, but got {policy!r}")
    genes = union({section.name: section.panel for section in sections})
    measured = [_measured(genes, section) for section in sections]
    joined = np.logical_and if policy == "intersection" else np.logical_or
    rows = np.flatnonzero(joined.reduce(measured))
    fewest = FEWEST_PARTS if all(s.values == "composition" for s in sections) else FEWEST_GENES
    if len(rows) < fewest:
        counts = [(s.name, int(m.sum())) for s, m in zip(sections, measured, strict=True)]
        listed = ", ".join(f"{name} ({n} genes)" for name, n in counts[:12])
        more = f" and {len(counts) - 12} more" if len(counts) > 12 else ""
        raise InvalidArgument(
            f"wanted at least {fewest} genes measured in every chosen section, but got "
            f"{len(rows)} shared by {listed}{more}; choose sections of one panel or organism "
            "with `sections=`, or give a `gene_map` at ingest"
        )
    return genes, rows


def gene_columns(section: "Section", genes: Any, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Matrix column of each gene of some rows of a union, -1 where it was not measured."""
    columns = genes.columns(section.name)[rows].astype(np.int64)
    columns[~_measured(genes, section)[rows]] = -1
    return np.asarray(columns)


def mean_depth(sections: Sequence["Section"], columns: Mapping[str, NDArray[np.int64]]) -> float:
    """Mean counts per cell over some genes, from the sections' stored totals; 1 without counts."""
    counted = [s for s in sections if s.values in COUNTED]
    total = 0.0
    for section in counted:
        where = columns[section.name]
        total += float(section.totals.sums[where[where >= 0]].sum())
    cells = sum(s.n_obs for s in counted)
    return total / cells if cells and total > 0 else 1.0
