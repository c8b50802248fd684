"""The reader of Spatial Transcriptomics arrays: lists of spots, units, images, real sections."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisseract.ingest.reader import Reader, ReadOptions, reader_for
from tisseract.ingest.source import NumericValues, RawSection
from tisseract.ingest.vendors.st_array import StArrayReader

from ...contracts import ReaderContract, ids_of, matrix_of
from . import st_bundle as bundle
from .mutants import run_mutants, wanted
from .tissue import SimTissue

READER = StArrayReader()
TISSUE = SimTissue(100, n_genes=40, mean_counts=20, seed=6)
N = 97  # spots that are selected


class TestContract(ReaderContract):
    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return bundle.write_st(tmp_path / "array", TISSUE, image=False)

    @pytest.fixture
    def truth(self) -> Mapping[str, Any]:
        return {
            "counts": bundle.counts(TISSUE)[:N],
            "positions": bundle.pixels(100)[:N],
            "ids": [f"{x}x{y}" for x, y in bundle.steps(N).tolist()],
            "gene_ids": TISSUE.gene_names,
        }


class TestSpots:
    def test_unit_columns_and_notes(self, tmp_path: Path) -> None:
        folder = bundle.write_st(tmp_path / "array", TISSUE)
        assert reader_for(folder).format == "st"
        raw = READER.open(folder, ReadOptions())
        assert raw.um_per_unit == pytest.approx(bundle.PIXEL_UM, rel=0.01)
        assert raw.radius == pytest.approx(50 / bundle.PIXEL_UM, rel=0.01)
        assert (numbers(raw, "array_col") == bundle.steps(N)[:, 0]).all()
        assert {"array_row", "new_x", "new_y", "pixel_x", "pixel_y", "selected"} <= set(raw.obs)
        notes: Any = raw.provenance["notes"]
        assert any("3 spots that are not selected" in note for note in notes)
        every = READER.open(folder, ReadOptions(reader_kwargs={"selected_only": False}))
        assert every.n_obs == 100

    def test_names_as_corrected(self, tmp_path: Path) -> None:
        folder = bundle.write_st(tmp_path / "array", TISSUE, corrected=True)
        raw = READER.open(folder, ReadOptions())
        assert (raw.positions == bundle.pixels(100)[:N]).all()
        assert (numbers(raw, "array_row") == bundle.steps(N)[:, 1]).all()
        assert ids_of(raw)[0] != "2x3"

    @pytest.mark.parametrize("spots", ["array", "none"])
    def test_without_pixels(self, tmp_path: Path, spots: str) -> None:
        folder = bundle.write_st(tmp_path / "array", TISSUE, spots=spots, unselected=0)
        raw = READER.open(folder, ReadOptions())
        assert (raw.positions == bundle.steps(100)).all()
        assert raw.um_per_unit == 200.0
        assert raw.images == {}
        notes = "\n".join(READER.inspect(folder, ReadOptions()).notes)
        assert "positions are places on the array" in notes

    def test_the_table_itself(self, tmp_path: Path) -> None:
        folder = bundle.write_st(tmp_path / "array", TISSUE, gz=False)
        assert reader_for(folder / "A1.tsv").format == "st"
        assert READER.open(folder / "A1.tsv", ReadOptions()).n_obs == N

    def test_several_arrays(self, tmp_path: Path) -> None:
        for sample in ("A1", "A2"):
            bundle.write_st(tmp_path, TISSUE, sample=sample)
        told = str(READER.inspect(tmp_path, ReadOptions()).faults[0])
        assert "got 2 (A1, A2)" in told
        raw = READER.open(tmp_path, ReadOptions(reader_kwargs={"sample": "A2"}))
        assert raw.provenance["vendor"] == {"sample": "A2"}
        assert list(raw.images) == ["image"]
        wrong = ReadOptions(reader_kwargs={"sample": "A3"})
        assert "expected one of A1, A2" in str(READER.inspect(tmp_path, wrong).faults[0])

    def test_folders_of_arrays_whose_files_have_one_name(self, tmp_path: Path) -> None:
        for sample, n in (("A1", 100), ("A2", 90)):
            tissue = SimTissue(n, n_genes=40, mean_counts=20, seed=6)
            folder = bundle.write_st(tmp_path / sample, tissue, sample="counts", unselected=0)
            (folder / "counts_selection.tsv").rename(folder / "selection.tsv")
            (folder / "HE_counts.jpg").rename(folder / "HE.jpg")
        told = str(READER.inspect(tmp_path, ReadOptions()).faults[0])
        assert "got 2 (A1, A2)" in told
        raw = READER.open(tmp_path, ReadOptions(reader_kwargs={"sample": "A2"}))
        assert raw.n_obs == 90
        assert (raw.positions == bundle.pixels(90)).all()
        assert list(raw.images) == ["image"]

    def test_several_images(self, tmp_path: Path) -> None:
        folder = bundle.write_st(tmp_path / "array", TISSUE)
        (folder / "A1_small.jpg").write_bytes((folder / "HE_A1.jpg").read_bytes())
        raw = READER.open(folder, ReadOptions())
        assert raw.images == {}
        assert "no image, or several" in str(raw.provenance["notes"])
        assert READER.open(folder, ReadOptions(image=folder / "HE_A1.jpg")).images

    def test_images_of_another_scale_and_none(self, tmp_path: Path) -> None:
        folder = bundle.write_st(tmp_path / "array", TISSUE)
        whole: Any = READER.open(folder, ReadOptions()).images["image"]
        options = ReadOptions(reader_kwargs={"image_scale": 0.5}, y_axis="up")
        half: Any = READER.open(folder, options).images["image"]
        assert half.affine[0][0] == pytest.approx(2 * whole.affine[0][0])
        assert half.affine[1][1] == pytest.approx(-2 * whole.affine[1][1])
        assert READER.open(folder, ReadOptions(reader_kwargs={"images": False})).images == {}
        wrong = ReadOptions(reader_kwargs={"image_scale": "half"})
        assert "a number above zero" in str(READER.inspect(folder, wrong).faults[0])

    def test_tissue_lies_under_spots(self, tmp_path: Path) -> None:
        raw = READER.open(bundle.write_st(tmp_path / "array", TISSUE), ReadOptions())
        unit = raw.um_per_unit or 0
        assert dark(raw.images["image"], raw.positions * unit) > 0.97
        assert dark(raw.images["image"], raw.positions[:, ::-1] * unit) < 0.9
        assert dark(raw.images["image"], raw.positions * unit * 1.05) < 0.7


def numbers(raw: RawSection, name: str) -> Any:
    values = raw.obs[name].read()
    assert isinstance(values, NumericValues)
    return values.values


def dark(image: Any, um: Any) -> float:
    """Share of places that are not white."""
    with image.open() as pixels:
        picture = pixels.rows(0, pixels.shape[1])
    (a, _, c), (_, e, f) = image.affine
    at = np.round((um - [c, f]) / [a, e]).astype(int)
    ok = (at >= 0).all(axis=1) & (at < np.array(picture.shape)[:0:-1]).all(axis=1)
    return float((picture[1, at[ok, 1], at[ok, 0]] < 190).sum() / len(um))


class TestFaults:
    @pytest.mark.parametrize(
        ("file", "old", "new", "told"),
        [
            ("A1.tsv", "\n3x3\t", "\n3y3\t", "A1.tsv row 2: expected a spot such as 10x13"),
            ("A1.tsv", "\n3x3\t", "\n2x3\t", "'2x3' again"),
            ("A1_selection.tsv", "x\ty\t", "a\tb\t", "expected the columns x, y"),
        ],
    )
    def test_broken(self, tmp_path: Path, file: str, old: str, new: str, told: str) -> None:
        folder = bundle.write_st(tmp_path / "array", TISSUE, gz=False, image=False)
        path = folder / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))
        assert told in str(READER.inspect(folder, ReadOptions()).faults[0])

    def test_places_off_any_array(self, tmp_path: Path) -> None:
        folder = bundle.write_st(tmp_path / "array", TISSUE, gz=False, spots="none")
        path = folder / "A1.tsv"
        path.write_text(path.read_text().replace("\n3x3\t", f"\n{'9' * 400}x3\t", 1))
        assert "in 1 row (1)" in str(READER.inspect(folder, ReadOptions()).faults[0])

    def test_spots_of_another_array(self, tmp_path: Path) -> None:
        folder = bundle.write_st(tmp_path / "array", TISSUE, image=False)
        (folder / "A1_selection.tsv").write_text("x\ty\tpixel_x\tpixel_y\n99\t99\t1\t1\n")
        assert "(2x3, 3x3, 4x3), but got none of them" in str(
            READER.inspect(folder, ReadOptions()).faults[0]
        )


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "write", "file"), bundle.KINDS)
def test_mutants(tmp_path: Path, kind: str, write: Any, file: str) -> None:
    source = write(tmp_path / kind)
    (tmp_path / "work").mkdir()
    report = run_mutants(source, file, READER, ReadOptions(), tmp_path / "work", n=wanted(20))
    assert not report.failures, report.failures[:5]


@pytest.mark.real
@pytest.mark.filterwarnings("ignore")
def test_real_sections_as_first_published(real_data: Path, tmp_path: Path) -> None:
    """Counts and pixels of a real section, in the files its authors published them in."""
    import anndata as ad
    import pandas as pd

    table: Any = ad.read_h5ad(real_data / "her2st" / "C2.h5ad")
    names = [f"{x}x{y}" for x, y in table.obs[["x", "y"]].astype(int).to_numpy().tolist()]
    matrix = table.X if isinstance(table.X, np.ndarray) else table.X.toarray()
    seen = matrix.sum(axis=0) > 0  # what their own tables list
    frame = pd.DataFrame(matrix[:, seen].astype(int), names, table.var_names[seen])
    with gzip.open(tmp_path / "C2.tsv.gz", "wt", 1) as file:
        frame.to_csv(file, sep="\t")
    spots = table.obs[["x", "y", "pixel_x", "pixel_y"]].assign(selected=1)
    spots.to_csv(tmp_path / "C2_selection.tsv", sep="\t", index=False)
    image = real_data / "her2st" / "images" / "C2.jpg"
    raw = READER.open(tmp_path, ReadOptions(image=image))
    assert ids_of(raw) == names
    found = matrix_of(raw, 2**22)
    assert found.sum() == matrix.sum()
    assert (matrix.sum(axis=1) == found.sum(axis=1).A1).all()
    # Independently: pixels between spots that follow one another along x.
    by_place = spots.set_index(["x", "y"])
    after = by_place.rename(index=lambda x: x - 1, level="x")
    apart = (after - by_place).dropna()[["pixel_x", "pixel_y"]]
    steps: Any = np.hypot(apart["pixel_x"], apart["pixel_y"])
    assert raw.um_per_unit == pytest.approx(200 / steps.median(), rel=0.005)
    unit = raw.um_per_unit or 0
    upright = dark(raw.images["image"], raw.positions * unit)
    swapped = dark(raw.images["image"], raw.positions[:, ::-1] * unit)
    assert upright > 0.85
    assert swapped < upright - 0.05
