"""Fixtures shared by all tests: where real tissue lies, and how its absence is treated."""

import os
from pathlib import Path

import pytest


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
