"""The Stereo-seq reader: GEM and GEF, bins and cells, folders of every SAW."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import Reader, ReadOptions, reader_for
from tisseract.ingest.source import CategoricalValues
from tisseract.ingest.vendors import stereoseq
from tisseract.ingest.vendors.stereoseq_gem import chip_pitch_nm
from tisseract.ingest.vendors.stereoseq_molecules import gather_bins

from ...contracts import ReaderContract, ids_of
from . import stereoseq_bundle as bundle
from .stereoseq_truth import CELLS, READER, TISSUE, binned, dense, numbers, size
from .tissue import SimTissue


class _Contract(ReaderContract):
    n = 20

    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def options(self) -> ReadOptions:
        return size(self.n)

    @pytest.fixture
    def truth(self, source: Path, options: ReadOptions) -> Mapping[str, Any]:
        table = binned(self.n)
        names = [str(name) for name in READER.open(source, options).panel.gene_id]
        known = bundle.gene_ids(TISSUE)
        corners = np.array(table.index.tolist()) * self.n
        return {
            "counts": table.to_numpy()[:, [known.index(name) for name in names]],
            "positions": corners + self.n / 2,
            "ids": [f"{x}_{y}" for x, y in corners.tolist()],
            "gene_ids": names,
        }


class TestGem(_Contract):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return bundle.write_gem(tmp_path / "chip.tissue.gem.gz", TISSUE)


class TestGef(_Contract):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return bundle.write_gef(tmp_path / "chip.tissue.gef", TISSUE, bins=(1,))


class TestCells(ReaderContract):
    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return bundle.write_cellbin(tmp_path / "chip.cellbin.gef", TISSUE)

    @pytest.fixture
    def truth(self) -> Mapping[str, Any]:
        block = TISSUE.whole()
        return {
            "counts": block.counts[:, : TISSUE.n_genes].toarray(),
            "positions": np.round(block.positions_um / 0.5) + bundle.ORIGIN,
            "ids": [str(k + 1) for k in range(TISSUE.n_cells)],
            "gene_ids": bundle.gene_ids(TISSUE),
        }


class TestBins:
    @pytest.mark.parametrize("n", [1, 50, 100])
    @pytest.mark.parametrize("kind", ["gem", "gef", "gef of bin 50"])
    def test_every_source_gives_the_same_bins(self, tmp_path: Path, n: int, kind: str) -> None:
        if kind == "gem":
            path = bundle.write_gem(tmp_path / "a.gem.gz", TISSUE)
        else:
            bins = (50,) if kind.endswith("50") else (1,)
            path = bundle.write_gef(tmp_path / "a.gef", TISSUE, bins=bins)
        if kind.endswith("50") and n == 1:
            told = READER.inspect(path, size(n)).faults
            assert "got bins of 50; set reader_kwargs bin_size" in str(told[0])
            return
        raw, table = READER.open(path, size(n)), binned(n)
        assert (dense(raw) == table.to_numpy()).all()
        corners = np.array(table.index.tolist()) * n
        assert (raw.positions == corners + n // 2).all()
        assert (numbers(raw, "array_col") == corners[:, 0] // n).all()
        assert raw.um_per_unit == 0.5
        assert raw.radius == n / 2

    def test_exons_and_names(self, tmp_path: Path) -> None:
        rows = bundle.all_rows(TISSUE)
        gef = READER.open(bundle.write_gef(tmp_path / "a.gef", TISSUE, bins=(1,)), size(50))
        gem = READER.open(bundle.write_gem(tmp_path / "a.gem", TISSUE), size(50))
        for raw in (gef, gem):
            assert numbers(raw, "exon_counts").sum() == rows.exon.sum()
            assert raw.panel.gene_id[raw.panel.find("Aph1b/c")].startswith("ENSMUSG")
            assert raw.panel.completeness == "partial"

    @pytest.mark.parametrize("version", [0, 0.1, 0.2])
    def test_gem_of_every_version(self, tmp_path: Path, version: float) -> None:
        path = bundle.write_gem(tmp_path / "a.gem.gz", TISSUE, version=version, exon=version > 0.1)
        raw = READER.open(path, ReadOptions())
        assert (dense(raw) == binned(50).to_numpy()).all()
        vendor: Any = raw.provenance["vendor"]
        assert ("Stereo-seqChip" in vendor) == (version > 0)

    @pytest.mark.parametrize("version", [2, 4])
    def test_gef_of_every_version(self, tmp_path: Path, version: int) -> None:
        path = bundle.write_gef(tmp_path / "a.gef", TISSUE, version=version)
        raw = READER.open(path, ReadOptions())
        assert (dense(raw) == binned(50).to_numpy()).all()
        vendor: Any = raw.provenance["vendor"]
        assert vendor["version"] == version
        assert vendor["bins_read"] == 50
        assert vendor["geftool_ver"] == [0, 7, 11]

    def test_the_chip_or_the_file_says_the_unit(self, tmp_path: Path) -> None:
        assert (chip_pitch_nm("SS2"), chip_pitch_nm("DP84A"), chip_pitch_nm("V1x")) == (
            500, 715, 800,
        )  # fmt: skip
        gem = bundle.write_gem(tmp_path / "a.gem", TISSUE)
        gem.write_text(gem.read_text().replace(bundle.CHIP, "FP100009"))
        assert READER.open(gem, ReadOptions()).um_per_unit == 0.6
        gef = bundle.write_gef(tmp_path / "a.gef", TISSUE, bins=(50,))
        with h5py.File(gef, "r+") as file:
            file["geneExp/bin50/expression"].attrs["resolution"] = np.array([715], "<u4")
        raw = READER.open(gef, ReadOptions())
        assert raw.um_per_unit == pytest.approx(0.715)
        assert READER.open(gef, ReadOptions(um_per_unit=0.7)).um_per_unit == 0.7
        with pytest.raises(InputError, match="leave it empty"):
            READER.open(gef, ReadOptions(um_per_unit=0.4))

    def test_facts_are_plain_values(self, tmp_path: Path) -> None:
        path = bundle.write_gef(tmp_path / "a.gef", TISSUE, bins=(50,))
        with h5py.File(path, "r+") as file:
            file.attrs["omics"] = np.array([b"Transcriptomics", b"Proteomics"], "S32")
            file.attrs["nothing"] = h5py.Empty("f4")
            del file["geneExp/bin50/expression"].attrs["resolution"]
            file.attrs["sn"] = np.array([b"FP100009"], "S32")
        raw = READER.open(path, ReadOptions())
        vendor: Any = raw.provenance["vendor"]
        assert json.loads(json.dumps(vendor))["omics"] == ["Transcriptomics", "Proteomics"]
        assert raw.um_per_unit == 0.6


class TestMolecules:
    @pytest.mark.parametrize("kind", ["gem", "gef"])
    def test_of_single_spots(self, tmp_path: Path, kind: str) -> None:
        """Whatever the bins: those of 50 in the file are not what spots caught."""
        if kind == "gem":
            path = bundle.write_gem(tmp_path / "a.gem", TISSUE, cells=True)
        else:
            path = bundle.write_gef(tmp_path / "a.gef", TISSUE, bins=(1, 50))
        raw = READER.open(path, size(50, molecules=True))
        points = raw.points["molecules"]
        table = pd.concat([one.to_pandas() for one in points.batches()])
        rows = bundle.all_rows(TISSUE)
        spots = pd.DataFrame({"gene": rows.gene, "x": rows.x, "y": rows.y}).drop_duplicates()
        assert len(table) == (rows.x.size if kind == "gem" else len(spots))
        assert table["count"].sum() == rows.count.sum()
        assert table["exon"].sum() == rows.exon.sum()
        assert (table["x"].min(), table["y"].max()) == (rows.x.min() * 0.5, rows.y.max() * 0.5)
        ids = table["gene"].astype(str)
        wanted = pd.Series(rows.count).groupby(np.array(bundle.gene_ids(TISSUE))[rows.gene]).sum()
        assert table["count"].groupby(ids).sum().to_dict() == wanted.to_dict()
        assert points.instance_key == ""
        if kind == "gem":
            assert table["cell"].isna().sum() == (rows.cell == 0).sum()

    def test_y_up(self, tmp_path: Path) -> None:
        path = bundle.write_gem(tmp_path / "a.gem", TISSUE)
        options = replace(size(50, molecules=True), y_axis="up", um_per_unit=0.4)
        table = next(iter(READER.open(path, options).points["molecules"].batches())).to_pandas()
        assert table["y"].min() == bundle.all_rows(TISSUE).y.max() * -0.4

    def test_cells_name_them(self, tmp_path: Path) -> None:
        path = bundle.write_gem(tmp_path / "a.cellbin.gem", TISSUE, cells=True)
        options = ReadOptions(reader_kwargs={"bin_size": "cell", "molecules": True})
        raw = READER.open(path, options)
        points = raw.points["molecules"]
        assert points.instance_key == "cell"
        named = {cell for one in points.batches() for cell in one["cell"].to_pylist()}
        assert named - {None} == set(ids_of(raw))
        write_section(READER.open(path, options), tmp_path / "section", memory_limit=2**29)
        assert (tmp_path / "section/points/molecules").is_dir()
        whole = READER.open(bundle.write_cellbin(tmp_path / "b.cellbin.gef", TISSUE), options)
        assert whole.points == {}
        notes: Any = whole.provenance["notes"]
        assert any("no molecules in b.cellbin.gef" in note for note in notes)

    def test_the_finest_bins_there_are(self, tmp_path: Path) -> None:
        path = bundle.write_gef(tmp_path / "a.gef", TISSUE, bins=(10, 50))
        raw = READER.open(path, size(50, molecules=True))
        table = next(iter(raw.points["molecules"].batches())).to_pandas()
        assert (table["x"] % 5 == 0).all()
        assert (table["x"] % 25 != 0).any()
        notes: Any = raw.provenance["notes"]
        assert any("corners of bins of 10" in note for note in notes)


class TestGemCells:
    def test_cells_and_what_lies_outside(self, tmp_path: Path) -> None:
        path = bundle.write_gem(tmp_path / "a.cellbin.gem.gz", TISSUE, cells=True)
        raw, rows = READER.open(path, CELLS), bundle.all_rows(TISSUE)
        table = pd.DataFrame({"cell": rows.cell, "x": rows.x, "y": rows.y, "n": rows.count})
        inside = table[table.cell > 0]
        centers = inside.groupby("cell")[["x", "y"]].mean()
        assert ids_of(raw) == [str(one) for one in centers.index]
        assert raw.positions == pytest.approx(centers.to_numpy())
        block = TISSUE.whole()
        wanted = block.counts[:, : TISSUE.n_genes].toarray()[centers.index - 1]
        assert (dense(raw) == wanted).all()
        assert numbers(raw, "exon_counts").sum() == rows.exon[rows.cell > 0].sum()
        vendor: Any = raw.provenance["vendor"]
        lost = table[table.cell == 0]
        assert vendor["outside_cells"] == {"rows": len(lost), "molecules": lost.n.sum()}
        # Cells are where the tissue has them.
        apart = np.hypot(*(raw.positions * 0.5 - block.positions_um[centers.index - 1]
                           - np.array(bundle.ORIGIN) * 0.5).T)  # fmt: skip
        assert np.median(apart) < 1.0

    def test_what_a_pass_found_goes_with_its_section(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Looking and opening pass once; nothing is kept after, nor when it is large."""
        path = bundle.write_gem(tmp_path / "a.gem", TISSUE)
        passes: list[Path] = []
        inner = gather_bins

        def counted(file: Path, *rest: Any, **more: Any) -> Any:
            passes.append(file)
            return inner(file, *rest, **more)

        monkeypatch.setattr(stereoseq, "gather_bins", counted)
        READER.inspect(path, size(50))
        raw = READER.open(path, size(50))
        assert len(passes) == 1
        held = weakref.ref(raw.positions)
        del raw
        gc.collect()
        assert held() is None
        monkeypatch.setattr(stereoseq, "_KEPT_BYTES", 0)
        READER.inspect(path, size(50))
        READER.open(path, size(50))
        assert len(passes) == 3

    def test_no_cells_in_plain_gem(self, tmp_path: Path) -> None:
        path = bundle.write_gem(tmp_path / "a.gem", TISSUE)
        assert "expected a column CellID" in str(READER.inspect(path, CELLS).faults[0])


