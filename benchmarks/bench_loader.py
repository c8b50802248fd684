"""Batches from disk: raw reads, tile batches, neighbor batches, and PyG's loader in memory.

Usage: python benchmarks/bench_loader.py [--cells 1000000] [--genes 300] [--k 10] [--fanouts 10 5]
One simulated section: about 60 non-zeros a cell, cells 10 um apart, rows in the order of the atlas,
its k-nearest-neighbor graph. Every figure comes from a fresh process: seconds by its own clock
after imports and a warm-up batch, peak as the growth of the resident set over what imports took,
bytes read as the kernel counts them (reads answered by its page cache included).
"Raw" reads data, indices and pointers of the matrix and the graph in order, by zarr with the zarrs
pipeline, and drops them. Tile batches carry 30 scores a cell from a scratch file, neighbor batches
the counts of all genes. The peers are run where they are installed; where not, that is said.
"""

from __future__ import annotations

import argparse
import importlib.util
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

PER_CELL, SCORES, BLOCK = 60, 30, 50_000
KEY = "spatial"


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def read_bytes() -> int:
    """Bytes that this process has read by system calls."""
    line = Path("/proc/self/io").read_text(encoding="ascii").splitlines()[0]
    return int(line.split()[1])


class Meter:
    """Seconds, CPU seconds, bytes read and growth of the peak since it was made."""

    def __init__(self) -> None:
        self._peak, self._read = peak_bytes(), read_bytes()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Return what has been used so far."""
        return {
            "seconds": time.perf_counter() - self._wall,
            "cpu": time.process_time() - self._cpu,
            "peak": peak_bytes() - self._peak,
            "read": read_bytes() - self._read,
        }


def make_counts(n: int, genes: int) -> Any:
    """Draw counts of some genes in every cell, (n, genes) csr of uint8."""
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(0)
    weight = rng.gamma(0.5, 1.0, genes) + 0.05
    take = min(PER_CELL, genes)
    columns = np.empty((n, take), dtype=np.int32)
    data = np.empty((n, take), dtype=np.uint8)
    for start in range(0, n, BLOCK):
        rows = min(BLOCK, n - start)
        # weighted sampling without replacement: the largest of u^(1/w), as logarithms
        keys = np.log(rng.random((rows, genes))) / weight
        found = np.sort(np.argpartition(keys, -take, axis=1)[:, -take:], axis=1)
        columns[start : start + rows] = found
        data[start : start + rows] = np.minimum(1 + rng.poisson(weight[found] * 2), 255)
    indptr = np.arange(n + 1, dtype=np.int64) * take
    return csr_matrix((data.ravel(), columns.ravel(), indptr), shape=(n, genes))


def prepare(options: argparse.Namespace) -> None:
    """Write an atlas of one section, and its graph."""
    from tisseract.atlas.graph import build_graphs
    from tisseract.atlas.panel import Panel
    from tisseract.atlas.section_columns import StringValues
    from tisseract.atlas.snapshot import Change, SectionEntry
    from tisseract.atlas.store import create_store
    from tisseract.ingest.partition import write_section
    from tisseract.ingest.source import ArrayColumn, MatrixCounts, RawSection

    n = options.cells
    store = create_store(options.folder / "atlas")
    raw = RawSection(
        positions=np.random.default_rng(7).random((n, 2)) * 10.0 * np.sqrt(n),
        instance_ids=ArrayColumn.of(StringValues.from_strings([f"c{i}" for i in range(n)])),
        obs={},
        panel=Panel.of([f"Gene{i}" for i in range(options.genes)], organism="mouse"),
        counts=MatrixCounts(make_counts(n, options.genes)),
        um_per_unit=1.0,
        radius=1.0,
    )
    store.storage.put_if_absent(f"panels/{raw.panel.digest}.parquet", raw.panel.to_parquet())
    with store.new_attempt("sections/S1", suffix=".zarr") as attempt:
        summary = write_section(raw, attempt.path, memory_limit=2**30, scratch=options.folder)
        receipt = attempt.seal()
    entry = SectionEntry(
        section="S1",
        attempt=receipt.attempt,
        digest=receipt.digest,
        n_obs=n,
        n_vars=options.genes,
        nnz=summary.nnz,
        nbytes=receipt.nbytes,
        n_tiles=summary.n_tiles,
        tile_cells=summary.tile_cells,
        panel=summary.panel,
        values="counts",
        um_per_unit=1.0,
        bounds=summary.bounds,
        fingerprint="bench",
    )
    store.commit(Change(add_sections=[entry]), "benchmark section")
    build_graphs(store, key_added=KEY, n_neighs=options.k)


def opened(options: argparse.Namespace) -> Any:
    from tisseract.atlas.store import open_store

    return open_store(options.folder / "atlas")


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run_raw(options: argparse.Namespace) -> dict[str, float]:
    """Read the arrays of matrix and graph in order."""
    import zarr

    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    store = opened(options)
    section = store.section("S1")
    matrix = section.group["tables/table/X"]
    graph = store.derived_group("graph", KEY, "S1")
    meter, n_bytes = Meter(), {"features": 0, "edges": 0}
    for name in ("data", "indices", "indptr"):
        array = matrix[name]
        step = 2**22
        for start in range(0, array.shape[0], step):
            n_bytes["features"] += array[start : start + step].nbytes
    for _, block in sorted(graph["blocks"].groups()):
        for _, array in block.arrays():
            n_bytes["edges"] += array[:].nbytes
    return {**meter.read(), **n_bytes}


def run_tiles(options: argparse.Namespace) -> dict[str, float]:
    """Whole epoch of tile batches with their exact halos of one hop."""
    from tisseract.atlas.graph import open_graph
    from tisseract.models.rows.file import RowFile
    from tisseract.models.sampling.batch_plan import plan_batches
    from tisseract.models.sampling.tile_batches import SectionSource, TileBatches

    store = opened(options)
    section = store.section("S1")
    with RowFile(options.folder / "scores", section.n_obs, SCORES) as table:
        for start in range(0, section.n_obs, BLOCK):
            rows = min(BLOCK, section.n_obs - start)
            table.write(start, np.random.default_rng(start).random((rows, SCORES)))
        source = SectionSource(section, open_graph(store, KEY, "S1"), table)
        plan = plan_batches([section.tiles.ptr], batch_cells=4096, seed=0)
        batches = TileBatches(plan, [source], hops=1, prior_hops=1, cache_bytes=0)
        batches.load([0])
        meter, seeds, edges, nodes = Meter(), 0, 0, 0
        for data in batches:
            seeds += int(data.batch_size)
            edges += int(data.edge_index.shape[1])
            nodes += len(data.n_id)
        return {**meter.read(), "seeds": seeds, "edges": edges, "nodes": nodes}


def run_neighbors(options: argparse.Namespace) -> dict[str, float]:
    """Whole epoch of neighbor batches with the counts of all cells in them."""
    from tisseract.models import node_loader

    store = opened(options)
    loader = node_loader(
        store,
        graph=KEY,
        features="raw",
        num_neighbors=options.fanouts,
        batch_size=options.batch,
        lanes=options.lanes,
        cache_bytes=options.cache,
        num_workers=options.workers,
    )
    warm_up(options)
    meter, seeds, edges, nodes = Meter(), 0, 0, 0
    for data in loader:
        seeds += int(data.batch_size)
        edges += int(data.edge_index.shape[1])
        nodes += len(data.n_id)
    used = meter.read()
    features, _ = loader.data
    return {
        **used,
        "seeds": seeds,
        "edges": edges,
        "nodes": nodes,
        "edge_rows": loader.node_sampler.sampler.rows_read,
        "feature_rows": features.tensors["x"].rows_read,
    }


def warm_up(options: argparse.Namespace) -> None:
    """Fetch compiled code; the loader that is measured begins with nothing in memory."""
    from tisseract.models import node_loader

    other = node_loader(
        opened(options), graph=KEY, features="raw", num_neighbors=options.fanouts, batch_size=64
    )
    next(iter(other))


def run_sampler(options: argparse.Namespace) -> dict[str, float]:
    """Whole epoch of samples without features."""
    from tisseract.atlas.graph import open_graph
    from tisseract.models import NeighborSampler, NodeSpace, plan_seeds

    store = opened(options)
    space = NodeSpace.of(store)

    def make() -> NeighborSampler:
        graphs = [open_graph(store, KEY, "S1")]
        return NeighborSampler(space, graphs, options.fanouts, cache_bytes=options.cache // 2)

    plan = plan_seeds(space, batch_size=options.batch, lanes=options.lanes)
    make().sample(plan.batch(0, 0), 0)
    sampler = make()
    meter, edges, nodes = Meter(), 0, 0
    for number, seeds in enumerate(plan.epoch(0)):
        sample = sampler.sample(seeds, number)
        edges += len(sample.source)
        nodes += len(sample.n_id)
    return {
        **meter.read(),
        "seeds": plan.n_seeds,
        "edges": edges,
        "nodes": nodes,
        "edge_rows": sampler.rows_read,
    }


def run_memory(options: argparse.Namespace) -> dict[str, float]:
    """PyG's own loader over the same graph and the same seeds, everything in memory."""
    import torch

    from tisseract.atlas.graph import open_graph
    from tisseract.models import NodeSpace, plan_seeds
    from tisseract.models.sampling.pyg import Data

    from torch_geometric.loader import NeighborLoader  # isort: skip  # after ours: it warns

    store = opened(options)
    matrix = open_graph(store, KEY, "S1").to_csr().tocoo()
    edge_index = torch.from_numpy(np.stack([matrix.col, matrix.row]).astype(np.int64))
    plan = plan_seeds(NodeSpace.of(store), batch_size=options.batch, lanes=options.lanes)
    order = torch.from_numpy(np.concatenate(list(plan.epoch(0))))
    loader = NeighborLoader(
        Data(edge_index=edge_index, num_nodes=options.cells),
        num_neighbors=options.fanouts,
        input_nodes=order,
        batch_size=options.batch,
    )
    next(iter(loader))
    meter, seeds, edges = Meter(), 0, 0
    for data in loader:
        seeds += int(data.batch_size)
        edges += int(data.edge_index.shape[1])
    return {**meter.read(), "seeds": seeds, "edges": edges}


