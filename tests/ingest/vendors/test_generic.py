"""Tables by a mapping: every layout, joins, faults that teach, mutants, memory."""

from __future__ import annotations

import csv
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from tisseract.atlas.errors import InputError
from tisseract.ingest.partition import write_section
from tisseract.ingest.reader import Reader, ReadOptions
from tisseract.ingest.source import CategoricalValues
from tisseract.ingest.vendors.generic import TableReader

from ...contracts import ReaderContract, matrix_of, told_faults
from ...contracts import ids_of as ids_read
from .mutants import run_mutants, wanted
from .tables_bundle import KINDS, PIXEL_UM, ids_of, small, write_tables
from .tenx_writer import FeatureList, H5Matrix
from .tissue import SimTissue

READER = TableReader()
faults = partial(told_faults, READER)
LAYOUTS = ("dense", "dense-own", "dense-parquet", "long", "starmap", "mtx")


def change(folder: Path, **parts: str) -> Path:
    """Replace words of the mapping."""
    file = folder / "tisseract.yaml"
    text = file.read_text()
    for old, new in parts.items():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return folder


class TestContract(ReaderContract):
    @pytest.fixture(params=LAYOUTS)
    def layout(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def source(self, tmp_path: Path, layout: str) -> Path:
        return write_tables(tmp_path / "tables", small(), layout)

    @pytest.fixture
    def truth(self, layout: str) -> Mapping[str, Any]:
        tissue = small()
        block = tissue.whole()
        # The order of cells is that of the matrix.
        order = slice(None, None, -1) if layout.startswith("dense-") else slice(None)
        return {
            "counts": block.counts.toarray()[order],
            "positions": block.positions_um[order] / PIXEL_UM,
            "ids": ids_of(block)[order],
            "gene_ids": list(tissue.gene_names),
        }


def test_everything_of_the_tables_is_kept(tmp_path: Path) -> None:
    path = write_tables(tmp_path / "tables", small(), "long")
    raw = READER.open(path, ReadOptions())
    assert raw.um_per_unit == PIXEL_UM
    domain = raw.obs["domain"].read()
    assert isinstance(domain, CategoricalValues)
    assert list(raw.obs) == ["domain"]
    assert raw.apart["controls"].names == small().control_names
    block = small().whole()
    spots = list(raw.points["transcripts"].batches())
    x = np.concatenate([np.asarray(one["x"]) for one in spots])
    np.testing.assert_allclose(x, block.molecules_um[:, 0], atol=1e-6)
    assert {"quality", "target", "z"} <= set(spots[0].schema.names)
    outside = sum(one["owner"].null_count for one in spots)
    assert outside == int((block.cell < 0).sum())
    summary = write_section(raw, tmp_path / "section", memory_limit=2**29, tile_cells=32)
    assert summary.n_obs == small().n_cells


def test_heights_stay_where_columns_are_chosen(tmp_path: Path) -> None:
    folder = write_tables(tmp_path / "tables", small(), "dense")
    change(folder, **{"  y: cy\n": "  y: cy\n  z: g:Control001\n  obs: [domain]\n"})
    assert list(READER.open(folder, ReadOptions()).obs) == ["domain", "g:Control001"]


def test_features_of_a_10x_matrix_are_told_apart_by_type(tmp_path: Path) -> None:
    names = ["Sox2", "Probe-1", "CD3", "Blank1"]
    kinds = ["Gene Expression", "Negative Control Probe", "Antibody Capture", "Gene Expression"]
    ids = [f"id{k}" for k in range(4)]
    file = H5Matrix(tmp_path / "m.h5", FeatureList(ids, ["", *names[1:]], kinds), {})
    counts = np.arange(1, 9).reshape(2, 4)
    file.append(["a", "b"], sparse.csr_matrix(counts))
    file.close()
    (tmp_path / "cells.csv").write_text("id,x,y\na,0,0\nb,9,9\n")
    (tmp_path / "tisseract.yaml").write_text(
        "um_per_unit: 1\ncontrols: [Blank*]\ncells: {path: cells.csv, id: id, x: x, y: y}\n"
        "counts: {layout: h5, path: m.h5}\n"
    )
    raw = READER.open(tmp_path, ReadOptions())
    assert raw.panel.gene_id.tolist() == ["id0"]
    assert raw.apart["controls"].names == ("Probe-1", "Blank1")
    assert raw.apart["controls"].feature_types == (kinds[1], kinds[3])
    assert raw.apart["proteins"].names == ("CD3",)
    assert (matrix_of(raw).toarray() == counts).all()


def test_y_up_turns_everything_over(tmp_path: Path) -> None:
    path = change(
        write_tables(tmp_path / "tables", small(), "long"),
        **{"technology: STARmap": "technology: STARmap\ny_axis: up"},
    )
    raw = READER.open(path, ReadOptions())
    assert raw.y_axis == "up"
    y = np.concatenate([np.asarray(one["y"]) for one in raw.points["transcripts"].batches()])
    np.testing.assert_allclose(y, -small().whole().molecules_um[:, 1], atol=1e-6)


def test_long_counts_without_a_list_of_genes(tmp_path: Path) -> None:
    path = change(
        write_tables(tmp_path / "tables", small(), "long"),
        **{"genes: {path: genes.csv, header: false}\n": ""},
    )
    raw = READER.open(path, ReadOptions())
    total = small().whole().counts.sum()
    assert matrix_of(raw).sum() == total
    assert raw.counts.nnz == small().whole().counts.nnz
    genes = raw.panel.gene_id.tolist()
    assert genes == sorted(genes)


def test_a_mapping_in_the_sheet_serves_a_single_file(tmp_path: Path) -> None:
    folder = write_tables(tmp_path / "tables", small(), "dense")
    (folder / "tisseract.yaml").unlink()
    mapping = {
        "cells": {"id": "cell", "x": "cx", "y": "cy"},
        "counts": {"layout": "dense", "genes": ["g:*"]},
        "controls": ["g:Control*"],
    }
    options = ReadOptions(um_per_unit=1.0, reader_kwargs={"mapping": mapping})
    raw = READER.open(folder / "cells.csv", options)
    assert (matrix_of(raw).toarray() == small().whole().counts.toarray()).all()
    assert raw.um_per_unit == 1.0
    assert [len(raw.panel.gene_id), len(raw.apart["controls"].names)] == [40, 2]


class TestJoins:
    def lose(self, folder: Path, name: str, row: int) -> None:
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(lines[:row] + lines[row + 1 :]))

    def test_cells_of_one_table_alone_are_refused_or_left_out(self, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "tables", small(), "dense-parquet")
        self.lose(folder, "cells.csv", 5)
        assert "1 cells of the matrix have no position (c5)" in faults(folder)
        change(folder, **{"id: name}": "id: name, unmatched: drop}"})
        raw = READER.open(folder, ReadOptions())
        assert raw.n_obs == small().n_cells - 1
        assert "c5" not in ids_read(raw)
        kept = small().whole().counts.toarray()[::-1][np.arange(60) != 55]
        assert (matrix_of(raw).toarray() == kept).all()

    def test_unknown_cells_of_long_counts(self, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "tables", small(), "long")
        self.lose(folder, "cells.csv", 5)
        with pytest.raises(InputError, match=r"counts\.csv data row \d+.*'c5'.*unmatched: drop"):
            matrix_of(READER.open(folder, ReadOptions()))
        change(folder, **{"match: id}": "match: id, outside: [c5]}"})
        kept = small().whole().counts.toarray()[np.arange(60) != 4]
        assert (matrix_of(READER.open(folder, ReadOptions())).toarray() == kept).all()

    def test_duplicates_are_refused_or_summed(self, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "tables", small(), "long")
        with (folder / "counts.csv").open() as file:
            rows = list(csv.reader(file))
        with (folder / "counts.csv").open("a") as file:
            file.write(",".join(rows[1]) + "\n")
        raw = READER.open(folder, ReadOptions())
        with pytest.raises(InputError, match="each gene once"):
            write_section(raw, tmp_path / "section", memory_limit=2**29)
        change(folder, **{"match: id}": "match: id, duplicates: sum}"})
        total = small().whole().counts.sum() + int(rows[1][2])
        assert matrix_of(READER.open(folder, ReadOptions())).sum() == total


