"""Windows: squares on a half-overlapping grid, each a sum of two by two bins."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument

if TYPE_CHECKING:
    import scipy.sparse as sp

type IntArray = NDArray[np.int64]

# Bins are numbered within this many a side, so that two numbers fit one integer.
_SIDE_BINS = 2**31


@dataclass(frozen=True, slots=True)
class WindowGrid:
    """Squares of one size over a section; neighbors overlap by half.

    Window (i, j) covers `origin + (i, j) * side / 2` and `side` from there, the lower edges
    included, the upper ones not.
    """

    x: float
    """Left edge of the first window, in the unit of the positions."""
    y: float
    side: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.x, self.y, self.side]).all() and self.side > 0):
            raise InvalidArgument(
                f"windows of a finite size above zero are wanted, but got {self.side!r}"
            )

    def bins(self, points: NDArray[np.float64]) -> IntArray:
        """Column and row of the bin, half a window wide, of each of m points; (m, 2).

        >>> WindowGrid(0, 0, 2.0).bins(np.array([[0.5, 0.0], [1.0, 3.9]])).tolist()
        [[0, 0], [1, 3]]
        """
        found = np.floor((points - (self.x, self.y)) / (self.side / 2)).astype(np.int64)
        return np.clip(found, 0, _SIDE_BINS - 1)

    def boxes(self, windows: NDArray[np.integer]) -> NDArray[np.float64]:
        """Boxes xmin, ymin, xmax, ymax of windows (m, 2), as (m, 4)."""
        low = np.asarray(windows, np.float64) * (self.side / 2) + (self.x, self.y)
        return np.concatenate([low, low + self.side], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Which bins of a section hold cells, and which windows they make."""

    code: IntArray
    """(b,) number of each occupied bin, ascending."""
    windows: IntArray
    """(w, 2) column and row of each window that touches an occupied bin."""
    pooling: "sp.csr_array"
    """(w, b) 0 or 1: bins of each window."""

    @classmethod
    def of(cls, code: IntArray) -> "Layout":
        """Lay windows over occupied bins, given by their numbers (b,), ascending and unique."""
        import scipy.sparse as sp

        bins = decode(code)
        shifted = [(bins - shift)[(bins >= shift).all(axis=1)] for shift in _SHIFTS]
        found = np.unique(encode(np.concatenate(shifted))) if len(bins) else code
        windows = decode(found)
        rows, columns = [], []
        for shift in _SHIFTS:
            wanted = encode(windows + shift)
            at = np.minimum(np.searchsorted(code, wanted), max(len(code) - 1, 0))
            hit = np.flatnonzero(code[at] == wanted) if len(code) else at
            rows.append(hit)
            columns.append(at[hit])
        row, column = np.concatenate(rows), np.concatenate(columns)
        pooling = sp.csr_array((np.ones(len(row)), (row, column)), shape=(len(windows), len(code)))
        return cls(code, windows, pooling)

    def rows(self, bins: IntArray) -> IntArray:
        """Place of each bin (m, 2) among the occupied ones."""
        return np.searchsorted(self.code, encode(bins))

    def touching(self, bins: IntArray) -> NDArray[np.bool_]:
        """Whether each window (w,) holds one of some bins (m, 2), occupied ones."""
        marked = np.zeros(len(self.code))
        marked[self.rows(bins)] = 1
        return np.asarray(self.pooling @ marked > 0)


_SHIFTS = np.array([(0, 0), (1, 0), (0, 1), (1, 1)], np.int64)


def encode(bins: IntArray) -> IntArray:
    """One number for each bin (m, 2); ascending by row, then column.

    >>> decode(encode(np.array([[3, 1], [0, 2]]))).tolist()
    [[3, 1], [0, 2]]
    """
    return bins[:, 1] * _SIDE_BINS + bins[:, 0]


def decode(code: IntArray) -> IntArray:
    """Column and row of bins (m, 2) from their numbers (m,)."""
    return np.stack([code % _SIDE_BINS, code // _SIDE_BINS], axis=1)


def occupied(blocks: Iterator[NDArray[np.float64]], grid: WindowGrid) -> IntArray:
    """Numbers of the bins that hold a point, ascending; memory 8 bytes a bin and one block."""
    known = np.zeros(0, np.int64)
    for points in blocks:
        known = np.union1d(known, encode(grid.bins(points)))
    return known


def apart(windows: IntArray, chosen: IntArray, share: float) -> NDArray[np.bool_]:
    """Whether each window (m, 2) overlaps none of the chosen (c, 2) by more than a share of it.

    Neighbors by one step share half a window, by a diagonal step a quarter.

    >>> apart(np.array([[0, 0], [2, 0]]), np.array([[1, 0]]), 0.0).tolist()
    [False, False]
    >>> apart(np.array([[0, 0], [3, 0]]), np.array([[1, 0]]), 0.0).tolist()
    [False, True]
    """
    if not len(chosen):
        return np.ones(len(windows), bool)
    steps = np.abs(windows[:, None, :] - chosen[None, :, :])
    common = np.maximum(2 - steps, 0).prod(axis=2) / 4
    return np.asarray((common <= share).all(axis=1))
