"""Places: boxes, circles and polygons, and which cells and tiles lie in them.

A place is closed: a cell exactly on its edge belongs to it (the edge of a hole too). That is the
rule of `spatialdata.bounding_box_query` on circles, which are tested by their centers, and of
`polygon_query` on points. Every test is exact in float64; no tolerance is added.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ...atlas.polygons import check_reach

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
        check_reach(values, "a circle")

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

        >>> from .given import polygon
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
        import shapely

        n_vertices = int(shapely.get_num_coordinates(self.geometry))
        kind = self.geometry.geom_type.lower()
        return f"{kind} of {n_vertices} vertices in {Box(*self.bounds)}"
