"""The shapes element that a table needs: circles or polygons, streamed to GeoParquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import Fault, InputError
from .section_write import REGION, group

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RingGroup", "default_radius", "element_attributes", "write_circles", "write_polygons"]

_ROW_GROUP = 1 << 13  # rows written at a time, and what a region must decode for each of its edges
_SAMPLE = 4096  # rows, near each other in space, that the default radius looks at


@dataclass(frozen=True, slots=True)
class RingGroup:
    """Outer rings of consecutive rows: one row group of the file."""

    vertices: NDArray[np.float64]
    """(v, 2) x, y in the units of the section's coordinate system, ring after ring."""
    counts: NDArray[np.int64]
    """(m,) vertices of each ring, at least three; the first is not repeated at the end."""
    centers: NDArray[np.float64]
    """(m, 2) positions of the cells."""
    drawn: NDArray[np.bool_]
    """(m,) whether the ring only stands for a boundary that there is not."""


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
    kinds = {"radius": pa.float64()}
    _write(path, batches(), kinds, "Point", positions.shape[0], system, _Extent(box))


def write_polygons(path: Path, groups: Iterable[RingGroup], n_obs: int, system: str) -> None:
    """Write `shapes/cells` as polygons, one row group for each group of rings; holds one.

    How far any boundary reaches from its cell's position is noted in the file, so that a query by
    touching knows how far to look.

    Parameters
    ----------
    path : Path
        The section's container.
    groups : iterable of RingGroup
        Rings of all rows, in row order.
    n_obs : int
        Rows.
    system : str
        Name of the coordinate system.
    """
    import pyarrow as pa

    found = _Extent()

    def batches() -> Iterator[list[pa.Array]]:
        for group_ in groups:
            found.add(group_)
            yield [_polygons(group_)]

    _write(path, batches(), {}, "Polygon", n_obs, system, found)


class _Extent:
    """Box of what was written, and how far it reaches from the cells."""

    def __init__(self, box: NDArray[np.float64] | None = None) -> None:
        self.reach: float | None = None
        self.box = np.array([np.inf, np.inf, -np.inf, -np.inf]) if box is None else box

    def add(self, rings: RingGroup) -> None:
        starts = np.cumsum(rings.counts) - rings.counts
        low = np.minimum.reduceat(rings.vertices, starts)
        high = np.maximum.reduceat(rings.vertices, starts)
        away = max(float((high - rings.centers).max()), float((rings.centers - low).max()))
        self.reach = max(self.reach or 0.0, away)
        self.box[:2] = np.minimum(self.box[:2], low.min(axis=0))
        self.box[2:] = np.maximum(self.box[2:], high.max(axis=0))

    def metadata(self, kind: str) -> dict[str, str]:
        """Describe the geometry for geopandas, and the reach for our own queries."""
        geometry = {
            "encoding": "WKB",
            "crs": None,
            "geometry_types": [kind],
            "bbox": [float(v) for v in self.box],
        }
        geo = {"primary_column": "geometry", "columns": {"geometry": geometry}, "version": "1.1.0"}
        own = {} if self.reach is None else {"tisseract": json.dumps({"reach": self.reach})}
        return {"geo": json.dumps(geo), **own}


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


_HEAD = np.dtype([("order", "u1"), ("kind", "<u4"), ("rings", "<u4"), ("vertices", "<u4")])


def _polygons(rings: RingGroup) -> Any:
    """Well-known binary of polygons: byte order, type 3, one ring, its length, x and y of each."""
    import pyarrow as pa

    counts = rings.counts + 1  # the first vertex once more at the end
    last = np.cumsum(counts) - 1
    own = np.ones(int(counts.sum()), np.bool_)
    own[last] = False
    closed = np.empty((own.size, 2), "<f8")
    closed[own] = rings.vertices
    closed[last] = closed[last - rings.counts]
    heads = np.empty(counts.size, _HEAD)
    heads["order"], heads["kind"], heads["rings"], heads["vertices"] = 1, 3, 1, counts
    offsets = np.zeros(counts.size + 1, np.int32)
    np.cumsum(_HEAD.itemsize + 16 * counts, out=offsets[1:])
    binary = np.empty(int(offsets[-1]), np.uint8)
    # Heads and vertices alternate at odd places; a mask of bytes puts both without a loop.
    in_head = np.zeros(binary.size, np.bool_)
    in_head[offsets[:-1, None] + np.arange(_HEAD.itemsize)] = True
    binary[in_head] = heads.view(np.uint8)
    binary[~in_head] = closed.reshape(-1).view(np.uint8)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(binary)]
    return pa.Array.from_buffers(pa.binary(), counts.size, buffers)


def _write(  # noqa: PLR0917 - private, two callers
    path: Path,
    batches: Iterator[list[Any]],
    extra: dict[str, Any],
    kind: str,
    n: int,
    system: str,
    extent: _Extent,
) -> None:
    """Stream row groups into GeoParquet with the metadata that geopandas reads."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = path / "shapes" / REGION
    group(folder, **element_attributes(system))
    # The index is the row number, so it is described, not stored.
    index = {"kind": "range", "name": None, "start": 0, "stop": n, "step": 1}
    pandas = {"index_columns": [index], "column_indexes": [], "columns": []}
    schema = pa.schema(
        [pa.field("geometry", pa.binary()), *(pa.field(k, v) for k, v in extra.items())],
        metadata={"pandas": json.dumps(pandas)},
    )
    target = folder / "shapes.parquet"
    with pq.ParquetWriter(target, schema, compression="zstd", use_dictionary=["radius"]) as writer:
        for columns in batches:
            table = pa.Table.from_arrays(columns, schema=schema)
            writer.write_table(table, row_group_size=max(1, table.num_rows))
        # Known only now that all went by.
        writer.add_key_value_metadata(extent.metadata(kind))


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
