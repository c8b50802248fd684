"""How much tissue each domain covers, from the positions of its cells alone."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ...atlas.section import Section

__all__ = ["BYTES_PER_CELL", "domain_areas", "square_side"]

BYTES_PER_CELL = 80

_CELLS_PER_SQUARE = 4.0
_STEP = float(np.sqrt(2.0))
_FINEST = 2.0**-20  # of the extent: below it there are duplicate positions only


def square_side(positions: NDArray[np.float64]) -> float:
    """Choose the squares that tissue is measured by: small, yet with few empty ones inside.

    Parameters
    ----------
    positions : ndarray (n, 2) float64

    Returns
    -------
    float
        The smallest side of ..., 8, 11.3, 16, 22.6, ... (powers of the square root of 2) at which
        the occupied squares hold four positions on average; NaN with fewer than four. Cells that
        share a position (planes of z, centers of fields of view) count as one: however many they
        are, they tell of no more tissue.

    Notes
    -----
    At four cells a square on average, 2 % of the squares are empty by chance where cells lie at
    random, and none where they lie on a lattice.

    Examples
    --------
    >>> x, y = np.meshgrid(np.arange(32.0), np.arange(32.0))
    >>> square_side(np.column_stack([x.ravel(), y.ravel()]))
    2.0
    """
    positions = _distinct(positions)
    extent = float(np.ptp(positions, axis=0).max()) if len(positions) else 0.0
    if len(positions) < _CELLS_PER_SQUARE or extent == 0.0:
        return float("nan")
    box = np.maximum(np.ptp(positions, axis=0), extent * _FINEST)
    guess = np.sqrt(_CELLS_PER_SQUARE * float(box.prod()) / len(positions))
    power = int(np.ceil(np.log(guess) / np.log(_STEP)))
    while not _is_full(positions, _STEP**power):
        power += 1
    while _STEP ** (power - 1) > extent * _FINEST and _is_full(positions, _STEP ** (power - 1)):
        power -= 1
    return round(_STEP**power, 6)


def _distinct(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each position once: pairs sorted as complex numbers."""
    pairs = np.sort(np.ascontiguousarray(positions).view(np.complex128).ravel())
    first = np.ones(len(pairs), dtype=np.bool_)
    np.not_equal(pairs[1:], pairs[:-1], out=first[1:])
    return (pairs if first.all() else pairs[first]).view(np.float64).reshape(-1, 2)


def _is_full(positions: NDArray[np.float64], side: float) -> bool:
    return len(positions) >= _CELLS_PER_SQUARE * len(np.unique(_squares(positions, side)))


def _squares(positions: NDArray[np.float64], side: float) -> NDArray[np.int64]:
    """Return the number of the square that each cell lies in, from the lower left corner."""
    x, y = (_steps(column, side) for column in positions.T)
    x *= y.max() + 1
    x += y
    return x


def _steps(column: NDArray[np.float64], side: float) -> NDArray[np.int64]:
    place = column - column.min()
    place /= side
    return np.floor(place, out=place).astype(np.int64)


def domain_areas(
    section: "Section",
    codes: NDArray[np.int16],
    n_domains: int,
    taking_part: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Estimate the area of each domain in a section, square micrometers.

    Parameters
    ----------
    section : Section
    codes : ndarray (n_obs,) int16
        Domain of each cell, -1 for none.
    n_domains : int
    taking_part : ndarray (n_obs,) bool, optional
        Cells that are there at all, as for outlines; None is every cell.

    Returns
    -------
    ndarray (n_domains,) float64
        Every square that a cell taking part occupies (see `square_side`, of their positions) is
        divided among domains as these cells are, those without a label included; the areas add
        up to that of the occupied squares where all of them have one. NaN where the unit is
        unknown or there are too few cells to tell.

    Notes
    -----
    Squares at the rim of the tissue count whole: an overestimate of about half a side along it.
    What is measured is the plane of x and y: cells above one another divide their square.
    Memory: `BYTES_PER_CELL` for each cell of the section.
    """
    if section.um_per_unit is None:
        return np.full(n_domains, np.nan)
    positions = section.positions()
    if taking_part is not None:
        positions, codes = positions[taking_part], codes[taking_part]
    side = square_side(positions)
    if np.isnan(side):
        return np.full(n_domains, np.nan)
    _, square, cells = np.unique(_squares(positions, side), return_inverse=True, return_counts=True)
    labeled = codes >= 0
    share = side**2 / cells[square[labeled]]
    return np.bincount(codes[labeled], weights=share, minlength=n_domains)
