"""Agreement of labelings, against scikit-learn."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InvalidArgument
from tisseract.models.metrics.agreement import ari, contingency, fowlkes_mallows, nmi

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=2, max_size=60)


@settings(deadline=None)
@given(PAIRS)
def test_equal_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    from sklearn.metrics import (
        adjusted_rand_score,
        fowlkes_mallows_score,
        normalized_mutual_info_score,
    )

    left, right = zip(*pairs, strict=True)
    assert ari(left, right) == pytest.approx(adjusted_rand_score(left, right), abs=1e-12)
    assert nmi(left, right) == pytest.approx(normalized_mutual_info_score(left, right), abs=1e-9)
    assert fowlkes_mallows(left, right) == pytest.approx(fowlkes_mallows_score(left, right))


@settings(deadline=None)
@given(PAIRS)
def test_names_of_labels_do_not_matter(pairs: list[tuple[int, int]]) -> None:
    left, right = zip(*pairs, strict=True)
    renamed = [f"domain {9 - value}" for value in left]
    assert ari(renamed, right) == pytest.approx(ari(left, right))
    assert nmi(renamed, right) == pytest.approx(nmi(left, right))


def test_large_counts_do_not_overflow() -> None:
    labels = np.repeat([0, 1], 500_000)
    assert ari(labels, labels) == 1.0


def test_lengths_must_agree() -> None:
    with pytest.raises(InvalidArgument, match=r"got shapes \(2,\) and \(3,\)"):
        contingency([0, 1], [0, 1, 2])


@pytest.mark.parametrize("measure", [ari, nmi, fowlkes_mallows])
@pytest.mark.parametrize("none", [None, np.nan])
def test_cells_without_a_label_are_counted_or_left_out(measure: Any, none: object) -> None:
    left = np.array(["a", none, "b", "b", "a"], dtype=object)
    right = np.array([0.0, 1.0, 1.0, np.nan, 0.0])
    with pytest.raises(InvalidArgument, match=r"2 of 5 cells lack one.*dropna=True"):
        measure(left, right)
    assert measure(left, right, dropna=True) == pytest.approx(measure(["a", "b", "a"], [0, 1, 0]))
    assert measure(pd.Categorical(left), right, dropna=True) == pytest.approx(1.0)
    with pytest.raises(InvalidArgument, match="two labels, but got none of 2; leave this section"):
        measure([none, none], ["x", "y"], dropna=True)
