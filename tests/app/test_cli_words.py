"""Messages of the library name options of the command that was typed, never arguments of Python."""

import warnings
from pathlib import Path

import pytest

from tisseract.cli import main
from tisseract.cli.text import as_options
from tisseract.testing import small_atlas


@pytest.mark.parametrize(
    ("message", "spelled"),
    [
        (
            "choose `sections=`, or give a `gene_map` at ingest",
            "choose --section, or give a gene_map column of the sample sheet at ingest",
        ),
        (
            "Choose missing='zero' to accept this, 'nan', join='inner', or genes=[...]",
            "Choose --missing zero to accept this, --missing nan, or --genes",
        ),
        ("a gene is wanted for color=, but got 'x'", "a gene is wanted for --color, but got 'x'"),
        ("with coordinate_system= or frame=", "with --coordinate-system or --frame"),
    ],
)
def test_arguments_are_spelled_as_options(message: str, spelled: str) -> None:
    assert as_options(message) == spelled


def test_export_takes_what_its_warning_advises(tmp_path: Path) -> None:
    import anndata as ad

    atlas = str(small_atlas(tmp_path / "atlas", n_cells=400).url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(["export", atlas, "-o", str(tmp_path / "x.h5ad"), "--missing", "zero"]) == 0
        assert ad.read_h5ad(tmp_path / "x.h5ad").n_obs > 0
