"""Clusters that the SAW pipeline found of the cells of a chip, joined to them by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..frame import LazyColumn, TextColumn, column_names, index_name, kinds, read_column
from ..guard import Hdf5Node, open_hdf5
from ..source import ArrayColumn
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
    with open_hdf5(path, "an h5ad file") as file:
        if "obs" not in file:
            return {}, f"{path.name} has no obs: clusters are left out"
        frame = file["obs"]
        names = TextColumn(ArrayColumn.of(read_column(frame, index_name(frame)))).read()
        known = kinds(frame)
        offered = [name for name in column_names(frame) if known.get(name) is not None]
    x, y = positions.astype(np.int64).T
    for own in (ids, decimal(x << _SHIFT | y)):
        rows = own.find_in(names) if not names.repeated() else np.full(len(own), -1)
        if (rows >= 0).any():
            break
    else:
        return {}, f"{path.name} names none of the cells: clusters are left out"
    node = Hdf5Node(path, "obs")
    found: dict[str, ObsColumn] = {}
    for name in offered:
        kind = known[name]
        assert kind is not None
        found[name] = JoinedColumn(LazyColumn(node, name, kind), rows)
    lost = int((rows < 0).sum())
    return found, f"{path.name}: {lost} of {rows.size} cells have no row" if lost else ""
