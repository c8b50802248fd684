"""The Visium reader: versions, layouts, units, images over tissue, faults."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.reader import Reader, ReadOptions, reader_for
from tisseract.ingest.source import NumericValues
from tisseract.ingest.vendors.visium import VisiumReader

from ...contracts import ReaderContract, ids_of, matrix_of, told_faults
from .mutants import run_mutants, wanted
from .tissue import SimTissue
from .visium_bundle import KINDS, UM_PER_PX, SpotArray, visium_truth, write_visium
from .visium_checks import UnderSpots, with_kwargs

READER = VisiumReader()
TISSUE = SimTissue(40, 40, 30.0)
ARRAY = SpotArray(40, 10, 8)
PARTS = ["h5", "mtx", "raw", "raw_mtx", "probe"]


def bundle(folder: Path, **how: Any) -> Path:
    """A small output: 80 spots, 40 of them under tissue."""
    write_visium(folder, TISSUE, array=ARRAY, **how)
    return folder


faults = partial(told_faults, READER)


class _Bundle(ReaderContract):
    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def truth(self) -> Mapping[str, Any]:
        return asdict(visium_truth(TISSUE, ARRAY))


class TestH5(_Bundle):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return bundle(tmp_path / "out")


@pytest.mark.slow
class TestProbes(_Bundle):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return bundle(tmp_path / "out", matrix="probe", fluorescence=True)


class TestMtx(_Bundle):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return bundle(tmp_path / "out", matrix="mtx", hires=False)


class TestLayouts:
    @pytest.mark.parametrize("matrix", PARTS)
    @pytest.mark.parametrize("version", ["1.0.0", "4.0.1"])
    def test_every_matrix_of_every_version_is_the_same_section(
        self, tmp_path: Path, matrix: Any, version: str
    ) -> None:
        raw = READER.open(bundle(tmp_path / "out", matrix=matrix, version=version), ReadOptions())
        truth = visium_truth(TISSUE, ARRAY)
        assert ids_of(raw) == truth.ids
        assert (matrix_of(raw).toarray() == truth.counts).all()
        assert np.abs(raw.positions - truth.positions).max() < 0.51
        assert raw.um_per_unit == pytest.approx(UM_PER_PX, rel=1e-3)
        rows, columns = (raw.obs[f"array_{axis}"].read() for axis in ("row", "col"))
        assert isinstance(rows, NumericValues)
        assert isinstance(columns, NumericValues)
        index = np.column_stack([rows.values, columns.values])
        assert np.array_equal(index, ARRAY.index[ARRAY.tissue])
        vendor: Any = raw.provenance["vendor"]
        assert vendor["software"] == f"spaceranger-{version}"
        assert vendor["scalefactors"]["tissue_hires_scalef"] == 0.15
        chemistry = "Visium V4" if matrix in {"h5", "raw", "probe"} else None
        assert vendor.get("chemistry_description") == chemistry
        assert vendor["web_summary"]["Pipeline Version"] == f"spaceranger-{version}"
        assert vendor["metrics"]["Number of Reads"] == "1,000"

    def test_unit_is_that_of_the_array_and_never_of_the_spot_diameter(self, tmp_path: Path) -> None:
        """Whole pixels, a small array: 0.1 um over its width; the diameter says nothing."""
        found = []
        for diameter in (1.0, 89.4, 1e6):
            path = bundle(tmp_path / f"{diameter}", version="1.2.0")
            factors = path / "spatial" / "scalefactors_json.json"
            text = json.loads(factors.read_text()) | {"spot_diameter_fullres": diameter}
            factors.write_text(json.dumps(text))
            raw = READER.open(path, ReadOptions())
            assert raw.um_per_unit is not None
            assert isinstance(raw.radius, float)
            assert raw.radius * raw.um_per_unit == pytest.approx(27.5)
            found.append(raw.um_per_unit)
        assert len(set(found)) == 1
        array = SpotArray(600)
        write_visium(tmp_path / "whole", SimTissue(600, 40, 5.0), array=array, version="1.2.0")
        raw = READER.open(tmp_path / "whole", ReadOptions())
        assert raw.um_per_unit is not None
        shift = raw.positions - array.positions[array.tissue]
        exact = array.positions * UM_PER_PX
        width = float(np.ptp(exact[:, 0]))
        assert abs(raw.um_per_unit / UM_PER_PX - 1) * width < 0.1
        assert np.abs(shift).max() <= 0.5

    def test_of_an_unknown_unit_spots_keep_their_size(self, tmp_path: Path) -> None:
        raw = READER.open(bundle(tmp_path / "out"), ReadOptions(um_per_unit="unknown"))
        assert raw.um_per_unit is None
        assert raw.radius == pytest.approx(27.5 / UM_PER_PX)

    def test_without_a_regular_array_the_lattice_is_fitted(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        file = path / "spatial" / "tissue_positions.csv"
        head, *lines = file.read_text().splitlines()
        cells = [line.split(",") for line in lines]
        file.write_text("\n".join([head, *(",".join([*c[:2], "0", "0", *c[4:]]) for c in cells)]))
        raw = READER.open(path, ReadOptions())
        assert raw.um_per_unit == pytest.approx(UM_PER_PX, rel=1e-3)
        assert "hexagonal lattice" in str(raw.provenance["unit"])

    def test_large_arrays(self, tmp_path: Path) -> None:
        array = SpotArray(900, 128, 112)
        write_visium(tmp_path / "out", SimTissue(900, 40, 5.0), array=array, cytassist=True)
        raw = READER.open(tmp_path / "out", ReadOptions())
        assert raw.n_obs == 900
        assert raw.um_per_unit == pytest.approx(UM_PER_PX, rel=1e-6)
        assert "14336 spots" in str(raw.provenance["unit"])
        assert "cytassist_image.tiff is not written" in str(raw.provenance["notes"])

    def test_antibodies_stay_as_features_of_their_type(self, tmp_path: Path) -> None:
        raw = READER.open(bundle(tmp_path / "out", n_antibodies=3), ReadOptions())
        assert (
            raw.panel.feature_type.tolist() == ["Gene Expression"] * 40 + ["Antibody Capture"] * 3
        )
        truth = visium_truth(TISSUE, ARRAY, 3)
        assert (matrix_of(raw).toarray() == truth.counts).all()
        assert raw.panel.find("CD1_TotalC") == 41

    def test_odd_names_and_columns_of_fluorescence(self, tmp_path: Path) -> None:
        raw = READER.open(bundle(tmp_path / "out", fluorescence=True), ReadOptions())
        assert raw.panel.symbol[raw.panel.find("Aph1b/c")] == "Aph1b/c"
        values = raw.obs["channel1_stdev"].read()
        assert isinstance(values, NumericValues)
        assert values.values.tolist() == (ARRAY.tissue / 8).tolist()

    def test_probes_may_stay_apart(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out", matrix="probe")
        raw = READER.open(path, with_kwargs(probes="features", in_tissue_only=False))
        assert (raw.n_obs, raw.n_vars) == (80, 120)
        assert raw.panel.name[0].startswith("ENSMUSG00000000000|")
        with h5py.File(path / "raw_probe_bc_matrix.h5") as file:
            total = file["matrix/data"][:].sum()
        assert matrix_of(raw).sum() == total

    def test_filtered_comes_before_raw_unless_named(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        bundle(path, matrix="raw")
        assert READER.open(path, ReadOptions()).provenance["n_files"] == 7
        assert READER.open(path, with_kwargs(matrix="raw", in_tissue_only=False)).n_obs == 80
        assert "expected one of filtered, raw, probe" in faults(path, with_kwargs(matrix="row"))

    @pytest.mark.parametrize("name", ["V1_brain_", "sample."])
    def test_prefixed_downloads(self, tmp_path: Path, name: str) -> None:
        path = bundle(tmp_path / "out", prefix=name)
        assert READER.open(path, ReadOptions()).n_obs == 40

    def test_one_flat_folder_as_of_archives(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out", matrix="mtx")
        for file in [*path.rglob("*.*")]:
            if file.is_file():
                file.rename(path / f"GSM1_{file.name}")
        shutil.rmtree(path / "spatial")
        text = path / "GSM1_tissue_positions.csv"
        text.with_suffix(".csv.gz").write_bytes(gzip.compress(text.read_bytes()))
        text.unlink()
        assert reader_for(path).format == "visium"
        raw = READER.open(path, ReadOptions())
        assert (matrix_of(raw).toarray() == visium_truth(TISSUE, ARRAY).counts).all()
        assert set(raw.images) == {"hires", "lowres"}

    def test_outs_folder_and_text_positions(self, tmp_path: Path) -> None:
        bundle(tmp_path / "run" / "outs", version="1.0.0")
        spatial = tmp_path / "run" / "outs" / "spatial"
        (spatial / "tissue_positions_list.csv").rename(spatial / "tissue_positions_list.txt")
        assert reader_for(tmp_path / "run").format == "visium"
        assert READER.open(tmp_path / "run", ReadOptions()).n_obs == 40

    def test_old_name_with_a_header(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        spatial = path / "spatial"
        (spatial / "tissue_positions.csv").rename(spatial / "tissue_positions_list.csv")
        assert READER.open(path, ReadOptions()).n_obs == 40

    def test_missing_images_are_noted(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out", hires=False)
        seen = READER.inspect(path, ReadOptions())
        assert seen.images == ("lowres",)
        assert "no hires image" in seen.notes[0]
        (path / "spatial" / "tissue_lowres_image.png").unlink()
        assert READER.open(path, ReadOptions()).images == {}
        (path / "spatial" / "scalefactors_json.json").unlink()
        assert "no scalefactors_json" in READER.inspect(path, ReadOptions()).notes[0]

    def test_images_that_are_not_wanted_are_no_files(self, tmp_path: Path) -> None:
        """They would be staged from a bucket, and counted as input."""
        path = bundle(tmp_path / "out")

        def listed(images: object) -> set[str]:
            found = READER.files(path, with_kwargs(images=images))
            return {one.name for one in found if one.suffix == ".png"}

        assert listed(True) == {"tissue_hires_image.png", "tissue_lowres_image.png"}
        assert listed(["lowres"]) == {"tissue_lowres_image.png"}
        assert not listed(False)
        (path / "spatial" / "tissue_hires_image.png").unlink()
        assert "hires" not in str(READER.inspect(path, with_kwargs(images=False)).notes)

    def test_image_of_the_sheet_and_images_named(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        image = path / "spatial" / "tissue_lowres_image.png"
        options = ReadOptions(image=image, reader_kwargs={"image_scale": 0.5, "images": ["hires"]})
        images: Any = READER.open(path, options).images
        assert list(images) == ["image", "hires"]
        assert images["image"].affine[0][0] == pytest.approx(2 * UM_PER_PX)
        own: Any = READER.open(path, ReadOptions(image=image)).images
        assert own["image"].affine == own["lowres"].affine
        assert "image_scale" in faults(path, replace(options, reader_kwargs={"image_scale": -1}))
        for wrong in ("hires", ["hires", "hirse"], [["hires"]]):
            told = faults(path, with_kwargs(images=wrong))
            assert "true, false or a list out of hires, lowres" in told

    def test_spots_outside_the_tissue(self, tmp_path: Path) -> None:
        """Those of a filtered matrix stay, as spatialdata-io keeps them; raw ones are left out."""
        path = bundle(tmp_path / "out")
        positions = path / "spatial" / "tissue_positions.csv"
        lines = positions.read_text().splitlines()
        at = next(i for i, line in enumerate(lines) if "-1,1," in line)
        lines[at] = lines[at].replace("-1,1,", "-1,0,")
        positions.write_text("\n".join(lines))
        assert READER.open(path, ReadOptions()).n_obs == 40
        assert "1 spots outside" in str(READER.inspect(path, ReadOptions()).notes)
        only = READER.open(path, with_kwargs(in_tissue_only=True))
        assert only.n_obs == 39
        flags: Any = READER.open(path, ReadOptions()).obs["in_tissue"].read()
        assert np.flatnonzero(~flags.values).tolist() == [0]
        assert "expected true or false" in faults(path, with_kwargs(in_tissue_only="yes"))


class TestImages:
    @pytest.mark.parametrize("name", ["hires", "lowres"])
    def test_tissue_lies_under_the_spots(self, tmp_path: Path, name: str) -> None:
        array = SpotArray(700)
        write_visium(tmp_path / "out", SimTissue(700, 40, 5.0), array=array)
        raw = READER.open(tmp_path / "out", ReadOptions())
        spots = UnderSpots(raw, name)
        assert spots.share() == 1.0
        assert spots.share(order=(1, 0)) < 0.8
        assert spots.share(scale=1.05) < 0.98
        assert spots.share(scale=0.95) < 0.98


class TestFaults:
    def test_nothing_there(self, tmp_path: Path) -> None:
        told = faults(tmp_path)
        assert "filtered_feature_bc_matrix" in told
        assert "copy the whole `spatial` folder" in told
        assert not READER.recognizes(tmp_path)

    def test_the_folder_of_positions_alone(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        assert "name the folder above `spatial`" in faults(path / "spatial")

    def test_packed_parts(self, tmp_path: Path) -> None:
        (tmp_path / "V1_spatial.tar.gz").write_bytes(b"")
        (tmp_path / "V1_filtered_feature_bc_matrix.tar.gz").write_bytes(b"")
        told = faults(tmp_path)
        assert "unpack V1_spatial.tar.gz" in told
        assert "unpack V1_filtered_feature_bc_matrix.tar.gz" in told

    def test_missing_positions(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        (path / "spatial" / "tissue_positions.csv").unlink()
        assert "expected spot positions" in faults(path)

    def test_positions_of_another_sample(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        positions = path / "spatial" / "tissue_positions.csv"
        positions.write_text(positions.read_text().replace("-1,", "-2,"))
        told = faults(path)
        assert "none for 40 (" in told
        assert "different samples" in told

    def test_some_spots_without_a_position(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        positions = path / "spatial" / "tissue_positions.csv"
        lines = positions.read_text().splitlines()
        gone = next(i for i, line in enumerate(lines) if "-1,1," in line)
        positions.write_text("\n".join(lines[:gone] + lines[gone + 1 :]))
        assert '{"unplaced": "drop"}' in faults(path)
        raw = READER.open(path, with_kwargs(unplaced="drop"))
        assert ids_of(raw) == visium_truth(TISSUE, ARRAY).ids[1:]
        assert "1 spots without a position left out" in str(raw.provenance["notes"])
        assert "refuse or drop" in faults(path, with_kwargs(unplaced="maybe"))

    @pytest.mark.parametrize(
        ("cell", "value", "told"),
        [(2, "zero", "Row #2"), (4, "nan", "finite"), (5, "1e300", "finite")],
    )
    def test_broken_positions(self, tmp_path: Path, cell: int, value: str, told: str) -> None:
        path = bundle(tmp_path / "out")
        positions = path / "spatial" / "tissue_positions.csv"
        lines = positions.read_text().splitlines()
        cells = lines[1].split(",")
        cells[cell] = value
        positions.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]))
        assert told in faults(path)

    def test_a_spot_twice(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        positions = path / "spatial" / "tissue_positions.csv"
        lines = positions.read_text().splitlines()
        positions.write_text("\n".join([*lines, next(one for one in lines if "-1,1," in one)]))
        assert "expected every barcode once" in faults(path)

    def test_links_out_of_the_folder(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        secret = tmp_path / "secret.csv"
        secret.write_text("private")
        (path / "spatial" / "tissue_positions.csv").unlink()
        (path / "spatial" / "tissue_positions.csv").symlink_to(secret)
        told = faults(path)
        assert "copy it in" in told
        assert "private" not in told

    def test_two_samples_in_one_folder(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out", prefix="a_")
        (path / "b_filtered_feature_bc_matrix.h5").write_bytes(b"")
        assert "but got 2 (a_filtered" in faults(path)

    def test_options_without_meaning_are_refused(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out")
        told = faults(path, ReadOptions(layer="raw", split_by="donor"))
        assert "no `layer`" in told
        assert "no `split_by`" in told
        READER.inspect(path, ReadOptions(split_by="none")).raise_faults()
        assert "partial or complete" in faults(path, with_kwargs(panel="some"))

    @pytest.mark.parametrize("head", [b"\x89HDF\r\n\x1a\n", b"BUFR", b"<html>404"])
    def test_images_that_are_files_of_another_kind(self, tmp_path: Path, head: bytes) -> None:
        path = bundle(tmp_path / "out")
        (path / "spatial" / "tissue_hires_image.png").write_bytes(head + b"\0" * 90)
        assert "tissue_hires_image.png: expected an image" in faults(path)

    def test_unsorted_matrix_market(self, tmp_path: Path) -> None:
        path = bundle(tmp_path / "out", matrix="mtx")
        matrix = path / "filtered_feature_bc_matrix" / "matrix.mtx.gz"
        lines = gzip.decompress(matrix.read_bytes()).splitlines(keepends=True)
        matrix.write_bytes(gzip.compress(b"".join([*lines[:3], *reversed(lines[3:])])))
        with pytest.raises(InputError, match="sorted by barcode"):
            matrix_of(READER.open(path, ReadOptions()))

    @pytest.mark.parametrize("part", ["features/id", "barcodes", "features/name", "shape"])
    def test_lists_that_disagree(self, tmp_path: Path, part: str) -> None:
        path = bundle(tmp_path / "out")
        with h5py.File(path / "filtered_feature_bc_matrix.h5", "a") as file:
            group = file["matrix"]
            kept = group[part][:-1]
            del group[part]
            group[part] = kept
        assert "filtered_feature_bc_matrix.h5" in faults(path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "write", "file"), KINDS, ids=[kind[0] for kind in KINDS])
def test_no_damage_gets_out(tmp_path: Path, name: str, write: Any, file: str) -> None:
    source = write(tmp_path / "small")
    options = with_kwargs(images=["lowres"] if "image" in name else [])
    report = run_mutants(source, file, READER, options, tmp_path / "work", n=wanted(10))
    assert not report.failures
