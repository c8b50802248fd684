"""Search for similar tissue over a thousand sections: exact and by the graph.

The index is simulated at its real size and written by the package's own writer; sections are
entries of the catalog alone, since a search reads none. Windows of 200 um with half overlap over
5,000 cells at 10 um are some 64 a section, of 100 um some 230: both are there. Queries are windows
of the index with noise, so that the answer is not known beforehand.

Usage: python benchmarks/query/similar.py [--sections 1000] [--queries 50]
Each timed search is in the state of a fresh process: no object is kept between searches, the
files are in the cache of the system.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
import tracemalloc
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tisseract.atlas.snapshot import Change, SectionEntry, SegmentEntry
from tisseract.atlas.store import AtlasStore, create_store
from tisseract.query.retrieval.approximate import add_graphs
from tisseract.query.retrieval.opened import Index, open_index
from tisseract.query.retrieval.scoring import Description, Scorer, part_weights
from tisseract.query.retrieval.search import SPARE, Found, Scope, scan, spread_out
from tisseract.query.retrieval.segment import SegmentWriter
from tisseract.query.retrieval.similar import Options, find_windows

WIDTH, CELLS, SPACING_UM = 30, 5000, 10.0
SIZES = (100.0, 200.0, 400.0)
K = 20


def side_windows(size: float) -> int:
    """Windows along a side of a section."""
    return int(np.sqrt(CELLS) * SPACING_UM / (size / 2))


def draw_windows(size: float, seed: int) -> NDArray[np.float32]:
    """Descriptions of the windows of a section: 12 kinds of tissue in patches, with noise."""
    rng = np.random.default_rng([seed, int(size)])
    kinds = np.random.default_rng(7).normal(size=(12, WIDTH)) * np.linspace(3, 0.5, WIDTH)
    n = side_windows(size)
    centers = rng.random((20, 2)) * n
    at = np.stack(np.meshgrid(np.arange(n), np.arange(n)), axis=-1).reshape(-1, 2)
    near = ((at[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)
    kind = rng.integers(0, 12, 20)[near]
    noise = rng.normal(size=(len(at), WIDTH)) * 1.0
    return (kinds[kind] + noise).astype(np.float32)


def section_entry(name: str) -> SectionEntry:
    side = float(np.sqrt(CELLS) * SPACING_UM)
    return SectionEntry(
        section=name,
        attempt=uuid.UUID(int=int(name[1:]), version=4).hex,
        digest="sha256:" + "0" * 64,
        n_obs=CELLS,
        n_vars=300,
        nnz=CELLS * 60,
        nbytes=10**6,
        n_tiles=2,
        tile_cells=4096,
        panel="0" * 64,
        values="counts",
        um_per_unit=1.0,
        bounds=(0.0, 0.0, side, side),
        fingerprint=name,
        metadata={"section": name, "timepoint": f"E{len(name)}"},
    )


def write_section(writer: SegmentWriter, entry: SectionEntry, seed: int) -> dict[str, Any]:
    writer.append("center", np.zeros((1, WIDTH)))
    counts = []
    for size, side in enumerate(SIZES):
        mean = draw_windows(side, seed)
        spread = np.ones_like(mean)
        n = side_windows(side)
        grid = np.stack(np.meshgrid(np.arange(n), np.arange(n)), axis=-1).reshape(-1, 2)
        writer.append(f"w{size}.grid", grid.astype(np.int32))
        writer.append(f"w{size}.n_cells", np.full(len(mean), 400, np.int32))
        writer.append(f"w{size}.mean", mean.astype(np.float16))
        writer.append(f"w{size}.spread", spread.astype(np.float16))
        parts = [mean, mean * mean, spread, spread * spread]
        moments = np.concatenate([part.sum(axis=0, dtype=np.float64) for part in parts])
        writer.append(f"w{size}.moments", moments[None, :])
        counts.append(len(mean))
    inputs = {f"section:{entry.section}": entry.attempt}
    facts = {"section": entry.section, "inputs": inputs, "n_cells": CELLS, "scale": 1.0}
    return facts | {"x": 0.0, "y": 0.0, "windows": counts}


def simulate_index(folder: Path, n_sections: int, *, graph: bool) -> AtlasStore:
    """Write an atlas of catalog entries with one index of all."""
    store = create_store(folder / "atlas")
    entries = [section_entry(f"s{i:04d}") for i in range(n_sections)]
    parameters = {"space": "plain", "sizes": list(SIZES), "unit": "um"}
    with store.new_attempt("segments/index/similar") as attempt:
        with SegmentWriter(attempt.path) as writer:
            told = [write_section(writer, entry, seed) for seed, entry in enumerate(entries)]
            facts = {"parameters": parameters, "width": WIDTH, "genes": [], "values": {}}
            facts["sections"] = told
            writer.finish(facts)
        add_graphs(attempt.path, facts, wanted=graph)
        receipt = attempt.seal()
    inputs = {f"section:{entry.section}": entry.attempt for entry in entries}
    segment = SegmentEntry(
        "index", "similar", receipt.attempt, receipt.digest, receipt.nbytes, inputs, {}
    )
    store.commit(Change(add_sections=entries, add_segments=[segment]), "simulated")
    return store


def questions(n: int, n_sections: int, size: float) -> Iterator[Description]:
    rng = np.random.default_rng(1)
    for _ in range(n):
        rows = draw_windows(size, int(rng.integers(n_sections)))
        mean = rows[rng.integers(len(rows))] + rng.normal(size=WIDTH) * 0.5
        yield Description(mean.astype(np.float64), np.ones(WIDTH), (), 400)


def ask(store: AtlasStore, like: Description, size: int, options: Options) -> Found:
    """One search, from opening the index to hits apart from one another."""
    index = open_index(store, "similar")
    assert index is not None
    scope = Scope(list(index.rows), size, {}, {})
    found = find_windows(index, scope, like, options)
    return spread_out(index, found, size, options.k, options.max_overlap)[0]


def exact_best(index: Index, size: int, like: Description) -> NDArray[np.int64]:
    """Rows of the K best windows, overlap or not."""
    scale = {"mean": index.scale(size, "mean")}
    weights = part_weights([], None)
    scorer = Scorer(like, "cosine", weights, (), scale, np.zeros(WIDTH))
    return scan(index, Scope(list(index.rows), size, {}, {}), scorer, K * SPARE).row[:K]


def peak_mb(store: AtlasStore, n_sections: int) -> float:
    """Peak of what one exact search of the smallest windows allocates."""
    like = next(questions(1, n_sections, SIZES[0]))
    tracemalloc.start()
    ask(store, like, 0, Options(k=K, approximate=False))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return round(peak / 1e6, 1)


def measure(n_sections: int = 1000, n_queries: int = 50) -> dict[str, Any]:
    """Build the simulated index, search it both ways; returns what is printed."""
    found: dict[str, Any] = {"machine": platform.processor() or platform.machine()}
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        store = simulate_index(Path(folder), n_sections, graph=True)
        found["build_cpu_s"] = round(time.process_time() - start, 1)
        entry = next(iter(store.snapshot.segments.values()))
        found["bytes"] = entry.nbytes
        index = open_index(store, "similar")
        assert index is not None
        found["search_peak_mb"] = peak_mb(store, n_sections)
        for size, side in enumerate(SIZES):
            line: dict[str, Any] = {"windows": index.segments[0].rows(f"w{size}.mean")}
            hits = 0
            for name, approximate in (("exact", False), ("graph", True)):
                options = Options(k=K, approximate=approximate)
                wall, cpu = [], []
                for like in questions(n_queries, n_sections, side):
                    t, c = time.perf_counter(), time.process_time()
                    ask(store, like, size, options)
                    wall.append(time.perf_counter() - t)
                    cpu.append(time.process_time() - c)
                line[name] = {
                    "p50_ms": round(1e3 * float(np.median(wall)), 1),
                    "p50_cpu_ms": round(1e3 * float(np.median(cpu)), 1),
                    "p95_ms": round(1e3 * float(np.quantile(wall, 0.95)), 1),
                }
            for like in questions(n_queries, n_sections, side):
                wanted = exact_best(index, size, like)
                scope = Scope(list(index.rows), size, {}, {})
                got = find_windows(index, scope, like, Options(k=K, approximate=True)).row[:K]
                hits += len(np.intersect1d(wanted, got))
            line["recall_at_20"] = round(hits / (K * n_queries), 4)
            found[f"{side:g} um"] = line
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sections", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=50)
    args = parser.parse_args()
    print(json.dumps(measure(args.sections, args.queries), indent=1))


if __name__ == "__main__":
    main()
