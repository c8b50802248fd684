"""The shapes element that a table needs: circles or polygons, streamed to GeoParquet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import Fault, InputError
from .section_write import REGION, group

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Rings", "default_radius", "element_attributes", "write_circles", "write_polygons"]

_ROW_GROUP = 1 << 13  # rows written at a time, and what a region must decode for each of its edges
_SAMPLE = 4096  # rows, near each other in space, that the default radius looks at
_MIN_VERTICES = 3


@dataclass(frozen=True, slots=True)
class Rings:
    """Outer rings of cells in source order; ring i is vertices[offsets[i]:offsets[i + 1]]."""

    vertices: NDArray[np.float64]
    """(v, 2) x, y in the units of the section's coordinate system."""
    offsets: NDArray[np.int64]
    """(n + 1,) where each ring starts."""


def default_radius(positions: NDArray[np.float64]) -> float:
    """Half the median distance to the nearest neighbor, over a stretch of rows in Morton order.

    Examples
    --------
    >>> import numpy as np
    >>> default_radius(np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]]))
    1.0
    """
    from scipy.spatial import cKDTree

    middle = max(0, positions.shape[0] // 2 - _SAMPLE // 2)
    sample = np.unique(positions[middle : middle + _SAMPLE], axis=0)
    if sample.shape[0] < 2:
        return 1.0
    distances = cKDTree(sample).query(sample, k=2)[0][:, 1]
    return float(np.median(distances)) / 2


def write_circles(
    path: Path,
    positions: NDArray[np.float64],
    order: NDArray[np.integer],
    radius: float | NDArray[np.float64],
    system: str,
) -> None:
    """Write `shapes/cells` as circles in row order; holds one row group.

    Parameters
    ----------
    path : Path
        The section's container.
    positions : (n, 2) float64
        Centers in source order, in the units of `system`.
    order : (n,) integer
        Source row of each row.
    radius : float or (n,) float64
        Radius of every circle, or of each (in source order).
    system : str
        Name of the coordinate system.

    Raises
    ------
    InputError
        A radius that is not above zero.
    """
    import pyarrow as pa

    radii = np.broadcast_to(np.asarray(radius, np.float64), positions.shape[:1])
    if not (np.isfinite(radii).all() and (radii > 0).all()):
        bad = int(np.flatnonzero(~(np.isfinite(radii) & (radii > 0)))[0])
        raise InputError(Fault("radius", f"must be above 0, but got {radii[bad]} at row {bad}"))

    def batches() -> Iterator[list[pa.Array]]:
        for start in range(0, positions.shape[0], _ROW_GROUP):
            rows = order[start : start + _ROW_GROUP]
            yield [_points(positions[rows]), pa.array(radii[rows])]

    box = np.concatenate([positions.min(axis=0), positions.max(axis=0)])
    _write(path, batches(), {"radius": pa.float64()}, "Point", box, positions.shape[0], system)


def write_polygons(
    path: Path,
    rings: Rings,
    positions: NDArray[np.float64],
    order: NDArray[np.integer],
    system: str,
) -> None:
    """Write `shapes/cells` as polygons in row order; holds one row group.

    How far any boundary reaches from its cell's position, (n, 2) in source order, is noted in the
    file, so that a query by touching knows how far to look.

    Raises
    ------
    InputError
        A ring of fewer than three vertices or with coordinates that are not finite.
    """
    import pyarrow as pa

    _check_rings(rings)
    n = rings.offsets.size - 1

    def batches() -> Iterator[list[pa.Array]]:
        for start in range(0, n, _ROW_GROUP):
            yield [_polygons(rings, order[start : start + _ROW_GROUP])]

    box = np.concatenate([rings.vertices.min(axis=0), rings.vertices.max(axis=0)])
    note = {"reach": _reach(rings, positions)}
    _write(path, batches(), {}, "Polygon", box, n, system, note)


def _reach(rings: Rings, positions: NDArray[np.float64]) -> float:
    """Largest distance along x or y of any vertex from the position of its cell."""
    starts = rings.offsets[:-1]
    if not starts.size:
        return 0.0
    high = np.maximum.reduceat(rings.vertices, starts) - positions
    low = positions - np.minimum.reduceat(rings.vertices, starts)
    return max(float(high.max()), float(low.max()))


def _check_rings(rings: Rings) -> None:
    short = np.flatnonzero(np.diff(rings.offsets) < _MIN_VERTICES)
    if short.size:
        raise InputError(
            Fault(
                "shapes",
                f"a boundary needs {_MIN_VERTICES} vertices, but got "
                f"{int(np.diff(rings.offsets)[short[0]])} at row {short[0]} ({short.size} such)",
            )
        )
    if not np.isfinite(rings.vertices).all():
        raise InputError(Fault("shapes", "boundary coordinates must be finite"))


def _points(positions: NDArray[np.float64]) -> Any:
    """Well-known binary of points: byte order, type 1, x, y."""
    import pyarrow as pa

    record = np.dtype([("order", "u1"), ("kind", "<u4"), ("x", "<f8"), ("y", "<f8")])
    points = np.empty(positions.shape[0], record)
    points["order"], points["kind"] = 1, 1
    points["x"], points["y"] = positions[:, 0], positions[:, 1]
    offsets = np.arange(points.size + 1, dtype=np.int32) * record.itemsize
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(points.tobytes())]
    return pa.Array.from_buffers(pa.binary(), points.size, buffers)


