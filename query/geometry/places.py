"""Places: boxes, circles and polygons, and which cells and tiles lie in them.

A place is closed: a cell exactly on its edge belongs to it (the edge of a hole too). That is the
rule of `spatialdata.bounding_box_query` on circles, which are tested by their centers, and of
`polygon_query` on points. Every test is exact in float64; no tolerance is added.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

type BoolArray = NDArray[np.bool_]
type FloatArray = NDArray[np.float64]


class Place(Protocol):
    """Somewhere in a section, in its coordinates (micrometres where the unit is known)."""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest enclosing box (xmin, ymin, xmax, ymax)."""
        ...

    def contains(self, points: FloatArray) -> BoolArray:
        """Whether each of m points, (m, 2) float64, lies in the place or on its edge."""
        ...

    def cover(self, boxes: FloatArray) -> tuple[BoolArray, BoolArray]:
        """Which of T boxes, (T, 4), may hold a point of the place, and which lie wholly in it.

        The first is never false for a box that does, the second never true for one that does not.
        """
        ...


@dataclass(frozen=True, slots=True)
class Box:
    """An upright rectangle; cannot be empty, inside out or infinite."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float

    def __post_init__(self) -> None:
        values = (self.xmin, self.ymin, self.xmax, self.ymax)
        if not np.isfinite(values).all():
            raise InvalidArgument(f"a box of finite coordinates is wanted, but got {values}")
        if self.xmin > self.xmax or self.ymin > self.ymax:
            ordered = (
                min(self.xmin, self.xmax),
                min(self.ymin, self.ymax),
                max(self.xmin, self.xmax),
                max(self.ymin, self.ymax),
            )
            raise InvalidArgument(
                f"a box (xmin, ymin, xmax, ymax) with xmin <= xmax and ymin <= ymax is wanted, "
                f"but got {values}; with its corners swapped it is {ordered}"
            )

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The box itself."""
        return self.xmin, self.ymin, self.xmax, self.ymax

    def contains(self, points: FloatArray) -> BoolArray:
        """Whether each of m points (m, 2) lies in the box or on its edge.

        >>> Box(0, 0, 2, 1).contains(np.array([[0.0, 1.0], [2.1, 0.5]]))
        array([ True, False])
        """
        x, y = points[:, 0], points[:, 1]
        return (x >= self.xmin) & (x <= self.xmax) & (y >= self.ymin) & (y <= self.ymax)

    def cover(self, boxes: FloatArray) -> tuple[BoolArray, BoolArray]:
        """Tell which boxes (T, 4) may hold a point of it, and which lie wholly in it."""
        xmin, ymin, xmax, ymax = boxes.T
        touched = (
            (xmax >= self.xmin) & (xmin <= self.xmax) & (ymax >= self.ymin) & (ymin <= self.ymax)
        )
        inside = (
            (xmin >= self.xmin) & (xmax <= self.xmax) & (ymin >= self.ymin) & (ymax <= self.ymax)
        )
        return touched, inside

    def __str__(self) -> str:
        return f"box ({self.xmin:g}, {self.ymin:g}, {self.xmax:g}, {self.ymax:g})"


@dataclass(frozen=True, slots=True)
class Circle:
    """A disc with its edge; its radius is finite and not negative."""

    x: float
    y: float
    radius: float

    def __post_init__(self) -> None:
        values = (self.x, self.y, self.radius)
        if not np.isfinite(values).all() or self.radius < 0:
            raise InvalidArgument(
                f"a circle (x, y, radius) with radius >= 0 is wanted, but got {values}"
            )

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest enclosing box."""
        r = self.radius
        return self.x - r, self.y - r, self.x + r, self.y + r

    def contains(self, points: FloatArray) -> BoolArray:
        """Whether each of m points (m, 2) lies within the radius.

        >>> Circle(0, 0, 5).contains(np.array([[3.0, 4.0], [4.0, 4.0]]))
        array([ True, False])
        """
        dx, dy = points[:, 0] - self.x, points[:, 1] - self.y
        return np.asarray(dx * dx + dy * dy <= self.radius * self.radius)

    def cover(self, boxes: FloatArray) -> tuple[BoolArray, BoolArray]:
        """Tell which boxes (T, 4) may hold a point of it, and which lie wholly in it."""
        xmin, ymin, xmax, ymax = boxes.T
        # Rounding is monotone, so the same expression at the box's nearest and farthest
        # coordinates bounds `contains` for every point between, without slack.
        near_x = np.maximum(np.maximum(xmin - self.x, self.x - xmax), 0.0)
        near_y = np.maximum(np.maximum(ymin - self.y, self.y - ymax), 0.0)
        far_x = np.maximum(np.abs(xmin - self.x), np.abs(xmax - self.x))
        far_y = np.maximum(np.abs(ymin - self.y), np.abs(ymax - self.y))
        square = self.radius * self.radius
        return (
            near_x * near_x + near_y * near_y <= square,
            far_x * far_x + far_y * far_y <= square,
        )

    def __str__(self) -> str:
        return f"circle ({self.x:g}, {self.y:g}) radius {self.radius:g}"


@dataclass(frozen=True)
class Polygon:
    """A polygon or several, with or without holes; valid, finite and of some area."""

    wkb: bytes
    """The geometry as well-known binary: small, comparable and picklable."""

    @cached_property
    def geometry(self) -> "BaseGeometry":
        """The shapely geometry, prepared for repeated tests."""
        import shapely

        geometry = shapely.from_wkb(self.wkb)
        shapely.prepare(geometry)
        return geometry

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest enclosing box."""
        xmin, ymin, xmax, ymax = self.geometry.bounds
        return float(xmin), float(ymin), float(xmax), float(ymax)

    def contains(self, points: FloatArray) -> BoolArray:
        """Whether each of m points (m, 2) lies in the polygon or on its edge, holes left out.

        >>> triangle = polygon("POLYGON ((0 0, 4 0, 0 4, 0 0))")
        >>> triangle.contains(np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))
        array([ True,  True, False])
        """
        import shapely

        inside = Box(*self.bounds).contains(points)
        if inside.any():
            x, y = points[inside, 0], points[inside, 1]
            inside[inside] = shapely.intersects_xy(self.geometry, x, y)
        return inside

    def cover(self, boxes: FloatArray) -> tuple[BoolArray, BoolArray]:
        """Tell which boxes (T, 4) may hold a point of it, and which lie wholly in it."""
        import shapely

        touched, _ = Box(*self.bounds).cover(boxes)
        inside = np.zeros(len(boxes), bool)
        # A box without area is no valid rectangle: it stays undecided, its few cells are tested.
        solid = touched & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        if solid.any():
            rectangles = shapely.box(*boxes[solid].T)
            touched[solid] = shapely.intersects(self.geometry, rectangles)
            inside[solid] = shapely.covers(self.geometry, rectangles)
        return touched, inside

    def __str__(self) -> str:
        geometry = self.geometry
        n_vertices = len(geometry.__geo_interface__["coordinates"]) and _n_vertices(geometry)
        return f"{geometry.geom_type.lower()} of {n_vertices} vertices in {Box(*self.bounds)}"


