"""Polygons of segmented cells: matched by number, centroids of any ring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.source import StringValues
from tisseract.ingest.vendors.visium_hd_cells import CellRings, centroids, ring_centroids

SQUARE = [[10, 20], [12, 20], [12, 22], [10, 22], [10, 20]]


def cells(path: Path, rings: dict[int, Any], ids: list[str]) -> CellRings:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"cell_id": number},
        }
        for number, ring in rings.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return CellRings.of(path, StringValues.from_strings(ids), "matrix.h5")


def test_rings_find_their_rows(tmp_path: Path) -> None:
    """In any order; one of no cell, and one of two vertices, are no cell's."""
    rings = {7: SQUARE, 3: [[0, 0], [9, 9]], 5: SQUARE, 4: [[x + 4, y] for x, y in SQUARE]}
    found = cells(
        tmp_path / "a.geojson", rings, ["cellid_000000004-1", "cellid_000000003-1", "cellid_07-1"]
    )
    (piece,) = found()
    assert piece.rows.tolist() == [2, -1, -1, 0]
    positions, n_vertices = centroids(found)
    assert positions[[0, 2]].tolist() == [[15.0, 21.0], [11.0, 21.0]]
    assert np.isnan(positions[1]).all()
    assert n_vertices == 10


@pytest.mark.parametrize("ids", [["cellid_1-1", "cellid_1-2"], ["cell_1"], [None]])
def test_ids_of_another_form_or_twice_are_refused(tmp_path: Path, ids: list[str]) -> None:
    with pytest.raises(InputError, match=r"matrix\.h5: expected"):
        cells(tmp_path / "a.geojson", {1: SQUARE}, ids)


@pytest.mark.parametrize("far", [1e12, -1e12, 1e300])
def test_rings_that_lie_nowhere_are_refused(tmp_path: Path, far: float) -> None:
    found = cells(tmp_path / "a.geojson", {1: [[0, 0], [1, 0], [1, far]]}, ["cellid_1-1"])
    with pytest.raises(InputError, match=r"a\.geojson: expected pixels"):
        centroids(found)


def test_centroids_of_flat_open_and_empty_rings() -> None:
    rings: list[Any] = [SQUARE[:-1], [[0, 0], [2, 0], [4, 0]], SQUARE, []]
    vertices = np.array([point for ring in rings for point in ring], np.float64)
    found = ring_centroids(vertices, np.array([len(ring) for ring in rings]))
    assert found[:3].tolist() == [[11.0, 21.0], [2.0, 0.0], [11.0, 21.0]]
    assert np.isnan(found[3]).all()
    assert np.isnan(ring_centroids(np.empty((0, 2)), np.zeros(2, np.int64))).all()
