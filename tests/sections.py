"""Small sections and atlases for tests, made from NumPy arrays; nothing here is slow.

In a test of any folder::

    from ..sections import make_raw, make_store, write_one   # tests/ is on the path

    raw = make_raw(n_obs=500, n_vars=20, seed=0)           # random counts, six obs columns
    raw = make_raw(positions=xy, counts=matrix, obs={"layer": names})
    store = make_store(tmp_path, {"s1": raw})              # a committed store in tmp_path/atlas
    section = store.section("s1")                          # rows are in Morton order:
    section.source_rows()                                  # source row of each row
    section = write_one(tmp_path, raw, tile_cells=64)      # the same in one call, section "s1"

`expected(raw, section)` gives the source permuted into the section's row order: counts, positions
and obs to compare with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tisseract.atlas.panel import Panel
from tisseract.atlas.section import Section
from tisseract.atlas.snapshot import Change, SectionEntry
from tisseract.atlas.store import AtlasStore, create_store
from tisseract.ingest.partition import SectionSummary, write_section
from tisseract.ingest.source import (
    ArrayColumn,
    BooleanValues,
    CategoricalValues,
    MatrixCounts,
    NumericValues,
    RawSection,
)

LIMIT = 2**30


def random_counts(n_obs: int, n_vars: int, seed: int, density: float = 0.3) -> sparse.csr_matrix:
    """Small counts with explicit randomness; some genes and cells may be empty."""
    rng = np.random.default_rng(seed)
    dense = rng.poisson(2.0, (n_obs, n_vars)) * (rng.random((n_obs, n_vars)) < density)
    return sparse.csr_matrix(dense.astype(np.float32))


def standard_obs(n_obs: int, seed: int) -> dict[str, ArrayColumn]:
    """One column of each kind, some values missing."""
    rng = np.random.default_rng(seed + 1)
    area = rng.random(n_obs) * 100
    area[rng.random(n_obs) < 0.1] = np.nan
    codes = rng.integers(-1, 3, n_obs).astype(np.int8)
    return {
        "area": ArrayColumn.of(area),
        "volume": ArrayColumn.of(NumericValues(rng.integers(0, 9, n_obs), rng.random(n_obs) < 0.2)),
        "good": ArrayColumn.of(rng.random(n_obs) < 0.5),
        "sure": ArrayColumn.of(BooleanValues(rng.random(n_obs) < 0.5, rng.random(n_obs) < 0.2)),
        "layer": ArrayColumn.of(CategoricalValues(codes, ("L1", "L2", "WM"))),
        "note": ArrayColumn.of([None if k % 5 == 0 else f"note {k % 7}" for k in range(n_obs)]),
    }


def make_raw(
    *,
    n_obs: int = 300,
    n_vars: int = 12,
    seed: int = 0,
    positions: NDArray[np.float64] | None = None,
    counts: Any = None,
    obs: Mapping[str, Any] | None = None,
    genes: list[str] | None = None,
    ids: list[str] | None = None,
    um_per_unit: float | None = 1.0,
    **more: Any,
) -> RawSection:
    """Build a `RawSection`; whatever is not given is random but seeded.

    Parameters
    ----------
    positions : (n, 2) float64, optional
        Uniform in a square of 1,000 units without.
    counts : matrix, array or CountsSource, optional
        Random counts without.
    obs : mapping of name to array, column values or ArrayColumn, optional
        `standard_obs` without.
    more
        Further fields of `RawSection` (values, metadata, y_axis …).
    """
    if counts is None:
        rows = n_obs if positions is None else positions.shape[0]
        counts = random_counts(rows, n_vars, seed)
    source = counts if hasattr(counts, "blocks") else MatrixCounts(counts)
    n, g = source.n_obs, source.n_vars
    if positions is None:
        positions = np.random.default_rng(seed).random((n, 2)) * 1000.0
    columns = standard_obs(n, seed) if obs is None else obs
    return RawSection(
        positions=positions,
        instance_ids=ArrayColumn.of(ids or [f"cell-{k}" for k in range(n)]),
        obs={
            name: column if isinstance(column, ArrayColumn) else ArrayColumn.of(column)
            for name, column in columns.items()
        },
        panel=Panel.of(genes or [f"Gene{k}" for k in range(g)], organism="mouse"),
        counts=source,
        um_per_unit=um_per_unit,
        **more,
    )


def entry_of(
    summary: SectionSummary, section: str, receipt: Any, fingerprint: str = "test"
) -> SectionEntry:
    """Catalog entry of a written section."""
    return SectionEntry(
        section=section,
        attempt=receipt.attempt,
        digest=receipt.digest,
        nbytes=receipt.nbytes,
        fingerprint=fingerprint,
        n_obs=summary.n_obs,
        n_vars=summary.n_vars,
        nnz=summary.nnz,
        n_tiles=summary.n_tiles,
        tile_cells=summary.tile_cells,
        panel=summary.panel,
        values=summary.values,
        um_per_unit=summary.um_per_unit,
        bounds=summary.bounds,
        metadata=summary.metadata,
        columns=summary.columns,
        qc=summary.qc,
    )


def add_section(
    store: AtlasStore, name: str, raw: RawSection, *, tile_cells: int = 64, replace: bool = False
) -> None:
    """Write and commit one section."""
    panel = f"panels/{raw.panel.digest}.parquet"
    if not store.storage.exists(panel):
        store.storage.put_if_absent(panel, raw.panel.to_parquet())
    with store.new_attempt(f"sections/{name}", suffix=".zarr") as attempt:
        summary = write_section(raw, attempt.path, tile_cells=tile_cells, memory_limit=LIMIT)
        receipt = attempt.seal()
    change = Change(add_sections=[entry_of(summary, name, receipt)], replace=replace)
    store.commit(change, f"add {name}")


def make_store(
    folder: Path, sections: Mapping[str, RawSection], *, tile_cells: int = 64
) -> AtlasStore:
    """Create `folder/atlas` with the given sections committed; returns a handle for writing."""
    store = create_store(str(folder / "atlas"))
    for name, raw in sections.items():
        add_section(store, name, raw, tile_cells=tile_cells)
    return store


def write_one(folder: Path, raw: RawSection, *, tile_cells: int = 64) -> Section:
    """One committed section, named `s1`."""
    return make_store(folder, {"s1": raw}, tile_cells=tile_cells).section("s1")


@dataclass(frozen=True, slots=True)
class Expected:
    """The source in the section's row order."""

    counts: sparse.csr_matrix
    positions: NDArray[np.float64]
    ids: list[str | None]


def same(left: Any, right: Any) -> bool:
    """Tell whether two sparse matrices hold the same numbers."""
    return left.shape == right.shape and bool((left != right).nnz == 0)


def expected(raw: RawSection, section: Section) -> Expected:
    """Permute what `make_raw` was given as the section permuted it."""
    assert isinstance(raw.counts, MatrixCounts)
    order = section.source_rows()
    matrix = sparse.csr_matrix(raw.counts.matrix)[order]
    matrix.eliminate_zeros()
    matrix.sort_indices()
    scale = 1.0 if raw.um_per_unit is None else raw.um_per_unit
    flip = np.array([scale, -scale if raw.y_axis == "up" else scale])
    ids = raw.instance_ids.read().take(order).to_list()  # type: ignore[union-attr]
    return Expected(matrix, raw.positions[order] * flip, ids)
