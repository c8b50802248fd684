"""SPARK-X: does a gene's expression depend on the place of its cells? Streamed over a section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import InvalidArgument
from ..memory import parse_bytes, refuse_above
from .projections import project_genes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from ..section import Section

__all__ = ["KERNELS", "SparkX", "benjamini_yekutieli", "combine_cauchy", "spark_x"]

KERNELS = (
    "projection",
    *(f"gaussian_{k}" for k in range(1, 6)),
    *(f"cosine_{k}" for k in range(1, 6)),
)
"""Transformations of the coordinates: none, then bells and waves of five widths each."""

_QUANTILES = (0.2, 0.4, 0.6, 0.8, 1.0)
# Positions, their absolute values while quantiles are sought, one vector a kernel and axis in work.
_CELL_BYTES = 16 + 16 + 16


@dataclass(frozen=True, slots=True, eq=False)
class SparkX:
    """The test of some genes, in the order asked for."""

    genes: tuple[str, ...]
    """(g,) names as the section has them."""
    statistic: NDArray[np.float64]
    """(g, 11) by `KERNELS`; NaN for genes that do not vary."""
    pvalue: NDArray[np.float64]
    """(g, 11)"""
    combined: NDArray[np.float64]
    """(g,) p-value of all kernels together (Cauchy combination)."""
    adjusted: NDArray[np.float64]
    """(g,) after Benjamini and Yekutieli, over the genes that vary."""

    def to_frame(self) -> pd.DataFrame:
        """Return gene by gene the combined and adjusted p-value, and the strongest kernel."""
        import pandas as pd

        best = np.argmin(np.where(np.isnan(self.pvalue), np.inf, self.pvalue), axis=1)
        columns = {
            "statistic": self.statistic[np.arange(best.size), best],
            "kernel": np.array(KERNELS, dtype=object)[best],
            "pval": self.combined,
            "pval_adj": self.adjusted,
        }
        frame = pd.DataFrame(columns, index=pd.Index(self.genes))
        return frame.sort_values("pval", kind="stable")


def spark_x(
    section: Section,
    genes: str | Sequence[str] | None = None,
    *,
    normalize: Literal["log1p"] | None = None,
    cells: NDArray[np.bool_] | None = None,
    memory_limit: str | int | None = None,
) -> SparkX:
    r"""Test genes for dependence on place, as SPARK-X does (Zhu, Sun and Zhou 2021).

    With y the values of a gene and S the centered coordinates, after each of eleven
    transformations of either axis, the statistic is

    .. math:: T = n \frac{y^T S (S^T S)^{-1} S^T y}{y^T y}

    which without dependence follows :math:`\lambda \chi^2_r`, where
    :math:`\lambda = 1 - n \bar y^2 / y^T y` and r is the rank of S: the kernel is a projection,
    so that the mixture of the paper has equal weights and its tail is exact. The p-values of the
    kernels are combined by Cauchy's rule. Transformations, with x centered and q the quantiles .2
    to 1 of \|x\|: x itself, :math:`\exp(-x^2 / 2 q^2)`, :math:`\cos(2 \pi x / q)`.

    Parameters
    ----------
    section : Section
    genes : str or sequence of str, optional
        Names, symbols or aliases; all genes of the section without.
    normalize : {None, 'log1p'}
        Values as stored (counts, as in the paper), or log-normalized.
    cells : (n_obs,) bool, optional
        Only these cells.
    memory_limit : str or int, optional
        Refuse above it.

    Returns
    -------
    SparkX
        Genes that do not vary are NaN. Memory: 48 bytes a cell, 176 a gene; a pass over the
        counts (of some genes: over their vectors, and 176 more bytes a cell).

    Raises
    ------
    GeneNotFound, InvalidArgument, BudgetExceeded
    """
    from .autocorrelation import _gene_columns
    from .restricted import check_mask

    columns = None if genes is None else _gene_columns(section, genes)
    kept = check_mask(cells, section.n_obs)
    bytes_a_cell = _CELL_BYTES + (0 if genes is None else 8 * 2 * len(KERNELS))
    refuse_above(
        parse_bytes(memory_limit),
        section.n_obs * bytes_a_cell + section.n_vars * 176,
        f"SPARK-X over {section.n_obs:,} cells",
        "raise memory_limit, or ask for all genes at once",
    )
    places = _Places.of(section.positions(), kept)
    found = project_genes(
        section, places.factors, 2 * len(KERNELS), genes=columns, normalize=normalize, kept=kept
    )
    statistic, p = _statistics(places, found.products, found.total, found.squares)
    combined = combine_cauchy(p)
    numbers = np.arange(section.n_vars) if columns is None else columns
    names = tuple(str(section.panel.name[g]) for g in numbers)
    return SparkX(names, statistic, p, combined, benjamini_yekutieli(combined))


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Coordinates and the widths of the kernels."""

    centered: NDArray[np.float64]
    """(n, 2)"""
    widths: NDArray[np.float64]
    """(5, 2) quantiles of the absolute coordinates."""
    kept: NDArray[np.bool_] | None

    @classmethod
    def of(cls, positions: NDArray[np.float64], kept: NDArray[np.bool_] | None) -> _Places:
        used = positions if kept is None else positions[kept]
        if len(used) < 3:
            raise InvalidArgument(
                f"3 or more cells are wanted for a test of places, but got {len(used)}"
            )
        mean = used.mean(axis=0)
        widths = np.quantile(np.abs(used - mean), _QUANTILES, axis=0)
        return cls(positions - mean, widths, kept)

    @property
    def n(self) -> int:
        return len(self.centered) if self.kept is None else int(self.kept.sum())

    def factors(self, start: int, stop: int) -> NDArray[np.float64]:
        """Transform the coordinates of some rows, (m, 22): both axes of a kernel side by side."""
        x = self.centered[start:stop]
        # A width of zero: most cells share this coordinate. Then no bell, no wave.
        wide = np.where(self.widths > 0, self.widths, np.inf)
        parts = [x]
        parts += [np.exp(-(x**2) / (2 * w**2)) for w in wide]
        parts += [np.cos(2 * np.pi * x / w) for w in wide]
        found = np.concatenate(parts, axis=1)
        return found if self.kept is None else found * self.kept[start:stop, None]


