"""The directions of an embedding that are worth keeping."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..components.pca import GramSum, principal_components
from .encoder import Encoder

__all__ = ["main_directions"]


def main_directions(
    encoder: Encoder, blocks: Iterable[NDArray[np.float32]], n_dims: int
) -> NDArray[np.float64]:
    """Return the directions in which the guesses of the decoder vary most.

    Parameters
    ----------
    encoder : Encoder
        Trained.
    blocks : iterable of ndarray (m, n_out) float32
        Embeddings of cells, centered on their section.
    n_dims : int
        Directions wanted.

    Returns
    -------
    ndarray (n_out, n_dims) float64
    """
    guess = encoder.decoder.weight.detach().cpu().double().numpy().T
    sums = GramSum(len(guess))
    for block in blocks:
        sums.add(block)
    scatter = guess.T @ sums.scatter() @ guess
    found: NDArray[np.float64] = guess @ principal_components(scatter, sums.n_rows, n_dims).loadings
    return found
