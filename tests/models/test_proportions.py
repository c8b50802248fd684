"""Divergence of domain shares, against SciPy and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.models.metrics.proportions import (
    domain_proportions,
    jensen_shannon,
    proportion_divergence,
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=8))
def test_equals_scipy(pairs: list[tuple[int, int]]) -> None:
    from scipy.spatial.distance import jensenshannon

    p = np.array([left + (i == 0) for i, (left, _) in enumerate(pairs)], dtype=float)
    q = np.array([right + (i == 1) for i, (_, right) in enumerate(pairs)], dtype=float)
    assert jensen_shannon(p, q) == pytest.approx(float(jensenshannon(p, q, base=2)) ** 2, abs=1e-9)
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p), abs=1e-15)
    assert jensen_shannon(p, 3 * p) == pytest.approx(0.0, abs=1e-15)


def test_three_sections_by_hand() -> None:
    """Halves of x and y; all x; all z."""
    labels = ["x", "y", "x", "x", "z", "z", "z"]
    sections = ["a", "a", "b", "b", "c", "c", "c"]
    found = proportion_divergence(labels, sections)
    assert found.proportions.loc["a"].to_dict() == {"x": 0.5, "y": 0.5, "z": 0.0}
    half_to_all = 0.5 * (0.5 * np.log2(0.5 / 0.75) + 0.5) + 0.5 * np.log2(1 / 0.75)
    assert found.pairs.loc["a", "b"] == pytest.approx(half_to_all)
    assert found.pairs.loc["b", "c"] == pytest.approx(1.0)
    assert found.mean == pytest.approx((half_to_all + 2.0) / 3)
    assert np.array_equal(found.pairs, found.pairs.T)
    assert np.diag(found.pairs).tolist() == [0.0] * 3


def test_shares_do_not_depend_on_the_number_of_cells() -> None:
    table = domain_proportions(["x", "y"] * 3, ["a"] * 2 + ["b"] * 4)
    assert table.to_numpy().tolist() == [[0.5, 0.5]] * 2
    assert (table.index.name, table.columns.name) == ("section", "domain")


def test_wrong_calls() -> None:
    with pytest.raises(InvalidArgument, match="two sections or more to compare, but got 1"):
        proportion_divergence(["x", "y"], ["a", "a"])
    with pytest.raises(InvalidArgument, match=r"one section for each of 2 cells.*\(3,\)"):
        domain_proportions(["x", "y"], ["a", "a", "b"])
    with pytest.raises(InvalidArgument, match="some cells, but got none"):
        domain_proportions([], [])
    with pytest.raises(InvalidArgument, match="got none for 1 of 2"):
        domain_proportions(np.array(["x", None], dtype=object), ["a", "b"])
    with pytest.raises(InvalidArgument, match="got 2 and 3 of them"):
        jensen_shannon([1, 0], [1, 0, 0])
    with pytest.raises(InvalidArgument, match=r"0 or more, but got \[1.0, -1.0\]"):
        jensen_shannon([1, -1], [1, 0])
    with pytest.raises(InvalidArgument, match="some weight above 0"):
        jensen_shannon([0, 0], [1, 0])
