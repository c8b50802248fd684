"""One frame for the FOVs of a CosMx slide: where each lies, and which way its axes run.

Every FOV has local pixels; the slide has global ones. Exports differ in how the two go together:

======================= ============================= ==========================
export                  local to global               row of an image of the FOV
======================= ============================= ==========================
before AtoMx 1.3.2      x = X + lx, y = Y + ly        height - ly
AtoMx 1.3.2 and later   x = X + lx, y = Y - ly        ly
======================= ============================= ==========================

No file says which. The directions come from a regression over cells (or vertices, or transcripts)
that have both, and from the header of the FOV positions only where nothing has both: exports that
give them in pixels and millimeters are the later ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FovFrame", "Positions", "fit_frame", "from_positions", "with_positions"]

_SLOPE_OFF = 0.05  # of 1 or -1; local and global pixels are the same pixels
_NOTED_PX = 2.0
_SAMPLE = 200_000
_LEAST_SPREAD = 4.0  # px squared; below it a regression says nothing


@dataclass(frozen=True, slots=True)
class Positions:
    """Where the FOV positions file puts the FOVs."""

    fov: NDArray[np.int64]
    """(f,) FOV, each once."""
    px: NDArray[np.float64] | None
    """(f, 2) global pixels."""
    mm: NDArray[np.float64] | None
    """(f, 2) millimeters on the slide."""


@dataclass(frozen=True, slots=True)
class FovFrame:
    """Global pixel = origin of the FOV + sign x local pixel."""

    fov: NDArray[np.int64]
    """(f,) FOVs, ascending."""
    origin: NDArray[np.float64]
    """(f, 2) global pixel of the local pixel 0, 0."""
    sign: tuple[int, int]
    """Direction of local x and y in global pixels, 1 or -1."""
    how: str
    """How this was found."""
    notes: tuple[str, ...] = ()
    """What may be a mistake."""

    def rows_of(self, fov: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of each FOV here, -1 for others."""
        if not self.fov.size:
            return np.full(fov.size, -1)
        at = np.minimum(np.searchsorted(self.fov, fov), self.fov.size - 1)
        return np.where(self.fov[at] == fov, at, -1)

    def to_global(self, fov: NDArray[np.int64], local: NDArray[np.float64]) -> NDArray[np.float64]:
        """Global pixels of local ones, NaN in FOVs without a place.

        Examples
        --------
        >>> frame = FovFrame(np.array([3]), np.array([[100.0, 500.0]]), (1, -1), "")
        >>> frame.to_global(np.array([3, 4]), np.array([[1.0, 2.0], [0, 0]])).tolist()
        [[101.0, 498.0], [nan, nan]]
        """
        at = self.rows_of(fov)
        found = local * np.array(self.sign, np.float64)
        found += self.origin[at] if self.fov.size else np.nan
        found[at < 0] = np.nan
        return np.asarray(found)


