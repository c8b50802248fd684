"""A Gaussian mixture fitted to blocks of rows: seeded starts on a sample, then passes over all.

Nothing here knows of atlases: the data is a function that yields `(m, d)` blocks, the same blocks
in the same order each time it is called.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..atlas.errors import InvalidArgument

__all__ = ["Blocks", "Covariance", "Mixture", "fit_mixture", "sample_rows"]

type Blocks = Callable[[], Iterable[NDArray[np.floating]]]
type Covariance = Literal["full", "tied"]
type Matrix = NDArray[np.float64]

SAMPLE_ROWS = 20_000  # restarts run on at most this many rows; the winner sees all of them
SAMPLE_TURNS = 200  # expectation-maximization turns on the sample
LLOYD_TURNS = 20
RIDGE = 1e-6  # share of the mean variance added to each diagonal, against singular components


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
    def n_components(self) -> int:
        """Number of components."""
        return len(self.weights)

    def log_joint(self, x: NDArray[np.floating]) -> Matrix:
        """Log of weight times density for each row and component, `(m, k)`; memory 8 m (k + d)."""
        values = np.asarray(x, dtype=np.float64)
        n, d = values.shape
        out = np.empty((n, self.n_components))
        with np.errstate(divide="ignore"):  # an emptied component weighs log 0 = -inf
            log_weights = np.log(self.weights)
        constant = -0.5 * d * np.log(2.0 * np.pi)
        if len(self.factors) == 1:
            white, centers = values @ self.factors[0], self.means @ self.factors[0]
        for k in range(self.n_components):
            factor = self.factors[min(k, len(self.factors) - 1)]
            if len(self.factors) == 1:
                residual = white - centers[k]
            else:
                residual = (values - self.means[k]) @ factor
            log_det = float(np.log(np.diag(factor)).sum())
            square = np.einsum("ij,ij->i", residual, residual)
            out[:, k] = constant + log_det - 0.5 * square + log_weights[k]
        return out

    def posterior(self, x: NDArray[np.floating]) -> tuple[Matrix, Matrix]:
        """Component probabilities `(m, k)` and log densities `(m,)` of the rows of `x`."""
        joint = self.log_joint(x)
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
        factors = self.factors if len(self.factors) == 1 else self.factors[order]
        return replace(self, weights=self.weights[order], means=self.means[order], factors=factors)


@dataclass(slots=True)
class _Moments:
    """Running sums of one pass: what the next estimate needs and nothing else."""

    count: Matrix
    first: Matrix
    second: Matrix
    log_likelihood: float = 0.0
    n_rows: int = 0

    @classmethod
    def empty(cls, k: int, d: int, covariance: Covariance) -> "_Moments":
        """Zeroes; a tied covariance needs one pooled second moment only."""
        return cls(
            np.zeros(k), np.zeros((k, d)), np.zeros((k if covariance == "full" else 1, d, d))
        )

    def add(self, x: Matrix, probability: Matrix) -> None:
        """Add the rows of one block."""
        self.count += probability.sum(axis=0)
        self.first += probability.T @ x
        if len(self.second) == 1:
            self.second[0] += x.T @ x
        else:
            for k in range(len(self.second)):
                self.second[k] += (x * probability[:, k : k + 1]).T @ x
        self.n_rows += len(x)

    def estimate(self, prior_rows: float) -> Mixture:
        """Return the most probable mixture; `prior_rows` pull covariances to the pooled one."""
        n, d = float(self.n_rows), self.first.shape[1]
        count = np.maximum(self.count, 1e-10)
        means = self.first / count[:, None]
        pooled = self.second.sum(axis=0) - (means * count[:, None]).T @ means
        pooled = (pooled + pooled.T) / (2.0 * n)
        ridge = RIDGE * max(float(np.trace(pooled)) / d, 1e-12) * np.eye(d)
        if len(self.second) == 1:
            covariances = (pooled + ridge)[None]
        else:
            scatter = self.second - count[:, None, None] * means[:, :, None] * means[:, None, :]
            covariances = (scatter + prior_rows * pooled) / (count + prior_rows)[:, None, None]
            covariances = covariances + ridge
        return Mixture(self.count / n, means, _precision_factors(covariances))


def _precision_factors(covariances: Matrix) -> Matrix:
    """Inverse transposed Cholesky factors, so that precision = factor @ factor.T."""
    factors = np.empty_like(covariances)
    identity = np.eye(covariances.shape[1])
    for k, covariance in enumerate(covariances):
        factors[k] = np.linalg.solve(np.linalg.cholesky(covariance), identity).T
    return factors


def _one_pass(blocks: Blocks, mixture: Mixture, covariance: Covariance) -> _Moments:
    k, d = mixture.means.shape
    moments = _Moments.empty(k, d, covariance)
    for block in blocks():
        x = np.asarray(block, dtype=np.float64)
        probability, density = mixture.posterior(x)
        moments.add(x, probability)
        moments.log_likelihood += float(density.sum())
    return moments


def _iterate(
    blocks: Blocks,
    mixture: Mixture,
    *,
    covariance: Covariance,
    prior_rows: float,
    max_iter: int,
    tol: float,
) -> Mixture:
    """Repeat passes until the mean log density rises by less than `tol`."""
    before = -np.inf
    for turn in range(1, max_iter + 1):
        moments = _one_pass(blocks, mixture, covariance)
        now = moments.log_likelihood / moments.n_rows
        mixture = replace(moments.estimate(prior_rows), log_likelihood=now, n_iter=turn)
        if abs(now - before) < tol:
            return replace(mixture, converged=True)
        before = now
    return mixture


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


def _spread_seeds(x: Matrix, k: int, rng: np.random.Generator) -> Matrix:
    """k-means++: each next center is drawn in proportion to the squared distance to the chosen."""
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


def _lloyd(x: Matrix, centers: Matrix) -> NDArray[np.intp]:
    """Labels after a few k-means turns; an emptied center stays where it was."""
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


def _start(
    x: Matrix, k: int, covariance: Covariance, prior_rows: float, rng: np.random.Generator
) -> Mixture:
    labels = _lloyd(x, _spread_seeds(x, k, rng))
    probability = np.zeros((len(x), k))
    probability[np.arange(len(x)), labels] = 1.0
    moments = _Moments.empty(k, x.shape[1], covariance)
    moments.add(x, probability)
    return moments.estimate(prior_rows)


def fit_mixture(
    blocks: Blocks,
    n_components: int,
    *,
    n_rows: int,
    covariance: Covariance = "full",
    prior_rows: float | None = None,
    n_init: int = 10,
    max_iter: int = 100,
    tol: float = 1e-4,
    seed: int = 0,
) -> Mixture:
    """Fit a Gaussian mixture by expectation-maximization over streamed blocks.

    Parameters
    ----------
    blocks : callable
        Yields `(m, d)` float blocks, the same ones at every call.
    n_components : int
        Components wanted.
    n_rows : int
        Rows of all blocks together.
    covariance : {"full", "tied"}
        One covariance per component, or one for all.
    prior_rows : float, optional
        Weight, in rows, of the pooled covariance in each component's own (full only); `d + 2` by
        default, which keeps components of few cells well conditioned.
    n_init, seed : int
        Seeded k-means++ starts tried on a sample; the most likely one goes on.
    max_iter : int
        Passes over all rows, at most.
    tol : float
        Stop when the mean log density per row gains less.

    Returns
    -------
    Mixture

    Raises
    ------
    InvalidArgument
        When there are fewer rows than components, or rows that are not finite.

    Notes
    -----
    Memory: 8 (20,000 + m) (d + k) + 8 k d^2 bytes for blocks of m rows, for any number of rows.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.repeat([[0.0, 0.0], [9.0, 9.0]], 50, axis=0)
    >>> x += np.random.default_rng(0).normal(size=x.shape)
    >>> mixture = fit_mixture(lambda: [x], 2, n_rows=100)
    >>> mixture.weights.round(2).tolist()
    [0.5, 0.5]
    """
    if not 1 <= n_components <= n_rows:
        raise InvalidArgument(
            f"wanted between 1 and {n_rows} components (one needs a row at least), "
            f"but got {n_components}; ask for fewer, or add sections"
        )
    sample = sample_rows(blocks, n_rows, SAMPLE_ROWS, seed).astype(np.float64)
    if not np.isfinite(sample).all():
        bad = int((~np.isfinite(sample)).any(axis=1).sum())
        raise InvalidArgument(
            f"wanted finite features, but got nan or infinity in {bad} of {len(sample)} sampled "
            "rows; fit the embedding again"
        )
    prior = float(sample.shape[1] + 2) if prior_rows is None else prior_rows
    best: Mixture | None = None
    for stream in np.random.SeedSequence(seed).spawn(n_init):
        rng = np.random.default_rng(stream)
        candidate = _iterate(
            lambda: [sample],
            _start(sample, n_components, covariance, prior, rng),
            covariance=covariance,
            prior_rows=prior,
            max_iter=SAMPLE_TURNS,
            tol=tol,
        )
        if best is None or candidate.log_likelihood > best.log_likelihood:
            best = candidate
    assert best is not None
    if len(sample) == n_rows and best.converged:
        return best
    return _iterate(
        blocks,
        best,
        covariance=covariance,
        prior_rows=prior,
        max_iter=max_iter,
        tol=tol,
    )
