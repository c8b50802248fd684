"""The readers of Slide-seq and Curio Seeker: layouts, units that are assumed, spatialdata-io."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.missing import missing
from tisseract.ingest.reader import Reader, ReadOptions, reader_for
from tisseract.ingest.source import CategoricalValues, NumericValues, RawSection
from tisseract.ingest.vendors.beads import read_beads
from tisseract.ingest.vendors.curio import CurioReader
from tisseract.ingest.vendors.gene_rows import open_gene_rows
from tisseract.ingest.vendors.slideseq import SlideSeqReader

from ...contracts import ReaderContract, ids_of, matrix_of
from . import slideseq_bundle as bundle
from .mutants import run_mutants, wanted
from .tissue import SimTissue

PUCK, CURIO = SlideSeqReader(), CurioReader()
TISSUE = SimTissue(80, n_genes=40, mean_counts=30, seed=2)


def counts() -> Any:
    return bundle.genes_of(TISSUE.whole(), TISSUE).toarray()


def clusters(raw: RawSection) -> list[int | None]:
    """Column of clusters, numbers or words."""
    found: Any = raw.obs["cluster"].read()
    words = isinstance(found, CategoricalValues)
    said = np.array(found.categories)[found.codes] if words else found.values
    lost = missing(found)
    return [None if gone else int(one) for one, gone in zip(said.tolist(), lost, strict=True)]


class _Puck(ReaderContract):
    @pytest.fixture
    def reader(self) -> Reader:
        return PUCK

    @pytest.fixture
    def truth(self) -> Mapping[str, Any]:
        return {
            "counts": counts(),
            "positions": (TISSUE.whole().positions_um / 0.65).round(4),
            "ids": bundle.barcodes(0, TISSUE.n_cells),
            "gene_ids": TISSUE.gene_names,
        }


class TestDge(_Puck):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return bundle.write_slideseq(tmp_path / "puck", TISSUE)


class TestMtx(_Puck):
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return bundle.write_slideseq(tmp_path / "puck", TISSUE, layout="mtx")


class TestCurio(ReaderContract):
    @pytest.fixture
    def reader(self) -> Reader:
        return CURIO

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return bundle.write_curio(tmp_path / "S1", TISSUE, h5ad=False)

    @pytest.fixture
    def truth(self) -> Mapping[str, Any]:
        return {
            "counts": counts(),
            "positions": TISSUE.whole().positions_um.round(3),
            "ids": bundle.barcodes(0, TISSUE.n_cells),
            "gene_ids": TISSUE.gene_names,
        }


class TestPositions:
    @pytest.mark.parametrize("header", ["barcodes,xcoord,ycoord", "", ",barcode,x,y", "a,x,y"])
    @pytest.mark.parametrize("layout", ["dge", "csv"])
    def test_headers(self, tmp_path: Path, header: str, layout: str) -> None:
        folder = bundle.write_slideseq(tmp_path / "p", TISSUE, header=header, layout=layout)
        raw = PUCK.open(folder, ReadOptions())
        assert ids_of(raw) == bundle.barcodes(0, TISSUE.n_cells)
        assert raw.positions == pytest.approx(TISSUE.whole().positions_um / 0.65, abs=1e-4)
        assert (matrix_of(raw).toarray() == counts()).all()
        notes: Any = raw.provenance["notes"]
        assert any("5 beads have no counts" in note for note in notes)

    def test_the_assumed_unit_is_told(self, tmp_path: Path) -> None:
        folder = bundle.write_slideseq(tmp_path / "p", TISSUE)
        seen = PUCK.inspect(folder, ReadOptions())
        assert seen.um_per_unit == 0.65
        assert "assumed: pixels of 0.65 um" in seen.unit_source
        assert any("do not say the unit" in note for note in seen.notes)
        assert PUCK.open(folder, ReadOptions()).radius == pytest.approx(5 / 0.65)
        assert PUCK.open(folder, ReadOptions(um_per_unit=0.7)).um_per_unit == 0.7

    @pytest.mark.parametrize("reader", ["puck", "curio"])
    def test_an_impossible_unit_is_refused(self, tmp_path: Path, reader: str) -> None:
        if reader == "puck":
            folder = bundle.write_slideseq(tmp_path / "p", TISSUE, pixel_um=10.0)
            told = str(PUCK.inspect(folder, ReadOptions()).faults[0])
        else:
            folder = bundle.write_curio(tmp_path / "p", TISSUE, h5ad=False)
            places = folder / "S1_MatchedBeadLocation.csv"
            text = places.read_text().replace(".", "")
            places.write_text(text)
            told = str(CURIO.inspect(folder, ReadOptions()).faults[0])
        assert "expected beads of 10 um side by side" in told
        assert "set um_per_unit" in told


def test_genes_of_one_symbol_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    folder = bundle.write_slideseq(tmp_path / "p", TISSUE, layout="mtx")
    names = [*TISSUE.gene_names[:-1], TISSUE.gene_names[0]]
    ids = [f"ENSMUSG{k:011d}" for k in range(len(names))]
    lines = "".join(f"{a}\t{b}\n" for a, b in zip(ids, names, strict=True))
    (folder / "genes.tsv.gz").write_bytes(gzip.compress(lines.encode()))
    raw = PUCK.open(folder, ReadOptions())
    assert raw.panel.gene_id.tolist() == ids
    assert raw.panel.symbol.tolist() == names
    assert (matrix_of(raw).toarray() == counts()).all()


class TestGeneRows:
    def test_r_style_quotes_floats_and_comments(self, tmp_path: Path) -> None:
        path = tmp_path / "a.digital_expression.txt"
        path.write_text(
            '#DGE\tVERSION:1.1\n"b1"\t"b2"\r\n"G1"\t0\t12\r\n0\t1.5\t0\r\nG3\t0\t1e2\n\r\n'
        )
        table = open_gene_rows(path)
        assert table.genes == ("G1", "0", "G3")
        assert (table.cells, table.nnz) == (("b1", "b2"), 3)
        block, = table.counts(np.array([1, 0])).blocks(2**20)  # fmt: skip
        assert block.indptr.tolist() == [0, 2, 3]
        assert block.indices.tolist() == [0, 2, 1]
        assert block.data.tolist() == [12.0, 100.0, 1.5]

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("GENE\ta\tb\nG1\t0\n", r"line 2.*expected 3 fields"),
            ("GENE\ta\tb\nG1\t0\t1\nG2\t0\tx\n", r"line 3.*cell 'b', but got b'x'"),
            ("GENE\ta\tb\nG1\t0\t\n", "line 2"),
            ("GENE\ta\tb\nG1\t0\t12\0\n", r"line 2.*cell 'b'"),
            ("GENE\ta\tb\nG1\t0\t1\n\nG2\t0\t1\n", r"line 3.*expected 3 fields"),
            ("GENE\ta\tb\n", "genes below the header"),
            ("nothing\n", "a cell a column"),
        ],
    )
    def test_broken_tables(self, tmp_path: Path, text: str, told: str) -> None:
        path = tmp_path / "a.txt"
        path.write_text(text)
        with pytest.raises(InputError, match=told):
            list(open_gene_rows(path).counts(np.arange(2)).blocks(2**20))


class TestLayouts:
    def test_further_columns_of_the_positions(self, tmp_path: Path) -> None:
        folder = bundle.write_slideseq(tmp_path / "p", TISSUE, header="bc_as_read,x,y,in_tissue")
        path = folder / "Puck_1_bead_locations.csv"
        head, *lines = path.read_text().splitlines()
        numbered = [f"{line},{k % 7}" for k, line in enumerate(lines)]
        path.write_text("\n".join([head, *reversed(numbered)]))
        raw = PUCK.open(folder, ReadOptions())
        assert ids_of(raw) == bundle.barcodes(0, TISSUE.n_cells)
        assert list(raw.obs) == ["in_tissue"]
        found = raw.obs["in_tissue"].read()
        assert isinstance(found, NumericValues)
        assert found.values.tolist() == [k % 7 for k in range(TISSUE.n_cells)]

    def test_a_matrix_in_a_folder_below(self, tmp_path: Path) -> None:
        folder = bundle.write_slideseq(tmp_path / "p", TISSUE, layout="mtx")
        (folder / "dge").mkdir()
        for name in ("matrix.mtx.gz", "barcodes.tsv.gz", "genes.tsv.gz"):
            (folder / name).rename(folder / "dge" / name.replace("matrix", "counts"))
        assert reader_for(folder).format == "slideseq"
        assert (matrix_of(PUCK.open(folder, ReadOptions())).toarray() == counts()).all()


class TestFaults:
    def test_beads_of_another_puck(self, tmp_path: Path) -> None:
        folder = bundle.write_slideseq(tmp_path / "p", TISSUE)
        path = folder / "Puck_1_bead_locations.csv"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], *(f"Z{line}" for line in lines[1:])]) + "\n")
        assert "got none of 80 in common" in str(PUCK.inspect(folder, ReadOptions()).faults[0])

    def test_partial_folders(self, tmp_path: Path) -> None:
        folder = bundle.write_slideseq(tmp_path / "p", TISSUE, layout="mtx")
        (folder / "genes.tsv.gz").unlink()
        assert "one list of genes" in str(PUCK.inspect(folder, ReadOptions()).faults[0])
        (folder / "matrix.mtx.gz").unlink()
        assert "digital_expression" in str(PUCK.inspect(folder, ReadOptions()).faults[0])


class TestCurioFiles:
    def test_everything_is_kept(self, tmp_path: Path) -> None:
        folder = bundle.write_curio(tmp_path / "S1", TISSUE)
        assert reader_for(folder).format == "curio"
        raw = CURIO.open(folder, ReadOptions())
        assert set(raw.obs) == {"nCount_RNA", "pct_mt", "cluster"}
        depth = raw.obs["nCount_RNA"].read()
        assert isinstance(depth, NumericValues)
        assert (depth.values == counts().sum(axis=1)).all()
        assert clusters(raw) == TISSUE.whole().domains.tolist()
        vendor: Any = raw.provenance["vendor"]
        assert vendor["metrics"]["Pipeline"] == {"Pipeline version": "v3.0.0"}
        assert raw.um_per_unit == 1.0

    def test_clusters_of_some_beads(self, tmp_path: Path) -> None:
        folder = bundle.write_curio(tmp_path / "S1", TISSUE)
        path = folder / "S1_cluster_assignment.txt"
        lines = path.read_text().splitlines()
        path.write_text("\n".join(lines[:9:-1]) + "\n")
        raw = CURIO.open(folder, ReadOptions())
        assert clusters(raw) == [*[None] * 10, *TISSUE.whole().domains[10:].tolist()]
        notes: Any = raw.provenance["notes"]
        assert any("10 of 80 beads have no row" in note for note in notes)
        path.write_text("\n".join([*lines, lines[0]]) + "\n")
        assert "expected every bead once" in str(CURIO.inspect(folder, ReadOptions()).faults[0])

    def test_positions_of_the_h5ad(self, tmp_path: Path) -> None:
        folder = bundle.write_curio(tmp_path / "S1", TISSUE)
        (folder / "S1_MatchedBeadLocation.csv").unlink()
        raw = CURIO.open(folder, ReadOptions())
        assert raw.positions == pytest.approx(TISSUE.whole().positions_um, abs=1e-3)
        assert (matrix_of(raw).toarray() == counts()).all()
        notes: Any = raw.provenance["notes"]
        assert any("positions are those of S1_anndata.h5ad" in note for note in notes)

    def test_the_h5ad_alone(self, tmp_path: Path) -> None:
        folder = bundle.write_curio(tmp_path / "S1", TISSUE)
        (folder / "S1_MoleculesPerMatchedBead.mtx").unlink()
        (folder / "S1_MatchedBeadLocation.csv").unlink()
        raw = CURIO.open(folder, ReadOptions())
        assert (matrix_of(raw).toarray() == counts()).all()
        assert "cluster" in raw.obs
        notes: Any = raw.provenance["notes"]
        assert any("no MoleculesPerMatchedBead.mtx" in note for note in notes)
        assert raw.panel.completeness == "partial"
        whole = CURIO.open(folder, ReadOptions(reader_kwargs={"panel": "complete"}))
        assert whole.panel.completeness == "complete"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "write", "file"), [*bundle.KINDS, *bundle.CURIO_KINDS])
def test_mutants(tmp_path: Path, kind: str, write: Any, file: str) -> None:
    reader: Any = PUCK if (kind, write, file) in bundle.KINDS else CURIO
    source = write(tmp_path / kind)
    (tmp_path / "work").mkdir()
    work = tmp_path / "work"
    report = run_mutants(source, file, reader, ReadOptions(), work, n=wanted(20))
    assert not report.failures, report.failures[:5]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_curio_same_as_spatialdata_io(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences: its positions have no unit, its circles a radius of 10, ours of 5 um.

    Version 0.7 hands the table over in a way that SpatialData no longer takes.
    """
    import sys

    curio: Any = pytest.importorskip("spatialdata_io").curio
    module = sys.modules[curio.__module__]
    whole: Any = module.SpatialData

    def mended(table: Any, shapes: Any) -> Any:
        return whole(tables={"table": table}, shapes=shapes)

    monkeypatch.setattr(module, "SpatialData", mended)
    folder = bundle.write_curio(tmp_path / "S1", TISSUE)
    theirs = curio(folder)
    table, raw = theirs.tables["table"], CURIO.open(folder, ReadOptions())
    assert ids_of(raw) == table.obs_names.tolist()
    assert raw.panel.gene_id.tolist() == table.var_names.tolist()
    assert (matrix_of(raw).toarray() == table.X.toarray()).all()
    assert (raw.positions == table.obsm["spatial"]).all()
    assert set(raw.obs) <= set(table.obs)


def test_positions_without_a_header_may_repeat_a_number(tmp_path: Path) -> None:
    path = tmp_path / "positions.csv"
    path.write_text("AAA,5.0,5.0\nCCC,1.0,2.0\n")
    beads = read_beads(path)
    assert beads.barcodes.to_list() == ["AAA", "CCC"]
    assert beads.positions.tolist() == [[5.0, 5.0], [1.0, 2.0]]


def test_genes_in_quotes_may_hold_separators(tmp_path: Path) -> None:
    path = tmp_path / "genes.csv"
    path.write_text('"","a,1",b\n"RP11-1,2",1,0\n5" end,0,3\nplain,2,0\n')
    table = open_gene_rows(path)
    assert (table.cells, table.genes) == (("a,1", "b"), ("RP11-1,2", '5" end', "plain"))
    blocks = table.counts(np.arange(2)).blocks(2**20)
    assert [(b.indices.tolist(), b.data.tolist()) for b in blocks] == [([0, 2, 1], [1, 2, 3])]
