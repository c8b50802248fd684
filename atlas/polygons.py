"""Polygons as they come from files: checked, united, told from pixels; GeoJSON taken apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .errors import InvalidArgument

__all__ = [
    "LARGEST",
    "check_reach",
    "checked",
    "describe",
    "features",
    "in_pixels",
    "united",
]

# Squares of such lengths are far from overflow, and no tissue is a million kilometers wide.
LARGEST = 1e15
# Identity of features in files of older versions of QuPath, before objectType.
_QUPATH_ID = re.compile(r"Path\w+Object$")


def check_reach(values: object, what: str) -> None:
    """Refuse coordinates whose squares might overflow.

    Raises
    ------
    InvalidArgument
        One beyond 1e15 in size.
    """
    farthest = float(np.abs(np.asarray(values, np.float64)).max())
    if farthest > LARGEST:
        raise InvalidArgument(
            f"{what} of coordinates below {LARGEST:g} is wanted, but got {farthest:g}; "
            "are they in another unit?"
        )


def checked(geometry: Any, where: str, value: object = None) -> Any:
    """Return a shapely (Multi)Polygon in two dimensions, or say what is wrong with it.

    Parameters
    ----------
    geometry
        Any shapely geometry.
    where
        Put behind the message, such as " (feature 3)".
    value
        What the user gave, for the message.

    Raises
    ------
    InvalidArgument
        See `polygon`.
    """
    import shapely

    given = geometry if value is None else value
    if geometry is None or geometry.is_empty:
        kind = "nothing" if geometry is None else f"an empty {geometry.geom_type}"
        raise InvalidArgument(f"a polygon with an area is wanted, but got {kind}{where}")
    if geometry.geom_type not in ("Polygon", "MultiPolygon"):
        got = describe(geometry.geom_type, given)
        raise InvalidArgument(f"a polygon with an area is wanted, but got {got}{where}")
    geometry = shapely.force_2d(geometry)
    coordinates = shapely.get_coordinates(geometry)
    if not np.isfinite(coordinates).all():
        raise InvalidArgument(
            f"a polygon of finite coordinates is wanted, but got nan or infinity{where}"
        )
    check_reach(coordinates, f"a polygon{where}")
    if not shapely.is_valid(geometry):
        raise InvalidArgument(
            "a polygon that does not cross itself is wanted, but got "
            f"{shapely.is_valid_reason(geometry)}{where}; shapely.make_valid(polygon) mends most, "
            "or draw it again there"
        )
    return geometry


def united(parts: Sequence[Any]) -> Any:
    """Several valid polygons as one geometry; a point lies in it if it lies in one of them."""
    import shapely

    if len(parts) == 1:
        return parts[0]
    # Apart from each other they are a multipolygon as they stand; only others need new vertices.
    pieces = shapely.MultiPolygon(list(shapely.get_parts(parts)))
    return pieces if shapely.is_valid(pieces) else shapely.union_all(parts)


def in_pixels(feature: object) -> bool:
    """Whether a feature of GeoJSON bears the marks of QuPath or Xenium Explorer."""
    if not isinstance(feature, Mapping):
        return False
    properties = feature.get("properties")
    marks = {*feature, *(properties if isinstance(properties, Mapping) else ())}
    return bool(marks & {"objectType", "object_type"}) or bool(
        _QUPATH_ID.match(str(feature.get("id")))
    )


def features(value: Mapping[str, Any]) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Yield the shapely geometry (None where null) and properties of each feature of GeoJSON.

    Raises
    ------
    ValueError, TypeError, KeyError, AttributeError, IndexError
        It is not GeoJSON; callers put it in words.
    """
    import shapely

    kind = value.get("type")
    if kind == "FeatureCollection":
        for feature in value["features"]:
            if feature.get("type") != "Feature":
                raise ValueError(f"a Feature is wanted in features, but got {feature.get('type')}")
            yield from features(feature)
        return
    if kind == "Feature":
        shape = value["geometry"]
        geometry = None if shape is None else shapely.geometry.shape(dict(shape))
        properties = value.get("properties") or {}
        identity = {} if value.get("id") is None else {"id": value["id"]}
        yield geometry, {**identity, **properties}
        return
    yield shapely.geometry.shape(dict(value)), {}


def describe(kind: str, value: object) -> str:
    """Say what was given, in at most 80 letters."""
    text = repr(value)
    return f"{kind} {text if len(text) <= 80 else text[:80] + '...'}"
