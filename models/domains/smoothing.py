"""Averages over the neighborhood, streamed: a block of cells and its exact halo at a time.

A cell's features become ``[mean of itself and hop 1, mean of hop 2, ..., mean of hop h]``. A shell
holds the cells first met at that hop, so a boundary two cells away shows in the second shell alone.
The cell itself enters only through the first mean: alone it says which type of cell this is, and a
mixture then finds cell types instead of places (`docs/decisions/003-domain-baseline.md`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..rows.file import RowFile
from ..sampling.halo_kernels import ball_means, ball_votes, shell_means
from ..sampling.neighborhood import GraphRows, Halo, expand

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
    out = np.empty((halo.n_own, hops * values.shape[1]), dtype=np.float32)
    shell_means(*_rows(halo, hops), values, hops, out)
    return out


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
    out = np.empty((halo.n_own, values.shape[1]), dtype=np.float32)
    ball_means(*_rows(halo, hops), values, hops, out)
    return out


def _rows(halo: Halo, hops: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Row pointers and columns of a halo that is wide enough for some hops."""
    width = len(halo.hop_start) - 2
    if not 1 <= hops <= width:
        raise InvalidArgument(
            f"wanted a halo of {hops} hops (at least one), but got one of {width}; "
            "expand the rows further"
        )
    inner = halo.adjacency
    return inner.indptr.astype(np.int64), inner.indices.astype(np.int32, copy=False)


def smooth_section(
    graph: GraphRows,
    table: RowFile,
    *,
    hops: int,
    path: "Path",
    mask: NDArray[np.bool_] | None = None,
    block_rows: int = BLOCK_ROWS,
    done: Callable[[int], None] | None = None,
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
    mask : ndarray (n_obs,) bool, optional
        Cells that the column means are taken over; all without.
    block_rows : int
        Cells in memory at once, beside their halo.
    done : callable, optional
        Called with the cells of each block.

    Returns
    -------
    RowFile
        `(n_obs, hops * d)`, each column of mean zero; the caller closes it.

    Notes
    -----
    The result does not depend on `block_rows` but for rounding in the column means.
    Memory: block and halo, 4 bytes x (1 + hops) d each, and 24 bytes per edge.
    """

    def block_of(start: int) -> NDArray[np.float32]:
        halo = expand(graph, start, min(start + block_rows, table.n_rows), hops)
        return smoothed(halo, table.take(halo.n_id), hops)

    out = RowFile(path, table.n_rows, hops * table.width)
    return out.fill_centered(map(block_of, range(0, table.n_rows, block_rows)), mask, done)


def majority(
    graph: GraphRows,
    codes: NDArray[np.int16],
    n_categories: int,
    *,
    hops: int = 2,
    block_rows: int = BLOCK_ROWS,
    done: Callable[[int], None] | None = None,
) -> NDArray[np.int16]:
    """Give each cell the most frequent label within some hops, itself included.

    Parameters
    ----------
    graph : GraphRows
    codes : ndarray (n,) int16
        Label of each cell of the section; -1 for cells without one, which stay so. The graph must
        not name them as neighbors of others.
    n_categories : int
    hops : int
        2 hops of a 6-neighbor graph are about 19 cells.
    block_rows : int
        Cells in memory at once.
    done : callable, optional
        Called with the cells of each block.

    Returns
    -------
    ndarray (n,) int16
        Ties keep the cell's own label where it is among the winners, else take the smallest code.
    """
    out = np.empty_like(codes)
    none = n_categories  # a category of their own, of cells without a label
    for start in range(0, len(codes), block_rows):
        stop = min(start + block_rows, len(codes))
        halo = expand(graph, start, stop, hops)
        near = codes[halo.n_id]
        near[near < 0] = none
        ball_votes(*_rows(halo, hops), near, none + 1, hops, out[start:stop])
        if done is not None:
            done(stop - start)
    out[codes < 0] = -1
    return out
