"""How labels mix around each cell of an embedding: local Simpson indices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...atlas.errors import InvalidArgument
from .row_distances import (
    BLOCK_BYTES,
    Matrix,
    Rows,
    checked_rows,
    drawn_rows,
    encoded,
    nearest_rows,
)

__all__ = ["LocalDiversity", "lisi"]

ENTROPY_TOLERANCE = 1e-5  # of the published code, as are the number of halvings and the first guess
MOST_HALVINGS = 50


@dataclass(frozen=True, slots=True)
class LocalDiversity:
    """Effective number of labels around each scored cell.

    Attributes
    ----------
    values : ndarray (m,) float64
        Inverse Simpson index of each scored cell, 1 to `n_labels`.
    rows : ndarray (m,) int64
        The cells scored; all of them unless a sample was asked for.
    n_labels : int
    n_cells : int
        Cells that could be neighbors.
    sample, seed : int, optional
        As asked for; None where every cell is scored.
    """

    values: Matrix
    rows: Rows
    n_labels: int
    n_cells: int
    sample: int | None
    seed: int | None

    @property
    def median(self) -> float:
        """Median over the scored cells."""
        return float(np.median(self.values))

    @property
    def mean(self) -> float:
        """Mean over the scored cells."""
        return float(self.values.mean())

    @property
    def scaled(self) -> float:
        """The iLISI of scib, `(median - 1) / (n_labels - 1)`: 0 apart, 1 mixed (batches want 1)."""
        return (self.median - 1.0) / (self.n_labels - 1.0)

    @property
    def scaled_apart(self) -> float:
        """The cLISI of scib, `(n_labels - median) / (n_labels - 1)`: 1 where labels keep apart."""
        return 1.0 - self.scaled


def lisi(
    x: ArrayLike,
    labels: ArrayLike | Sequence[str],
    *,
    n_neighs: int = 90,
    perplexity: float = 30.0,
    sample: int | None = None,
    seed: int = 0,
) -> LocalDiversity:
    """Measure how many labels meet around each cell: iLISI of batches, cLISI of domains or types.

    Parameters
    ----------
    x : array_like (n, d)
        Embedding; finite.
    labels : array_like (n,)
        Batch, section or domain of each cell; any sortable type.
    n_neighs : int
        Nearest other cells looked at, exactly.
    perplexity : float
        Effective number of neighbors that the weights of those cells amount to.
    sample : int, optional
        Score this many cells, drawn with `seed`; their neighbors are still sought among all.
    seed : int

    Returns
    -------
    LocalDiversity
        `.scaled` for batches (more is better mixed), `.scaled_apart` for labels.

    Raises
    ------
    InvalidArgument
        One label only, not more cells than neighbors, a perplexity not between 1 and `n_neighs`,
        nan, or lengths that differ.

    Notes
    -----
    Korsunsky et al., Nature Methods 16 (2019), "LISI": weights of neighbors are `exp(-beta d)`,
    normalized, with beta such that their entropy is `log(perplexity)`; the index is one over the
    sum of squared label weights. The search for beta is theirs (bisection from 1, 50 steps, 1e-5),
    after subtracting the least distance, which leaves the weights as they are and cannot underflow.
    Their package asks for 90 neighbors and drops the cell itself, so it looks at 89. Scaled forms:
    scib (Luecken et al., Nature Methods 19, 2022). Cells at one place all count alike.
    Memory: see `nearest_rows`; 24 m k bytes more for m scored cells and k neighbors.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> round(lisi(x, np.arange(200) % 2).scaled, 1)
    1.0
    """
    table = checked_rows(x)
    names, codes = encoded(labels, len(table))
    if len(names) < 2:
        raise InvalidArgument(
            f"wanted two labels or more to see them mix, but got {len(names)} in {len(table)} cells"
        )
    if not 1.0 < perplexity < n_neighs:
        raise InvalidArgument(
            f"wanted a perplexity above 1 and below the {n_neighs} neighbors, but got {perplexity}"
        )
    rows = drawn_rows(len(table), sample, seed)
    distance, neighbor = nearest_rows(table, rows, n_neighs)
    values = np.empty(len(rows))
    step = max(1, BLOCK_BYTES // (8 * max(n_neighs, len(names))))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        weights = _weights(distance[part], perplexity)
        values[part] = 1.0 / _simpson(weights, codes[neighbor[part]], len(names))
    drawn = len(rows) < len(table)
    return LocalDiversity(
        values, rows, len(names), len(table), sample if drawn else None, seed if drawn else None
    )


def _weights(distance: Matrix, perplexity: float) -> Matrix:
    """Weights of neighbors, `(m, k)`, each row of the wanted entropy, found by bisection."""
    excess = distance - distance[:, :1]
    wanted = np.log(perplexity)
    beta = np.ones(len(excess))
    low, high = np.full(len(excess), -np.inf), np.full(len(excess), np.inf)
    weight = np.empty_like(excess)
    active = np.arange(len(excess))
    for _ in range(MOST_HALVINGS + 1):
        raw = np.exp(-excess[active] * beta[active, None])
        total = raw.sum(axis=1)
        entropy = np.log(total) + beta[active] * (excess[active] * raw).sum(axis=1) / total
        weight[active] = raw / total[:, None]
        off = np.abs(entropy - wanted) >= ENTROPY_TOLERANCE
        too_flat = entropy > wanted
        active, too_flat = active[off], too_flat[off]
        if not len(active):
            break
        up, down = active[too_flat], active[~too_flat]
        low[up], high[down] = beta[up], beta[down]
        beta[up] = np.where(np.isinf(high[up]), 2.0 * beta[up], (beta[up] + high[up]) / 2.0)
        beta[down] = np.where(np.isinf(low[down]), beta[down] / 2.0, (beta[down] + low[down]) / 2.0)
    return weight


def _simpson(weights: Matrix, codes: NDArray[np.intp], n_labels: int) -> Matrix:
    """Sum of squared label weights of each row."""
    m = len(weights)
    slots = np.arange(m)[:, None] * n_labels + codes
    share = np.bincount(slots.ravel(), weights=weights.ravel(), minlength=m * n_labels)
    return np.asarray((share.reshape(m, n_labels) ** 2).sum(axis=1))
