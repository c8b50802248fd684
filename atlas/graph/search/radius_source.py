"""Edges between all cells within a distance, and how many to expect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsFloat, cast

import numpy as np

from ...errors import InvalidArgument
from ..edges import Edges, cut_runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ...quadtree import Runs, TileTable
    from ..edges import PositionSource
    from ..lattices.scale import Run

__all__ = ["RadiusEdges", "check_radius", "cut_by_edges", "expected_degree"]

# Rows counted at once: a block's worth.
_COUNTED_ROWS = 65_536
# Squares of longer distances overflow.
_LONGEST = 1e150


@dataclass(frozen=True, slots=True)
class RadiusEdges:
    """Edges between all different cells at a distance of `shortest` to `longest`, both included.

    scikit-learn's rule, which squidpy uses: ``dx * dx + dy * dy <= longest * longest`` in float64;
    and squidpy's rule of the lower bound, ``sqrt(d2) >= shortest``. Edges of length zero, which
    squidpy drops from its distances and keeps in its connectivities, are kept in both when
    `shortest` is zero. Symmetric, distances bit by bit.
    """

    section: PositionSource
    """The section."""
    shortest: float
    """Lower bound, in the unit of the positions; zero for none."""
    longest: float
    """The radius, in the unit of the positions."""

    @property
    def facts(self) -> dict[str, str | float]:
        """Nothing has to be found out before the search."""
        return {}

    def prepare(self, blocks: Sequence[Runs], run: Run) -> RadiusEdges:
        """Nothing has to be prepared; see `LatticeEdges.prepare`."""
        del blocks, run
        return self

    def counts(self, runs: Runs) -> NDArray[np.int64]:
        """Count the edges of each row: exact, at about a third of the cost of computing them.

        Parameters
        ----------
        runs : sequence of (int, int)
            Row runs, m rows in all.

        Returns
        -------
        array (m,) int64

        Notes
        -----
        Memory does not grow with the number of edges: about 120 bytes for each of 65,536 rows,
        and 40 for each cell within the radius around them.
        """
        from .pairs import pairs_within  # brings numba: only where neighbors are computed

        parts = [
            pairs_within(self.section, part, self.shortest, self.longest).counts()
            for part in cut_runs(runs, _COUNTED_ROWS)
        ]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def stream(self, runs: Runs, most_edges: int) -> tuple[NDArray[np.int64], Iterator[Edges]]:
        """Compute row pointers first, then the edges: at once, or in pieces where they are many.

        Costs no more than `edges` where there are at most `most_edges`.

        Parameters
        ----------
        runs : sequence of (int, int)
            Row runs, m rows in all.
        most_edges : int
            Edges of a piece, where a single row has no more.

        Returns
        -------
        indptr : array (m + 1,) int64
        pieces : iterator of Edges
            Of consecutive rows; together those of all.
        """
        from .pairs import pairs_within

        found = pairs_within(self.section, runs, self.shortest, self.longest)
        counts = found.counts()
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        if int(indptr[-1]) <= most_edges:
            return indptr, iter([found.edges(counts)])
        return indptr, (self.edges(part) for part in cut_by_edges(runs, counts, most_edges))

    def edges(self, runs: Runs) -> Edges:
        """Return the edges of the rows; see `pairs`."""
        from .pairs import pairs_within

        return pairs_within(self.section, runs, self.shortest, self.longest).edges()


def cut_by_edges(
    runs: Runs, counts: NDArray[np.int64], most_edges: int
) -> list[list[tuple[int, int]]]:
    """Divide runs into consecutive groups whose rows have at most so many edges together.

    Parameters
    ----------
    runs : sequence of (int, int)
        Row runs, m rows in all.
    counts : array (m,) int64
        Edges of each row.
    most_edges : int
        Of a group; a row with more makes one of its own.

    Examples
    --------
    >>> cut_by_edges([(0, 3), (7, 9)], np.array([2, 2, 9, 1, 1]), 4)
    [[(0, 2)], [(2, 3)], [(7, 9)]]
    """
    held = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    kept = [(start, stop) for start, stop in runs if stop > start]
    # Number of the first wanted row of each run.
    first = np.concatenate([[0], np.cumsum([stop - start for start, stop in kept])]).astype(
        np.int64
    )
    groups: list[list[tuple[int, int]]] = []
    at = 0
    while at < counts.size:
        end = max(int(np.searchsorted(held, held[at] + most_edges, side="right")) - 1, at + 1)
        inside = range(
            int(np.searchsorted(first, at, side="right")) - 1,
            int(np.searchsorted(first, end, side="left")),
        )
        groups.append(
            [
                (start + max(0, at - int(first[i])), min(stop, start + end - int(first[i])))
                for i in inside
                for start, stop in [kept[i]]
            ]
        )
        at = end
    return groups


def check_radius(radius: object, unit: str | None = None) -> tuple[float, float]:
    """Return the bounds of a radius: a number is the upper one, a pair holds both in any order.

    Parameters
    ----------
    radius : float or pair of float
        As squidpy takes it.
    unit : str, optional
        Unit of the positions, for messages.

    Returns
    -------
    (float, float)
        shortest, longest; ``0 <= shortest < longest``.

    Raises
    ------
    InvalidArgument
        Not positive, not finite, not numbers, or two equal bounds.

    Examples
    --------
    >>> check_radius(30)
    (0.0, 30.0)
    >>> check_radius((50.0, 10.0))
    (10.0, 50.0)
    """
    pair = list(radius) if isinstance(radius, tuple | list | np.ndarray) else [0.0, radius]
    try:
        bounds = sorted(_number(value) for value in pair)
    except (TypeError, ValueError):
        bounds = []
    named = f" {unit}" if unit else ""
    if len(bounds) != 2 or not 0.0 <= bounds[0] < bounds[1] <= _LONGEST:
        raise InvalidArgument(
            "radius must be a finite length above 0, or a pair of them, shortest and longest, "
            f"but got {radius!r}{named}; give a length in the unit of the positions"
        )
    return bounds[0], bounds[1]


def _number(value: object) -> float:
    """Read a number; text, truth values and NaN are none."""
    if isinstance(value, bool | np.bool_ | str | bytes):
        raise TypeError(value)
    number = float(cast("SupportsFloat", value))
    if math.isnan(number):  # would sort anywhere
        raise ValueError(value)
    return number


def expected_degree(
    tiles: TileTable, longest: float, others: TileTable | None = None
) -> NDArray[np.float64]:
    """Estimate the neighbors of a cell of each tile, from the tile table alone.

    Cells are taken for evenly spread over the tight boxes of their tiles; the estimate is the
    expected number of others in the square around a cell, narrowed to the disc. Where cells crowd
    inside a tile, it is too low: `RadiusEdges.counts` tells the truth.

    Parameters
    ----------
    tiles : TileTable
        The section's tiles, n_tiles of them.
    longest : float
        The radius, in the unit of the boxes.
    others : TileTable, optional
        Tiles of another section, in the same frame, whose cells are the neighbors.

    Returns
    -------
    array (n_tiles,) float64
        At most the other cells of the tiles within the radius.

    Notes
    -----
    Time: n_tiles times the tiles in a strip as wide as a tile and the radius; 0.1 s for 20,000.

    Examples
    --------
    >>> from tisseract.atlas.quadtree import TileTable
    >>> tiles = TileTable(np.array([0, 400, 401]), np.array([[0.0, 0, 20, 20], [90, 90, 90, 90]]))
    >>> expected_degree(tiles, 1.0).round(1).tolist()
    [3.1, 0.0]
    """
    from .tile_degree import degrees

    table = tiles if others is None else others
    order = np.argsort(table.bounds[:, 0], kind="stable")
    boxes = np.array(table.bounds[order], dtype=np.float64)
    cells = table.n_cells[order].astype(np.float64)
    if others is not None:
        # A copy: compiled code knows read-only arrays as another type.
        own = np.array(tiles.bounds, dtype=np.float64)
        return np.asarray(degrees(own, boxes, cells, float(longest), False))
    found = np.empty(len(tiles))
    found[order] = degrees(boxes, boxes, cells, float(longest), True)
    return found
