"""Quadtree leaves over sorted Morton codes, and the table of tiles that queries and graphs use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import InvalidArgument
from .morton import DEPTH, Frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Leaves", "Runs", "TileTable", "merge_runs", "split", "tight_boxes"]

Runs = Sequence[tuple[int, int]]
"""Row runs (start, stop): sorted, disjoint, half-open."""


@dataclass(frozen=True, slots=True)
class Leaves:
    """Leaves of a quadtree: contiguous ranges of sorted codes that cover all rows, none empty."""

    ptr: NDArray[np.int64]
    """(T + 1,) leaf t is rows ptr[t]:ptr[t + 1]."""
    code: NDArray[np.uint64]
    """(T,) smallest Morton code of the leaf's square."""
    level: NDArray[np.uint8]
    """(T,) how often the frame was halved to get the leaf's square."""


def split(codes: NDArray[np.uint64], tile_cells: int) -> Leaves:
    """Halve squares until each holds at most `tile_cells` rows, or the depth is used up.

    Parameters
    ----------
    codes : (n,) uint64
        Morton codes, ascending.
    tile_cells : int
        Most rows of a leaf; only rows of one and the same code may exceed it.

    Returns
    -------
    Leaves
        In code order. Cost: a binary search for each square visited.

    Examples
    --------
    >>> import numpy as np
    >>> quadrants = np.array([0, 1, 2, 3], dtype=np.uint64) << np.uint64(62)
    >>> split(quadrants, 2).ptr.tolist()
    [0, 1, 2, 3, 4]
    >>> split(quadrants, 4).ptr.tolist()
    [0, 4]
    """
    if tile_cells < 1:
        raise InvalidArgument(f"tile_cells must be at least 1, but got {tile_cells}")
    ptr, found_codes, levels = [0], [], []
    stack = [(0, codes.size, 0, 0)]
    while stack:
        start, stop, code, level = stack.pop()
        if stop - start <= tile_cells or level == DEPTH:
            if stop > start:
                ptr.append(stop)
                found_codes.append(code)
                levels.append(level)
            continue
        quarter = 1 << (2 * (DEPTH - level - 1))
        inner = np.array([code + k * quarter for k in (1, 2, 3)], dtype=np.uint64)
        edges = [start, *(start + np.searchsorted(codes[start:stop], inner)).tolist(), stop]
        # Pushed last to first, so that leaves come off the stack in code order.
        stack.extend((edges[k], edges[k + 1], code + k * quarter, level + 1) for k in (3, 2, 1, 0))
    return Leaves(
        np.asarray(ptr, np.int64),
        np.asarray(found_codes, np.uint64),
        np.asarray(levels, np.uint8),
    )


def tight_boxes(positions: NDArray[np.float64], ptr: NDArray[np.int64]) -> NDArray[np.float64]:
    """Tight boxes (xmin, ymin, xmax, ymax) of consecutive row ranges, none of them empty.

    Examples
    --------
    >>> import numpy as np
    >>> tight_boxes(np.array([[0.0, 5.0], [2.0, 1.0], [9.0, 9.0]]), np.array([0, 2, 3])).tolist()
    [[0.0, 1.0, 2.0, 5.0], [9.0, 9.0, 9.0, 9.0]]
    """
    low = np.minimum.reduceat(positions, ptr[:-1], axis=0)
    high = np.maximum.reduceat(positions, ptr[:-1], axis=0)
    return np.concatenate([low, high], axis=1)


def merge_runs(runs: Iterable[tuple[int, int]], max_gap: int = 0) -> list[tuple[int, int]]:
    """Join ascending runs that touch, or lie at most `max_gap` rows apart.

    Examples
    --------
    >>> merge_runs([(0, 4), (4, 6), (9, 10)])
    [(0, 6), (9, 10)]
    """
    merged: list[tuple[int, int]] = []
    for start, stop in runs:
        if merged and start - merged[-1][1] <= max_gap:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


@dataclass(frozen=True, slots=True)
class TileTable:
    """Tiles of a section: consecutive row ranges with tight boxes, together all rows once.

    Also used for the finer row blocks of a section (`Section.blocks`), which are ranges of a fixed
    number of rows.

    Examples
    --------
    >>> import numpy as np
    >>> boxes = np.array([[0.0, 0.0, 1.0, 1.0], [2.0, 0.0, 3.0, 1.0]])
    >>> table = TileTable(np.array([0, 3, 5]), boxes)
    >>> table.intersecting(0.5, 0.0, 1.5, 9.0).tolist(), table.runs([0, 1])
    ([0], [(0, 5)])
    """

    ptr: NDArray[np.int64]
    """(T + 1,) tile t is rows ptr[t]:ptr[t + 1]."""
    bounds: NDArray[np.float64]
    """(T, 4) tight boxes xmin, ymin, xmax, ymax; micrometres, or source units where unknown."""
    code: NDArray[np.uint64] | None = None
    """(T,) smallest Morton code of the tile's square; None for row blocks."""
    level: NDArray[np.uint8] | None = None
    """(T,) level of the tile's square; None for row blocks."""
    frame: Frame | None = None
    """The square that levels and codes divide; None for row blocks."""

    def __len__(self) -> int:
        return self.ptr.size - 1

    @property
    def n_cells(self) -> NDArray[np.int64]:
        """(T,) rows of each tile."""
        return np.diff(self.ptr)

    def runs(self, tile_ids: Iterable[int]) -> list[tuple[int, int]]:
        """Row runs of some tiles, ascending, touching ones joined."""
        ids = sorted({int(t) for t in tile_ids})
        return merge_runs((int(self.ptr[t]), int(self.ptr[t + 1])) for t in ids)

    def owner(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """(m,) tile of each row."""
        return np.searchsorted(self.ptr, rows, side="right").astype(np.int64) - 1

    def intersecting(self, xmin: float, ymin: float, xmax: float, ymax: float) -> NDArray[np.int64]:
        """Tiles whose tight box meets a closed box, ascending."""
        b = self.bounds
        hit = (b[:, 0] <= xmax) & (b[:, 2] >= xmin) & (b[:, 1] <= ymax) & (b[:, 3] >= ymin)
        return np.flatnonzero(hit)

    def squares(self) -> NDArray[np.float64]:
        """(T, 4) squares of the quadtree leaves, in the units of the bounds."""
        if self.code is None or self.level is None or self.frame is None:
            raise InvalidArgument("row blocks have no squares; ask the tiles of the section")
        origin = np.stack([_compact(self.code), _compact(self.code >> np.uint64(1))], axis=1)
        unit = self.frame.side / float(2**DEPTH)
        low = origin * unit + np.array([self.frame.x, self.frame.y])
        side = self.frame.side / 2.0 ** self.level.astype(np.float64)
        return np.concatenate([low, low + side[:, None]], axis=1)


def _compact(code: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Every second bit of a code, packed: the inverse of spreading."""
    bits = code & np.uint64(0x5555555555555555)
    for shift, mask in (
        (1, 0x3333333333333333),
        (2, 0x0F0F0F0F0F0F0F0F),
        (4, 0x00FF00FF00FF00FF),
        (8, 0x0000FFFF0000FFFF),
        (16, 0x00000000FFFFFFFF),
    ):
        bits = (bits | (bits >> np.uint64(shift))) & np.uint64(mask)
    return bits.astype(np.float64)
