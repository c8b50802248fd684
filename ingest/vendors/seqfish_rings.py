"""Borders of cells in GeoJSON, in the order of the cells or named by a number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ..reader import faults_of
from ..ring_checks import largest_first
from ..source import RingPiece, RingsSource
from .geojson_features import feature_rings, feature_texts
from .stereoseq_molecules import decimal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..source import StringValues

__all__ = ["geojson_rings"]

_KEYS = ("label", "cell", "cell_id", "cellid", "id", "instance_id")


def geojson_rings(path: Path, ids: StringValues, listed: NDArray[np.int64]) -> RingsSource:
    """Read borders as rings; features that name their cell are matched, others go by their order.

    Parameters
    ----------
    path : Path
        GeoJSON.
    ids : StringValues, (n,)
        Cells.
    listed : ndarray, int64
        Row for each cell of a longer list, -1 for cells that are not among them; features go by
        its order where they are as many.

    Raises
    ------
    InputError
        No GeoJSON, or features without names that are fewer or more than the cells.
    """
    key, n = None, 0
    for lines in feature_texts(path):
        if n == 0:
            key = _key(lines, path)
        n += lines.count(b"\n") + 1
        if key is not None:
            break
    if key is not None:
        return RingsSource(partial(_named, path, key, ids))
    if n not in {len(ids), listed.size}:
        raise InputError(
            Fault(
                str(path),
                f"expected a border for each of {len(ids)} cells, since none names its cell, but "
                f"got {n}",
            )
        )
    note = f"borders of {path.name} name no cells: taken in the order of the cells"
    rows = np.arange(n) if n == len(ids) else listed
    return RingsSource(partial(_ordered, path, rows), notes=(note,))


def _key(lines: bytes, path: Path) -> str | None:
    """Property of the first feature that names its cell."""
    with faults_of(path, "GeoJSON features", parsing=True):
        feature = json.loads(lines.split(b"\n", 1)[0])
    properties = feature.get("properties") if isinstance(feature, dict) else None
    if not isinstance(properties, dict):
        return None
    return next(
        (
            name
            for name, value in properties.items()
            if name.casefold() in _KEYS and isinstance(value, int) and not isinstance(value, bool)
        ),
        None,
    )


def _named(path: Path, key: str, ids: StringValues) -> Iterator[RingPiece]:
    for rings in feature_rings(path, key):
        rows = decimal(rings.ids).find_in(ids)
        yield RingPiece(rows, rings.counts, rings.vertices, rings.n_further)


def _ordered(path: Path, rows: NDArray[np.int64]) -> Iterator[RingPiece]:
    """Outer rings of features that are cells `rows`; of several polygons the largest."""
    import shapely

    start = 0
    for lines in feature_texts(path):
        with faults_of(path, "polygons of GeoJSON", parsing=True):
            shapes = shapely.from_geojson(lines.split(b"\n"))
            # A feature is a collection of its one geometry.
            parts, owner = shapely.get_parts(shapes, return_index=True)
            inner, index = shapely.get_parts(parts, return_index=True)
            owner = owner[index]
            chosen = largest_first(shapely.area(inner), owner)
            own = owner[chosen]
            rings = shapely.get_exterior_ring(inner[chosen])
            counts = shapely.get_num_coordinates(rings).astype(np.int64)
            vertices = shapely.get_coordinates(rings)
        further = len(inner) - len(chosen)
        yield RingPiece(rows[start + own], counts, vertices, further)
        start += len(shapes)
