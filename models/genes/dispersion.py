"""Dispersion of genes compared among genes of similar mean: the flavor `seurat`, as pure numbers.

Satija et al., Nature Biotechnology 33 (2015) 495; the numbers are those of scanpy's
`highly_variable_genes(flavor="seurat")`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dispersions", "merged_dispersions", "top_dispersions"]

type Floats = NDArray[np.float64]

N_BINS = 20


@dataclass(frozen=True, slots=True)
class Dispersions:
    """Dispersion of each gene of one section.

    Attributes
    ----------
    mean : ndarray (g,) float64
        log1p of the mean of the values before the logarithm.
    dispersion : ndarray (g,) float64
        Logarithm of variance over mean; NaN where nothing varies.
    standardized : ndarray (g,) float64
        In deviations from the mean dispersion of genes of similar mean; NaN where nothing varies.
    """

    mean: Floats
    dispersion: Floats
    standardized: Floats

    @classmethod
    def of(cls, mean: Floats, variance: Floats) -> "Dispersions":
        """Standardize among genes of similar mean.

        Parameters
        ----------
        mean, variance : ndarray (g,) float64
            Of values before the logarithm; the variance has n - 1 in the denominator.

        Notes
        -----
        Twenty bins of equal width of the logarithmic mean. A gene alone in its bin gets 1.

        Examples
        --------
        >>> import numpy as np
        >>> found = Dispersions.of(np.array([1.0, 1.0, 9.0]), np.array([1.0, 4.0, 2.0]))
        >>> found.standardized.round(3).tolist()
        [-0.707, 0.707, 1.0]
        """
        # as the reference has it: a mean of nothing takes part in the bins as almost zero
        raised = np.where(mean == 0.0, 1e-12, mean)
        ratio = variance / raised
        dispersion = np.log(np.where(ratio > 0.0, ratio, np.nan))
        logged = np.log1p(raised)
        return cls(logged, dispersion, _standardized(dispersion, _bins(logged)))

    @classmethod
    def of_expressed(cls, mean: Floats, variance: Floats) -> "Dispersions":
        """Leave genes without any value out of the bins; all their numbers are zero."""
        seen = mean > 0.0
        parts = cls.of(mean[seen], variance[seen])
        whole = np.zeros((3, len(mean)))
        whole[:, seen] = parts.mean, parts.dispersion, parts.standardized
        return cls(*whole)


def _bins(values: Floats) -> NDArray[np.int64]:
    """Find the bin of each value, as `pandas.cut(values, 20)` does: closed on the right."""
    if len(values) == 0:
        return np.zeros(0, np.int64)
    low, high = float(values.min()), float(values.max())
    if low == high:
        margin = 0.001 * abs(low) if low != 0.0 else 0.001
        low, high = low - margin, high + margin
        edges = np.linspace(low, high, N_BINS + 1)
    else:
        edges = np.linspace(low, high, N_BINS + 1)
        edges[0] -= (high - low) * 0.001
    return np.searchsorted(edges, values, side="left").astype(np.int64) - 1


def _standardized(dispersion: Floats, bins: NDArray[np.int64]) -> Floats:
    known = np.isfinite(dispersion)
    size = np.bincount(bins[known], minlength=N_BINS).astype(np.float64)
    filled = np.where(known, dispersion, 0.0)
    center = np.bincount(bins, weights=filled, minlength=N_BINS) / np.maximum(size, 1.0)
    away = np.where(known, dispersion - center[bins], 0.0)
    square = np.bincount(bins, weights=away**2, minlength=N_BINS)
    width = np.sqrt(square / np.maximum(size - 1.0, 1.0))
    # one gene has no spread to be compared with: it is measured by itself, which gives 1
    alone = size < 2.0
    width = np.where(alone, center, width)
    center = np.where(alone, 0.0, center)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((dispersion - center[bins]) / width[bins])


def top_dispersions(standardized: Floats, n_top: int) -> NDArray[np.bool_]:
    """Tell the genes at or above the n-th largest; equal ones may make it more, NaN never."""
    known = standardized[~np.isnan(standardized)]
    if len(known) == 0 or n_top < 1:
        return np.zeros(len(standardized), dtype=bool)
    bar = np.sort(known)[::-1][min(n_top, len(known)) - 1]
    # NaN is at or above nothing
    return np.asarray(standardized >= bar)


def merged_dispersions(
    sections: list[Dispersions], n_top: int
) -> tuple[Dispersions, NDArray[np.int64], NDArray[np.bool_]]:
    """Merge what several sections say: chosen in many of them first, then by mean dispersion.

    Returns
    -------
    mean : Dispersions
        Means over sections, those of genes that do not vary left out.
    n_sections : ndarray (g,) int64
        Sections in which a gene is among the first `n_top`.
    chosen : ndarray (g,) bool
    """
    parts = [np.array([getattr(s, k) for s in sections]) for k in ("dispersion", "standardized")]
    dispersion, standardized = (_known_mean(part) for part in parts)
    mean = np.mean([s.mean for s in sections], axis=0)
    # genes without any value hold zeros, not NaN: they must not outrank negative ones
    votes = [_expressed_top(s.mean, s.standardized, n_top) for s in sections]
    n_sections = np.sum(votes, axis=0).astype(np.int64)
    order = np.lexsort((-standardized, -n_sections))
    chosen = np.zeros(len(mean), dtype=bool)
    chosen[order[:n_top]] = True
    return Dispersions(mean, dispersion, standardized), n_sections, chosen


def _expressed_top(mean: Floats, standardized: Floats, n_top: int) -> NDArray[np.bool_]:
    seen = mean > 0.0
    return seen & top_dispersions(np.where(seen, standardized, np.nan), n_top)


def _known_mean(parts: Floats) -> Floats:
    """Mean over rows of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(parts)
    total = np.where(known, parts, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))
