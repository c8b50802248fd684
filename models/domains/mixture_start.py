"""Starts of a mixture: a sample of the rows, spread seeds, a few turns of k-means."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Blocks", "Matrix", "lloyd", "sample_rows", "spread_seeds"]

type Blocks = Callable[[], Iterable[NDArray[np.floating]]]
"""Yields `(m, d)` blocks of rows, the same ones at every call."""
type Matrix = NDArray[np.float64]

LLOYD_TURNS = 20


def sample_rows(blocks: Blocks, n_rows: int, size: int, seed: int) -> NDArray[np.float32]:
    """Draw `size` rows without replacement (all of them when there are fewer), in stored order.

    Parameters
    ----------
    blocks : callable
        Yields `(m, d)` blocks.
    n_rows : int
        Rows of all blocks together.
    size, seed : int
        Rows wanted; the same seed draws the same rows.

    Returns
    -------
    ndarray (min(size, n_rows), d) float32
    """
    if size >= n_rows:
        return np.concatenate([np.asarray(block, dtype=np.float32) for block in blocks()])
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(n_rows, size=size, replace=False))
    parts, start = [], 0
    for block in blocks():
        lo, hi = np.searchsorted(chosen, [start, start + len(block)])
        parts.append(np.asarray(block, dtype=np.float32)[chosen[lo:hi] - start])
        start += len(block)
    return np.concatenate(parts)


def spread_seeds(x: Matrix, k: int, rng: np.random.Generator) -> Matrix:
    """Draw k-means++ centers: each next one by its squared distance to those chosen before."""
    centers = np.empty((k, x.shape[1]))
    centers[0] = x[rng.integers(len(x))]
    nearest = ((x - centers[0]) ** 2).sum(axis=1)
    for j in range(1, k):
        total = nearest.sum()
        # identical rows leave nothing to draw from: any row serves
        pick = rng.choice(len(x), p=nearest / total) if total > 0 else rng.integers(len(x))
        centers[j] = x[pick]
        nearest = np.minimum(nearest, ((x - centers[j]) ** 2).sum(axis=1))
    return centers


def lloyd(x: Matrix, centers: Matrix) -> NDArray[np.intp]:
    """Return labels after a few k-means turns; an emptied center stays where it was."""
    square = (x**2).sum(axis=1)
    labels = np.zeros(len(x), dtype=np.intp)
    for _ in range(LLOYD_TURNS):
        distance = square[:, None] - 2.0 * x @ centers.T + (centers**2).sum(axis=1)
        fresh = distance.argmin(axis=1)
        size = np.bincount(fresh, minlength=len(centers))
        onehot = np.zeros((len(x), len(centers)))
        onehot[np.arange(len(x)), fresh] = 1.0
        full = size > 0
        centers[full] = (onehot.T @ x)[full] / size[full, None]
        if np.array_equal(fresh, labels):
            break
        labels = fresh
    return labels