def run_quality(options: argparse.Namespace) -> dict[str, Any]:
    """How well the seeds are mixed, by squares of about 2,000 neighboring cells."""
    from tisseract.models import NodeSpace, plan_seeds, shuffle_quality

    store = opened(options)
    xy = store.section("S1").positions()
    square = np.floor(xy / 450.0).astype(np.int64) % 3
    plan = plan_seeds(NodeSpace.of(store), batch_size=options.batch, lanes=options.lanes)
    return {"text": str(shuffle_quality(plan, square[:, 0] * 3 + square[:, 1]))}


def run_sizes(options: argparse.Namespace) -> dict[str, float]:
    """Bytes on disk of the matrix by rows and of the graph."""
    section = next((options.folder / "atlas" / "sections" / "S1").glob("*.zarr"))
    return {
        "matrix": folder_bytes(section / "tables" / "table" / "X"),
        "graph": folder_bytes(options.folder / "atlas" / "derived" / "graph"),
    }


RUNS = {
    "prepare": prepare,
    "sizes": run_sizes,
    "raw": run_raw,
    "tiles": run_tiles,
    "sampler": run_sampler,
    "neighbors": run_neighbors,
    "memory": run_memory,
    "quality": run_quality,
}


def child(options: list[str], run: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *options, "--run", run]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]) or {})


