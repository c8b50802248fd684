"""Sums of floating-point numbers without rounding: what exact geometric predicates fall back on.

An expansion is a list of float64 numbers, in order of magnitude and without overlapping bits,
whose exact sum is the number meant; its sign is that of its last element. The algorithms are
those of Shewchuk (1997), *Adaptive precision floating-point arithmetic and fast robust geometric
predicates*, sections 2.1 to 2.7, written anew. They hold when every operation rounds to nearest
and none overflows or underflows, which `block` sees to.

An expansion here lives in ``buffer[start : start + n]``; functions return the new n.
"""

from typing import Any

from ..compiled import njit

__all__ = [
    "add_expansion",
    "grow",
    "product_of_two",
    "scale",
    "sign_of",
    "two_difference",
    "two_sum",
]

_SPLITTER = 2.0**27 + 1.0


@njit
def two_sum(a: float, b: float) -> tuple[float, float]:
    """Return the rounded sum and what rounding lost."""
    x = a + b
    other = x - a
    return x, (a - (x - other)) + (b - other)


@njit
def two_difference(a: float, b: float) -> tuple[float, float]:
    """Return the rounded difference and what rounding lost."""
    x = a - b
    other = a - x
    return x, (a - (x + other)) + (other - b)


@njit
def product_of_two(a: float, b: float) -> tuple[float, float]:
    """Return the rounded product and what rounding lost (Dekker and Veltkamp)."""
    x = a * b
    c = _SPLITTER * a
    a_high = c - (c - a)
    a_low = a - a_high
    c = _SPLITTER * b
    b_high = c - (c - b)
    b_low = b - b_high
    return x, a_low * b_low - (((x - a_high * b_high) - a_low * b_high) - a_high * b_low)


@njit
def grow(e: Any, n: int, b: float) -> int:
    """Add one number to the expansion ``e[:n]`` in place, zeros left out."""
    q = b
    kept = 0
    for i in range(n):
        q, low = two_sum(q, e[i])
        if low != 0.0:
            e[kept] = low
            kept += 1
    if q != 0.0:
        e[kept] = q
        kept += 1
    return kept


@njit
def add_expansion(e: Any, n: int, f: Any, m: int) -> int:
    """Add the expansion ``f[:m]`` to ``e[:n]`` in place; `e` has room for n + m numbers."""
    for i in range(m):
        n = grow(e, n, f[i])
    return n


@njit
def scale(e: Any, n: int, b: float, out: Any) -> int:
    """Write the product of ``e[:n]`` and a number to `out`, which has room for 2 n numbers."""
    kept = 0
    if n == 0 or b == 0.0:
        return 0
    q, low = product_of_two(e[0], b)
    if low != 0.0:
        out[kept] = low
        kept += 1
    for i in range(1, n):
        high, part = product_of_two(e[i], b)
        total, low = two_sum(q, part)
        if low != 0.0:
            out[kept] = low
            kept += 1
        q, low = two_sum(high, total)
        if low != 0.0:
            out[kept] = low
            kept += 1
    if q != 0.0:
        out[kept] = q
        kept += 1
    return kept


@njit
def sign_of(e: Any, n: int) -> int:
    """Return -1, 0 or 1: the sign of the exact sum of ``e[:n]``."""
    if n == 0:
        return 0
    return 1 if e[n - 1] > 0.0 else -1
