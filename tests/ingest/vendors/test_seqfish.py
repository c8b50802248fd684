"""The seqFISH reader: names and units of both releases, regions, elements, spatialdata-io."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import Reader, ReadOptions, reader_for
from tisseract.ingest.source import NumericValues, RawSection
from tisseract.ingest.vendors.seqfish import SeqFishReader

from ...contracts import ReaderContract, ids_of
from . import seqfish_bundle as bundle
from .mutants import run_mutants, wanted
from .tissue import SimTissue

READER = SeqFishReader()
TISSUE = SimTissue(60, n_genes=40, mean_counts=20, seed=4)
CORNER = np.array(bundle.CORNER_UM)


def um(raw: RawSection) -> Any:
    return raw.positions * (raw.um_per_unit or 0)


class _Contract(ReaderContract):
    version = 2

    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return bundle.write_seqfish(tmp_path / "run", TISSUE, version=self.version, images=False)

    @pytest.fixture
    def options(self) -> ReadOptions:
        return ReadOptions(um_per_unit=1.0 if self.version == 2 else bundle.PIXEL_UM)

    @pytest.fixture
    def truth(self) -> Mapping[str, Any]:
        scale = 1.0 if self.version == 2 else bundle.PIXEL_UM
        return {
            "counts": TISSUE.whole().counts.toarray(),
            "positions": ((TISSUE.whole().positions_um + CORNER) / scale).round(3),
            "ids": [str(k + 1) for k in range(TISSUE.n_cells)],
            "gene_ids": TISSUE.gene_names,
        }


class TestMicrometers(_Contract):
    version = 2


class TestPixels(_Contract):
    version = 1


@pytest.mark.parametrize("version", [1, 2])
class TestReleases:
    def test_everything_is_kept(self, tmp_path: Path, version: int) -> None:
        folder = bundle.write_seqfish(tmp_path / "run", TISSUE, version=version)
        assert reader_for(folder).format == "seqfish"
        raw, block = READER.open(folder, ReadOptions()), TISSUE.whole()
        assert ids_of(raw) == [str(k + 1) for k in range(TISSUE.n_cells)]
        assert raw.panel.gene_id.tolist() == list(TISSUE.gene_names)
        assert list(raw.apart) == ["controls"]
        assert len(raw.apart["controls"].names) == 6
        total = sum(np.asarray(one.data, float).sum() for one in raw.counts.blocks(2**20))
        assert total == block.counts.sum()
        assert um(raw) == pytest.approx(block.positions_um + CORNER, abs=0.1)
        area = raw.obs["area"].read()
        assert isinstance(area, NumericValues)
        points = pd.concat([one.to_pandas() for one in raw.points["transcripts"].batches()])
        assert len(points) == block.cell.size
        assert points[["x", "y"]].to_numpy() == pytest.approx(
            block.molecules_um[:, :2] + CORNER, abs=0.1
        )
        assert ("cell" in points) == (version == 2)
        if version == 2:
            assert points["cell"].isna().sum() == (block.cell < 0).sum()

    def test_a_picture_of_the_mask_is_left_out(self, tmp_path: Path, version: int) -> None:
        folder = bundle.write_seqfish(tmp_path / "run", TISSUE, version=version)
        mask, = folder.glob("*Segmentation*.tiff")  # fmt: skip
        for wrong in (tifffile.imread(mask).astype(np.float32), np.zeros((64, 64, 3), np.uint8)):
            tifffile.imwrite(mask, wrong, photometric="rgb" if wrong.ndim == 3 else "minisblack")
            raw = READER.open(folder, ReadOptions())
            assert not raw.labels
            assert f"{mask.name} is no mask of whole numbers" in str(raw.provenance["notes"])

    def test_borders_lie_around_the_cells(self, tmp_path: Path, version: int) -> None:
        for named in (False, True):
            folder = bundle.write_seqfish(
                tmp_path / f"run{named}", TISSUE, version=version, named=named
            )
            raw = READER.open(folder, ReadOptions())
            shapes: Any = raw.shapes
            piece, = shapes.pieces()  # fmt: skip
            assert piece.rows.tolist() == list(range(TISSUE.n_cells))
            rings = piece.vertices.reshape(TISSUE.n_cells, 13, 2) * raw.um_per_unit
            truth = TISSUE.boundaries(TISSUE.whole()) + CORNER
            assert rings[:, :12] == pytest.approx(truth, abs=0.1)

    def test_borders_without_names_go_by_the_list(self, tmp_path: Path, version: int) -> None:
        """The matrix has fewer cells, and those in another order."""
        folder = bundle.write_seqfish(tmp_path / "run", TISSUE, version=version)
        matrix, = folder.glob("*CellxGene*")  # fmt: skip
        head, *lines = matrix.read_text().splitlines()
        matrix.write_text("\n".join([head, *lines[:5:-2]]) + "\n")
        raw = READER.open(folder, ReadOptions())
        shapes: Any = raw.shapes
        piece, = shapes.pieces()  # fmt: skip
        rings = piece.vertices.reshape(TISSUE.n_cells, 13, 2)[:, :12].mean(axis=1)
        inside = piece.rows >= 0
        assert inside.sum() == raw.n_obs == len(lines[:5:-2])
        assert rings[inside] == pytest.approx(raw.positions[piece.rows[inside]], abs=1)
        notes: Any = raw.provenance["notes"]
        assert any(f"{TISSUE.n_cells - raw.n_obs} cells have no counts" in one for one in notes)

    def test_nuclei_lie_under_cells(self, tmp_path: Path, version: int) -> None:
        folder = bundle.write_seqfish(tmp_path / "run", TISSUE, version=version)
        raw = READER.open(folder, ReadOptions())
        image: Any = raw.images["DAPI"]
        with image.open() as pixels:
            stain = pixels.rows(0, pixels.shape[1])[0]
        (a, _, c), (_, e, f) = image.affine

        def bright(points: Any) -> float:
            at = np.floor((points - [c, f]) / [a, e]).astype(int)
            ok = (at >= 0).all(axis=1) & (at < np.array(stain.shape)[::-1]).all(axis=1)
            return float((stain[at[ok, 1], at[ok, 0]] > 500).sum() / len(points))

        assert bright(um(raw)) > 0.95
        assert bright(um(raw)[:, ::-1]) < 0.5
        assert bright(um(raw) * 1.05) < 0.7
        label: Any = raw.labels["Segmentation"]
        with label.open() as pixels:
            mask = pixels.rows(0, pixels.shape[1])[0]
        at = np.floor(um(raw) / a).astype(int)
        assert (mask[at[:, 1], at[:, 0]] == np.arange(1, TISSUE.n_cells + 1)).mean() > 0.9


class TestRegions:
    def test_one_must_be_named(self, tmp_path: Path) -> None:
        other = SimTissue(45, n_genes=40, mean_counts=20, seed=5)
        bundle.write_seqfish(tmp_path, TISSUE, roi="Roi1")
        bundle.write_seqfish(tmp_path, other, roi="Roi2")
        told = str(READER.inspect(tmp_path, ReadOptions()).faults[0])
        assert "got 2 (Roi1, Roi2); write a row for each" in told
        raw = READER.open(tmp_path, ReadOptions(reader_kwargs={"roi": "Roi2"}))
        assert raw.n_obs == 45
        wrong = ReadOptions(reader_kwargs={"roi": "Roi3"})
        assert "expected one of Roi1, Roi2" in str(READER.inspect(tmp_path, wrong).faults[0])

    def test_no_name_at_all(self, tmp_path: Path) -> None:
        bundle.write_seqfish(tmp_path, TISSUE, roi="", images=False)
        assert READER.open(tmp_path, ReadOptions()).n_obs == TISSUE.n_cells


class TestPartial:
    def test_what_is_missing_is_told(self, tmp_path: Path) -> None:
        folder = bundle.write_seqfish(tmp_path / "run", TISSUE, images=False)
        (folder / "Roi1_TranscriptList.csv").unlink()
        seen = READER.inspect(folder, ReadOptions())
        assert not seen.faults
        told = "\n".join(seen.notes)
        assert "no *TranscriptList*.csv" in told
        assert "no *DAPI*.tiff" in told
        assert "Boundaries.geojson is left out; set reader_kwargs pixel_um" in told
        assert "taken as micrometers" in told
        given = ReadOptions(reader_kwargs={"pixel_um": bundle.PIXEL_UM})
        assert READER.open(folder, given).shapes is not None

    def test_parts_left_out_and_y_up(self, tmp_path: Path) -> None:
        folder = bundle.write_seqfish(tmp_path / "run", TISSUE)
        without = {"images": False, "transcripts": False}
        raw = READER.open(folder, ReadOptions(reader_kwargs=without))
        assert not raw.images
        assert not raw.labels
        assert not raw.points
        assert len(READER.files(folder, ReadOptions(reader_kwargs=without))) == 3
        turned = READER.open(folder, ReadOptions(y_axis="up"))
        image: Any = turned.images["DAPI"]
        assert image.affine[1][1] == -bundle.PIXEL_UM
        for batch in turned.points["transcripts"].batches():
            assert (np.asarray(batch["y"]) < 0).all()

    def test_pixels_without_an_image_are_no_micrometers(self, tmp_path: Path) -> None:
        folder = bundle.write_seqfish(tmp_path / "run", TISSUE, version=1, images=False)
        cells = folder / "run7_CellCoordinates_Roi1.csv"
        table = pd.read_csv(cells)
        table[["center_x", "center_y"]] *= 10
        table.to_csv(cells, index=False)
        told = str(READER.inspect(folder, ReadOptions()).faults[0])
        assert "which are no micrometers; set um_per_unit" in told

    @pytest.mark.parametrize("by", [1e5, -150.0])
    def test_cells_of_another_region(self, tmp_path: Path, by: float) -> None:
        folder = bundle.write_seqfish(tmp_path / "run", TISSUE)
        cells = folder / "Roi1_CellCoordinates.csv"
        table = pd.read_csv(cells)
        table["center_x"] += by
        table.to_csv(cells, index=False)
        assert "they are of different regions" in str(
            READER.inspect(folder, ReadOptions()).faults[0]
        )

    def test_counts_alone(self, tmp_path: Path) -> None:
        folder = bundle.write_seqfish(tmp_path / "run", TISSUE)
        (folder / "Roi1_CellCoordinates.csv").unlink()
        assert "*CellCoordinates*.csv" in str(READER.inspect(folder, ReadOptions()).faults[0])


def test_a_section_is_written(tmp_path: Path) -> None:
    folder = bundle.write_seqfish(tmp_path / "run", TISSUE)
    raw = READER.open(folder, ReadOptions())
    summary = write_section(raw, tmp_path / "section", memory_limit=2**30)
    assert summary.n_obs == TISSUE.n_cells
    assert (tmp_path / "section/points/transcripts").is_dir()
    assert (tmp_path / "section/labels/Segmentation").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "write", "file"), bundle.KINDS)
def test_mutants(tmp_path: Path, kind: str, write: Any, file: str) -> None:
    source = write(tmp_path / kind)
    (tmp_path / "work").mkdir()
    work = tmp_path / "work"
    report = run_mutants(source, file, READER, ReadOptions(), work, n=wanted(20))
    assert not report.failures, report.failures[:5]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_same_as_spatialdata_io(tmp_path: Path) -> None:
    """Differences: its controls are among the genes, its image stays in pixels of its own frame."""
    seqfish = pytest.importorskip("spatialdata_io").seqfish
    folder = bundle.write_seqfish(tmp_path / "run", TISSUE)
    theirs, raw = seqfish(folder), READER.open(folder, ReadOptions())
    table = theirs.tables["table_Roi1"]
    assert ids_of(raw) == table.obs["instance_id"].astype(str).tolist()
    n = len(raw.panel.gene_id)
    assert raw.panel.gene_id.tolist() == table.var_names[:n].tolist()
    assert list(raw.apart["controls"].names) == table.var_names[n:].tolist()
    blocks = list(raw.counts.blocks(2**20))
    found = np.zeros(table.shape)
    for block in blocks:
        rows = block.start_row + np.repeat(np.arange(block.n_rows), np.diff(block.indptr))
        found[rows, block.indices] = block.data
    assert (found == np.asarray(table.X)).all()
    assert (raw.positions == table.obsm["spatial"]).all()
    points = theirs.points["Roi1_TranscriptList"].compute()
    ours = pd.concat([one.to_pandas() for one in raw.points["transcripts"].batches()])
    assert len(points) == len(ours)
    assert np.sort(points["x"]) == pytest.approx(np.sort(ours["x"]))
    shapes: Any = raw.shapes
    piece, = shapes.pieces()  # fmt: skip
    ring = np.array(theirs.shapes["Roi1_Boundaries"].geometry.iloc[5].exterior.coords)
    assert piece.vertices[5 * 13 : 6 * 13] == pytest.approx(ring * bundle.PIXEL_UM)
    for name, element in (("Roi1_DAPI", raw.images["DAPI"]),):
        image: Any = element
        with image.open() as pixels:
            assert pixels.shape == theirs.images[name].shape
