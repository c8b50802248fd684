"""Edges of some rows of a graph: what every kind of graph hands out, in one canonical order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import scipy.sparse
    from numpy.typing import NDArray

    from ..quadtree import Runs, TileTable
    from .lattices.scale import Run

__all__ = [
    "EdgeSource",
    "Edges",
    "PositionSource",
    "check_runs",
    "cut_runs",
    "n_rows",
    "stream_edges",
]


@dataclass(frozen=True, slots=True)
class Edges:
    """Rows of a neighborhood graph in CSR form; columns ascend within a row, none twice."""

    indptr: NDArray[np.int64]
    """(m + 1,) row i holds elements indptr[i]:indptr[i + 1]."""
    indices: NDArray[np.int32]
    """(nnz,) section rows of the neighbors."""
    distances: NDArray[np.floating]
    """(nnz,) lengths of the edges; zero between cells at the same position."""

    def to_csr(self, n_obs: int) -> scipy.sparse.csr_array:
        """Return the rows as a matrix (m, n_obs) of distances; zeros are stored."""
        from scipy.sparse import csr_array

        shape = (self.indptr.size - 1, n_obs)
        matrix = csr_array((self.distances, self.indices, self.indptr), shape=shape)
        matrix.has_sorted_indices = True
        return matrix

    @classmethod
    def concatenate(cls, parts: Sequence[Edges]) -> Edges:
        """Stack the rows of several parts."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float64))
        sizes = np.concatenate([np.diff(part.indptr) for part in parts])
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        return cls(
            indptr,
            np.concatenate([part.indices for part in parts]),
            np.concatenate([part.distances for part in parts]),
        )


class PositionSource(Protocol):
    """What a graph needs of a section."""

    @property
    def name(self) -> str:
        """Name of the section."""
        ...

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        ...

    @property
    def tiles(self) -> TileTable:
        """Row ranges and tight boxes of the tiles."""
        ...

    def positions(self, runs: Runs | None = None) -> NDArray[np.float64]:
        """Return (m, 2) float64 positions of the rows."""
        ...


class EdgeSource(Protocol):
    """Something that can compute the edges of any rows of one section.

    Thread-safe, picklable and deterministic: the same rows give the same edges, together or apart.
    A source whose rows can have far more edges than planned also has `stream`; see `stream_edges`.
    """

    @property
    def facts(self) -> Mapping[str, str | float]:
        """What `prepare` found out."""
        ...

    def prepare(self, blocks: Sequence[Runs], run: Run) -> EdgeSource:
        """Return a source that knows whatever must be known of the whole section first."""
        ...

    def edges(self, runs: Runs) -> Edges:
        """Return the edges of the rows, in row order."""
        ...


def stream_edges(
    source: EdgeSource, runs: Runs, most_edges: int
) -> tuple[NDArray[np.int64], Iterator[Edges]]:
    """Compute row pointers first, then the edges: at once, or in pieces where they are many.

    Parameters
    ----------
    source : EdgeSource
        Its `stream` is used if it has one; the edges of others are bounded by their plan.
    runs : sequence of (int, int)
        Row runs, m rows in all.
    most_edges : int
        Edges computed for a piece, where a single row has no more.

    Returns
    -------
    indptr : array (m + 1,) int64
    pieces : iterator of Edges
        Of consecutive rows; together those of all.
    """
    stream = getattr(source, "stream", None)
    if stream is not None:
        found: tuple[NDArray[np.int64], Iterator[Edges]] = stream(runs, most_edges)
        return found
    edges = source.edges(runs)
    return edges.indptr, iter([edges])


def n_rows(runs: Runs) -> int:
    """Count the rows of some runs.

    Examples
    --------
    >>> n_rows([(0, 3), (7, 8)])
    4
    """
    return sum(stop - start for start, stop in runs)


def check_runs(runs: Runs, n_obs: int) -> list[tuple[int, int]]:
    """Return row runs as integers, in order and inside the section.

    Raises
    ------
    InvalidArgument
        A run is empty the wrong way round, overlaps the one before, or leaves the section.
    """
    checked = [(int(start), int(stop)) for start, stop in runs]
    end = 0
    for start, stop in checked:
        if not end <= start <= stop <= n_obs:
            raise InvalidArgument(
                f"row runs must be ascending, disjoint and within 0..{n_obs}, but got "
                f"({start}, {stop}) after row {end}"
            )
        end = stop
    return checked


def cut_runs(runs: Runs, rows: int) -> list[list[tuple[int, int]]]:
    """Divide runs into consecutive groups of at most `rows` rows, in order.

    Examples
    --------
    >>> cut_runs([(0, 5), (8, 9)], 3)
    [[(0, 3)], [(3, 5), (8, 9)]]
    """
    groups: list[list[tuple[int, int]]] = []
    room = 0
    for start, stop in runs:
        at = start
        while at < stop:
            if room == 0:
                groups.append([])
                room = rows
            end = min(stop, at + room)
            groups[-1].append((at, end))
            room -= end - at
            at = end
    return groups
