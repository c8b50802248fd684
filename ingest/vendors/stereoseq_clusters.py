"""Clusters that the SAW pipeline found of the cells of a chip, joined to them by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .h5ad_obs import h5ad_obs
from .joined import JoinedColumn
from .stereoseq_molecules import decimal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..source import ObsColumn, StringValues

__all__ = ["cluster_columns"]

_SHIFT = 32


def cluster_columns(
    path: Path, ids: StringValues, positions: NDArray[np.float64]
) -> tuple[dict[str, ObsColumn], str]:
    """Find the columns of `*.cell.cluster.h5ad` in the order of the cells, and what became of them.

    Its rows are named by the number of the cell, or by its place, `x << 32 | y`.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    names, columns = h5ad_obs(path)
    x, y = positions.astype(np.int64).T
    for own in (ids, decimal(x << _SHIFT | y)):
        rows = own.find_in(names)
        if (rows >= 0).any():
            break
    else:
        return {}, f"{path.name} names none of the cells: clusters are left out"
    found: dict[str, ObsColumn] = {
        name: JoinedColumn(column, rows) for name, column in columns.items()
    }
    lost = int((rows < 0).sum())
    return found, f"{path.name}: {lost} of {rows.size} cells have no row" if lost else ""
