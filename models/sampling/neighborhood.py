"""Cells and the neighbors that a computation of some hops needs: exact, one block at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..rows.file import gaps_closed
from ..rows.sparse import Csr, as_csr, csr_of

__all__ = ["GraphRows", "Halo", "expand", "hop_shells"]

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
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Neighbor counts and neighbors (section rows) of the given sorted rows."""
    runs = gaps_closed(rows, MAX_GAP)
    if not runs:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    covered = np.concatenate([np.arange(a, b) for a, b in runs])
    matrix = graph.rows(runs)
    if len(covered) != len(rows):
        matrix = matrix[np.searchsorted(covered, rows)]
    return np.diff(matrix.indptr).astype(np.int64), matrix.indices.astype(np.int64)


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
    Memory: about 20 bytes per edge among the collected cells.
    """
    if stop <= start or hops < 0:
        raise InvalidArgument(
            f"wanted a run of rows and hops >= 0, but got rows {start}:{stop}, {hops} hops"
        )
    own = np.arange(start, stop, dtype=np.int64)
    known, frontier = own, own
    layers, hop_start = [own], [0, len(own)]
    counts: list[NDArray[np.int64]] = []
    columns: list[NDArray[np.int64]] = []
    for _ in range(hops):
        count, neighbors = _graph_rows(graph, frontier)
        counts.append(count)
        columns.append(neighbors)
        frontier = np.setdiff1d(neighbors, known)
        known = np.union1d(known, frontier)
        layers.append(frontier)
        hop_start.append(hop_start[-1] + len(frontier))
    n_id = np.concatenate(layers)
    order = np.argsort(n_id, kind="stable")
    flat = np.concatenate(columns) if columns else np.zeros(0, dtype=np.int64)
    local = order[np.searchsorted(n_id[order], flat)].astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts) if counts else own[:0])])
    data = np.ones(len(local), dtype=np.float32)
    shape = (len(indptr) - 1, len(n_id))
    adjacency = csr_of(data, local, indptr.astype(np.int32), shape)
    return Halo(n_id, tuple(hop_start), adjacency)


def hop_shells(halo: Halo, hops: int) -> list[Csr]:
    """Rows that average over the cells first met at hop 1, 2, ..., for the halo's own cells.

    Parameters
    ----------
    halo : Halo
        At least `hops` hops wide.
    hops : int
        Shells wanted.

    Returns
    -------
    list of csr_array (n_own, n_local) float32
        Rows sum to one; a cell with an empty shell averages over itself, so that a lone cell
        keeps its own profile instead of turning into zeros.

    Raises
    ------
    InvalidArgument
        When the halo is narrower than `hops`.
    """
    if len(halo.hop_start) - 2 < hops:
        raise InvalidArgument(
            f"wanted a halo of {hops} hops, but got one of {len(halo.hop_start) - 2}; "
            "expand the rows further"
        )
    n_own, n_local = halo.n_own, len(halo.n_id)
    inner = halo.adjacency
    indptr = np.pad(inner.indptr, (0, n_local - inner.shape[0]), "edge")
    square = csr_of(inner.data, inner.indices, indptr, (n_local, n_local))
    itself = as_csr(sp.eye_array(n_own, n_local, dtype=np.float32, format="csr"))
    visited, frontier = itself, itself
    shells: list[Csr] = []
    for _ in range(hops):
        reached = as_csr(frontier @ square)
        reached.data[:] = 1.0
        fresh = as_csr(reached - reached.multiply(visited))
        fresh.eliminate_zeros()
        visited = as_csr(visited + fresh)
        frontier = fresh
        shells.append(_averaging(fresh, itself))
    return shells


def _averaging(pattern: Csr, itself: Csr) -> Csr:
    size = np.diff(pattern.indptr)
    weight = 1.0 / np.maximum(size, 1).astype(np.float32)
    scaled = csr_of(np.repeat(weight, size), pattern.indices, pattern.indptr, pattern.shape)
    empty = sp.diags_array((size == 0).astype(np.float32), format="csr")
    return as_csr(scaled + empty @ itself)
