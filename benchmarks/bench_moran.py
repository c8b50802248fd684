"""Moran's I of many genes over a stored graph: ours against squidpy on the same numbers.

Usage: python benchmarks/bench_moran.py [--cells 1000000] [--genes 100] [--k 6] [--threads 2]
Every figure comes from a fresh process: seconds by its own clock after imports and a warm-up, peak
as the growth of the resident set over what the imports took. Ours starts from the committed store:
it reads the graph and the genes from disk. squidpy starts from memory: a graph in `obsp` and the
matrix of these genes, dense and sparse, with the cells in the order of the atlas, which suits its
caches better than that of the source file; reading is not counted. The ratio is against the
faster of the two. The bar is 5 x squidpy. CPU seconds are those of all threads: they hold up when
a machine is shared.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

BAR = 5.0


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


def make_counts(xy: Any, n_genes: int, density: float) -> Any:
    """Make counts, CSR; the rate of every second gene varies slowly over the tissue."""
    from scipy.sparse import csc_matrix

    rng = np.random.default_rng(3)
    n = xy.shape[0]
    wave = 0.5 + 0.5 * np.sin(xy @ np.array([0.004, 0.002]))
    indptr, indices, data = [0], [], []
    for gene in range(n_genes):
        chance = density * (2.0 * wave if gene % 2 else 1.0)
        cells = np.flatnonzero(rng.random(n) < chance).astype(np.int32)
        indices.append(cells)
        data.append(1 + rng.poisson(0.7, cells.size).astype(np.uint16))
        indptr.append(indptr[-1] + cells.size)
    parts = (np.concatenate(data), np.concatenate(indices), np.array(indptr))
    return csc_matrix(parts, shape=(n, n_genes)).tocsr()


def prepare(folder: Path, options: argparse.Namespace) -> None:
    """Write an atlas of one section with its graph, and the arrays for squidpy."""
    from scipy.sparse import save_npz

    from tisseract.atlas.graph import build_graphs, open_graph
    from tisseract.atlas.panel import Panel
    from tisseract.atlas.section_columns import StringValues
    from tisseract.atlas.snapshot import Change, SectionEntry
    from tisseract.atlas.store import create_store
    from tisseract.ingest.partition import write_section
    from tisseract.ingest.source import ArrayColumn, MatrixCounts, RawSection

    n = options.cells
    xy = np.random.default_rng(7).random((n, 2)) * (10.0 * np.sqrt(n))
    store = create_store(folder / "atlas")
    raw = RawSection(
        positions=xy,
        instance_ids=ArrayColumn.of(StringValues.from_strings([f"c{i}" for i in range(n)])),
        obs={},
        panel=(panel := Panel.of([f"gene{g}" for g in range(options.genes)])),
        counts=MatrixCounts(make_counts(xy, options.genes, options.density)),
        um_per_unit=1.0,
        radius=1.0,
    )
    store.storage.put_if_absent(f"panels/{panel.digest}.parquet", panel.to_parquet())
    with store.new_attempt("sections/S1", suffix=".zarr") as attempt:
        summary = write_section(raw, attempt.path, memory_limit=2**30, scratch=folder)
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
        fingerprint="moran",
    )
    store.commit(Change(add_sections=[entry]), "benchmark cells")
    build_graphs(store, n_neighs=options.k)
    if not options.skip_squidpy:
        matrix = open_graph(store, "spatial", "S1").to_csr()
        matrix.data = np.ones(matrix.nnz, np.float32)
        save_npz(folder / "graph.npz", matrix, compressed=False)
        save_npz(folder / "counts.npz", store.section("S1").counts(), compressed=False)


def run_ours(folder: Path, threads: int) -> dict[str, Any]:
    """Read the graph and the genes from the store, and test every gene."""
    from tisseract.atlas.graph import open_graph
    from tisseract.atlas.spatial_statistics import spatial_autocorrelation
    from tisseract.atlas.store import open_store

    store = open_store(folder / "atlas")
    graph, section = open_graph(store, "spatial", "S1"), store.section("S1")
    spatial_autocorrelation(Two(), Two())  # type: ignore[arg-type]
    meter = Meter()
    found = spatial_autocorrelation(graph, section, threads=threads)
    return {**meter.read(), "edges": graph.nnz, "statistic": found.statistic.tolist()}


class Two:
    """Graph and section of two cells: brings compiled code from its cache, without their memory."""

    name, n_obs, n_vars, values, row_ptr = "two", 2, 1, "counts", (0, 2)

    def __init__(self) -> None:
        from tisseract.atlas.panel import Panel
        from tisseract.atlas.statistics import GeneTotals

        self.panel = Panel.of(["gene"])
        self.totals = GeneTotals(np.ones(1), np.ones(1, np.int64), np.ones(1), np.ones(1))

    def edges(self, runs: Any) -> Any:
        from tisseract.atlas.graph.edges import Edges

        return Edges(np.arange(3), np.array([1, 0], np.int32), np.ones(2, np.float32))

    def gene_columns(self, genes: Any) -> Any:
        from scipy.sparse import csc_matrix

        return csc_matrix(np.array([[1.0], [0.0]], np.float32))


def run_squidpy(folder: Path, threads: int, *, dense: bool) -> dict[str, Any]:
    """Test every gene of an AnnData in memory."""
    import warnings

    warnings.simplefilter("ignore")
    import anndata
    import numba
    import squidpy as sq
    from scipy.sparse import csr_matrix, load_npz

    numba.set_num_threads(threads)
    counts = csr_matrix(load_npz(folder / "counts.npz"))
    graph = csr_matrix(load_npz(folder / "graph.npz"))
    matrix = counts.toarray() if dense else counts
    adata = anndata.AnnData(matrix, obsp={"spatial_connectivities": graph})
    small = adata[:1000].copy()
    sq.gr.spatial_autocorr(small, mode="moran", n_perms=None, copy=True)  # compiles
    meter = Meter()
    found = sq.gr.spatial_autocorr(adata, mode="moran", n_perms=None, n_jobs=threads, copy=True)
    order = found.loc[adata.var_names, "I"]
    return {**meter.read(), "statistic": order.tolist()}


RUNS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "ours": run_ours,
    "squidpy, dense": partial(run_squidpy, dense=True),
    "squidpy, sparse": partial(run_squidpy, dense=False),
}


def child(arguments: list[str], threads: int) -> dict[str, Any]:
    command = [sys.executable, __file__, *arguments]
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
    limits = dict.fromkeys(names, str(threads))
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **limits}
    )
    return dict(json.loads(done.stdout.splitlines()[-1])) if done.stdout.strip() else {}


def report(options: argparse.Namespace, found: dict[str, dict[str, Any]]) -> None:
    ours = found["ours"]
    print(
        f"Moran's I: {options.cells:,} cells, {options.genes} genes, {options.density:.0%} not "
        f"zero, {ours['edges']:,} edges"
    )
    for name, run in found.items():
        print(
            f"  {name:<16} {run['seconds']:7.2f} s  (CPU {run['cpu']:6.2f} s)  "
            f"peak {run['peak'] / 2**20:7.0f} MiB"
        )
    theirs = [run for name, run in found.items() if name != "ours"]
    if theirs:
        wall = min(run["seconds"] for run in theirs) / ours["seconds"]
        cpu = min(run["cpu"] for run in theirs) / ours["cpu"]
        apart = max(
            float(np.max(np.abs(np.array(run["statistic"]) / np.array(ours["statistic"]) - 1)))
            for run in theirs
        )
        print(
            f"  {wall:.1f} x squidpy by the clock, {cpu:.1f} x by CPU (bar {BAR:g}); "
            f"largest relative difference of I {apart:.1e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes", type=int, default=100)
    parser.add_argument("--density", type=float, default=0.1)
    parser.add_argument("--k", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skip-squidpy", action="store_true")
    parser.add_argument("--run", choices=[*RUNS, "prepare"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run == "prepare":
        prepare(options.folder, options)
        return
    if options.run:
        print(json.dumps(RUNS[options.run](options.folder, options.threads)))
        return
    folder = Path(tempfile.mkdtemp(prefix="bench-moran-"))
    common = ["--folder", str(folder)]
    for name in ("cells", "genes", "density", "k", "threads"):
        common += [f"--{name}", str(getattr(options, name))]
    common += ["--skip-squidpy"] if options.skip_squidpy else []
    try:
        child([*common, "--run", "prepare"], options.threads)
        wanted = [name for name in RUNS if name == "ours" or not options.skip_squidpy]
        found = {name: child([*common, "--run", name], options.threads) for name in wanted}
        report(options, found)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
