"""Divisors that bring what the network sees to about unit variance."""

from dataclasses import dataclass, replace

import numpy as np

from ..sampling.batch_plan import Partition
from ..sampling.pyg import Data  # pyright: ignore[reportAttributeAccessIssue]  # untyped library
from ..sampling.tile_batches import TileBatches

__all__ = ["Scale", "measure_scale"]

SCALE_BATCHES = 16  # batches that the spread of the prior is measured on


@dataclass(frozen=True, slots=True)
class Scale:
    """Divisors that bring features and prior to about unit variance, the same for all sections.

    Attributes
    ----------
    features, prior : float
    """

    features: float
    prior: float

    def apply(self, data: Data) -> Data:
        """Standardize a batch where it lies: on the device, once it is there."""
        data.x = data.x / self.features
        if "prior" in data:
            data.prior = data.prior / self.prior
        return data


def measure_scale(batches: TileBatches, feature_variance: float) -> Scale:
    """Measure the spread of the prior on the first batches of the plan.

    Parameters
    ----------
    batches : TileBatches
    feature_variance : float
        Mean variance of the features over all cells.

    Returns
    -------
    Scale
        The same on every rank: all measure on the batches of all.
    """
    square, count = 0.0, 0
    for batch in replace(batches.plan, partition=Partition()).epoch(0)[:SCALE_BATCHES]:
        prior = batches.load(batch).prior.double()
        square += float(prior.square().sum())
        count += prior.numel()
    # a tissue without any structure has nothing to divide by
    return Scale(float(np.sqrt(feature_variance)) or 1.0, float(np.sqrt(square / count)) or 1.0)
