"""Space-filling order: positions to Morton (Z-order) codes, 32 bits an axis, and the row order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DEPTH", "LARGEST_COORDINATE", "Frame", "encode", "order"]

DEPTH = 32
"""Levels of the quadtree: bits of one axis in a code."""

LARGEST_COORDINATE = 1e15
"""Beyond it, float64 no longer tells apart positions one unit away from each other."""

_BLOCK = 1 << 18  # rows encoded at a time, so that temporaries stay at a few megabytes


@dataclass(frozen=True, slots=True)
class Frame:
    """The square that codes divide: its lower corner and its side, in the units of the positions.

    Examples
    --------
    >>> import numpy as np
    >>> Frame.around(np.array([[1.0, 2.0], [4.0, 3.0]]))
    Frame(x=1.0, y=2.0, side=3.0)
    """

    x: float
    """Left edge."""
    y: float
    """Upper edge (y points down)."""
    side: float
    """Length of a side; 1 when all positions coincide."""

    @classmethod
    def around(cls, positions: NDArray[np.float64]) -> Frame:
        """Return the smallest square with the positions' lower corner that holds all of them.

        Raises
        ------
        InputError
            No positions, or some are not finite or absurdly far out; names the first and counts
            them.
        """
        if positions.shape[0] == 0:
            raise InputError("a section needs at least one cell, but got 0", "positions")
        low, high = positions.min(axis=0), positions.max(axis=0)
        # NaN is not below the limit either.
        if not (max(-low.min(), high.max()) <= LARGEST_COORDINATE):
            bad = np.flatnonzero(~(np.abs(positions) <= LARGEST_COORDINATE).all(axis=1))
            raise InputError(
                f"coordinates must be finite and below {LARGEST_COORDINATE:g}, but got "
                f"{positions[bad[0]].tolist()} at row {bad[0]} ({bad.size} of "
                f"{positions.shape[0]} rows); drop those cells or mend the file",
                "positions",
            )
        side = float((high - low).max())
        return cls(float(low[0]), float(low[1]), side if side > 0 else 1.0)


def _spread(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Put a zero before each of the 32 low bits (the classic shift-and-mask ladder)."""
    for shift, mask in (
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    ):
        bits = (bits | (bits << np.uint64(shift))) & np.uint64(mask)
    return bits


def encode(positions: NDArray[np.float64], frame: Frame) -> NDArray[np.uint64]:
    """Morton codes of positions inside a frame; y takes the higher bit of each pair.

    Parameters
    ----------
    positions : (n, 2) float64
        x, y; positions outside the frame are moved to its edge.
    frame : Frame
        The square that is divided `DEPTH` times.

    Returns
    -------
    (n,) uint64
        Codes; memory is 8 n bytes and a few megabytes.

    Examples
    --------
    >>> import numpy as np
    >>> corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> (encode(corners, Frame(0.0, 0.0, 1.0)) >> np.uint64(62)).tolist()
    [0, 1, 2, 3]
    """
    codes = np.empty(positions.shape[0], np.uint64)
    cells = float(2**DEPTH)
    for start in range(0, codes.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        axes = []
        for axis, low in enumerate((frame.x, frame.y)):
            scaled = (positions[block, axis] - low) / frame.side * cells
            axes.append(_spread(np.clip(scaled, 0.0, cells - 1.0).astype(np.uint64)))
        codes[block] = axes[0] | (axes[1] << np.uint64(1))
    return codes


def order(codes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Source rows sorted by (code, source row); 8 n bytes and as much while sorting.

    Examples
    --------
    >>> import numpy as np
    >>> order(np.array([7, 3, 7, 1], dtype=np.uint64)).tolist()
    [3, 1, 0, 2]
    """
    return np.argsort(codes, kind="stable")
