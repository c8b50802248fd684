"""A place of a common frame, seen from one section.

A frame is a coordinate system that several sections share; each has an affine into it,

    x' = (a * x + b * y) + c,    y' = (d * x + e * y) + f,

with x, y in the coordinates of the section. A cell lies in a place of the frame if its transformed
position does: computed in float64 in just this order, each operation rounded, edges included. So
the answer is the same as transforming all cells with NumPy and testing the place.

Which tiles may hold such cells is told by transforming their boxes in the same way: rounding is
monotone, so the extremes over the corners bound every point of a box without any slack.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ...atlas.frames import Matrix
from .places import Box, Circle, Place, Polygon

type BoolArray = NDArray[np.bool_]
type FloatArray = NDArray[np.float64]


def transform(matrix: Matrix, points: FloatArray) -> FloatArray:
    """Transform points (m, 2) by an affine, in the documented order of operations.

    >>> transform(((0, -1, 5), (2, 0, 0)), np.array([[3.0, 4.0]]))
    array([[1., 6.]])
    """
    x, y = points[:, 0], points[:, 1]
    return np.stack([(p * x + q * y) + r for p, q, r in matrix], axis=1)


def transform_boxes(matrix: Matrix, boxes: FloatArray) -> FloatArray:
    """Box of all transformed points of each of T boxes (T, 4); exact under rounding.

    >>> transform_boxes(((0, -1, 5), (2, 0, 0)), np.array([[0.0, 0.0, 3.0, 4.0]]))
    array([[1., 0., 5., 6.]])
    """
    low, high = [], []
    for p, q, r in matrix:
        first, second = p * boxes[:, [0, 2]], q * boxes[:, [1, 3]]
        low.append((first.min(axis=1) + second.min(axis=1)) + r)
        high.append((first.max(axis=1) + second.max(axis=1)) + r)
    return np.stack([*low, *high], axis=1)


@dataclass(frozen=True)
class Framed:
    """A place given in a frame, in a section whose affine into it is `matrix`."""

    place: Place
    """In coordinates of the frame."""
    matrix: Matrix
    """Section to frame."""
    frame: str = ""
    """Name of the frame."""

    @cached_property
    def geometry(self) -> Any:
        """The place pulled back into the section, as a prepared shapely polygon; rounded.

        Raises
        ------
        InvalidArgument
            For a circle, which need not be one in the section.
        """
        import shapely

        if isinstance(self.place, Circle):
            raise InvalidArgument(
                f"a box or polygon is wanted in a frame, but got {self.place}; "
                "ask for it with predicate='centroid'"
            )
        given = self.place.geometry if isinstance(self.place, Polygon) else _box(self.place)
        back = np.linalg.inv(_square(self.matrix))
        pulled = shapely.transform(given, lambda xy: xy @ back[:2, :2].T + back[:2, 2])
        shapely.prepare(pulled)
        return pulled

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest upright box of the section around the place, rounded."""
        back = np.linalg.inv(_square(self.matrix))
        xmin, ymin, xmax, ymax = self.place.bounds
        corners = np.array([[xmin, ymin], [xmax, ymin], [xmin, ymax], [xmax, ymax]])
        pulled = corners @ back[:2, :2].T + back[:2, 2]
        low, high = pulled.min(axis=0), pulled.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def contains(self, points: FloatArray) -> BoolArray:
        """Whether each of m points of the section (m, 2) lies in the place of the frame."""
        return self.place.contains(transform(self.matrix, points))

    def cover(self, boxes: FloatArray) -> tuple[BoolArray, BoolArray]:
        """Tell which of T boxes of the section may hold a point of it, and which lie in it."""
        return self.place.cover(transform_boxes(self.matrix, boxes))

    def __str__(self) -> str:
        return f"{self.place} of a frame"


def _square(matrix: Matrix) -> FloatArray:
    return np.array([*matrix, (0.0, 0.0, 1.0)])


def _box(place: Place) -> Any:
    import shapely

    if not isinstance(place, Box):
        raise InvalidArgument(f"a box or polygon is wanted in a frame, but got {place}")
    return shapely.box(*place.bounds)
