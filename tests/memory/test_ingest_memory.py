"""Measured peak <= planned <= limit, and no growth with the number of cells."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.memory]

BENCH = Path(__file__).parents[2] / "benchmarks" / "bench_ingest.py"
MIB = 2**20


def peak(tmp_path: Path, cells: int, limit: str) -> dict[str, int]:
    """Ingest a simulated file in a fresh process."""
    source = tmp_path / f"{cells}.h5ad"
    make = "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import bench_ingest;"
    make += "bench_ingest.make_h5ad(pathlib.Path(sys.argv[2]), int(sys.argv[3]))"
    folder = str(BENCH.parent)
    subprocess.run([sys.executable, "-c", make, folder, str(source), str(cells)], check=True)
    return measure(tmp_path, cells, limit)


def measure(tmp_path: Path, cells: int, limit: str) -> dict[str, int]:
    """Write the section of a file that is there."""
    source = tmp_path / f"{cells}.h5ad"
    shutil.rmtree(tmp_path / f"{cells}.zarr", ignore_errors=True)
    command = [sys.executable, str(BENCH), "--measure", "ours", str(source)]
    command += ["--folder", str(tmp_path / f"{cells}.zarr"), "--memory-limit", limit]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, int] = json.loads(answer.stdout.splitlines()[-1])
    return result


def test_measured_is_at_most_planned_and_does_not_grow(tmp_path: Path) -> None:
    small, large = (peak(tmp_path, cells, "400 MiB") for cells in (200_000, 800_000))
    for result in (small, large):
        assert result["peak"] <= result["planned"] <= 400 * MIB
    assert large["peak"] <= 1.10 * small["peak"]


def widen(path: Path, what: str) -> None:
    """Make one part of a simulated file awkward: long ids, a wide column, or a single chunk."""
    import h5py
    import numpy as np

    with h5py.File(path, "a") as file:
        obs, n = file["obs"], file["obs/_index"].shape[0]
        if what == "chunk":
            for name in ("data", "indices"):
                values = file[f"X/{name}"][:]
                del file[f"X/{name}"]
                options = {"chunks": values.shape, "compression": "gzip", "compression_opts": 1}
                file["X"].create_dataset(name, data=values, **options)
            return
        name, width = ("_index", 120) if what == "ids" else ("note", 400)
        if name in obs:
            del obs[name]
        else:
            order = [*obs.attrs["column-order"], name]
            obs.attrs["column-order"] = np.array(order, dtype=object)
        words = np.array([f"{'y' * width}{k}" for k in range(n)], dtype=object)
        column = obs.create_dataset(name, data=words, dtype=h5py.string_dtype())
        column.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})


@pytest.mark.parametrize("what", ["ids", "column", "chunk"])
def test_awkward_files_stay_within_the_limit(tmp_path: Path, what: str) -> None:
    peak(tmp_path, 200_000, "400 MiB")
    widen(tmp_path / "200000.h5ad", what)
    result = measure(tmp_path, 200_000, "400 MiB")
    assert result["peak"] <= result["planned"] <= 400 * MIB
