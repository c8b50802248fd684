"""Real crops as plain tables: the totals of pandas, the cells of their own readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.vendors.generic import TableReader
from tisseract.ingest.vendors.tenx_positions import TenxReader
from tisseract.ingest.vendors.visium import VisiumReader

from ...contracts import ids_of, matrix_of

pytestmark = pytest.mark.real

MERSCOPE: dict[str, Any] = {
    "um_per_unit": 1,
    "technology": "MERSCOPE",
    "controls": "Blank-*",
    "cells": {"path": "cell_metadata.csv", "id": "EntityID", "x": "center_x", "y": "center_y"},
    "counts": {"layout": "dense", "path": "cell_by_gene.csv", "id": "cell"},
    "transcripts": {
        "path": "detected_transcripts.csv", "x": "global_x", "y": "global_y", "z": "global_z",
        "gene": "gene",
    },
}  # fmt: skip


def test_merscope_tables(real_data: Path) -> None:
    folder = real_data / "vendor" / "merscope_crop"
    given: Any = {"mapping": MERSCOPE}
    raw = TableReader().open(folder, ReadOptions(reader_kwargs=given))
    counts = pd.read_csv(folder / "cell_by_gene.csv", index_col="cell", dtype={"cell": str})
    cells = pd.read_csv(folder / "cell_metadata.csv", dtype={"EntityID": str})
    cells = cells.set_index("EntityID").loc[counts.index]
    assert ids_of(raw) == counts.index.tolist()
    assert (matrix_of(raw).toarray() == counts.to_numpy()).all()
    np.testing.assert_allclose(raw.positions, cells[["center_x", "center_y"]].to_numpy())
    blanks = [name for name in counts.columns if name.startswith("Blank-")]
    assert list(raw.apart["controls"].names) == blanks
    spots = pd.read_csv(folder / "detected_transcripts.csv")
    batches = list(raw.points["transcripts"].batches())
    x = np.concatenate([np.asarray(one["x"]) for one in batches])
    np.testing.assert_allclose(x, spots["global_x"].to_numpy())
    renamed = {"x", "y", "global_x", "global_y", "global_z"}
    assert set(batches[0].schema.names) >= set(spots.columns) - renamed


def test_a_10x_folder_with_positions_of_space_ranger(real_data: Path) -> None:
    folder = real_data / "vendor" / "visium_mouse"
    given: Any = {
        "positions": "spatial/tissue_positions.csv",
        "columns": ["barcode", "pxl_col_in_fullres", "pxl_row_in_fullres"],
    }
    options = ReadOptions(um_per_unit="lattice:100", reader_kwargs=given)
    raw = TenxReader().open(folder, options)
    own = VisiumReader().open(folder, ReadOptions(reader_kwargs={"in_tissue_only": False}))
    places = dict(zip(ids_of(own), own.positions.tolist(), strict=True))
    assert [places[name] for name in ids_of(raw)] == raw.positions.tolist()
    assert raw.um_per_unit == pytest.approx(own.um_per_unit, rel=1e-4)
    assert matrix_of(raw).sum() == matrix_of(own).sum()