def _polygons(rings: Rings, rows: NDArray[np.integer]) -> Any:
    """Well-known binary of polygons of some source rows."""
    import pyarrow as pa
    import shapely

    starts, counts = rings.offsets[rows], np.diff(rings.offsets)[rows]
    at = np.arange(int(counts.sum())) + np.repeat(starts - np.cumsum(counts) + counts, counts)
    owner = np.repeat(np.arange(rows.size), counts)
    shapes = shapely.polygons(shapely.linearrings(rings.vertices[at], indices=owner))
    return pa.array(shapely.to_wkb(shapes), type=pa.binary())


def _write(  # noqa: PLR0917 - private, two callers
    path: Path,
    batches: Iterator[list[Any]],
    extra: dict[str, Any],
    kind: str,
    box: NDArray[np.float64],
    n: int,
    system: str,
    note: dict[str, float] | None = None,
) -> None:
    """Stream row groups into GeoParquet with the metadata that geopandas reads."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = path / "shapes" / REGION
    group(folder, **element_attributes(system))
    geometry = {
        "encoding": "WKB",
        "crs": None,
        "geometry_types": [kind],
        "bbox": [float(v) for v in box],
    }
    geo = {"primary_column": "geometry", "columns": {"geometry": geometry}, "version": "1.1.0"}
    # The index is the row number, so it is described, not stored.
    index = {"kind": "range", "name": None, "start": 0, "stop": n, "step": 1}
    pandas = {"index_columns": [index], "column_indexes": [], "columns": []}
    schema = pa.schema(
        [pa.field("geometry", pa.binary()), *(pa.field(k, v) for k, v in extra.items())],
        metadata={
            "geo": json.dumps(geo),
            "pandas": json.dumps(pandas),
            **({} if note is None else {"tisseract": json.dumps(note)}),
        },
    )
    target = folder / "shapes.parquet"
    with pq.ParquetWriter(target, schema, compression="zstd", use_dictionary=["radius"]) as writer:
        for columns in batches:
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def element_attributes(system: str) -> dict[str, object]:
    """Attributes of a shapes element whose coordinates are those of `system`."""
    unit = "micrometer" if system == "microns" else "unit"
    axes = [{"name": axis, "type": "space", "unit": unit} for axis in ("x", "y")]
    transformation = {
        "type": "identity",
        "input": {"name": "xy", "axes": axes},
        "output": {"name": system, "axes": axes},
    }
    return {
        "encoding-type": "ngff:shapes",
        "axes": ["x", "y"],
        "coordinateTransformations": [transformation],
        "spatialdata_attrs": {"version": "0.3"},
    }
