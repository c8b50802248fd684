"""One level of an image pyramid from the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["halved"]


def halved(rows: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Mean of 2 x 2 blocks, rounded for integers; a last odd row or column is left out.

    >>> halved(np.array([[[1, 2], [2, 2]]], np.uint8), 1, 1).tolist()
    [[[2]]]
    """
    rows = rows[:, : 2 * height, : 2 * width]
    if rows.shape[1] < 2 or rows.shape[2] < 2:  # a line of pixels: thin it
        return rows[:, :: 2 if rows.shape[1] > 1 else 1, :: 2 if rows.shape[2] > 1 else 1][
            :, :height, :width
        ]
    wide = np.dtype(f"{rows.dtype.kind}{max(4, min(8, 2 * rows.dtype.itemsize))}")
    total: NDArray[Any] = rows[:, 0::2, 0::2].astype(rows.dtype if wide.kind == "f" else wide)
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        total += rows[:, dy::2, dx::2]
    mean: NDArray[Any] = total / np.float32(4) if rows.dtype.kind == "f" else (total + 2) // 4
    return mean.astype(rows.dtype)
