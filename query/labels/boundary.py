"""Outlines of domains: the tissue nearer to one of their cells than to any other cell."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ...atlas.memory import refuse_above
from .area import BYTES_PER_CELL, square_side

if TYPE_CHECKING:
    from ...atlas.section import Section

__all__ = ["domain_outlines"]

# Cells of a window on average: its Voronoi diagram is made at once, some kilobytes a cell.
_WINDOW_CELLS = 8192
_CELL_BYTES = 4096
# Vertices are rounded to this share of a square, so that windows meet without slivers.
_GRID = 2.0**-20
# Of a square, from its lower edge to the first cell: no lattice puts its cells on an edge then.
_OFFSET = (3 - 5**0.5) / 2


def domain_outlines(
    section: "Section",
    codes: NDArray[np.int16],
    taking_part: NDArray[np.bool_] | None,
    n_domains: int,
    *,
    limit: int,
) -> list[Any]:
    """Draw the outline of every domain of a section.

    Parameters
    ----------
    section
        The section.
    codes
        (n_obs,) domain of each cell, -1 for none.
    taking_part
        (n_obs,) cells that are there at all; None is every cell.
    n_domains
        Number of domains.
    limit
        Bytes of memory.

    Returns
    -------
    list of shapely (Multi)Polygon
        One a domain, empty where it has no cell. They do not overlap.

    Raises
    ------
    InvalidArgument
        Fewer than four positions.
    BudgetExceeded
        80 bytes a cell and one window exceed the limit.

    Notes
    -----
    The tissue is the union of the squares of `square_side` (four cells on average) that hold a
    cell; each point of it belongs to the domain of the nearest cell, and to none where that cell
    has no label. So an outline holds its cells, gaps of the tissue and other domains are holes.
    Of cells at one position the first counts. A point of the tissue has a cell within the
    diagonal of a square, so windows of squares with the cells up to a diagonal around them give
    exactly the outlines that all cells at once would.
    """
    import shapely

    refuse_above(
        limit,
        BYTES_PER_CELL * section.n_obs + _CELL_BYTES * min(section.n_obs, 4 * _WINDOW_CELLS),
        f"outlines of the domains of section {section.name!r}",
        "give a larger memory_limit",
    )
    points, labels = _cells(section, codes, taking_part)
    side = square_side(points)
    if np.isnan(side):
        raise InvalidArgument(
            f"four or more positions are wanted for outlines in section {section.name!r}, but got "
            f"{len(points)}"
        )
    pieces: list[list[Any]] = [[] for _ in range(n_domains)]
    for tissue, near, own in _windows(points, labels, side):
        for code, area in _nearest(near, own, tissue):
            pieces[code].append(area)
    grid = side * _GRID
    return [shapely.union_all(np.array(part, object), grid_size=grid) for part in pieces]


def _cells(
    section: "Section", codes: NDArray[np.int16], taking_part: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Return distinct positions (m, 2) with the label of the first cell there."""
    points = section.positions()
    if taking_part is not None:
        points, codes = points[taking_part], codes[taking_part]
    _, first = np.unique(points.view(np.complex128).ravel(), return_index=True)
    return points[first], codes[first]


def _windows(
    points: NDArray[np.float64], labels: NDArray[np.int16], side: float
) -> Iterator[tuple[Any, NDArray[np.float64], NDArray[np.int16]]]:
    """Go through windows of squares: their tissue, the cells in and around them, their labels."""
    corner = points.min(axis=0) - _OFFSET * side
    square = np.floor((points - corner) / side).astype(np.int64)
    across = max(1, int(np.sqrt(_WINDOW_CELLS / 4)))  # squares; four cells each
    window = square // across
    order = np.lexsort((window[:, 1], window[:, 0]))
    points, labels, square, window = points[order], labels[order], square[order], window[order]
    edges = np.flatnonzero((np.diff(window, axis=0) != 0).any(axis=1)) + 1
    starts, stops = np.append(0, edges), np.append(edges, len(points))
    place = {tuple(window[a]): (a, b) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)}
    for (column, row), (start, stop) in place.items():
        around = [
            place[column + dx, row + dy]
            for dx in (-1, 0, 1)
            for dy in (-1, 0, 1)
            if (column + dx, row + dy) in place
        ]
        rows = np.concatenate([np.arange(a, b) for a, b in around])
        # Two squares: more than the diagonal of one.
        low = corner + (np.array([column, row]) * across - 2) * side
        high = low + (across + 4) * side
        rows = rows[((points[rows] >= low) & (points[rows] <= high)).all(axis=1)]
        yield _tissue(square[start:stop], corner, side), points[rows], labels[rows]


def _tissue(squares: NDArray[np.int64], corner: NDArray[np.float64], side: float) -> Any:
    """Join occupied squares; runs along a column are boxes, which are fewer."""
    import shapely

    found = np.unique(squares, axis=0)
    breaks = (np.diff(found[:, 0]) != 0) | (np.diff(found[:, 1]) != 1)
    first = np.append(0, np.flatnonzero(breaks) + 1)
    last = np.append(np.flatnonzero(breaks), len(found) - 1)
    low = corner + found[first] * side
    high = corner + (found[last] + 1) * side
    return shapely.union_all(shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1]))


def _nearest(
    points: NDArray[np.float64], labels: NDArray[np.int16], tissue: Any
) -> Iterator[tuple[int, Any]]:
    """Divide tissue among the labels of its nearest cells."""
    import shapely

    present = np.unique(labels)
    if len(present) == 1:
        if present[0] >= 0:
            yield int(present[0]), tissue
        return
    regions = shapely.get_parts(
        shapely.voronoi_polygons(shapely.MultiPoint(points), extend_to=tissue, ordered=True)
    )
    for code in present[present >= 0].tolist():
        whole = shapely.coverage_union_all(regions[labels == code])
        area = shapely.intersection(whole, tissue)
        if not area.is_empty:
            yield int(code), _polygons(area)


def _polygons(area: Any) -> Any:
    """Leave out points and lines where regions only touch the tissue."""
    import shapely

    parts: Any = shapely.get_parts(area)
    return shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon"])
