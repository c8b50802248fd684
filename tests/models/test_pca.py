"""Principal components in one pass, against scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.models.components.pca import GramSum, principal_components
from tisseract.models.genes.plan import TREATMENTS, normalized


def table(n: int = 300, g: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, g)) @ np.diag(np.linspace(3.0, 0.5, g)) + 5.0


def test_equals_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    x = table()
    sums = GramSum(x.shape[1])
    sums.add(sp.csr_array(x))
    found = principal_components(sums.scatter(), len(x), 5)
    wanted = PCA(5).fit(x)
    overlap = np.abs(wanted.components_ @ found.loadings)
    np.testing.assert_allclose(overlap, np.eye(5), atol=1e-8)
    scores = found.project(x, sums.mean)
    np.testing.assert_allclose(np.abs(scores), np.abs(wanted.transform(x)), atol=1e-4)


def test_directions_of_close_variance_span_what_scikit_learn_finds() -> None:
    """Two equal variances fix a plane, not its axes: planes are compared."""
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(4)
    turned, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    spread = np.array([5.0, 3.0, 3.0, 1.0, *[0.2] * 8])
    white, _ = np.linalg.qr(rng.normal(size=(400, 12)))
    x = (white - white.mean(axis=0)) * spread @ turned
    sums = GramSum(12)
    for block in np.split(x, 5):
        sums.add(block)
    found, wanted = principal_components(sums.scatter(), len(x), 3).loadings, PCA(3).fit(x)
    angles = np.linalg.svd(wanted.components_ @ found, compute_uv=False)
    np.testing.assert_allclose(angles, 1.0, atol=1e-10)
    planes = (found[:, 1:3] @ found[:, 1:3].T, wanted.components_[1:3].T @ wanted.components_[1:3])
    np.testing.assert_allclose(*planes, atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 299), max_size=4, unique=True))
def test_blocks_equal_the_whole(cuts: list[int]) -> None:
    x = table()
    whole, parts = GramSum(x.shape[1]), GramSum(x.shape[1])
    whole.add(x)
    for block in np.split(x, sorted(cuts)):
        parts.add(block)
    np.testing.assert_allclose(parts.scatter(), whole.scatter(), rtol=1e-10, atol=1e-8)


def test_a_shift_of_a_section_makes_no_component() -> None:
    x = table()
    moved = [x[:150], x[150:] + 100.0]
    plain = [x[:150], x[150:]]
    found = []
    for sections in (plain, moved):
        scatter = np.zeros((12, 12))
        for rows in sections:
            sums = GramSum(12)
            sums.add(rows)
            scatter += sums.scatter()
        found.append(principal_components(scatter, 300, 3))
    np.testing.assert_allclose(found[0].loadings, found[1].loadings, atol=1e-6)


def test_signs_are_fixed() -> None:
    sums = GramSum(12)
    sums.add(table())
    loadings = principal_components(sums.scatter(), 300, 6).loadings
    largest = np.abs(loadings).argmax(axis=0)
    assert (loadings[largest, range(6)] > 0).all()


def test_directions_of_no_variance_are_left_out() -> None:
    x = table(g=4)
    sums = GramSum(8)
    sums.add(np.hstack([x, x]))  # rank 4
    assert principal_components(sums.scatter(), len(x), 8).loadings.shape == (8, 4)


def test_constant_genes_are_refused() -> None:
    sums = GramSum(3)
    sums.add(np.ones((5, 3)))
    with pytest.raises(InvalidArgument, match="do not vary within any section"):
        principal_components(sums.scatter(), 5, 2)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the readers
def test_scores_of_real_tissue_equal_scikit_learn(real_data: Path) -> None:
    """Cortex, 800 genes in blocks: 30 components up to sign, to 1e-4 of the largest score."""
    import anndata as ad
    from sklearn.decomposition import PCA

    cortex: Any = ad.read_h5ad(real_data / "dlpfc" / "151673.h5ad")
    counts = sp.csr_array(cortex.X[:, :800], dtype=np.float32)
    rows = normalized(counts, TREATMENTS["counts"], 1e3)
    sums = GramSum(rows.shape[1])
    for start in range(0, rows.shape[0], 500):
        sums.add(rows[start : start + 500])
    found = principal_components(sums.scatter(), sums.n_rows, 30)
    dense = rows.toarray().astype(np.float64)
    model = PCA(30, svd_solver="full").fit(dense)
    wanted, scores = model.transform(dense), found.project(rows, sums.mean)
    sign = np.sign((wanted * scores).sum(axis=0))
    np.testing.assert_allclose(scores * sign, wanted, atol=1e-4 * np.abs(wanted).max())
    # the same variances: ours over n, theirs over n - 1
    ratio = found.variance / model.explained_variance_
    np.testing.assert_allclose(ratio, 1.0 - 1.0 / len(dense), rtol=1e-6)
