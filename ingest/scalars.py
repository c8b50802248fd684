"""Types of metadata columns: text in, int, float, bool or text out, one type per column."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

__all__ = ["Scalar", "infer_column", "is_missing"]

Scalar = str | int | float | bool | None

_INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)")
_FLOAT = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_BOOLEANS = {"true": True, "false": False}
# Missing beside numbers; in a column of words "NA" may be a word (North America, sodium).
_MISSING_NUMBERS = {"na", "n/a", "nan", "null", "none"}
_INT64 = 2**63


def is_missing(value: object) -> bool:
    """Whether a cell is empty.

    Examples
    --------
    >>> is_missing(" "), is_missing(None), is_missing(float("nan")), is_missing(0)
    (True, True, True, False)
    """
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, str) and not value.strip()


def infer_column(cells: Sequence[object]) -> list[Scalar]:
    """Give a column the narrowest of int, float, bool and text that holds all its cells.

    Numbers with leading zeros are identifiers and stay text. Values that come typed (from Python)
    keep their types when they agree, and become text when they do not.

    Parameters
    ----------
    cells : sequence of object
        Text or Python scalars; empty cells become None.

    Returns
    -------
    list of int, float, bool, str or None

    Examples
    --------
    >>> infer_column(["1", "2", ""]), infer_column(["1", "2.5", "NA"])
    ([1, 2, None], [1.0, 2.5, None])
    >>> infer_column(["007", "12"]), infer_column(["true", "False"]), infer_column(["NA", "EU"])
    (['007', '12'], [True, False], ['NA', 'EU'])
    """
    plain = [None if is_missing(cell) else _unwrap(cell) for cell in cells]
    texts = [None if cell is None else _text(cell) for cell in plain]
    numbers = [None if t is None or t.lower() in _MISSING_NUMBERS else t for t in texts]
    present = [text for text in numbers if text is not None]
    typed = any(isinstance(cell, str) for cell in plain)
    if not present:
        return list(texts)
    if all(text.lower() in _BOOLEANS for text in present) and _agree(plain, bool):
        return [None if text is None else _BOOLEANS[text.lower()] for text in numbers]
    if all(_INTEGER.fullmatch(text) for text in present) and _agree(plain, int):
        values = [None if text is None else int(text) for text in numbers]
        if all(value is None or -_INT64 <= value < _INT64 for value in values):
            return list(values)
    elif all(_FLOAT.fullmatch(text) for text in present) and (typed or _agree(plain, int, float)):
        floats = [None if text is None else float(text) for text in numbers]
        if all(value is None or math.isfinite(value) for value in floats):
            return list(floats)
    return list(texts)


def _unwrap(cell: object) -> object:
    item = getattr(cell, "item", None)  # numpy scalars
    return item() if callable(item) and not isinstance(cell, str) else cell


def _text(cell: object) -> str:
    return (
        cell.strip()
        if isinstance(cell, str)
        else repr(cell)
        if isinstance(cell, float)
        else str(cell)
    )


def _agree(cells: Sequence[object], *types: type) -> bool:
    """Whether the cells that come typed are of these very types (bool is not int here)."""
    return all(cell is None or isinstance(cell, str) or type(cell) in types for cell in cells)
