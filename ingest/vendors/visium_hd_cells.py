"""Segmented cells of Visium HD: polygons of GeoJSON matched with the cells of the matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ..cell_areas import ring_areas
from ..reader import faults_of
from ..ring_checks import kept_rings, largest_first
from ..source import RingPiece
from .geojson_features import feature_rings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..source import StringValues

__all__ = ["CellRings", "centroids", "ring_centroids"]

_ID = r"^cellid_0*([0-9]+)-[0-9]+$"
_FARTHEST = 1e9  # pixels
_LEAST_RING = 3


@dataclass(frozen=True, slots=True)
class CellRings:
    """Rings of a file, each with the row of its cell; 16 bytes a cell are held."""

    path: Path
    """GeoJSON."""
    numbers: NDArray[np.int64]
    """(n,) numbers of the cells, ascending."""
    order: NDArray[np.int64]
    """(n,) row of each."""

    @classmethod
    def of(cls, path: Path, ids: StringValues, where: str) -> CellRings:
        """Take the numbers out of ids such as `cellid_000000001-1`.

        Raises
        ------
        InputError
            Ids of another form, or the same cell twice.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        words = pc.replace_substring_regex(ids.to_arrow(), _ID, r"\1")
        with faults_of(Path(where), "ids of cells such as cellid_000000001-1", parsing=True):
            numbers = np.asarray(words.cast(pa.int64()))
        order = np.argsort(numbers, kind="stable")
        ascending = numbers[order]
        if (np.diff(ascending) == 0).any():
            again = int(ascending[np.flatnonzero(np.diff(ascending) == 0)[0]])
            raise InputError(Fault(where, f"expected every cell once, but got {again} twice"))
        return cls(path, ascending, order)

    def __call__(self) -> Iterator[RingPiece]:
        """Yield the rings, some megabytes of text at a time.

        Raises
        ------
        InputError
            A feature that is no polygon, has no number, or lies nowhere.
        """
        for rings in feature_rings(self.path, "cell_id"):
            far = ~(np.abs(rings.vertices) < _FARTHEST).all(axis=1)
            if far.any():
                x, y = rings.vertices[np.flatnonzero(far)[0]]
                raise InputError(Fault(str(self.path), f"expected pixels, but got {x:g}, {y:g}"))
            place = np.minimum(np.searchsorted(self.numbers, rings.ids), self.numbers.size - 1)
            rows = np.where(self.numbers[place] == rings.ids, self.order[place], -1)
            rows[rings.counts < _LEAST_RING] = -1
            yield RingPiece(rows, rings.counts, rings.vertices, rings.n_further)


def centroids(rings: CellRings) -> tuple[NDArray[np.float64], int]:
    """Centroids of the polygons by row, of the largest where a cell has several.

    Cost: the file is read once; 20 bytes a cell.

    Returns
    -------
    (centroids, n_vertices)
        (n, 2) float64, NaN where a cell has no polygon; vertices of all.

    Raises
    ------
    InputError
        A file that cannot be read.
    """
    found = np.full((rings.numbers.size, 2), np.nan)
    largest = np.full(rings.numbers.size, -1, np.float32)  # as wide as where shapes are written
    n_vertices = 0
    for piece in rings():
        rows, counts, vertices = kept_rings(
            piece.rows >= 0, piece.rows, piece.counts, piece.vertices
        )
        if not rows.size:
            continue
        n_vertices += vertices.shape[0]
        areas = ring_areas(vertices, counts).astype(np.float32)
        first = largest_first(areas, rows)
        first = first[areas[first] > largest[rows[first]]]
        largest[rows[first]] = areas[first]
        found[rows[first]] = ring_centroids(vertices, counts)[first]
    return found, n_vertices


def ring_centroids(vertices: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Centroid of the area inside each ring; the mean of the vertices where there is none.

    Parameters
    ----------
    vertices : (v, 2) float64
        Rings one after another, closed or not.
    counts : (k,) int64
        Vertices of each ring.

    Examples
    --------
    >>> square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    >>> ring_centroids(square, np.array([4])).tolist()
    [[1.0, 1.0]]
    """
    filled = np.flatnonzero(counts)
    center = np.full((counts.size, 2), np.nan)
    if not filled.size:
        return center
    sizes = counts[filled]
    starts = np.cumsum(sizes) - sizes
    # Shifted to the first vertex: far from the origin the products would lose digits.
    here = vertices - np.repeat(vertices[starts], sizes, axis=0)
    following = np.arange(1, vertices.shape[0] + 1)
    following[starts + sizes - 1] = starts
    after = here[following]
    cross = here[:, 0] * after[:, 1] - after[:, 0] * here[:, 1]
    area = np.add.reduceat(cross, starts)
    moment = np.add.reduceat((here + after) * cross[:, None], starts)
    mean = np.add.reduceat(here, starts) / sizes[:, None]
    flat = np.abs(area) < 1e-12
    inside = moment / np.where(flat, 1.0, 3 * area)[:, None]
    center[filled] = np.where(flat[:, None], mean, inside) + vertices[starts]
    return center
