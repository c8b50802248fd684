"""The streamed mixture: planted components, blocks against the whole, scikit-learn as oracle."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tisseract.atlas.errors import InvalidArgument
from tisseract.models.domains import mixture_fit as module
from tisseract.models.domains.mixture import Covariance
from tisseract.models.domains.mixture_fit import fit_mixture
from tisseract.models.metrics.agreement import ari

N, K, D = 900, 3, 4


def planted(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Three elongated components whose long axes would fool k-means."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, N)
    x = rng.normal(size=(N, D)) * [6.0, 1.0, 1.0, 1.0]
    x[:, 1] += 5.0 * labels
    return x, labels


@pytest.mark.parametrize("covariance", ["tied", "full"])
def test_finds_what_was_planted(covariance: Covariance) -> None:
    x, labels = planted()
    mixture = fit_mixture(lambda: [x], K, n_rows=N, covariance=covariance)
    codes, confidence = mixture.assign(x)
    assert ari(labels, codes) > 0.95
    assert mixture.converged
    assert confidence.min() >= 1 / K
    assert confidence.max() <= 1.0
    assert mixture.weights.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("covariance", ["tied", "full"])
def test_likelihood_equals_scikit_learn(covariance: Covariance) -> None:
    from sklearn.mixture import GaussianMixture

    x, _ = planted()
    ours = fit_mixture(lambda: [x], K, n_rows=N, covariance=covariance, prior_rows=0.0, tol=1e-8)
    theirs = GaussianMixture(
        K, covariance_type=covariance, means_init=ours.means, tol=1e-8, max_iter=2000
    )
    theirs.fit(x)
    assert ours.log_likelihood == pytest.approx(theirs.score(x), abs=1e-3)


@pytest.mark.parametrize("covariance", ["tied", "full"])
def test_blocks_equal_the_whole(monkeypatch: pytest.MonkeyPatch, covariance: Covariance) -> None:
    monkeypatch.setattr(module, "SAMPLE_ROWS", 300)  # so that passes over all rows are made
    x, _ = planted()

    def blocks() -> Iterator[NDArray[np.float64]]:
        yield from np.split(x, [1, 100, 640])

    whole = fit_mixture(lambda: [x], K, n_rows=N, covariance=covariance)
    parts = fit_mixture(blocks, K, n_rows=N, covariance=covariance)
    np.testing.assert_allclose(parts.means, whole.means, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(parts.factors, whole.factors, rtol=1e-6, atol=1e-7)


def test_same_seed_gives_the_same_bytes() -> None:
    x, _ = planted()
    first, again = (fit_mixture(lambda: [x], K, n_rows=N, seed=5) for _ in range(2))
    assert first.means.tobytes() == again.means.tobytes()


def test_likelihood_never_falls() -> None:
    x, _ = planted()
    values = [
        fit_mixture(lambda: [x], K, n_rows=N, max_iter=turns, tol=0.0, prior_rows=0.0)
        for turns in (1, 3, 10)
    ]
    found = [mixture.log_likelihood for mixture in values]
    assert found == sorted(found)


def test_reordering_renames_components() -> None:
    x, _ = planted()
    mixture = fit_mixture(lambda: [x], K, n_rows=N, covariance="full")
    order = np.array([2, 0, 1])
    renamed = mixture.reordered(order)
    assert np.array_equal(np.argsort(order)[mixture.assign(x)[0]], renamed.assign(x)[0])


@pytest.mark.parametrize("covariance", ["tied", "full"])
def test_survives_identical_rows_and_empty_components(covariance: Covariance) -> None:
    x = np.repeat([[0.0, 0.0], [1.0, 1.0]], 10, axis=0)
    mixture = fit_mixture(lambda: [x], 5, n_rows=20, covariance=covariance)
    codes, confidence = mixture.assign(x)
    assert np.isfinite(confidence).all()
    assert len(np.unique(codes[:10])) == 1


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_a_component_for_nearly_every_row(shift: float) -> None:
    """What components leave is then rounding alone, which is no covariance."""
    x = np.random.default_rng(0).normal(size=(60, 120)) * 1e4 + shift
    for k in (60, 59, 50):
        mixture = fit_mixture(lambda: [x], k, n_rows=60, covariance="tied", n_init=2)
        assert np.isfinite(mixture.posterior(x)[0]).all()


def test_more_components_than_rows_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"between 1 and 3 components.*got 4"):
        fit_mixture(lambda: [np.zeros((3, 2))], 4, n_rows=3)


def test_infinite_features_are_refused() -> None:
    x, _ = planted()
    x[7, 0] = np.inf
    with pytest.raises(InvalidArgument, match="in 1 of 900 sampled rows"):
        fit_mixture(lambda: [x], K, n_rows=N)
