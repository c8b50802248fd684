"""How long a coordinate unit is, found from what the user, the file or the assay says.

Never guessed silently: what was found, and how, goes into the provenance of the section.

Assays that imply a unit when the sheet's `technology` names them:

==================== =========== ==============================================================
technology           unit        source
==================== =========== ==============================================================
visium, cytassist    lattice:100 10x Genomics: spots 100 um apart, center to center
spatial_transcript.  lattice:200 Ståhl et al., Science 353:78 (2016): 200 um center to center
xenium               1 um        10x Genomics Xenium output: x_centroid, y_centroid in micrometres
merscope             1 um        Vizgen MERSCOPE output: center_x, center_y in micrometres
merfish              1 um        Moffitt et al., Science 362:eaau5324 (2018): positions in um
stereoseq            0.5 um      BGI: coordinates count DNA nanoballs, 500 nm apart
==================== =========== ==============================================================

CosMx is not in the list: its pixel size differs between releases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ..atlas.errors import Fault, InputError, InvalidArgument
from ..atlas.lattice import fit_lattice

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TECHNOLOGY_UNITS", "FoundUnit", "find_unit", "spacing", "technology_unit"]

TECHNOLOGY_UNITS: dict[str, float | str] = {
    "visium": "lattice:100",
    "cytassist": "lattice:100",
    "spatialtranscriptomics": "lattice:200",
    "xenium": 1.0,
    "merscope": 1.0,
    "merfish": 1.0,
    "stereoseq": 0.5,
}
_LATTICE = re.compile(r"lattice:\s*(\d+(?:\.\d+)?)(?:\s*um)?", re.IGNORECASE)
# Centers of neighboring cells are 3 to 100 um apart in any tissue, of bins and spots 0.5 to 500.
_PLAUSIBLE_UM = (3.0, 100.0)
# Printing is exact to 1 %; spot_diameter_fullres, a usual source of wrong units, is 7 to 22 % off.
_NOTED, _REFUSED = 0.05, 0.25
_ROUNDED = 1e-6
_FEWEST = 10


@dataclass(frozen=True, slots=True)
class FoundUnit:
    """Micrometres per source unit, and how that was found."""

    um_per_unit: float | None
    """None when unknown."""
    how: str
    """One sentence for the provenance."""
    notes: tuple[str, ...] = field(default=(), repr=False)
    """What may be a mistake."""


def technology_unit(technology: str | None) -> float | str | None:
    """Tell the unit that an assay implies, None if it implies none.

    Examples
    --------
    >>> technology_unit("10x Visium"), technology_unit("Stereo-seq"), technology_unit("CosMx")
    ('lattice:100', 0.5, None)
    >>> technology_unit("Visium HD") is None
    True
    """
    plain = re.sub(r"[^a-z0-9]", "", (technology or "").casefold()).removeprefix("10x")
    if plain.startswith("visiumhd"):  # bins, not spots; the scale is in its own files
        return None
    for name, unit in TECHNOLOGY_UNITS.items():
        if plain.startswith(name):
            return unit
    return None


def find_unit(
    positions: NDArray[np.float64],
    given: float | str | None,
    *,
    technology: str | None = None,
    from_file: tuple[float | str, str] | None = None,
    stated: bool = False,
    where: str = "um_per_unit",
) -> FoundUnit:
    """Find micrometres per unit: what the user gives, else the file, else the assay.

    Parameters
    ----------
    positions : array, (n, 2) float64
        Positions in source units, of one section.
    given : float, str or None
        A number, `lattice:PITCH`, `unknown`, or None.
    technology : str, optional
        Assay as the sheet names it.
    from_file : (unit, reason), optional
        What the file itself says.
    stated : bool
        Whether the vendor's files leave no doubt, so that what is given must agree with them.
    where : str
        Place to name in messages.

    Raises
    ------
    InputError
        If nothing says the unit, it is no unit, or the positions contradict it.

    Examples
    --------
    >>> find_unit(np.zeros((0, 2)), 0.5)
    FoundUnit(um_per_unit=0.5, how='0.5 um per unit, as given')
    """
    if given is not None:
        found = _resolve(positions, given, "as given", where)
        said = technology_unit(technology) or (from_file[0] if from_file else None)
        notes = _against_lattice(positions, found, said, technology, where)
        if stated and from_file is not None:
            notes += _against_files(found, from_file, where)
        return replace(found, notes=notes)
    if from_file is not None:
        return _resolve(positions, from_file[0], from_file[1], where)
    implied = technology_unit(technology)
    if implied is None:
        raise InputError(
            Fault(
                where,
                "expected the length of a coordinate unit, but the file does not say it; set "
                "`um_per_unit` to a number, to 'lattice:100' (spots 100 um apart), or to 'unknown'",
            )
        )
    found = _resolve(positions, implied, f"implied by technology {technology!r}", where)
    if not isinstance(implied, str) and implied == 1.0:
        _require_plausible(positions, technology, where)
    return found


def _resolve(
    positions: NDArray[np.float64], unit: float | str, reason: str, where: str
) -> FoundUnit:
    """Turn a number, `lattice:PITCH` or `unknown` into a length."""
    if isinstance(unit, str):
        text = unit.strip()
        if text.casefold() == "unknown":
            return FoundUnit(None, f"unknown, {reason}")
        found = _LATTICE.fullmatch(text)
        if found and float(found[1]) > 0:
            return _from_lattice(positions, float(found[1]), reason, where)
        try:
            unit = float(text)
        except ValueError:
            unit = float("nan")
        given: object = text
    else:
        given = unit
    if not np.isfinite(unit) or unit <= 0:
        raise InputError(
            Fault(
                where,
                "expected a number of micrometres above zero, 'lattice:PITCH' or 'unknown', "
                f"but got {given!r}",
            )
        )
    return FoundUnit(float(unit), f"{float(unit):g} um per unit, {reason}")


def _from_lattice(
    positions: NDArray[np.float64], pitch_um: float, reason: str, where: str
) -> FoundUnit:
    try:
        fit = fit_lattice(positions)
    except InvalidArgument as error:
        raise InputError(Fault(where, f"lattice:{pitch_um:g}: {error}")) from error
    return FoundUnit(
        pitch_um / fit.pitch,
        f"{fit.kind} lattice of pitch {fit.pitch:.6g} units taken as {pitch_um:g} um, {reason}",
    )


def _against_files(
    found: FoundUnit, from_file: tuple[float | str, str], where: str
) -> tuple[str, ...]:
    """Compare a given unit with the one that the vendor states; notes small differences."""
    given, (said, reason) = found.um_per_unit, from_file
    if given is None or isinstance(said, str):
        return ()
    ratio = max(given / said, said / given)
    if said == 1.0 and ratio > 1 + _ROUNDED:
        message = f"expected no um_per_unit, since the files are micrometers ({reason})"
        raise InputError(Fault(where, f"{message}, but got {given:g}; leave it empty"))
    message = f"um_per_unit is {given:g}, but the files say {said:.5g} ({reason})"
    if ratio > 1 + _REFUSED:
        raise InputError(Fault(where, f"{message}; leave it empty to take the files'"))
    return (message,) if ratio > 1 + _NOTED else ()


def _against_lattice(
    positions: NDArray[np.float64],
    found: FoundUnit,
    said: float | str | None,
    technology: str | None,
    where: str,
) -> tuple[str, ...]:
    """Compare a given unit with the pitch of the assay's spots; notes small differences."""
    lattice = _LATTICE.fullmatch(said) if isinstance(said, str) else None
    if found.um_per_unit is None or lattice is None:
        return ()
    try:
        fit = fit_lattice(positions)
    except InvalidArgument:  # cells or torn spots: nothing to compare with
        return ()
    wanted, apart = float(lattice[1]), fit.pitch * found.um_per_unit
    ratio = max(apart / wanted, wanted / apart)
    if ratio <= 1 + _NOTED:
        return ()
    assay = technology or "the assay that the file names"
    message = (
        f"with this unit the spots are {apart:.4g} um apart, but those of {assay} are "
        f"{wanted:g}; write lattice:{wanted:g} or {wanted / fit.pitch:.4g}"
    )
    if ratio > 1 + _REFUSED:
        away = ", or correct `technology`" if technology else ""
        raise InputError(Fault(where, message + away))
    return (f"um_per_unit: {message}",)


def _require_plausible(positions: NDArray[np.float64], technology: str | None, where: str) -> None:
    """Refuse an implied micrometre when the cells would lie impossibly close or far apart."""
    near = spacing(positions)
    if near is None:
        return
    if not _PLAUSIBLE_UM[0] <= near <= _PLAUSIBLE_UM[1]:
        raise InputError(
            Fault(
                where,
                f"technology {technology!r} implies micrometres, but neighboring cells are "
                f"{near:.3g} units apart (3 to 100 expected); set `um_per_unit`",
            )
        )


def spacing(positions: NDArray[np.float64]) -> float | None:
    """Median distance to the nearest neighbor, of some 2000; None where there are too few to tell.

    Examples
    --------
    >>> spacing(np.stack([np.arange(12.0) * 3, np.zeros(12)], axis=1))
    3.0
    """
    from scipy.spatial import cKDTree

    known = positions[np.isfinite(positions).all(axis=1)]
    if len(known) < _FEWEST:
        return None
    distances, _ = cKDTree(known).query(known[:: max(1, len(known) // 2000)], k=2)
    return float(np.median(distances[:, 1]))
