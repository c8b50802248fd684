"""Compiled scan for closed rings among vertices.

Importing this module loads numba (half a second): import it inside the function that needs it.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Compiled functions are typed by numba at their first call; their docstrings state the dtypes.
# pyright: basic
# ruff: noqa: PLR0917

from __future__ import annotations

import numba

__all__ = ["closed_rings"]


@numba.njit(cache=True, nogil=True)
def closed_rings(xy, counts, least, most, starts, stops, runs):
    """Cut runs of vertices where a ring has closed and more than `least` vertices follow.

    `xy` (n, 2) float64, `counts` (k,) int64 vertices of each run; a run of more than `most` stays
    whole. `starts`, `stops` and `runs` (k + n // least,) int64 receive where each ring begins and
    ends, and its run. One pass.

    Returns the number of rings.
    """
    n, at = 0, 0
    for run in range(counts.size):
        end = at + counts[run]
        begun = False
        while not begun or end - at > least:
            begun = True
            stop = end
            if counts[run] <= most:
                for place in range(at + least, end):
                    if xy[place, 0] == xy[at, 0] and xy[place, 1] == xy[at, 1]:
                        stop = place + 1
                        break
            starts[n], stops[n], runs[n] = at, stop, run
            n += 1
            at = stop
        at = end
    return n
