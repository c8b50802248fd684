"""Values of a table's column in one of the kinds that are stored, and spread over cells."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidArgument
from .section_columns import (
    BooleanValues,
    CategoricalValues,
    ColumnValues,
    NumericValues,
    StringValues,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["spread", "typed"]

# Text of more values than this is no set of labels; a histogram by tile would not prune, either.
_MOST_CATEGORIES = 1024


def typed(name: str, values: "pd.Series[Any]") -> ColumnValues:
    """Tell the kind of a column and take its values.

    Parameters
    ----------
    name
        Its name, for messages.
    values
        (m,) one a row of the table.

    Returns
    -------
    ColumnValues
        Categories and text of at most 1,024 values become categorical, other text stays text,
        integers and floats numeric, booleans boolean; each with missing values.

    Raises
    ------
    InvalidArgument
        Values of another kind, or of several.
    """
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        return _categorical(values.cat.codes.to_numpy(), values.cat.categories, values.cat.ordered)
    if pd.api.types.is_bool_dtype(values.dtype):
        return _boolean(values)
    if pd.api.types.is_numeric_dtype(values.dtype) and values.dtype.kind in "iuf":
        return _numeric(values)
    inferred = pd.api.types.infer_dtype(values, skipna=True)
    if inferred == "boolean":
        return _boolean(values)
    if inferred in ("integer", "floating", "mixed-integer-float"):
        return _numeric(pd.to_numeric(values))
    if inferred == "empty":
        return NumericValues(np.full(len(values), np.nan))
    if inferred != "string":
        raise InvalidArgument(
            f"text, numbers or booleans are wanted in column {name!r}, but got {inferred}; turn it "
            "into one of these"
        )
    codes, names = pd.factorize(values, use_na_sentinel=True)
    if len(names) <= _MOST_CATEGORIES:
        order = np.argsort(np.asarray(names, dtype=object), kind="stable")
        place = np.append(np.argsort(order), -1)
        return _categorical(place[codes], names[order], ordered=False)
    return StringValues.from_strings(values.astype(object).where(values.notna(), None).to_numpy())


def _categorical(codes: Any, names: Any, ordered: object) -> CategoricalValues:
    texts = tuple(str(name) for name in names)
    if len(set(texts)) < len(texts):
        raise InvalidArgument(
            f"categories that differ as text are wanted, but got {list(names)[:10]}"
        )
    kind = np.int8 if len(texts) < 2**7 else np.int16 if len(texts) < 2**15 else np.int32
    return CategoricalValues(np.asarray(codes).astype(kind), texts, ordered=bool(ordered))


def _boolean(values: "pd.Series[Any]") -> BooleanValues:
    nullable = values.astype("boolean")
    mask = nullable.isna().to_numpy()
    return BooleanValues(nullable.fillna(False).to_numpy(dtype=bool), mask if mask.any() else None)


def _numeric(values: "pd.Series[Any]") -> NumericValues:
    mask = values.isna().to_numpy()
    if values.dtype.kind == "f":
        return NumericValues(np.asarray(values.to_numpy(dtype=_plain(values), na_value=np.nan)))
    filled = values.fillna(0) if mask.any() else values
    return NumericValues(
        np.asarray(filled.to_numpy(dtype=_plain(values))), mask if mask.any() else None
    )


def _plain(values: "pd.Series[Any]") -> Any:
    """NumPy's dtype of a nullable one; half precision is widened when written."""
    return np.dtype(str(values.dtype).lower())


def spread(values: ColumnValues, row: NDArray[np.int64]) -> ColumnValues:
    """Give each cell the value of its row in the table.

    Parameters
    ----------
    values
        Of the table, (m,).
    row
        (n,) row of each cell; -1 where the table has none, which leaves it missing.

    Returns
    -------
    ColumnValues
        (n,). Categories that no cell has are left out, unless they have an order.

    Examples
    --------
    >>> import numpy as np
    >>> spread(NumericValues(np.array([1.5, 2.5])), np.array([1, -1])).values
    array([2.5, nan])
    """
    absent = row < 0
    if isinstance(values, CategoricalValues):
        return _narrowed(np.append(values.codes, values.codes.dtype.type(-1))[row], values)
    if isinstance(values, StringValues):
        taken = values.take(np.maximum(row, 0))
        mask = absent if taken.mask is None else taken.mask | absent
        return StringValues(taken.text, taken.offsets, mask if mask.any() else None)
    found: Any = values.values[np.maximum(row, 0)]
    mask = absent if values.mask is None else absent | values.mask[np.maximum(row, 0)]
    if isinstance(values, BooleanValues):
        return BooleanValues(found, mask if mask.any() else None)
    if found.dtype.kind == "f":
        return NumericValues(np.where(mask, found.dtype.type(np.nan), found))
    return NumericValues(found, mask if mask.any() else None)


def _narrowed(codes: NDArray[np.signedinteger], values: CategoricalValues) -> CategoricalValues:
    known = np.unique(codes[codes >= 0])
    if values.ordered or not len(known) or len(known) == len(values.categories):
        return CategoricalValues(codes, values.categories, values.ordered)
    place = np.full(len(values.categories) + 1, -1, codes.dtype)
    place[known] = np.arange(len(known))
    return CategoricalValues(place[codes], tuple(values.categories[k] for k in known.tolist()))