class TestCellGef:
    @pytest.mark.parametrize("borders", ["padded", "counted"])
    def test_measures_and_borders(self, tmp_path: Path, borders: str) -> None:
        path = bundle.write_cellbin(tmp_path / "a.cellbin.gef", TISSUE, borders=borders)
        raw = READER.open(path, ReadOptions())
        assert set(raw.obs) == {
            "geneCount", "expCount", "dnbCount", "area", "cellTypeID", "clusterID", "cellExon",
            "cell_type",
        }  # fmt: skip
        kind = raw.obs["cell_type"].read()
        assert isinstance(kind, CategoricalValues)
        assert kind.categories == ("default",)
        pieces: Any = raw.shapes
        rings = list(pieces.pieces())
        assert sum(one.rows.size for one in rings) == TISSUE.n_cells
        assert (rings[0].counts == 12).all()
        first = rings[0].vertices[:12] * 0.5 - np.array(bundle.ORIGIN) * 0.5
        assert first == pytest.approx(TISSUE.boundaries(TISSUE.whole())[0], abs=0.6)

    def test_old_names(self, tmp_path: Path) -> None:
        path = bundle.write_cellbin(tmp_path / "a.cellbin.gef", TISSUE, version=2)
        raw = READER.open(path, ReadOptions())
        assert raw.panel.gene_id.tolist() == list(TISSUE.gene_names)

    @pytest.mark.parametrize("by", ["number", "place"])
    def test_clusters_join_by_name(self, tmp_path: Path, by: str) -> None:
        folder = bundle.write_stereoseq(tmp_path / "saw", TISSUE, version=6, images=False)
        (folder / "051.cellcluster").mkdir()
        numbered = [k + 1 for k in range(TISSUE.n_cells)][::-1][5:]
        x, y = (np.round(TISSUE.whole().positions_um / 0.5).astype(np.int64) + bundle.ORIGIN).T
        places = [str(x[k - 1] << 32 | y[k - 1]) for k in numbered]
        names = list(map(str, numbered)) if by == "number" else places
        path = folder / "051.cellcluster" / f"{bundle.CHIP}.cell.cluster.h5ad"
        with h5py.File(path, "w") as file:
            obs = file.create_group("obs")
            obs.attrs["_index"], obs.attrs["column-order"] = "_index", ["leiden"]
            obs["_index"] = names
            leiden = obs.create_group("leiden")
            leiden.attrs["encoding-type"] = "categorical"
            leiden["categories"] = ["c0", "c1", "c2"]
            leiden["codes"] = np.array([k % 3 for k in numbered], np.int8)
        raw = READER.open(folder, CELLS)
        found: Any = raw.obs["leiden"].read()
        said = [found.categories[code] if code >= 0 else None for code in found.codes]
        wanted = [f"c{k % 3}" for k in range(1, TISSUE.n_cells + 1)]
        assert said == [*wanted[:-5], *[None] * 5]
        notes: Any = raw.provenance["notes"]
        assert any("5 of 120 cells have no row" in note for note in notes)


