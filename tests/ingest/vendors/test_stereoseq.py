"""The Stereo-seq reader: GEM and GEF, bins and cells, folders of every SAW, spatialdata-io."""

from __future__ import annotations

import gc
import gzip
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import Reader, ReadOptions, reader_for
from tisseract.ingest.source import CategoricalValues, NumericValues, RawSection
from tisseract.ingest.vendors import stereoseq
from tisseract.ingest.vendors.stereoseq import StereoSeqReader
from tisseract.ingest.vendors.stereoseq_gem import chip_pitch_nm
from tisseract.ingest.vendors.stereoseq_molecules import gather_bins

from ...contracts import ReaderContract, ids_of, matrix_of
from . import stereoseq_bundle as bundle
from .mutants import run_mutants
from .tissue import SimTissue

READER = StereoSeqReader()
TISSUE = SimTissue(120, n_genes=40, mean_counts=30, seed=1)
CELLS = ReadOptions(reader_kwargs={"bin_size": "cell"})


def size(n: int, **more: Any) -> ReadOptions:
    return ReadOptions(reader_kwargs={"bin_size": n, **more})


def binned(n: int) -> pd.DataFrame:
    """Counts by bin and gene, with pandas alone."""
    rows = bundle.all_rows(TISSUE)
    table = pd.DataFrame({"x": rows.x // n, "y": rows.y // n, "gene": rows.gene, "n": rows.count})
    found = table.pivot_table(index=["x", "y"], columns="gene", values="n", aggfunc="sum")
    return found.reindex(columns=range(TISSUE.n_genes)).fillna(0).astype(int)


def dense(raw: RawSection) -> Any:
    """Matrix with genes in the order of the tissue."""
    names = list(TISSUE.gene_names)
    if raw.panel.gene_id[0].startswith("ENSMUSG"):
        names = bundle.gene_ids(TISSUE)
    place = {str(name): k for k, name in enumerate(raw.panel.gene_id)}
    matrix = matrix_of(raw).toarray()
    filled = np.zeros((raw.n_obs, len(names)), int)
    for k, name in enumerate(names):
        if name in place:
            filled[:, k] = matrix[:, place[name]]
    return filled


def numbers(raw: RawSection, name: str) -> Any:
    values = raw.obs[name].read()
    assert isinstance(values, NumericValues)
    return values.values


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

    def test_molecules_as_points(self, tmp_path: Path) -> None:
        path = bundle.write_gem(tmp_path / "a.gem", TISSUE, cells=True)
        raw = READER.open(path, size(50, molecules=True))
        table = pd.concat([one.to_pandas() for one in raw.points["molecules"].batches()])
        rows = bundle.all_rows(TISSUE)
        assert len(table) == rows.x.size
        assert table["count"].sum() == rows.count.sum()
        assert table["cell"].isna().sum() == (rows.cell == 0).sum()
        assert table["x"].min() == rows.x.min() * 0.5
        ids = table["gene"].astype(str)
        wanted = pd.Series(rows.count).groupby(np.array(bundle.gene_ids(TISSUE))[rows.gene]).sum()
        assert table["count"].groupby(ids).sum().to_dict() == wanted.to_dict()


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

    def test_clusters_join_by_name(self, tmp_path: Path) -> None:
        folder = bundle.write_stereoseq(tmp_path / "saw", TISSUE, version=6, images=False)
        (folder / "051.cellcluster").mkdir()
        names = [str(k + 1) for k in range(TISSUE.n_cells)][::-1][5:]
        path = folder / "051.cellcluster" / f"{bundle.CHIP}.cell.cluster.h5ad"
        with h5py.File(path, "w") as file:
            obs = file.create_group("obs")
            obs.attrs["_index"], obs.attrs["column-order"] = "_index", ["leiden"]
            obs["_index"] = names
            leiden = obs.create_group("leiden")
            leiden.attrs["encoding-type"] = "categorical"
            leiden["categories"] = ["c0", "c1", "c2"]
            leiden["codes"] = np.array([int(name) % 3 for name in names], np.int8)
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

    @pytest.mark.parametrize("wrong", [0, -1, "wide", True, 1.5])
    def test_sizes_that_are_none(self, tmp_path: Path, wrong: Any) -> None:
        path = bundle.write_gem(tmp_path / "a.gem", TISSUE)
        options = ReadOptions(reader_kwargs={"bin_size": wrong})
        assert "expected spots along the edge" in str(READER.inspect(path, options).faults[0])


class TestFaults:
    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("\t1\t", "\t-1\t", "not negative"),
            ("x\ty", "a\tb", "without x, y"),
            ("\t1\t", "\tone\t", "a.gem"),
            ("\t1\t", "\t\t", "row"),
        ],
    )
    def test_broken_rows(self, tmp_path: Path, old: str, new: str, told: str) -> None:
        path = bundle.write_gem(tmp_path / "a.gem", TISSUE)
        path.write_text(path.read_text().replace(old, new, 1))
        with pytest.raises(InputError, match=told):
            READER.open(path, ReadOptions())

    def test_genes_that_disagree_with_entries(self, tmp_path: Path) -> None:
        path = bundle.write_gef(tmp_path / "a.gef", TISSUE, bins=(50,))
        with h5py.File(path, "r+") as file:
            genes = file["geneExp/bin50/gene"][:]
            genes["offset"][3] += 1
            file["geneExp/bin50/gene"][:] = genes
        with pytest.raises(InputError, match=r"geneExp/bin50/gene.*disagree"):
            READER.open(path, ReadOptions())

    def test_more_entries_than_bytes(self, tmp_path: Path) -> None:
        path = bundle.write_gef(tmp_path / "a.gef", TISSUE, bins=(50,))
        with h5py.File(path, "r+") as file:
            entry = file["geneExp/bin50/expression"].dtype
            del file["geneExp/bin50/expression"]
            file["geneExp/bin50"].create_dataset(
                "expression", (10**12,), entry, chunks=(65536,), compression="gzip"
            )
        with pytest.raises(InputError, match="expected the values of 1,000,000,000,000 entries"):
            READER.open(path, ReadOptions())

    def test_links_out_of_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.gef"
        with h5py.File(path, "w") as file:
            file["geneExp"] = h5py.ExternalLink("secret.h5", "/")
        with pytest.raises(InputError, match="refused"):
            READER.open(path, ReadOptions())


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "write", "file"), bundle.KINDS)
def test_mutants(tmp_path: Path, kind: str, write: Any, file: str) -> None:
    source = write(tmp_path / kind)
    (tmp_path / "work").mkdir()
    options = CELLS if kind != "square" else ReadOptions()
    # All 500 of every file were run by hand, and written: here the first of each kind of damage.
    report = run_mutants(source, file, READER, options, tmp_path / "work", n=200, write=False)
    assert not report.failures, report.failures[:5]
    assert report.refused > 50


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_same_as_spatialdata_io(tmp_path: Path) -> None:
    """Differences: its bins are points at corners with ids by order, its mask is an image."""
    import anndata as ad

    stereoseq = pytest.importorskip("spatialdata_io").stereoseq
    folder = bundle.write_stereoseq(tmp_path / "saw", TISSUE, version=5)
    (folder / "051.cellcluster").mkdir()
    names = [str(k + 1) for k in range(TISSUE.n_cells)]
    table = ad.AnnData(
        TISSUE.whole().counts[:, : TISSUE.n_genes].astype(np.float32),
        obs=pd.DataFrame(index=names),
        var=pd.DataFrame(index=list(TISSUE.gene_names)),
    )
    table.write_h5ad(folder / "051.cellcluster" / f"{bundle.CHIP}.cell.cluster.h5ad")
    (folder / "02.count" / f"{bundle.CHIP}.gef").write_bytes(
        (folder / "02.count" / f"{bundle.CHIP}.raw.gef").read_bytes()
    )
    theirs = stereoseq(folder, optional_tif=True)
    cells = READER.open(folder, CELLS)
    own = theirs.tables["cells_table"]
    assert ids_of(cells) == own.obs_names.tolist()
    assert (matrix_of(cells).toarray() == own.X.toarray()).all()
    assert (cells.positions == own.obsm["spatial"]).all()
    for name in ("geneCount", "expCount", "dnbCount", "area", "cellExon"):
        assert (numbers(cells, name) == own.obs[name].to_numpy()).all()
    rings: Any = cells.shapes
    piece = next(iter(rings.pieces()))
    polygon = theirs.shapes["cells_polygons"].geometry.iloc[7]
    assert piece.vertices[84:96] == pytest.approx(np.array(polygon.exterior.coords)[:12])
    bins, square = READER.open(folder, ReadOptions()), theirs.tables["bin50_table"]
    points = theirs.points["bin50_genes"].compute()
    order = np.lexsort((points["y"], points["x"]))
    assert (bins.positions - 25 == points[["x", "y"]].to_numpy()[order]).all()
    place = [list(TISSUE.gene_names).index(name) for name in square.var_names]
    assert (dense(bins)[:, place] == square.X.toarray()[order]).all()
    for name, image in theirs.images.items():
        mine: Any = cells.images.get(name) or cells.labels[name]
        with mine.open() as pixels:
            assert (
                pixels.shape == (image if hasattr(image, "shape") else image["scale0"].image).shape
            )


