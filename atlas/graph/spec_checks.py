"""What each option of a graph may be."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np

from ..errors import InvalidArgument, near
from .search.radius_source import check_radius

__all__ = ["CHECKS", "LATTICES", "Unfit"]

LATTICES = ("hex", "square", "auto")
"""Kinds of lattice that one can ask for."""


class Unfit(Exception):  # noqa: N818 - caught in `spec`, never seen by a caller
    """An option whose value will not do."""


def _count(name: str) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        try:
            count = 0 if isinstance(value, bool) else operator.index(value)
        except TypeError:
            count = 0
        if count < 1:
            raise Unfit(f"{name} must be a whole number of at least 1, but got {value!r}")
        return count

    return check


def _flag(name: str) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, int | np.bool_) or value not in (True, False):
            raise Unfit(f"{name} must be True or False, but got {value!r}")
        return bool(value)

    return check


def _one_of(name: str, choices: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            known = " or ".join(map(repr, choices))
            raise Unfit(f"{name} must be {known}, but got {value!r}.{near(value, choices)}")
        return str(value)

    return check


def _radius(value: Any) -> float | tuple[float, float]:
    try:
        shortest, longest = check_radius(value)
    except InvalidArgument as error:
        raise Unfit(str(error)) from error
    return longest if isinstance(value, Real) else (shortest, longest)


def _percentile(value: Any) -> float:
    real = isinstance(value, Real) and not isinstance(value, bool)
    number = float(value) if real else math.nan
    if not 0 <= number <= 100:
        raise Unfit(f"percentile must be a number from 0 to 100, but got {value!r}")
    return number


CHECKS: dict[str, Callable[[Any], Any]] = {
    "n_neighs": _count("n_neighs"),
    "radius": _radius,
    "lattice": _one_of("lattice", LATTICES),
    "n_rings": _count("n_rings"),
    "percentile": _percentile,
    "symmetrize": _flag("symmetrize"),
    "transform": _one_of("transform", ("spectral", "cosine")),
    "set_diag": _flag("set_diag"),
}
