"""Fit a Gaussian mixture to blocks of rows: seeded starts on a sample, then passes over all.

Nothing here knows of atlases: the data is a function that yields `(m, d)` blocks, the same blocks
in the same order each time it is called.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg.lapack import dtrtri

from ...atlas.errors import InvalidArgument
from .mixture import Covariance, Mixture
from .mixture_start import Blocks, Matrix, lloyd, sample_rows, spread_seeds

__all__ = ["fit_mixture", "refit_mixture"]

SAMPLE_ROWS = 20_000  # restarts run on at most this many rows; the winner sees all of them
HEAT_TURNS = 25  # turns that every start gets on the sample
FINALISTS = 3  # starts that go on to convergence
SAMPLE_TURNS = 200
TURNS = 100  # passes over all rows, at most
TOLERANCE = 1e-4  # of the mean log density of a row
RIDGE = 1e-6  # least that keeps every covariance regular


@dataclass(frozen=True, slots=True)
class _Prior:
    """What covariances are pulled to: the pooled one by `rows`, a sphere by `ridge`."""

    rows: float
    ridge: float


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
        if len(self.second) > 1:
            for k in range(len(self.second)):
                self.second[k] += (x * probability[:, k : k + 1]).T @ x
        self.n_rows += len(x)

    def estimate(self, prior: "_Prior") -> Mixture:
        """Return the most probable mixture."""
        n, d = float(self.n_rows), self.first.shape[1]
        count = np.maximum(self.count, 1e-10)
        means = self.first / count[:, None]
        pooled = self.second.sum(axis=0) - (means * count[:, None]).T @ means
        pooled = (pooled + pooled.T) / (2.0 * n)
        # of the spread of all rows, not of what components leave: with a row each, that is rounding
        ridge = prior.ridge * _mean_square(self.second.sum(axis=0), n) * np.eye(d)
        if len(self.second) == 1:
            covariances = (pooled + ridge)[None]
        else:
            scatter = self.second - count[:, None, None] * means[:, :, None] * means[:, None, :]
            covariances = (scatter + prior.rows * pooled) / (count + prior.rows)[:, None, None]
            covariances = covariances + ridge
        return Mixture(self.count / n, means, _precision_factors(covariances))


def _mean_square(second: Matrix, n_rows: float) -> float:
    """Mean square of all numbers of the rows; above zero also where all of them are zero."""
    return max(float(np.trace(second)) / (len(second) * n_rows), 1e-12)


def _precision_factors(covariances: Matrix) -> Matrix:
    """Inverse transposed Cholesky factors, so that precision = factor @ factor.T."""
    factors = np.empty_like(covariances)
    for k, covariance in enumerate(covariances):
        # the triangular inverse costs a sixth of a general solve against the identity
        inverse, failed = dtrtri(np.linalg.cholesky(covariance), lower=1)
        assert not failed, "a Cholesky factor has no zero on its diagonal"
        factors[k] = inverse.T
    return factors


def _one_pass(blocks: Blocks, mixture: Mixture, pooled: Matrix) -> _Moments:
    """Sum expectations under `mixture`; `pooled` is the second moment of all rows about zero."""
    k, d = mixture.means.shape
    moments = _Moments.empty(k, d, "tied" if mixture.tied else "full")
    for block in blocks():
        x = np.asarray(block, dtype=np.float64)
        probability, density = mixture.posterior(x)
        moments.add(x, probability)
        moments.log_likelihood += float(density.sum())
    if mixture.tied:
        moments.second[0] = pooled
    moments.log_likelihood += mixture.shared_log_density(pooled, moments.n_rows)
    return moments


def _second_moment(blocks: Blocks) -> Matrix:
    """Second moment of all rows about zero, `(d, d)`: it is the same in every turn."""
    total: Matrix | None = None
    for block in blocks():
        x = np.asarray(block, dtype=np.float64)
        total = x.T @ x if total is None else total + x.T @ x
    assert total is not None
    return total


def _iterate(
    blocks: Blocks,
    mixture: Mixture,
    pooled: Matrix,
    *,
    prior: _Prior,
    max_iter: int,
    tol: float,
    turned: Callable[[int], None] | None = None,
) -> Mixture:
    """Repeat passes until the mean log density rises by less than `tol`."""
    before = -np.inf
    for turn in range(1, max_iter + 1):
        moments = _one_pass(blocks, mixture, pooled)
        if turned is not None:
            turned(turn)
        now = moments.log_likelihood / moments.n_rows
        mixture = replace(moments.estimate(prior), log_likelihood=now, n_iter=turn)
        if abs(now - before) < tol:
            return replace(mixture, converged=True)
        before = now
    return mixture


def _start(
    x: Matrix,
    near: Matrix,
    k: int,
    *,
    covariance: Covariance,
    prior: _Prior,
    rng: np.random.Generator,
) -> Mixture:
    """Return the estimate from k-means labels found in `near`, the rows in some other metric."""
    labels = lloyd(near, spread_seeds(near, k, rng))
    probability = np.zeros((len(x), k))
    probability[np.arange(len(x)), labels] = 1.0
    moments = _Moments.empty(k, x.shape[1], covariance)
    moments.add(x, probability)
    if covariance == "tied":
        moments.second[0] = x.T @ x
    return moments.estimate(prior)


def _best_on_sample(
    sample: Matrix,
    k: int,
    *,
    covariance: Covariance,
    prior: _Prior,
    n_init: int,
    tol: float,
    seed: int,
    started: Callable[[int], None],
) -> Mixture:
    """Race seeded starts: a few turns each, then the most likely ones to the end."""
    pooled = sample.T @ sample

    def run(mixture: Mixture, turns: int) -> Mixture:
        return _iterate(lambda: [sample], mixture, pooled, prior=prior, max_iter=turns, tol=tol)

    # k-means sees what lies along the longest axes; in the whitened rows it sees all alike. Each
    # finds what the other misses, so starts take turns, and the likelihood decides
    centered = sample - sample.mean(axis=0)
    spread = centered.T @ centered / len(sample)
    ridge = prior.ridge * _mean_square(spread, 1.0) * np.eye(len(spread))
    metrics = (sample, centered @ _precision_factors((spread + ridge)[None])[0])
    heats = []
    for i, stream in enumerate(np.random.SeedSequence(seed).spawn(n_init)):
        start = _start(
            sample,
            metrics[i % 2],
            k,
            covariance=covariance,
            prior=prior,
            rng=np.random.default_rng(stream),
        )
        heats.append(run(start, HEAT_TURNS))
        started(i + 1)
    # sorted is stable: equal likelihoods keep the order of the seeds
    heats = sorted(heats, key=lambda found: -found.log_likelihood)[:FINALISTS]
    finals = [found if found.converged else run(found, SAMPLE_TURNS) for found in heats]
    return max(finals, key=lambda found: found.log_likelihood)


def fit_mixture(
    blocks: Blocks,
    n_components: int,
    *,
    n_rows: int,
    covariance: Covariance = "full",
    prior_rows: float | None = None,
    ridge: float = RIDGE,
    n_init: int = 10,
    max_iter: int = TURNS,
    tol: float = TOLERANCE,
    seed: int = 0,
    turned: Callable[[int, int], None] | None = None,
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
    ridge : float
        Share of the mean square of all numbers that is added to each variance. Directions that
        vary less than that count by what they vary, not alike with the others.
    n_init, seed : int
        Seeded k-means++ starts tried on a sample; the most likely one goes on.
    max_iter : int
        Passes over all rows, at most.
    tol : float
        Stop when the mean log density per row gains less.
    turned : callable, optional
        Called with (done, total) of starts and passes; it may end before the total.

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

    def tell(done: int) -> None:
        if turned is not None:
            turned(done, n_init + max_iter)

    prior = _prior(sample.shape[1], prior_rows, ridge)
    best = _best_on_sample(
        sample,
        n_components,
        covariance=covariance,
        prior=prior,
        n_init=n_init,
        tol=tol,
        seed=seed,
        started=tell,
    )
    if len(sample) == n_rows and best.converged:
        return best
    pooled = _second_moment(blocks)
    return _iterate(
        blocks,
        best,
        pooled,
        prior=prior,
        max_iter=max_iter,
        tol=tol,
        turned=lambda turn: tell(n_init + turn),
    )


def refit_mixture(blocks: Blocks, mixture: Mixture, *, ridge: float = RIDGE) -> Mixture:
    """Go on from a fitted mixture, over rows that have changed a little.

    Parameters
    ----------
    blocks : callable
        Yields `(m, d)` float blocks, the same ones at every call.
    mixture : Mixture
        Where to begin; its shape of covariance is kept.
    ridge : float
        See `fit_mixture`, whose own values all else has.

    Returns
    -------
    Mixture

    Notes
    -----
    Memory: 8 m (d + k) + 8 k d^2 bytes for blocks of m rows. One pass for second moments, and as
    many as the likelihood goes on rising for.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.repeat([[0.0, 0.0], [9.0, 9.0]], 50, axis=0)
    >>> x += np.random.default_rng(0).normal(size=x.shape)
    >>> before = fit_mixture(lambda: [x], 2, n_rows=100)
    >>> after = refit_mixture(lambda: [x + 1.0], before)
    >>> bool(np.allclose(after.means, before.means + 1.0))
    True
    """
    prior = _prior(mixture.means.shape[1], None, ridge)
    pooled = _second_moment(blocks)
    return _iterate(blocks, mixture, pooled, prior=prior, max_iter=TURNS, tol=TOLERANCE)


def _prior(width: int, rows: float | None, ridge: float) -> _Prior:
    return _Prior(float(width + 2) if rows is None else rows, max(ridge, RIDGE))