def fit_frame(
    fov: NDArray[np.int64],
    local: NDArray[np.float64],
    whole: NDArray[np.float64],
    what: str,
    where: str,
) -> FovFrame | None:
    """Fit directions and places of the FOVs to points that are known in both frames.

    Parameters
    ----------
    fov : array, (n,) int64
    local, whole : array, (n, 2) float64
        Local and global pixels.
    what : str
        What the points are, for the provenance: "cells".
    where : str
        File, for messages.

    Returns
    -------
    FovFrame or None
        None when no FOV has two points apart, or when FOVs are turned by a quarter.

    Raises
    ------
    InputError
        The two are not pixels of one size.

    Examples
    --------
    >>> local = np.array([[0.0, 0], [9, 5], [1, 2], [8, 8]])
    >>> place = np.array([[10.0, 90], [10, 90], [50, 90], [50, 90]])
    >>> found = fit_frame(np.array([1, 1, 2, 2]), local, place + local * [1, -1], "cells", "")
    >>> found.sign, found.origin.tolist()
    ((1, -1), [[10.0, 90.0], [50.0, 90.0]])
    """
    good = np.isfinite(local).all(axis=1) & np.isfinite(whole).all(axis=1)
    if not good.all():
        fov, local, whole = fov[good], local[good], whole[good]
    n = fov.size
    fovs, of = np.unique(fov, return_inverse=True)
    if not fovs.size:
        return None
    mean_local, mean_whole = _means(of, local, fovs.size), _means(of, whole, fovs.size)
    step = max(1, n // _SAMPLE)  # directions need no more; places take every point
    of, local, whole = of[::step], local[::step], whole[::step]
    sign = _directions(local - mean_local[of], whole - mean_whole[of], where)
    if sign is None:
        return None
    origin = mean_whole - sign * mean_local
    off = np.abs(origin[of] + sign * local - whole).max(axis=1)
    lost = float((off > _NOTED_PX).mean())
    notes = (
        (f"{lost:.1%} of the {what} lie more than {_NOTED_PX:g} px off the place of their FOV",)
        if lost
        else ()
    )
    directions = (int(sign[0]), int(sign[1]))
    way = "against" if directions[1] < 0 else "along"
    how = f"local y runs {way} global y, by {n} {what} of {fovs.size} FOVs"
    return FovFrame(fovs, origin, directions, how, notes)


def _directions(
    apart: NDArray[np.float64], moved: NDArray[np.float64], where: str
) -> NDArray[np.float64] | None:
    """Sign of global over local steps within FOVs; None where they say nothing."""
    spread = (apart**2).sum(axis=0)
    if (spread < _LEAST_SPREAD).any():
        return None
    slope = (apart * moved).sum(axis=0) / spread
    crossed = np.abs((apart * moved[:, ::-1]).sum(axis=0) / spread)
    if (np.abs(slope) < _SLOPE_OFF).all() and (np.abs(crossed - 1) < _SLOPE_OFF).all():
        return None
    if (np.abs(np.abs(slope) - 1) > _SLOPE_OFF).any():
        raise InputError(
            Fault(
                where,
                "expected local and global pixels of one size, but the global ones change by "
                f"{slope[0]:.4g} (x) and {slope[1]:.4g} (y) a local pixel; the columns are of "
                "different exports",
            )
        )
    return np.sign(slope)


def _means(of: NDArray[np.int64], points: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    count = np.bincount(of, minlength=n)
    return np.stack([np.bincount(of, points[:, k], n) / count for k in (0, 1)], axis=1)


def from_positions(positions: Positions, um_per_px: float) -> FovFrame:
    """Frame of an export where nothing has both kinds of pixels: the header of the positions tells.

    Those in pixels and millimeters are of exports whose local y runs against global y.
    """
    later = positions.px is not None and positions.mm is not None
    order = np.argsort(positions.fov)
    way = "against" if later else "along"
    how = f"local y taken to run {way} global y, as in exports whose FOV positions are in "
    how += "pixels and millimeters" if later else "pixels or millimeters alone"
    origin = _pixels(positions, um_per_px)[order]
    return FovFrame(positions.fov[order], origin, (1, -1 if later else 1), how, (f"frame: {how}",))


def _pixels(positions: Positions, um_per_px: float) -> NDArray[np.float64]:
    """(f, 2) global pixels of the FOVs, by millimeters where there are no others."""
    if positions.px is not None:
        return positions.px
    assert positions.mm is not None
    return positions.mm * (1000.0 / um_per_px)


def with_positions(frame: FovFrame, positions: Positions, um_per_px: float) -> FovFrame:
    """Add the FOVs that only the positions file knows, moved to where the frame has the others.

    Some releases give the lower corner of a FOV where others give the upper: the shift between
    the two is one for the slide, and measured.
    """
    given = _pixels(positions, um_per_px)
    at = frame.rows_of(positions.fov)
    shared, new = at >= 0, at < 0
    if not shared.any() or not new.any():
        return frame
    shifts = frame.origin[at[shared]] - given[shared]
    shift = np.median(shifts, axis=0)
    off = float(np.abs(shifts - shift).max())
    if off > 5 * _NOTED_PX:
        lost = f"{int(new.sum())} FOVs without cells have no place"
        off_by = f"FOV positions differ by up to {off:.0f} px from where the cells lie"
        return replace(frame, notes=(*frame.notes, f"{off_by}; {lost}"))
    fovs = np.concatenate([frame.fov, positions.fov[new]])
    origin = np.concatenate([frame.origin, given[new] + shift])
    order = np.argsort(fovs)
    return replace(frame, fov=fovs[order], origin=origin[order])
