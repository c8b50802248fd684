"""Samplers, encoders, training, inference and domains; the only home of torch.

Nothing is imported until it is used, so that neither torch nor SciPy costs start-up time.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .baseline import DomainBaseline, ExpressionBaseline
    from .continuity import chaos, pas
    from .domains import find_domains
    from .gnn import DomainGNN
    from .graph_source import GraphSource
    from .metrics import ari, nmi
    from .mixing import batch_asw, label_asw, lisi
    from .proportions import domain_proportions, jensen_shannon, proportion_divergence

__all__ = [
    "DomainBaseline",
    "DomainGNN",
    "ExpressionBaseline",
    "GraphSource",
    "ari",
    "batch_asw",
    "chaos",
    "domain_proportions",
    "find_domains",
    "jensen_shannon",
    "label_asw",
    "lisi",
    "nmi",
    "pas",
    "proportion_divergence",
]

if not TYPE_CHECKING:
    _HOMES = {
        "DomainBaseline": "baseline",
        "DomainGNN": "gnn",
        "ExpressionBaseline": "baseline",
        "GraphSource": "graph_source",
        "ari": "metrics",
        "batch_asw": "mixing",
        "chaos": "continuity",
        "domain_proportions": "proportions",
        "find_domains": "domains",
        "jensen_shannon": "proportions",
        "label_asw": "mixing",
        "lisi": "mixing",
        "nmi": "metrics",
        "pas": "continuity",
        "proportion_divergence": "proportions",
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
