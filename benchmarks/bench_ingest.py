"""Ingest of a simulated h5ad against `anndata.read_h5ad` + `AnnData.write_zarr` of the same file.

Run with ``python benchmarks/bench_ingest.py [--cells 1000000] [--memory-limit 1GiB]``. Makes the
file (seeded, streamed, rows in random order, gzip), then measures in fresh processes: seconds,
bytes on disk, peak memory beyond the imports.
`--no-peer` leaves out AnnData, which holds the whole matrix; `--keep` keeps the files.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

GENES, PER_CELL, BLOCK = 300, 60, 50_000
PEAK, TOP = [0], [0]  # resident bytes: most since the last stage, most of all


def make_h5ad(path: Path, n_obs: int, seed: int = 0) -> None:
    """Write an AnnData file block by block: 60 non-zeros a cell, positions in random order."""
    import h5py

    rng = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        matrix = file.create_group("X")
        matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        matrix.attrs["shape"] = (n_obs, GENES)
        options = {"compression": "gzip", "compression_opts": 4}
        nnz = n_obs * PER_CELL
        data = matrix.create_dataset("data", (nnz,), "f4", chunks=(1 << 16,), **options)
        indices = matrix.create_dataset("indices", (nnz,), "i4", chunks=(1 << 16,), **options)
        pointers = np.arange(n_obs + 1, dtype=np.int64) * PER_CELL
        matrix.create_dataset("indptr", data=pointers, **options)
        weight = rng.gamma(0.5, 1.0, GENES) + 0.05
        for start in range(0, n_obs, BLOCK):
            rows = min(BLOCK, n_obs - start)
            # Weighted sampling without replacement: the largest of u^(1/w), as logarithms.
            keys = np.log(rng.random((rows, GENES))) / weight
            columns = np.sort(np.argpartition(keys, -PER_CELL, axis=1)[:, -PER_CELL:], axis=1)
            span = slice(start * PER_CELL, (start + rows) * PER_CELL)
            indices[span] = columns.ravel().astype(np.int32)
            data[span] = (1 + rng.poisson(weight[columns] * 2)).ravel().astype(np.float32)
        _write_frames(file, n_obs, rng)


def _write_frames(file: Any, n_obs: int, rng: np.random.Generator) -> None:
    """Write obs, var and positions around the matrix."""
    import h5py

    text = h5py.string_dtype()
    frame = {"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index"}
    array = {"encoding-type": "array", "encoding-version": "0.2.0"}
    strings = {"encoding-type": "string-array", "encoding-version": "0.2.0"}
    obs = file.create_group("obs")
    obs.attrs.update(frame)
    obs.attrs["column-order"] = np.array(["area", "cell_type"], dtype=object)
    ids = obs.create_dataset("_index", (n_obs,), text, chunks=(1 << 14,), compression="gzip")
    for start in range(0, n_obs, BLOCK):
        stop = min(start + BLOCK, n_obs)
        ids[start:stop] = np.array([f"cell-{k:08d}" for k in range(start, stop)], dtype=object)
    ids.attrs.update(strings)
    area = obs.create_dataset("area", data=rng.random(n_obs) * 100, compression="gzip")
    area.attrs.update(array)
    kind = obs.create_group("cell_type")
    kind.attrs.update(
        {"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False}
    )
    codes = kind.create_dataset("codes", data=rng.integers(0, 20, n_obs).astype(np.int8))
    codes.attrs.update(array)
    names = np.array([f"type {k}" for k in range(20)], dtype=object)
    kind.create_dataset("categories", data=names, dtype=text).attrs.update(strings)
    var = file.create_group("var")
    var.attrs.update(frame)
    var.attrs["column-order"] = np.array([], dtype="S1")
    genes = np.array([f"Gene{k}" for k in range(GENES)], dtype=object)
    var.create_dataset("_index", data=genes, dtype=text).attrs.update(strings)
    obsm = file.create_group("obsm")
    obsm.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
    side = np.sqrt(n_obs) * 10.0  # 10 um between cells
    spatial = obsm.create_dataset(
        "spatial", (n_obs, 2), "f8", chunks=(BLOCK, 2), compression="gzip"
    )
    spatial.attrs.update(array)
    for start in range(0, n_obs, BLOCK):
        spatial[start : start + BLOCK] = rng.random((min(BLOCK, n_obs - start), 2)) * side


def resident_bytes() -> int:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measured(work: Callable[[], dict[str, object]]) -> dict[str, object]:
    """Run work; seconds, and peak resident bytes beyond what the process held before."""
    baseline, done = resident_bytes(), threading.Event()
    PEAK[0] = 0

    def watch() -> None:
        while not done.wait(0.005):
            PEAK[0] = max(PEAK[0], resident_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return {
        "seconds": seconds,
        "baseline": baseline,
        "peak": max(PEAK[0], TOP[0]) - baseline,
        **result,
    }


def ours(source: Path, target: Path, limit: str) -> dict[str, object]:
    """Open the file as the h5ad reader does, and write the section."""
    import zarr  # noqa: F401 - part of the import baseline, as in the command line

    from tisseract.atlas.memory import parse_bytes
    from tisseract.ingest.h5ad import H5adReader
    from tisseract.ingest.partition import write_section
    from tisseract.ingest.reader import ReadOptions

    stages: dict[str, tuple[float, int]] = {}
    began = time.perf_counter()

    def note(stage: str, fraction: float) -> None:
        before = stages.get(stage, (0.0, 0))[1]
        peak = max(before, PEAK[0] // 2**20)
        stages[stage] = (round(time.perf_counter() - began, 2), peak)
        TOP[0], PEAK[0] = max(TOP[0], PEAK[0]), 0

    def work() -> dict[str, object]:
        options = ReadOptions(um_per_unit=1.0, split_by="none")
        raw = H5adReader().open(source, options)
        summary = write_section(raw, target, memory_limit=parse_bytes(limit), progress=note)
        return {"planned": summary.plan.peak_bytes, "plan": str(summary.plan), "stages": stages}

    return measured(work)


def peer(source: Path, target: Path) -> dict[str, object]:
    """Read the file whole and write it with AnnData."""
    import anndata

    seconds: dict[str, object] = {}

    def work() -> dict[str, object]:
        start = time.perf_counter()
        adata = anndata.read_h5ad(source)
        seconds["read"] = time.perf_counter() - start
        adata.write_zarr(target)
        return seconds

    return measured(work)


def tree_bytes(path: Path) -> int:
    """Bytes of a file, or of all files under a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def fresh(*arguments: str) -> dict[str, Any]:
    """Run one measurement of this script in a new process."""
    command = [sys.executable, __file__, *arguments]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--memory-limit", default="1GiB")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--measure", nargs=2)
    options = parser.parse_args()
    if options.measure:
        what, source = options.measure
        target = options.folder
        result = (
            ours(Path(source), target, options.memory_limit)
            if what == "ours"
            else peer(Path(source), target)
        )
        print(json.dumps(result))
        return
    folder = options.folder or Path(tempfile.mkdtemp(prefix="bench-ingest-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run(folder, options)
    finally:
        if not options.keep:
            shutil.rmtree(folder)


def run(folder: Path, options: argparse.Namespace) -> None:
    source = folder / f"cells-{options.cells}.h5ad"
    if not source.exists():
        start = time.perf_counter()
        make_h5ad(source, options.cells)
        print(f"made {source.name} in {time.perf_counter() - start:.0f} s")
    best: dict[str, dict[str, Any]] = {}
    for _ in range(options.repeat):
        for name in ("ours",) if options.no_peer else ("ours", "peer"):
            target = folder / f"{name}.zarr"
            shutil.rmtree(target, ignore_errors=True)
            result = fresh(
                "--measure", name, str(source), "--folder", str(target),
                "--memory-limit", options.memory_limit,
            )  # fmt: skip
            result["bytes"] = tree_bytes(target)
            if name not in best or result["seconds"] < best[name]["seconds"]:
                best[name] = result
    mib = 2**20
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{options.cells:,} cells x {GENES} genes, {options.cells * PER_CELL:,} non-zeros")
    print(f"source            {tree_bytes(source) / mib:8.0f} MiB (h5ad, gzip)")
    for name, label in (("ours", "tisseract"), ("peer", "AnnData")):
        if name in best:
            row = best[name]
            print(
                f"{label:12} {row['seconds']:6.1f} s  {row['bytes'] / mib:6.0f} MiB on disk  peak "
                f"{row['peak'] / mib:6.0f} MiB beyond the imports' {row['baseline'] / mib:.0f} MiB"
            )
    print(f"plan: {best['ours']['plan']}")
    print(f"stages (seconds since start, peak MiB in all): {best['ours']['stages']}")
    if "peer" in best:
        ratio = best["ours"]["seconds"] / best["peer"]["seconds"]
        print(f"AnnData read {best['peer']['read']:.1f} s; ratio {ratio:.2f} (bar: at most 3)")


if __name__ == "__main__":
    main()
