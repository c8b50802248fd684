"""Obs columns of some rows as pandas arrays of the kind they were ingested with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .statistics import ObsStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .quadtree import Runs
    from .section_arrays import RowArray

__all__ = ["column_frame", "column_statistics"]


def column_frame(
    info: Mapping[str, Any],
    array: Callable[[str], RowArray],
    layouts: Mapping[str, Any],
    runs: Runs | None,
) -> Any:
    """Read one obs column as a pandas array.

    Parameters
    ----------
    info : mapping
        The column's line in the section's index.
    array : callable
        Opens an array of the section by its path.
    layouts : mapping
        Paths that exist.
    runs : row runs, optional
        All rows without.

    Returns
    -------
    pandas or NumPy array
        float or integer; boolean; Categorical; strings; masked kinds where values are missing.
    """
    import pandas as pd

    path, kind = str(info["path"]), info["kind"]
    if kind == "categorical":
        names = info.get("categories")
        if names is None:
            names = array(f"{path}/categories").read().tolist()
        codes = array(f"{path}/codes").read(runs)
        return pd.Categorical.from_codes(codes, names, ordered=bool(info.get("ordered")))
    masked = f"{path}/mask" in layouts
    values = array(f"{path}/values" if masked else path).read(runs)
    mask = array(f"{path}/mask").read(runs) if masked else None
    if kind == "string":
        if mask is not None:
            values[mask] = None
        return pd.array(values, dtype="str")
    if mask is None:
        return values
    if kind == "boolean":
        return pd.arrays.BooleanArray(values, mask)
    return pd.arrays.IntegerArray(np.ascontiguousarray(values), mask)


def column_statistics(
    info: Mapping[str, Any],
    array: Callable[[str], RowArray],
    layouts: Mapping[str, Any],
    n_tiles: int,
    categories: tuple[str, ...] | None,
) -> ObsStatistics:
    """Read the statistics of each tile of one obs column; what its kind does not have is None."""
    folder = "tisseract/stats/obs/" + str(info["path"]).rsplit("/", 1)[-1]

    def part(name: str) -> NDArray[Any] | None:
        path = f"{folder}/{name}"
        return array(path).read() if path in layouts else None

    low, high, counts, nulls = part("min"), part("max"), part("hist"), part("null")
    if nulls is None:
        nulls = np.zeros(n_tiles, np.uint32)
    return ObsStatistics(str(info["kind"]), nulls, low, high, counts, categories)
