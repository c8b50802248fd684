"""Peak memory of models, measured in fresh processes, against what their plans say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "benchmarks" / "bench_scale.py"
MIB = 2**20
CELLS, LIMIT = 25_000, 640 * MIB  # cells of a section


def run(folder: Path, sections: int, *stages: str) -> dict[str, dict[str, float]]:
    """Run stages over the first sections of an atlas, which are written where they lack."""
    about = ["--folder", str(folder), "--cells", str(CELLS * sections), "--sections", str(sections)]
    about += ["--genes", "120", "--lazy", "--limit", str(LIMIT)]
    found = {}
    for stage in ("prepare", *stages):
        command = [sys.executable, str(BENCH), *about, "--run", stage]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[stage] = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}
    return found


@pytest.mark.slow
@pytest.mark.memory
def test_peak_stays_within_the_plan_and_does_not_grow(tmp_path: Path) -> None:
    pytest.importorskip("torch_geometric")
    small = run(tmp_path, 2, "plain", "gnn")
    large = run(tmp_path, 8, "plain", "gnn")
    for stage in ("plain", "gnn"):
        for found in (small, large):
            assert found[stage]["peak"] <= found[stage]["planned"] <= LIMIT, stage
        # tiles that come again are kept, to at most a quarter of the limit
        kept = min(LIMIT // 4, 300 * 6 * CELLS) if stage == "gnn" else 0
        assert large[stage]["peak"] <= 1.15 * small[stage]["peak"] + kept, stage
