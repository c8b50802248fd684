"""What the network is trained for: guess hidden cells from their neighbors, near a smooth prior.

``reconstruction`` x mean squared error of the hidden seeds' features, guessed from what surrounds
them, + ``prior`` x mean squared distance of the embedding from the neighborhood mean. The first
term learns where neighborhoods end; the second, the deterministic answer, keeps it from finding
something else (`docs/decisions/003-domain-baseline.md` has both alone).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..sampling.pyg import Data  # pyright: ignore[reportAttributeAccessIssue]  # untyped library
from .encoder import Encoder

__all__ = ["LossWeights", "masked_loss", "wrong_together"]


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much each part of the loss counts.

    Attributes
    ----------
    reconstruction, prior : float
        Weights of the two terms.
    mask_rate : float
        Share of the cells whose features are hidden.
    """

    reconstruction: float = 1.0
    prior: float = 0.3
    mask_rate: float = 0.5


def masked_loss(
    encoder: Encoder, data: Data, weights: LossWeights, generator: torch.Generator
) -> dict[str, Tensor]:
    """Compute the loss of one batch, term by term.

    Parameters
    ----------
    encoder : Encoder
    data : Data
        Standardized x and prior, on the encoder's device.
    weights : LossWeights
    generator : torch.Generator
        On the CPU, so that the same cells are hidden on every device.

    Returns
    -------
    dict of str to Tensor
        Weighted scalars, whose sum is the loss: "reconstruction" and "prior".
    """
    hidden = torch.rand(len(data.x), generator=generator) < weights.mask_rate
    hidden = hidden.to(data.x.device, non_blocking=True)
    x = torch.where(hidden[:, None], encoder.mask_token, data.x)
    z = encoder(x, data.edge_index, data.num_sampled_nodes, data.num_sampled_edges)
    seeds = hidden[: data.batch_size]
    error = (encoder.decoder(z) - data.x[: data.batch_size]).square().mean(dim=1)
    # a mean over no hidden seeds at all (tiny sections) is zero, not nan
    rebuilt = (error * seeds).sum() / seeds.sum().clamp(min=1)
    away = (z - data.prior).square().mean()
    return {"reconstruction": weights.reconstruction * rebuilt, "prior": weights.prior * away}


def wrong_together(
    n_layers: int, prior_hops: int, reconstruction: float, prior: float
) -> list[str]:
    """Tell what is wrong with options that are fine one by one."""
    found = []
    if prior_hops > n_layers:
        found.append(
            f"wanted prior_hops <= n_layers, but got prior_hops={prior_hops}, n_layers={n_layers}"
        )
    if reconstruction == 0 and prior == 0:
        found.append("wanted a weight above 0, but got reconstruction=0 and prior=0")
    return found
