"""Graphs of three kinds against squidpy on the same points, in one run, with peak memory.

Usage: python benchmarks/bench_graph.py [--cells 1000000] [--kind knn] [--k 10] [--radius 18]
Every figure comes from a fresh process: seconds by its own clock after imports and a warm-up, peak
as the growth of the resident set over what the imports took. "Search" computes every edge and
drops it; "build" also encodes, writes, flushes and commits. squidpy gets the points in the order of
the source file, here at random; for kNN once more ("sorted") in the order of the atlas, which its
tree likes better. CPU seconds are those of all threads: they hold up when a machine is shared.
Cells are 10 um apart in the mean: within 18 um a cell has about 10 others.
Bars at 1 M cells, two cores: build at least 12 x (knn), 10 x (radius), 2 x (delaunay) squidpy; at
10 M cells (--cells 10000000 --kind knn --skip-squidpy) a peak of at most 1 GiB.
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
BARS = {"knn": 12, "radius": 10, "delaunay": 2}


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
        return np.asarray(rng.random((n, 2)) * side)
    nests = rng.random((60, 2)) * side
    part = rng.random(n)
    xy = rng.random((n, 2)) * side
    nested = part < 0.5
    chosen = nests[rng.integers(0, len(nests), n)]
    xy[nested] = (chosen + rng.normal(0, side / 60, (n, 2)))[nested]
    banded = part > 0.8
    xy[banded, 1] = side / 2 + rng.normal(0, side / 40, int(banded.sum()))
    return np.asarray(xy)


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


class Few:
    """A section of some cells, so that compiled code comes from its cache before the clock runs."""

    name, n_obs = "few", 400

    def __init__(self) -> None:
        from tisseract.atlas.quadtree import TileTable, tight_boxes

        across = np.arange(self.n_obs // 4)
        self._xy = (
            np.stack([np.repeat(across, 4), np.tile(np.arange(4), across.size)], axis=1) * 1.1
        )
        ptr = np.array([0, 200, 400])
        self.tiles = TileTable(ptr, tight_boxes(self._xy, ptr))

    def positions(self, runs: Any = None) -> NDArray[np.float64]:
        """Positions of the rows."""
        return np.concatenate([self._xy[a:b] for a, b in runs])


def specification(options: argparse.Namespace) -> Any:
    from tisseract.atlas.graph.spec import GraphSpec

    if options.kind[0] == "knn":
        return GraphSpec.knn(options.k)
    if options.kind[0] == "radius":
        return GraphSpec.within(options.radius)
    return GraphSpec.delaunay()


def warm_up(options: argparse.Namespace) -> None:
    from tisseract.atlas.graph.sources import make_source

    source = make_source(Few(), specification(options))
    source.edges([(0, 200)])
    source.edges([(3, 5)])


def describe(options: argparse.Namespace, *, read_only: bool = True) -> tuple[Any, Any]:
    """Return the store and the lazy graph of its section."""
    from tisseract.atlas import graph
    from tisseract.atlas.store import open_store

    store = open_store(options.folder / "atlas", read_only=read_only)
    arguments = {"knn": (options.k,), "radius": (options.radius,), "delaunay": ()}
    kind = options.kind[0]
    return store, getattr(graph, kind)(store, "S1", *arguments[kind])["S1"]


def run_search(options: argparse.Namespace) -> dict[str, float]:
    from concurrent.futures import ThreadPoolExecutor

    warm_up(options)
    _, graph = describe(options)
    pairs = list(zip(graph.plan.row_ptr[:-1], graph.plan.row_ptr[1:], strict=True))
    meter = Meter()
    with ThreadPoolExecutor(options.threads) as pool:
        edges = sum(pool.map(lambda rows: graph.source.edges([rows]).indices.size, pairs))
    return {**meter.read(), "edges": edges}


def run_build(options: argparse.Namespace) -> dict[str, float]:
    import dask

    from tisseract.atlas.graph import write_graphs

    warm_up(options)
    store, graph = describe(options, read_only=False)
    projected = graph.plan.task_bytes
    meter = Meter()
    with dask.config.set(num_workers=options.threads):
        (entry,) = write_graphs(
            store, [graph], options.kind[0], memory_limit=projected * options.threads
        )
    return {
        **meter.read(),
        "projected": projected * options.threads,
        "edges": float(entry.info["nnz"]),
        "bytes": entry.nbytes,
    }


def run_squidpy(options: argparse.Namespace, points: str = "squidpy") -> dict[str, float]:
    import warnings

    warnings.simplefilter("ignore")
    from squidpy.gr.neighbors import DelaunayBuilder, KNNBuilder, RadiusBuilder

    xy = np.load(options.folder / f"{points}.npy")
    builders = {
        "knn": lambda: KNNBuilder(n_neighs=options.k),
        "radius": lambda: RadiusBuilder(radius=options.radius),
        "delaunay": DelaunayBuilder,
    }
    meter = Meter()
    adjacency, _ = builders[options.kind[0]]().build(xy)
    return {**meter.read(), "edges": adjacency.nnz}


def run_sorted(options: argparse.Namespace) -> dict[str, float]:
    return run_squidpy(options, "sorted")


def run_disk(options: argparse.Namespace) -> dict[str, float]:
    """Sequential write speed: 256 MiB of random bytes, flushed."""
    import os

    payload = np.random.default_rng(0).bytes(2**26)
    start = time.perf_counter()
    with (options.folder / "probe").open("wb") as file:
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


def report(options: argparse.Namespace, kind: str, found: dict[str, dict[str, float]]) -> None:
    reference = found.get("squidpy")
    build, disk, n = found["build"], found["disk"], options.cells
    print(f"  {kind}: {build['edges'] / n:.1f} neighbors a cell")
    for name in ("search", "build", "squidpy", "sorted"):
        if name not in found:
            continue
        run = found[name]
        ratio = f"{reference['seconds'] / run['seconds']:6.1f} x squidpy" if reference else ""
        bar = f" (bar {BARS[kind]})" if reference and name == "build" else ""
        print(
            f"    {name:<8} {run['seconds']:7.2f} s  (CPU {run['cpu']:6.2f} s)  "
            f"{n / run['seconds'] / 1e6:5.2f} M cells/s  "
            f"peak {run['peak'] / 2**20:7.0f} MiB  {ratio}{bar}"
        )
    speed = disk["bytes"] / disk["seconds"]
    least = build["bytes"] / speed
    print(
        f"    committed {build['bytes'] / 2**20:.0f} MiB ({build['bytes'] / build['edges']:.1f} B "
        f"an edge); writing alone at {speed / 2**20:.0f} MiB/s takes {least:.2f} s, the build "
        f"{build['seconds'] / least:.1f} x that; projected {build['projected'] / 2**20:.0f} MiB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=list(BARS), action="append")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--radius", type=float, default=18.0)
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
        print(json.dumps(RUNS[options.run](options)))
        return
    for shape in options.shape or SHAPES:
        print(f"{shape}: {options.cells:,} cells", flush=True)
        compare(options, shape)


def compare(options: argparse.Namespace, shape: str) -> None:
    """Measure all kinds on the points of one shape."""
    folder = Path(tempfile.mkdtemp(prefix="bench-graph-"))
    common = ["--shape", shape, "--folder", str(folder)]
    for name in ("cells", "k", "radius", "threads"):
        common += [f"--{name}", str(getattr(options, name))]
    try:
        child([*common, "--run", "prepare"])
        disk = child([*common, "--run", "disk"])
        for kind in options.kind or BARS:
            wanted = ["search", "build"]
            if not options.skip_squidpy:
                wanted += ["squidpy", "sorted"] if kind == "knn" else ["squidpy"]
            found = {name: child([*common, "--kind", kind, "--run", name]) for name in wanted}
            report(options, kind, {**found, "disk": disk})
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