class TestFolders:
    @pytest.mark.parametrize("version", [5, 6, 7, 8])
    def test_every_saw(self, tmp_path: Path, version: int) -> None:
        folder = bundle.write_stereoseq(tmp_path / "saw", TISSUE, version=version, gem=version == 6)
        assert reader_for(folder).format == "stereoseq"
        raw = READER.open(folder, ReadOptions())
        assert (dense(raw) == binned(50).to_numpy()).all()
        vendor: Any = raw.provenance["vendor"]
        assert "tissue" in vendor["file"]
        assert list(raw.images) == [f"ssDNA_{bundle.CHIP}_regist"]
        assert list(raw.labels) == [f"{bundle.CHIP}_mask", f"{bundle.CHIP}_tissue_cut"]
        assert READER.open(folder, CELLS).n_obs == TISSUE.n_cells
        notes: Any = raw.provenance["notes"]
        assert any("bin_size=cell reads them" in note for note in notes)

    def test_an_adjusted_file_of_cells_is_the_better_one(self, tmp_path: Path) -> None:
        folder = bundle.write_stereoseq(tmp_path / "saw", TISSUE, images=False)
        other = SimTissue(70, n_genes=40, mean_counts=30, seed=2)
        bundle.write_cellbin(folder / f"{bundle.CHIP}.adjusted.cellbin.gef", other)
        raw = READER.open(folder, CELLS)
        assert raw.n_obs == 70
        notes: Any = raw.provenance["notes"]
        assert any("tissue.gef holds square bins" in note for note in notes)
        assert any(f"{bundle.CHIP}.cellbin.gef" in note for note in notes)

    def test_without_images(self, tmp_path: Path) -> None:
        folder = bundle.write_stereoseq(tmp_path / "saw", TISSUE)
        raw = READER.open(folder, size(50, images=False))
        assert raw.images == raw.labels == {}
        turned: Any = list(READER.open(folder, replace(CELLS, y_axis="up")).images.values())
        assert [one.affine[1][1] for one in turned] == [-0.5]

    def test_nuclei_lie_under_cells(self, tmp_path: Path) -> None:
        folder = bundle.write_stereoseq(tmp_path / "saw", TISSUE)
        raw = READER.open(folder, CELLS)
        image: Any = raw.images[f"ssDNA_{bundle.CHIP}_regist"]
        with image.open() as pixels:
            stain = pixels.rows(0, pixels.shape[1])[0]
        (a, _, c), (_, e, f) = image.affine
        um = raw.positions * (raw.um_per_unit or 0)

        def bright(points: Any) -> float:
            at = np.round((points - [c, f]) / [a, e]).astype(int)
            ok = (at >= 0).all(axis=1) & (at < np.array(stain.shape)[::-1]).all(axis=1)
            return float((stain[at[ok, 1], at[ok, 0]] > 100).sum() / len(points))

        assert bright(um) > 0.95
        assert bright(um[:, ::-1]) < 0.5
        assert bright(um * 1.05) < 0.5

    def test_several_chips(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            bundle.write_gem(tmp_path / f"{name}.gem", TISSUE)
        told = str(READER.inspect(tmp_path, ReadOptions()).faults[0])
        assert "2 files of the same kind (a.gem, b.gem)" in told
        raw = READER.open(tmp_path, ReadOptions(reader_kwargs={"file": "b.gem"}))
        assert raw.provenance["vendor"]["file"] == "b.gem"  # type: ignore[index]
        wrong = ReadOptions(reader_kwargs={"file": "c.gem"})
        assert "expected one of a.gem, b.gem" in str(READER.inspect(tmp_path, wrong).faults[0])

    @pytest.mark.parametrize("given", ["bin20", "20", 20])
    def test_sizes_by_their_names(self, tmp_path: Path, given: Any) -> None:
        path = bundle.write_gem(tmp_path / "a.gem", TISSUE)
        raw = READER.open(path, ReadOptions(reader_kwargs={"bin_size": given}))
        assert raw.n_obs == len(binned(20))

    @pytest.mark.parametrize("wrong", [0, -1, "wide", True, 1.5, 10_001])
    def test_sizes_that_are_none(self, tmp_path: Path, wrong: Any) -> None:
        path = bundle.write_gem(tmp_path / "a.gem", TISSUE)
        options = ReadOptions(reader_kwargs={"bin_size": wrong})
        assert "expected spots along the edge" in str(READER.inspect(path, options).faults[0])
