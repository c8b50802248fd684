"""Neighbors between registered serial sections: lazy, one graph for each ordered pair."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...errors import InvalidArgument
from ...memory import format_bytes
from ..edges import Edges, check_runs, cut_runs
from ..order_statistic import run_serially
from ..row_choice import rows_of_graph
from ..search.radius_source import check_radius
from .pairs import ZPair, choose_pairs
from .placed import check_transforms, place
from .plan import plan_pair
from .source import ZKnnEdges, ZRadiusEdges

if TYPE_CHECKING:
    import dask.array
    import scipy.sparse
    from numpy.typing import ArrayLike

    from ...quadtree import Runs
    from ...snapshot import DerivedEntry
    from ...store import AtlasStore
    from ..edges import PositionSource
    from ..order_statistic import Run
    from ..planning.plan import GraphPlan
    from ..row_choice import RowChoice
    from .placed import Affine

__all__ = ["ZGraph", "ZNeighbors", "z_neighbors"]


@dataclass(frozen=True, slots=True)
class ZGraph:
    """A lazy graph between two sections: rows are cells of one, columns cells of the other.

    Element (i, j) is the distance in space from cell i to its neighbor j, in micrometers; zero,
    and stored, where they share a position.
    """

    pair: ZPair
    """The sections and the gap between them."""
    inputs: Mapping[str, str]
    """Attempts of both sections, by their names in the catalog."""
    n_columns: int
    """Cells of the neighbor."""
    plan: GraphPlan
    """What building all of it takes."""
    source: ZKnnEdges | ZRadiusEdges
    """What computes the edges."""

    @property
    def n_obs(self) -> int:
        """Number of rows."""
        return self.plan.n_obs

    @property
    def row_ptr(self) -> tuple[int, ...]:
        """Borders of the blocks."""
        return self.plan.row_ptr

    def edges(self, runs: Runs) -> Edges:
        """Compute the edges of some rows."""
        # In pieces of a block's size, so that only the result grows with what is asked.
        largest = max(stop - start for start, stop in pairwise(self.row_ptr))
        parts = cut_runs(check_runs(runs, self.n_obs), largest)
        return Edges.concatenate([self.source.edges(part) for part in parts])

    def rows(self, rows: RowChoice) -> scipy.sparse.csr_array:
        """Compute the edges of some rows.

        Parameters
        ----------
        rows : slice, sequence of (int, int), array of int, or array (n_obs,) bool
            Consecutive rows; ascending, disjoint row runs; rows in any order; a mask. m rows in
            all.

        Returns
        -------
        csr_array (m, n_columns) float64
            Columns ascend within a row.

        Raises
        ------
        InvalidArgument
            Rows outside of the section, or runs out of order.
        """
        return rows_of_graph(self.edges, rows, self.n_obs, self.n_columns)

    def tile(self, tile: int) -> scipy.sparse.csr_array:
        """Compute the edges of the cells of one tile, (cells of the tile, n_columns)."""
        if not 0 <= tile < self.plan.n_tiles:
            raise InvalidArgument(
                f"a tile of section {self.pair.section!r} is wanted, 0 to {self.plan.n_tiles - 1}, "
                f"but got {tile}"
            )
        return self.rows(self.source.section.tiles.runs([tile]))

    def to_dask(self) -> dask.array.Array:
        """Return the graph as a Dask array of sparse blocks; see `SectionGraph.to_dask`."""
        from dask.delayed import delayed

        from ..section_graph import dask_rows

        return dask_rows(delayed(_prepared)(self), self.row_ptr, self.n_columns)

    def compute(self) -> scipy.sparse.csr_array:
        """Compute the whole graph, (n_obs, n_columns); 12 bytes an edge, twice that at the end."""
        return self.rows([(0, self.n_obs)])

    def check(self) -> None:
        """Nothing is refused later than it was described."""

    def prepare(self, run: Run = run_serially) -> ZGraph:
        """Nothing has to be known of the whole section first; see `SectionGraph.prepare`."""
        del run
        return self

    def __str__(self) -> str:
        return str(self.plan)

    def __repr__(self) -> str:
        return f"<lazy {self.plan}>"


@dataclass(frozen=True, slots=True)
class ZNeighbors:
    """Lazy graphs between the sections of a series, one for each ordered pair."""

    store: AtlasStore
    """The atlas, for `write`."""
    graphs: Mapping[tuple[str, str], ZGraph]
    """The graph of each pair, (section, neighbor), in order."""

    @property
    def pairs(self) -> tuple[ZPair, ...]:
        """The pairs, in order."""
        return tuple(graph.pair for graph in self)

    def __getitem__(self, pair: tuple[str, str]) -> ZGraph:
        if pair not in self.graphs:
            raise InvalidArgument(
                f"one of {len(self.graphs)} pairs of neighboring sections is wanted, but got "
                f"{pair!r}; `pairs` lists them"
            )
        return self.graphs[pair]

    def __iter__(self) -> Iterator[ZGraph]:
        return iter(self.graphs.values())

    def __len__(self) -> int:
        return len(self.graphs)

    def rows(self, section: str, neighbor: str, rows: RowChoice) -> scipy.sparse.csr_array:
        """Compute some rows of the graph of a pair; see `ZGraph.rows`."""
        return self[section, neighbor].rows(rows)

    def tile(self, section: str, neighbor: str, tile: int) -> scipy.sparse.csr_array:
        """Compute the rows of one tile of the graph of a pair; see `ZGraph.tile`."""
        return self[section, neighbor].tile(tile)

    def to_dask(self, section: str, neighbor: str) -> dask.array.Array:
        """Return the graph of a pair as a Dask array; see `SectionGraph.to_dask`."""
        return self[section, neighbor].to_dask()

    def write(self, key: str = "z", **options: Any) -> list[DerivedEntry]:
        """Build all graphs out of core and commit them; see `write_z_graphs` for the options."""
        from .build import write_z_graphs

        return write_z_graphs(self.store, list(self), key, **options)

    def explain(self) -> str:
        """Describe the sum and the plan of every pair."""
        return "\n".join([str(self), *(str(graph.plan) for graph in self)])

    def __str__(self) -> str:
        plans = [graph.plan for graph in self]
        about = "at most" if all(plan.bounded for plan in plans) else "about"
        written = sum(plan.bytes_written for plan in plans)
        return (
            f"z-neighbors of {len(plans)} pairs of sections\n"
            f"  {sum(plan.n_tiles for plan in plans):,} tiles -> "
            f"{sum(plan.n_tasks for plan in plans):,} tasks\n"
            f"  reads about {format_bytes(sum(plan.bytes_read for plan in plans))}, writes {about} "
            f"{format_bytes(written)} ({sum(plan.edges for plan in plans):,} edges)\n"
            f"  projected memory of a task {format_bytes(max(plan.task_bytes for plan in plans))}"
        )

    def __repr__(self) -> str:
        return f"<lazy {self}>"


def z_neighbors(
    store: AtlasStore,
    n_neighs: int | None = None,
    radius: float | None = None,
    *,
    sections: Iterable[str] | None = None,
    pairs: Iterable[tuple[str, str]] | None = None,
    max_gap_um: float | None = None,
    transforms: Mapping[str, ArrayLike] | None = None,
) -> ZNeighbors:
    """Describe neighbors between registered serial sections; nothing is computed yet.

    Each cell of a section gets its nearest cells in a neighboring section, or all within a radius,
    by the distance in space; the heights are the column `z_um` of the sample sheet. Exact, as
    graphs within a section are; ties go to the smaller x, then y, then row. A pair is a graph of
    its own in each direction: of the k nearest, neither is the other's transpose.

    Parameters
    ----------
    store : AtlasStore
        The atlas. x and y of all sections are taken to be registered: in one frame.
    n_neighs : int, optional
        Neighbors of each cell in each neighboring section.
    radius : float, optional
        Instead: greatest distance in space, micrometers.
    sections, pairs, max_gap_um
        Which sections are neighbors; see `choose_pairs`.
    transforms : mapping of str to (2, 3) array, optional
        Affine maps of sections into the common frame, x' = a x + b y + c and y' = d x + e y + f,
        in micrometers.

    Returns
    -------
    ZNeighbors

    Raises
    ------
    InvalidArgument, SectionNotFound, UnitUnknown
    """
    spec = _spec(n_neighs, radius)
    entries = store.snapshot.sections
    chosen = choose_pairs(entries, sections=sections, pairs=pairs, max_gap_um=max_gap_um)
    affines = check_transforms(transforms, entries)
    graphs = {
        (pair.section, pair.neighbor): _describe(store, pair, spec, affines) for pair in chosen
    }
    return ZNeighbors(store, graphs)


def _prepared(graph: ZGraph) -> ZGraph:
    return graph.prepare()


def _spec(n_neighs: int | None, radius: float | None) -> dict[str, int | float]:
    """Parameters of the search by name: exactly one."""
    if (n_neighs is None) == (radius is None):
        raise InvalidArgument(
            f"either n_neighs or radius is wanted, but got n_neighs={n_neighs!r} and "
            f"radius={radius!r}"
        )
    if radius is not None:
        shortest, longest = check_radius(radius, "um")
        if shortest > 0.0:
            raise InvalidArgument(f"one radius is wanted between sections, but got {radius!r}")
        return {"radius": longest}
    if isinstance(n_neighs, bool) or not isinstance(n_neighs, int | np.integer) or n_neighs < 1:
        raise InvalidArgument(
            f"n_neighs must be a whole number of at least 1, but got {n_neighs!r}"
        )
    return {"n_neighs": int(n_neighs)}


def _describe(
    store: AtlasStore, pair: ZPair, spec: Mapping[str, int | float], affines: Mapping[str, Affine]
) -> ZGraph:
    placed = [
        place(cast("PositionSource", store.section(name)), affines.get(name))
        for name in (pair.section, pair.neighbor)
    ]
    source: ZKnnEdges | ZRadiusEdges
    if "radius" in spec:
        source = ZRadiusEdges(placed[0], placed[1], float(spec["radius"]), pair.gap_um)
    else:
        source = ZKnnEdges(placed[0], placed[1], int(spec["n_neighs"]), pair.gap_um)
    maps = {
        name: json.dumps(affines[section])
        for name, section in (("transform", pair.section), ("transform_to", pair.neighbor))
        if section in affines
    }
    parameters = {**spec, "gap_um": pair.gap_um, **maps}
    inputs = {
        f"section:{name}": store.section(name).attempt for name in (pair.section, pair.neighbor)
    }
    plan = plan_pair(source, parameters)
    return ZGraph(pair, inputs, placed[1].n_obs, plan, source)
