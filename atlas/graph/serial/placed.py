"""A section moved into the frame of a series by an affine map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InvalidArgument, SectionNotFound, near
from ...quadtree import TileTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from ...quadtree import Runs
    from ..edges import PositionSource

__all__ = ["Affine", "PlacedSection", "check_transforms", "place"]

type Affine = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Rows of a 2 x 3 matrix: x' = a x + b y + c and y' = d x + e y + f."""


@dataclass(frozen=True, slots=True)
class PlacedSection:
    """Positions and boxes of a section after an affine map; nothing is read ahead.

    The boxes hold the mapped positions exactly, in computed numbers: each of the two products and
    sums is rounded monotonically, so the map takes its extremes over a box at corners.
    """

    section: PositionSource
    """The section as stored."""
    affine: Affine
    """The map."""

    @property
    def name(self) -> str:
        """Name of the section."""
        return self.section.name

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.section.n_obs

    @property
    def tiles(self) -> TileTable:
        """Row ranges of the tiles, with boxes around the mapped ones."""
        return self._mapped(self.section.tiles)

    @property
    def blocks(self) -> TileTable | None:
        """Finer row ranges where the section has some; see `Section.blocks`."""
        fine: TileTable | None = getattr(self.section, "blocks", None)
        return None if fine is None else self._mapped(fine)

    def positions(self, runs: Runs | None = None) -> NDArray[np.float64]:
        """Return (m, 2) float64 mapped positions of the rows."""
        xy = self.section.positions(runs)
        return np.stack(self._map(xy[:, 0], xy[:, 1]), axis=1)

    def _map(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        (a, b, c), (d, e, f) = self.affine
        return a * x + b * y + c, d * x + e * y + f

    def _mapped(self, table: TileTable) -> TileTable:
        x, y = self._map(table.bounds[:, [0, 0, 2, 2]], table.bounds[:, [1, 3, 1, 3]])
        bounds = np.stack([x.min(axis=1), y.min(axis=1), x.max(axis=1), y.max(axis=1)], axis=1)
        return TileTable(table.ptr, bounds)


def place(section: PositionSource, affine: Affine | None) -> PositionSource:
    """Return the section as if its positions were mapped; itself where there is no map."""
    return section if affine is None else PlacedSection(section, affine)


def check_transforms(
    transforms: Mapping[str, ArrayLike] | None, known: Iterable[str]
) -> dict[str, Affine]:
    """Return affine maps by section as plain numbers.

    Raises
    ------
    SectionNotFound
        A map for a section that is not there.
    InvalidArgument
        Not a finite 2 x 3 matrix, or one that flattens the section.

    Examples
    --------
    >>> check_transforms({"s1": [[1, 0, 5], [0, 1, 0]]}, ["s1"])
    {'s1': ((1.0, 0.0, 5.0), (0.0, 1.0, 0.0))}
    """
    names = set(known)
    found: dict[str, Affine] = {}
    for name, given in (transforms or {}).items():
        if name not in names:
            raise SectionNotFound(
                f"transforms of sections are wanted, but got one of {name!r}.{near(name, names)}"
            )
        try:
            matrix = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            matrix = np.empty(0)
        flat = matrix.shape != (2, 3) or not np.isfinite(matrix).all()
        if flat or np.linalg.matrix_rank(matrix[:, :2]) < 2:
            raise InvalidArgument(
                f"an invertible 2 x 3 matrix, x' = a x + b y + c, is wanted for section {name!r}, "
                f"but got {given!r}; leave sections out that are registered already"
            )
        a, b, c, d, e, f = (float(value) for value in matrix.ravel())
        found[name] = ((a, b, c), (d, e, f))
    return found
