"""A column of several sections as one: of a kind and a dtype that hold the values of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..filters.columns import Column
from ..telling import tell
from .value_kinds import label_among, text_of, warn_kinds

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CategoryOrderWarning", "joined_column"]


class CategoryOrderWarning(UserWarning):
    """Sections disagree on the order of a column's categories, so that the answer has none."""


def joined_column(
    parts: list[pd.Series],
    column: Column,
    order: tuple[str, ...] | None,
    sections: Sequence[str],
) -> Any:
    """Join a column of several sections into one of a kind that holds them all.

    Values of several kinds become text, in the groups of `aggregate`, with its warning. Without
    sections there is a column without cells.
    """
    import pandas as pd

    if not parts:
        return _empty(column)
    present = [part for part in parts if not _is_absent(part)]
    if not present:
        return pd.Categorical([None] * sum(map(len, parts)))
    if all(isinstance(part.dtype, pd.CategoricalDtype) for part in present):
        return _joined_categories(parts, column, order)
    named = zip(sections, parts, strict=True)
    held = {name: {_kind(part)} for name, part in named if part.notna().any()}
    kinds = set().union(*held.values()) or {_kind(part) for part in present}
    if len(kinds) > 1:
        warn_kinds(column.name, held)
        return _joined_kinds(parts)
    if kinds == {"number"}:
        return _joined_numbers(parts, present)
    if kinds == {"text"}:
        joined = _objects(parts).map(str, na_action="ignore")
        few = any(isinstance(part.dtype, pd.CategoricalDtype) for part in present)
        return pd.Categorical(joined) if few else joined.astype(object).to_numpy()
    plain = len(present) == len(parts) and all(part.dtype == bool for part in parts)
    return pd.concat(
        parts if plain else [part.astype("boolean") for part in parts], ignore_index=True
    ).array


def _objects(parts: list[pd.Series]) -> pd.Series:
    """Join values as they are, None where there is none."""
    import pandas as pd

    found = [part.astype(object).where(part.notna(), None) for part in parts]
    return pd.concat(found, ignore_index=True)


def _empty(column: Column) -> Any:
    """Make a column of an answer without cells."""
    import pandas as pd

    if column.kinds == {"numeric"}:
        return pd.Series([], dtype=np.float64)
    if column.kinds == {"boolean"}:
        return pd.Series([], dtype=bool)
    return pd.Categorical([])


def _joined_kinds(parts: list[pd.Series]) -> pd.Categorical[str]:
    import pandas as pd

    found = [pd.factorize(part, use_na_sentinel=True) for part in parts]
    values = [names.tolist() for _, names in found]
    texts = {value for names in values for value in names if isinstance(value, str)}
    joined = [
        np.array([*(label_among(value, texts) for value in names), None], dtype=object)[codes]
        for (codes, _), names in zip(found, values, strict=True)
    ]
    return pd.Categorical(np.concatenate(joined))


def _joined_numbers(parts: list[pd.Series], present: list[pd.Series]) -> Any:
    import pandas as pd

    whole = all(part.dtype.kind in "iu" for part in present)
    exact = whole or all(part.dtype.kind == "f" or _fits_float(part) for part in present)
    dtype = _whole_dtype(present) if whole else "float64"
    if dtype is None or not exact:
        # No dtype of numbers holds them all as they are.
        return pd.Categorical(_objects(parts).map(text_of, na_action="ignore"))
    if len(present) == len(parts) and len({part.dtype for part in parts}) == 1:
        return pd.concat(parts, ignore_index=True).array
    if not whole:
        values = [part.to_numpy(dtype=np.float64, na_value=np.nan) for part in parts]
        return np.concatenate(values)
    if len(present) == len(parts) and all(isinstance(part.dtype, np.dtype) for part in parts):
        return np.concatenate([part.to_numpy().astype(dtype) for part in parts])
    nullable: Any = dtype.replace("uint", "UInt") if dtype.startswith("u") else dtype.capitalize()
    return pd.concat([part.astype(nullable) for part in parts], ignore_index=True).array


def _whole_dtype(present: list[pd.Series]) -> str | None:
    """Narrowest dtype of integers that holds all values, None where there is none."""
    dtypes = [np.dtype(str(part.dtype).lower()) for part in present]
    common = np.result_type(*dtypes)
    if common.kind in "iu":
        return common.name
    least = min(int(part.min()) for part in present if part.notna().any())
    most = max(int(part.max()) for part in present if part.notna().any())
    if most < 2**63:
        return "int64"
    return "uint64" if least >= 0 else None


def _fits_float(part: pd.Series) -> bool:
    known = part.dropna()
    return not len(known) or (int(known.max()) <= 2**53 and int(known.min()) >= -(2**53))


def _is_absent(part: pd.Series) -> bool:
    return part.dtype == object and bool(part.isna().all())


def _kind(part: pd.Series) -> str:
    import pandas as pd

    if pd.api.types.is_bool_dtype(part.dtype):
        return "boolean"
    return "number" if pd.api.types.is_numeric_dtype(part.dtype) else "text"


def _joined_categories(
    parts: list[pd.Series], column: Column, order: tuple[str, ...] | None
) -> pd.Categorical:
    import pandas as pd

    names: dict[object, None] = {}
    for part in parts:
        if isinstance(part.dtype, pd.CategoricalDtype):
            names |= dict.fromkeys(part.cat.categories.tolist())
    in_time = column.source == "meta" and column.key == "timepoint" and order is not None
    if in_time and order is not None:
        names = dict.fromkeys(name for name in order if name in names)
    dtype = pd.CategoricalDtype(list(names), ordered=in_time or _agree(parts, column))
    codes = []
    for part in parts:
        if isinstance(part.dtype, pd.CategoricalDtype):
            own = dtype.categories.get_indexer(part.cat.categories)
            codes.append(np.append(own, -1)[part.cat.codes.to_numpy()])
        else:
            codes.append(np.full(len(part), -1))
    return pd.Categorical.from_codes(np.concatenate(codes), dtype=dtype)


def _agree(parts: list[pd.Series], column: Column) -> bool:
    """Whether all sections give the categories one order."""
    import pandas as pd

    dtypes = [part.dtype for part in parts if isinstance(part.dtype, pd.CategoricalDtype)]
    ordered = [bool(dtype.ordered) for dtype in dtypes]
    agree = all(ordered) and len({tuple(dtype.categories) for dtype in dtypes}) == 1
    if any(ordered) and not agree:
        tell(
            f"categories of {column.name!r} have an order in some sections that others do not "
            "share; in this answer they have none",
            CategoryOrderWarning,
        )
    return agree
