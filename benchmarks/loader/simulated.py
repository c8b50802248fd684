"""The simulated section that every loader reads."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

PER_CELL, BLOCK = 60, 50_000
TILE_GRAPH, SAMPLED_GRAPH = "tiles", "sampled"


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
    """Write an atlas of one section, and its two graphs."""
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
    build_graphs(store, key_added=TILE_GRAPH, n_neighs=options.k)
    build_graphs(store, key_added=SAMPLED_GRAPH, n_neighs=options.k_sampled)


def opened(options: argparse.Namespace) -> Any:
    from tisseract.atlas.store import open_store

    return open_store(options.folder / "atlas")
