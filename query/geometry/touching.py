"""Cells whose shape touches a place, not only those whose center lies in it.

The shape of a cell is its circle or its outer boundary, as stored in `shapes/cells`. A shape
touches a place if they share a point, an edge or a corner included:

- a circle around c of radius r touches a box or circle if the rounded square of their distance is
  at most that of the radius (of both radii), and a polygon if `shapely.distance` of c is at most r;
- a boundary touches a place if `shapely.intersects` says so, and a circle if its distance from the
  center is at most the radius.

spatialdata draws circles as polygons of 64 edges before it tests them, which lie inside the circle
by up to 0.12 % of its radius; here they are round.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from .cell_shapes import CellShapes
from .framed import Framed
from .near import NearCells
from .places import Box, Circle, Place, Polygon

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ...atlas.storage import Storage

type BoolArray = NDArray[np.bool_]
type FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Touching:
    """A place of one section, of which cells answer that touch it.

    As a place of points it is the place itself: points have no extent.
    """

    place: Place
    section: "Section" = field(compare=False)
    storage: "Storage" = field(compare=False)
    """Root of its atlas."""

    def __post_init__(self) -> None:
        if not isinstance(self.place, Box | Circle | Polygon | Framed):
            raise InvalidArgument(
                "predicate='intersects' with a box, circle or polygon is wanted, but got "
                f"{self.place}; ask for it with predicate='centroid'"
            )

    @cached_property
    def shapes(self) -> CellShapes:
        """Shapes of the section's cells; opening them reads the footer of one file."""
        return CellShapes(self.section, self.storage)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Box of the place itself; cells reach beyond it."""
        return self.place.bounds

    def contains(self, points: FloatArray) -> BoolArray:
        """Whether each of m points (m, 2) lies in the place."""
        return self.place.contains(points)

    def cover(self, boxes: FloatArray) -> tuple[BoolArray, BoolArray]:
        """Tell which of T boxes of centers may hold a cell that touches it, and which only such.

        Boxes are widened by as much as any cell of the section reaches from its center.
        """
        reach = self.shapes.reach
        wide = boxes + np.array([-reach, -reach, reach, reach])
        # One step outwards makes up for the rounding of the sum.
        wide[:, :2] = np.nextafter(wide[:, :2], -np.inf)
        wide[:, 2:] = np.nextafter(wide[:, 2:], np.inf)
        return self.place.cover(wide)

    def rows(self, runs: list[tuple[int, int]]) -> BoolArray:
        """Whether each cell of some rows touches the place."""
        if self.shapes.circles:
            centers, radius = self.section.positions(runs), self.shapes.radii(runs)
            return touch_circles(self.place, centers, radius)
        return touch_outlines(self.place, self.shapes.outlines(runs))

    def __str__(self) -> str:
        return f"touching {self.place}"


def touch_circles(place: Place, centers: FloatArray, radius: FloatArray) -> BoolArray:
    """Whether each of m circles, (m, 2) and (m,), touches a place.

    >>> touch_circles(Box(0, 0, 1, 1), np.array([[2.0, 0.5], [2.0, 2.0]]), np.array([1.0, 1.0]))
    array([ True, False])
    """
    import shapely

    x, y = centers[:, 0], centers[:, 1]
    if isinstance(place, Circle):
        dx, dy, reach = x - place.x, y - place.y, radius + place.radius
        return np.asarray(dx * dx + dy * dy <= reach * reach)
    if isinstance(place, Box):
        dx = np.maximum(np.maximum(place.xmin - x, x - place.xmax), 0.0)
        dy = np.maximum(np.maximum(place.ymin - y, y - place.ymax), 0.0)
        return np.asarray(dx * dx + dy * dy <= radius * radius)
    points = shapely.points(centers)
    return np.asarray(shapely.distance(points, _geometry(place)) <= radius, bool)


def touch_outlines(place: Place, outlines: NDArray[np.object_]) -> BoolArray:
    """Whether each of m shapely polygons touches a place.

    >>> import shapely
    >>> touch_outlines(Circle(3, 0, 1), np.array([shapely.box(0, 0, 2, 1)]))
    array([ True])
    """
    import shapely

    if isinstance(place, Circle):
        center = shapely.Point(place.x, place.y)
        return np.asarray(shapely.distance(outlines, center) <= place.radius, bool)
    return np.asarray(shapely.intersects(_geometry(place), outlines), bool)


def _geometry(place: Place) -> Any:
    """Make a shapely geometry of the place; a box without width is a line or a point."""
    import shapely

    if isinstance(place, Polygon | Framed):
        return place.geometry
    xmin, ymin, xmax, ymax = place.bounds
    if xmin == xmax and ymin == ymax:
        return shapely.Point(xmin, ymin)
    if xmin == xmax or ymin == ymax:
        return shapely.LineString([(xmin, ymin), (xmax, ymax)])
    return shapely.box(xmin, ymin, xmax, ymax)


def settle(place: Place) -> None:
    """Find the other cells that a place is near to, so that it covers no more than it must."""
    if isinstance(place, NearCells):
        _ = place.others.runs


def rows_in(
    section: "Section",
    runs: list[tuple[int, int]],
    place: Place,
    points: FloatArray | None = None,
) -> BoolArray:
    """Whether each cell of some rows of a section lies in a place, by what the place asks.

    Reads their shapes if the place asks for touching, else their positions where `points` does
    not hold them.
    """
    if isinstance(place, Touching):
        return place.rows(runs)
    return place.contains(section.positions(runs) if points is None else points)
