"""Divisors that bring what the network sees to about unit variance.

Each component is divided by its own spread, not all by one: components are ordered by variance,
which says how strongly genes are expressed and not how much they tell of tissue. What neighbors do
not share cannot be guessed from them and drops out of the embedding by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..components.projection import Progress
from ..sampling.batch_plan import Partition
from ..sampling.pyg import Data  # pyright: ignore[reportAttributeAccessIssue]  # untyped library
from ..sampling.tile_batches import TileBatches

__all__ = ["Scale", "measure_scale"]

SCALE_BATCHES = 16  # batches that the spread of the prior is measured on
LEAST_SHARE = 1e-6  # of the largest variance: below it a component is rounding, and stays small


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """Divisors that bring features and prior to about unit variance, the same for all sections.

    Attributes
    ----------
    features : ndarray (d,) float32
        One per feature; the prior, a mean of features, is divided by them too.
    prior : float
        What is divided out of the prior after that: means vary less than cells.
    """

    features: NDArray[np.float32]
    prior: float

    def apply(self, data: Data) -> Data:
        """Standardize a batch where it lies: on the device, once it is there."""
        features = torch.from_numpy(self.features).to(data.x.device, non_blocking=True)
        data.x = data.x / features
        if "prior" in data:
            data.prior = data.prior / (features * self.prior)
        return data

    def to_weights(self) -> dict[str, NDArray[Any]]:
        """Return what `from_weights` wants."""
        return {"scale.features": self.features, "scale.prior": np.asarray([self.prior])}

    @classmethod
    def from_weights(cls, weights: Mapping[str, NDArray[Any]]) -> "Scale":
        """Rebuild a scale from saved arrays.

        Raises
        ------
        KeyError
            They are missing.
        """
        features = np.asarray(weights["scale.features"], dtype=np.float32)
        return cls(features, float(weights["scale.prior"][0]))


def measure_scale(
    batches: TileBatches, variance: NDArray[np.float64], *, progress: Progress | None = None
) -> Scale:
    """Measure the spread of the prior on the first batches of the plan.

    Parameters
    ----------
    batches : TileBatches
    variance : ndarray (d,) float64
        Of each feature over all cells.
    progress : callable, optional
        Called with ("scale", batches done, batches).

    Returns
    -------
    Scale
        The same on every rank: all measure on the batches of all.
    """
    largest = float(variance.max(initial=0.0)) or 1.0
    features = np.sqrt(np.maximum(variance, LEAST_SHARE * largest)).astype(np.float32)
    square, count = 0.0, 0
    first = replace(batches.plan, partition=Partition()).epoch(0)[:SCALE_BATCHES]
    for done, batch in enumerate(first, start=1):
        prior = batches.load(batch).prior.double().numpy() / features
        square += float(np.square(prior).sum())
        count += prior.size
        if progress is not None:
            progress("scale", done, len(first))
    # a tissue without any structure has nothing to divide by
    return Scale(features, float(np.sqrt(square / count)) or 1.0)
