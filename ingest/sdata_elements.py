"""Elements of a SpatialData store, read without spatialdata: tables, shapes, images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atlas.errors import Fault, InputError
from ..atlas.image_sources import ArrayPixels, LazyImage
from ..atlas.images import Affine, Pixels
from ..atlas.memory import format_bytes, parse_bytes
from .ngff import systems
from .reader import faults_of
from .sdata_ragged import is_ragged, read_ragged
from .source import Polygons

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Outlines",
    "ZarrImage",
    "ZarrNode",
    "check_chunks",
    "element_systems",
    "multiscale",
    "open_store",
    "read_images",
    "read_shapes",
]

_MAX_CHUNK_BYTES = parse_bytes("1 GiB")


@contextmanager
def open_store(path: Path, what: str = "a SpatialData store") -> Iterator[Any]:
    """Open the root group; whatever zarr raises inside the block becomes one InputError.

    Raises
    ------
    InputError
        If it is no Zarr group, breaks off, or holds links that leave it.
    """
    import zarr
    from zarr.storage import LocalStore

    _check_links(path)
    with faults_of(path, what):
        yield zarr.open_group(LocalStore(path, read_only=True), mode="r")


def _check_links(path: Path) -> None:
    """Refuse symbolic links: they could make any file of the machine part of the section."""
    for folder, names, files in os.walk(path, followlinks=False):
        for name in (*names, *files):
            one = Path(folder, name)
            if one.is_symlink():
                raise InputError(
                    Fault(
                        str(one), "expected a file or folder, but got a link; refused, copy it in"
                    )
                )


@dataclass(frozen=True, slots=True)
class ZarrNode:
    """Opens one node of a store that was checked before; picklable."""

    path: Path
    """Root of the store."""
    key: str
    """Group or array."""

    @contextmanager
    def __call__(self) -> Iterator[Any]:
        """Open the node."""
        import zarr
        from zarr.storage import LocalStore

        with faults_of(self.path / self.key, "part of a SpatialData store"):
            root = zarr.open_group(LocalStore(self.path, read_only=True), mode="r")
            yield root[self.key]


def check_chunks(node: Any, where: str) -> None:
    """Refuse arrays below a node whose chunks would not fit into memory once decoded."""
    arrays = [node] if hasattr(node, "shape") else [a for _, a in node.arrays()]
    for array in arrays:
        size = int(np.prod(array.chunks, dtype=np.int64)) * max(1, array.dtype.itemsize)
        if size > _MAX_CHUNK_BYTES:
            raise InputError(
                Fault(
                    f"{where}/{array.path}",
                    f"expected chunks below {format_bytes(_MAX_CHUNK_BYTES)}, but got "
                    f"{format_bytes(size)}; write the store again",
                )
            )


def element_systems(group: Any) -> dict[str, NDArray[np.float64]]:
    """Coordinate systems of an element, with the matrix from its own coordinates to each."""
    attrs = group.attrs.asdict()
    scales = multiscale(attrs)
    try:
        return systems((scales or attrs).get("coordinateTransformations", ()))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(
            Fault(
                str(group.path),
                "expected coordinate transformations as SpatialData writes them, but got "
                f"{type(error).__name__}: {error}",
            )
        ) from error


def multiscale(attrs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """First multiscale entry of a raster element, of NGFF 0.4 or 0.5."""
    entries = attrs.get("ome", attrs).get("multiscales") or [None]
    first = entries[0]
    return first if isinstance(first, Mapping) else None


@dataclass(frozen=True, slots=True)
class Outlines:
    """Cells of a shapes element."""

    instances: Any
    """pandas Index of instance keys."""
    centers: NDArray[np.float64]
    """(n, 2) centroids, in the element's coordinates."""
    radius: NDArray[np.float64] | None
    """(n,) of circles."""
    polygons: Polygons | None
    """Outer rings."""
    notes: tuple[str, ...]
    """What was simplified."""


