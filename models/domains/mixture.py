"""A Gaussian mixture: weighted components, and how probable each is for a row."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .mixture_start import Matrix

__all__ = ["Covariance", "Mixture"]

type Covariance = Literal["full", "tied"]


@dataclass(frozen=True, slots=True)
class Mixture:
    """Weighted Gaussian components; with a tied covariance all of them share one factor.

    Attributes
    ----------
    weights : ndarray (k,) float64
        Sum to one.
    means : ndarray (k, d) float64
    factors : ndarray (k, d, d) or (1, d, d) float64
        Upper-triangular square roots of the precision matrices: precision = factor @ factor.T.
    log_likelihood : float
        Mean log density per row at the end of fitting (nan before).
    n_iter : int
        Passes over the data made by the final fit.
    converged : bool
        Whether the final fit stopped by its tolerance.
    """

    weights: Matrix
    means: Matrix
    factors: Matrix
    log_likelihood: float = float("nan")
    n_iter: int = 0
    converged: bool = False

    @property
    def tied(self) -> bool:
        """Whether all components share one covariance."""
        return len(self.factors) == 1

    @property
    def n_components(self) -> int:
        """Number of components."""
        return len(self.weights)

    def discriminants(self, x: NDArray[np.floating]) -> Matrix:
        """Log of weight times density, `(m, k)`, less what all components share in a row.

        With a tied covariance the quadratic term of a row is the same for every component and is
        left out, which turns the cost per row from d^2 into k d. Memory 8 m (k + d).
        """
        values = np.asarray(x, dtype=np.float64)
        with np.errstate(divide="ignore"):  # an emptied component weighs log 0 = -inf
            log_weights = np.log(self.weights)
        if self.tied:
            centers = self.means @ self.factors[0]
            offset = log_weights - 0.5 * (centers**2).sum(axis=1)
            return np.asarray(values @ (self.factors[0] @ centers.T) + offset)
        out = np.empty((len(values), self.n_components))
        for k, factor in enumerate(self.factors):
            residual = (values - self.means[k]) @ factor
            log_det = float(np.log(np.diag(factor)).sum())
            out[:, k] = log_det - 0.5 * np.einsum("ij,ij->i", residual, residual) + log_weights[k]
        return out

    def shared_log_density(self, second: Matrix, n_rows: int) -> float:
        """Sum over rows of what `discriminants` leave out, from their second moment `(d, d)`."""
        constant: float = -0.5 * n_rows * self.means.shape[1] * math.log(2.0 * math.pi)
        if not self.tied:
            return constant
        factor = self.factors[0]
        log_det = float(np.log(np.diag(factor)).sum())
        return constant + n_rows * log_det - 0.5 * float(((factor @ factor.T) * second).sum())

    def posterior(self, x: NDArray[np.floating]) -> tuple[Matrix, Matrix]:
        """Return component probabilities `(m, k)` and the log-sums of the discriminants `(m,)`."""
        joint = self.discriminants(x)
        top = joint.max(axis=1, keepdims=True)
        density = np.exp(joint - top)
        total = density.sum(axis=1, keepdims=True)
        return density / total, (top + np.log(total))[:, 0]

    def assign(self, x: NDArray[np.floating]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """Return the most probable component of each row and its probability."""
        probability, _ = self.posterior(x)
        codes = probability.argmax(axis=1)
        return codes.astype(np.int16), probability.max(axis=1).astype(np.float32)

    def reordered(self, order: NDArray[np.intp]) -> "Mixture":
        """Return the same mixture with its components in another order."""
        factors = self.factors if self.tied else self.factors[order]
        return replace(self, weights=self.weights[order], means=self.means[order], factors=factors)
