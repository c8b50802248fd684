"""Broken Stereo-seq input: refused by the file and the place in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import ReadOptions

from . import stereoseq_bundle as bundle
from .mutants import run_mutants, wanted
from .stereoseq_truth import CELLS, READER, TISSUE


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

    def test_bins_of_the_file_that_make_no_bins_of_that_size(self, tmp_path: Path) -> None:
        path = bundle.write_gem(tmp_path / "a.gem", TISSUE)
        path.write_text(path.read_text().replace("#BinSize=1\n", "#BinSize=20\n"))
        with pytest.raises(InputError, match="a multiple of the file's 20, but got 50"):
            READER.open(path, ReadOptions())
        assert READER.open(path, ReadOptions(reader_kwargs={"bin_size": 100})).n_obs

    def test_versions_to_come_are_noted(self, tmp_path: Path) -> None:
        path = bundle.write_gef(tmp_path / "a.gef", TISSUE, bins=(50,), version=7)
        notes: Any = READER.open(path, ReadOptions()).provenance["notes"]
        assert any("GEF version 7 is newer" in note for note in notes)

    def test_genes_that_disagree_with_entries(self, tmp_path: Path) -> None:
        path = bundle.write_gef(tmp_path / "a.gef", TISSUE, bins=(50,))
        with h5py.File(path, "r+") as file:
            genes = file["geneExp/bin50/gene"][:]
            genes["offset"][3] += 1
            file["geneExp/bin50/gene"][:] = genes
        with pytest.raises(InputError, match=r"geneExp/bin50/gene.*disagree"):
            READER.open(path, ReadOptions())

    def test_genes_that_run_backwards(self, tmp_path: Path) -> None:
        path = bundle.write_gef(tmp_path / "a.gef", TISSUE, bins=(50,))
        with h5py.File(path, "r+") as file:
            genes = file["geneExp/bin50/gene"][:]
            names = [("geneID", "S64"), ("geneName", "S64")]
            genes = genes.astype([*names, ("offset", "<i4"), ("count", "<i4")])
            genes["offset"][2] = genes["offset"][1] - 1
            genes["count"][1], genes["count"][2] = -1, genes["offset"][3] - genes["offset"][2]
            del file["geneExp/bin50/gene"]
            file["geneExp/bin50/gene"] = genes
        with pytest.raises(InputError, match=r"geneExp/bin50/gene.*disagree"):
            READER.open(path, ReadOptions())

    @pytest.mark.parametrize(("kind", "told"), [("<f4", "whole numbers in count"), ("<i4", "-3")])
    def test_counts_of_cells(self, tmp_path: Path, kind: str, told: str) -> None:
        path = bundle.write_cellbin(tmp_path / "a.cellbin.gef", TISSUE)
        with h5py.File(path, "r+") as file:
            rows = file["cellBin/cellExp"][:].astype([("geneID", "<u4"), ("count", kind)])
            rows["count"][7] = -3
            del file["cellBin/cellExp"]
            file["cellBin/cellExp"] = rows
        with pytest.raises(InputError, match=told):
            write_section(READER.open(path, CELLS), tmp_path / "section", memory_limit=2**29)

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("cellBordercnt", np.full(TISSUE.n_cells, 11, "<i2")),
            ("cellBordercnt", np.full(3, 12, "<i2")),
            ("cellBorder", np.zeros((2, TISSUE.n_cells * 12), "<i2")),
            ("cellBorder", np.zeros(TISSUE.n_cells * 24, "S2")),
        ],
    )
    def test_borders_that_fit_no_cells(self, tmp_path: Path, name: str, values: Any) -> None:
        path = bundle.write_cellbin(tmp_path / "a.cellbin.gef", TISSUE, borders="counted")
        with h5py.File(path, "r+") as file:
            del file["cellBin"][name]
            file["cellBin"][name] = values
        with pytest.raises(InputError, match="cellBin/cellBorder: expected"):
            READER.open(path, CELLS)

    def test_cells_alone(self, tmp_path: Path) -> None:
        path = bundle.write_cellbin(tmp_path / "a.gef", TISSUE)
        with pytest.raises(InputError, match="got cells alone; set reader_kwargs bin_size to cell"):
            READER.open(path, ReadOptions())
        assert READER.open(path, CELLS).n_obs == TISSUE.n_cells

    def test_lists_in_the_place_of_groups(self, tmp_path: Path) -> None:
        path = tmp_path / "a.gef"
        with h5py.File(path, "w") as file:
            file["geneExp"] = np.zeros(3)
            file["cellBin"] = np.zeros(3)
        with pytest.raises(InputError, match="got cellBin, geneExp"):
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
    report = run_mutants(source, file, READER, options, tmp_path / "work", n=wanted(20))
    assert not report.failures, report.failures[:5]
    assert report.refused > report.n // 4
