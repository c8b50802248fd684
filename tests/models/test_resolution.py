"""Trees of components: cuts nest, average linkage is SciPy's, distances are their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.models.domains.mixture import Mixture
from tisseract.models.domains.mixture_fit import fit_mixture
from tisseract.models.domains.resolution import component_distances, component_tree


def random_mixture(k: int, d: int, seed: int, *, tied: bool, even: bool = False) -> Mixture:
    rng = np.random.default_rng(seed)
    weights = np.full(k, 1.0 / k) if even else rng.dirichlet(np.ones(k))
    factors = np.triu(rng.normal(size=(1 if tied else k, d, d)) * 0.3)
    factors[:, np.arange(d), np.arange(d)] = rng.uniform(0.5, 2.0, (len(factors), d))
    return Mixture(weights, rng.normal(size=(k, d)) * 3.0, factors)


@settings(deadline=None, max_examples=40)
@given(k=st.integers(1, 12), seed=st.integers(0, 999), tied=st.booleans())
def test_every_cut_lies_inside_every_coarser_one(k: int, seed: int, tied: bool) -> None:
    mixture = random_mixture(k, 3, seed, tied=tied)
    tree = component_tree(mixture)
    finer = tree.cut(k)
    assert sorted(finer.tolist()) == list(range(k))
    assert (np.diff(tree.heights) >= -1e-12).all()
    for n in range(k, 0, -1):
        groups = tree.cut(n)
        assert np.unique(groups).tolist() == list(range(n))
        pairs = np.unique(np.stack([finer, groups]), axis=1)
        assert pairs.shape[1] == finer.max() + 1, "a group of the finer cut is in two groups"
        weight = np.bincount(groups, weights=mixture.weights)
        assert (np.diff(weight) <= 0).all()
        finer = groups


@settings(deadline=None, max_examples=25)
@given(k=st.integers(2, 10), seed=st.integers(0, 999))
def test_even_weights_are_average_linkage(k: int, seed: int) -> None:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    mixture = random_mixture(k, 2, seed, tied=True, even=True)
    wanted = linkage(squareform(component_distances(mixture), checks=False), "average")
    tree = component_tree(mixture)
    np.testing.assert_allclose(tree.heights, wanted[:, 2], rtol=1e-9)
    assert np.array_equal(tree.joins, np.sort(wanted[:, :2].astype(int), axis=1))
    for n in range(1, k + 1):
        theirs = fcluster(wanted, n, "maxclust")
        pairs = np.unique(np.stack([theirs, tree.cut(n)]), axis=1)
        assert pairs.shape[1] == n


def test_weights_count() -> None:
    """The mean over cells: three components on a line, the middle pair joined first."""
    mixture = Mixture(
        np.array([0.1, 0.6, 0.3]), np.array([[0.0], [1.0], [5.0]]), np.ones((1, 1, 1))
    )
    tree = component_tree(mixture)
    assert tree.joins.tolist() == [[0, 1], [2, 3]]
    assert tree.heights.tolist() == pytest.approx([1.0, (0.1 * 5 + 0.6 * 4) / 0.7])
    assert tree.cut(2).tolist() == [0, 0, 1]
    assert tree.cut(3).tolist() == [2, 0, 1]


@pytest.mark.parametrize("tied", [True, False])
def test_distances_are_those_of_bhattacharyya(tied: bool) -> None:
    mixture = random_mixture(4, 3, 5, tied=tied)
    found = component_distances(mixture)
    for i in range(4):
        for j in range(4):
            a, b = (mixture.factors[0 if tied else c] for c in (i, j))
            s, t = np.linalg.inv(a @ a.T), np.linalg.inv(b @ b.T)
            middle, gap = (s + t) / 2, mixture.means[i] - mixture.means[j]
            wanted = gap @ np.linalg.inv(middle) @ gap / 8 + 0.5 * np.log(
                np.linalg.det(middle) / np.sqrt(np.linalg.det(s) * np.linalg.det(t))
            )
            assert found[i, j] == pytest.approx(np.sqrt(8 * wanted), abs=1e-6)


def test_planted_families_are_joined_first() -> None:
    """Six components in three families: the cut at three is the families."""
    rng = np.random.default_rng(0)
    centers = np.array([[0, 0], [4, 0], [40, 0], [44, 0], [0, 40], [0, 44]], dtype=float)
    true = np.repeat(np.arange(6), 100)
    x = centers[true] + rng.normal(size=(600, 2))
    mixture = fit_mixture(lambda: [x], 6, n_rows=600, covariance="tied")
    codes = component_tree(mixture).cut(3)[mixture.assign(x)[0]]
    assert len({(a, b) for a, b in zip((true // 2).tolist(), codes.tolist(), strict=True)}) == 3


def test_wrong_calls() -> None:
    tree = component_tree(random_mixture(3, 2, 0, tied=True))
    for n in (0, 4):
        with pytest.raises(InvalidArgument, match=f"1 to 3 groups.*got {n}; fit more"):
            tree.cut(n)
    lost = Mixture(np.ones(2) / 2, np.array([[0.0], [np.nan]]), np.ones((1, 1, 1)))
    with pytest.raises(InvalidArgument, match="not finite; fit again"):
        component_tree(lost)
