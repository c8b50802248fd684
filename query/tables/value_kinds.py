"""One rule for columns that sections hold in several kinds: booleans, numbers and text.

A boolean is no number, 1 and 1.0 are one number, text is never a number; "" is text like any
other, and only what is missing is missing. Where an answer has several kinds of one column its
values are spelled as text, and a value that some text spells, too, tells its kind: `1 (number)`.
"""

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..expression.mixture import MixedValuesWarning
from ..telling import tell

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "codes_among",
    "kind_of",
    "label_among",
    "label_of",
    "named_values",
    "text_of",
    "typed",
    "warn_kinds",
]

_NAMED = 3  # sections in a message


def kind_of(value: Any) -> str:
    """Tell the kind of a value: boolean, number or text."""
    if isinstance(value, bool | np.bool_):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def typed(value: Any) -> tuple[str, Any] | None:
    """Key of a value under which booleans are no numbers; None for a missing one.

    >>> typed(True) == typed(1), typed(1) == typed(1.0), typed(1) == typed("1")
    (False, True, False)
    """
    return None if value is None else (kind_of(value), value)


def text_of(value: Any) -> str:
    """Text of a value; whole numbers have no point.

    >>> text_of(1.0), text_of(1.5), text_of(True), text_of("1.0")
    ('1', '1.5', 'True', '1.0')
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def label_among(value: Any, texts: Container[str]) -> str:
    """Spell a value beside the text that its column holds in other sections.

    >>> label_among(1, {"a"}), label_among(1, {"1"}), label_among("1", {"1"})
    ('1', '1 (number)', '1')
    """
    label, kind = text_of(value), kind_of(value)
    while kind != "text" and label in texts:
        label = f"{label} ({kind})"
    return label


def named_values(name: str, values: Sequence[Any], kinds: Mapping[str, set[str]]) -> list[Any]:
    """Labels of values of a column, None for a missing one: themselves if they are of one kind.

    Parameters
    ----------
    name
        The column.
    values
        As they are read.
    kinds
        What each section holds; a `MixedValuesWarning` names them where they differ.
    """
    if len(set().union(*kinds.values())) < 2:
        return list(values)  # also where "1" is text: of one kind nothing can be confused
    warn_kinds(name, kinds)
    texts = {value for value in values if isinstance(value, str)}
    return [None if value is None else label_among(value, texts) for value in values]


def warn_kinds(name: str, kinds: Mapping[str, set[str]]) -> None:
    """Warn with `MixedValuesWarning` that sections hold a column in several kinds."""
    parts = []
    for kind in sorted(set().union(*kinds.values())):
        sections = [section for section, held in kinds.items() if kind in held]
        more = f" and {len(sections) - _NAMED} more" if len(sections) > _NAMED else ""
        parts.append(f"{kind} ({', '.join(sections[:_NAMED])}{more})")
    tell(
        f"column {name!r} holds values of several kinds: {', '.join(parts)}; they are spelled as "
        "text: a boolean is no number, 1 and 1.0 are one, and text is never a number",
        MixedValuesWarning,
    )


def codes_among(values: "pd.Series[Any]", labels: Sequence[str]) -> NDArray[np.int64]:
    """Return the number (n,) of each value among labels of `named_values`, as text; -1 for none."""
    import pandas as pd

    own, names = pd.factorize(values, use_na_sentinel=True)
    place = {label: number for number, label in enumerate(labels)}
    number = [place.get(label_of(name, place), -1) for name in names.tolist()]
    return np.asarray(np.array([*number, -1], np.int64)[own], np.int64)


def label_of(value: Any, labels: Container[str]) -> str:
    """Find the label of a value among those that `label_among` made of a column."""
    label, kind = text_of(value), kind_of(value)
    while kind != "text" and f"{label} ({kind})" in labels:
        label = f"{label} ({kind})"
    return label