class TestSections:
    def write(self, folder: Path) -> Path:
        write_tables(folder, small(), "long")
        lines = (folder / "cells.csv").read_text().splitlines()
        block = small().whole()
        rows = [lines[0] + ",section"]
        for k, line in enumerate(lines[1:]):
            name, _, _, domain = line.split(",")
            x, y = block.positions_um[k // 2] / PIXEL_UM  # two sections upon one another
            rows.append(f"{name},{x},{y},{domain},{'AB'[k % 2]}")
        (folder / "cells.csv").write_text("\n".join(rows) + "\n")
        text = (folder / "tisseract.yaml").read_text()
        (folder / "tisseract.yaml").write_text(text[: text.index("transcripts:")])
        return folder

    def test_several_sections_are_refused_until_one_is_chosen(self, tmp_path: Path) -> None:
        folder = self.write(tmp_path / "tables")
        told = faults(folder)
        assert "'section' tells into several" in told
        assert '{"where": {"section": VALUE}}' in told
        given: Any = {"where": {"section": "B"}}
        raw = READER.open(folder, ReadOptions(reader_kwargs=given))
        kept = small().whole().counts.toarray()[1::2]
        assert (matrix_of(raw).toarray() == kept).all()
        assert ids_read(raw) == ids_of(small().whole())[1::2]
        assert len(raw.obs["domain"].read().codes) == 30  # type: ignore[union-attr]
        assert READER.open(folder, ReadOptions(split_by="none")).n_obs == 60

    def test_values_that_are_not_there(self, tmp_path: Path) -> None:
        folder = self.write(tmp_path / "tables")
        for where, told in (({"section": "C"}, "got A, B"), ({"sectoin": "A"}, "'section'")):
            given: Any = {"where": where}
            assert told in faults(folder, ReadOptions(reader_kwargs=given))


class TestFaultsTeach:
    def test_columns_that_are_there_are_listed(self, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "tables", small(), "long")
        change(folder, **{"x: cx": "x: Cx", "y: cy": "y: cyy"})
        told = faults(folder)
        assert "expected a column 'Cx', but got cell, cx, cy, domain" in told
        assert "'cyy'" in told
        assert "'cy'" in told

    def test_every_fault_of_a_mapping_at_once(self, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "tables", small(), "long")
        text = "cels: {path: a}\ncounts: {layout: lng, pth: b}\ny_axis: left\n"
        (folder / "tisseract.yaml").write_text(text)
        told = faults(folder)
        for word in ("'cels'", "'cells'", "'lng'", "'long'", "'pth'", "'left'", "expected `cells"):
            assert word in told, told

    def test_delimiters_are_one_character(self, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "tables", small(), "dense-own")
        change(folder, **{"id: name}": "id: name, delimiter: '\\t'}"})
        assert READER.open(folder, ReadOptions()).n_obs == small().n_cells
        change(folder, **{"delimiter: '\\t'": "delimiter: ';;'", "_unit: 0.25": "_unit: [0.25]"})
        told = faults(folder)
        assert "counts.delimiter: expected one character, or tab, but got ';;'" in told
        assert "um_per_unit: expected a number or word, but got ['0.25']" in told

    def test_mappings_of_the_sheet_have_any_keys(self, tmp_path: Path) -> None:
        given: Any = {"mapping": {1: 2, "cells": {2: 3}, "counts": {"layout": "long"}}}
        told = faults(tmp_path, ReadOptions(reader_kwargs=given))
        assert "got 1" in told
        assert "got 2" in told

    def test_names_longer_than_a_disk_takes_are_not_there(self, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "tables", small(), "long")
        change(folder, **{"path: cells.csv": f"path: {'c' * 300}.csv"})
        assert "but got none" in faults(folder)

    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("a: [1, 2", "expected YAML"),
            ("- 1", "expected a mapping"),
            ("a: &x 1\nb: *x", "aliases are not read"),
            ("a: !!python/object/apply:os.system ['true']", "expected"),
        ],
    )
    def test_yaml_is_text_alone(self, tmp_path: Path, text: str, wanted: str) -> None:
        (tmp_path / "tisseract.yaml").write_text(text)
        assert wanted in faults(tmp_path)

    def test_nothing_outside_the_folder_is_read(self, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "tables", small(), "long")
        (tmp_path / "secret.csv").write_text("cell,cx,cy\na,1,2\n")
        change(folder, **{"path: cells.csv": "path: ../secret.csv"})
        assert "refused" in faults(folder)
        change(folder, **{"path: ../secret.csv": "path: link.csv"})
        (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
        assert "link out of it" in faults(folder)

    def test_dense_genes_must_be_named(self, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "tables", small(), "dense")
        change(folder, **{', prefix: "g:"': ""})
        assert "expected the columns of cells.csv that are genes" in faults(folder)

    def test_numbers_that_are_no_counts(self, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "tables", small(), "long")
        text = (folder / "counts.csv").read_text().splitlines()
        (folder / "counts.csv").write_text("\n".join([text[0], text[1] + ".5", *text[2:]]) + "\n")
        assert "set `values`" in faults(folder)
        raw = READER.open(folder, replace(ReadOptions(), values="expected"))
        assert raw.values == "expected"

    def test_what_is_no_option_of_tables_is_not_named(self, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "tables", small(), "long")
        text = (folder / "counts.csv").read_text().splitlines()
        first = f"{text[1].rpartition(',')[0]},-3"
        (folder / "counts.csv").write_text("\n".join([text[0], first, *text[2:]]) + "\n")
        cells = (folder / "cells.csv").read_text().splitlines()
        (folder / "cells.csv").write_text("\n".join([*cells, cells[-1]]) + "\n")
        told = faults(folder)
        assert "make them unique, or name another with `cells.id`" in told
        (folder / "cells.csv").write_text("\n".join(cells) + "\n")
        told = faults(folder)
        assert "expected numbers from 0 on, but got -3" in told
        assert "`layer`" not in told

    def test_numbers_that_may_be_counts_are_noted(self, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "tables", small(), "dense")
        raw = READER.open(folder, ReadOptions(values="log1p"))
        assert any("look like counts" in note for note in raw.provenance["notes"])  # type: ignore[attr-defined]

    def test_a_table_of_ids_alone_has_no_genes(self, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "tables", small(), "dense-own")
        change(folder, **{"path: counts.tsv.gz, id: name": "path: genes.csv, id: name"})
        (folder / "genes.csv").write_text("name\nc1\n")
        assert "expected columns of genes, but got none" in faults(folder)

    def test_positions_must_be_finite(self, tmp_path: Path) -> None:
        folder = write_tables(tmp_path / "tables", small(), "long")
        lines = (folder / "cells.csv").read_text().splitlines()
        lines[3] = "c3,,2.0,d1"
        (folder / "cells.csv").write_text("\n".join(lines) + "\n")
        assert "1 row (3)" in faults(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=[kind[0] for kind in KINDS])
def test_mutants(tmp_path: Path, kind: Any) -> None:
    _, write, file = kind
    source = write(tmp_path / "whole")
    report = run_mutants(source, file, READER, ReadOptions(), tmp_path, n=wanted(10))
    assert not report.failures, report.failures[:5]
    assert report.refused


@pytest.mark.slow
def test_memory_follows_the_budget(tmp_path: Path) -> None:
    folder = write_tables(tmp_path / "tables", SimTissue(4000, 40, 60.0), "long")
    raw = READER.open(folder, ReadOptions())
    tracemalloc.start()
    total = sum(int(np.sum(np.asarray(block.data, np.int64))) for block in raw.counts.blocks(2**22))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == SimTissue(4000, 40, 60.0).whole().counts.sum()
    assert peak < 24 * 2**20
