"""A small simulated Xenium output without images, and what reading it must tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.reader import ReadOptions

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
    options = ReadOptions(reader_kwargs=kwargs)
    seen = READER.inspect(path, options)
    assert seen.faults
    with pytest.raises(InputError) as caught:
        READER.open(path, options)
    assert caught.value.faults == seen.faults
    return "\n".join(map(str, seen.faults))
