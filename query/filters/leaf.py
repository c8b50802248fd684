"""Answers to one test on a column: for cells by their values, for tiles by their statistics."""

import operator
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .predicate import Bounds, Compare, In, Leaf, Null, Scalar, StringTest, Truth

_EXACT = 2.0**53
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def missing_everywhere(leaf: Leaf, n: int) -> Truth:
    """Answers for `n` cells whose column does not exist: all missing.

    >>> missing_everywhere(Null("batch"), 2).yes
    array([ True,  True])
    """
    is_null = np.full(n, isinstance(leaf, Null))
    return Truth(is_null, np.zeros(n, bool))


def answer_scalar(leaf: Leaf, value: Scalar | None, order: tuple[str, ...] | None = None) -> Truth:
    """Answer, as arrays of length 1, for cells that all hold `value`; `None` is missing.

    >>> answer_scalar(Compare("t", "<", "P7"), "E9.5", ("E9.5", "P7")).yes
    array([ True])
    """
    if value is None:
        return missing_everywhere(leaf, 1)
    hit = _test_scalar(leaf, value, order)
    # Plain Python: a catalog has thousands of values, and pandas takes a millisecond for each.
    return Truth(np.array([hit is True]), np.array([hit is False]))


def _test_scalar(leaf: Leaf, value: Scalar, order: tuple[str, ...] | None) -> bool | None:
    if isinstance(leaf, Null):
        return False
    if isinstance(leaf, StringTest):
        text = str(value)
        tests = {"startswith": text.startswith, "endswith": text.endswith}
        return leaf.text in text if leaf.test == "contains" else tests[leaf.test](leaf.text)
    if isinstance(leaf, In):
        return leaf.holds(value)
    other = leaf.value
    if leaf.op in ("==", "!="):
        return (value == other) == (leaf.op == "==")
    if order is not None:
        if str(value) not in order or str(other) not in order:
            return None
        return _ORDERS[leaf.op](order.index(str(value)), order.index(str(other)))
    if isinstance(value, str) or isinstance(other, str):
        return None
    return _ORDERS[leaf.op](value, other)


