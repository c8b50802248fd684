"""Images of the FOVs of a simulated CosMx export: composites, stains, masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from .cosmx_bundle import Layout, cells_of

_STAINS = ("Histone", "DAPI", "rRNA/18S")
_DESCRIPTION = json.dumps(
    {
        "ChannelOrder": "BGU",
        "MorphologyKit": {
            "MorphologyReagents": [
                {"BiologicalTarget": name, "Fluorophore": {"ChannelId": letter}}
                for name, letter in zip(_STAINS, "BUG", strict=True)
            ]
        },
    }
)


def write_images(folder: Path, layout: Layout) -> None:
    """Composite (JPEG), stains (TIFF, a page each) and masks of every FOV that has cells."""
    release, tissue = layout.release, layout.tissue
    parts = list(cells_of(layout))
    fov, cell, local = (
        np.concatenate([getattr(p, k) for p in parts]) for k in ("fov", "cell", "local")
    )
    image = layout.local(local)  # its own inverse
    radius = max(2, round(0.7 * tissue.radius_share * tissue.spacing_um / release.um))
    for kind in ("CellComposite", "CellLabels", "CompartmentLabels", "Morphology2D"):
        (folder / kind).mkdir(exist_ok=True)
    for number in np.unique(fov).tolist():
        own = fov == number
        mask = np.zeros(layout.fov_px, np.uint16)
        disks(mask, image[own], cell[own], radius)
        _write_fov(folder, f"F{number:05d}" if release.named else f"F{number:03d}", mask)
        gray = _gray(mask).astype(np.uint16)
        tifffile.imwrite(
            folder / "Morphology2D" / f"20240101_120000_S1_C902_P99_N99_F{number:05d}.TIF",
            np.stack([gray * k for k in (10, 20, 30)]),
            photometric="minisblack",
            description=_DESCRIPTION,
        )


def _gray(mask: Any) -> Any:
    height, width = mask.shape
    gray = np.where(mask > 0, 200, 20).astype(np.uint8)
    gray[: height // 8, : width // 8] = 90  # a mark in one corner tells directions apart
    return gray


def _write_fov(folder: Path, name: str, mask: Any) -> None:
    """Write the composite and the masks of a FOV."""
    picture = Image.fromarray(np.stack([_gray(mask)] * 3, axis=-1))
    picture.save(folder / "CellComposite" / f"CellComposite_{name}.jpg")
    tifffile.imwrite(folder / "CellLabels" / f"CellLabels_{name}.tif", mask, compression="zlib")
    compartments = folder / "CompartmentLabels" / f"CompartmentLabels_{name}.tif"
    tifffile.imwrite(compartments, (mask > 0).astype(np.uint8))


def disks(mask: Any, at: Any, values: Any, radius: int) -> None:
    """Paint disks of the values around some pixels (x, y)."""
    steps = np.arange(-radius, radius + 1)
    dy, dx = (a.ravel() for a in np.meshgrid(steps, steps, indexing="ij"))
    near = dy**2 + dx**2 <= radius**2
    rows = np.floor(at[:, 1, None]).astype(np.int64) + dy[near]
    columns = np.floor(at[:, 0, None]).astype(np.int64) + dx[near]
    fits = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    mask[rows[fits], columns[fits]] = np.broadcast_to(values[:, None], rows.shape)[fits]
