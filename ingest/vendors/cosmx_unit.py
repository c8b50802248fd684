"""Micrometers per pixel of a CosMx export, which differs between instruments.

Sources, the first that is there wins and the others must agree:

1. FOV positions in millimeters against pixels (AtoMx 1.3.2 and later), or against the places of
   the FOVs in global pixels;
2. `Area.um2` against `Area`;
3. the size of a FOV, by local pixels, images, or the step between FOVs: 5472 x 3648 pixels are
   those of the first instruments, 0.18 um wide (He et al., Nature Biotechnology 40:1794 (2022);
   its public lung set), all others have 4256 x 4256 of 0.12028 um (Bruker/NanoString, description
   of the flat files).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ..units import FoundUnit, find_unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .cosmx_frame import FovFrame, Positions

__all__ = [
    "EARLY_UM",
    "USUAL_UM",
    "find_pixel_size",
    "rows_of_fov",
    "size_by_area",
    "size_by_places",
    "step_of",
]

USUAL_UM, EARLY_UM = 0.12028, 0.18
_USUAL_FOV_PX = 4256
_EARLY_FOV_PX = (5472, 3648)
_WIDE = 1.25  # between the square FOVs and those of the first instruments
_STEP_SLACK_PX = 4
_SLACK_PX = 64
_AGREE, _NOTED, _REFUSED = 0.02, 0.005, 0.05
_PLAUSIBLE_UM = (0.02, 2.0)
_BENT = 0.02


def size_by_places(positions: Positions, frame: FovFrame | None) -> float | None:
    """Micrometers per pixel by FOV positions in both units; None when nothing tells.

    Distances are compared, so that stage axes that are swapped or reversed do no harm; places
    that are no image of each other tell nothing.
    """
    if positions.mm is None:
        return None
    mm, px = positions.mm, positions.px
    if px is None:
        if frame is None:
            return None
        at = frame.rows_of(positions.fov)
        mm, px = mm[at >= 0], frame.origin[at[at >= 0]]
    if len(mm) < 2:
        return None
    reach_mm = np.hypot(*(mm - mm.mean(axis=0)).T)
    reach_px = np.hypot(*(px - px.mean(axis=0)).T)
    if not reach_px.max() > 0 or not reach_mm.max() > 0:
        return None
    size = float(np.linalg.norm(reach_mm) / np.linalg.norm(reach_px))
    if np.abs(reach_mm - size * reach_px).max() > _BENT * reach_mm.max():
        return None
    return _plausible(1000 * size)


def step_of(positions: Positions | None) -> float:
    """Longer side of a FOV of the first instruments where FOVs lie in steps of one, else 0.

    FOVs of other instruments may lie anywhere apart, so only that step is taken for a sign.

    >>> from tisseract.ingest.vendors.cosmx_frame import Positions
    >>> px = np.array([[3188.889, 155216.7], [8661.111, 155216.7], [14133.333, 155216.7]])
    >>> step_of(Positions(np.arange(3), px, None))
    5472.0
    """
    if positions is None or positions.px is None:
        return 0.0
    for axis, side in enumerate(_EARLY_FOV_PX):
        steps = np.diff(np.unique(positions.px[:, axis]))
        steps = steps[steps > _SLACK_PX]
        if steps.size and abs(float(steps.min()) - side) < _STEP_SLACK_PX:
            return float(_EARLY_FOV_PX[0])
    return 0.0


def rows_of_fov(height: int, width: int) -> int:
    """Rows of a FOV of the instrument whose images have this shape, or one made smaller.

    >>> rows_of_fov(1064, 1064), rows_of_fov(1824, 2736)
    (4256, 3648)
    """
    return _EARLY_FOV_PX[1] if width > _WIDE * height else _USUAL_FOV_PX


def size_by_area(
    area_px: NDArray[np.float64] | None, area_um2: NDArray[np.float64] | None
) -> float | None:
    """Micrometers per pixel by the areas of the cells in both units.

    >>> round(size_by_area(np.array([3037.0, 8790.0]), np.array([43.94, 127.17])), 4)
    0.1203
    """
    if area_px is None or area_um2 is None:
        return None
    good = (area_px > 0) & (area_um2 > 0) & np.isfinite(area_px) & np.isfinite(area_um2)
    if not good.any():
        return None
    return _plausible(float(np.sqrt(np.median(area_um2[good] / area_px[good]))))


def _plausible(size: float) -> float | None:
    return size if np.isfinite(size) and _PLAUSIBLE_UM[0] < size < _PLAUSIBLE_UM[1] else None


def find_pixel_size(
    given: float | str | None,
    by_places: float | None,
    by_area: float | None,
    fov_px: float,
    where: str,
) -> FoundUnit:
    """Decide on the pixel size.

    Parameters
    ----------
    given : float, str or None
        `um_per_unit` of the sheet.
    by_places, by_area : float or None
        What the files say.
    fov_px : float
        Longer side of a FOV in pixels, as far as it is known.
    where : str
        Place to name in messages.

    Raises
    ------
    InputError
        The files contradict each other, or what is given contradicts the files.

    Examples
    --------
    >>> find_pixel_size(None, None, None, 5470, "").um_per_unit
    0.18
    >>> find_pixel_size(None, 0.12028, None, 4200, "").how
    '0.12028 um per pixel, by the FOV positions in millimeters'
    """
    sources = {
        "the FOV positions in millimeters": by_places,
        "Area.um2 against Area": by_area,
    }
    known = {name: size for name, size in sources.items() if size is not None}
    if given is not None:
        found = find_unit(np.zeros((0, 2)), given, where=where)
        return _against(found, known, where)
    if len(known) == 2:
        low, high = sorted(known.values())
        if high > (1 + _AGREE) * low:
            listed = ", ".join(f"{size:.5g} um by {name}" for name, size in known.items())
            raise InputError(
                Fault(
                    where,
                    f"expected one pixel size, but got {listed}; the files are of different "
                    "exports: set `um_per_unit`",
                )
            )
    for name, size in known.items():
        return FoundUnit(size, f"{size:.5g} um per pixel, by {name}")
    early = fov_px > _USUAL_FOV_PX + _SLACK_PX
    size = EARLY_UM if early else USUAL_UM
    reason = (
        f"assumed: FOVs of at least {fov_px:.0f} pixels are those of the first instruments"
        if early
        else "assumed: the pixels of all instruments but the first"
    )
    note = (
        f"no file tells the pixel size (FOV positions in millimeters, Area.um2): {size:g} um "
        f"{reason}; set `um_per_unit` if it is another"
    )
    return FoundUnit(size, f"{size:g} um per pixel, {reason}", (note,))


def _against(found: FoundUnit, known: dict[str, float], where: str) -> FoundUnit:
    """Hold what is given against what the files say; it settles what they disagree on."""
    size = found.um_per_unit
    if size is None or not known:
        return found
    messages, ratios = [], []
    for name, said in known.items():
        ratios.append(max(size / said, said / size))
        messages.append(f"um_per_unit is {size:g}, but a pixel is {said:.5g} um by {name}")
    if min(ratios) > 1 + _REFUSED:
        raise InputError(
            Fault(where, f"{messages[0]}; correct it, or leave it out to take the file's")
        )
    off = (one for one, ratio in zip(messages, ratios, strict=True) if ratio > 1 + _NOTED)
    return FoundUnit(size, found.how, (*found.notes, *off))
