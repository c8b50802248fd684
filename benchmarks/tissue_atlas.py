"""A simulated atlas of any size with planted domains: sections of equal size, written one by one.

A domain is a mix of cell types, a type a rate for every gene. Domains are patches around random
centers; each type lives in every domain, so that a cell alone does not say where it lies.

Usage: python benchmarks/tissue_atlas.py FOLDER CELLS GENES NAME SEED: write one section into
FOLDER/atlas, which is made where there is none.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_DOMAINS, N_TYPES, N_CENTERS = 8, 12, 60
PER_CELL, BLOCK, SPACING_UM = 60, 50_000, 10.0


def tissue_rates(genes: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Weight of each gene in each type, and the share of each type in each domain."""
    rng = np.random.default_rng(99)
    base = rng.gamma(0.5, 1.0, genes) + 0.05
    weight = base * np.exp(rng.normal(0.0, 1.0, (N_TYPES, genes)))
    return weight.astype(np.float32), rng.dirichlet(np.full(N_TYPES, 0.4), N_DOMAINS)


def place_cells(n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Positions in micrometers, (n, 2), and the domain of each cell."""
    from scipy.spatial import cKDTree

    rng = np.random.default_rng([seed, 1])
    side = SPACING_UM * np.sqrt(n)
    xy = rng.random((n, 2)) * side
    centers = rng.random((N_CENTERS, 2)) * side
    _, nearest = cKDTree(centers).query(xy)
    return xy, (np.arange(N_CENTERS) % N_DOMAINS)[nearest]


def draw_counts(domain: NDArray[np.int64], genes: int, seed: int) -> Any:
    """Draw counts of some genes in every cell, (n, genes) csr of uint8."""
    from scipy.sparse import csr_matrix

    weight, mix = tissue_rates(genes)
    rng = np.random.default_rng([seed, 2])
    n, take = len(domain), min(PER_CELL, genes)
    columns = np.empty((n, take), dtype=np.int32)
    data = np.empty((n, take), dtype=np.uint8)
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        shares = mix.cumsum(axis=1)[domain[start:stop], :-1]
        rate = weight[(rng.random(stop - start)[:, None] > shares).sum(axis=1)]
        # weighted sampling without replacement: the smallest of exponentials over weights
        keys = rng.standard_exponential(rate.shape, dtype=np.float32) / rate
        found = np.sort(np.argpartition(keys, take - 1, axis=1)[:, :take], axis=1)
        columns[start:stop] = found
        likely = np.take_along_axis(rate, found, axis=1)
        data[start:stop] = np.minimum(1 + rng.poisson(likely), 255)
    indptr = np.arange(n + 1, dtype=np.int64) * take
    return csr_matrix((data.ravel(), columns.ravel(), indptr), shape=(n, genes))


def make_section(n: int, genes: int, seed: int) -> Any:
    """One section of the tissue, as the writer takes it."""
    from tisseract.atlas.panel import Panel
    from tisseract.atlas.section_columns import StringValues
    from tisseract.ingest.source import ArrayColumn, MatrixCounts, RawSection

    xy, domain = place_cells(n, seed)
    return RawSection(
        positions=xy,
        instance_ids=ArrayColumn.of(StringValues.from_strings([f"c{i}" for i in range(n)])),
        obs={"domain": ArrayColumn.of(domain.astype(np.float64))},
        panel=Panel.of([f"Gene{i}" for i in range(genes)], organism="mouse"),
        counts=MatrixCounts(draw_counts(domain, genes, seed)),
        um_per_unit=1.0,
        radius=1.0,
    )


def write_tissue(folder: Path, n: int, genes: int, name: str, seed: int) -> None:
    """Write one section into the atlas of a folder, which is made where there is none."""
    from tisseract.atlas.snapshot import Change, SectionEntry
    from tisseract.atlas.store import create_store, open_store
    from tisseract.ingest.partition import write_section

    place = folder / "atlas"
    store = open_store(place, read_only=False) if place.exists() else create_store(place)
    if store.has_section(name):
        return
    raw = make_section(n, genes, seed)
    if not store.section_names:  # all sections share the panel
        store.storage.put_if_absent(f"panels/{raw.panel.digest}.parquet", raw.panel.to_parquet())
    with store.new_attempt(f"sections/{name}", suffix=".zarr") as attempt:
        summary = write_section(raw, attempt.path, memory_limit=2**30, scratch=folder)
        receipt = attempt.seal()
    entry = SectionEntry(
        section=name,
        attempt=receipt.attempt,
        digest=receipt.digest,
        n_obs=n,
        n_vars=genes,
        nnz=summary.nnz,
        nbytes=receipt.nbytes,
        n_tiles=summary.n_tiles,
        tile_cells=summary.tile_cells,
        panel=summary.panel,
        values="counts",
        um_per_unit=1.0,
        bounds=summary.bounds,
        fingerprint="bench",
        columns=summary.columns,
    )
    store.commit(Change(add_sections=[entry]), f"simulated section {name}")


if __name__ == "__main__":
    where, cells, n_genes, section, seed = sys.argv[1:]
    write_tissue(Path(where), int(cells), int(n_genes), section, int(seed))
