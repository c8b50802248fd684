"""Cells and the neighbors that a computation of some hops needs: exact, one block at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..rows.file import gaps_closed
from ..rows.sparse import Csr, csr_of
from .halo_kernels import number_hop, pick_rows

__all__ = ["GraphRows", "Halo", "expand", "without_seeds"]

# Halo rows of one tile lie in a few stretches of the Morton order; joining stretches this near
# costs less than another read.
MAX_GAP = 128


class GraphRows(Protocol):
    """A neighborhood graph that hands out rows: row i lists the neighbors of cell i."""

    def rows(self, runs: Sequence[tuple[int, int]], /) -> Any:
        """Return the rows of the given runs, stacked: csr `(m, n_obs)`, any values."""
        ...


@dataclass(frozen=True, slots=True)
class Halo:
    """Some consecutive cells and every cell within some hops of them.

    Attributes
    ----------
    n_id : ndarray (n_local,) int64
        Section rows: the cells themselves first, then each further hop, sorted within a hop.
    hop_start : tuple of int
        `n_id[hop_start[h] : hop_start[h + 1]]` are the cells first met at hop h.
    adjacency : csr_array (n_inner, n_local) bool-valued float32
        Neighbors of every cell nearer than the last hop, in local numbers.
    """

    n_id: NDArray[np.int64]
    hop_start: tuple[int, ...]
    adjacency: Csr

    @property
    def n_own(self) -> int:
        """How many cells the computation is for."""
        return self.hop_start[1]


def _graph_rows(
    graph: GraphRows, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Neighbor counts and neighbors (section rows) of the given sorted rows."""
    runs = gaps_closed(rows, MAX_GAP)
    if not runs:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32)
    matrix = graph.rows(runs)
    indices = matrix.indices.astype(np.int32, copy=False)
    count = np.diff(matrix.indptr).astype(np.int64)
    if len(count) == len(rows):
        return count, indices
    # rows of the gaps were read too
    length = np.array([stop - start for start, stop in runs])
    before = np.concatenate([[0], np.cumsum(length)[:-1]])
    shift = np.array([start for start, _ in runs]) - before
    run = np.searchsorted([stop for _, stop in runs], rows, side="right")
    at = rows - shift[run]
    out = np.empty(int(count[at].sum()), dtype=np.int32)
    pick_rows(matrix.indptr.astype(np.int64), indices, at, out)
    return count[at], out


def expand(graph: GraphRows, start: int, stop: int, hops: int) -> Halo:
    """Collect rows `start:stop` of a section with everything within `hops` edges.

    Parameters
    ----------
    graph : GraphRows
        Neighbors by row.
    start, stop : int
        The cells wanted.
    hops : int
        Edges one may walk, at least 0.

    Returns
    -------
    Halo

    Raises
    ------
    InvalidArgument
        When the run is empty or `hops` negative.

    Notes
    -----
    Memory: about 28 bytes per edge among the collected cells while a hop is numbered, 12 after.
    """
    if stop <= start or hops < 0:
        raise InvalidArgument(
            f"wanted a run of rows and hops >= 0, but got rows {start}:{stop}, {hops} hops"
        )
    frontier = np.arange(start, stop, dtype=np.int64)
    layers, hop_start = [frontier], [0, len(frontier)]
    counts: list[NDArray[np.int64]] = [np.zeros(1, dtype=np.int64)]
    columns: list[NDArray[np.int32]] = [np.zeros(0, dtype=np.int32)]
    for _ in range(hops):
        count, neighbors = _graph_rows(graph, frontier)
        local = np.empty_like(neighbors)
        known = np.concatenate(layers[1:]) if len(layers) > 1 else frontier[:0]
        frontier = number_hop(start, stop, hop_start[-1], known, neighbors, local)
        counts.append(count)
        columns.append(local)
        layers.append(frontier)
        hop_start.append(hop_start[-1] + len(frontier))
    n_id, inner = np.concatenate(layers), np.concatenate(columns)
    indptr = np.cumsum(np.concatenate(counts))
    data = np.ones(len(inner), dtype=np.float32)
    shape = (len(indptr) - 1, len(n_id))
    return Halo(n_id, tuple(hop_start), csr_of(data, inner, indptr.astype(np.int32), shape))


def without_seeds(halo: Halo, kept: NDArray[np.bool_]) -> Halo:
    """Leave out some of a halo's own cells: those without neighbors that are nobody's.

    Parameters
    ----------
    halo : Halo
    kept : ndarray (n_own,) bool
        Own cells that stay; no edge may touch the others.

    Returns
    -------
    Halo
        The same one where all stay.
    """
    if kept.all():
        return halo
    stays = np.concatenate([kept, np.ones(len(halo.n_id) - halo.n_own, dtype=np.bool_)])
    number = np.cumsum(stays) - 1
    adjacency = halo.adjacency
    inner = np.concatenate([stays[: adjacency.shape[0]], [True]])
    # their rows are empty: nothing but their pointers goes
    indptr = adjacency.indptr[inner]
    columns = number[adjacency.indices].astype(adjacency.indices.dtype)
    n_id, gone = halo.n_id[stays], int((~kept).sum())
    hop_start = (0, *(at - gone for at in halo.hop_start[1:]))
    rest = csr_of(adjacency.data, columns, indptr, (len(indptr) - 1, len(n_id)))
    return Halo(n_id, hop_start, rest)
