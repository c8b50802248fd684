"""Arguments of a search, looked at before anything is read."""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from ...atlas.errors import InvalidArgument

__all__ = ["check_search", "named", "numbers"]


def check_search(k: object, max_overlap: object) -> None:
    """Refuse a number of hits that is none, or a share that is none.

    Raises
    ------
    InvalidArgument
    """
    if isinstance(k, bool) or not isinstance(k, Integral) or int(k) < 1:
        raise InvalidArgument(f"k, a whole number of at least 1, is wanted, but got {k!r}")
    if not _is_number(max_overlap) or not 0 <= float(max_overlap) <= 1:  # type: ignore[arg-type]
        raise InvalidArgument(
            f"max_overlap, a share from 0 to 1, is wanted, but got {max_overlap!r}"
        )


def named(given: object, name: str, example: str) -> Mapping[str, Any]:
    """Take a mapping by names.

    Raises
    ------
    InvalidArgument
        It is none, or a key is no text.
    """
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise InvalidArgument(
            f"{name} by name, such as {name}{example}, is wanted, but got {given!r:.100}"
        )
    return given


def numbers(given: object, name: str, example: str) -> dict[str, float]:
    """Take a mapping of names to numbers.

    >>> numbers({"Sox2": 1}, "genes=", "{'Sox2': 1}")
    {'Sox2': 1.0}

    Raises
    ------
    InvalidArgument
        It is none, or a value is no number.
    """
    found = named(given, name, example)
    for key, value in found.items():
        if not _is_number(value):
            raise InvalidArgument(
                f"a number for {key!r} in {name} is wanted, such as {name}{example}, but got "
                f"{value!r:.100}"
            )
    return {key: float(value) for key, value in found.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