def _n_vertices(geometry: Any) -> int:
    import shapely

    return int(shapely.get_num_coordinates(geometry))


def polygon(value: object) -> Polygon:
    """Read a polygon from any of its usual forms.

    Parameters
    ----------
    value
        A shapely (Multi)Polygon; a GeoJSON geometry, Feature or FeatureCollection as a mapping;
        well-known text; the path of a GeoJSON or WKT file; or vertices (n >= 3, 2).

    Returns
    -------
    Polygon
        All polygons found, as one.

    Raises
    ------
    InvalidArgument
        Not a polygon, self-intersecting (the place is named), empty or not finite.

    Examples
    --------
    >>> polygon([(0, 0), (4, 0), (4, 3)]).bounds
    (0.0, 0.0, 4.0, 3.0)
    """
    import shapely

    geometry = _geometry(value)
    if geometry.geom_type not in ("Polygon", "MultiPolygon") or geometry.is_empty:
        raise InvalidArgument(
            f"a polygon with an area is wanted, but got {_describe(geometry.geom_type, value)}"
        )
    geometry = shapely.force_2d(geometry)
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise InvalidArgument("a polygon of finite coordinates is wanted, but got nan or infinity")
    if not shapely.is_valid(geometry):
        raise InvalidArgument(
            "a polygon that does not cross itself is wanted, but got "
            f"{shapely.is_valid_reason(geometry)}; shapely.make_valid mends most"
        )
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
    except (ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise InvalidArgument(
            "a polygon (shapely, GeoJSON, WKT, a file of either, or vertices) is wanted, but got "
            f"{_describe(type(value).__name__, value)}: {error}"
        ) from error
    raise InvalidArgument(
        "a polygon (shapely, GeoJSON, WKT, a file of either, or vertices (n, 2)) is wanted, "
        f"but got {_describe(type(value).__name__, value)}"
    )


def _from_geojson(value: Mapping[str, Any]) -> Any:
    import shapely

    kind = value.get("type")
    if kind == "FeatureCollection":
        parts = [_from_geojson(feature) for feature in value["features"]]
        return shapely.unary_union(parts)
    if kind == "Feature":
        return _from_geojson(value["geometry"])
    return shapely.geometry.shape(dict(value))


def _from_text(value: str | Path) -> Any:
    import json

    import shapely

    text = str(value)
    looks_like_wkt = text.lstrip()[:12].upper().startswith(("POLYGON", "MULTIPOLYGON"))
    if isinstance(value, Path) or not (looks_like_wkt or text.lstrip().startswith("{")):
        path = Path(text)
        if not path.is_file():
            raise InvalidArgument(
                f"a file of GeoJSON or WKT is wanted, but got {text[:200]!r}, which is no file"
            )
        text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("{"):
        return _from_geojson(json.loads(text))
    with np.errstate(invalid="ignore"):  # nan is refused below, with words
        return shapely.from_wkt(text)


def _describe(kind: str, value: object) -> str:
    text = repr(value)
    return f"{kind} {text if len(text) <= 80 else text[:80] + '...'}"


def place(
    *,
    bbox: Sequence[float] | None = None,
    polygon_like: object = None,
    circle: Sequence[float] | None = None,
) -> Place:
    """Make the one place that was described.

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
    if bbox is not None:
        return Box(*_numbers(bbox, 4, "bbox=(xmin, ymin, xmax, ymax)"))
    if circle is not None:
        return Circle(*_numbers(circle, 3, "circle=(x, y, radius)"))
    return polygon(polygon_like)


def _numbers(values: object, n: int, what: str) -> list[float]:
    try:
        numbers = [] if isinstance(values, str) else [float(v) for v in values]  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != n:
        raise InvalidArgument(f"{what} is wanted, but got {values!r}")
    return numbers
