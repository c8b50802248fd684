"""Helpers of the ingest tests that several modules need, loaded by path (no package of tests)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


def load(name: str) -> ModuleType:
    """Import a module that lies beside the tests; also importable by that name afterwards."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """`toy_reader`, with its reader registered."""
    return load("toy_reader")


@pytest.fixture(scope="session")
def real_sheet() -> ModuleType:
    """`real_sheet`: the sheet over real tissue."""
    return load("real_sheet")


@pytest.fixture(scope="session")
def real_atlas(
    real_data: Path, real_sheet: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The atlas of the sheet over real tissue, made by one call."""
    from tisseract.ingest import ingest

    folder = tmp_path_factory.mktemp("real")
    sheet = real_sheet.write_real_sheet(real_data, folder / "samples.csv")
    atlas = folder / "real.atlas"
    ingest(sheet, atlas, run_json=folder / "run.json")
    return atlas
