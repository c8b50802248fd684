"""What tests of the CosMx reader share: a tissue, its truth, and how a section is looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.source import RawSection
from tisseract.ingest.vendors.cosmx import CosmxReader

from .cosmx_bundle import Layout, cells_of
from .tissue import SimTissue

READER = CosmxReader()
TISSUE = SimTissue(120, 40, 12.0, seed=5, n_controls=4)
FOV_PX = (300, 350)
NEW, OLD = ReadOptions(), ReadOptions(um_per_unit=0.18)


def options_of(version: str) -> ReadOptions:
    return OLD if version == "legacy" else NEW


def truth_of(layout: Layout) -> dict[str, Any]:
    """What the simulator knows, in the order of the file."""
    parts = list(cells_of(layout))
    counts = np.concatenate([part.block.counts.toarray() for part in parts])
    fov, cell = (np.concatenate([getattr(p, k) for p in parts]) for k in ("fov", "cell"))
    head = "c_1_" if layout.release.named else ""
    return {
        "counts": counts,
        "positions": np.concatenate([part.whole for part in parts]),
        "ids": [f"{head}{f}_{c}" for f, c in zip(fov, cell, strict=True)],
        "gene_ids": list(layout.tissue.gene_names),
        "um": np.concatenate([part.block.positions_um for part in parts]),
        "fov": fov,
        "cell": cell,
    }


def points_of(raw: RawSection) -> pd.DataFrame:
    batches = list(raw.points["transcripts"].batches())
    found: pd.DataFrame = pd.concat([b.to_pandas() for b in batches], ignore_index=True)
    return found


def sampled(data: Any, kind: str, name: str, xy: Any) -> Any:
    """Values of an element under some points, by the transform in the store: (planes, n)."""
    from spatialdata.transformations import get_transformation

    element = getattr(data, kind)[name]
    affine = get_transformation(element, "microns").to_affine_matrix(("x", "y"), ("x", "y"))
    pixels = np.asarray(next(iter(element["scale0"].values())).values)
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    at = np.floor((xy - affine[:2, 2]) @ np.linalg.inv(affine[:2, :2]).T).astype(int)
    good = ((at >= 0) & (at < [pixels.shape[2], pixels.shape[1]])).all(axis=1)
    found = np.zeros((pixels.shape[0], len(xy)), pixels.dtype)
    found[:, good] = pixels[:, at[good, 1], at[good, 0]]
    return found
