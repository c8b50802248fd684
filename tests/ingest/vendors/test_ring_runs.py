"""Rings of tables: cut where they close, the largest of a cell, never longer than memory allows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tisseract.ingest.ring_checks import MOST_VERTICES
from tisseract.ingest.ring_spill import RingSpill
from tisseract.ingest.source import RingPiece, RingsSource, StringValues
from tisseract.ingest.vendors import rings as vertex_tables
from tisseract.ingest.vendors.rings import vertex_rings
from tisseract.ingest.vendors.table import open_table
from tisseract.ingest.vendors.xenium_rings import cell_rings, nucleus_outlines, zip_outlines

TRIANGLE = np.array([[0, 0], [1, 0], [0, 1], [0, 0]], np.float64)
SQUARE = np.array([[0, 0], [18, 0], [18, 18], [0, 18], [0, 0]], np.float64)
IDS = StringValues.from_strings(pa.array(["a", "b"], pa.large_string()))


def table_of(path: Path, cells: list[str], xy: Any, labels: list[int] | None = None) -> Any:
    columns: dict[str, Any] = {"cell_id": cells, "vertex_x": xy[:, 0], "vertex_y": xy[:, 1]}
    if labels is not None:
        columns["label_id"] = labels
    pq.write_table(pa.table(columns), path / "t.parquet", row_group_size=5000)
    return open_table(path / "t.parquet")


def written(source: RingsSource, path: Path) -> tuple[list[int], str]:
    """Vertices of the boundary of each cell, and the notes."""
    order = np.arange(2, dtype=np.uint32)
    with RingSpill(path / "rings", order, np.zeros((2, 2)), np.ones(2), 1.0) as spill:
        for piece in source.pieces():
            spill.add(piece)
        counts = [int(k) for group in spill.groups() for k in group.counts]
        return counts, " ".join(spill.notes())


@pytest.mark.parametrize("labeled", [True, False])
def test_the_largest_ring_of_a_cell_is_its_boundary(tmp_path: Path, labeled: bool) -> None:
    labels = [1] * 4 + [2] * 5 + [3] * 4 if labeled else None
    xy = np.concatenate([TRIANGLE, SQUARE, TRIANGLE])
    source = cell_rings(table_of(tmp_path, ["a"] * 9 + ["b"] * 4, xy, labels), IDS)
    counts, notes = written(source, tmp_path)
    assert counts == [4, 3]
    assert "1 further boundaries" in notes


@pytest.mark.parametrize("reader", ["xenium", "table"])
def test_a_run_without_end_is_cut_and_counted(
    tmp_path: Path, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vertex_tables, "_VERTICES", 10_000)
    n = 3 * MOST_VERTICES
    angles = np.arange(n) * (2 * np.pi / n)
    xy = np.concatenate([np.stack([np.cos(angles), np.sin(angles)], axis=1), SQUARE])
    table = table_of(tmp_path, ["a"] * n + ["b"] * 5, xy)
    source = (
        cell_rings(table, IDS)
        if reader == "xenium"
        else vertex_rings(table, "cell_id", "vertex_x", "vertex_y", IDS)
    )
    assert max(len(piece.vertices) for piece in source.pieces()) <= MOST_VERTICES + 20_000
    counts, notes = written(source, tmp_path)
    assert counts == [8, 4]
    assert "1 of 2 cells have no usable boundary, 1 rings being none" in notes


def test_many_nuclei_of_one_cell_take_one_pass(tmp_path: Path) -> None:
    n = 8000
    shifts = np.repeat(np.arange(n), 4)[:, None] * [2.0, 0.0]
    xy = np.tile(TRIANGLE, (n, 1)) + shifts
    tables = nucleus_outlines(table_of(tmp_path, ["a"] * len(xy), xy)).tables()
    found = [name for one in tables for name in one.column("cell_id").to_pylist()]
    assert found == ["a"] * n


def test_a_nucleus_without_a_cell_has_no_cell() -> None:
    piece = RingPiece(np.array([1, -1]), np.array([4, 5]), np.concatenate([TRIANGLE, SQUARE]))
    nuclei = [(piece, np.array([7, 9]))]
    zipped = SimpleNamespace(path=Path("cells.zarr.zip"), ids=IDS, nuclei=lambda: nuclei)
    (table,) = zip_outlines(cast("Any", zipped)).tables()
    assert table.column("cell_id").to_pylist() == ["b", None]
    assert table.column("label_id").to_pylist() == [7, 9]
