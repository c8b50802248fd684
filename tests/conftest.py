"""Fixtures shared by all tests: where real tissue lies, and how its absence is treated."""

import os
from pathlib import Path

import pytest

from .real_sheet import write_real_sheet
from .servers import s3_endpoint, s3_place

__all__ = ["s3_endpoint", "s3_place"]


def data_root() -> Path:
    """Folder of real tissue: `TISSERACT_DATA`, else `../shared/data` beside the repository."""
    override = os.environ.get("TISSERACT_DATA")
    return Path(override) if override else Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real tissue; its absence skips, or fails under `TISSERACT_REQUIRE_DATA=1`."""
    root = data_root()
    if not (root / "README.md").is_file():
        if os.environ.get("TISSERACT_REQUIRE_DATA") == "1":
            pytest.fail(f"TISSERACT_REQUIRE_DATA=1 but there is no real data at {root}")
        pytest.skip(f"no real data at {root}; set TISSERACT_DATA to its folder")
    return root


@pytest.fixture(scope="session")
def real_atlas(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The atlas of the sheet over real tissue, made by one call; tests must leave it as it is."""
    from tisseract.ingest import ingest

    folder = tmp_path_factory.mktemp("real")
    sheet = write_real_sheet(real_data, folder / "samples.csv")
    atlas = folder / "real.atlas"
    ingest(sheet, atlas, run_json=folder / "run.json")
    return atlas
