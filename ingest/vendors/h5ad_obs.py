"""Columns of the cells of an h5ad file that lies beside a vendor's own files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...atlas.errors import Fault, InputError
from ..frame import LazyColumn, TextColumn, column_names, index_name, kinds, read_column
from ..guard import Hdf5Node, open_hdf5
from ..source import ArrayColumn

if TYPE_CHECKING:
    from ..source import ObsColumn, StringValues

__all__ = ["h5ad_obs"]


def h5ad_obs(path: Path) -> tuple[StringValues, dict[str, ObsColumn]]:
    """Read the names of the cells of an h5ad file, and find their columns.

    Raises
    ------
    InputError
        The file cannot be read, has no obs, or names a cell twice.
    """
    with open_hdf5(path, "an h5ad file") as file:
        if "obs" not in file:
            raise InputError(Fault(str(path), "expected an h5ad file with obs, but got none"))
        frame = file["obs"]
        names = TextColumn(ArrayColumn.of(read_column(frame, index_name(frame)))).read()
        known = kinds(frame)
        node = Hdf5Node(path, "obs")
        columns: dict[str, ObsColumn] = {
            name: LazyColumn(node, name, kind)
            for name in column_names(frame)
            if (kind := known.get(name)) is not None
        }
    if twice := names.repeated():
        raise InputError(
            Fault(f"{path}:obs", f"expected every cell once, but got {twice[0]!r} again")
        )
    return names, columns
