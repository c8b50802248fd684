"""Points in memory as a section, so that graphs of them need no atlas."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import morton
from ...errors import InvalidArgument
from ...quadtree import TileTable, split, tight_boxes
from ..edges import Edges
from ..lattices.source import check_lattice
from ..planning.plan import plan_graph
from ..sources import make_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ...quadtree import Runs
    from ..spec import GraphSpec

__all__ = ["PointSection", "points_graph"]

_TILE_CELLS = 4096


@dataclass(frozen=True, slots=True)
class PointSection:
    """Points in space-filling order, tiled as a section is; 40 bytes a point."""

    xy: NDArray[np.float64]
    """(n, 2) positions, sorted."""
    order: NDArray[np.int64]
    """(n,) where each sorted point stood before; ties keep their order."""
    tiles: TileTable
    """Row ranges and tight boxes."""
    name: str = "points"
    """For messages."""

    @classmethod
    def of(cls, points: Any, tile_cells: int = _TILE_CELLS) -> PointSection:
        """Sort and tile points.

        Parameters
        ----------
        points : array (n, 2)
            Finite numbers.
        tile_cells : int
            Most points of a tile.

        Returns
        -------
        PointSection

        Raises
        ------
        InvalidArgument
            Another shape.
        InputError
            Positions that are not finite; names the first and counts them.

        Examples
        --------
        >>> PointSection.of([[3.0, 3.0], [0.0, 0.0]]).order
        array([1, 0])
        """
        xy = np.asarray(points, dtype=np.float64)
        if xy.ndim != 2 or xy.shape[1] != 2:
            raise InvalidArgument(
                f"points in a plane are wanted, shape (n, 2), but got shape {xy.shape}; pick the "
                "two coordinates"
            )
        if not len(xy):
            return cls(
                xy, np.empty(0, np.int64), TileTable(np.zeros(1, np.int64), xy.reshape(0, 4))
            )
        codes = morton.encode(xy, morton.Frame.around(xy))
        order = np.argsort(codes, kind="stable")
        xy = np.ascontiguousarray(xy[order])
        ptr = split(codes[order], tile_cells).ptr
        return cls(xy, order, TileTable(ptr, tight_boxes(xy, ptr)))

    @property
    def n_obs(self) -> int:
        """Number of points."""
        return int(self.xy.shape[0])

    def positions(self, runs: Runs | None = None) -> NDArray[np.float64]:
        """Return (m, 2) float64 positions of sorted points."""
        if runs is None:
            return self.xy
        return np.concatenate([np.empty((0, 2)), *(self.xy[a:b] for a, b in runs)])


def points_graph(
    points: Any, spec: GraphSpec, threads: int | None = None
) -> tuple[Edges, Mapping[str, str | float]]:
    """Compute a graph of points in memory, by the same code as that of a section.

    Parameters
    ----------
    points : array (n, 2)
        Finite numbers.
    spec : GraphSpec
        The graph wanted.
    threads : int, optional
        One a core by default; makes no difference to the result.

    Returns
    -------
    Edges
        n rows in the order of the points, float64 distances; 40 bytes an edge at the peak.
    mapping
        What was found out, such as the kind of a lattice.

    Raises
    ------
    InvalidArgument, InputError

    Examples
    --------
    >>> from tisseract.atlas.graph.spec import GraphSpec
    >>> edges, _ = points_graph([[0.0, 0.0], [5.0, 0.0], [1.0, 0.0]], GraphSpec.knn(1))
    >>> edges.indices.tolist(), edges.distances.tolist()
    ([2, 2, 0], [1.0, 4.0, 1.0])
    """
    from dask.system import CPU_COUNT

    section = PointSection.of(points)
    try:
        return _edges_of(section, spec, threads or CPU_COUNT)
    except InvalidArgument as error:
        # Sources speak of sections; who gave points knows of none.
        raise InvalidArgument(str(error).replace(f"section {section.name!r}", "points")) from error


def _edges_of(
    section: PointSection, spec: GraphSpec, threads: int
) -> tuple[Edges, Mapping[str, str | float]]:
    if spec.kind == "grid":
        check_lattice(section, spec.lattice or "auto")
    blocks = [[rows] for rows in pairwise(plan_graph("points", section.tiles, spec).row_ptr)]
    with ThreadPoolExecutor(threads) as pool:
        source = make_source(section, spec).prepare(blocks, pool.map)
        edges = Edges.concatenate(list(pool.map(source.edges, blocks)))
    return _unsorted(edges, section.order), source.facts


def _unsorted(edges: Edges, order: NDArray[np.int64]) -> Edges:
    """Return the edges with rows and columns numbered as the points were given."""
    n = order.size
    counts = np.empty(n, np.int64)
    counts[order] = np.diff(edges.indptr)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    rows = np.repeat(order, np.diff(edges.indptr))
    columns = order[edges.indices]
    at = np.lexsort((columns, rows))
    return Edges(indptr, columns[at].astype(np.int32), edges.distances[at])
