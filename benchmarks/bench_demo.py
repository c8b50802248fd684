"""The demo over five simulator seeds: agreement with the truth, time and peak memory.

Usage: python benchmarks/bench_demo.py [cells] [seeds]
Bars: mean ARI over sections at least 0.8 for plain and gnn, below 0.6 without neighbors; a demo in
under 180 s on two cores and 2 GiB. Each seed runs in its own process, so that times and peaks are
those of a user's demo.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

METHODS = ("domain_plain", "domain_gnn", "domain_expression")


def one(seed: int, cells: int, folder: Path) -> dict[str, Any]:
    code = "import sys; from tisseract.cli import main; sys.exit(main(sys.argv[1:]))"
    options = ["--seed", str(seed), "--cells", str(cells), "--json", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", str(folder), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"seed {seed} failed with {done.returncode}:\n{done.stderr[-4000:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def main() -> None:
    cells = int(sys.argv[1]) if len(sys.argv) > 1 else 36_000
    n_seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"python {platform.python_version()}, {cores} cores, {cells:,} cells, 8 sections")
    print(f"{'seed':<6}{'plain':>8}{'gnn':>8}{'without neighbors':>20}{'seconds':>10}{'MiB':>8}")
    means: dict[str, list[float]] = {name: [] for name in METHODS}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(n_seeds):
            report = one(seed, cells, Path(scratch) / f"seed{seed}")
            values = []
            for name in METHODS:
                by_section = report["agreement"].get(name, {})
                mean = statistics.mean(by_section.values()) if by_section else float("nan")
                means[name].append(mean)
                values.append(mean)
            peak = report["peak_rss_bytes"] / 2**20
            print(
                f"{seed:<6}{values[0]:>8.3f}{values[1]:>8.3f}{values[2]:>20.3f}"
                f"{report['seconds']:>10.0f}{peak:>8.0f}",
                flush=True,
            )
    plain, gnn, alone = (statistics.mean(means[name]) for name in METHODS)
    print(f"{'mean':<6}{plain:>8.3f}{gnn:>8.3f}{alone:>20.3f}")


if __name__ == "__main__":
    main()
