"""First pass: positions to row order and tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..atlas import morton
from ..atlas.morton import Frame
from ..atlas.quadtree import Leaves, split, tight_boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RowOrder", "sort_rows"]

_GROUP_ROWS = 1 << 19  # rows whose positions are gathered at a time


@dataclass(frozen=True, slots=True)
class RowOrder:
    """The order of a section's rows and the tiles over them."""

    order: NDArray[np.uint32]
    """(n,) source row of each row."""
    leaves: Leaves
    """Tiles."""
    tile_bounds: NDArray[np.float64]
    """(T, 4) tight box of each tile."""
    frame: Frame
    """The square that tiles divide."""
    bounds: tuple[float, float, float, float]
    """xmin, ymin, xmax, ymax."""
    located: NDArray[np.float64] | None
    """(n, 2) positions in stored units, in source order; None once they are written."""

    @property
    def positions(self) -> NDArray[np.float64]:
        """Positions in source order; they must not have been dropped."""
        assert self.located is not None
        return self.located

    def without_positions(self) -> RowOrder:
        """Return the same order without holding positions."""
        return replace(self, located=None)

    def rank(self) -> NDArray[np.uint32]:
        """(n,) row that each source row becomes: the inverse of `order`."""
        rank = np.empty_like(self.order)
        rank[self.order] = np.arange(self.order.size, dtype=np.uint32)
        return rank


def sort_rows(
    positions: NDArray[np.float64],
    um_per_unit: float | None,
    y_axis: Literal["down", "up"],
    tile_cells: int,
) -> RowOrder:
    """Sort rows along the space-filling curve and cut them into tiles.

    Parameters
    ----------
    positions : (n, 2) float64
        x, y in source units and order.
    um_per_unit : float, optional
        Scale to micrometers; None leaves source units.
    y_axis : {"down", "up"}
        `up` is negated, as stored y points down.
    tile_cells : int
        Most cells of a tile.

    Returns
    -------
    RowOrder
        Memory: 52 bytes a cell while sorting, 20 after.

    Raises
    ------
    InputError
        No cells, or coordinates that are not finite.
    """
    located = _stored_units(np.asarray(positions, np.float64), um_per_unit, y_axis)
    frame = Frame.around(located)
    codes = morton.encode(located, frame)
    order = morton.order(codes).astype(np.uint32)
    leaves = split(codes[order], tile_cells)
    boxes = _tile_boxes(located, order, leaves.ptr)
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    bounds = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    return RowOrder(order, leaves, boxes, frame, bounds, located)


def _stored_units(
    positions: NDArray[np.float64], um_per_unit: float | None, y_axis: str
) -> NDArray[np.float64]:
    if um_per_unit in {None, 1.0} and y_axis == "down":
        return positions
    scale = 1.0 if um_per_unit is None else um_per_unit
    factors: NDArray[np.float64] = np.array([scale, -scale if y_axis == "up" else scale])
    return positions * factors


def _tile_boxes(
    located: NDArray[np.float64], order: NDArray[np.uint32], ptr: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Tight boxes, a group of tiles at a time."""
    boxes = np.empty((ptr.size - 1, 4))
    start = 0
    while start < ptr.size - 1:
        stop = int(np.searchsorted(ptr, ptr[start] + _GROUP_ROWS, side="right")) - 1
        stop = min(max(stop, start + 1), ptr.size - 1)
        rows = order[ptr[start] : ptr[stop]]
        boxes[start:stop] = tight_boxes(located[rows], ptr[start : stop + 1] - ptr[start])
        start = stop
    return boxes
