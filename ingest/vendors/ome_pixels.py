"""What the OME header of a TIFF says: sizes of pixels, names of channels."""

from __future__ import annotations

import math
import re
import struct
from html import unescape
from pathlib import Path

from ..reader import faults_of

__all__ = ["ome_attributes", "pixel_um"]

_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3}
_UM |= dict.fromkeys(("micron", "microns", "micrometer"), 1.0)
_NUMBER = re.compile(r"\d*\.?\d+(?:[eE][-+]?\d+)?")


def ome_attributes(path: Path, tag: str) -> list[dict[str, str]]:
    """Attributes of every element of a name, in order; none where the file has no OME header.

    Raises
    ------
    InputError
        The file is no TIFF.
    """
    import tifffile

    with faults_of(path, "a TIFF image", parsing=True):
        try:
            with tifffile.TiffFile(path) as tiff:
                text = (tiff.ome_metadata or "") if tiff.is_ome else ""
        # What tifffile raises on headers that contradict themselves.
        except (IndexError, ArithmeticError, AttributeError, struct.error) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
    # Attributes alone are looked at: a stranger's XML is never parsed as a document.
    elements = re.findall(rf"<(?:\w+:)?{tag}\s([^<>]*)>", text)
    found = [re.findall(r'([\w:]+)="([^"]*)"', element) for element in elements]
    return [{name: unescape(value) for name, value in pairs} for pairs in found]


def pixel_um(path: Path) -> float | None:
    """Micrometers along a pixel; None where the file does not say it.

    Raises
    ------
    InputError
        The file is no TIFF.
    """
    facts = next(iter(ome_attributes(path, "Pixels")), {})
    size, unit = facts.get("PhysicalSizeX", ""), _UM.get(facts.get("PhysicalSizeXUnit", "µm"))
    if unit is None or not _NUMBER.fullmatch(size):
        return None
    um = float(size) * unit
    return um if 0 < um < math.inf else None
