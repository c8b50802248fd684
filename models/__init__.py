"""Samplers, encoders, training, inference and domains; the only home of torch.

Nothing is imported until it is used, so that neither torch nor SciPy costs start-up time.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .baseline import DomainBaseline, ExpressionBaseline
    from .domains.find import find_domains
    from .domains.resolution import component_tree
    from .domains.stability import choose_number
    from .metrics.agreement import ari, fowlkes_mallows, nmi
    from .metrics.continuity import chaos, pas
    from .metrics.mixing import lisi
    from .metrics.proportions import domain_proportions, jensen_shannon, proportion_divergence
    from .metrics.silhouettes import batch_asw, label_asw
    from .network.gnn import DomainGNN
    from .sampling.atlas_loader import node_loader
    from .sampling.densify import densify
    from .sampling.graph_source import GraphSource
    from .sampling.neighbor_sampler import NeighborSampler
    from .sampling.node_space import NodeSpace
    from .sampling.pyg_stores import AtlasFeatureStore, AtlasGraphStore, AtlasSampler
    from .sampling.seed_plan import plan_seeds
    from .sampling.seed_quality import shuffle_quality
    from .sampling.tile_loader import tile_loader

__all__ = [
    "AtlasFeatureStore",
    "AtlasGraphStore",
    "AtlasSampler",
    "DomainBaseline",
    "DomainGNN",
    "ExpressionBaseline",
    "GraphSource",
    "NeighborSampler",
    "NodeSpace",
    "ari",
    "batch_asw",
    "chaos",
    "choose_number",
    "component_tree",
    "densify",
    "domain_proportions",
    "find_domains",
    "fowlkes_mallows",
    "jensen_shannon",
    "label_asw",
    "lisi",
    "nmi",
    "node_loader",
    "pas",
    "plan_seeds",
    "proportion_divergence",
    "shuffle_quality",
    "tile_loader",
]

if not TYPE_CHECKING:
    _HOMES = {
        "AtlasFeatureStore": "sampling.pyg_stores",
        "AtlasGraphStore": "sampling.pyg_stores",
        "AtlasSampler": "sampling.pyg_stores",
        "DomainBaseline": "baseline",
        "DomainGNN": "network.gnn",
        "ExpressionBaseline": "baseline",
        "GraphSource": "sampling.graph_source",
        "NeighborSampler": "sampling.neighbor_sampler",
        "NodeSpace": "sampling.node_space",
        "ari": "metrics.agreement",
        "batch_asw": "metrics.silhouettes",
        "chaos": "metrics.continuity",
        "choose_number": "domains.stability",
        "component_tree": "domains.resolution",
        "densify": "sampling.densify",
        "domain_proportions": "metrics.proportions",
        "find_domains": "domains.find",
        "fowlkes_mallows": "metrics.agreement",
        "jensen_shannon": "metrics.proportions",
        "label_asw": "metrics.silhouettes",
        "lisi": "metrics.mixing",
        "nmi": "metrics.agreement",
        "node_loader": "sampling.atlas_loader",
        "pas": "metrics.continuity",
        "plan_seeds": "sampling.seed_plan",
        "proportion_divergence": "metrics.proportions",
        "shuffle_quality": "sampling.seed_quality",
        "tile_loader": "sampling.tile_loader",
    }

    def __getattr__(name):
        """Load a public name on first use (PEP 562)."""
        from importlib import import_module

        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{home}", __name__), name)

    def __dir__():
        return sorted(__all__)
