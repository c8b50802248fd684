"""Three-valued logic against a row-by-row oracle; bounds against the answers they bound."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tisseract.query.filters.leaf import (
    answer_values,
    bound_by_histogram,
    bound_by_range,
)
from tisseract.query.filters.parser import parse
from tisseract.query.filters.predicate import (
    And,
    Bounds,
    Compare,
    In,
    Leaf,
    Not,
    Null,
    Or,
    Predicate,
    StringTest,
    Truth,
    bound,
    evaluate,
)

CATEGORIES = ("CA1", "CA3", "DG")
NEAR_TENTH = float(np.float32(0.1))
NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.1, NEAR_TENTH, 0.5, -1.5]))
# Neighbors that float32 (beyond 2^24) and float64 (beyond 2^53) cannot tell apart.
WHOLE = st.sampled_from(
    [base + step for base in (0, 2**24, 20230100, 2**53, 2**62) for step in range(3)]
)


def leaves_of() -> st.SearchStrategy[Leaf]:
    numeric = st.builds(
        Compare, st.just("x"), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), NUMBERS
    )
    text = st.builds(
        Compare, st.just("c"), st.sampled_from(["==", "!="]), st.sampled_from(CATEGORIES)
    )
    among = st.builds(In, st.just("x"), st.lists(NUMBERS, max_size=3).map(tuple))
    named = st.builds(
        In, st.just("c"), st.lists(st.sampled_from(CATEGORIES), max_size=3).map(tuple)
    )
    null = st.builds(Null, st.sampled_from(["x", "c"]))
    starts = st.builds(
        StringTest,
        st.just("c"),
        st.sampled_from(["startswith", "endswith", "contains"]),
        st.sampled_from(["CA", "1", "G", ""]),
    )
    return st.one_of(numeric, text, among, named, null, starts)


def predicates() -> st.SearchStrategy[Predicate]:
    return st.recursive(
        leaves_of(),
        lambda inner: st.one_of(
            st.builds(And, st.lists(inner, max_size=3).map(tuple)),
            st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
            st.builds(Not, inner),
        ),
        max_leaves=8,
    )


ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.sampled_from([-2.0, -1.5, 0.0, 0.1, NEAR_TENTH, 0.5, 1.0, 3.0])),
        st.one_of(st.none(), st.sampled_from(CATEGORIES)),
    ),
    min_size=1,
    max_size=12,
)


def frame_of(rows: list[tuple[float | None, str | None]], dtype: str) -> pd.DataFrame:
    x = pd.Series([np.nan if r[0] is None else r[0] for r in rows], dtype=dtype)
    c = pd.Series(pd.Categorical([r[1] for r in rows], categories=list(CATEGORIES)))
    return pd.DataFrame({"x": x, "c": c})


def oracle(predicate: Predicate, x: float | None, c: str | None) -> bool | None:
    """One cell in plain Python: True, False or None for unknown."""
    if isinstance(predicate, And | Or):
        answers = [oracle(part, x, c) for part in predicate.parts]
        decisive = isinstance(predicate, Or)
        if decisive in answers:
            return decisive
        return None if None in answers else not decisive
    if isinstance(predicate, Not):
        inner = oracle(predicate.part, x, c)
        return None if inner is None else not inner
    value: Any = x if predicate.column == "x" else c
    if isinstance(predicate, Null):
        return value is None
    if value is None:
        return None
    if isinstance(predicate, In):
        return value in predicate.values
    if isinstance(predicate, StringTest):
        text = str(value)
        return {
            "startswith": text.startswith(predicate.text),
            "endswith": text.endswith(predicate.text),
            "contains": predicate.text in text,
        }[predicate.test]
    other: Any = predicate.value
    tests: dict[str, Callable[[], bool]] = {
        "==": lambda: value == other,
        "!=": lambda: value != other,
        "<": lambda: value < other,
        "<=": lambda: value <= other,
        ">": lambda: value > other,
        ">=": lambda: value >= other,
    }
    return tests[predicate.op]()


def answers(predicate: Predicate, frame: pd.DataFrame) -> Truth:
    return evaluate(predicate, lambda leaf: answer_values(leaf, frame[leaf.column]), len(frame))


@given(predicates(), ROWS)
def test_answers_equal_the_row_by_row_oracle(
    predicate: Predicate, rows: list[tuple[float | None, str | None]]
) -> None:
    truth = answers(predicate, frame_of(rows, "float64"))
    wanted = [oracle(predicate, x, c) for x, c in rows]
    assert truth.yes.tolist() == [w is True for w in wanted]
    assert truth.no.tolist() == [w is False for w in wanted]


@given(predicates(), ROWS, st.data(), st.sampled_from(["float64", "float32"]))
def test_bounds_hold_for_every_partition(
    predicate: Predicate,
    rows: list[tuple[float | None, str | None]],
    data: st.DataObject,
    dtype: str,
) -> None:
    frame = frame_of(rows, dtype)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(rows) - 1)), max_size=3)))
    ptr = np.unique([0, *[cut for cut in cuts if cut < len(rows)], len(rows)])
    bounds = bound(predicate, lambda leaf: tile_bounds(leaf, frame, ptr), len(ptr) - 1)
    truth = answers(predicate, frame)
    for t, (start, stop) in enumerate(itertools.pairwise(ptr)):
        yes, no = truth.yes[start:stop], truth.no[start:stop]
        assert bounds.can_yes[t] or not yes.any()
        assert bounds.can_no[t] or not no.any()
        assert not bounds.all_yes[t] or yes.all()
        assert not bounds.all_no[t] or no.all()


WHOLE_TESTS = st.one_of(
    st.builds(Compare, st.just("x"), st.sampled_from(["==", "!=", "<", ">="]), WHOLE),
    st.builds(In, st.just("x"), st.lists(WHOLE, max_size=3).map(tuple)),
)


@given(
    st.one_of(WHOLE_TESTS, st.builds(Not, WHOLE_TESTS)),
    st.lists(st.one_of(st.none(), WHOLE), min_size=1, max_size=8),
    st.integers(1, 8),
    st.sampled_from(["Int64", "UInt64"]),
)
def test_whole_numbers_are_told_apart_by_answers_and_bounds(
    predicate: Predicate, rows: list[int | None], size: int, dtype: Any
) -> None:
    frame = pd.DataFrame({"x": pd.Series(rows, dtype=object).astype(dtype)})
    truth = answers(predicate, frame)
    wanted = [oracle(predicate, x, None) for x in rows]
    assert truth.yes.tolist() == [w is True for w in wanted]
    assert truth.no.tolist() == [w is False for w in wanted]
    ptr = np.unique([*range(0, len(rows), size), len(rows)])
    bounds = bound(predicate, lambda leaf: tile_bounds(leaf, frame, ptr), len(ptr) - 1)
    for t, (start, stop) in enumerate(itertools.pairwise(ptr)):
        yes, no = truth.yes[start:stop], truth.no[start:stop]
        assert bounds.can_yes[t] or not yes.any()
        assert bounds.can_no[t] or not no.any()
        assert not bounds.all_yes[t] or yes.all()
        assert not bounds.all_no[t] or no.all()


@pytest.mark.parametrize(("values", "other"), [(["a", None, "b"], 2), ([1, None, 3], "a")])
def test_text_and_numbers_are_unequal_and_in_no_order(values: list[Any], other: Any) -> None:
    column = pd.Series(values, dtype=object if isinstance(values[0], str) else "Int64")
    for op, yes, no in ((">", False, False), ("==", False, True), ("!=", True, False)):
        truth = answer_values(Compare("x", op, other), column)  # type: ignore[arg-type]
        assert truth.yes.tolist() == [yes, False, yes]
        assert truth.no.tolist() == [no, False, no]


def tile_bounds(leaf: Leaf, frame: pd.DataFrame, ptr: np.ndarray) -> Bounds:
    tiles = [frame[leaf.column].iloc[a:b] for a, b in itertools.pairwise(ptr)]
    n_rows = np.diff(ptr)
    if leaf.column == "x":
        low = np.array([np.nan if tile.isna().all() else tile.min() for tile in tiles], float)
        high = np.array([np.nan if tile.isna().all() else tile.max() for tile in tiles], float)
        nulls = np.array([int(tile.isna().sum()) for tile in tiles])
        return bound_by_range(leaf, low, high, nulls, n_rows)
    counts = np.array([[int((tile == c).sum()) for c in CATEGORIES] for tile in tiles])
    return bound_by_histogram(leaf, CATEGORIES, counts, n_rows)


def test_missing_values_satisfy_no_comparison_in_either_direction() -> None:
    frame = frame_of([(None, None), (1.0, "CA1")], "float64")
    for text in (
        "x == 1",
        "x != 1",
        "not x == 1",
        "x not in [1]",
        "c not in ['CA1']",
        "c != 'CA1'",
    ):
        assert not answers(parse(text), frame).yes[0], text
    assert answers(parse("x is null"), frame).yes.tolist() == [True, False]
    assert answers(parse("x is not null"), frame).yes.tolist() == [False, True]
    assert answers(parse("x is null or x != 1"), frame).yes.tolist() == [True, False]


def test_order_compares_labels_by_place_and_unlisted_ones_are_unknown() -> None:
    labels = pd.Series(["P7", "E9.5", "E10.5", "odd", None], dtype=object)
    order = ("E9.5", "E10.5", "P7")
    truth = answer_values(Compare("t", ">=", "E10.5"), labels, order)
    assert truth.yes.tolist() == [True, False, True, False, False]
    assert truth.no.tolist() == [False, True, False, False, False]


def test_float32_columns_compare_in_their_own_precision() -> None:
    column = pd.Series([0.1], dtype="float32")
    assert answer_values(Compare("x", "<=", 0.1), column).yes[0]
    bounds = bound_by_range(
        Compare("x", "<=", 0.1),
        np.array([float(np.float32(0.1))]),
        np.array([float(np.float32(0.1))]),
        np.array([0]),
        np.array([1]),
    )
    assert bounds.can_yes[0]


@pytest.mark.parametrize("value", [2**53, 2**53 + 1])
def test_integers_that_float64_skips_are_not_pruned(value: int) -> None:
    stored = np.array([float(2**53 + 1)])
    bounds = bound_by_range(Compare("x", ">", value), stored, stored, np.array([0]), np.array([1]))
    assert bounds.can_yes[0] or value > 2**53
