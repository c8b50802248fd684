"""Measured peak <= planned <= limit, and no growth with the number of cells."""

import json
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
