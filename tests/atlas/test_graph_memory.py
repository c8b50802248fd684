"""Peak memory of a build, measured in fresh processes, against what the plan says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "benchmarks" / "bench_graph.py"
MIB = 2**20


KINDS = ("knn", "radius", "delaunay")


def run(step: str, folder: Path, n: int, kind: str = "knn") -> dict[str, float]:
    command = [sys.executable, str(BENCH), "--run", step, "--folder", str(folder)]
    command += ["--cells", str(n), "--k", "10", "--threads", "1", "--shape", "tissue"]
    done = subprocess.run([*command, "--kind", kind], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout)) if done.stdout.strip() else {}


@pytest.mark.slow
@pytest.mark.memory
def test_peak_stays_within_the_plan_and_does_not_grow(tmp_path: Path) -> None:
    peaks: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for n in (300_000, 900_000):
        folder = tmp_path / str(n)
        folder.mkdir()
        run("prepare", folder, n)
        for kind in KINDS:
            found = run("build", folder, n, kind)
            assert found["peak"] <= found["projected"] + 32 * MIB, kind  # the allocator keeps some
            peaks[kind].append(found["peak"])
    for kind, (small, large) in peaks.items():
        assert large <= 1.15 * small + 16 * MIB, kind
