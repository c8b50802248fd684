"""A small simulated Xenium output without images, and what reading it must tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tisseract.ingest.reader import ReadOptions

from ...contracts import told_faults
from .tissue import SimTissue
from .xenium_bundle import write_xenium
from .xenium_checks import READER

TISSUE = SimTissue(60, n_genes=40, mean_counts=20, seed=3)
BLOCK = TISSUE.whole()
PLAIN: dict[str, Any] = {"images": False, "masks": False, "pixel_um": 2.0}


def write(folder: Path, **more: Any) -> Path:
    path = write_xenium(folder / "output-XETG00000", TISSUE, **{**PLAIN, **more})
    if more.get("matrix") == ("zarr",):
        (path / "cell_feature_matrix.h5").unlink()
    return path


def faults(path: Path, **kwargs: object) -> str:
    return told_faults(READER, path, ReadOptions(reader_kwargs=kwargs))
