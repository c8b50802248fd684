"""AnnData stores on Zarr, written by anndata itself: format 2 and 3, folders and zips."""

from __future__ import annotations

import shutil
import tempfile
import warnings
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from .. import h5ad_files as small

_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # removed when the interpreter ends


@cache
def template(version: int, layout: str) -> Path:
    """A store written once for all tests that ask for the same."""
    import anndata

    folder = tempfile.TemporaryDirectory(prefix="tisseract-")
    _KEPT.append(folder)
    path = Path(folder.name) / "store.zarr"
    with (
        warnings.catch_warnings(action="ignore"),
        anndata.settings.override(zarr_write_format=version),
    ):
        _toy(layout).write_zarr(path)
    return path


def _toy(layout: str) -> Any:
    import anndata
    import pandas as pd

    n = small.N_CELLS
    matrix: Any = small.counts()
    if layout != "dense":
        matrix = sparse.csr_matrix(matrix) if layout == "csr" else sparse.csc_matrix(matrix)
    obs = pd.DataFrame(
        {
            "depth": np.arange(n),
            "type": pd.Categorical(np.where(np.arange(n) % 3, "a", "b")),
            "word": [f"w{i}" for i in range(n)],
            "flag": pd.array([True, None] * (n // 2), dtype="boolean"),
        },
        index=small.cell_ids(),
    )
    data = anndata.AnnData(matrix, obs=obs, var=pd.DataFrame(index=small.gene_names()))
    data.obsm["spatial"] = small.positions()
    data.layers["log"] = matrix.copy()
    return data


def write_store(path: Path, version: int = 3, layout: str = "csr") -> Path:
    """Copy a store to where a test may spoil it."""
    return Path(shutil.copytree(template(version, layout), path))


def write_zip(path: Path, version: int = 3, layout: str = "csr", inner: str = "") -> Path:
    """Pack a store into one zip, at its root or in a folder `inner/` of it."""
    source = template(version, layout)
    with zipfile.ZipFile(path, "w") as file:
        for one in sorted(source.rglob("*")):
            if one.is_file():
                file.write(one, f"{inner}{one.relative_to(source).as_posix()}")
    return path


def _small(folder: Path) -> Path:
    path = write_store(folder / "brain.zarr", version=2)
    # Else the headers of single arrays are not looked at.
    (path / ".zmetadata").unlink(missing_ok=True)
    return path


def _zipped(folder: Path) -> Path:
    return write_zip(folder / "brain.zarr.zip", version=2)


KINDS = [
    ("anndata-zgroup", _small, ".zgroup"),
    ("anndata-data", _small, "X/data/0"),
    ("anndata-header", _small, "X/data/.zarray"),
    ("anndata-index", _small, "obs/.zattrs"),
    ("anndata-zip", _zipped, ""),
]
"""File kinds for mutants: name, writer of the input, file in it ("" is the input itself)."""
