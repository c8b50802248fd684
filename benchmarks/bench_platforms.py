"""Ingest of simulated vendor bundles: speed, peak memory, and spatialdata-io on the same bundle.

Usage: python benchmarks/bench_platforms.py [xenium cosmx visium_hd merscope] [--scale 1.0]
[--memory-limit 1.5GiB] [--peer-scale 0.1] [--keep FOLDER] [--no-peer]

Bundles (at scale 1): Xenium-like, 1 M cells x 480 genes, 100 M transcripts, boundaries of cells
and nuclei, a 20,000 x 20,000 morphology image; CosMx-like, dense CSV of 500,000 cells x 1,000
genes; Visium HD-like, 1.5 M bins x 18,000 genes; MERSCOPE-like, dense CSV of 500,000 x 500 with
Parquet boundaries and 25 M transcripts. They come from the simulated tissue of the demo and are
written by the bundle writers of the tests.

Every figure comes from a fresh process. "Peak" is the growth of the resident set beyond what the
process holds after its imports, sampled every 5 ms. The same `ingest` runs that users call: look
at the folder, fingerprint it, write, seal with digests, commit. The peer reads the same bundle
with spatialdata-io and writes it with SpatialData; the ratio is taken at --peer-scale, where the
peer fits into memory. "Raw" is the time to write as many bytes as the atlas has to the same disk
and sync them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MIB = 2**20
PEAK = [0]  # resident bytes, most since it was last set back


def make(kind: str, folder: Path, scale: float) -> dict[str, object]:
    """Write a bundle; tells what it holds."""
    sys.path.insert(0, str(ROOT))
    from tests.ingest.vendors import (  # type: ignore[attr-defined]
        cosmx_bundle,
        merscope_bundle,
        tissue,
        visium_hd_bundle,
        xenium_bundle,
    )

    sim = tissue.SimTissue
    if kind == "xenium":
        made = sim(int(1_000_000 * scale), 480, mean_counts=97.0)
        edge = max(500, int(20_000 * scale**0.5))
        xenium_bundle.write_xenium(folder, made, version="3", image_px=edge)
    elif kind == "cosmx":
        made = sim(int(500_000 * scale), 1000, mean_counts=300.0)
        cosmx_bundle.write_cosmx(folder, made, transcripts=False, images=False)
    elif kind == "visium_hd":
        made = sim(int(1_500_000 * scale), 18_000, 60.0, n_controls=0, molecules=False)
        visium_hd_bundle.write_visium_hd(folder, made)
    else:
        made = sim(int(500_000 * scale), 500, mean_counts=50.0)
        merscope_bundle.write_merscope(folder, made)
    return {"cells": made.n_cells, "genes": made.n_genes}


def resident_bytes() -> int:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measured(work: Callable[[], dict[str, object]]) -> dict[str, object]:
    """Run work; seconds, CPU seconds, and peak beyond what the process held before."""
    baseline, done, top = resident_bytes(), threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.005):
            now = resident_bytes()
            PEAK[0], top[0] = max(PEAK[0], now), max(top[0], now)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start, cpu = time.perf_counter(), time.process_time()
    found = work()
    seconds, used = time.perf_counter() - start, time.process_time() - cpu
    done.set()
    watcher.join()
    return {"seconds": seconds, "cpu": used, "peak": top[0] - baseline, **found}


def ours(source: Path, target: Path, limit: str) -> dict[str, object]:
    """Ingest the bundle as a user does."""
    import tisseract
    from tisseract.ingest import Progress, ingest
    from tisseract.ingest.reader import reader_for

    reader_for(source)
    stages: dict[str, tuple[float, int]] = {}
    began = time.perf_counter()

    def note(event: Progress) -> None:
        name = event.message if event.kind == "stage" else event.kind
        stages[name] = (
            round(time.perf_counter() - began, 1),
            max(stages.get(name, (0, 0))[1], PEAK[0] // MIB),
        )
        PEAK[0] = 0

    def work() -> dict[str, object]:
        ingest(source, target, memory_limit=limit, n_workers=1, progress=note)
        section = tisseract.open(target).section(source.name)
        points = {n: p.info.n_points for n, p in section.points.items()}
        entry = section.entry
        return {"nnz": entry.nnz, "n_obs": entry.n_obs, "points": points, "stages": stages}

    return measured(work)


def peer(kind: str, source: Path, target: Path) -> dict[str, object]:
    """Read the bundle with spatialdata-io, write it with SpatialData."""
    warnings.simplefilter("ignore")
    import spatialdata_io

    read: dict[str, Callable[[Path], Any]] = {
        "xenium": lambda p: spatialdata_io.xenium(p, cells_as_circles=False),
        "cosmx": lambda p: spatialdata_io.cosmx(p, transcripts=False),
        "visium_hd": lambda p: spatialdata_io.visium_hd(p, bin_size="008"),
        # Its table cannot be built with AnnData 0.13, so the peer does less.
        "merscope": lambda p: spatialdata_io.merscope(p, cells_table=False),
    }

    def work() -> dict[str, object]:
        start = time.perf_counter()
        found = read[kind](source)
        seconds = time.perf_counter() - start
        found.write(target)
        return {"read": seconds}

    return measured(work)


def raw_write(folder: Path, nbytes: int) -> float:
    """Seconds to write and sync as many bytes to the same disk."""
    path, block = folder / "raw.bin", os.urandom(8 * MIB)
    start = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(max(1, nbytes // len(block))):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    path.unlink()
    return seconds


def tree_bytes(path: Path) -> int:
    """Bytes of all files under a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def fresh(*arguments: str) -> dict[str, Any]:
    """Run one part of this script in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, *arguments]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    if answer.returncode:
        return {"error": answer.stderr.strip().splitlines()[-1][:300]}
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def bundle(kind: str, folder: Path, scale: float) -> Path:
    """Make a bundle unless it is there."""
    source = folder / f"{kind}-{scale:g}"
    if not (source.parent / f"{source.name}.json").exists():
        shutil.rmtree(source, ignore_errors=True)
        start = time.perf_counter()
        facts = fresh("--measure", "make", kind, str(source), "--scale", str(scale))
        if "error" in facts:
            raise SystemExit(f"{kind}: the bundle could not be written: {facts['error']}")
        (source.parent / f"{source.name}.json").write_text(json.dumps(facts))
        print(f"  made in {time.perf_counter() - start:.0f} s", flush=True)
    return source


def show(kind: str, name: str, found: dict[str, Any], n_in: int, n_out: int, raw: float) -> None:
    if "error" in found:
        print(f"  {name:14} failed: {found['error']}", flush=True)
        return
    seconds = found["seconds"]
    line = (
        f"  {name:14} {seconds:7.1f} s (CPU {found['cpu']:6.1f})  peak {found['peak'] / MIB:6.0f}"
    )
    line += f" MiB  {n_in / MIB / seconds:6.1f} MB/s read  {n_out / MIB:6.0f} MiB written"
    if raw:
        line += f", {100 * raw / seconds:.1f}% of the raw speed of writing them"
    print(line)
    if "n_obs" in found:
        line = (
            f"    {found['n_obs'] / seconds:,.0f} cells/s, {found['nnz'] / seconds:,.0f} entries/s"
        )
        n_points = sum(found["points"].values())
        print(line + (f", {n_points / seconds:,.0f} transcripts/s" if n_points else ""))
        print(f"    stages (seconds since start, peak MiB in all): {found['stages']}", flush=True)


def run(kind: str, folder: Path, options: argparse.Namespace) -> None:
    """Measure one technology at full scale, and beside the peer at a smaller one."""
    print(f"{kind}, scale {options.scale:g}", flush=True)
    for scale, with_peer in ((options.scale, False), (options.peer_scale, not options.no_peer)):
        if scale == options.peer_scale and not with_peer and scale != options.scale:
            continue
        source = bundle(kind, folder, scale)
        n_in, ratio = tree_bytes(source), {}
        for name in ("tisseract", "spatialdata-io") if with_peer else ("tisseract",):
            target = folder / f"{name}.out"
            shutil.rmtree(target, ignore_errors=True)
            found = (
                fresh("--measure", "ours", kind, str(source), "--target", str(target),
                      "--memory-limit", options.memory_limit)
                if name == "tisseract"
                else fresh("--measure", "peer", kind, str(source), "--target", str(target))
            )  # fmt: skip
            n_out = tree_bytes(target) if target.exists() else 0
            raw = raw_write(folder, n_out) if name == "tisseract" and "error" not in found else 0.0
            if with_peer and name == "tisseract":
                print(f"  at scale {scale:g}, beside the peer:")
            show(kind, name, found, n_in, n_out, raw)
            ratio[name] = found.get("seconds", 0.0)
            shutil.rmtree(target, ignore_errors=True)
        if len(ratio) == 2 and all(ratio.values()):
            print(f"    {ratio['spatialdata-io'] / ratio['tisseract']:.1f} x its speed", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=["xenium", "cosmx", "visium_hd"])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--peer-scale", type=float, default=0.1)
    parser.add_argument("--memory-limit", default="1.5GiB")
    parser.add_argument("--keep", type=Path, help="folder for bundles, kept")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--measure", choices=["make", "ours", "peer"])
    parser.add_argument("--target", type=Path)
    options = parser.parse_args()
    if options.measure:
        kind, source = options.kinds[0], Path(options.kinds[1])
        found = (
            make(kind, source, options.scale)
            if options.measure == "make"
            else ours(source, options.target, options.memory_limit)
            if options.measure == "ours"
            else peer(kind, source, options.target)
        )
        print(json.dumps(found))
        return
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    folder = options.keep or Path(tempfile.mkdtemp(prefix="bench-platforms-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for kind in options.kinds:
            run(kind, folder, options)
    finally:
        if options.keep is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
