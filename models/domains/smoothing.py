"""Averages over the neighborhood, streamed: a block of cells and its exact halo at a time.

A cell's features become ``[mean of itself and hop 1, mean of hop 2, ..., mean of hop h]``. A shell
holds the cells first met at that hop, so a boundary two cells away shows in the second shell alone.
The cell itself enters only through the first mean: alone it says which type of cell this is, and a
mixture then finds cell types instead of places (`docs/decisions/003-domain-baseline.md`).
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..rows.file import RowFile
from ..rows.sparse import selector
from ..sampling.neighborhood import GraphRows, Halo, expand, hop_shells

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["majority", "neighborhood_mean", "smooth_section", "smoothed"]

BLOCK_ROWS = 16_384


def smoothed(halo: Halo, values: NDArray[np.float32], hops: int) -> NDArray[np.float32]:
    """Smooth the features of a halo's own cells.

    Parameters
    ----------
    halo : Halo
        At least `hops` hops wide.
    values : ndarray (n_local, d) float32
        Features of all cells of the halo, in its order.
    hops : int
        At least 1.

    Returns
    -------
    ndarray (n_own, hops * d) float32
        Mean of the cell and hop 1, then of each further shell.
    """
    shells = hop_shells(halo, hops)
    own = values[: halo.n_own]
    # the first shell lacks the cell itself: put it back with the weight of one cell
    met = np.diff(shells[0].indptr)[:, None].astype(np.float32)
    first = (own + met * (shells[0] @ values)) / (1.0 + met)
    return np.concatenate([first, *(s @ values for s in shells[1:])], axis=1).astype(np.float32)


def neighborhood_mean(halo: Halo, values: NDArray[np.float32], hops: int) -> NDArray[np.float32]:
    """Average over every cell within some hops, the cell itself included.

    Parameters
    ----------
    halo : Halo
        At least `hops` hops wide.
    values : ndarray (n_local, d) float32
    hops : int

    Returns
    -------
    ndarray (n_own, d) float32
    """
    total = values[: halo.n_own].astype(np.float32, copy=True)
    cells = np.ones((halo.n_own, 1), dtype=np.float32)
    for shell in hop_shells(halo, hops):
        met = np.diff(shell.indptr)[:, None].astype(np.float32)
        total += met * (shell @ values)
        cells += met
    return np.asarray(total / cells, dtype=np.float32)


def smooth_section(
    graph: GraphRows, table: RowFile, *, hops: int, path: "Path", block_rows: int = BLOCK_ROWS
) -> RowFile:
    """Smooth all rows of a table over a section's graph, then center them.

    Parameters
    ----------
    graph : GraphRows
    table : RowFile
        `(n_obs, d)`.
    hops : int
        Shells.
    path : Path
        Scratch file to create.
    block_rows : int
        Cells in memory at once, beside their halo.

    Returns
    -------
    RowFile
        `(n_obs, hops * d)`, each column of mean zero; the caller closes it.

    Notes
    -----
    The result does not depend on `block_rows` but for rounding in the column means.
    Memory: block and halo, 4 bytes x (1 + hops) d each, and 24 bytes per edge.
    """
    out = RowFile(path, table.n_rows, hops * table.width)
    total = np.zeros(out.width)
    for start in range(0, table.n_rows, block_rows):
        halo = expand(graph, start, min(start + block_rows, table.n_rows), hops)
        block = smoothed(halo, table.take(halo.n_id), hops)
        total += block.sum(axis=0, dtype=np.float64)
        out.write(start, block)
    mean = total / max(table.n_rows, 1)
    start = 0
    for block in out.blocks(block_rows):
        out.write(start, block - mean)
        start += len(block)
    return out


def majority(
    graph: GraphRows,
    codes: NDArray[np.int16],
    n_categories: int,
    *,
    hops: int = 2,
    block_rows: int = BLOCK_ROWS,
) -> NDArray[np.int16]:
    """Give each cell the most frequent label within some hops, itself included.

    Parameters
    ----------
    graph : GraphRows
    codes : ndarray (n,) int16
        Label of each cell of the section.
    n_categories : int
    hops : int
        2 hops of a 6-neighbor graph are about 19 cells.
    block_rows : int
        Cells in memory at once.

    Returns
    -------
    ndarray (n,) int16
        Ties keep the cell's own label where it is among the winners, else take the smallest code.
    """
    out = np.empty_like(codes)
    for start in range(0, len(codes), block_rows):
        stop = min(start + block_rows, len(codes))
        halo = expand(graph, start, stop, hops)
        local = codes[halo.n_id]
        hot = selector(np.arange(len(local)), local, (len(local), n_categories))
        own = np.arange(stop - start)
        # half a vote more than one decides ties for the cell's own label
        votes = np.zeros((stop - start, n_categories), dtype=np.float32)
        votes[own, local[: stop - start]] = 1.5
        for shell in hop_shells(halo, hops):
            cells = np.diff(shell.indptr)[:, None]
            votes += np.rint((shell @ hot).toarray() * cells)
        out[start:stop] = votes.argmax(axis=1)
    return out
