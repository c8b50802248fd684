"""10x matrices: text as it is met, and files that say more than they hold."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy import sparse

from tisseract.atlas.errors import InputError
from tisseract.ingest import tenx
from tisseract.ingest.tenx import FeatureMatrix, open_h5, open_mtx

from .vendors.tenx_writer import FeatureList, H5Matrix, write_mtx

COUNTS = sparse.csr_matrix(np.random.default_rng(0).poisson(0.4, (50, 9)))
BARCODES = [f"AACG{k:04d}-1" for k in range(50)]
FEATURES = FeatureList([f"G{k}" for k in range(9)], list("abcdefghi"), ["Gene Expression"] * 9)


@pytest.fixture
def hdf5(tmp_path: Path) -> Path:
    file = H5Matrix(tmp_path / "matrix.h5", FEATURES, {"software_version": "4.0.1"}, small=True)
    file.append(BARCODES, COUNTS)
    file.close()
    return tmp_path / "matrix.h5"


def mtx(folder: Path) -> tuple[Path, Path, Path]:
    write_mtx(folder, FEATURES, [(BARCODES, COUNTS)], software="spaceranger-1.0.0")
    matrix, barcodes, features = (f"{n}.gz" for n in ("matrix.mtx", "barcodes.tsv", "features.tsv"))
    return folder / matrix, folder / barcodes, folder / features


def test_endings_in_capitals_are_unpacked(tmp_path: Path) -> None:
    files = [path.rename(path.with_suffix(".GZ")) for path in mtx(tmp_path)]
    assert (rows_of(open_mtx(*files)) != COUNTS).nnz == 0


def rows_of(matrix: FeatureMatrix, budget: int = 2**20) -> Any:
    start, parts = 0, []
    for block in matrix.counts.blocks(budget):
        assert block.start_row == start
        start += block.n_rows
        data: Any = block.data
        shape = (block.n_rows, 9)
        parts.append(sparse.csr_matrix((data, block.indices, block.indptr), shape=shape))
    return sparse.vstack(parts)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\tEmbryo\n"])
def test_names_end_at_a_tab_or_the_line(tmp_path: Path, ending: str) -> None:
    files = mtx(tmp_path)
    files[1].write_bytes(gzip.compress("".join(f"{one}{ending}" for one in BARCODES).encode()))
    assert open_mtx(*files).barcodes.to_list() == BARCODES
    assert open_mtx(*files).software == "spaceranger-1.0.0"


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_lists_of_features_of_any_width(tmp_path: Path, columns: int) -> None:
    files = mtx(tmp_path)
    rows = [(f"G{k}", f"g{k}", "Antibody Capture", "mm10") for k in range(9)]
    text = "".join("\t".join(row[:columns]) + "\n" for row in rows)
    files[2].write_bytes(gzip.compress(text.encode()))
    found = open_mtx(*files)
    assert found.gene_ids == [row[0] for row in rows]
    assert found.names == ([row[1] for row in rows] if columns > 1 else [""] * 9)
    assert set(found.feature_types) == {"Antibody Capture" if columns > 2 else "Gene Expression"}


def test_names_of_no_utf8_are_refused(tmp_path: Path) -> None:
    files = mtx(tmp_path)
    files[1].write_bytes(gzip.compress(b"\xff\xfe\n" * 50))
    with pytest.raises(InputError, match=r"barcodes\.tsv\.gz.*UTF"):
        open_mtx(*files)


@pytest.mark.parametrize("piece", [1, 30])
def test_rows_that_go_on_in_the_next_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    matrix = open_mtx(*mtx(tmp_path))
    monkeypatch.setattr(tenx, "_ENTRIES", piece)
    monkeypatch.setattr("tisseract.ingest.mtx_text._PIECE", 12 * piece)
    assert (rows_of(matrix, 1) != COUNTS).nnz == 0


def test_a_barcode_with_more_entries_than_features_does_not_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = mtx(tmp_path)
    head = "%%MatrixMarket matrix coordinate integer general\n9 50 4000\n"
    files[0].write_bytes(gzip.compress((head + "1 1 1\n" * 4000).encode()))
    monkeypatch.setattr(tenx, "_ENTRIES", 10)
    monkeypatch.setattr("tisseract.ingest.mtx_text._PIECE", 120)
    with pytest.raises(InputError, match="at most 9 entries of a barcode"):
        rows_of(open_mtx(*files), 1)


def replaced(name: str, **how: Any) -> Callable[[h5py.Group], None]:
    def change(group: h5py.Group) -> None:
        del group[name]
        group.create_dataset(name, **how)

    return change


def to_group(name: str) -> Callable[[h5py.Group], None]:
    def change(group: h5py.Group) -> None:
        del group[name]
        group.create_group(name)

    return change


def named_type(group: h5py.Group) -> None:
    del group["features/name"]
    group["features/name"] = np.dtype("i4")


def without_cells(group: h5py.Group) -> None:
    for name in ("data", "indices", "barcodes"):
        group[name].resize((0,))
    group["indptr"].resize((1,))
    group["shape"][1] = 0


ENDLESS: dict[str, Any] = {"shape": (2**40,), "dtype": "S8", "chunks": (1024,)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (replaced("features/name", **ENDLESS), "features/name: expected a list of 9"),
        (replaced("features/genome", **ENDLESS), "features/genome: expected a list of 9"),
        (replaced("barcodes", **ENDLESS), "barcodes: expected a list of 50"),
        (replaced("data", data=3), "parts disagree"),
        (replaced("data", shape=(4, 4), dtype="i4"), "parts disagree"),
        (replaced("shape", data=7), "parts disagree"),
        (to_group("features/feature_type"), "feature_type: expected data, but got a group"),
        (to_group("features"), "id"),
        (named_type, "expected data, but got a datatype"),
        (without_cells, "parts disagree"),
    ],
)
def test_hdf5_that_says_more_than_it_holds(hdf5: Path, change: Any, told: str) -> None:
    assert (rows_of(open_h5(hdf5)) != COUNTS).nnz == 0
    with h5py.File(hdf5, "a") as file:
        change(file["matrix"])
    with pytest.raises(InputError, match=r"matrix\.h5") as caught:
        open_h5(hdf5)
    assert told in str(caught.value)
