"""Samplers, encoders, training, inference and domains; the only home of torch.

Nothing is imported until it is used, so that neither torch nor SciPy costs start-up time.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .atlas_loader import node_loader
    from .baseline import DomainBaseline, ExpressionBaseline
    from .continuity import chaos, pas
    from .domains import find_domains
    from .gnn import DomainGNN
    from .graph_source import GraphSource
    from .metrics import ari, fowlkes_mallows, nmi
    from .mixing import batch_asw, label_asw, lisi
    from .neighbor_sampler import NeighborSampler
    from .node_space import NodeSpace
    from .proportions import domain_proportions, jensen_shannon, proportion_divergence
    from .pyg_stores import AtlasFeatureStore, AtlasGraphStore, AtlasSampler
    from .resolution import component_tree
    from .seed_plan import plan_seeds
    from .seed_quality import shuffle_quality
    from .stability import choose_number

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
]

if not TYPE_CHECKING:
    _HOMES = {
        "AtlasFeatureStore": "pyg_stores",
        "AtlasGraphStore": "pyg_stores",
        "AtlasSampler": "pyg_stores",
        "DomainBaseline": "baseline",
        "DomainGNN": "gnn",
        "ExpressionBaseline": "baseline",
        "GraphSource": "graph_source",
        "NeighborSampler": "neighbor_sampler",
        "NodeSpace": "node_space",
        "ari": "metrics",
        "batch_asw": "mixing",
        "chaos": "continuity",
        "choose_number": "stability",
        "component_tree": "resolution",
        "domain_proportions": "proportions",
        "find_domains": "domains",
        "fowlkes_mallows": "metrics",
        "jensen_shannon": "proportions",
        "label_asw": "mixing",
        "lisi": "mixing",
        "nmi": "metrics",
        "node_loader": "atlas_loader",
        "pas": "continuity",
        "plan_seeds": "seed_plan",
        "proportion_divergence": "proportions",
        "shuffle_quality": "seed_quality",
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
