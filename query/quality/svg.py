"""Histograms as inline SVG: no scripts, no fonts, some hundred bytes each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...atlas.quality.histogram import Distribution

__all__ = ["Axis", "sparkline"]

_HEIGHT = 20
_MOST_BARS = 64


@dataclass(frozen=True, slots=True)
class Axis:
    """Bins that all sparklines of a column share, so that they can be compared."""

    first: int
    """Number of the first bin."""
    n: int
    """Bins."""

    @classmethod
    def around(cls, distributions: Iterable[Distribution]) -> Axis:
        """Span the bins of some distributions; at most 64, the highest ones.

        Examples
        --------
        >>> Axis.around([])
        Axis(first=0, n=1)
        """
        ends = [(one.start, one.start + len(one.bins)) for one in distributions if one.bins]
        if not ends:
            return cls(0, 1)
        stop = max(end for _, end in ends)
        first = max(min(start for start, _ in ends), stop - _MOST_BARS)
        return cls(first, stop - first)


def sparkline(distribution: Distribution, axis: Axis, label: str) -> str:
    """Draw a histogram: a bar for zeros (hollow), then the bins of the axis.

    Parameters
    ----------
    distribution : Distribution
        What is drawn; bars are relative to the tallest.
    axis : Axis
        Bins along the picture.
    label : str
        Said by screen readers; must be escaped.
    """
    bars = [0] * axis.n
    for k, count in enumerate(distribution.bins):
        at = distribution.start + k - axis.first
        if 0 <= at < axis.n:
            bars[at] += count
    tallest = max(*bars, distribution.zeros, 1)
    path = "".join(_bar(k + 2, count, tallest) for k, count in enumerate(bars) if count)
    zeros = _bar(0, distribution.zeros, tallest) if distribution.zeros else ""
    hollow = f'<path class="z" d="{zeros}"/>' if zeros else ""
    return (
        f'<svg class="h" viewBox="0 0 {axis.n + 2} {_HEIGHT}" preserveAspectRatio="none" '
        f'role="img" aria-label="{label}">{hollow}<path d="{path}"/></svg>'
    )


def _bar(at: int, count: int, tallest: int) -> str:
    # At least half a unit high: a few cells must not be invisible.
    height = max(0.5, round(_HEIGHT * count / tallest, 1))
    return f"M{at} {_HEIGHT}v-{height:g}h1v{height:g}z"
