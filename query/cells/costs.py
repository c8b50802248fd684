"""What handing out an answer costs in requests and bytes, before any of it is read.

The number of requests is an upper bound: chunks that lie within 16 KiB of each other come in one
request, and where cells are tested it is not known beforehand which chunks have an answer. Bytes
are an estimate, from how well each kind of array is usually compressed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.section_arrays import GAP_BYTES, whole_at_once
from ..geometry.places import Place
from .fetch import GAP_ROWS, SMALL_ROWS, by_gene
from .plan import SectionPlan
from .rows import RunArray, coalesce, count, runs_of

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ...atlas.section_layout import ArrayLayout
    from ..filters.columns import Column

_X = "tables/table/X"
_POSITIONS = "tables/table/obsm/spatial"
# Compressed bytes for each byte in memory, as measured on imaging and spot sections.
_RATIOS = {
    _POSITIONS: 0.65,
    f"{_X}/indptr": 0.15,
    f"{_X}/data": 0.6,
    f"{_X}/indices": 0.37,
    "tisseract/by_gene/indptr": 0.5,
    "tisseract/by_gene/data": 0.5,
    "tisseract/by_gene/indices": 0.35,
}
_OBS_RATIO = 0.6
# How much more than that a chunk may take, where a bound is wanted.
_SLACK = 2.0
_ANY = 2**62
_TEXT_BYTES = 12.0
# Zarr metadata of the group and its arrays, and the indexes of two shards.
_DERIVED_REQUESTS = 8
_DERIVED_BYTES = 3_000
# Bytes of a section's index beside those of its arrays, and of a gene in a panel.
_INDEX_BYTES = 1_500
_ARRAY_BYTES = 110
_PANEL_GENE_BYTES = 14


@dataclass(frozen=True, slots=True)
class Cost:
    """Requests at most, and compressed bytes about."""

    requests: int = 0
    nbytes: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.requests + other.requests, self.nbytes + other.nbytes)


@dataclass(frozen=True, slots=True)
class Read:
    """An answer of one section, as arrays are read for it."""

    section: "Section"
    plan: SectionPlan
    place: Place | None
    genes: NDArray[np.int64] | None
    """Columns of the matrix asked for by name; None is all."""
    handed_out: Sequence["Column"]
    """Columns of the answer."""
    tested: Sequence["Column"]
    """Columns of the filter."""


def cost_of_panels(n_genes: Sequence[int]) -> Cost:
    """Reckon the gene panels, each read once, and the header, which the notes of an answer name."""
    return Cost(len(n_genes) + 1, 200.0 + _PANEL_GENE_BYTES * sum(n_genes))


def cost_of_pruning(n_sections: int, n_columns: int) -> Cost:
    """Reckon the sections that are opened only to see that no tile of them has an answer."""
    requests = 5 + 6 * n_columns
    return Cost(requests * n_sections, (_INDEX_BYTES + 300.0 * requests) * n_sections)


def cost_of(read: Read) -> Cost:
    """Reckon requests and bytes of handing out the part of an answer in one section.

    Opening the section counts; what a handle has read before costs nothing a second time.
    """
    section, plan = read.section, read.plan
    total = Cost(1, _INDEX_BYTES + _ARRAY_BYTES * len(section.layouts))
    # Totals are read where a panel is padded with zeros, and to weigh genes against rows.
    total += Cost(8, 0.0 if read.genes is None else 25.0 * section.n_vars)
    tiles = np.stack([plan.start, plan.stop], axis=1)
    if not plan.whole:
        for path in ("tisseract/tiles/ptr", "tisseract/tiles/bounds"):
            total += _whole(section, path, 0.7)
    found = Found(coalesce(tiles, GAP_ROWS), 0)
    if plan.test_place.any():
        total += _whole(section, "tisseract/blocks/bounds", 0.8)
        found = _touched(read, tiles)
        if found.rows > SMALL_ROWS:  # else they are read once, for finding and for handing out
            total += _rows(section, _POSITIONS, found)
    if plan.test_obs.any():
        open_tiles = Found(coalesce(tiles[plan.test_obs]), 0)
        for column in read.tested:
            total += _statistics(section, column)
            total += _column(section, column, open_tiles)
        found = replace(found, holes=_ANY)
    total += _rows(section, _POSITIONS, found)
    total += _rows(section, "tables/table/obs/_index", found)
    for column in read.handed_out:
        total += _column(section, column, found)
    return total + _counts(read, found)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Rows that may be read, and how many holes what is found may leave in them."""

    runs: RunArray
    holes: int

    @property
    def rows(self) -> int:
        """Rows of the runs."""
        return count(self.runs)


