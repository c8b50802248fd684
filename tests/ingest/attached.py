"""The section that tests attach regions, frames and labels to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import h5ad_files as small

UM = 0.5


def sheet_row(folder: Path, **more: Any) -> dict[str, Any]:
    """A section of 100 x 100 pixels of 0.5 um, y up: stored x in 0..50, y in -50..0."""
    path = folder / "brain.h5ad"
    if not path.exists():
        small.write_h5ad(path)
    return {"sample": "s", "data_path": path, "um_per_unit": UM, "y_axis": "up", **more}


def stored() -> Any:
    """Positions of its cells as they are stored."""
    return small.positions() * [UM, -UM]
