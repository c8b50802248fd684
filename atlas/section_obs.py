"""Writing obs columns in row order, in AnnData's encodings, with their per-tile statistics."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .codecs import column_grid
from .section_columns import (
    BooleanValues,
    CategoricalValues,
    ColumnValues,
    NumericValues,
    StringValues,
)
from .section_shards import ArrayWriter, TextWriter, write_array
from .section_write import encoded, group, write_strings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OBS", "OBS_STATISTICS", "ColumnArrays", "write_column"]

OBS = "tables/table/obs"
"""Folder of obs columns in a section."""
OBS_STATISTICS = "tisseract/stats/obs"
"""Folder of their statistics."""

_TEXT_ROWS = 1 << 16  # strings permuted at a time; a whole number of chunks
_TEXT_BYTES = 8 << 20  # of them, where they are long
_MAX_HISTOGRAM = 1024  # above this many categories a histogram per tile costs more than it prunes
_MAX_LISTED = 64  # categories named in the catalog entry; longer lists stay in the section


@dataclass(frozen=True, slots=True)
class ColumnArrays:
    """Where an obs column went, and what the catalog says about it."""

    arrays: dict[str, dict[str, object]]
    """Layout of each array by its path in the section."""
    info: dict[str, Any]
    """Kind, dtype, extremes or categories, missing values."""


def write_column(
    path: Path,
    name: str,
    values: ColumnValues,
    order: NDArray[np.integer],
    ptr: NDArray[np.int64],
    *,
    pool: Executor | None = None,
    table: str = OBS,
    stats: str = OBS_STATISTICS,
) -> ColumnArrays:
    """Write one obs column and its per-tile statistics.

    Parameters
    ----------
    path : Path
        The section's container.
    name : str
        Name on disk, as `obs_names.stored_names` chose it.
    values : ColumnValues
        The column in source order.
    order : (n,) integer
        Source row of each row.
    ptr : (T + 1,) int64
        Tile rows.
    pool : Executor, optional
        Threads that encode.
    table, stats : str
        Folders of the column and of its statistics in the container.

    Returns
    -------
    ColumnArrays
        Memory: the column permuted, 16 bytes a row at most.
    """
    writer = _Column(path, (f"{table}/{name}", f"{stats}/{name}"), order, ptr, pool)
    if isinstance(values, StringValues):
        return writer.strings(values)
    if isinstance(values, CategoricalValues):
        return writer.categorical(values)
    if isinstance(values, BooleanValues):
        return writer.boolean(values)
    return writer.numeric(values)


class _Column:
    """The places of one column: AnnData's in the table, statistics in the index."""

    def __init__(
        self,
        path: Path,
        places: tuple[str, str],
        order: NDArray[np.integer],
        ptr: NDArray[np.int64],
        pool: Executor | None,
    ) -> None:
        self._path, self._order, self._ptr = path, order, ptr
        self._pool = pool
        self._table, self._stats = places
        self._arrays: dict[str, dict[str, object]] = {}

    def numeric(self, values: NumericValues) -> ColumnArrays:
        """Plain array, or values and mask when integers are missing."""
        column = values.values
        if column.dtype.itemsize * (column.dtype.kind == "f") not in (0, 4, 8):
            column = column.astype(np.float32 if column.dtype.itemsize < 4 else np.float64)
        missing = self._masked("nullable-integer", column, values.mask)
        permuted = column[self._order]
        if missing is None and column.dtype.kind == "f":
            missing = np.isnan(permuted)
        low, high = self._extremes(permuted, missing)
        info = self._info("numeric", missing, dtype=column.dtype.name)
        known = ~np.isnan(low)
        # An infinite bound is no JSON; left out, it bounds nothing.
        if known.any() and np.isfinite([low[known].min(), high[known].max()]).all():
            info |= {"min": float(low[known].min()), "max": float(high[known].max())}
        return ColumnArrays(self._arrays, info)

    def boolean(self, values: BooleanValues) -> ColumnArrays:
        """Plain array, or values and mask when some are missing; histogram over False and True."""
        missing = self._masked("nullable-boolean", values.values, values.mask)
        codes = values.values[self._order].astype(np.int8)
        if missing is not None:
            codes[missing] = -1
        self._histogram(codes, 2)
        return ColumnArrays(self._arrays, self._info("boolean", missing, dtype="bool"))

    def categorical(self, values: CategoricalValues) -> ColumnArrays:
        """Codes and categories; histogram over the categories unless they are too many."""
        folder = self._path / self._table
        group(folder, **encoded("categorical", "0.2.0", ordered=values.ordered))
        write_strings(folder / "categories", values.categories)
        length = len(values.categories)
        self._note(f"{self._table}/categories", (length,), "string", length, length)
        codes = values.codes[self._order]
        self._row_array(f"{self._table}/codes", codes, encoded("array", "0.2.0"))
        n = len(values.categories)
        if 0 < n <= _MAX_HISTOGRAM:
            self._histogram(codes, n)
        missing = codes < 0
        info = self._info("categorical", missing, dtype=codes.dtype.name)
        info |= {"n_categories": n, "ordered": values.ordered}
        if n <= _MAX_LISTED:
            info["categories"] = list(values.categories)
        return ColumnArrays(self._arrays, info)

    def strings(self, values: StringValues) -> ColumnArrays:
        """Variable-length UTF-8; no statistics but the number of missing ones."""
        path, missing = self._table, None
        attributes = encoded("string-array", "0.2.0")
        if values.mask is not None and values.mask.any():
            group(self._path / path, **encoded("nullable-string-array", **{"na-value": "NaN"}))
            missing = values.mask[self._order]
            self._row_array(f"{path}/mask", missing, encoded("array", "0.2.0"))
            path = f"{path}/values"
        n = len(values)
        grid = column_grid(n, 1)
        writer = TextWriter(self._path / path, n, grid, pool=self._pool, attributes=attributes)
        with writer:
            mean = max(1, values.text.size // max(1, n))
            step = min(_TEXT_ROWS, max(1, _TEXT_BYTES // mean // grid.chunk) * grid.chunk)
            for start in range(0, n, step):
                writer.append(values.take(self._order[start : start + step]))
        self._note(path, (n,), "string", grid.chunk, grid.shard)
        return ColumnArrays(self._arrays, self._info("string", missing))

    def _masked(
        self, encoding: str, column: NDArray[Any], mask: NDArray[np.bool_] | None
    ) -> NDArray[np.bool_] | None:
        """Write the values, as a group with a mask where some are missing; return that mask."""
        path, missing = self._table, None
        if mask is not None and mask.any():
            missing = mask[self._order]
            if column.dtype.kind == "f":
                column = np.where(mask, np.nan, column)
            else:
                group(self._path / path, **encoded(encoding))
                self._row_array(f"{path}/mask", missing, encoded("array", "0.2.0"))
                path = f"{path}/values"
        self._row_array(path, column[self._order], encoded("array", "0.2.0"))
        return missing

    def _row_array(self, path: str, rows: NDArray[Any], attributes: dict[str, object]) -> None:
        grid = column_grid(rows.shape[0], rows.dtype.itemsize)
        with ArrayWriter(
            self._path / path, rows.shape, rows.dtype, grid, pool=self._pool, attributes=attributes
        ) as writer:
            writer.append(rows)
        self._note(path, rows.shape, rows.dtype.name, grid.chunk, grid.shard)

    def _extremes(
        self, rows: NDArray[Any], missing: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Smallest and largest value of each tile as float64; NaN where a tile has none."""
        found = []
        for name, reduce, empty in (("min", np.fmin, np.nan), ("max", np.fmax, np.nan)):
            known = rows.astype(np.float64)
            if missing is not None:
                known[missing] = empty
            found.append(reduce.reduceat(known, self._ptr[:-1]))
            self._tile_array(name, found[-1])
        return found[0], found[1]

    def _histogram(self, codes: NDArray[np.signedinteger], n: int) -> None:
        tiles = self._ptr.size - 1
        tile = np.repeat(np.arange(tiles), np.diff(self._ptr))
        known = codes >= 0
        flat = np.bincount(tile[known] * n + codes[known], minlength=tiles * n)
        self._tile_array("hist", flat.reshape(tiles, n).astype(np.uint32))

    def _info(self, kind: str, missing: NDArray[np.bool_] | None, **more: object) -> dict[str, Any]:
        nulls = 0
        if missing is not None:
            nulls = int(missing.sum())
            if nulls:
                counts = np.add.reduceat(missing, self._ptr[:-1], dtype=np.int64)
                self._tile_array("null", counts.astype(np.uint32))
        return {"kind": kind, "nulls": nulls, "path": self._table, **more}

    def _tile_array(self, name: str, values: NDArray[Any]) -> None:
        if not (self._path / self._stats).is_dir():
            group(self._path / self._stats)
        path = f"{self._stats}/{name}"
        write_array(self._path / path, values)
        self._note(path, values.shape, values.dtype.name, values.shape[0], values.shape[0])

    def _note(self, path: str, shape: tuple[int, ...], dtype: str, chunk: int, shard: int) -> None:
        self._arrays[path] = {
            "shape": list(shape),
            "dtype": dtype,
            "chunk": max(1, chunk),
            "shard": max(1, shard),
        }
