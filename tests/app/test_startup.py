"""Start-up: what an import loads. Seconds are measured by benchmarks/bench_startup.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY: tuple[str, ...] = (
    "torch",
    "torch_geometric",
    "spatialdata",
    "anndata",
    "pandas",
    "dask",
    "xarray",
    "zarr",
)
HEAVY += ("matplotlib", "scipy", "numba", "shapely", "pyarrow", "h5py", "sklearn", "squidpy")


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()}


@pytest.mark.parametrize(
    "code", ["import tisseract", "from tisseract.cli import main; main(['--help'])"]
)
def test_loads_nothing_heavy(code: str) -> None:
    assert loaded_by(code).isdisjoint({*HEAVY, "numpy"})


def test_import_of_the_package_does_not_load_the_command_line() -> None:
    assert loaded_by("import tisseract").isdisjoint({"typer", "rich"})


def test_looking_at_sections_needs_no_anndata() -> None:
    assert loaded_by("import tisseract.handle").isdisjoint({"torch", "spatialdata", "anndata"})
