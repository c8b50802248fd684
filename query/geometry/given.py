"""Places as users write them: numbers, shapely, GeoJSON, well-known text, files of these."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...atlas.errors import InvalidArgument
from ...atlas.polygons import checked, describe, features, in_pixels, united
from .places import Box, Circle, Place, Polygon

# Files of annotations are some MB; more than this is no annotation.
_LARGEST_FILE = 512 * 2**20
_FORMS = "a polygon (shapely, GeoJSON, WKT, a file of either, or vertices (n, 2)) is wanted"


def polygon(value: object) -> Polygon:
    """Read a polygon from any of its usual forms.

    Parameters
    ----------
    value
        A shapely (Multi)Polygon; a GeoJSON geometry, Feature or FeatureCollection as a mapping
        or text; well-known text; the path of a GeoJSON or WKT file; or vertices (n >= 3, 2).

    Returns
    -------
    Polygon
        All polygons found, as one. Those that overlap or share an edge are united, which rounds
        the points where their edges cross; all others stay as they were given.

    Raises
    ------
    InvalidArgument
        Not a polygon, self-intersecting (the place is named), empty, not finite, or of
        coordinates beyond 1e15.

    Examples
    --------
    >>> polygon([(0, 0), (4, 0), (4, 3)]).bounds
    (0.0, 0.0, 4.0, 3.0)
    >>> print(polygon('{"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 3], [0, 0]]]}'))
    polygon of 4 vertices in box (0, 0, 4, 3)
    """
    import shapely

    geometry = checked(_geometry(value), "", value)
    return Polygon(shapely.to_wkb(geometry))


def _geometry(value: object) -> Any:
    import shapely
    from shapely.errors import ShapelyError
    from shapely.geometry.base import BaseGeometry

    if isinstance(value, BaseGeometry):
        return value
    try:
        if isinstance(value, Mapping):
            return _from_geojson(value)
        if isinstance(value, str | Path):
            return _from_text(value)
        vertices = np.asarray(value, dtype=np.float64)
        if vertices.ndim == 2 and vertices.shape[0] >= 3 and vertices.shape[1] == 2:
            return shapely.Polygon(vertices)
    except InvalidArgument:
        raise
    except (
        ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError,
        OverflowError,
    ) as error:  # fmt: skip
        got = describe(type(value).__name__, value)
        raise InvalidArgument(f"{_FORMS}, but got {got}: {str(error)[:200]}") from error
    raise InvalidArgument(f"{_FORMS}, but got {describe(type(value).__name__, value)}")


def loaded(value: object) -> object:
    """GeoJSON of a text or file as a mapping; whatever else is given, as it is."""
    import json

    if not isinstance(value, str | Path):
        return value
    text = read_text(value)
    if not text.lstrip().startswith(("{", "[")):
        return value
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return value
    # QuPath writes bare lists of features.
    return {"type": "FeatureCollection", "features": found} if isinstance(found, list) else found


def refuse_pixels(value: object, known: Mapping[str, float | None]) -> None:
    """Refuse GeoJSON that bears the marks of a program that writes pixels.

    Parameters
    ----------
    value
        What `loaded` returned; QuPath and Xenium Explorer write an `objectType` to each feature.
    known
        Micrometers per unit of the source, None where unknown, of the sections that are meant.

    Raises
    ------
    InvalidArgument
        It does, and a section is in micrometers; of one section its own factor is named.
    """
    parts = value.get("features", [value]) if isinstance(value, Mapping) else value
    columns = getattr(parts, "columns", None)
    if columns is not None:  # a GeoDataFrame, as geopandas reads the file
        parts = [dict.fromkeys(map(str, columns))]
    known = {name: factor for name, factor in known.items() if factor is not None}
    if not known or not isinstance(parts, list) or not any(map(in_pixels, parts)):
        return
    own = next(iter(known.items()))
    hint = ""
    if len(known) == 1 and own[1] != 1.0:
        hint = f", as {own[1]:.6g} um per pixel of the source of section {own[0]!r}"
    raise InvalidArgument(
        "um_per_unit= is wanted with polygons of QuPath or Xenium Explorer, which write pixels, "
        f"but got none; pass the size of a pixel of that image{hint}; 1 where they are in "
        "micrometers already"
    )


def _from_geojson(value: Mapping[str, Any]) -> Any:
    found = [geometry for geometry, _ in features(value)]
    if not found:
        raise InvalidArgument("a polygon with an area is wanted, but got GeoJSON without features")
    if len(found) == 1:
        return found[0]
    return united([checked(g, f" (feature {i + 1})") for i, g in enumerate(found)])


def read_text(value: str | Path) -> str:
    """Text itself where it is GeoJSON or WKT, else the contents of the file of this name.

    Raises
    ------
    InvalidArgument
        No such file, larger than 512 MB, or not UTF-8.
    """
    text = str(value)
    start = text.lstrip()[:12].upper()
    if not isinstance(value, Path) and start.startswith(("POLYGON", "MULTIPOLYGON", "{")):
        return text
    try:
        path = Path(text)
        if not path.is_file():
            raise InvalidArgument(
                f"a file of GeoJSON or WKT is wanted, but got {text[:200]!r}, which is no file"
            )
        if path.stat().st_size > _LARGEST_FILE:
            raise InvalidArgument(
                f"a file of polygons below 512 MB is wanted, but got {text[:200]!r} of "
                f"{path.stat().st_size:,} bytes"
            )
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(
            f"a file of GeoJSON or WKT is wanted, but got {text[:200]!r}: {str(error)[:200]}"
        ) from error


def _from_text(value: str | Path) -> Any:
    import json

    import shapely

    text = read_text(value)
    if text.lstrip().startswith("{"):
        return _from_geojson(json.loads(text))
    with np.errstate(invalid="ignore"):  # nan is refused below, with words
        return shapely.from_wkt(text)


def place(
    *,
    bbox: Sequence[float] | None = None,
    polygon_like: object = None,
    circle: Sequence[float] | None = None,
    um_per_unit: float | None = None,
) -> Place:
    """Make the one place that was described, in units of `um_per_unit` micrometers (1).

    Raises
    ------
    InvalidArgument
        None or several were given, or numbers are missing.

    Examples
    --------
    >>> print(place(circle=(0, 0, 50)))
    circle (0, 0) radius 50
    """
    given = [v for v in (bbox, polygon_like, circle) if v is not None]
    if len(given) != 1:
        raise InvalidArgument(
            f"exactly one of bbox=, polygon= and circle= is wanted, but got {len(given)}"
        )
    scale = 1.0 if um_per_unit is None else factor(um_per_unit)
    if bbox is not None:
        return Box(*(v * scale for v in _numbers(bbox, 4, "bbox=(xmin, ymin, xmax, ymax)")))
    if circle is not None:
        return Circle(*(v * scale for v in _numbers(circle, 3, "circle=(x, y, radius)")))
    found = polygon(polygon_like)
    if scale == 1.0:
        return found
    import shapely

    return polygon(shapely.transform(found.geometry, lambda xy: xy * scale))


def factor(um_per_unit: object) -> float:
    """Check micrometers per unit.

    Raises
    ------
    InvalidArgument
    """
    if (
        not isinstance(um_per_unit, int | float)
        or um_per_unit is True
        or not 0 < um_per_unit < np.inf
    ):
        raise InvalidArgument(f"um_per_unit above 0 is wanted, but got {um_per_unit!r}")
    return float(um_per_unit)


def _numbers(values: object, n: int, what: str) -> list[float]:
    try:
        numbers = [] if isinstance(values, str) else [float(v) for v in values]  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != n:
        raise InvalidArgument(f"{what} is wanted, but got {values!r}")
    return numbers
