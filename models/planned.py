"""The part of a model that tells what its work will need, before any of it is done."""

from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from .genes.shared import common_genes
from .planning import CountsPlan, ModelPlan, StagePlan, one_after_another
from .sampling.graph_source import GraphSource
from .sizes import OVERHEAD

if TYPE_CHECKING:
    from ..atlas.store import AtlasStore
    from .genes.plan import FeaturePlan

__all__ = ["PlannedModel"]


class PlannedModel(ABC):
    """What a plan needs to know of a model; kinds of models add their stages."""

    kind: ClassVar[str]
    flavor: str = "variance"  # how genes are chosen, as `plan_features` says
    store: "AtlasStore"
    section_names: list[str]
    graph: GraphSource
    n_comps: int
    n_top_genes: int
    limit: int
    features: "FeaturePlan | None"
    is_loaded: bool

    def plan(self, sections: Sequence[str] | None = None) -> ModelPlan:
        """Tell what fitting and embedding will need, before anything is computed.

        Parameters
        ----------
        sections : sequence of str, optional
            Those fitted on, without.

        Returns
        -------
        ModelPlan
            Of embedding alone where the model was loaded. Reads panels and shard indexes only.

        Raises
        ------
        InvalidArgument
            Too few genes are shared.
        BudgetExceeded
            Not even a small block of the counts fits the memory limit.
        """
        return self._planned(sections, with_fit=not self.is_loaded)

    def _planned(self, names: Sequence[str] | None, *, with_fit: bool) -> ModelPlan:
        chosen = self.section_names if names is None else list(dict.fromkeys(names))
        sections = [self.store.section(name) for name in chosen]
        read = sum(section.counts_bytes() for section in sections)
        n_genes, stages = 0 if self.features is None else self.features.n_genes, []
        if with_fit:
            n_shared = len(common_genes(sections)[1])
            n_genes = min(n_shared, self.n_top_genes)
            counts = CountsPlan(sections, read, self._room)
            stages = [*counts.fitting(n_shared, n_genes, self.flavor), *self._fit_stages(counts)]
        counts = CountsPlan(sections, read, self._room)
        n_obs = [section.n_obs for section in sections]
        scratch = self._scratch(n_obs, with_fit=with_fit)
        stages += one_after_another(self._embed_stages(counts, n_genes))
        return ModelPlan(
            self.kind, sum(n_obs), len(n_obs), n_genes, self.limit, scratch, tuple(stages)
        )

    @property
    def width(self) -> int:
        """Columns of the embedding."""
        return self.n_comps

    @property
    def _room(self) -> int:
        """Memory for blocks: the limit without what the libraries take."""
        return max(self.limit - OVERHEAD, 1)

    def _fit_stages(self, counts: CountsPlan) -> list[StagePlan]:
        """Plan the stages of fitting after the components: none where nothing is fitted."""
        del counts
        return []

    def _embed_stages(self, counts: CountsPlan, n_genes: int) -> list[StagePlan]:
        """Plan the stages of embedding."""
        return [counts.scores(n_genes), counts.writing(self.width)]

    def _scratch(self, n_obs: Sequence[int], *, with_fit: bool) -> int:
        """Most bytes in scratch files at a time, of sections of these numbers of cells."""
        del with_fit
        return 4 * sum(n_obs) * self.n_comps
