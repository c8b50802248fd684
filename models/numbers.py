"""Which numbers the options of a model may be: all that are wrong are told at once."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from ..atlas.errors import InvalidArgument

__all__ = ["refuse_wrong"]


@dataclass(frozen=True, slots=True)
class _Rule:
    words: str
    holds: Callable[[Any], bool]


def _whole(least: int) -> _Rule:
    def holds(value: Any) -> bool:
        # a bool is an int to Python
        return type(value) is not bool and isinstance(value, Integral) and int(value) >= least

    return _Rule(f"a whole number >= {least}", holds)


def _real(words: str, holds: Callable[[float], bool]) -> _Rule:
    def is_one(value: Any) -> bool:
        real = type(value) is not bool and isinstance(value, Real)
        return real and math.isfinite(float(value)) and holds(float(value))

    return _Rule(words, is_one)


_ONE, _ZERO = _whole(1), _whole(0)
_ONE_OR_NONE = _Rule("a whole number >= 1 or None", lambda v: v is None or _ONE.holds(v))
_WEIGHT = _real("a number >= 0", lambda value: value >= 0)
_ABOVE = _real("a number > 0", lambda value: value > 0)
_RULES: Mapping[str, _Rule] = {
    "n_comps": _ONE,
    "n_top_genes": _ONE,
    "seed": _ZERO,
    "n_hops": _ONE,
    "n_layers": _ONE,
    "n_hidden": _ONE,
    "steps": _ONE,
    "lr": _ABOVE,
    "batch_cells": _ONE,
    "max_rows": _ONE_OR_NONE,
    "mask_rate": _real("a share between 0 and 1", lambda value: 0 < value < 1),
    "reconstruction": _WEIGHT,
    "prior": _WEIGHT,
    "prior_hops": _ONE,
    "n_dims": _ONE,
    "num_workers": _ZERO,
    "every": _ONE,
    "theta": _WEIGHT,
    "sigma": _ABOVE,
    "n_clusters": _ONE_OR_NONE,
    "max_iter": _ONE,
}


def refuse_wrong(values: Mapping[str, Any], more: Sequence[str] = ()) -> None:
    """Refuse options that are no such number as their name wants.

    Parameters
    ----------
    values : mapping of str to value
        Options by name; those that are no number are passed over.
    more : sequence of str
        What is wrong beyond that, each as "wanted ..., but got ...".

    Raises
    ------
    InvalidArgument
        All faults in one.

    Examples
    --------
    >>> refuse_wrong({"n_comps": 30, "seed": 0})
    >>> refuse_wrong({"n_comps": 0, "seed": -1})
    Traceback (most recent call last):
    tisseract.atlas.errors.InvalidArgument: wanted a whole number >= 1, but got n_comps=0; wanted \
a whole number >= 0, but got seed=-1
    """
    faults = [
        f"wanted {_RULES[name].words}, but got {name}={value!r}"
        for name, value in values.items()
        if name in _RULES and not _RULES[name].holds(value)
    ]
    if faults or more:
        raise InvalidArgument("; ".join([*faults, *more]))
