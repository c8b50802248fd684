"""Features of cells by node, whatever section they lie in: genes, embeddings, scores.

All of them read pages of rows and keep some; what is asked for comes as a dense float32 table.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ...atlas.memory import default_limit
from ..genes.plan import FeaturePlan
from ..rows.pages import CACHE_BYTES, NextUse
from .dense_features import EmbeddingFeatures, ScoreFeatures
from .gene_features import GeneFeatures, plan_genes
from .node_space import NodeSpace

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = [
    "EmbeddingFeatures",
    "GeneFeatures",
    "NodeFeatures",
    "ScoreFeatures",
    "open_components",
    "open_features",
    "plan_genes",
]

EMBEDDING = "embedding/"


class NodeFeatures(Protocol):
    """Rows of float32 by node."""

    @property
    def width(self) -> int:
        """Columns."""
        ...

    def take(self, nodes: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the rows of some nodes, in their order, (m, width) float32."""
        ...


def open_features(
    store: "AtlasStore",
    space: NodeSpace,
    features: str = "normalized",
    *,
    genes: Sequence[str] | None = None,
    n_top_genes: int = 2000,
    n_comps: int = 30,
    cache_bytes: int = CACHE_BYTES,
    memory_limit: int | None = None,
    future: NextUse | None = None,
) -> GeneFeatures | EmbeddingFeatures | ScoreFeatures:
    """Open features of an atlas by name.

    Parameters
    ----------
    store : AtlasStore
    space : NodeSpace
    features : str
        "normalized" or "raw" expression, "components" (scores of its principal components, fitted
        here: two passes over the counts), or "embedding/<key>".
    genes, n_top_genes
        See `plan_genes`.
    n_comps : int
        Principal components.
    cache_bytes : int
        Rows to keep in memory.
    memory_limit : int, optional
        Bytes that fitting components may take; see `open_components`.
    future : NextUse, optional
        Knows which rows will be wanted.

    Returns
    -------
    NodeFeatures

    Raises
    ------
    InvalidArgument
        An unknown name, or as `plan_genes` says.
    DerivedNotFound, StaleDerived
        A section has no such embedding.
    BudgetExceeded
        Too many genes for the memory that components take.
    """
    if features.startswith(EMBEDDING):
        key = features.removeprefix(EMBEDDING)
        return EmbeddingFeatures(store, space, key, cache_bytes=cache_bytes, future=future)
    if features not in ("normalized", "raw", "components"):
        raise InvalidArgument(
            "features 'normalized', 'raw', 'components' or 'embedding/<key>' are wanted, but got "
            f"{features!r}"
        )
    sections = [store.section(name) for name in space.sections]
    plan = plan_genes(sections, genes, n_top_genes=n_top_genes)
    if features == "components":
        found = open_components(store, space, plan, n_comps=n_comps, memory_limit=memory_limit)
        found.hold(cache_bytes, future)
        return found
    return GeneFeatures(
        space, sections, plan, raw=features == "raw", cache_bytes=cache_bytes, future=future
    )


def open_components(
    store: "AtlasStore",
    space: NodeSpace,
    plan: FeaturePlan,
    *,
    n_comps: int = 30,
    memory_limit: int | None = None,
) -> ScoreFeatures:
    """Fit principal components over some sections, and open the scores of all cells.

    Parameters
    ----------
    store : AtlasStore
    space : NodeSpace
    plan : FeaturePlan
        Genes.
    n_comps : int
    memory_limit : int, optional
        Bytes of the two passes; the default limit of this machine without.

    Returns
    -------
    ScoreFeatures
        Centered on the mean of each section; in scratch files of 4 `n_comps` bytes a cell that go
        with it.

    Raises
    ------
    BudgetExceeded
        Too many genes.
    """
    from ..components.projection import fit_components, plan_pass, write_scores

    sections = [store.section(name) for name in space.sections]
    rows = plan_pass(sections, plan.n_genes, memory_limit or default_limit()).block_rows
    components = fit_components(sections, plan, n_comps=n_comps, block_rows=rows)
    scratch = TemporaryDirectory(prefix="tisseract-")
    tables = [
        write_scores(
            section, plan, components, path=Path(scratch.name) / str(number), block_rows=rows
        )
        for number, section in enumerate(sections)
    ]
    return ScoreFeatures(space, tables, scratch=scratch)
