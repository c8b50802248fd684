"""Size of a pixel, as the OME header of a TIFF says it."""

from __future__ import annotations

import math
import re
from pathlib import Path

from ..reader import faults_of

__all__ = ["pixel_um"]

_UM = {"µm": 1.0, "μm": 1.0, "&#181;m": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3, "mm": 1e3}
_PIXELS = re.compile(r"<(?:\w+:)?Pixels\s([^<>]*)>")
_NUMBER = re.compile(r"\d*\.?\d+(?:[eE][-+]?\d+)?")


def pixel_um(path: Path) -> float | None:
    """Micrometers along a pixel; None where the file does not say it.

    Raises
    ------
    InputError
        The file is no TIFF.
    """
    import tifffile

    with faults_of(path, "a TIFF image", parsing=True), tifffile.TiffFile(path) as tiff:
        # Attributes alone are looked at: a stranger's XML is never parsed as a document.
        found = _PIXELS.search((tiff.ome_metadata or "") if tiff.is_ome else "")
    facts = dict(re.findall(r'(\w+)="([^"]*)"', found[1])) if found else {}
    size, unit = facts.get("PhysicalSizeX", ""), _UM.get(facts.get("PhysicalSizeXUnit", "µm"))
    if unit is None or not _NUMBER.fullmatch(size):
        return None
    um = float(size) * unit
    return um if 0 < um < math.inf else None
