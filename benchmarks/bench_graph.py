"""Graphs: our kNN against squidpy on the same points, in one run, with peak memory.

Usage: python benchmarks/bench_graph.py [--cells 1000000] [--k 10] [--threads 2]
Every figure comes from a fresh process: seconds by its own clock after imports and a warm-up, peak
as the growth of the resident set over what the imports took. "Search" computes every edge and
drops it; "build" also encodes, writes, flushes and commits. squidpy gets the points in the order of
the source file, here at random, and once more ("sorted") in the order of the atlas, which its tree
likes better. CPU seconds are those of all threads: they hold up when a machine is shared.
Bars: build at least 12 x squidpy; peak at most 1 GiB at 10 M cells, within 15 % of that at 1 M.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHAPES = ("uniform", "tissue")


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Meter:
    """Seconds, CPU seconds and growth of the peak since it was made."""

    def __init__(self) -> None:
        self._peak = peak_bytes()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Return what has been used so far."""
        return {
            "seconds": time.perf_counter() - self._wall,
            "cpu": time.process_time() - self._cpu,
            "peak": peak_bytes() - self._peak,
        }


def make_points(shape: str, n: int) -> NDArray[np.float64]:
    """Cells 10 um apart on average; `tissue`: dense nests and bands, thin parts and holes."""
    rng = np.random.default_rng(7)
    side = 10.0 * np.sqrt(n)
    if shape == "uniform":
        return rng.random((n, 2)) * side
    nests = rng.random((60, 2)) * side
    part = rng.random(n)
    xy = rng.random((n, 2)) * side
    nested = part < 0.5
    chosen = nests[rng.integers(0, len(nests), n)]
    xy[nested] = (chosen + rng.normal(0, side / 60, (n, 2)))[nested]
    banded = part > 0.8
    xy[banded, 1] = side / 2 + rng.normal(0, side / 40, int(banded.sum()))
    return xy


def prepare(folder: Path, shape: str, n: int) -> None:
    """Write an atlas of one section whose cells have one gene, and the points for squidpy."""
    from scipy.sparse import csr_matrix

    from tisseract.atlas.panel import Panel
    from tisseract.atlas.section_columns import StringValues
    from tisseract.atlas.snapshot import Change, SectionEntry
    from tisseract.atlas.store import create_store
    from tisseract.ingest.partition import write_section
    from tisseract.ingest.source import ArrayColumn, MatrixCounts, RawSection

    store = create_store(folder / "atlas")
    ids = StringValues.from_strings([f"c{i}" for i in range(n)])
    raw = RawSection(
        positions=make_points(shape, n),
        instance_ids=ArrayColumn.of(ids),
        obs={},
        panel=Panel.of(["gene"]),
        counts=MatrixCounts(csr_matrix((n, 1), dtype=np.uint8)),
        um_per_unit=1.0,
        radius=1.0,
    )
    with store.new_attempt("sections/S1", suffix=".zarr") as attempt:
        summary = write_section(raw, attempt.path, memory_limit=2**30, scratch=folder)
        receipt = attempt.seal()
    entry = SectionEntry(
        section="S1",
        attempt=receipt.attempt,
        digest=receipt.digest,
        n_obs=n,
        n_vars=1,
        nnz=summary.nnz,
        nbytes=receipt.nbytes,
        n_tiles=summary.n_tiles,
        tile_cells=summary.tile_cells,
        panel=summary.panel,
        values="counts",
        um_per_unit=1.0,
        bounds=summary.bounds,
        fingerprint=shape,
    )
    store.commit(Change(add_sections=[entry]), "benchmark points")
    np.save(folder / "squidpy.npy", raw.positions)
    np.save(folder / "sorted.npy", store.section("S1").positions())


def warm_up() -> None:
    """Load compiled kernels, which the first run on a machine compiles and caches."""
    from tisseract.atlas.graph.nearest import nearest
    from tisseract.atlas.quadtree import TileTable

    class Two:
        name, n_obs = "warm", 4
        tiles = TileTable(np.array([0, 2, 4]), np.array([[0.0, 0, 1, 0], [5.0, 0, 6, 0]]))

        def positions(self, runs: Any = None) -> NDArray[np.float64]:
            xy = np.array([[0.0, 0], [1, 0], [5, 0], [6, 0]])
            return np.concatenate([xy[a:b] for a, b in runs])

    nearest(Two(), [(0, 4)], 2)
    nearest(Two(), [(0, 2)], 2)  # knows one other cell, and must load the rest


