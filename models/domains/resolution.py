"""Coarser domains by joining components of a fitted mixture: one tree, cut at any number."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from .mixture import Mixture
from .mixture_start import Matrix

__all__ = ["ComponentTree", "component_distances", "component_tree"]


@dataclass(frozen=True, slots=True)
class ComponentTree:
    """Components of a mixture joined two by two; every cut lies inside every coarser one.

    Attributes
    ----------
    weights : ndarray (K,) float64
        Of the components, which are the leaves.
    joins : ndarray (K - 1, 2) int64
        The two groups joined at each step, first step first: components are 0 to K - 1, the group
        made at step s is K + s.
    heights : ndarray (K - 1,) float64
        Distance of the two groups, ascending.
    """

    weights: Matrix
    joins: NDArray[np.int64]
    heights: Matrix

    @property
    def n_components(self) -> int:
        """Number of leaves."""
        return len(self.weights)

    def cut(self, n_groups: int) -> NDArray[np.int16]:
        """Return the group of each component when there are to be `n_groups`.

        The same table serves all sections: a cell of component c is in group `cut(k)[c]`.

        Parameters
        ----------
        n_groups : int
            1 to the number of components.

        Returns
        -------
        ndarray (K,) int16
            Groups are numbered by weight, heaviest first; ties by their lowest component.

        Raises
        ------
        InvalidArgument
            More groups than components, or none.
        """
        k = self.n_components
        if not 1 <= n_groups <= k:
            raise InvalidArgument(
                f"wanted 1 to {k} groups, one component each at most, but got {n_groups}; fit "
                "more components first"
            )
        member = np.arange(2 * k - 1)
        for step in range(k - n_groups):
            member[np.isin(member, self.joins[step])] = k + step
        names, first, group = np.unique(member[:k], return_index=True, return_inverse=True)
        weight = np.bincount(group, weights=self.weights, minlength=len(names))
        rank = np.empty(len(names), dtype=np.int16)
        rank[np.lexsort((first, -weight))] = np.arange(len(names))
        return rank[group]


def component_distances(mixture: Mixture) -> Matrix:
    """Distance of each pair of components, in standard deviations.

    Parameters
    ----------
    mixture : Mixture
        Fitted, with one covariance for all or one each.

    Returns
    -------
    ndarray (K, K) float64
        Symmetric, 0 on the diagonal.

    Notes
    -----
    The square root of eight Bhattacharyya distances (Bhattacharyya 1943; Kailath, IEEE Trans. Comm.
    15, 1967): `D = 1/8 m' S^-1 m + 1/2 log(|S| / sqrt(|S1| |S2|))`, m the difference of means and
    S the mean of the two covariances. Under one shared covariance it is the Mahalanobis distance
    of the means. Time O(K^2 d) when shared, else O(K^2 d^3); memory 8 K^2 + 8 K d^2 bytes.

    Examples
    --------
    >>> import numpy as np
    >>> two = Mixture(np.full(2, 0.5), np.array([[0.0], [6.0]]), np.array([[[0.5]]]))
    >>> component_distances(two)[0].tolist()
    [0.0, 3.0]
    """
    means, k = mixture.means, mixture.n_components
    apart = np.zeros((k, k))
    if mixture.tied:
        places = means @ mixture.factors[0]
        for i in range(k):
            apart[i] = np.sqrt(((places - places[i]) ** 2).sum(axis=1))
        return apart
    covariances = np.linalg.inv(mixture.factors @ mixture.factors.transpose(0, 2, 1))
    # precision = factor @ factor.T, so the log determinant of a covariance is minus twice this
    log_dets = -2.0 * np.log(np.einsum("kii->ki", mixture.factors)).sum(axis=1)
    for i in range(k):
        for j in range(i):
            lower = np.linalg.cholesky((covariances[i] + covariances[j]) / 2.0)
            gap = np.linalg.solve(lower, means[i] - means[j])
            shape = 2.0 * np.log(np.diag(lower)).sum() - (log_dets[i] + log_dets[j]) / 2.0
            apart[i, j] = apart[j, i] = np.sqrt(gap @ gap + 4.0 * max(shape, 0.0))
    return apart


def component_tree(mixture: Mixture) -> ComponentTree:
    """Join the components of a mixture two by two, nearest first.

    Parameters
    ----------
    mixture : Mixture
        Fitted.

    Returns
    -------
    ComponentTree

    Raises
    ------
    InvalidArgument
        When a mean, factor or weight is not finite.

    Notes
    -----
    Average linkage (Sokal and Michener, 1958) of `component_distances`, where a component counts by
    its weight: the distance of two groups is the mean distance between a cell's component of the
    one and of the other. Ties take the lowest pair. Time O(K^3), memory 16 K^2 bytes, for K
    components; the number of cells plays no part.

    Examples
    --------
    >>> import numpy as np
    >>> means = np.array([[0.0], [1.0], [9.0]])
    >>> tree = component_tree(Mixture(np.array([0.5, 0.2, 0.3]), means, np.ones((1, 1, 1))))
    >>> tree.cut(2).tolist(), tree.heights.round(3).tolist()
    ([0, 0, 1], [1.0, 8.714])
    """
    apart = component_distances(mixture)
    if not (np.isfinite(apart).all() and np.isfinite(mixture.weights).all()):
        raise InvalidArgument("wanted a fitted mixture, but got one that is not finite; fit again")
    k = mixture.n_components
    # an emptied component weighs nothing, and a mean over nothing is none
    mass = np.maximum(mixture.weights.astype(np.float64), np.finfo(np.float64).tiny)
    names = np.arange(k)
    np.fill_diagonal(apart, np.inf)
    joins, heights = np.empty((k - 1, 2), dtype=np.int64), np.empty(k - 1)
    for step in range(k - 1):
        i, j = np.divmod(int(apart.argmin()), k)  # the first minimum: i < j
        joins[step], heights[step] = np.sort(names[[i, j]]), apart[i, j]
        share = mass[i] / (mass[i] + mass[j])
        merged = share * apart[i] + (1.0 - share) * apart[j]
        merged[[i, j]] = np.inf
        apart[i], apart[:, i] = merged, merged
        apart[j], apart[:, j] = np.inf, np.inf
        mass[i], names[i] = mass[i] + mass[j], k + step
    return ComponentTree(mixture.weights.astype(np.float64), joins, heights)
