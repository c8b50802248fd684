"""Pitch of the lattice on which spots were printed, from nothing but their positions.

Spot arrays are hexagonal (Visium) or square (Spatial Transcriptomics). Their pitch in micrometres
is known from the assay, so pitch in file units gives the scale; `spot_diameter_fullres` of Space
Ranger would mislead by 7 to 22 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from .errors import InvalidArgument

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MIN_ORDER", "MIN_SPOTS", "LatticeFit", "LatticeKind", "best_lattice", "fit_lattice"]

LatticeKind = Literal["hexagonal", "square"]

# Neighbors along the lattice: 6 in a hexagonal one, 4 in a square one; the next shell lies at
# 1.73 and 1.41 pitches, so this window holds the first shell alone, also when spots are jittered.
_WINDOW = (0.75, 1.25)
_FOLD: dict[LatticeKind, int] = {"hexagonal": 6, "square": 4}
# |mean exp(i m angle)| is 1 on a lattice, 0.9 for spots jittered by 5 % of the pitch and below
# 0.1 for cells of tissue (4 to 6 nearest neighbors of 1,000 random points: 0.05).
MIN_ORDER = 0.5
MIN_SPOTS = 12


@dataclass(frozen=True, slots=True)
class LatticeFit:
    """A lattice that at least half of the nearest neighbors agree with."""

    kind: LatticeKind
    """Hexagonal or square."""
    pitch: float
    """Distance between neighboring spots, in the units of the positions."""
    angle: float
    """Direction of one row of spots, radians, in [0, pi / 3) or [0, pi / 2)."""
    order: float
    """Orientational order, 0 (no lattice) to 1 (perfect)."""
    spread: float
    """Median deviation of neighbor distances from the pitch, as a fraction of it."""
    n_pairs: int
    """Neighbor pairs behind the fit."""


def fit_lattice(positions: NDArray[np.float64], *, max_points: int = 50_000) -> LatticeFit:
    """Fit kind, pitch and orientation of a spot lattice.

    Differences to the nearest neighbors are folded by the lattice's symmetry; the pitch is the
    median length along the folded direction, so jitter of the spots does not shorten it as it
    does the nearest-neighbor distance.

    Parameters
    ----------
    positions : array, (n, 2) float64
        Spot centers in any unit; missing spots and several pieces of tissue do no harm.
    max_points : int
        More points than this are cropped around the median one (the neighbors must stay).

    Returns
    -------
    LatticeFit

    Raises
    ------
    InvalidArgument
        If the positions are too few or lie on no lattice.

    Notes
    -----
    Memory: about 300 bytes a point, for at most `max_points`.

    Examples
    --------
    >>> x, y = np.meshgrid(np.arange(8.0), np.arange(8.0))
    >>> fit = fit_lattice(200 * np.column_stack([x.ravel(), y.ravel()]))
    >>> fit.kind, round(fit.pitch, 6)
    ('square', 200.0)
    """
    best = best_lattice(positions, max_points=max_points)
    if best is None:
        n = len(_distinct(np.asarray(positions, dtype=np.float64), max_points))
        raise InvalidArgument(
            f"expected at least {MIN_SPOTS} spots to fit a lattice, but got {n}; "
            "give `um_per_unit` as a number"
        )
    if best.order < MIN_ORDER:
        raise InvalidArgument(
            "expected spots on a hexagonal or square lattice, but got positions without one "
            f"(order {best.order:.2f}, at least {MIN_ORDER} wanted); give `um_per_unit` as a "
            "number, or 'unknown'"
        )
    return best


def best_lattice(positions: NDArray[np.float64], *, max_points: int = 50_000) -> LatticeFit | None:
    """Fit a lattice as `fit_lattice` does, however poor; None for too few positions.

    Examples
    --------
    >>> points = np.random.default_rng(0).random((500, 2))
    >>> fit = best_lattice(points)
    >>> fit is not None and fit.order < MIN_ORDER
    True
    """
    points = _distinct(np.asarray(positions, dtype=np.float64), max_points)
    if len(points) < MIN_SPOTS:
        return None
    vectors, lengths = _neighbors(points)
    fits = [_fit_kind(kind, vectors, lengths, base) for kind in _FOLD for base in _guesses(lengths)]
    best = max(fits, key=lambda fit: fit.order)
    # Every other spot of a lattice is a lattice, too: of those that hold, the finest is meant.
    holding = [
        fit for fit in fits if fit.order >= 0.8 * best.order and 4 * fit.n_pairs >= len(points)
    ]
    return min(holding, key=lambda fit: fit.pitch, default=best)


def _distinct(positions: NDArray[np.float64], max_points: int) -> NDArray[np.float64]:
    """Distinct finite positions, cropped to the `max_points` around the median."""
    finite = positions[np.isfinite(positions).all(axis=1)]
    if len(finite) > max_points:
        center = np.median(finite, axis=0)
        reach = np.abs(finite - center).max(axis=1)
        finite = finite[np.argpartition(reach, max_points)[:max_points]]
    return np.unique(finite, axis=0)


def _neighbors(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differences to the eight nearest neighbors, and their lengths, both (n, k)."""
    from scipy.spatial import cKDTree

    k = min(9, len(points))
    lengths, others = cKDTree(points).query(points, k=k)
    vectors = points[others[:, 1:]] - points[:, None, :]
    return vectors, np.asarray(lengths[:, 1:], dtype=np.float64)


def _guesses(lengths: NDArray[np.float64]) -> tuple[float, ...]:
    """First guesses at the pitch: medians of the first, second and third nearest distance.

    The third is past the jitter that shortens the first; the first still is the pitch where so
    many spots are missing that the third lies in the next shell.
    """
    return tuple(float(np.median(lengths[:, k])) for k in range(min(3, lengths.shape[1])))


def _fit_kind(
    kind: LatticeKind, vectors: NDArray[np.float64], lengths: NDArray[np.float64], base: float
) -> LatticeFit:
    """Fit one kind of lattice, narrowing the window of lengths around the pitch."""
    fold = _FOLD[kind]
    pitch, order, angle, spread, n_pairs = base, 0.0, 0.0, 1.0, 0
    for _ in range(4):
        shell = (lengths > _WINDOW[0] * pitch) & (lengths < _WINDOW[1] * pitch)
        n_pairs = int(shell.sum())
        if n_pairs == 0:
            break
        chosen = vectors[shell]
        theta = np.arctan2(chosen[:, 1], chosen[:, 0])
        mean = np.exp(1j * fold * theta).mean()
        order, angle = float(abs(mean)), float(np.angle(mean) / fold)
        # Length along the nearest lattice direction: jitter across it changes nothing, to first
        # order, and jitter along it averages out.
        off = theta - angle
        off -= np.round(off * fold / (2 * np.pi)) * (2 * np.pi / fold)
        along = lengths[shell] * np.cos(off)
        pitch = float(np.median(along))
        spread = float(np.median(np.abs(along - pitch)) / pitch)
    return LatticeFit(kind, pitch, angle % (2 * np.pi / fold), order, spread, n_pairs)
