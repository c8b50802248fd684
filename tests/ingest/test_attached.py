"""Regions and labels of the sheet: every form, units, y axes, faults, one commit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tisseract
from tisseract.atlas.errors import BudgetExceeded, InputError
from tisseract.atlas.section_columns import CategoricalValues
from tisseract.atlas.store import open_store
from tisseract.ingest import check
from tisseract.ingest.annotate import read_attachments, write_attachments
from tisseract.ingest.annotate_labels import read_labels_file
from tisseract.ingest.annotate_regions import Ground, cell_regions, read_region_file
from tisseract.ingest.check import check_samples
from tisseract.ingest.pipeline import ingest

from . import h5ad_files as small
from .attached import UM, sheet_row, stored
from .vendors.mutants import _DAMAGE, wanted

XPLORER = "#Selection name: tumor core\n#Area (µm^2): 100\nX,Y\n5,-45\n45,-45\n45,-5\n5,-5\n"


def square(low: float = 20.0, high: float = 80.0) -> Any:
    return [[[low, low], [high, low], [high, high], [low, high], [low, low]]]


def geojson(path: Path, coordinates: Any, **properties: Any) -> Path:
    feature = {
        "type": "Feature",
        "properties": properties,
        "geometry": {"type": "Polygon", "coordinates": coordinates},
    }
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


def expected(where: Any) -> set[str]:
    return {f"cell{k}" for k in np.flatnonzero(where)}


class TestRegions:
    def cells(self, tmp_path: Path, annotation: Any, name: str) -> set[str]:
        url = tmp_path / "a.atlas"
        ingest([sheet_row(tmp_path, annotation=annotation)], url)
        atlas = tisseract.open(url)
        assert open_store(url).version == 1, "the section and its regions are one commit"
        frame = atlas.region(name=name).to_anndata()
        return {name.partition(":")[2] for name in frame.obs_names}

    def test_geojson_of_qupath_in_pixels_of_the_source(self, tmp_path: Path) -> None:
        path = geojson(
            tmp_path / "q.geojson", square(), objectType="annotation",
            classification={"name": "Tumor"},
        )  # fmt: skip
        told = check_samples([sheet_row(tmp_path, annotation=path)])
        assert any("um_per_unit" in str(fault) and "0.5 um" in str(fault) for fault in told.faults)
        xy = small.positions()
        wanted = expected(((xy >= 20) & (xy <= 80)).all(axis=1))
        given_ = {"path": str(path), "um_per_unit": "source"}
        assert self.cells(tmp_path, given_, "Tumor") == wanted

    def test_selections_of_xenium_explorer_are_micrometers(self, tmp_path: Path) -> None:
        path = tmp_path / "selection.csv"
        path.write_text(XPLORER, encoding="utf-8")
        xy = stored()
        wanted = expected((xy[:, 0] >= 5) & (xy[:, 0] <= 45) & (xy[:, 1] >= -45) & (xy[:, 1] <= -5))
        assert self.cells(tmp_path, str(path), "tumor core") == wanted

    def test_lists_of_cells_of_loupe(self, tmp_path: Path) -> None:
        path = tmp_path / "loupe.csv"
        path.write_text("Barcode,Region\n" + "".join(f"cell{k},left\n" for k in range(0, 60, 3)))
        assert self.cells(tmp_path, str(path), "left") == expected(np.arange(60) % 3 == 0)

    def test_labels_are_drawn_around_their_own_cells(self) -> None:
        xy = np.indices((10, 10)).reshape(2, -1).T.astype(float)
        codes = np.random.default_rng(0).permutation(100) // 3 - 1
        found = cell_regions(xy, codes, tuple(f"n{k}" for k in range(33)), "here")
        centers = np.array([shape.centroid.coords[0] for shape in found.polygons])
        # Discs of neighbors share some area.
        wanted = [xy[codes == k].mean(axis=0) for k in range(33)]
        np.testing.assert_allclose(centers, wanted, atol=0.1)

    def test_several_selections_in_one_file(self, tmp_path: Path) -> None:
        path = tmp_path / "two.csv"
        path.write_text("Selection,X,Y\na,0,0\na,1,0\na,1,1\nb,5,5\nb,6,5\nb,6,6\n")
        found = read_region_file(path, {}, Ground(1.0))
        assert found.names == ("a", "b")
        path.write_text(XPLORER + XPLORER.replace("#Sel", "# Sel").replace("core", "rim"), "utf-8")
        assert read_region_file(path, {}, Ground(1.0)).names == ("tumor core", "tumor rim")
        path.write_text(XPLORER + XPLORER.replace("5", "15"), "utf-8")
        assert read_region_file(path, {}, Ground(1.0)).names == ("tumor core",) * 2

    def test_regions_that_miss_the_cells_are_refused(self, tmp_path: Path) -> None:
        path = geojson(tmp_path / "far.geojson", square(2000, 2100), name="far")
        told = check_samples([sheet_row(tmp_path, annotation=path)])
        assert "expected regions on the cells" in str(told.faults[0])

    @pytest.mark.parametrize(
        ("name", "text", "wanted"),
        [
            ("a.geojson", "{", "GeoJSON"),
            ("a.geojson", "[]", "named polygons are wanted"),
            ("a.csv", "A,B\n1,2\n", "expected columns X and Y"),
            ("a.csv", "X,Y\n1,2\n3,x\n", "line 3"),
            ("a.csv", "X,Y\n1,2\n3,4\n", "three vertices"),
            ("a.csv", "X,Y\n0,0\n2,2\n2,0\n0,2\n", "cross itself"),
            ("a.csv", "X,Y\n0,0\n1,nan\n1,1\n", "finite"),
        ],
    )
    def test_broken_files_are_named(
        self, tmp_path: Path, name: str, text: str, wanted: str
    ) -> None:
        (tmp_path / name).write_text(text)
        told = check_samples([sheet_row(tmp_path, annotation=name)], base=tmp_path)
        assert wanted in "\n".join(map(str, told.faults))
        assert name in str(told.faults[0])


@pytest.mark.parametrize("form", ["collection", "bare list"])
def test_large_outlines_are_parsed_a_feature_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    turns = np.linspace(0, 2 * np.pi, 1500)
    ring = np.stack([50 + np.cos(turns), 50 + np.sin(turns)], axis=1).tolist()
    parts = [
        {"type": "Feature", "properties": {"name": f"r{k}"},
         "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}}
        for k in range(90)
    ]  # fmt: skip
    tree = {"type": "FeatureCollection", "features": parts}
    path = tmp_path / "large.geojson"
    path.write_text(json.dumps(tree if form == "collection" else parts), encoding="utf-8-sig")
    assert path.stat().st_size > 2**22
    parsed: list[int] = []
    loads = json.loads

    def counted(text: Any) -> Any:
        parsed.append(len(text))
        return loads(text)

    monkeypatch.setattr(json, "loads", counted)
    found = read_region_file(path, {}, Ground(1.0))
    assert found.names == tuple(f"r{k}" for k in range(90))
    assert max(parsed) < 2**17
    parts[1]["objectType"] = "annotation"
    path.write_text(json.dumps(parts))
    with pytest.raises(InputError, match="got no um_per_unit"):
        read_region_file(path, {}, Ground(1.0))
    path.write_text(json.dumps(parts)[:-200])
    with pytest.raises(InputError, match="large"):
        read_region_file(path, {"um_per_unit": 1.0}, Ground(1.0))


@pytest.mark.parametrize(
    ("column", "form"),
    [
        ("annotation", "geojson"),
        ("annotation", "csv"),
        ("labels", "csv"),
        ("labels", "csv.gz"),
        ("labels", "parquet"),
    ],
)
def test_attached_files_beyond_the_limit_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, form: str
) -> None:
    path = tmp_path / f"huge.{form}"
    if form == "parquet":
        pd.DataFrame({"cell_id": ["a"] * 3 * 10**6}).to_parquet(path)
    else:
        path.write_text("X,Y\n")
        os.truncate(path, 2**26)
    row = sheet_row(tmp_path, **{column: path})
    monkeypatch.setattr(check, "read_attachments", None)
    with pytest.raises(BudgetExceeded, match=rf"row 1.* attached \(.*huge\.{form}\)"):
        ingest([row], tmp_path / "a.atlas", memory_limit=256 * 2**20)
    path.unlink()
    assert "huge" in str(check_samples([row], memory_limit=1).faults[0])


class TestLabels:
    def table(self, path: Path, n: int = 60, extra: str = "") -> Path:
        rows = "".join(f"cell{k},type{k % 3},{k / 2}\n" for k in reversed(range(n)))
        path.write_text("cell_id,cell type,score\n" + rows + extra)
        return path

    def test_columns_are_joined_by_id(self, tmp_path: Path) -> None:
        path = self.table(tmp_path / "labels.csv")
        ingest([sheet_row(tmp_path, labels=str(path))], tmp_path / "a.atlas")
        atlas = tisseract.open(tmp_path / "a.atlas")
        found = atlas.query("score > 20 and cell_type == 'type1'").to_anndata()
        wanted = {f"cell{k}" for k in range(60) if k / 2 > 20 and k % 3 == 1}
        assert {name.partition(":")[2] for name in found.obs_names} == wanted

    def test_what_does_not_fit_is_listed(self, tmp_path: Path) -> None:
        path = self.table(tmp_path / "labels.csv", 58, "ghost,type0,1\n")
        told = "\n".join(map(str, check_samples([sheet_row(tmp_path, labels=path)]).faults))
        assert "1 ids are no cells of the section: 'ghost'" in told
        assert "2 cells are not in the table" in told
        given_ = {"path": str(path), "unknown": "drop", "missing": "ok", "prefix": "my_"}
        assert check_samples([sheet_row(tmp_path, labels=given_)]).ok
        ingest([sheet_row(tmp_path, labels=given_)], tmp_path / "a.atlas")
        store = open_store(tmp_path / "a.atlas")
        assert set(store.derived_keys("annotation")) == {"my_cell_type", "my_score"}

    def test_ids_twice_and_names_taken(self, tmp_path: Path) -> None:
        path = self.table(tmp_path / "labels.csv", 60, "cell1,type0,1\n")
        told = check_samples([sheet_row(tmp_path, labels=path)])
        assert "'cell1'" in str(told.faults[0])
        self.table(path)
        row = sheet_row(tmp_path, labels=path, score="high")
        assert "'score', which the section has already" in str(check_samples([row]).faults[0])


def test_cells_of_the_sheet_teach(tmp_path: Path) -> None:
    row = sheet_row(
        tmp_path,
        annotation="nowhere.geojson",
        transform='{"path": "a", "modle": 1}',
        labels="[1",
    )
    told = "\n".join(map(str, check_samples([row], base=tmp_path).faults))
    assert "expected the file 'nowhere.geojson'" in told
    assert "Did you mean 'model'" in told
    assert "not readable as JSON" in told


def test_odd_cells_are_faults_of_their_row(tmp_path: Path) -> None:
    deep, long = "[" * 100_000, "a" * 300
    row = sheet_row(tmp_path, labels=deep, annotation=long, reader_kwargs=deep, image=long)
    told = check_samples([row]).faults
    assert len(told) == 4
    assert all(fault.location == "row 1" for fault in told)


def test_names_that_are_none_leave_other_faults_to_be_told(tmp_path: Path) -> None:
    path = str(geojson(tmp_path / "r.geojson", square(5, 45), name="r"))
    matrix = [[1, 0, 0], [0, 1, 0]]
    rows: list[dict[str, Any]] = [
        {"annotation": {"path": path, "key": "my regions"}},
        {"transform": {"matrix": matrix, "frame": "my frame"}},
        {"annotation": {"path": path, "um_per_unit": 1, "y_axis": ["up"]}},
        {"annotation": "~nobody-here/r.geojson", "image": "~nobody-here/i.tif"},
    ]
    told = check_samples([sheet_row(tmp_path, **row) for row in rows]).faults
    wanted = [
        "annotation: a key name is",
        "transform: a frame name is",
        "y_axis down or up is wanted, but got ['up']",
        "there is no '~nobody-here/i.tif'",
        "expected the file '~nobody-here/r.geojson'",
    ]
    for words in wanted:
        assert any(words in str(fault) for fault in told), (words, told)


def test_a_split_takes_a_file_for_each_section(tmp_path: Path) -> None:
    path = small.write_h5ad(tmp_path / "two.h5ad", obs={"day": np.arange(60) % 2})
    row = {"sample": "t", "data_path": path, "um_per_unit": 1.0, "split_by": "day"}
    told = check_samples([{**row, "labels": "l.csv"}], base=tmp_path)
    assert "{split}" in str(told.faults[0])
    for day in (0, 1):
        rows = "".join(f"cell{k},d{day}\n" for k in range(day, 60, 2))
        (tmp_path / f"l_{day}.csv").write_text("cell_id,own\n" + rows)
    given_ = {**row, "labels": str(tmp_path / "l_{split}.csv")}
    ingest([given_], tmp_path / "a.atlas")
    assert open_store(tmp_path / "a.atlas").derived_keys("annotation")["own"] == ["t_0", "t_1"]


def test_a_changed_file_is_another_input(tmp_path: Path) -> None:
    path = geojson(tmp_path / "r.geojson", [[[1, -1], [9, -1], [9, -9], [1, -1]]], name="r")
    url = tmp_path / "a.atlas"
    row = sheet_row(tmp_path, annotation=path)
    ingest([row], url)
    assert ingest([row], url).outcomes[0].outcome == "skipped"
    geojson(path, [[[1, -1], [8, -1], [8, -8], [1, -1]]], name="r2")
    with pytest.raises(InputError, match="another input"):
        ingest([row], url)
    ingest([row], url, overwrite=True)
    assert open_store(url).derived("regions", "regions", "s").info["regions"][0][0] == "r2"


def test_without_the_section_nothing_is_attached(tmp_path: Path) -> None:
    path = geojson(tmp_path / "r.geojson", square(2000, 2100), name="far")
    with pytest.raises(InputError):
        ingest([sheet_row(tmp_path, annotation=path)], tmp_path / "a.atlas")
    assert not (tmp_path / "a.atlas").exists()


FILES: dict[str, tuple[str, Any]] = {
    "r.geojson": ("annotation", None),
    "x.csv": ("annotation", XPLORER),
    "cells.csv": ("annotation", "Barcode,Region\n" + "".join(f"cell{k},a\n" for k in range(9))),
    "t.json": ("transform", '{"matrix": [[1, 0, 5], [0, 1, 5]]}'),
    "marks.csv": ("transform", "x_from,y_from,x_to,y_to\n0,0,1,1\n9,0,10,1\n0,9,1,10\n"),
    "l.csv": ("labels", "cell_id,a\n" + "".join(f"cell{k},{k % 3}\n" for k in range(60))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_mutants_of_attached_files(tmp_path: Path, name: str) -> None:
    column, text = FILES[name]
    path = tmp_path / name
    if text is None:
        geojson(path, [[[1, -1], [9, -1], [9, -9], [1, -1]]], name="r")
    else:
        path.write_text(text, encoding="utf-8")
    row, whole = sheet_row(tmp_path, **{column: path}), path.read_bytes()
    ingest([row], tmp_path / "a.atlas")
    store = open_store(tmp_path / "a.atlas", read_only=False)
    rng = np.random.default_rng(len(whole))
    refused = 0
    for k in range(wanted(20)):
        path.write_bytes(_DAMAGE[k % len(_DAMAGE)][1](whole, rng))
        told = check_samples([row])
        refused += not told.ok
        for fault in told.faults:
            assert any(word in str(fault) for word in (name, column, "annotation")), fault
        if told.ok:
            found = read_attachments(told.rows[0].row, None, Ground(UM, up=True))
            write_attachments(store.storage, store.snapshot.sections["s"], found, 1)
    assert 0 < refused < wanted(20)


def test_numbers_beyond_64_bits_stay_text(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("cell_id,a\ncell0,99999999999999999999\n")
    found = read_labels_file(tmp_path / "l.csv", {}).columns["a"]
    assert isinstance(found, CategoricalValues)
    assert found.categories == ("99999999999999999999",)
