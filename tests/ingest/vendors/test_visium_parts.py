"""Parts of Space Ranger outputs: tables of spots, what the run says, images of the sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tisseract.ingest.reader import ReadOptions
from tisseract.ingest.source import StringValues
from tisseract.ingest.spaceranger_files import image_scale
from tisseract.ingest.vendors import spaceranger_run
from tisseract.ingest.vendors.folder import Folder
from tisseract.ingest.vendors.spaceranger_parts import image_files
from tisseract.ingest.vendors.spaceranger_run import run_facts, run_files
from tisseract.ingest.vendors.spot_tables import find_spot_tables, spot_columns


def test_tables_are_matched_by_barcode(tmp_path: Path) -> None:
    """In another order, with a spot more and one less, and with names that are taken."""
    (tmp_path / "spatial").mkdir()
    intensity = tmp_path / "spatial" / "barcode_fluorescence_intensity.csv"
    intensity.write_text("barcode,in_tissue,mean,array_row\nx,1,9,9\nb,1,2.5,7\na,1,1,8\n")
    factors = tmp_path / "s1_isotype_normalization_factors.csv"
    factors.write_text("Barcode,mean\na,0.5\nc,0.25\n")
    found = find_spot_tables(Folder.of(tmp_path), ("",))
    assert found == {"fluorescence": intensity, "isotype": factors}
    ids = StringValues.from_strings(["a", "b", "c"])
    columns: Any = spot_columns(found, ids, {"array_row": None})
    values = {name: column.read().values.tolist() for name, column in columns.items()}
    assert str(values) == str(
        {
            "mean": [1.0, 2.5, np.nan],
            "fluorescence_array_row": [8.0, 7.0, np.nan],
            "isotype_mean": [0.5, np.nan, 0.25],
        }
    )


@pytest.mark.parametrize("at", range(60, 100, 3))
def test_facts_are_found_wherever_a_page_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(spaceranger_run, "_PIECE", 100)
    monkeypatch.setattr(spaceranger_run, "_OVERLAP", 60)
    row = '["Pipeline Version", "spaceranger-3.0.0"]'
    later = '["Pipeline Version", "other"], ["Secret", "x"]'
    page = "x" * at + row + "y" * 500 + later
    (tmp_path / "web_summary.html").write_text(page)
    facts = run_facts(run_files(Folder.of(tmp_path), ("",)), None, {"tissue_hires_scalef": 0.5})
    assert facts == {
        "scalefactors": {"tissue_hires_scalef": 0.5},
        "web_summary": {"Pipeline Version": "spaceranger-3.0.0"},
    }


def test_metrics_of_another_width(tmp_path: Path) -> None:
    path = tmp_path / "run1_metrics_summary.csv"
    path.write_text('\ufeffSample ID,"Reads, all",More\r\ns1,"1,200"\r\n')
    files = run_files(Folder.of(tmp_path), ("", "outs/"))
    assert run_facts(files, None, {}) == {"metrics": {"Sample ID": "s1", "Reads, all": "1,200"}}
    path.write_text("Sample ID\n")
    assert run_facts(files, None, {}) == {"metrics": {}}


@pytest.mark.parametrize("prefix", ["", "GSM1_"])
@pytest.mark.parametrize("name", ["tissue_hires_image.png", "tissue_hires_image.TIF"])
def test_scale_factors_beside_the_image_of_the_sheet_count_as_input(
    tmp_path: Path, prefix: str, name: str
) -> None:
    """Also after the name of a sample, and those of the sample before others."""
    image = tmp_path / f"{prefix}{name}"
    assert image_files(ReadOptions()) == ()
    assert image_files(ReadOptions(image=image)) == (image,)
    factors = tmp_path / "scalefactors_json.json"
    factors.write_text('{"tissue_hires_scalef": 0.2}')
    assert image_files(ReadOptions(image=image)) == (image, factors)
    own = tmp_path / f"{prefix}scalefactors_json.json"
    own.write_text('{"tissue_hires_scalef": 0.4}')
    assert image_scale(image) == (own, 0.4)
    assert image_scale(tmp_path / "tissue_hires_image.czi") is None
    assert image_scale(tmp_path / "tissue_lowres_image.png") is None
