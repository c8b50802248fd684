"""Features of GeoJSON in pieces: cut at any byte, strings with brackets, hostile files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import InputError
from tisseract.ingest.vendors import geojson_features
from tisseract.ingest.vendors.geojson_features import feature_rings, feature_texts

number = st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-(10**6), 10**6)
ring = st.lists(st.tuples(number, number), min_size=3, max_size=6)
text = st.text('\\"{}[],\n aé', max_size=12)
feature = st.builds(
    lambda name, outer, word: {
        "type": "Feature",
        "id": word,
        "geometry": {"type": "Polygon", "coordinates": [outer, outer[:3]]},
        "properties": {"cell_id": name, word: [{"a": word}, []]},
    },
    st.integers(0, 10**9),
    ring,
    text,
)


def collected(path: Path) -> tuple[list[int], list[Any]]:
    ids: list[int] = []
    rings: list[Any] = []
    for piece in feature_rings(path, "cell_id"):
        ids += piece.ids.tolist()
        rings += [one.tolist() for one in np.split(piece.vertices, np.cumsum(piece.counts)[:-1])]
    return ids, rings


@settings(max_examples=25, deadline=None)
@given(
    features=st.lists(feature, max_size=5),
    piece=st.integers(1, 400),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_any_piece_gives_the_same_rings(
    tmp_path_factory: pytest.TempPathFactory,
    features: list[Any],
    piece: int,
    indent: int | None,
    ascii_only: bool,
) -> None:
    """The oracle is the whole file parsed at once."""
    path = tmp_path_factory.mktemp("geo") / "a.geojson"
    facts = {"type": "FeatureCollection", "name": "x", "features": features, "more": [1]}
    path.write_text(json.dumps(facts, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geojson_features, "_PIECE", piece)
        patch.setattr(geojson_features, "_HEAD", 64)
        ids, rings = collected(path)
        lines = b"\n".join(feature_texts(path)).split(b"\n") if features else []
    assert ids == [one["properties"]["cell_id"] for one in features]
    expected = [[list(map(float, p)) for p in f["geometry"]["coordinates"][0]] for f in features]
    if features:
        assert rings == expected
    assert [json.loads(line) for line in lines] == json.loads(json.dumps(features))


def written(path: Path, features: str) -> Path:
    path.write_text('{"type": "FeatureCollection", "features": [' + features)
    return path


SQUARE = '"geometry":{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}'
NAMED = '"properties":{"cell_id":1}}]}'


@pytest.mark.parametrize(
    ("features", "told"),
    [
        (f'{{{SQUARE},"properties":{{"cell_id":1}}}}', "breaks off"),
        (f'{{{SQUARE},"properties":{{"name":1}}}}]}}', "a property 'cell_id'"),
        (f'{{{SQUARE},"properties":[]}}]}}', "a property 'cell_id'"),
        ('{"geometry":{"type":"Point","coordinates":[1,2]},"properties":{"cell_id":1}}]}', "Point"),
        ('{"geometry":{"type":"MultiLineString","coordinates":[[[0,0],[1,1]]]},' + NAMED, "MultiL"),
        ('{"geometry":null,"properties":{"cell_id":1}}]}', "polygons of GeoJSON"),
        ('{"geometry":{"type":"Polygon","coordinates":[[[0],[1]]]},"properties":{"cell_id":1}}]}',
         "rings of x and y"),
        ('{"geometry":{"type":"Polygon","coordinates":[]},"properties":{"cell_id":1}}]}', "polyg"),
        ("[" * 40 + "]" * 40 + "]}", "brackets"),
        ("1,2]}", "polygons"),
        ('{"a":"' + "x" * 4000, "breaks off"),
    ],
)  # fmt: skip
def test_what_is_no_polygon_is_refused(tmp_path: Path, features: str, told: str) -> None:
    path = written(tmp_path / "cells.geojson", features)
    with pytest.raises(InputError, match=r"cells\.geojson") as caught:
        collected(path)
    assert told in str(caught.value)


def test_length_of_a_feature_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geojson_features, "_LONGEST", 2000)
    monkeypatch.setattr(geojson_features, "_PIECE", 500)
    monkeypatch.setattr(geojson_features, "_HEAD", 64)
    path = written(tmp_path / "cells.geojson", '{"a":"' + "x" * 10_000 + '"}]}')
    with pytest.raises(InputError, match="features below 2000 bytes"):
        collected(path)


def test_other_files_and_gzip(tmp_path: Path) -> None:
    path = tmp_path / "cells.geojson"
    path.write_text("<html>")
    with pytest.raises(InputError, match="FeatureCollection"):
        collected(path)
    whole = written(path, f'{{{SQUARE},"properties":{{"cell_id":"cellid_000000007-1"}}}}]}}')
    packed = tmp_path / "cells.geojson.gz"
    packed.write_bytes(gzip.compress(whole.read_bytes()))
    assert collected(packed) == ([7], [[[0, 0], [1, 0], [1, 1], [0, 0]]])
    packed.write_bytes(gzip.compress(whole.read_bytes())[:-9])
    with pytest.raises(InputError, match="geojson"):
        collected(packed)


def test_of_a_multipolygon_the_largest_area_is_taken(tmp_path: Path) -> None:
    """Debris of many vertices is not the cell."""
    angles = np.arange(20) * (2 * np.pi / 20)
    debris = np.stack([500 + np.cos(angles), 500 + np.sin(angles)], axis=1).tolist()
    square = [[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]
    parts = {"type": "MultiPolygon", "coordinates": [[debris], [square], [debris]]}
    one = {"type": "Feature", "geometry": parts, "properties": {"cell_id": 1}}
    path = written(tmp_path / "a.geojson", json.dumps(one) + "]}")
    (piece,) = feature_rings(path, "cell_id")
    assert piece.vertices.tolist() == square
    assert piece.n_further == 2