def run_search(folder: Path, k: int, threads: int) -> dict[str, float]:
    from concurrent.futures import ThreadPoolExecutor

    from tisseract.atlas.graph import knn
    from tisseract.atlas.store import open_store

    warm_up()
    graph = knn(open_store(folder / "atlas"), "S1", k)["S1"]
    pairs = list(zip(graph.plan.row_ptr[:-1], graph.plan.row_ptr[1:], strict=True))
    meter = Meter()
    with ThreadPoolExecutor(threads) as pool:
        edges = sum(pool.map(lambda rows: graph.source.edges([rows]).indices.size, pairs))
    return {**meter.read(), "edges": edges}


def run_build(folder: Path, k: int, threads: int) -> dict[str, float]:
    import dask

    from tisseract.atlas.graph import build_graphs, knn
    from tisseract.atlas.store import open_store

    warm_up()
    store = open_store(folder / "atlas", read_only=False)
    projected = knn(store, "S1", k).plan.task_bytes
    meter = Meter()
    with dask.config.set(num_workers=threads):
        (entry,) = build_graphs(
            store, n_neighs=k, memory_limit=projected * threads, key_added=f"k{k}"
        )
    return {
        **meter.read(),
        "projected": projected * threads,
        "edges": float(entry.info["nnz"]),
        "bytes": entry.nbytes,
    }


def run_squidpy(folder: Path, k: int, threads: int, points: str = "squidpy") -> dict[str, float]:
    import warnings

    warnings.simplefilter("ignore")
    from squidpy.gr.neighbors import KNNBuilder

    xy = np.load(folder / f"{points}.npy")
    meter = Meter()
    adjacency, _ = KNNBuilder(n_neighs=k).build(xy)
    return {**meter.read(), "edges": adjacency.nnz}


def run_sorted(folder: Path, k: int, threads: int) -> dict[str, float]:
    return run_squidpy(folder, k, threads, "sorted")


def run_disk(folder: Path, k: int, threads: int) -> dict[str, float]:
    """Sequential write speed: 256 MiB of random bytes, flushed."""
    import os

    payload = np.random.default_rng(0).bytes(2**26)
    start = time.perf_counter()
    with (folder / "probe").open("wb") as file:
        for _ in range(4):
            file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    return {"seconds": time.perf_counter() - start, "bytes": 4 * len(payload)}


RUNS = {
    "search": run_search,
    "build": run_build,
    "squidpy": run_squidpy,
    "sorted": run_sorted,
    "disk": run_disk,
}


def child(arguments: list[str]) -> dict[str, Any]:
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1])) if done.stdout.strip() else {}


def report(shape: str, n: int, k: int, found: dict[str, dict[str, float]]) -> None:
    print(f"{shape}: {n:,} cells, k = {k}")
    reference = found.get("squidpy")
    for name in ("search", "build", "squidpy", "sorted"):
        if name not in found:
            continue
        run = found[name]
        ratio = f"{reference['seconds'] / run['seconds']:6.1f} x squidpy" if reference else ""
        print(
            f"  {name:<8} {run['seconds']:7.2f} s  (CPU {run['cpu']:6.2f} s)  "
            f"{n / run['seconds'] / 1e6:5.2f} M cells/s  "
            f"peak {run['peak'] / 2**20:7.0f} MiB  {ratio}"
        )
    build, disk = found["build"], found["disk"]
    speed = disk["bytes"] / disk["seconds"]
    least = build["bytes"] / speed
    print(
        f"  committed {build['bytes'] / 2**20:.0f} MiB ({build['bytes'] / build['edges']:.1f} B an "
        f"edge); writing alone at {speed / 2**20:.0f} MiB/s takes {least:.2f} s, the build "
        f"{build['seconds'] / least:.1f} x that; projected {build['projected'] / 2**20:.0f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", choices=SHAPES, action="append")
    parser.add_argument("--skip-squidpy", action="store_true")
    parser.add_argument("--run", choices=[*RUNS, "prepare"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run == "prepare":
        prepare(options.folder, options.shape[0], options.cells)
        return
    if options.run:
        print(json.dumps(RUNS[options.run](options.folder, options.k, options.threads)))
        return
    for shape in options.shape or SHAPES:
        folder = Path(tempfile.mkdtemp(prefix="bench-graph-"))
        common = ["--cells", str(options.cells), "--k", str(options.k), "--shape", shape]
        common += ["--threads", str(options.threads), "--folder", str(folder)]
        try:
            child([*common, "--run", "prepare"])
            skipped = ("squidpy", "sorted") if options.skip_squidpy else ()
            wanted = [name for name in RUNS if name not in skipped]
            found = {name: child([*common, "--run", name]) for name in wanted}
            report(shape, options.cells, options.k, found)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
