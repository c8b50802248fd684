"""Shapes of the cells of one section, read by rows from its GeoParquet."""

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import Corrupt, MissingKey

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ...atlas.storage import Storage

_LARGEST_EXTENT = 1e15


class CellShapes:
    """Circles or boundaries of a section's cells; rows are those of the section.

    The footer of the file (some hundred bytes a row group) is read once and kept. Of rows, only
    the row groups that hold some are read and decoded; nothing of them is kept.
    """

    def __init__(self, section: "Section", storage: "Storage") -> None:
        self.section, self.storage = section, storage

    def __reduce__(self) -> tuple[type["CellShapes"], tuple["Section", "Storage"]]:
        return type(self), (self.section, self.storage)

    @cached_property
    def _file(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from ...atlas.points_read import RangeFile

        key = f"{self.section.entry.prefix}/shapes/cells/shapes.parquet"
        storage = self.storage
        try:
            path = storage.local_path(key)
            if path is not None:
                file = pq.ParquetFile(path)
            else:
                source = pa.PythonFile(RangeFile(storage, key, storage.size(key)), mode="r")
                file = pq.ParquetFile(source)
        except (MissingKey, FileNotFoundError) as error:
            raise self._corrupt(f"{key} is missing") from error
        except (pa.ArrowInvalid, OSError) as error:
            raise self._corrupt(f"{key} is damaged ({error})") from error
        if file.metadata.num_rows != self.section.n_obs:
            raise self._corrupt(f"{key} has {file.metadata.num_rows} rows, not one a cell")
        return file

    def _corrupt(self, why: str) -> Corrupt:
        return Corrupt(
            f"shapes of section {self.section.name!r} cannot be read, {why}; run "
            "`tisseract verify` and ingest it again"
        )

    @cached_property
    def circles(self) -> bool:
        """Whether cells are circles; they are boundaries otherwise."""
        return "radius" in self._file.schema_arrow.names

    @cached_property
    def reach(self) -> float:
        """How far, along x or y, the shape of any cell reaches from its position at most.

        Of circles from the footer; of boundaries from what ingest noted there, or, in sections
        written before it did, from one pass over all boundaries.
        """
        if self.circles:
            return self._radius_range[1]
        noted = (self._file.schema_arrow.metadata or {}).get(b"tisseract")
        try:
            reach = float(json.loads(noted)["reach"]) if noted else self._measured()
        except (ValueError, KeyError, TypeError) as error:
            raise self._corrupt("its note of reach is not readable") from error
        if not 0 <= reach <= _LARGEST_EXTENT:
            raise self._corrupt(f"its note of reach is {reach}")
        return reach

    @cached_property
    def _radius_range(self) -> tuple[float, float]:
        metadata = self._file.metadata
        column = self._file.schema_arrow.names.index("radius")
        parts = [metadata.row_group(i).column(column) for i in range(metadata.num_row_groups)]
        known = [part.statistics for part in parts]
        if any(one is None or not one.has_min_max for one in known):
            radius = self._file.read(columns=["radius"]).column("radius").to_numpy()
            return float(radius.min()), float(radius.max())
        return min(float(one.min) for one in known), max(float(one.max) for one in known)

    def _measured(self) -> float:
        """Reach of all boundaries, one row group in memory at a time."""
        import shapely

        farthest, start = 0.0, 0
        for i in range(self._file.num_row_groups):
            table = self._file.read_row_group(i, columns=["geometry"])
            shapes = shapely.from_wkb(table.column("geometry").to_numpy(zero_copy_only=False))
            stop = start + len(shapes)
            at = self.section.positions([(start, stop)])
            away = np.abs(shapely.bounds(shapes) - np.concatenate([at, at], axis=1))
            farthest, start = max(farthest, float(np.nanmax(away))), stop
        return farthest

    def radii(self, runs: list[tuple[int, int]]) -> NDArray[np.float64]:
        """Radius of each circle of some rows, (m,); reads nothing if all cells share one."""
        low, high = self._radius_range
        if low == high:
            return np.full(sum(stop - start for start, stop in runs), low)
        return np.asarray(self._rows(runs, "radius"), np.float64)

    def outlines(self, runs: list[tuple[int, int]]) -> NDArray[np.object_]:
        """Boundary of each cell of some rows, (m,) shapely polygons."""
        import shapely

        return np.asarray(shapely.from_wkb(self._rows(runs, "geometry")), dtype=object)

    def _rows(self, runs: list[tuple[int, int]], column: str) -> NDArray[Any]:
        import pyarrow as pa

        metadata = self._file.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = np.concatenate([np.arange(start, stop) for start, stop in runs] or [np.arange(0)])
        owner = np.searchsorted(first, rows, side="right") - 1
        found: list[NDArray[Any]] = []
        for group in np.unique(owner).tolist():
            try:
                values = self._file.read_row_group(group, columns=[column]).column(column)
            except (pa.ArrowInvalid, OSError) as error:
                raise self._corrupt(f"row group {group} is damaged ({error})") from error
            picked = values.take(pa.array(rows[owner == group] - first[group]))
            found.append(picked.to_numpy(zero_copy_only=False))
        return np.concatenate(found) if found else np.zeros(0)
