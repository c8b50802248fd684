"""Shares of domains in sections, and how much they differ from section to section."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...atlas.errors import InvalidArgument
from .row_distances import encoded

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Divergence", "domain_proportions", "jensen_shannon", "proportion_divergence"]


@dataclass(frozen=True, slots=True)
class Divergence:
    """How much the shares of domains differ between sections.

    Attributes
    ----------
    mean : float
        Mean over all pairs of sections, 0 (alike) to 1 (no domain in common), in bits.
    pairs : DataFrame (sections x sections)
        Divergence of each pair; symmetric, 0 on the diagonal.
    proportions : DataFrame (sections x domains)
        Shares; each row sums to 1.
    """

    mean: float
    pairs: "pd.DataFrame"
    proportions: "pd.DataFrame"


def jensen_shannon(left: ArrayLike, right: ArrayLike) -> float:
    """Compute the Jensen-Shannon divergence of two distributions, base 2.

    Parameters
    ----------
    left, right : array_like (k,)
        Weights of the same k things, not negative; each is normalized to sum to 1.

    Returns
    -------
    float
        0 (alike) to 1 (nothing in common). The divergence, not its square root.

    Raises
    ------
    InvalidArgument
        Lengths differ, a weight is negative or not finite, or all are 0.

    Notes
    -----
    Lin, IEEE Trans. Inf. Theory 37 (1991): the mean divergence of both from their mean.

    Examples
    --------
    >>> jensen_shannon([1, 0], [0, 1])
    1.0
    """
    p, q = _weights(left), _weights(right)
    if p.shape != q.shape:
        raise InvalidArgument(
            f"wanted weights of the same things, but got {len(p)} and {len(q)} of them"
        )
    middle = (p + q) / 2.0
    total = 0.0
    for share in (p, q):
        some = share > 0
        total += float((share[some] * np.log2(share[some] / middle[some])).sum())
    return min(max(total / 2.0, 0.0), 1.0)


def _weights(values: ArrayLike) -> NDArray[np.float64]:
    weights = np.asarray(values, dtype=np.float64)
    if weights.ndim != 1 or not np.isfinite(weights).all() or (weights < 0).any():
        raise InvalidArgument(
            f"wanted a list of finite weights of 0 or more, but got {weights.tolist()}"
        )
    if not weights.sum() > 0:
        raise InvalidArgument(f"wanted some weight above 0, but got {weights.tolist()}")
    return np.asarray(weights / weights.sum())


def domain_proportions(
    labels: ArrayLike | Sequence[str], sections: ArrayLike | Sequence[str]
) -> "pd.DataFrame":
    """Count the share of each domain in each section.

    Parameters
    ----------
    labels, sections : array_like (n,)
        Domain and section of each cell; any sortable types.

    Returns
    -------
    DataFrame (sections x domains) float64
        In sorted order; rows sum to 1.

    Raises
    ------
    InvalidArgument
        No cells, a missing label, or lengths that differ.

    Notes
    -----
    Memory: 24 bytes a cell beside the labels, 16 a pair of section and domain.

    Examples
    --------
    >>> domain_proportions(["x", "y", "y"], ["a", "a", "b"]).loc["a"].tolist()
    [0.5, 0.5]
    """
    import pandas as pd

    n_cells = len(np.asarray(labels))
    if n_cells == 0:
        raise InvalidArgument("wanted the labels of some cells, but got none")
    names, codes = encoded(labels, n_cells)
    places, place = encoded(sections, n_cells, "section")
    pair = place * len(names) + codes
    flat = np.bincount(pair, minlength=len(places) * len(names))
    counts = flat.reshape(len(places), len(names))
    return pd.DataFrame(
        counts / counts.sum(axis=1, keepdims=True),
        index=pd.Index(places, name="section"),
        columns=pd.Index(names, name="domain"),
    )


def proportion_divergence(
    labels: ArrayLike | Sequence[str], sections: ArrayLike | Sequence[str]
) -> Divergence:
    """Compare the shares of domains between all pairs of sections.

    Parameters
    ----------
    labels, sections : array_like (n,)
        Domain and section of each cell; any sortable types.

    Returns
    -------
    Divergence
        The mean over pairs, each pair, and the shares. Sections that truly differ in tissue should
        differ here: small is good only where they are alike (replicates, serial sections).

    Raises
    ------
    InvalidArgument
        One section, no cells, a missing label, or lengths that differ.

    Notes
    -----
    Jensen-Shannon divergence of domain shares across slides: as Novae (Blampey et al., Nature
    Methods 2025) measures consistency, there over all slides at once, here by pairs.
    Memory: that of `domain_proportions`, and 8 bytes a pair of sections.

    Examples
    --------
    >>> proportion_divergence(["x", "y", "x", "y"], ["a", "a", "b", "b"]).mean
    0.0
    """
    import pandas as pd

    table = domain_proportions(labels, sections)
    n = len(table)
    if n < 2:
        raise InvalidArgument(f"wanted two sections or more to compare, but got {n}")
    shares = table.to_numpy()
    apart = np.zeros((n, n))
    for i in range(n):
        for j in range(i):
            apart[i, j] = apart[j, i] = jensen_shannon(shares[i], shares[j])
    upper = apart[np.triu_indices(n, 1)]
    pairs = pd.DataFrame(apart, index=table.index, columns=table.index)
    return Divergence(float(upper.mean()), pairs, table)
