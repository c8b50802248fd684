"""Points, label images and further shapes of a SpatialData store, streamed into micrometers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError
from ..atlas.images import Affine
from ..atlas.labels import LazyLabels
from ..atlas.outlines import OutlinesSource
from ..atlas.points import PointsSource
from ..atlas.section_write import REGION
from .ngff import depth_scale
from .reader import faults_of
from .sdata_elements import ZarrImage, ZarrNode, check_chunks, element_systems, multiscale
from .sdata_ragged import RaggedOutlines, is_ragged

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["Target", "read_labels", "read_outlines", "read_points"]

_BATCH_ROWS = 1 << 16
_OUTLINE_ROWS = 1 << 13


@dataclass(frozen=True, slots=True)
class Target:
    """Where elements go: the system they must lie in, and from there to stored coordinates."""

    system: str
    """Coordinate system of the cells."""
    place: NDArray[np.float64]
    """(3, 3) that system to the coordinates of the section."""
    scale: float = 1.0
    """Length of one unit of the system in the section, for depths."""


def _elements(
    root: Any, kind: str, target: Target, notes: list[str]
) -> Iterator[tuple[str, Any, NDArray[np.float64]]]:
    """Elements of a kind that lie in the system, with their matrix to stored coordinates."""
    group = root[kind] if kind in root else {}  # noqa: SIM401 - no `get` in zarr
    for name in group:
        matrices = element_systems(group[name])
        if target.system in matrices:
            yield name, group[name], target.place @ matrices[target.system]
        else:
            notes.append(f"{kind} {name!r} left out: it does not lie in {target.system!r}")


def read_points(
    root: Any, path: Path, target: Target, cell_column: str, notes: list[str]
) -> dict[str, PointsSource]:
    """Find the points that lie in a coordinate system; only footers of files are read.

    Parameters
    ----------
    root : zarr.Group
        The store.
    path : Path
        Where it is.
    target : Target
        Coordinates of the section.
    cell_column : str
        Obs column that holds the values of the points' instance key; "" for the cell ids.
    notes : list
        Receives what is left out.
    """
    found: dict[str, PointsSource] = {}
    for name, element, matrix in _elements(root, "points", target, notes):
        folder = path / "points" / name / "points.parquet"
        with faults_of(folder, "points"):
            table = _Files(folder, tuple(_files(folder)))
            attrs = element.attrs.asdict()
            keys = attrs.get("spatialdata_attrs") or {}
            schema, n_rows, box = table.survey()
            moved = _Moved(table, matrix, target.scale * depth_scale(attrs, target.system))
            instance = str(keys.get("instance_key") or "")
            if not instance and "cell_id" in schema.names:
                instance = "cell_id"
            feature = str(keys.get("feature_key") or "")
            found[_stored(name, "points")] = PointsSource(
                moved.batches,
                feature if feature in schema.names else "",
                instance if instance in schema.names else "",
                cell_column,
                None if box is None else _moved_box(matrix, box),
                n_rows,
            )
    return found


def _stored(name: str, kind: str) -> str:
    """Name in the section, where `cells` are the shapes of the table."""
    return f"{name}_{kind}" if name == REGION else name


def _files(folder: Path) -> list[Path]:
    """Parquet files in the order of their numbers."""
    files = [folder] if folder.is_file() else list(folder.rglob("*.parquet"))
    if not files:
        raise InputError(Fault(str(folder), "expected Parquet files of points, but got none"))

    def number(file: Path) -> list[Any]:
        return [int(w) if w.isdigit() else w for w in re.split(r"(\d+)", str(file))]

    return sorted(files, key=number)


@dataclass(frozen=True, slots=True)
class _Files:
    """Parquet files of one element; picklable."""

    folder: Path
    files: tuple[Path, ...]

    def survey(self) -> tuple[pa.Schema, int, tuple[float, float, float, float] | None]:
        """Tell schema, rows and extent in the element's coordinates; reads x and y if it must."""
        import pyarrow.parquet as pq

        n_rows, schema = 0, None
        low, high = np.full(2, np.inf), np.full(2, -np.inf)
        for path in self.files:
            with pq.ParquetFile(path) as file:
                schema = schema or file.schema_arrow
                n_rows += file.metadata.num_rows
                for axis, name in enumerate("xy"):
                    ends = _extremes(file, name)
                    low[axis], high[axis] = (
                        np.fmin(low[axis], ends[0]),
                        np.fmax(high[axis], ends[1]),
                    )
        assert schema is not None
        sound = np.isfinite([low, high]).all() and (low <= high).all()
        box = (float(low[0]), float(low[1]), float(high[0]), float(high[1])) if sound else None
        return schema, n_rows, box

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows in batches of one schema, without the index of pandas."""
        import pyarrow.parquet as pq

        names: list[str] | None = None
        with faults_of(self.folder, "points"):
            for path in self.files:
                with pq.ParquetFile(path) as file:
                    if names is None:
                        every = file.schema_arrow.names
                        names = [name for name in every if not name.startswith("__")]
                    yield from file.iter_batches(_BATCH_ROWS, columns=names, use_threads=False)


def _extremes(file: Any, name: str) -> tuple[float, float]:
    """Smallest and largest value of a column, from statistics where every row group has them."""
    if name not in file.schema_arrow.names:
        raise InputError(Fault("points", f"expected a column {name!r}, but got none"))
    at = file.schema_arrow.names.index(name)
    groups = (file.metadata.row_group(i).column(at) for i in range(file.metadata.num_row_groups))
    found = [g.statistics for g in groups if g.num_values]
    if all(one is not None and one.has_min_max for one in found):
        ends = [(float(one.min), float(one.max)) for one in found]
        return min((e[0] for e in ends), default=np.inf), max((e[1] for e in ends), default=-np.inf)
    low, high = np.inf, -np.inf
    for batch in file.iter_batches(_BATCH_ROWS, columns=[name], use_threads=False):
        values = np.asarray(batch.column(0).to_numpy(zero_copy_only=False), np.float64)
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high


@dataclass(frozen=True, slots=True)
class _Moved:
    """Points in the coordinates of the section; picklable."""

    files: _Files
    matrix: NDArray[np.float64]
    depth: float

    def batches(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        plain = np.array_equal(self.matrix, np.eye(3)) and self.depth == 1.0
        for batch in self.files.batches():
            floats = all(pa.types.is_floating(batch.column(n).type) for n in "xy")
            yield batch if plain and floats else self._move(batch)

    def _move(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        import pyarrow as pa

        names = batch.schema.names
        arrays = list(batch.columns)
        xy = np.stack(
            [np.asarray(batch.column(n).to_numpy(zero_copy_only=False), np.float64) for n in "xy"],
            axis=1,
        )
        moved = xy @ self.matrix[:2, :2].T + self.matrix[:2, 2]
        for axis, name in enumerate("xy"):
            arrays[names.index(name)] = pa.array(np.ascontiguousarray(moved[:, axis]))
        if "z" in names and self.depth != 1.0:
            z = batch.column("z").to_numpy(zero_copy_only=False)
            arrays[names.index("z")] = pa.array(np.asarray(z, np.float64) * self.depth)
        return pa.RecordBatch.from_arrays(arrays, names)


def _moved_box(
    matrix: NDArray[np.float64], box: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """Box around a moved box."""
    x0, y0, x1, y1 = box
    corners = np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]]) @ matrix[:2, :2].T + matrix[:2, 2]
    (left, low), (right, high) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return left, low, right, high


def read_labels(root: Any, path: Path, target: Target, notes: list[str]) -> dict[str, LazyLabels]:
    """Find the label images that lie in a coordinate system; nothing is decoded."""
    found: dict[str, LazyLabels] = {}
    for name, element, matrix in _elements(root, "labels", target, notes):
        scales = multiscale(element.attrs.asdict())
        if scales is None:
            notes.append(f"labels {name!r} left out: they are no pyramid")
            continue
        axes = "".join(axis["name"] for axis in scales["axes"])
        key = f"labels/{name}/{scales['datasets'][0]['path']}"
        array = root[key]
        check_chunks(array, str(path))
        wide = [n for axis, n in zip(axes, array.shape, strict=True) if axis not in "yx" and n != 1]
        if array.dtype.kind not in "iu" or wide:
            notes.append(f"labels {name!r} left out: {array.dtype} of axes {axes} is no plane")
            continue
        (a, b, c), (d, e, f) = matrix[:2].tolist()
        affine: Affine = ((a, b, c), (d, e, f))
        found[_stored(name, "labels")] = LazyLabels(
            ZarrImage(ZarrNode(path, key), axes, ()), affine
        )
    return found


def read_outlines(
    root: Any, path: Path, target: Target, taken: tuple[str, ...], notes: list[str]
) -> dict[str, OutlinesSource]:
    """Find the shapes beside those of the cells (`taken`); nothing is read."""
    found: dict[str, OutlinesSource] = {}
    for name, _, matrix in _elements(root, "shapes", target, notes):
        file = path / "shapes" / name / "shapes.parquet"
        if name in taken:
            continue
        if is_ragged(path, name):
            found[_stored(name, "shapes")] = OutlinesSource(
                RaggedOutlines(path, name, matrix).tables
            )
            continue
        if not file.is_file():
            notes.append(f"shapes {name!r} left out: they are not stored as one GeoParquet file")
            continue
        found[_stored(name, "shapes")] = OutlinesSource(_Shapes(file, matrix).tables)
    return found


@dataclass(frozen=True, slots=True)
class _Shapes:
    """A GeoParquet file with its shapes moved; picklable."""

    file: Path
    matrix: NDArray[np.float64]

    def tables(self) -> Iterator[pa.Table]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with faults_of(self.file, "shapes"), pq.ParquetFile(self.file) as file:
            kept = {k: v for k, v in (file.schema_arrow.metadata or {}).items() if k != b"geo"}
            for batch in file.iter_batches(_OUTLINE_ROWS, use_threads=False):
                table = pa.Table.from_batches([batch])
                yield self._moved(table).replace_schema_metadata(kept)

    def _moved(self, table: pa.Table) -> pa.Table:
        import pyarrow as pa
        import shapely

        at = table.schema.get_field_index("geometry")
        if at < 0:
            raise InputError(Fault(str(self.file), "expected a column 'geometry', but got none"))
        shapes = shapely.from_wkb(table.column(at).to_numpy(zero_copy_only=False))
        moved = shapely.transform(
            shapes, lambda xy: xy @ self.matrix[:2, :2].T + self.matrix[:2, 2]
        )
        table = table.set_column(at, "geometry", pa.array(shapely.to_wkb(moved), pa.binary()))
        radius = table.schema.get_field_index("radius")
        if radius >= 0:
            factor = float(np.sqrt(abs(np.linalg.det(self.matrix[:2, :2]))))
            sizes = np.asarray(table.column(radius).to_numpy(), np.float64) * factor
            table = table.set_column(radius, "radius", pa.array(sizes))
        return table
