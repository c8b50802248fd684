"""A folder in place of a sheet, a part of an output, a folder of outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tisseract.atlas.errors import InputError
from tisseract.ingest.check import check_samples
from tisseract.ingest.one_input import sheet_rows
from tisseract.ingest.reader import reader_for

from .vendors.tables_bundle import small, write_tables


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Names of a MERSCOPE folder; they are all that is looked at."""
    folder = tmp_path / "run" / "region_0"
    (folder / "images").mkdir(parents=True)
    (folder / "cell_by_gene.csv").write_text("cell,A,B\n1,0,1\n")
    (folder / "cell_metadata.csv").write_text(",center_x,center_y\n1,5,5\n")
    (folder / "images" / "manifest.json").write_text("{}")
    return folder


def test_a_folder_is_checked_as_it_is_taken_in(tmp_path: Path) -> None:
    folder = write_tables(tmp_path / "tables", small(), "long")
    report = check_samples(folder)
    assert (report.ok, report.n_rows, report.source) == (True, 1, str(folder))
    assert report.rows[0].row.sample == "tables"


@pytest.mark.parametrize("name", ["cell_by_gene.csv", "images", "images/manifest.json"])
def test_a_part_of_an_output_names_its_folder(output: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"part of a MERSCOPE output: name the folder above, .*0$"):
        reader_for(output / name)


def test_a_table_of_an_output_is_no_sheet(output: Path) -> None:
    (fault,) = check_samples(output / "cell_by_gene.csv").faults
    assert "part of a MERSCOPE output" in fault.message
    sheet = output / "samples.csv"
    sheet.write_text("sample,data_path\na,.\n")
    assert sheet_rows(sheet, {}) == sheet


def test_a_folder_of_outputs_lists_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tables(tmp_path / name, small(), "long")
    (tmp_path / "notes").mkdir()
    told = r"holds 2 outputs: a \(table\), b \(table\); a row for each"
    with pytest.raises(InputError, match=told):
        reader_for(tmp_path)
    with pytest.raises(InputError, match="none of them; name it in"):
        reader_for(tmp_path / "notes")


@pytest.mark.parametrize("ending", ["", ".csv"])
def test_names_longer_than_a_disk_takes_are_not_there(ending: str) -> None:
    with pytest.raises(InputError, match="aaa"):
        check_samples("a" * 300 + ending).raise_faults()