def read_shapes(path: Path, name: str) -> Outlines:
    """Read a shapes element: circles, polygons, or multipolygons by their largest part.

    Memory: all shapes at once, some 300 bytes a polygon and 16 a vertex.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    import geopandas
    import shapely

    file = path / "shapes" / name / "shapes.parquet"
    with faults_of(file, "shapes"):
        if is_ragged(path, name):
            ragged = read_ragged(path, name)
            sizes = {} if ragged.radius is None else {"radius": ragged.radius}
            frame = geopandas.GeoDataFrame(sizes, geometry=ragged.shapes, index=ragged.index)
        else:
            frame = geopandas.read_parquet(file)
        shapes = np.asarray(frame.geometry.array)
        kinds = shapely.get_type_id(shapes)
        notes: tuple[str, ...] = ()
        if (kinds == 6).any():
            notes = (
                f"{int((kinds == 6).sum())} cells of several parts: the largest is their outline",
            )
            parts, owner = shapely.get_parts(shapes[kinds == 6], return_index=True)
            order = np.lexsort((shapely.area(parts), owner))
            last = np.append(np.flatnonzero(np.diff(owner[order])), len(order) - 1)
            shapes[kinds == 6] = parts[order][last]
        centers = shapely.get_coordinates(shapely.centroid(shapes))
        if len(centers) != len(shapes):
            raise InputError(Fault(str(file), "expected an outline of every cell, but got none"))
        polygons, radius = None, None
        if np.isin(kinds, (3, 6)).all():
            rings = shapely.get_exterior_ring(shapes)
            vertices = shapely.get_coordinates(rings)
            counts = shapely.get_num_coordinates(rings)
            polygons = Polygons(vertices, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
        elif (kinds == 0).all() and "radius" in frame:
            radius = np.asarray(frame["radius"], dtype=np.float64)
        return Outlines(frame.index, centers, radius, polygons, notes)


@dataclass(frozen=True, slots=True)
class ZarrImage:
    """Opens the full resolution of a raster element; picklable."""

    node: ZarrNode
    axes: str
    names: tuple[str, ...]

    @contextmanager
    def __call__(self) -> Iterator[Pixels]:
        """Open the pixels."""
        with self.node() as array:
            size = int(np.prod(array.chunks)) * array.dtype.itemsize
            across = -(-array.shape[-1] // array.chunks[-1])
            yield ArrayPixels(array, self.axes, self.names, held_bytes=size * across)


def read_images(
    root: Any, path: Path, system: str, place: NDArray[np.float64], notes: list[str]
) -> dict[str, LazyImage]:
    """Find the images that lie in a coordinate system; nothing is decoded.

    Parameters
    ----------
    root : zarr.Group
        The store.
    path : Path
        Where it is.
    system : str
        Coordinate system of the cells.
    place : array, (3, 3)
        That system to the coordinates of the section.
    notes : list
        Receives what is left out.
    """
    found: dict[str, LazyImage] = {}
    group = root["images"] if "images" in root else {}  # noqa: SIM401 - no `get` in zarr
    for name in group:
        element = group[name]
        scales = multiscale(element.attrs.asdict())
        matrices = element_systems(element)
        if scales is None or system not in matrices:
            notes.append(f"image {name!r} left out: it does not lie in {system!r}")
            continue
        axes = "".join(axis["name"] for axis in scales["axes"])
        key = f"images/{name}/{scales['datasets'][0]['path']}"
        array = root[key]
        check_chunks(array, str(path))
        if array.dtype.kind not in "fub" or array.dtype.itemsize > (
            8 if array.dtype.kind == "f" else 2
        ):
            notes.append(f"image {name!r} left out: {array.dtype} is not 8 or 16 bit")
            continue
        matrix = place @ matrices[system]
        (a, b, c), (d, e, f) = matrix[:2].tolist()
        affine: Affine = ((a, b, c), (d, e, f))
        names = _channels(element.attrs.asdict())
        found[name] = LazyImage(ZarrImage(ZarrNode(path, key), axes, names), affine)
    return found


def _channels(attrs: Mapping[str, Any]) -> tuple[str, ...]:
    channels = attrs.get("ome", attrs).get("omero", {}).get("channels", ())
    return tuple(str(channel.get("label", i)) for i, channel in enumerate(channels))