def report(found: dict[str, dict[str, Any]]) -> None:
    mib = 2.0**20
    raw, sizes = found["raw"], found["sizes"]
    n_bytes = raw["features"] + raw["edges"]
    speed = n_bytes / raw["seconds"]
    stored = sizes["matrix"] + sizes["graph"]
    print(
        f"  stored: matrix {sizes['matrix'] / mib:.0f} MiB, graph {sizes['graph'] / mib:.0f} MiB\n"
        f"  raw read: {raw['seconds']:.2f} s, {speed / mib:.0f} MiB/s of numbers "
        f"({raw['edges'] / mib:.0f} MiB edges, {raw['features'] / mib:.0f} MiB counts)"
    )
    for name in ("tiles", "sampler", "neighbors", "memory"):
        if name not in found:
            continue
        run = found[name]
        print(
            f"  {name:<10} {run['seconds']:7.2f} s (CPU {run['cpu']:7.2f} s)  "
            f"{run['seeds'] / run['seconds'] / 1e3:7.1f} k seeds/s  "
            f"{run['edges'] / run['seconds'] / 1e6:6.2f} M edges/s  "
            f"peak {run['peak'] / mib:6.0f} MiB  read {run['read'] / mib:6.0f} MiB"
        )
    tiles, neighbors = found["tiles"], found["neighbors"]
    moved = tiles["nodes"] * SCORES * 4 + tiles["edges"] * 8
    print(
        f"  tile batches: {moved / tiles['seconds'] / speed:.0%} of the raw bytes/s\n"
        f"  neighbor batches: {neighbors['read'] / stored:.2f} x the stored bytes read; rows of "
        f"edges {neighbors['edge_rows'] / neighbors['seeds']:.2f} x, of counts "
        f"{neighbors['feature_rows'] / neighbors['seeds']:.2f} x the cells\n"
        f"  seeds: {found['quality']['text']}",
        flush=True,
    )


def has(*modules: str) -> bool:
    return any(importlib.util.find_spec(module) for module in modules)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes", type=int, default=300)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--fanouts", type=int, nargs="+", default=[10, 5])
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument("--cache", type=int, default=2**29)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(RUNS[options.run](options)))
        return
    folder = Path(tempfile.mkdtemp(prefix="bench-loader-"))
    try:
        compare(options, [*sys.argv[1:], "--folder", str(folder)])
    finally:
        shutil.rmtree(folder)


def compare(options: argparse.Namespace, arguments: list[str]) -> None:
    """Make the atlas, measure everything that can be measured here."""
    print(
        f"{options.cells:,} cells x {options.genes} genes, k = {options.k}, fan-outs "
        f"{options.fanouts}, {options.batch} seeds a batch, {options.workers} workers",
        flush=True,
    )
    child(arguments, "prepare")
    wanted = ["sizes", "raw", "tiles", "sampler", "neighbors", "quality"]
    if has("pyg_lib", "torch_sparse"):
        wanted.append("memory")
    else:
        print("  PyG's NeighborLoader: neither pyg-lib nor torch-sparse is installed, not measured")
    if has("annbatch"):
        print("  annbatch is installed; it knows no edges, and this benchmark does not drive it")
    else:
        print("  annbatch: not installed, not measured")
    report({name: child(arguments, name) for name in wanted})


if __name__ == "__main__":
    main()