def answer_values(leaf: Leaf, values: pd.Series, order: tuple[str, ...] | None = None) -> Truth:
    """Answer a test for every cell.

    Parameters
    ----------
    leaf
        The test.
    values
        One value a cell (m,): numbers, text, booleans or categories; missing as pandas has it.
    order
        For `<` and its like on text: the labels in ascending order (timepoints have one).
        A label outside it answers unknown.

    Returns
    -------
    Truth
        Boolean arrays of length m.
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes = values.cat.codes.to_numpy()
        by_category = answer_values(leaf, pd.Series(values.cat.categories, dtype=object), order)
        return _spread(leaf, by_category, codes)
    null = values.isna().to_numpy(dtype=bool)
    if isinstance(leaf, Null):
        return Truth(null, ~null)
    known = values[~null]
    if isinstance(leaf, Compare) and len(known) and _is_text(known) != isinstance(leaf.value, str):
        # A column may be text in one section and numbers in another: never equal, never in order.
        unequal = ~null if leaf.op in ("==", "!=") else np.zeros(len(null), bool)
        none = np.zeros(len(null), bool)
        return Truth(unequal, none) if leaf.op == "!=" else Truth(none, unequal)
    if order is not None and isinstance(leaf, Compare) and leaf.op not in ("==", "!="):
        rank = {label: place for place, label in enumerate(order)}
        ranks = values.map(rank).to_numpy(dtype=float, na_value=np.nan)
        hit = _compare(ranks, leaf.op, rank.get(str(leaf.value), np.nan))
        null = null | np.isnan(ranks)
    else:
        hit = _test_known(leaf, values, null)
    return Truth(hit & ~null, ~hit & ~null)


def _is_text(known: pd.Series) -> bool:
    # The values of a column in one section are of one kind.
    return known.dtype.kind not in "biuf" and isinstance(known.iloc[0], str)


def _spread(leaf: Leaf, by_category: Truth, codes: NDArray[np.integer]) -> Truth:
    absent = missing_everywhere(leaf, 1)
    # Code -1 (missing) indexes the entry appended last.
    return Truth(
        np.concatenate([by_category.yes, absent.yes])[codes],
        np.concatenate([by_category.no, absent.no])[codes],
    )


def _test_known(leaf: Leaf, values: pd.Series, null: NDArray[np.bool_]) -> NDArray[np.bool_]:
    hit = np.zeros(len(values), bool)
    known = values[~null]
    if isinstance(leaf, StringTest):
        text = known.astype(str).str
        tests = {"startswith": text.startswith, "endswith": text.endswith}
        found = (
            text.contains(leaf.text, regex=False)
            if leaf.test == "contains"
            else tests[leaf.test](leaf.text)
        )
        hit[~null] = found.to_numpy(dtype=bool)
    elif isinstance(leaf, In):
        hit[~null] = _is_in(known, leaf.values)
    elif isinstance(leaf, Compare):
        array = known.to_numpy()
        # Booleans are compared as such; `is_edge == 1` works as it does in numpy.
        hit[~null] = _compare(array, leaf.op, leaf.value)
    return hit


def _is_in(known: pd.Series, values: tuple[Scalar, ...]) -> NDArray[np.bool_]:
    array = known.to_numpy()
    if array.dtype.kind not in "iuf":
        return known.isin(list(values)).to_numpy(dtype=bool)
    numbers = [value for value in values if not isinstance(value, str)]
    if array.dtype.kind == "f":
        # Rounded to the column's precision, as a comparison with one number is.
        return np.isin(array, np.array(numbers, dtype=array.dtype))
    whole = [int(n) for n in numbers if isinstance(n, int) or n.is_integer()]
    # In the column's own dtype: NumPy would meet signed and unsigned integers in float64.
    least, most = np.iinfo(array.dtype).min, np.iinfo(array.dtype).max
    return np.isin(array, np.array([n for n in whole if least <= n <= most], array.dtype))


def _compare(array: NDArray[np.generic], op: str, value: Scalar) -> NDArray[np.bool_]:
    operations = {
        "==": np.equal,
        "!=": np.not_equal,
        "<": np.less,
        "<=": np.less_equal,
        ">": np.greater,
        ">=": np.greater_equal,
    }
    if not len(array):
        return np.zeros(0, bool)
    # A number beyond float32 is infinite to a column of it, which compares rightly.
    with np.errstate(over="ignore"):
        return np.asarray(operations[op](array, value), dtype=bool)


def bound_by_range(
    leaf: Leaf,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    n_null: NDArray[np.int64],
    n_rows: NDArray[np.int64],
) -> Bounds:
    """Bounds on a numeric column from each tile's smallest and largest value.

    Parameters
    ----------
    leaf
        A test on the column.
    low, high
        Smallest and largest value that is not missing (T,); NaN where all are.
    n_null, n_rows
        Missing values and rows in each tile (T,).
    """
    empty = n_null >= n_rows
    full = n_null == 0
    # Beyond 2^53 float64 skips integers: the extremes may have been rounded inwards.
    low = np.where(np.abs(low) >= _EXACT, np.nextafter(low, -np.inf), low)
    high = np.where(np.abs(high) >= _EXACT, np.nextafter(high, np.inf), high)
    if isinstance(leaf, Null):
        return Bounds(~full, ~empty, empty, full)
    if isinstance(leaf, StringTest):
        return Bounds.unknown(len(low))
    if isinstance(leaf, In):
        doubles = np.array([v for v in leaf.values if not isinstance(v, str)], float)
        with np.errstate(over="ignore"):
            singles = doubles.astype(np.float32).astype(float)
        numbers = np.sort(np.concatenate([doubles, singles]))
        # How many numbers lie below each end: the list may be long, and so may the tiles be.
        can = np.searchsorted(numbers, high, "right") > np.searchsorted(numbers, low, "left")
        # A number that rounds may be another than the tile's: such a tile is left open.
        same = doubles[doubles == singles]
        one = (low == high) & np.isin(low, same)
        return Bounds(can & ~empty, ~one & ~empty, one & full, ~can & full)
    value = leaf.value
    if isinstance(value, str):
        return Bounds.unknown(len(low))
    with np.errstate(invalid="ignore"):
        answers = [_range_answers(leaf.op, low, high, number) for number in _precisions(value)]
        can_yes, can_no = (np.logical_or.reduce(part) for part in zip(*answers, strict=True))
    return Bounds(can_yes & ~empty, can_no & ~empty, ~can_no & full, ~can_yes & full)


def _precisions(value: float) -> tuple[float, float]:
    # Whether the column is float32 or float64 is not known here, and a comparison rounds the
    # number to the column's precision: whatever either allows must be kept.
    with np.errstate(over="ignore"):
        return float(value), float(np.float32(value))


def _range_answers(
    op: str, low: NDArray[np.float64], high: NDArray[np.float64], value: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    inside = (low <= value) & (value <= high)
    only = (low == value) & (high == value)
    answers = {
        "==": (inside, ~only),
        "!=": (~only, inside),
        "<": (low < value, high >= value),
        "<=": (low <= value, high > value),
        ">": (high > value, low <= value),
        ">=": (high >= value, low < value),
    }
    return answers[op]


def bound_by_histogram(
    leaf: Leaf,
    categories: tuple[Scalar, ...],
    counts: NDArray[np.int64],
    n_rows: NDArray[np.int64],
    order: tuple[str, ...] | None = None,
) -> Bounds:
    """Exact bounds on a categorical column from each tile's histogram.

    Parameters
    ----------
    leaf
        A test on the column.
    categories
        The K values the column takes.
    counts
        Cells of each tile with each value (T, K); what is left of `n_rows` is missing.
    n_rows
        Rows in each tile (T,).
    order
        As for `answer_values`.
    """
    truth = answer_values(leaf, pd.Series(list(categories), dtype=object), order)
    n_null = n_rows - counts.sum(axis=1)
    absent = missing_everywhere(leaf, 1)
    n_yes = counts[:, truth.yes].sum(axis=1) + (n_null if absent.yes[0] else 0)
    n_no = counts[:, truth.no].sum(axis=1)
    return Bounds(n_yes > 0, n_no > 0, n_yes == n_rows, n_no == n_rows)