@pytest.mark.real
def test_real_gem(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "vendor" / "stereoseq_gem" / "SS200000135TL_D1_bin1_small.gem.gz"
    assert reader_for(path).format == "stereoseq"
    assert reader_for(path.parent).format == "stereoseq"
    with gzip.open(path, "rt") as file:
        table = pd.read_csv(file, sep="\t", keep_default_na=False)
    for n in (1, 50):
        raw = READER.open(path, size(n))
        matrix = matrix_of(raw, 2**20)
        keys = [table.x // n, table.y // n, table.geneID]
        assert matrix.sum() == table.MIDCounts.sum() == 131_002
        assert matrix.nnz == table.groupby(keys).ngroups
        assert raw.n_obs == table.groupby(keys[:2]).ngroups
        by_gene = dict(zip(raw.panel.gene_id, matrix.sum(axis=0).A1, strict=True))
        assert by_gene == table.groupby("geneID").MIDCounts.sum().to_dict()
        assert raw.positions.min(axis=0).tolist() == [
            table.x.min() // n * n + n // 2, table.y.min() // n * n + n // 2,
        ]  # fmt: skip
    summary = write_section(
        READER.open(path, ReadOptions()), tmp_path / "section", memory_limit=2**29
    )
    assert summary.n_obs == 36
    assert summary.um_per_unit == 0.5
