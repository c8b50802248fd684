"""Transcripts of each tile, counted while points are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..morton import DEPTH, encode
from .summary import TranscriptCounts

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from ..morton import Frame
    from ..points import PointsSource
    from ..quadtree import Leaves

__all__ = ["PointTally", "in_no_cell"]

_NO_CELL = ("", "UNASSIGNED", "unassigned", "Unassigned", "-1", "None", "nan", "NaN")


def in_no_cell(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    """(n,) whether the cell of a point is missing, or what vendors write for none.

    That is null, NaN, a negative number, "", UNASSIGNED, -1, None and nan. Readers make null of
    other words of their vendors, such as 0.

    Examples
    --------
    >>> import pyarrow as pa
    >>> in_no_cell(pa.chunked_array([["a-1", "UNASSIGNED", None]])).tolist()
    [False, True, True]
    >>> in_no_cell(pa.chunked_array([[3, -1, None]])).tolist()
    [False, True, True]
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    kind = values.type
    none: NDArray[np.bool_]
    if kinds.is_floating(kind) or kinds.is_integer(kind):
        numbers = values.to_numpy()  # a missing number becomes NaN
        none = np.isnan(numbers) | (numbers < 0)
    elif kinds.is_string(kind) or kinds.is_large_string(kind):
        words = pa.array(_NO_CELL, kind)
        found = pc.or_(pc.is_in(values, value_set=words), pc.is_null(values))
        none = found.to_numpy(zero_copy_only=False)
    else:
        none = values.is_null().to_numpy(zero_copy_only=False)
    return none


class PointTally:
    """Counts the points of each tile and those of no cell, one row group after another.

    A point belongs to the tile in whose square it lies, whatever cell it is of. Memory: 16 bytes a
    tile, and 40 bytes a point of one row group.

    Parameters
    ----------
    frame, leaves
        Square of the cells, and the tiles that divide it.
    source : PointsSource
        Tells which column names the cell.
    coded : Frame
        Frame of the codes that `add` is given.
    """

    def __init__(self, frame: Frame, leaves: Leaves, source: PointsSource, coded: Frame) -> None:
        self._frame, self._leaves, self._source = frame, leaves, source
        self._ready = coded == frame
        depth = 2 * (DEPTH - leaves.level.astype(np.uint64))
        # Past the last code of a square; of the whole frame that is 2**64, which wraps to 0.
        self._last = leaves.code + (
            (np.uint64(1) << np.minimum(depth, np.uint64(63))) - np.uint64(1)
        )
        self._last[depth == 2 * DEPTH] = np.iinfo(np.uint64).max
        self.n = np.zeros(leaves.code.size, np.int64)
        """(T,) points of each tile."""
        self.outside = np.zeros_like(self.n) if source.instance_key else None
        """(T,) those that belong to no cell; None where the source does not say."""
        self._n = self._n_outside = 0

    def add(self, rows: pa.Table, codes: NDArray[np.uint64]) -> None:
        """Count some points: a table with their columns, and their codes, ascending."""
        if not rows.num_rows:
            return
        x, y = (np.asarray(rows.column(axis).to_numpy(), np.float64) for axis in "xy")
        frame = self._frame
        # Codes of points outside the frame are those of its edge.
        inside = (x >= frame.x) & (x <= frame.x + frame.side)
        inside &= (y >= frame.y) & (y <= frame.y + frame.side)
        none = None if self.outside is None else self._without_cell(rows)
        self._n += rows.num_rows
        self._n_outside += 0 if none is None else int(none.sum())
        if not self._ready:
            codes = encode(np.stack([x, y], axis=1), frame)
            order = np.argsort(codes)
            codes, inside = codes[order], inside[order]
            none = None if none is None else none[order]
        self._count(codes, inside, none)

    def _count(
        self, codes: NDArray[np.uint64], inside: NDArray[np.bool_], none: NDArray[np.bool_] | None
    ) -> None:
        """Add to the tiles whose squares hold any of the ascending codes."""
        known = self._leaves.code
        first = max(0, int(np.searchsorted(known, codes[0], side="right")) - 1)
        tiles = slice(first, int(np.searchsorted(known, codes[-1], side="right")))
        low = np.searchsorted(codes, known[tiles], side="left")
        high = np.searchsorted(codes, self._last[tiles], side="right")
        self.n[tiles] += _between(inside, low, high)
        if self.outside is not None and none is not None:
            self.outside[tiles] += _between(inside & none, low, high)

    def _without_cell(self, rows: pa.Table) -> NDArray[np.bool_]:
        return in_no_cell(rows.column(self._source.instance_key))

    def counts(self) -> TranscriptCounts:
        """Sum up what was counted so far."""
        outside = None if self.outside is None else self._n_outside
        return TranscriptCounts(self._n, outside, self._n - int(self.n.sum()))

    def columns(self, name: str) -> dict[str, NDArray[Any]]:
        """(T,) numbers of each tile by column name."""
        found = {f"n_transcripts:{name}": self.n}
        if self.outside is not None:
            found[f"n_outside:{name}"] = self.outside
        return found


def _between(
    marked: NDArray[np.bool_], low: NDArray[np.int64], high: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(t,) how many are marked from low to below high."""
    ends = np.concatenate([[0], np.cumsum(marked, dtype=np.int64)])
    counts: NDArray[np.int64] = ends[high] - ends[low]
    return counts
