"""How unbroken domains lie in the tissue: CHAOS and PAS, of one section at a time."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...atlas.errors import InvalidArgument
from .row_distances import checked_rows, drawn_rows, encoded

__all__ = ["chaos", "pas"]

BLOCK_ROWS = 65_536
SMALLEST_DOMAIN = 3  # domains of fewer cells add nothing to CHAOS, as published


def chaos(positions: ArrayLike, labels: ArrayLike | Sequence[str]) -> float:
    """Measure how far the nearest cell of the same domain is: small where domains hang together.

    Parameters
    ----------
    positions : array_like (n, 2) or (n, 3)
        Of the cells of one section, any unit; finite.
    labels : array_like (n,)
        Domain of each cell; any sortable type.

    Returns
    -------
    float
        Sum over domains of the distances from each cell to the nearest other cell of its domain,
        over the number of cells, in standard deviations of the coordinates. Depends on the
        density of cells: compare labelings of one section, not sections.

    Raises
    ------
    InvalidArgument
        No cell, nan, or lengths that differ.

    Notes
    -----
    Shang and Zhou, Nature Communications 13 (2022), SpatialPCA; details as SDMBench (Yuan et al.,
    Nature Methods 21, 2024) computes it: each coordinate is standardized by its own standard
    deviation, domains of one or two cells add nothing, but count in the number of cells. A
    coordinate that never changes is only centered. Memory: about 100 bytes a cell (a k-d tree).

    Examples
    --------
    >>> x = [[0.0, 0.0], [2.0, 0.0], [4.0, 0.0], [6.0, 0.0]]
    >>> round(chaos(x, ["a"] * 4) * 5**0.5, 12)
    2.0
    """
    from scipy.spatial import cKDTree

    table = checked_rows(positions, "positions")
    names, codes = encoded(labels, len(table))
    if not len(table):
        raise InvalidArgument("wanted the positions of some cells, but got none")
    spread = table.std(axis=0)
    standard = (table - table.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    order = np.argsort(codes, kind="stable")
    borders = np.searchsorted(codes[order], np.arange(len(names) + 1))
    total = 0.0
    for start, stop in pairwise(borders.tolist()):
        if stop - start < SMALLEST_DOMAIN:
            continue
        member = standard[order[start:stop]]
        tree = cKDTree(member)
        for first in range(0, len(member), BLOCK_ROWS):
            # the nearest is the cell itself, or one at its very place: 0 either way
            distance, _ = tree.query(member[first : first + BLOCK_ROWS], k=2)
            total += float(distance[:, 1].sum())
    return total / len(table)


def pas(
    positions: ArrayLike,
    labels: ArrayLike | Sequence[str],
    *,
    n_neighs: int = 10,
    sample: int | None = None,
    seed: int = 0,
) -> float:
    """Measure the share of cells that most of their neighbors disagree with.

    Parameters
    ----------
    positions : array_like (n, 2) or (n, 3)
        Of the cells of one section, any unit; finite.
    labels : array_like (n,)
        Domain of each cell; any sortable type.
    n_neighs : int
        Nearest cells looked at; more than half of them disagree where 6 of 10 do.
    sample : int, optional
        Score this many cells, drawn with `seed`, among all.
    seed : int

    Returns
    -------
    float
        0 (every cell among its like) to 1.

    Raises
    ------
    InvalidArgument
        Not more cells than neighbors, one domain (PAS would be 0 whatever the tissue), nan, or
        lengths that differ.

    Notes
    -----
    "Percentage of abnormal spots", Shang and Zhou, Nature Communications 13 (2022), SpatialPCA; as
    in SDMBench a cell is abnormal when more than half of its 10 neighbors bear another label. Of
    neighbors at equal distances (a lattice has many) the lower row is taken.
    Memory: about 100 bytes a cell (a k-d tree) and 32 k bytes for each of 65,536 cells at a time.

    Examples
    --------
    >>> x = [[float(i), 0.0] for i in range(8)]
    >>> pas(x, [0, 0, 0, 1, 0, 0, 0, 0], n_neighs=2)
    0.125
    """
    from scipy.spatial import cKDTree

    table = checked_rows(positions, "positions")
    names, codes = encoded(labels, len(table))
    if len(names) < 2:
        raise InvalidArgument(f"wanted two domains or more, but got {len(names)}")
    if not 1 <= n_neighs < len(table):
        raise InvalidArgument(
            f"wanted more than {n_neighs} cells, so that each has {n_neighs} neighbors, but got "
            f"{len(table)}; ask for fewer neighbors"
        )
    rows = drawn_rows(len(table), sample, seed)
    tree = cKDTree(table)
    stray = 0
    for start in range(0, len(rows), BLOCK_ROWS):
        part = rows[start : start + BLOCK_ROWS]
        neighbor = _nearest(tree, table, part, n_neighs)
        differ = (codes[neighbor] != codes[part][:, None]).sum(axis=1)
        stray += int((2 * differ > n_neighs).sum())
    return stray / len(rows)


def _nearest(
    tree: object, x: NDArray[np.float64], rows: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """Return the k nearest other rows, by distance and then by row.

    A tree gives any of several equally near rows. Asking for more than k until the farthest one
    given lies beyond the k-th shows all that tie with it.
    """
    found = np.empty((len(rows), k), dtype=np.int64)
    open_rows, width = np.arange(len(rows)), k + 7
    while len(open_rows):
        width = min(width, len(x))
        asked = rows[open_rows]
        distance, index = tree.query(x[asked], k=width)  # type: ignore[attr-defined]
        distance = np.where(index == asked[:, None], -1.0, distance)  # itself first, to be dropped
        order = np.lexsort((index, distance), axis=1)
        distance = np.take_along_axis(distance, order, axis=1)
        found[open_rows] = np.take_along_axis(index, order, axis=1)[:, 1 : k + 1]
        # the cell itself is among the given, unless more cells than were given share its place
        tied = (distance[:, -1] <= distance[:, k]) | (distance[:, 0] >= 0.0)
        open_rows = open_rows[tied] if width < len(x) else open_rows[:0]
        width *= 2
    return found
