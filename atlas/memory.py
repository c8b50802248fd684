"""Byte budgets: read them, print them, and refuse work that would not fit, before it starts."""

from __future__ import annotations

import operator
import os
import re
from pathlib import Path

from .errors import BudgetExceeded, InvalidArgument

__all__ = ["available_bytes", "default_limit", "format_bytes", "parse_bytes", "refuse_above"]

_UNITS = {
    "": 1,
    "b": 1,
    "k": 10**3,
    "kb": 10**3,
    "kib": 2**10,
    "m": 10**6,
    "mb": 10**6,
    "mib": 2**20,
    "g": 10**9,
    "gb": 10**9,
    "gib": 2**30,
    "t": 10**12,
    "tb": 10**12,
    "tib": 2**40,
}
_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*([a-z]{0,3})\s*", re.IGNORECASE)
_STANDARD_LIMIT = 2 * 2**30
# A limit below this holds not even one tile of a wide panel; taken for a slip of the unit.
_SMALLEST_LIMIT = 2**20


def parse_bytes(value: str | int | None) -> int:
    """Read an amount of memory.

    Parameters
    ----------
    value : str, int or None
        `"1GiB"`, `"512 MB"`, `"2.5 GiB"`, a number of bytes, or None for `default_limit()`.

    Returns
    -------
    int
        Bytes; MB is 10^6, MiB is 2^20.

    Raises
    ------
    InvalidArgument
        Not an amount, or not above zero.

    Examples
    --------
    >>> parse_bytes("1GiB"), parse_bytes("512 MB")
    (1073741824, 512000000)
    """
    if value is None:
        return default_limit()
    amount = _amount(value)
    if amount is None:
        raise InvalidArgument(
            f"an amount of memory is wanted, such as '2 GiB' or '512 MB', but got {value!r}"
        )
    if amount <= 0:
        raise InvalidArgument(f"an amount of memory above zero is wanted, but got {value!r}")
    return amount


def _amount(value: object) -> int | None:
    if isinstance(value, str):
        found = _SIZE.fullmatch(value)
        unit = _UNITS.get(found[2].lower()) if found else None
        return int(float(found[1]) * unit) if found and unit else None
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]  # NumPy integers count too
    except TypeError:
        return None


def format_bytes(n_bytes: int) -> str:
    """Print an amount of memory in binary units.

    Examples
    --------
    >>> format_bytes(1536), format_bytes(2 * 2**30), format_bytes(12)
    ('1.5 KiB', '2.0 GiB', '12 B')
    """
    sign, amount = ("-" if n_bytes < 0 else ""), float(abs(n_bytes))
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            return f"{sign}{amount:.0f} B" if unit == "B" else f"{sign}{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("unreachable")


def _cgroup_bytes() -> int | None:
    """Bytes left under the container's limit, None outside one."""
    places = (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    )
    for limit_file, usage_file in places:
        try:
            limit, usage = (
                int(Path(file).read_text(encoding="ascii")) for file in (limit_file, usage_file)
            )
        except (OSError, ValueError):  # no such controller, or "max"
            continue
        return max(0, limit - usage)
    return None


def available_bytes() -> int:
    """Memory this process could still take, in bytes: what is free here, or in its container."""
    import psutil

    free = int(psutil.virtual_memory().available)
    contained = _cgroup_bytes()
    return free if contained is None else min(free, contained)


def default_limit() -> int:
    """Memory limit when none is given, in bytes.

    `TISSERACT_MEMORY_LIMIT` when set, else 2 GiB, or half of what is free where that is less.
    """
    chosen = os.environ.get("TISSERACT_MEMORY_LIMIT")
    if chosen:
        return parse_bytes(chosen)
    return max(_SMALLEST_LIMIT, min(_STANDARD_LIMIT, available_bytes() // 2))


def refuse_above(limit: int, projected: int, what: str, ways_out: str) -> None:
    """Refuse work whose projected peak exceeds its limit.

    Parameters
    ----------
    limit, projected : int
        Bytes.
    what : str
        The work, as the subject of the sentence: "reading 3 sections".
    ways_out : str
        What the caller can do instead.

    Raises
    ------
    BudgetExceeded
        `projected` is above `limit`.

    Examples
    --------
    >>> refuse_above(2**20, 2**10, "reading 2 sections", "select fewer genes")
    """
    if projected > limit:
        raise BudgetExceeded(
            f"{what} needs about {format_bytes(projected)}, but got a memory limit of "
            f"{format_bytes(limit)}; {ways_out}"
        )
