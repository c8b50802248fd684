"""A 10x matrix placed by any table: layouts, names of columns, joins, mutants."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tisseract.atlas.errors import InputError
from tisseract.ingest.reader import Reader, ReadOptions, reader_for
from tisseract.ingest.vendors.tenx_positions import TenxReader
from tisseract.ingest.vendors.xenium_features import tables_of

from ...contracts import ReaderContract, ids_of, matrix_of
from .mutants import run_mutants, wanted
from .tenx_writer import FeatureList, H5Matrix, write_mtx
from .tissue import SimTissue

READER = TenxReader()
UNIT = ReadOptions(um_per_unit=0.5)
TISSUE = SimTissue(40, n_genes=40, mean_counts=12.0, n_controls=2)


def options(**kwargs: object) -> ReadOptions:
    return replace(UNIT, reader_kwargs=kwargs)


def barcodes(n: int = 40) -> list[str]:
    return [f"{'ACGT'[k % 4]}{'ACGT'[k // 4 % 4]}{k:06d}-1" for k in range(n)]


def ensembl() -> list[str]:
    return [f"ENSMUSG{k:011d}" for k in range(TISSUE.n_genes)]


def write_folder(folder: Path, matrix: str = "h5", places: str = "csv") -> Path:
    """Write matrix and positions; the table is in another order, with a cell more."""
    folder.mkdir(parents=True)
    block = TISSUE.whole()
    names = [*TISSUE.gene_names, *TISSUE.control_names]
    ids = [*ensembl(), *TISSUE.control_names]
    types = ["Gene Expression"] * TISSUE.n_genes + ["Negative Control Probe"] * 2
    features = FeatureList(ids, names, types)
    if matrix == "h5":
        path = folder / "sample_filtered_feature_bc_matrix.h5"
        file = H5Matrix(path, features, {"software_version": "8.0.1"}, small=True)
        file.append(barcodes(), block.counts)
        file.close()
    else:
        write_mtx(folder, features, [(barcodes(), block.counts)], software="8.0.1")
    columns_of = {
        "barcode": [*barcodes()[::-1], "extra-1"],
        "x_centroid": [*(block.positions_um[::-1, 0] * 2).tolist(), 1.0],
        "y_centroid": [*(block.positions_um[::-1, 1] * 2).tolist(), 1.0],
        "domain": [*(f"d{k}" for k in block.domains[::-1]), "d0"],
    }
    if places == "parquet":
        pq.write_table(pa.table(columns_of), folder / "coords.parquet")
    else:
        text_rows = zip(*columns_of.values(), strict=True)
        lines = [",".join(columns_of), *(",".join(map(str, row)) for row in text_rows)]
        (folder / "positions.csv").write_text("\n".join(lines) + "\n")
    return folder


class TestContract(ReaderContract):
    @pytest.fixture(params=["h5-csv", "mtx-parquet"])
    def layout(self, request: pytest.FixtureRequest) -> Any:
        return request.param.split("-")

    @pytest.fixture
    def reader(self) -> Reader:
        return READER

    @pytest.fixture
    def options(self) -> ReadOptions:
        return UNIT

    @pytest.fixture
    def source(self, tmp_path: Path, layout: Any) -> Path:
        return write_folder(tmp_path / "sample", *layout)

    @pytest.fixture
    def truth(self) -> Mapping[str, Any]:
        block = TISSUE.whole()
        return {
            "counts": block.counts.toarray(),
            "positions": block.positions_um * 2,
            "ids": barcodes(),
            "gene_ids": ensembl(),
        }


def test_everything_is_kept(tmp_path: Path) -> None:
    raw = READER.open(write_folder(tmp_path / "sample"), UNIT)
    assert list(raw.obs) == ["domain"]
    assert raw.apart["controls"].names == TISSUE.control_names
    assert raw.panel.symbol.tolist() == list(TISSUE.gene_names)
    notes: Any = raw.provenance["notes"]
    assert any("1 cells have no row in the matrix (extra-1)" in note for note in notes)


def test_features_of_each_type_have_a_table(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sample")
    with h5py.File(next(folder.glob("*.h5")), "a") as file:
        types = file["matrix/features/feature_type"][()].astype("S30")
        types[:4] = [b"Peaks", b"CRISPR Guide Capture", b"Multiplexing Capture", b"Peaks"]
        del file["matrix/features/feature_type"]
        file["matrix/features/feature_type"] = types
    raw = READER.open(folder, UNIT)
    names = TISSUE.gene_names
    assert {name: one.names for name, one in raw.apart.items()} == {
        "controls": TISSUE.control_names,
        "crispr_guide_capture": (names[1],),
        "multiplexing_capture": (names[2],),
        "peaks": (names[0], names[3]),
    }
    assert raw.panel.symbol.tolist() == list(names[4:])


def test_types_make_names_of_tables() -> None:
    kinds = ["Gene Expression", "table", "?!", "Genomic Control", "Peaks/x y", "Custom"]
    tables = ["", "others", "others", "controls", "peaks_x_y", "custom"]
    assert tables_of(["a"] * 6, kinds) == tables
    many = ["Antibody Capture", *(f"kind {k}" for k in range(1000))]
    assert set(tables_of(["a"] * 1001, many)) == {"proteins", "others"}


def test_the_file_alone_and_columns_by_name(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sample")
    table = folder / "positions.csv"
    table.write_text(table.read_text().replace("x_centroid", "east").replace("y_cent", "north"))
    matrix = next(folder.glob("*.h5"))
    with pytest.raises(InputError, match=r"barcode, east, northroid.*without x and y"):
        READER.open(matrix, UNIT)
    given: Any = {"positions": "positions.csv", "columns": ["barcode", "east", "northroid"]}
    raw = READER.open(matrix, ReadOptions(um_per_unit=1.0, reader_kwargs=given))
    assert ids_of(raw) == barcodes()
    given["columns"][2] = "nroth"
    with pytest.raises(InputError, match="northroid"):
        READER.open(matrix, ReadOptions(um_per_unit=1.0, reader_kwargs=given))


def test_cells_without_a_position_are_refused_or_dropped(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sample")
    table = folder / "positions.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-3]) + "\n")
    with pytest.raises(InputError, match="2 cells of the matrix have no position"):
        READER.open(folder, UNIT)
    raw = READER.open(folder, ReadOptions(um_per_unit=1.0, reader_kwargs={"unmatched": "drop"}))
    assert (matrix_of(raw).toarray() == TISSUE.whole().counts.toarray()[2:]).all()


def test_one_of_several_sections_is_chosen(tmp_path: Path) -> None:
    """As the message says that refuses them; obs and counts follow the cells."""
    folder = write_folder(tmp_path / "sample")
    table = folder / "positions.csv"
    head, *lines = table.read_text().splitlines()
    named = [f"{line},{'AB'[k % 2]}" for k, line in enumerate(lines)]
    table.write_text("\n".join([f"{head},section", *named]) + "\n")
    with pytest.raises(InputError, match=r'\{"where": \{"section": VALUE\}\}'):
        READER.open(folder, UNIT)
    raw = READER.open(folder, options(where={"section": "B"}))
    assert ids_of(raw) == barcodes()[::2]
    assert (matrix_of(raw).toarray() == TISSUE.whole().counts.toarray()[::2]).all()
    assert raw.positions.tolist() == (TISSUE.whole().positions_um[::2] * 2).tolist()
    domains: Any = raw.obs["domain"].read()
    expected = [f"d{k}" for k in TISSUE.whole().domains[::2]]
    assert [domains.categories[code] for code in domains.codes] == expected
    for wrong in ("B", {"section": "C"}, {"part": "B"}):
        with pytest.raises(InputError, match=r"where|expected 'C'"):
            READER.open(folder, options(where=wrong))


def test_sections_of_one_whitelist_share_a_table(tmp_path: Path) -> None:
    """Every section has a matrix, and barcodes that the others have too."""
    folder = write_folder(tmp_path / "sample")
    table = folder / "positions.csv"
    head, *lines = table.read_text().splitlines()
    named = [f"{line},A" for line in lines] + [f"{line},B" for line in lines[5:10]]
    table.write_text("\n".join([f"{head},section", *named]) + "\n")
    with pytest.raises(InputError, match=r"make them unique, choose .* where, or .* columns$"):
        READER.open(folder, UNIT)
    raw = READER.open(folder, options(where={"section": "A"}))
    assert ids_of(raw) == barcodes()
    assert (matrix_of(raw).toarray() == TISSUE.whole().counts.toarray()).all()
    assert raw.positions.tolist() == (TISSUE.whole().positions_um * 2).tolist()
    raw = READER.open(folder, options(where={"section": "B"}))
    assert ids_of(raw) == barcodes()[30:35]
    table.write_text("\n".join([f"{head},section", *named, named[-1]]) + "\n")
    with pytest.raises(InputError, match="1 given several times"):
        READER.open(folder, options(where={"section": "B"}))


def test_the_row_of_a_cell_without_a_number_is_that_of_the_table(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sample")
    table = folder / "positions.csv"
    lines = table.read_text().splitlines()
    cells = lines[3].split(",")
    lines[3] = ",".join([cells[0], "nan", *cells[2:]])
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"in 1 row \(3\)"):
        READER.open(folder, UNIT)


def test_a_barcode_twice_in_the_table_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sample")
    table = folder / "positions.csv"
    table.write_text(table.read_text().replace("extra-1", barcodes()[7]))
    with pytest.raises(InputError, match=f"{barcodes()[7]}.*positions|positions.*{barcodes()[7]}"):
        READER.open(folder, UNIT)


def test_links_out_of_the_folder_are_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sample")
    matrix = next(folder.glob("*.h5"))
    matrix.rename(tmp_path / matrix.name)
    matrix.symlink_to(tmp_path / matrix.name)
    with pytest.raises(InputError) as caught:
        READER.open(folder, UNIT)
    assert "refused, copy it in" in str(caught.value)
    assert "expected a feature matrix" in str(caught.value)


def test_of_several_matrices_the_filtered_one(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sample")
    matrix = next(folder.glob("*.h5"))
    shutil.copy(matrix, folder / "a_raw_feature_bc_matrix.h5")
    assert READER.files(folder, UNIT)[0] == matrix
    shutil.copy(matrix, folder / "b_filtered_feature_bc_matrix.h5")
    with pytest.raises(InputError, match=r"one file .* but got 2"):
        READER.open(folder, UNIT)


def test_lists_of_the_matrix_are_no_positions(tmp_path: Path) -> None:
    """Also where their prefix is a word for positions."""
    folder = write_folder(tmp_path / "sample", "mtx")
    for name in ("matrix.mtx.gz", "barcodes.tsv.gz", "features.tsv.gz"):
        (folder / name).rename(folder / f"spatial_{name}")
    table = folder / "positions.csv"
    (folder / "spatial_xy.tsv.gz").write_bytes(gzip.compress(table.read_bytes()))
    table.unlink()
    assert ids_of(READER.open(folder, UNIT)) == barcodes()


def test_a_matrix_of_any_name_and_lists_beside_it(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sample", "mtx")
    matrix = (folder / "matrix.mtx.gz").rename(folder / "counts.mtx.gz")
    assert ids_of(READER.open(matrix, UNIT)) == barcodes()
    (folder / "barcodes.tsv.gz").unlink()
    with pytest.raises(InputError, match=r"barcodes\.tsv\.gz beside counts\.mtx\.gz"):
        READER.open(matrix, UNIT)


def test_the_image_of_the_sheet_is_placed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sample")
    image = tmp_path / "he.png"
    Image.new("RGB", (30, 20)).save(image)
    given = replace(options(image_scale=0.25), image=image)
    assert image in READER.files(folder, given)
    pixels: Any = READER.open(folder, given).images["image"]
    assert pixels.affine == ((2.0, 0.0, 0.0), (0.0, 2.0, 0.0))
    with pytest.raises(InputError, match="image_scale: expected a number above zero"):
        READER.open(folder, replace(options(image_scale=0), image=image))


@pytest.mark.parametrize("name", ["panel", "unmatched", "columns", "image_scale", "where"])
def test_lists_where_a_word_is_wanted_are_refused(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "sample")
    given = replace(options(**{name: [["a"]]}), image=tmp_path / "none.png")
    with pytest.raises(InputError, match="a"):
        READER.open(folder, given)


def test_outputs_with_readers_of_their_own_are_left_to_them(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sample")
    assert reader_for(folder).format == "10x"
    (folder / "experiment.xenium").write_text("{}")
    assert not READER.recognizes(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("h5-csv", "sample_filtered_feature_bc_matrix.h5"),
        ("h5-csv", "positions.csv"),
        ("mtx-parquet", "coords.parquet"),
        ("mtx-csv", "matrix.mtx.gz"),
        ("mtx-csv", "features.tsv.gz"),
        ("mtx-csv", "barcodes.tsv.gz"),
    ],
)
def test_mutants(tmp_path: Path, layout: str, file: str) -> None:
    source = write_folder(tmp_path / "sample", *layout.split("-"))
    report = run_mutants(source, file, READER, UNIT, tmp_path / "work", n=wanted(20))
    assert not report.failures, report.failures[:5]
    assert report.refused
