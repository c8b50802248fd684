"""A neighborhood graph that is not there yet: says what it would cost, computes what is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, cast

from ..errors import InvalidArgument
from .edges import Edges, check_runs, cut_runs
from .knn_graph import KnnEdges
from .lattice_graph import LatticeEdges
from .lattice_scale import run_serially
from .plan import plan_grid, plan_knn
from .squidpy_form import to_squidpy

if TYPE_CHECKING:
    import dask.array
    import scipy.sparse

    from ..quadtree import Runs
    from ..section import Section
    from ..snapshot import DerivedEntry
    from ..store import AtlasStore
    from .edges import EdgeSource, PositionSource
    from .lattice_scale import Run
    from .plan import GraphPlan
    from .squidpy_form import SquidpyGraph

__all__ = ["NeighborGraph", "grid", "knn"]


@dataclass(frozen=True, slots=True)
class NeighborGraph:
    """A lazy graph of one section: rows and columns are the section's rows.

    Element (i, j) is the distance from cell i to its neighbor j; zero, and stored, where two
    cells share a position. Rows come out the same whichever way they are asked for.
    """

    store: AtlasStore
    """The atlas, for `write`."""
    section: Section
    """The section."""
    plan: GraphPlan
    """What building all of it takes."""
    source: EdgeSource
    """What computes the edges."""

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.plan.n_obs

    def rows(self, runs: Runs) -> scipy.sparse.csr_array:
        """Compute the edges of some rows.

        Parameters
        ----------
        runs : sequence of (int, int)
            Ascending, disjoint row runs; m rows in all.

        Returns
        -------
        csr_array (m, n_obs) float64
            Columns ascend within a row.

        Raises
        ------
        InvalidArgument
            Runs out of order or outside of the section.
        """
        return self._edges(check_runs(runs, self.n_obs)).to_csr(self.n_obs)

    def tile(self, tile: int) -> scipy.sparse.csr_array:
        """Compute the edges of the cells of one tile, (cells of the tile, n_obs)."""
        n_tiles = self.plan.n_tiles
        if not 0 <= tile < n_tiles:
            raise InvalidArgument(
                f"a tile of section {self.plan.section!r} is wanted, 0 to {n_tiles - 1}, but got "
                f"{tile}"
            )
        return self.rows(self.section.tiles.runs([tile]))

    def compute(self) -> scipy.sparse.csr_array:
        """Compute the whole graph, (n_obs, n_obs); 12 bytes an edge, twice that at the end."""
        return self.rows([(0, self.n_obs)])

    def to_dask(self) -> dask.array.Array:
        """Return the graph as a Dask array of sparse blocks, one a task, (n_obs, n_obs).

        Returns
        -------
        dask.array.Array
            Each chunk is a csr_array (rows of the block, n_obs).
        """
        import dask.array as da
        import numpy as np
        from dask.delayed import delayed
        from scipy.sparse import csr_array

        ready = delayed(_prepared)(self)
        ptr = self.plan.row_ptr
        meta = csr_array((0, 0), dtype=np.float64)
        blocks = [
            da.from_delayed(
                delayed(_block_rows)(ready, (start, stop)),
                shape=(stop - start, self.n_obs),
                dtype=np.float64,
                meta=meta,
            )
            for start, stop in pairwise(ptr)
        ]
        return da.concatenate(blocks, axis=0)

    def to_squidpy(self, *, set_diag: bool = False, key_added: str = "spatial") -> SquidpyGraph:
        """Compute everything, in squidpy's form: the same edges, distances and `uns` entry.

        Parameters
        ----------
        set_diag : bool
            Ones on the diagonal of the connectivities.
        key_added : str
            Prefix of the keys that the `uns` entry names.
        """
        ready = self.prepare()
        edges = ready._edges([(0, self.n_obs)])
        parameters = ready.squidpy_parameters()
        return to_squidpy(edges, self.plan.kind, parameters, set_diag=set_diag, key_added=key_added)

    def write(self, key: str = "spatial", **options: Any) -> DerivedEntry:
        """Build the graph out of core and commit it; see `build_graphs` for the options."""
        from .build import write_graphs

        return write_graphs(self.store, [self], key, **options)[0]

    def explain(self) -> str:
        """Describe the plan and every block of it."""
        lines = [str(self.plan)]
        ptr = self.plan.row_ptr
        for b, (first, stop) in enumerate(self.plan.blocks):
            lines.append(f"  block {b}: tiles {first}:{stop}, rows {ptr[b]:,}:{ptr[b + 1]:,}")
        return "\n".join(lines)

    def prepare(self, run: Run = run_serially) -> NeighborGraph:
        """Find out what has to be known of the whole section first (a lattice's scale)."""
        ptr = self.plan.row_ptr
        blocks = [[rows] for rows in pairwise(ptr)]
        source = self.source.prepare(blocks, run)
        plan = replace(self.plan, facts=dict(source.facts), passes=1)
        return replace(self, source=source, plan=plan)

    def squidpy_parameters(self) -> dict[str, Any]:
        """Parameters by squidpy's names, once prepared."""
        found = self.plan.facts.get("lattice_found")
        n_neighs = {"hex": 6, "square": 4}.get(str(found))
        extra = {} if n_neighs is None else {"n_neighs": n_neighs}
        return {**self.plan.parameters, **extra}

    def _edges(self, runs: Runs) -> Edges:
        ready = self.prepare()
        # In pieces of a block's size, so that only the result grows with what is asked.
        ptr = self.plan.row_ptr
        largest = max(b - a for a, b in pairwise(ptr))
        return Edges.concatenate([ready.source.edges(part) for part in cut_runs(runs, largest)])

    def __str__(self) -> str:
        return str(self.plan)

    def __repr__(self) -> str:
        return f"<lazy {self.plan}>"


def _prepared(graph: NeighborGraph) -> NeighborGraph:
    return graph.prepare()


def _block_rows(graph: NeighborGraph, rows: tuple[int, int]) -> scipy.sparse.csr_array:
    return graph.source.edges([rows]).to_csr(graph.n_obs)


def knn(store: AtlasStore, section: str, n_neighs: int = 6) -> NeighborGraph:
    """Describe the graph of each cell's k nearest others; nothing is computed yet.

    Exact: the same edges as `squidpy.gr.spatial_neighbors_knn` wherever the k-th distance is not
    tied, and a defined choice where it is: ties go to the smaller x, then y, then row. Works in
    any unit, also an unknown one. Cells at the same position are neighbors at distance zero.
    With n <= k cells, all others are neighbors (squidpy raises).

    Parameters
    ----------
    store : AtlasStore
        The atlas.
    section : str
        Name of the section.
    n_neighs : int
        Neighbors of each cell, at least 1.

    Returns
    -------
    NeighborGraph

    Raises
    ------
    SectionNotFound, InvalidArgument
    """
    check_count("n_neighs", n_neighs)
    opened = store.section(section)
    plan = plan_knn(section, opened.tiles, n_neighs=int(n_neighs))
    return NeighborGraph(store, opened, plan, KnnEdges(_positions(opened), int(n_neighs)))


def grid(
    store: AtlasStore,
    section: str,
    kind: Literal["hex", "square", "auto"] = "auto",
    n_rings: int = 1,
) -> NeighborGraph:
    """Describe the graph of neighbors on a lattice of spots or bins; nothing is computed yet.

    The same edges and ring numbers as `squidpy.gr.spatial_neighbors_grid` with six neighbors
    (hex) or four (square). Distances are ring numbers, 1.0 to `n_rings`.

    Parameters
    ----------
    store : AtlasStore
        The atlas.
    section : str
        Name of the section.
    kind : {'hex', 'square', 'auto'}
        Hexagonal (Visium), square (Spatial Transcriptomics, Visium HD bins), or told from the
        positions.
    n_rings : int
        Rings of neighbors, at least 1.

    Returns
    -------
    NeighborGraph

    Raises
    ------
    SectionNotFound, InvalidArgument
    """
    if kind not in ("hex", "square", "auto"):
        raise InvalidArgument(f"a lattice 'hex', 'square' or 'auto' is wanted, but got {kind!r}")
    check_count("n_rings", n_rings)
    opened = store.section(section)
    plan = plan_grid(section, opened.tiles, lattice=kind, n_rings=int(n_rings))
    return NeighborGraph(store, opened, plan, LatticeEdges(_positions(opened), kind, int(n_rings)))


def _positions(section: Section) -> PositionSource:
    # A section fits the protocol; type checkers differ on whether a cached property does.
    return cast("PositionSource", section)


def check_count(name: str, value: int) -> None:
    """Raise `InvalidArgument` unless a count is a whole number of at least one."""
    import operator

    try:
        count = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = 0
    if count < 1:
        raise InvalidArgument(f"{name} must be a whole number of at least 1, but got {value!r}")
