"""Which cells of a section take part in a graph: a bit a cell, counted and found again quickly."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InvalidArgument
from ...quadtree import merge_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...quadtree import Runs

__all__ = ["Mask"]

# Rows between two entries of the table of kept rows: 8 bytes for every 512, an eighth of the bits.
_STEP = 512
_BYTES = _STEP // 8
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Mask:
    """Which cells of a section take part, as a value: masks are equal when they keep the same.

    A bit a cell, and the kept cells before every 512th: 1.4 MB for 10 million cells.

    Examples
    --------
    >>> mask = Mask.of(np.array([True, False, False, True]))
    >>> mask.n_kept, mask.rows(np.array([0, 1])).tolist(), mask.kept_runs([(1, 4)])
    (2, [0, 3], [(1, 2)])
    """

    n_obs: int
    """Cells of the section."""
    n_kept: int
    """Cells that take part."""
    digest: str
    """sha256 of the bits, eight cells a byte, the first in the highest bit."""
    bits: NDArray[np.uint8] = field(compare=False, repr=False)
    """The bits, a whole number of steps of 64 bytes, one step more than needed at most."""
    starts: NDArray[np.int64] = field(compare=False, repr=False)
    """Kept cells before each step, and in all."""

    @classmethod
    def of(cls, rows: Any) -> Mask:
        """Pack one True or False a cell.

        Parameters
        ----------
        rows : array (n_obs,) bool

        Returns
        -------
        Mask

        Raises
        ------
        InvalidArgument
            Not of booleans, or not one-dimensional.
        """
        given = np.asarray(rows)
        if given.dtype != np.bool_ or given.ndim != 1:
            raise InvalidArgument(
                "a mask of cells is wanted, shape (n_obs,) of booleans, but got "
                f"{given.dtype} of shape {given.shape}; compare or convert it with astype(bool)"
            )
        packed = np.packbits(given)
        steps = given.size // _STEP + 1
        bits = np.zeros(steps * _BYTES, dtype=np.uint8)
        bits[: packed.size] = packed
        counts = _ONES[bits].reshape(steps, _BYTES).sum(axis=1, dtype=np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        digest = "sha256:" + hashlib.sha256(packed.tobytes()).hexdigest()
        return cls(given.size, int(starts[-1]), digest, bits, starts)

    def take(self, runs: Runs) -> NDArray[np.bool_]:
        """Tell for each row of some runs, m in all, whether it is kept; (m,) bool."""
        parts = [np.empty(0, dtype=np.uint8)]
        for start, stop in runs:
            first = start // 8
            bits = np.unpackbits(self.bits[first : (stop + 7) // 8])
            parts.append(bits[start - 8 * first : stop - 8 * first])
        return np.concatenate(parts).astype(np.bool_)

    def before(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """Count the kept cells before each row; (m,) int64, rows from 0 to n_obs.

        Memory: 300 bytes a row.
        """
        step, offset = np.divmod(np.asarray(rows, dtype=np.int64), _STEP)
        packed = self.bits.reshape(-1, _BYTES)[step]
        byte, bit = np.divmod(offset, 8)
        counts = _ONES[packed] * (np.arange(_BYTES) < byte[:, None])
        whole = counts.sum(axis=1, dtype=np.int64)
        last = packed[np.arange(byte.size), byte].astype(np.int64) >> (8 - bit)
        return np.asarray(self.starts[step] + whole + _ONES[last], dtype=np.int64)

    def kept_runs(self, runs: Runs) -> list[tuple[int, int]]:
        """Renumber row runs: the kept cells among them, touching runs joined, none empty."""
        ends = self.before(np.array([end for run in runs for end in run], dtype=np.int64)).tolist()
        pairs = zip(ends[::2], ends[1::2], strict=True)
        return merge_runs((start, stop) for start, stop in pairs if stop > start)

    def rows(self, kept: NDArray[np.integer]) -> NDArray[np.int64]:
        """Rows of kept cells in the section, given their numbers among the kept; (m,) int64.

        Memory: 24 bytes a number, and 8 for every kept cell of the steps that they lie in.
        """
        step = np.searchsorted(self.starts, kept, side="right") - 1
        touched = np.zeros(self.starts.size - 1, dtype=np.bool_)
        touched[step] = True
        steps = np.flatnonzero(touched)
        counts = np.diff(self.starts)[steps]
        # Where a step's cells begin in `rows`, less its first number among the kept.
        shift = np.zeros(touched.size, dtype=np.int64)
        shift[steps] = np.cumsum(counts) - counts - self.starts[steps]
        rows = [np.empty(0, dtype=np.int64)]
        for at in range(0, steps.size, 1024):
            some = steps[at : at + 1024]
            inside = np.unpackbits(self.bits.reshape(-1, _BYTES)[some], axis=1)
            which, offset = np.nonzero(inside)
            rows.append(some[which] * _STEP + offset)
        return np.concatenate(rows)[shift[step] + kept]

    def section_runs(self, runs: Runs) -> list[tuple[int, int]]:
        """Row runs of the section that hold some runs of kept cells, and no others of these.

        They begin and end with a kept cell; stretches of 512 rows without one are left out.
        """
        found: list[tuple[int, int]] = []
        for start, stop in runs:
            if stop <= start:
                continue
            first, last = self.rows(np.array([start, stop - 1])).tolist()
            steps = np.arange(first // _STEP, last // _STEP + 1)
            steps = steps[np.diff(self.starts)[steps] > 0]
            breaks = np.flatnonzero(np.diff(steps) != 1) + 1
            lows = steps[np.concatenate([[0], breaks])] * _STEP
            highs = (steps[np.concatenate([breaks - 1, [-1]])] + 1) * _STEP
            found += zip(
                np.maximum(lows, first).tolist(), np.minimum(highs, last + 1).tolist(), strict=True
            )
        return found