def _touched(read: Read, tiles: RunArray) -> Found:
    """Rows of the blocks that the place touches, in the tiles left."""
    assert read.place is not None
    blocks = read.section.blocks
    touched, inside = read.place.cover(blocks.bounds)
    chosen = np.flatnonzero(touched)
    runs = _overlap(np.stack([blocks.ptr[chosen], blocks.ptr[chosen + 1]], axis=1), coalesce(tiles))
    # Of blocks on the edge that follow one another, every second one may have no answer.
    edge = runs_of(np.flatnonzero(touched & ~inside))
    holes = int(((edge[:, 1] - edge[:, 0] + 1) // 2).sum())
    return Found(coalesce(runs, GAP_ROWS), holes)


def _overlap(runs: RunArray, kept: RunArray) -> RunArray:
    """Rows of some runs that also lie in others; both ascending."""
    edges = np.unique(np.concatenate([runs.ravel(), kept.ravel()]))
    if len(edges) < 2:
        return runs[:0]
    low, high = edges[:-1], edges[1:]

    def inside(which: RunArray) -> NDArray[np.bool_]:
        at = np.searchsorted(which[:, 0], low, side="right") - 1
        return np.asarray((at >= 0) & (which[np.maximum(at, 0), 1] >= high), dtype=bool)

    both = inside(runs) & inside(kept) if len(runs) and len(kept) else np.zeros(len(low), bool)
    return coalesce(np.stack([low, high], axis=1)[both])


def _whole(section: "Section", path: str, ratio: float) -> Cost:
    layout = section.layouts.get(path)
    if layout is None:
        return Cost()
    row_bytes = ratio if layout.dtype == "string" else ratio * layout.row_bytes
    return _cost(layout, Found(np.array([[0, layout.shape[0]]]), 0), row_bytes)


def _rows(section: "Section", path: str, found: Found) -> Cost:
    layout = section.layouts.get(path)
    if layout is None:
        return Cost()
    ratio = _RATIOS.get(path, _OBS_RATIO)
    row_bytes = _TEXT_BYTES if layout.dtype == "string" else layout.row_bytes * ratio
    return _cost(layout, found, row_bytes)


def _cost(layout: "ArrayLayout", found: Found, row_bytes: float) -> Cost:
    """Count the chunks that rows lie in, put together as the reader does."""
    n, runs = layout.shape[0], found.runs
    if not len(runs) or not n:
        return Cost()
    if whole_at_once(layout):
        return Cost(1, n * row_bytes + 16 * -(-n // layout.chunk) + 4)
    chunks = coalesce(
        np.stack([runs[:, 0] // layout.chunk, -(-runs[:, 1] // layout.chunk)], axis=1)
    )
    per_shard = layout.shard // layout.chunk
    first, last = chunks[:, 0] // per_shard, (chunks[:, 1] - 1) // per_shard
    crossings = int((last - first).sum())
    shards = min(len(np.unique(np.concatenate([first, last]))) + crossings, -(-n // layout.shard))
    n_chunks = int((chunks[:, 1] - chunks[:, 0]).sum())
    # A hole is wider than what is read across.
    wide = int(_SLACK * n_chunks * layout.chunk * row_bytes / GAP_BYTES)
    holes = min(n_chunks - len(chunks), wide, found.holes)
    index = 16 * min(per_shard, -(-n // layout.chunk)) + 4
    nbytes = n_chunks * min(layout.chunk, n) * row_bytes + shards * index
    return Cost(shards + len(chunks) + crossings + max(holes, 0), nbytes)


def _paths(section: "Section", path: str) -> Iterator[str]:
    for name in ("", "/codes", "/values", "/mask"):
        if f"{path}{name}" in section.layouts:
            yield f"{path}{name}"


def _column(section: "Section", column: "Column", found: Found) -> Cost:
    rows = found.rows
    if column.source == "meta" or not rows:
        return Cost()
    # Cells are tested a batch of tiles at a time.
    batches = rows // 2**18
    if column.source == "gene":
        entries = section.entry.nnz / max(section.n_vars, 1) * rows / max(section.n_obs, 1)
        return Cost(12 + 6 * (batches + 1) * len(found.runs), 80_000 + 3 * entries)
    if column.source == "cell":
        return _rows(section, "tables/table/obs/_index", found) + Cost(batches)
    if column.source != "obs":
        return Cost(_DERIVED_REQUESTS + 2 * len(found.runs), _DERIVED_BYTES + 6.0 * rows)
    info = section.obs_columns.get(column.key)
    if info is None:
        return Cost()
    total = _whole(section, f"{info['path']}/categories", _TEXT_BYTES)
    for path in _paths(section, str(info["path"])):
        total += _rows(section, path, found) + Cost(batches)
    return total


def _statistics(section: "Section", column: "Column") -> Cost:
    """Statistics of tiles that a test is pruned by."""
    if column.source in ("meta", "cell"):
        return Cost()
    return Cost(6, 12.0 * section.n_tiles + 200)


def _counts(read: Read, found: Found) -> Cost:
    """Reckon the matrix: by rows, or gene by gene where that is less."""
    section, genes, nnz = read.section, read.genes, read.section.entry.nnz
    total = Cost()
    if genes is not None:
        if not len(genes):
            return total
        if by_gene(section, read.plan.n_rows, genes):
            return total + _by_gene(section, genes)
    total += _rows(section, f"{_X}/indptr", found)
    per_row = nnz / max(section.n_obs, 1)
    entries = np.minimum(np.stack([found.runs[:, 0], found.runs[:, 1]], axis=1) * per_row, nnz)
    elements = replace(found, runs=coalesce(entries.astype(np.int64)))
    for part in ("data", "indices"):
        cost = _rows(section, f"{_X}/{part}", elements)
        # Rows are not all of one length: a run may begin in a neighboring chunk or shard.
        near = 2 * -(-nnz // section.layouts[f"{_X}/{part}"].shard)
        total += Cost(cost.requests + min(near, 2 * len(found.runs)), cost.nbytes)
    return total


def _by_gene(section: "Section", genes: NDArray[np.int64]) -> Cost:
    total = Cost()
    entries = float(section.totals.nnz[genes].sum())
    for part in ("data", "indices", "indptr"):
        path = f"tisseract/by_gene/{part}"
        layout = section.layouts[path]
        shards = -(-layout.shape[0] // layout.shard)
        stored = layout.row_bytes * _RATIOS[path]
        n = entries if part != "indptr" else 2.0 * len(genes)
        chunks = min(layout.chunk * len(genes), layout.shape[0])
        total += Cost(min(shards, len(genes) + 1) + 2 * len(genes), stored * (n + chunks))
    return total
