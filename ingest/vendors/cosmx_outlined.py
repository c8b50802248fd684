"""Cells of a CosMx export that lacks its metadata, by their boundaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .cosmx_cells import Metadata
from .cosmx_keys import packed, whole
from .cosmx_table import PIXELS, key_columns, paired

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .table import Table

__all__ = ["cells_by_polygons"]


def cells_by_polygons(table: Table) -> Metadata:
    """Places of cells as the middle of the box around each, which is what the vendor calls center.

    Memory: 80 bytes a cell; vertices are streamed.

    Raises
    ------
    InputError
        No FOV, no number, or ones that are no whole numbers.
    """
    import pyarrow as pa

    names = key_columns(table, **PIXELS)
    wanted = list(names.values())
    pieces = [
        (np.empty(0, np.int64), np.empty((0, len(wanted) - 2)), np.empty((0, len(wanted) - 2)))
    ]
    for batch in table.batches(wanted, dict.fromkeys(wanted, pa.float64())):
        values = np.stack([column.to_numpy(zero_copy_only=False) for column in batch.columns], 1)
        keys = packed(*(whole(values[:, k], f"{table.path}:{wanted[k]}") for k in (0, 1)))
        pieces.append(_boxes(keys, values[:, 2:], values[:, 2:]))
    joined = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    order = np.argsort(joined[0], kind="stable")
    keys, low, high = _boxes(joined[0][order], joined[1][order], joined[2][order])
    middle = {role: (low[:, k] + high[:, k]) / 2 for k, role in enumerate(list(names)[2:])}
    local, glob = paired(middle, "lx", "ly"), paired(middle, "gx", "gy")
    return Metadata(keys >> 32, keys & (2**32 - 1), local, glob, None, None, "", "")


def _boxes(
    keys: NDArray[np.int64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Least and greatest values of each run of equal keys."""
    if not keys.size:
        return keys, low, high
    starts = np.concatenate([[0], np.flatnonzero(np.diff(keys)) + 1])
    return (
        keys[starts],
        np.minimum.reduceat(low, starts, axis=0),
        np.maximum.reduceat(high, starts, axis=0),
    )
