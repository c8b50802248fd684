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


def write_images(folder: Path, layout: Layout) -> None:
    """Composite (JPEG), stains (TIFF, a page each) and masks of every FOV that has cells."""
    height, width = layout.fov_px
    release, tissue = layout.release, layout.tissue
    parts = list(cells_of(layout))
    fov, cell, local = (
        np.concatenate([getattr(p, k) for p in parts]) for k in ("fov", "cell", "local")
    )
    image = layout.local(local)  # its own inverse
    radius = max(2, round(0.7 * tissue.radius_share * tissue.spacing_um / release.um))
    stem = "{0}_F{1:03d}" if not release.named else "{0}_F{1:05d}"
    description = json.dumps(
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
    for number in np.unique(fov).tolist():
        own = fov == number
        mask = np.zeros((height, width), np.uint16)
        disks(mask, image[own], cell[own], radius)
        gray = np.where(mask > 0, 200, 20).astype(np.uint8)
        gray[: height // 8, : width // 8] = 90  # a mark in one corner tells directions apart
        for kind in ("CellComposite", "CellLabels", "CompartmentLabels", "Morphology2D"):
            (folder / kind).mkdir(exist_ok=True)
        picture = Image.fromarray(np.stack([gray] * 3, axis=-1))
        picture.save(folder / "CellComposite" / f"{stem.format('CellComposite', number)}.jpg")
        tifffile.imwrite(
            folder / "CellLabels" / f"{stem.format('CellLabels', number)}.tif",
            mask,
            compression="zlib",
        )
        tifffile.imwrite(
            folder / "CompartmentLabels" / f"{stem.format('CompartmentLabels', number)}.tif",
            (mask > 0).astype(np.uint8),
        )
        stains = np.stack([gray.astype(np.uint16) * k for k in (10, 20, 30)])
        tifffile.imwrite(
            folder / "Morphology2D" / f"20240101_120000_S1_C902_P99_N99_F{number:05d}.TIF",
            stains,
            photometric="minisblack",
            description=description,
        )


def disks(mask: Any, at: Any, values: Any, radius: int) -> None:
    """Paint disks of the values around some pixels (x, y)."""
    steps = np.arange(-radius, radius + 1)
    dy, dx = (a.ravel() for a in np.meshgrid(steps, steps, indexing="ij"))
    near = dy**2 + dx**2 <= radius**2
    rows = np.floor(at[:, 1, None]).astype(np.int64) + dy[near]
    columns = np.floor(at[:, 0, None]).astype(np.int64) + dx[near]
    fits = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    mask[rows[fits], columns[fits]] = np.broadcast_to(values[:, None], rows.shape)[fits]
