"""Transcripts and boundaries of Xenium outputs, of every release and layout."""

from __future__ import annotations

import gzip
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from zarr.storage import ZipStore

from tisseract.atlas.errors import InputError
from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import ReadOptions

from .xenium_bundle import cell_ids
from .xenium_checks import READER, column, molecules, notes_of, opened, outlines, rings
from .xenium_small import BLOCK, faults, write

SETS = ("cell_index", "num_vertices", "vertices")


def change_zip(path: Path, changes: dict[str, Any], lost: str) -> None:
    """Write a zipped store again, with arrays changed and without what begins with `lost`."""
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with ZipStore(path, mode="r") as store:
        changed = {
            name: change(zarr.open_array(store, path=name)[:]) for name, change in changes.items()
        }
    gone = (lost, *(f"{name}/" for name in changed))
    with zipfile.ZipFile(path, "w") as file:
        for name, part in parts.items():
            if not name.startswith(gone):
                file.writestr(name, part)
    with ZipStore(path, mode="a") as store:
        for name, values in changed.items():
            zarr.create_array(store, name=name, data=values, zarr_format=2)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of release 3; tests that change it copy it."""
    return write(tmp_path_factory.mktemp("xenium"))


@pytest.fixture
def own(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / bundle.name))


class TestTranscripts:
    @pytest.mark.parametrize("version", ["1", "1.4", "3"])
    def test_every_column_and_row(self, tmp_path: Path, version: str) -> None:
        path = write(tmp_path, version=version)
        raw = opened(path)
        source = raw.points["transcripts"]
        table = pd.read_parquet(path / "transcripts.parquet")
        found = molecules(raw)
        assert len(found) == len(table) == BLOCK.cell.size
        assert set(found) == {str(name).replace("_location", "") for name in table}
        assert (source.feature_key, source.instance_key) == ("feature_name", "cell_id")
        for axis, k in zip("xyz", range(3), strict=True):
            np.testing.assert_allclose(found[axis], BLOCK.molecules_um[:, k], atol=1e-3)
        ids = np.array([*cell_ids(np.arange(60), version), "nobody"], dtype=object)
        assert found["cell_id"].astype(object).fillna("nobody").tolist() == (
            ids[BLOCK.cell].tolist()
        )
        np.testing.assert_array_equal(found["qv"], table["qv"])
        names = [n.decode() if isinstance(n, bytes) else n for n in table["feature_name"]]
        words = [n.decode() if isinstance(n, bytes) else n for n in found["feature_name"]]
        assert words == names

    def test_text_is_the_same(self, tmp_path: Path) -> None:
        a = molecules(opened(write(tmp_path / "a")))
        b = molecules(opened(write(tmp_path / "b", text=True)))
        assert list(a) == list(b)
        for name in a:
            if a[name].dtype.kind == "f":
                np.testing.assert_allclose(a[name], b[name], rtol=1e-5)
            else:
                assert a[name].astype(str).tolist() == b[name].astype(str).tolist()

    def test_quality_is_a_choice(self, bundle: Path) -> None:
        table = pd.read_parquet(bundle / "transcripts.parquet")
        raw = opened(bundle, min_qv=20)
        assert len(molecules(raw)) == int((table["qv"] >= 20).sum()) < len(table)
        assert "below 20 left out, as asked" in str(raw.points["transcripts"].notes)
        assert "min_qv as a number" in faults(bundle, min_qv="high")

    def test_quality_that_is_no_number(self, own: Path) -> None:
        table = pd.read_parquet(own / "transcripts.parquet")
        table.assign(qv="good").to_parquet(own / "transcripts.parquet")
        with pytest.raises(InputError, match=r"transcripts\.parquet.*numbers as qv"):
            molecules(opened(own, min_qv=20))

    def test_a_flipped_axis(self, bundle: Path) -> None:
        plain = molecules(opened(bundle))
        options = ReadOptions(um_per_unit=1.0, y_axis="up")
        raw = READER.open(bundle, options)
        moved = molecules(raw)
        np.testing.assert_allclose(moved["x"], plain["x"], rtol=1e-6)
        np.testing.assert_allclose(moved["y"], -plain["y"], rtol=1e-6)
        assert outlines(raw)["geometry"][0].bounds[3] < 0

    def test_only_a_zip_of_transcripts(self, own: Path) -> None:
        (own / "transcripts.parquet").rename(own / "transcripts.zarr.zip")
        raw = opened(own)
        assert not raw.points
        assert "transcripts.zarr.zip is not read" in notes_of(raw)


class TestBoundaries:
    @pytest.mark.parametrize("version", ["1", "1.4", "2", "3"])
    def test_table_and_zip_agree(self, tmp_path: Path, version: str) -> None:
        path = write(tmp_path, version=version)
        first, nuclei = rings(opened(path)), outlines(opened(path))
        assert sorted(first) == list(range(60))
        for row, ring in first.items():
            np.testing.assert_allclose(ring.mean(axis=0), BLOCK.positions_um[row], atol=0.5)
        (path / "cell_boundaries.parquet").unlink()
        (path / "nucleus_boundaries.parquet").unlink()
        raw = opened(path)
        second, others = rings(raw), outlines(raw)
        for row, ring in first.items():
            np.testing.assert_array_equal(ring, second[row])
        assert [g.wkb for g in nuclei["geometry"]] == [g.wkb for g in others["geometry"]]
        assert nuclei["cell_id"].tolist() == others["cell_id"].tolist()
        assert "polygons of cells.zarr.zip are taken" in notes_of(raw)

    def test_nuclei_of_one_cell_without_labels(self, own: Path) -> None:
        table = pd.read_parquet(own / "nucleus_boundaries.parquet")
        whole = outlines(opened(own))
        assert (whole.groupby("cell_id").size() == 2).sum() == 1
        assert whole["label_id"].tolist() == list(range(1, len(whole) + 1))
        table.drop(columns="label_id").to_parquet(own / "nucleus_boundaries.parquet")
        found = outlines(opened(own))
        assert [g.wkb for g in found["geometry"]] == [g.wkb for g in whole["geometry"]]
        assert found["cell_id"].tolist() == whole["cell_id"].tolist()

    def test_nuclei_that_are_no_outlines_are_left_out(self, own: Path) -> None:
        table = pd.read_parquet(own / "nucleus_boundaries.parquet")
        table = table.drop(index=table.index[table["label_id"] == 2][2:])
        table.loc[table["label_id"] == 4, "vertex_x"] = np.inf
        table.to_parquet(own / "nucleus_boundaries.parquet")
        found = outlines(opened(own))["label_id"].tolist()
        assert found == sorted(set(table["label_id"]) - {2, 4})
        table["vertex_x"] = np.inf
        table.to_parquet(own / "nucleus_boundaries.parquet")
        summary = write_section(opened(own), own / "s.zarr", memory_limit=2**30)
        assert "shapes 'nucleus_boundaries' left out" in str(summary)

    def test_batches_cut_rings_anywhere(self, bundle: Path, monkeypatch: Any) -> None:
        from tisseract.ingest.vendors import parquet_table

        whole, nuclei = rings(opened(bundle)), outlines(opened(bundle))
        monkeypatch.setattr(parquet_table.ParquetTable.batches, "__defaults__", (None, None, 17))
        cut = rings(opened(bundle))
        assert sorted(cut) == sorted(whole)
        for row, ring in whole.items():
            np.testing.assert_array_equal(ring, cut[row])
        again = outlines(opened(bundle))
        assert [g.wkb for g in again["geometry"]] == [g.wkb for g in nuclei["geometry"]]

    @pytest.mark.parametrize("text", [False, True])
    def test_tables_without_rows_are_as_if_not_there(self, tmp_path: Path, text: bool) -> None:
        path = write(tmp_path, text=text, cells_zip=False)
        end = "csv.gz" if text else "parquet"
        kinds = ("transcripts", "cell_boundaries", "nucleus_boundaries")
        names = [f"{kind}.{end}" for kind in kinds]
        for name in names:
            if text:
                header = gzip.decompress((path / name).read_bytes()).partition(b"\n")[0]
                (path / name).write_bytes(gzip.compress(header + b"\n"))
            else:
                pd.read_parquet(path / name).iloc[:0].to_parquet(path / name)
        raw = opened(path)
        assert not raw.points
        assert not raw.outlines
        assert raw.shapes is None
        for name in names:
            assert f"{name} has no rows" in notes_of(raw)

    def test_a_zip_without_nuclei(self, own: Path) -> None:
        (own / "nucleus_boundaries.parquet").unlink()
        none = {f"polygon_sets/0/{name}": lambda old: old[:0] for name in SETS}
        change_zip(own / "cells.zarr.zip", none, "polygon_sets/0/")
        raw = opened(own)
        assert not raw.outlines
        assert "nuclei are not written" in notes_of(raw)

    @pytest.mark.parametrize("name", ["polygon_vertices", "polygon_num_vertices"])
    @pytest.mark.parametrize("damage", ["flat", "fewer", "chunk lost"])
    def test_damaged_polygons_of_a_zip(self, tmp_path: Path, name: str, damage: str) -> None:
        path = write(tmp_path, version="1.4")
        (path / "cell_boundaries.parquet").unlink()
        changes: dict[str, Any] = {
            "flat": {name: np.ravel},
            "fewer": {name: lambda old: old[:, :-1]},
            "chunk lost": {},
        }
        lost = f"{name}/1.0" if damage == "chunk lost" else f"{name}/"
        change_zip(path / "cells.zarr.zip", changes[damage], lost)
        with pytest.raises(InputError, match=r"cells\.zarr\.zip"):
            rings(opened(path))

    def test_none_when_not_wanted_or_not_there(self, own: Path) -> None:
        assert opened(own, boundaries=False).shapes is None
        assert not opened(own, boundaries=False).outlines
        for name in ("cell_boundaries.parquet", "nucleus_boundaries.parquet", "cells.zarr.zip"):
            (own / name).unlink()
        raw = opened(own)
        assert raw.shapes is None
        area = column(raw, "cell_area")
        np.testing.assert_allclose(np.pi * np.asarray(raw.radius) ** 2, area)
        assert "cells are circles" in notes_of(raw)
