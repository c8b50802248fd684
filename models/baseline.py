"""The plain models: principal components, smoothed over the neighborhood or left as they are.

Deterministic, without torch. `docs/decisions/003-domain-baseline.md` says what was tried.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, override

from numpy.typing import NDArray

from ..atlas.errors import InvalidArgument
from .graph_source import GraphSource
from .lifecycle import AtlasModel
from .projection import Progress
from .row_file import RowFile
from .smoothing import smooth_section

if TYPE_CHECKING:
    from ..atlas.section import Section
    from ..atlas.store import AtlasStore

__all__ = ["DomainBaseline", "ExpressionBaseline"]


class DomainBaseline(AtlasModel):
    """Neighbor-smoothed principal components: means over hop shells, centered per section.

    Parameters
    ----------
    store, sections, graph, n_comps, n_top_genes, memory_limit, seed
        See `AtlasModel`; the seed is recorded, nothing here is random.
    n_hops : int
        Shells; the embedding has `n_hops * n_comps` columns.

    Notes
    -----
    Two passes over the counts (three when genes must be chosen), one over the graph.
    """

    kind: ClassVar[str] = "plain"

    def __init__(
        self,
        store: "AtlasStore",
        *,
        sections: Sequence[str] | None = None,
        graph: GraphSource | None = None,
        n_comps: int = 30,
        n_top_genes: int = 2000,
        n_hops: int = 4,
        memory_limit: str | int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            store,
            sections=sections,
            graph=graph,
            n_comps=n_comps,
            n_top_genes=n_top_genes,
            memory_limit=memory_limit,
            seed=seed,
        )
        if n_hops < 1:
            raise InvalidArgument(f"wanted at least one hop, but got n_hops={n_hops}")
        self.n_hops = n_hops

    @override
    def _fit(self, progress: Progress | None) -> None:
        """Nothing on top of the components is fitted."""

    @override
    def _embed(self, section: "Section", folder: Path) -> tuple[RowFile, Mapping[str, str]]:
        neighbors = self.graph.open(self.store, section.name)
        scores = self.scores(section, folder)
        try:
            path = folder / f"plain-{section.attempt}"
            table = smooth_section(neighbors.graph, scores, hops=self.n_hops, path=path)
        finally:
            scores.close()
        return table, neighbors.inputs

    @override
    def _settings(self) -> dict[str, Any]:
        return {"n_hops": self.n_hops}

    @override
    def _weights(self) -> dict[str, NDArray[Any]]:
        return {}

    @override
    def _restore(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Nothing to take back."""


class ExpressionBaseline(AtlasModel):
    """Principal components of each cell alone: what clustering without neighbors sees."""

    kind: ClassVar[str] = "expression"

    @override
    def _fit(self, progress: Progress | None) -> None:
        """Nothing on top of the components is fitted."""

    @override
    def _embed(self, section: "Section", folder: Path) -> tuple[RowFile, Mapping[str, str]]:
        return self.scores(section, folder), {}

    @override
    def _settings(self) -> dict[str, Any]:
        return {}

    @override
    def _weights(self) -> dict[str, NDArray[Any]]:
        return {}

    @override
    def _restore(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Nothing to take back."""
