"""Distributions of numbers over many orders of magnitude, in memory that does not grow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import Corrupt

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["QUANTILES", "Distribution", "LogHistogram", "bin_edge"]

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Shares of the values that lie at or below the quantiles of a `Distribution`."""

_LEAST = -20  # 2**-20 is the smallest value with a bin; what is below counts as zero
_OCTAVES = 84  # up to 2**64
_FINE = 1024  # bins of an octave: whole numbers below 2,048 have one each
_COARSE = 2  # bins of an octave that are stored
_MOST_BINS = _OCTAVES * _COARSE


def bin_edge(number: int) -> float:
    """Lower edge of a stored bin: 1, 1.5, 2, 3, 4, 6, 8 ... for 0, 1, 2 ...

    Examples
    --------
    >>> [bin_edge(k) for k in range(-2, 6)]
    [0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    """
    octave, half = divmod(number, _COARSE)
    return math.ldexp(1 + half / _COARSE, octave)


@dataclass(frozen=True, slots=True)
class Distribution:
    """How the values of some cells are distributed.

    Examples
    --------
    >>> import numpy as np
    >>> found = LogHistogram()
    >>> found.add(np.array([0.0, 3.0, 4.0, 5.0]))
    >>> shown = found.distribution()
    >>> shown.median, shown.mean, shown.zeros, shown.start, shown.bins
    (3.0, 3.0, 1, 3, (1, 2))
    """

    n: int
    """Values, zeros among them."""
    total: float
    """Their sum."""
    zeros: int
    """Values that are 0 (or below 2**-20)."""
    missing: int
    """Values that are not known; they are in none of the other numbers."""
    quantiles: tuple[float, ...]
    """Values at `QUANTILES`; () where there are none. Whole numbers below 2,048 and both ends
    are exact, others lie below the truth by less than 1 part in 1,024."""
    start: int
    """Number of the first stored bin; see `bin_edge`."""
    bins: tuple[int, ...]
    """Values in each bin from `start` on; two bins for each doubling."""

    @property
    def median(self) -> float | None:
        """Smallest value that at least half the values do not exceed."""
        return self.quantiles[QUANTILES.index(0.5)] if self.quantiles else None

    @property
    def mean(self) -> float | None:
        """Sum by number."""
        return self.total / self.n if self.n else None

    def edges(self) -> list[float]:
        """(bins + 1) edges of the stored bins."""
        return [bin_edge(self.start + k) for k in range(len(self.bins) + 1)]

    def as_json(self) -> dict[str, Any]:
        """Plain values for a catalog; what is 0 is left out."""
        small = {"zeros": self.zeros, "missing": self.missing}
        return {
            "n": self.n,
            "total": self.total,
            **{name: value for name, value in small.items() if value},
            "quantiles": list(self.quantiles),
            "start": self.start,
            "bins": list(self.bins),
        }

    @classmethod
    def of(cls, value: object) -> Self:
        """Check what a catalog says.

        Raises
        ------
        Corrupt
            Something is missing or no finite number.
        """
        if not isinstance(value, Mapping):
            raise Corrupt(
                f"a distribution is wanted in a summary of quality, but got {value!r:.60}"
            )
        quantiles, bins = value.get("quantiles"), value.get("bins")
        if not isinstance(quantiles, list) or len(quantiles) not in (0, len(QUANTILES)):
            raise Corrupt(f"{len(QUANTILES)} quantiles are wanted, but got {quantiles!r:.60}")
        if not isinstance(bins, list) or len(bins) > _MOST_BINS:
            raise Corrupt(f"at most {_MOST_BINS} bins are wanted, but got {bins!r:.60}")
        start = value.get("start")
        if not isinstance(start, int) or abs(start) > _MOST_BINS:
            raise Corrupt(f"the number of a bin is wanted, but got {start!r:.60}")
        return cls(
            whole(value.get("n")),
            finite(value.get("total")),
            whole(value.get("zeros", 0)),
            whole(value.get("missing", 0)),
            tuple(map(finite, quantiles)),
            start,
            tuple(map(whole, bins)),
        )


def whole(value: object) -> int:
    """Take a whole number from 0 on, or raise `Corrupt`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise Corrupt(
            f"a whole number from 0 on is wanted in a summary of quality, but got {value!r:.60}"
        )
    return value


def finite(value: object) -> float:
    """Take a finite number, or raise `Corrupt`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e300:
        raise Corrupt(f"a number is wanted in a summary of quality, but got {value!r:.60}")
    return float(value)


class LogHistogram:
    """Counts values by size, block by block; 0.7 MB whatever their number.

    Each doubling is divided into 1,024 bins of one width, from 2**-20 to 2**64.
    """

    def __init__(self) -> None:
        self._bins = np.zeros(_OCTAVES * _FINE, np.int64)
        self._n = self._zeros = self._missing = 0
        self._total = 0.0
        self._least, self._most = math.inf, -math.inf

    def add(self, values: NDArray[Any]) -> None:
        """Count some values; those that are not finite, or negative, are missing."""
        numbers = np.asarray(values, np.float64)
        known = np.isfinite(numbers) & (numbers >= 0)
        if not known.all():
            self._missing += int((~known).sum())
            numbers = numbers[known]
        if not numbers.size:
            return
        self._n += numbers.size
        self._total += float(numbers.sum())
        self._least = min(self._least, float(numbers.min()))
        self._most = max(self._most, float(numbers.max()))
        above = numbers[numbers >= math.ldexp(1, _LEAST)]
        self._zeros += numbers.size - above.size
        mantissa, exponent = np.frexp(above)
        fine = ((2 * mantissa - 1) * _FINE).astype(np.int64)
        at = (exponent.astype(np.int64) - 1 - _LEAST) * _FINE + fine
        self._bins += np.bincount(np.minimum(at, self._bins.size - 1), minlength=self._bins.size)

    def distribution(self) -> Distribution:
        """Return what was counted so far."""
        coarse = self._bins.reshape(-1, _FINE // _COARSE).sum(axis=1)
        filled = np.flatnonzero(coarse)
        first, stop = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, 0)
        start = first + _LEAST * _COARSE if filled.size else 0
        return Distribution(
            self._n,
            self._total,
            self._zeros,
            self._missing,
            self._quantiles(),
            start,
            tuple(coarse[first:stop].tolist()),
        )

    def _quantiles(self) -> tuple[float, ...]:
        if not self._n:
            return ()
        ends = self._zeros + np.cumsum(self._bins)
        found = []
        for share in QUANTILES:
            rank = max(1, math.ceil(share * self._n))
            found.append(
                0.0 if rank <= self._zeros else self._edge(int(np.searchsorted(ends, rank)))
            )
        inner = [min(max(value, self._least), self._most) for value in found[1:-1]]
        return (self._least, *inner, self._most)

    @staticmethod
    def _edge(at: int) -> float:
        octave, fine = divmod(at, _FINE)
        return math.ldexp(1 + fine / _FINE, octave + _LEAST)