def _statistics(
    places: _Places,
    products: NDArray[np.float64],
    total: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Statistic and p-value of each gene and kernel, (g, 11) each."""
    from scipy.special import gammaincc

    n, size = places.n, products.shape[1]
    sums, moments = np.zeros(size), np.zeros((size, size))
    for start in range(0, len(places.centered), 65_536):
        part = places.factors(start, min(start + 65_536, len(places.centered)))
        sums += part.sum(axis=0)
        moments += part.T @ part
    squares = np.where(squares > 0, squares, np.nan)
    weight = 1.0 - total**2 / (n * squares)
    # What rounding leaves of a gene that does not vary is no variation.
    weight = np.where(weight > 1e-12, weight, np.nan)
    statistic, p = np.full((2, len(products), len(KERNELS)), np.nan)
    for kernel in range(len(KERNELS)):
        own = slice(2 * kernel, 2 * kernel + 2)
        centered = products[:, own] - total[:, None] * sums[own] / n
        gram = moments[own, own] - np.outer(sums[own], sums[own]) / n
        inverse, rank = _inverse(gram, moments[own, own])
        if not rank:
            continue
        form = np.einsum("gi,ij,gj->g", centered, inverse, centered)
        statistic[:, kernel] = n * np.maximum(form, 0.0) / squares
        # The upper tail of chi-squared with r degrees at T / weight.
        p[:, kernel] = gammaincc(rank / 2, statistic[:, kernel] / weight / 2)
    return np.where(np.isnan(weight)[:, None], np.nan, statistic), p


def _inverse(
    gram: NDArray[np.float64], raw: NDArray[np.float64]
) -> tuple[NDArray[np.float64], int]:
    """Inverse of a 2 x 2 matrix on its range, and its rank: cells may all lie on one line."""
    values, vectors = np.linalg.eigh(gram)
    usable = values > 1e-10 * max(float(np.trace(raw)), np.finfo(float).tiny)
    part = vectors[:, usable]
    return (part / values[usable]) @ part.T, int(usable.sum())


def combine_cauchy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Combine p-values (g, k), known ones with equal weight, by Cauchy's rule (Liu and Xie 2020).

    >>> float(np.round(combine_cauchy(np.array([[0.01, 0.5, 0.5]]))[0], 4))
    0.0299
    >>> combine_cauchy(np.array([[1e-200, 0.5]]))
    array([2.e-200])
    """
    known = ~np.isnan(p)
    # A p-value of one would be infinitely sure of the contrary; the authors stop at 0.99.
    clipped = np.where(known, np.where(p > 0.999, 0.99, np.maximum(p, 1e-300)), 0.5)
    # The cotangent of a tiny p-value, where 0.5 - p would lose it.
    stat = 1.0 / np.tan(clipped * np.pi)
    count = known.sum(axis=1)
    mean = np.full(len(p), np.nan)
    np.divide(np.where(known, stat, 0.0).sum(axis=1), count, mean, where=count > 0)
    return np.asarray(np.arctan2(1.0, mean) / np.pi)


def benjamini_yekutieli(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust p-values for any dependence (Benjamini and Yekutieli 2001); NaN is not counted."""
    from .autocorrelation import _adjust

    count = int((~np.isnan(p)).sum())
    harmonic = float(np.sum(1.0 / np.arange(1, count + 1)))
    return np.asarray(np.minimum(_adjust(p) * harmonic, 1.0))
