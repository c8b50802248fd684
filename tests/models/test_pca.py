"""Principal components in one pass, against scikit-learn."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.models.pca import GramSum, principal_components


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
