"""Batches from disk against raw reads, annbatch, and PyG's loader in memory.

Usage: python benchmarks/bench_loader.py [--cells 1000000] [--genes 300] [--k 10]
[--k-sampled 20] [--fanouts 10 5] [--peers PYTHON] [--only WORD]
One simulated section: about 60 non-zeros a cell, cells 10 um apart, rows in the order of the atlas,
two graphs of nearest neighbors. Every figure comes from a fresh process: seconds by its own clock
after imports and compiled code, one first epoch with nothing cached, memory that another process
has just touched and left (see `measure.touch_memory`), peak as the growth of the resident set,
bytes read as the kernel counts them (reads answered by its page cache included). Told is the median
of three runs, but of PyG and the default pipeline, which take long. "Raw" reads data, indices and
pointers of the matrix and the graph in order, by zarr with the zarrs pipeline and by path (zarrs
leaves stores that it does not know to Python), a shard at a time, and drops them. Tile batches
carry sparse counts of all genes, edges and their lengths, and the cells around the seeds. annbatch
hands out the counts of the seeds alone: it reads no graph, finds no surroundings, numbers no
neighbors, sums no depths, and holds no more of the section than one load. Lines that compare say
how much of its speed is left with all that; "0 hops" is the nearest to equal work. PyG holds the
graph in memory and hands out no features. Peers are run where they are installed: see
benchmarks/requirements-peers.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from loader import ours, peers, report, simulated

RUNS = {
    "prepare": simulated.prepare,
    "present": peers.present,
    "sizes": ours.run_sizes,
    "raw": ours.run_raw,
    "tiles": ours.run_tiles,
    "neighbors": ours.run_neighbors,
    "annbatch": peers.run_annbatch,
    "memory": peers.run_memory,
}


def child(
    options: argparse.Namespace, run: str, variant: str = "", *, python: str = sys.executable
) -> dict[str, Any]:
    """Run one part in a process of its own."""
    numbers = {
        "cells": options.cells,
        "genes": options.genes,
        "k": options.k,
        "k-sampled": options.k_sampled,
        "batch": options.batch,
        "lanes": options.lanes,
        "folder": options.folder,
        "run": run,
        "variant": variant,
    }
    command = [python, __file__, *(f"--{name}={value}" for name, value in numbers.items())]
    command += ["--fanouts", *map(str, options.fanouts)]
    # an interpreter that has the peers need not have this package
    paths = [str(Path(__file__).parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return dict(json.loads(done.stdout.splitlines()[-1]) or {})


def rounds(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Run every part once, and all of them again; return the median run of each.

    In turn, because a shared machine is slow for minutes: parts are compared, not added up.
    """
    mine, theirs = sys.executable, options.peers
    has = child(options, "present", python=theirs)
    parts = {("raw", ""): mine}
    parts |= {("tiles", name): mine for name in ours.TILES if options.only in f"tiles {name}"}
    more = {("neighbors", name) for name in ours.NEIGHBORS if options.only in f"neighbors {name}"}
    parts |= dict.fromkeys(sorted(more), mine)
    if has["annbatch"]:
        parts |= {("annbatch", name): theirs for name in peers.ANNBATCH}
    if has["pyg"] and more:
        parts["memory", ""] = theirs
    for name, there in has.items():
        if not there:
            print(f"  {name}: not installed, not measured; see benchmarks/requirements-peers.txt")
    runs: dict[str, list[dict[str, Any]]] = {}
    for turn in range(options.repeat):
        for (part, variant), python in parts.items():
            if turn and (part == "memory" or variant.startswith("default")):
                continue  # takes as long as all others
            name = f"{part} {variant}".strip()
            runs.setdefault(name, []).append(child(options, part, variant, python=python))
        print(f"  round {turn + 1} of {options.repeat}", file=sys.stderr, flush=True)
    return {
        name: sorted(each, key=lambda run: float(run["seconds"]))[len(each) // 2]
        for name, each in runs.items()
    }


def compare(options: argparse.Namespace) -> None:
    """Measure everything that can be measured here, and print it."""
    sizes, found = child(options, "sizes"), rounds(options)
    raw = found.pop("raw")
    if "memory" in found:
        found["PyG in memory"] = found.pop("memory")
    print(report.raw_line(raw, sizes))
    for name, run in found.items():
        print(report.run_line(name, run))
        if name.startswith("tiles"):
            print(report.tile_line(run, raw, sizes))
        elif name.startswith("neighbors"):
            print(report.neighbor_line(run, sizes))
    print("\n".join(report.ratio_lines(found)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes", type=int, default=300)
    parser.add_argument("--k", type=int, default=10, help="neighbors of the tiles' graph")
    parser.add_argument("--k-sampled", type=int, default=20, help="of the sampled graph")
    parser.add_argument("--fanouts", type=int, nargs="+", default=[10, 5])
    parser.add_argument("--batch", type=int, default=1024, help="seeds of a sampled batch")
    parser.add_argument("--lanes", type=int, default=64, help="blocks of a sampled batch")
    parser.add_argument(
        "--repeat", type=int, default=3, help="rounds, of which the median run is told"
    )
    parser.add_argument("--peers", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--only", default="", metavar="WORD", help="part of the names of our runs")
    parser.add_argument("--keep", type=Path, help="folder to keep the atlas in, or to find it in")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--variant", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(RUNS[options.run](options)))
        return
    print(
        f"{options.cells:,} cells x {options.genes} genes, k = {options.k} and "
        f"{options.k_sampled}, fan-outs {options.fanouts}, {options.batch} seeds a sampled batch",
        flush=True,
    )
    options.folder = options.keep or Path(tempfile.mkdtemp(prefix="bench-loader-"))
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        if not (options.folder / "atlas").exists():
            child(options, "prepare")
        compare(options)
    finally:
        if not options.keep:
            shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
