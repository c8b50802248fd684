"""Reading what a section holds of single genes: statistics of tiles, and stretches of values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import Corrupt
from .quadtree import Runs, merge_runs
from .statistics import GenePeaks, GeneStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .section_arrays import RowArray

__all__ = ["first_entries", "read_peaks", "read_statistics", "read_tiles"]

type Opens = Callable[[str], RowArray]


def read_statistics(array: Opens, genes: NDArray[np.int64]) -> GeneStatistics:
    """Per tile sums, non-zero counts and maxima of some genes, as `Section.gene_statistics`."""
    unique, back = np.unique(genes, return_inverse=True)
    runs = merge_runs([(int(g), int(g) + 1) for g in unique])

    def part(name: str) -> NDArray[Any]:
        return array(f"tisseract/stats/gene_{name}").read(runs)[back].T

    return GeneStatistics(part("sum").astype(np.float64), part("nnz"), part("max"))


def read_peaks(array: Opens, gene: int) -> GenePeaks:
    """Non-zero counts and maxima of one gene in each tile: one chunk of two arrays."""
    run = [(gene, gene + 1)]
    nnz = array("tisseract/stats/gene_nnz").read(run)[0]
    largest = array("tisseract/stats/gene_max").read(run)[0]
    return GenePeaks(nnz.astype(np.int64), largest.astype(np.float64))


def first_entries(
    array: Opens, gene: int, peaks: GenePeaks, corrupt: Callable[[str], Corrupt]
) -> NDArray[np.int64]:
    """Where the entries of a gene in each tile begin, and where the last end, (T + 1,).

    The entries of a gene ascend by row, so that those of tile t follow those of the tiles before.
    """
    first, end = array("tisseract/by_gene/indptr").read([(gene, gene + 2)]).tolist()
    edges: NDArray[np.int64] = first + np.concatenate([[0], np.cumsum(peaks.nnz)])
    if edges[-1] != end:
        raise corrupt(f"the statistics of gene {gene} disagree with its entries")
    return edges


def read_tiles(
    array: Opens,
    tiles: Runs,
    ptr: NDArray[np.int64],
    edges: NDArray[np.int64],
    corrupt: Callable[[str], Corrupt],
) -> NDArray[np.float32]:
    """Values of one gene over the rows of some runs of tiles, as `Section.gene_values`.

    Parameters
    ----------
    array
        Opens an array of the section by its path.
    tiles
        Runs of tile numbers, ascending.
    ptr
        (T + 1,) first row of each tile.
    edges
        (T + 1,) first entry of the gene in each tile.
    corrupt
        Makes the error that names the section.

    Returns
    -------
    (m,) array of float32
        Memory: 4 bytes a row, and 12 an entry while reading.
    """
    spans = [(int(edges[a]), int(edges[b])) for a, b in tiles]
    rows = array("tisseract/by_gene/indices").read(spans)
    values = array("tisseract/by_gene/data").read(spans)
    starts = np.array([ptr[a] for a, _ in tiles], np.int64)
    lengths = np.array([ptr[b] - ptr[a] for a, b in tiles], np.int64)
    entries = np.array([b - a for a, b in spans], np.int64)
    offsets = np.repeat(starts, entries)
    place = rows - offsets
    if ((place < 0) | (place >= np.repeat(lengths, entries))).any():
        raise corrupt("entries of a gene lie outside the tiles that count them")
    out = np.zeros(int(lengths.sum()), np.float32)
    out[place + np.repeat(np.cumsum(lengths) - lengths, entries)] = values
    return out
