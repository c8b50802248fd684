"""What the instrument does to a section: depth, batch effect, gene panel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .plan import SectionPlan, SimulationPlan

__all__ = ["Instrument"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """The technical side of one section.

    Attributes
    ----------
    depth : float
        Factor on the expected total count of every cell.
    log_effect : ndarray, shape (n_all_genes,)
        Additive effect on the log mean of each gene, in the order of the gene universe.
    panel : ndarray of int64, shape (n_genes,)
        Genes measured, as indices into the universe, in the order of the file.
    """

    depth: float
    log_effect: npt.NDArray[np.float64]
    panel: npt.NDArray[np.int64]

    @classmethod
    def of(cls, plan: SimulationPlan, section: SectionPlan) -> Instrument:
        """Draw the instrument of `section`; a run shares its panel and most of its effect."""
        n_runs = plan.n_embryos
        n_all = plan.shared + n_runs * (plan.n_genes - plan.shared)
        run_rng = np.random.default_rng([plan.seed, 2, section.run])
        own_rng = np.random.default_rng([plan.seed, 3, section.index])
        effect = run_rng.normal(0, plan.batch_sd, n_all)
        effect += own_rng.normal(0, plan.batch_sd / 2, n_all)
        only = plan.shared + section.run * (plan.n_genes - plan.shared)
        genes = np.concatenate(
            [np.arange(plan.shared), np.arange(only, only + plan.n_genes - plan.shared)]
        )
        trend = plan.depth_trend ** (section.progress - 0.5)
        depth = float(trend * np.exp(own_rng.normal(0, plan.depth_sd)))
        return cls(depth, effect, run_rng.permutation(genes))
