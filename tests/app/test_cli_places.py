"""Regions, frames and nearness from the command line equal those of Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tisseract
from tisseract.cli import main
from tisseract.testing import small_atlas

SECTION = "E10.5_e1"
TRIANGLE = [[[0, 0], [200, 0], [0, 200], [0, 0]]]


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_atlas(tmp_path_factory.mktemp("cli_places"), n_cells=800).url)


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def _file(folder: Path, *names: object) -> str:
    parts = [
        {
            "type": "Feature",
            "properties": {"label": name},
            "geometry": {"type": "Polygon", "coordinates": TRIANGLE},
        }
        for name in names
    ]
    path = folder / "regions.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": parts}))
    return str(path)


def test_regions_are_annotated_listed_and_asked_for(
    atlas: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = tmp_path / "tree.csv"
    tree.write_text("id,name,parent\n1,all,\n2,corner,1\n")
    put = ["annotate", atlas, "--section", SECTION, "--name-column", "label"]
    more = ["--ontology", str(tree), "--um-per-unit", "0.5"]
    told = ask(capsys, *put, "--regions", _file(tmp_path, "corner"), *more)
    assert told == {"key": "regions", "section": SECTION, "n_polygons": 1}
    (row,) = ask(capsys, "regions", atlas)
    assert row["name"] == "corner"
    assert row["area_um2"] == pytest.approx(100**2 / 2)
    found = ask(capsys, "region", atlas, "--name", "all", "--descendants")
    x, y = tisseract.open(atlas).section(SECTION).positions().T
    inside = (x >= 0) & (y >= 0) & (x + y <= 100)
    assert found["n_obs"] == np.count_nonzero(inside) > 0
    again = ask(capsys, *put, "--regions", _file(tmp_path, "corner"), code=1)
    assert "--overwrite" in again["error"]["message"]
    bad = ask(capsys, *put, "--key", "bad", "--regions", _file(tmp_path, "fine", None), code=1)
    assert [fault["location"] for fault in bad["error"]["faults"]] == ["feature 2"]
    assert len(ask(capsys, "regions", atlas)) == 1
    assert main(["annotate", atlas]) == 2
    assert main(["annotate", atlas, "x.csv", "--section", SECTION]) == 2
    assert main([*put, "--regions", "no.geojson"]) == 2


def test_one_box_of_a_frame_and_what_is_near(
    atlas: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "frames.json"
    names = tisseract.open(atlas).section_names
    file.write_text(json.dumps({"common": {name: [[0, 2, 0], [2, 0, 0]] for name in names}}))
    assert ask(capsys, "register", atlas, str(file)) == {"frames": {"common": len(names)}}
    box = ask(capsys, "region", atlas, "--bbox", "0,0,130,110", "--frame", "common")
    wanted = {}
    opened = tisseract.open(atlas)
    for name in names:
        x, y = opened.section(name).positions().T
        inside = (2 * y >= 0) & (2 * y <= 130) & (2 * x >= 0) & (2 * x <= 110)
        wanted[name] = int(np.count_nonzero(inside))
    assert box["sections"] == {name: n for name, n in wanted.items() if n}
    near = ask(capsys, "region", atlas, "--near", "true_domain == 'niche'", "--within-um", "6")
    python = opened.region(near="true_domain == 'niche'", within_um=6)
    assert near["n_obs"] == python.n_obs > opened.query("true_domain == 'niche'").n_obs
    opened = tisseract.open(atlas, read_only=False)
    opened.annotate_regions(SECTION, {"Tumor": [(20, 20), (60, 20), (60, 60)]}, key="near")
    python = opened.region(near=opened.region(name="Tumor", region_key="near"), within_um=9)
    for words in (["--near", "Tumor"], ["--near-region", "Tumor"]):
        found = ask(capsys, "region", atlas, *words, "--within-um", "9", "--region-key", "near")
        assert found["n_obs"] == python.n_obs > 0
    assert main(["region", atlas, "--bbox", "0,0,1,1"]) == 2
    assert main(["region", atlas, "--near", "true_domain == 'niche'"]) == 1
    file.write_text("[]")
    assert main(["register", atlas, str(file)]) == 2
    drawn = tmp_path / "drawn.geojson"
    shape = {"type": "Polygon", "coordinates": [[[40, 40], [120, 40], [120, 120], [40, 40]]]}
    drawn.write_text(json.dumps({"type": "Feature", "objectType": "annotation", "geometry": shape}))
    pixels = ["--section", SECTION, "--polygon", str(drawn)]
    for command in ("region", "similar"):
        told = ask(capsys, command, atlas, *pixels, code=1)["error"]["message"]
        assert told.startswith("--um-per-unit is wanted with polygons of QuPath")
    inside = opened.region(SECTION, polygon=[(20, 20), (60, 20), (60, 60)])
    found = ask(capsys, "region", atlas, *pixels, "--um-per-unit", "0.5")
    assert found["n_obs"] == inside.n_obs > 0
    touching = ["--section", SECTION, "--circle", "50,50,20", "--predicate", "intersects"]
    assert ask(capsys, "region", atlas, *touching)["n_obs"] > 0
