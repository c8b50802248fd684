"""Shapes of the first SpatialData releases: ragged arrays in Zarr instead of GeoParquet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError
from .frame import read_text
from .reader import faults_of

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["RaggedOutlines", "RaggedShapes", "is_ragged", "read_ragged"]

_LEVELS = {0: 0, 3: 2, 6: 3}  # offsets of points, polygons, multipolygons
_ROWS = 100_000
_MOST = 2**33  # bytes of an array


@dataclass(frozen=True, slots=True)
class RaggedShapes:
    """A shapes element, in its own coordinates."""

    shapes: NDArray[np.object_]
    """(n,) shapely geometries."""
    index: Any
    """(n,) instance keys."""
    radius: NDArray[np.float64] | None
    """(n,) of points."""


def is_ragged(path: Path, name: str) -> bool:
    """Whether a shapes element is stored as ragged arrays."""
    return any(
        (path / "shapes" / name / "coords" / mark).is_file() for mark in (".zarray", "zarr.json")
    )


def read_ragged(path: Path, name: str) -> RaggedShapes:
    """Read an element; memory: all its shapes, as GeoParquet would take.

    Raises
    ------
    InputError
        Its arrays are missing, of other lengths, or their offsets do not ascend.
    """
    import shapely
    import zarr
    from zarr.storage import LocalStore

    where = path / "shapes" / name
    with faults_of(where, "shapes as ragged arrays"):
        group = zarr.open_group(LocalStore(where, read_only=True), mode="r")
        attrs: Any = group.attrs.asdict().get("spatialdata_attrs") or {}
        kind = int((attrs.get("geos") or {}).get("type", -1))
        if kind not in _LEVELS:
            raise InputError(
                Fault(str(where), f"expected points, polygons or multipolygons, but got {kind}")
            )
        arrays: dict[str, Any] = dict(group.arrays())
        for key, node in arrays.items():
            if int(np.prod(node.shape, dtype=np.float64)) * 8 > _MOST:
                raise InputError(Fault(f"{where}/{key}", f"expected shapes, but got {node.shape}"))
        index = _index(arrays["Index"])
        coords = np.asarray(arrays["coords"][:], np.float64)
        offsets = [np.asarray(arrays[f"offset{k}"][:]).ravel() for k in range(_LEVELS[kind])]
        _check(str(where), coords, offsets, len(index))
        types = shapely.GeometryType(kind)
        shapes = shapely.from_ragged_array(types, coords, tuple(offsets) if offsets else None)
        radius = None
        if kind == 0:
            radius = np.asarray(arrays["radius"][:], np.float64)
            if radius.shape != (len(index),):
                raise InputError(
                    Fault(f"{where}/radius", f"expected {len(index)}, but got {radius.shape}")
                )
        return RaggedShapes(np.asarray(shapes, object), index, radius)


def _index(node: Any) -> Any:
    if np.dtype(node.dtype).kind in "iu":
        return np.asarray(node[:])
    return np.asarray(read_text(node).to_list(), object)


def _check(where: str, coords: NDArray[Any], offsets: list[NDArray[Any]], n: int) -> None:
    """Refuse offsets that lead out of their arrays: the library behind would read beyond them."""
    if coords.ndim != 2 or coords.shape[1] not in {2, 3}:
        raise InputError(Fault(f"{where}/coords", f"expected (n, 2), but got {coords.shape}"))
    inner = len(coords)
    for level, ends in enumerate(offsets):
        sound = ends.size >= 1 and ends.dtype.kind in "iu" and int(ends[0]) == 0
        if not sound or (np.diff(ends.astype(np.int64)) < 0).any() or int(ends[-1]) != inner:
            raise InputError(
                Fault(
                    f"{where}/offset{level}",
                    f"expected offsets that ascend from 0 to {inner}, but got others; the store is "
                    "damaged: copy it again",
                )
            )
        inner = ends.size - 1
    if inner != n:
        raise InputError(Fault(f"{where}/Index", f"expected {inner} keys, but got {n}"))


@dataclass(frozen=True, slots=True)
class RaggedOutlines:
    """An element beside that of the cells, moved; read when it is written."""

    path: Path
    name: str
    matrix: NDArray[np.float64]

    def tables(self) -> Iterator[pa.Table]:
        """Yield shapes as well-known binary."""
        import pyarrow as pa
        import shapely

        found = read_ragged(self.path, self.name)
        factor = float(np.sqrt(abs(np.linalg.det(self.matrix[:2, :2]))))
        for start in range(0, len(found.index), _ROWS):
            rows = slice(start, start + _ROWS)
            moved = shapely.transform(
                found.shapes[rows], lambda xy: xy @ self.matrix[:2, :2].T + self.matrix[:2, 2]
            )
            columns: dict[str, Any] = {"geometry": pa.array(shapely.to_wkb(moved), pa.binary())}
            if found.radius is not None:
                columns["radius"] = pa.array(found.radius[rows] * factor)
            columns["instance"] = pa.array(found.index[rows].tolist())
            yield pa.table(columns)
