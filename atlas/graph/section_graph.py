"""The graph of one section, not there yet: says what it would cost, computes what is asked."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from ..errors import InvalidArgument
from .edges import Edges, check_runs, cut_runs
from .interchange.squidpy_form import to_squidpy
from .lattices.scale import run_serially
from .lengths import unit_of
from .planning.plan import plan_graph
from .row_choice import rows_of_graph
from .sources import kept_cells, make_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import dask.array
    import scipy.sparse

    from ..quadtree import Runs
    from ..section import Section
    from ..snapshot import DerivedEntry
    from ..store import AtlasStore
    from .edges import EdgeSource, PositionSource
    from .interchange.squidpy_form import SquidpyGraph
    from .lattices.scale import Run
    from .planning.plan import GraphPlan
    from .row_choice import RowChoice
    from .spec import GraphSpec, ParameterValue
    from .wrapped.mask import Mask

__all__ = ["SectionGraph", "dask_rows", "describe_section"]


class _Once:
    """What `prepare` made, kept so that it is made once; travels without its lock."""

    def __init__(self, source: EdgeSource | None = None) -> None:
        self.source = source
        self.lock = threading.Lock()

    def __reduce__(self) -> tuple[type[_Once], tuple[EdgeSource | None]]:
        return _Once, (self.source,)


@dataclass(frozen=True, slots=True)
class SectionGraph:
    """A lazy graph of one section: rows and columns are the section's rows.

    Element (i, j) is the distance from cell i to its neighbor j; zero, and stored, where two
    cells share a position. Rows come out the same whichever way they are asked for. Thread-safe.
    """

    store: AtlasStore
    """The atlas, for `write`."""
    section: Section
    """The section."""
    spec: GraphSpec
    """What graph it is."""
    plan: GraphPlan
    """What building all of it takes."""
    source: EdgeSource
    """What computes the edges."""
    chosen_by: Mapping[str, str] = field(default_factory=dict)
    """Derived data that the filter of its cells has read, and their attempts."""
    _once: _Once = field(default_factory=_Once, repr=False, compare=False)

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.plan.n_obs

    @property
    def inputs(self) -> dict[str, str]:
        """All that the graph is computed from, by name, and the attempts of these."""
        return {f"section:{self.plan.section}": self.section.attempt, **self.chosen_by}

    @property
    def row_ptr(self) -> tuple[int, ...]:
        """Borders of the blocks: block b is rows row_ptr[b]:row_ptr[b + 1]."""
        return self.plan.row_ptr

    def edges(self, runs: Runs) -> Edges:
        """Compute the edges of some rows; see `rows`. Distances are float64."""
        checked = check_runs(runs, self.n_obs)
        source = self._ready()
        # In pieces of a block's size, so that only the result grows with what is asked.
        largest = max((b - a for a, b in pairwise(self.row_ptr)), default=1)
        return Edges.concatenate([source.edges(part) for part in cut_runs(checked, largest)])

    def rows(self, rows: RowChoice) -> scipy.sparse.csr_array:
        """Compute the edges of some rows.

        Parameters
        ----------
        rows : slice, sequence of (int, int), array of int, or array (n_obs,) bool
            Consecutive rows; ascending, disjoint row runs; rows in any order; a mask. m rows in
            all.

        Returns
        -------
        csr_array (m, n_obs) float64
            Columns ascend within a row.

        Raises
        ------
        InvalidArgument
            Rows outside of the section, or runs out of order.
        """
        return rows_of_graph(self.edges, rows, self.n_obs, self.n_obs)

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

        Notes
        -----
        Dask's own reductions (`sum`, `mean`) do not work on sparse chunks; `map_blocks` does, such
        as ``array.map_blocks(lambda block: block.sum(axis=1), drop_axis=1, dtype=float)`` for sums
        of rows, and so does `compute()`, or `array.blocks[b].compute()` for one block.
        """
        from dask.delayed import delayed

        return dask_rows(delayed(_prepared)(self), self.row_ptr, self.n_obs)

    def to_squidpy(
        self, *, set_diag: bool | None = None, key_added: str = "spatial"
    ) -> SquidpyGraph:
        """Compute everything, in squidpy's form: the same edges, distances and `uns` entry.

        Parameters
        ----------
        set_diag : bool, optional
            Ones on the diagonal of the connectivities; as the graph was asked for by default.
        key_added : str
            Prefix of the keys that the `uns` entry names.
        """
        edges = self.edges([(0, self.n_obs)])
        spec = self.spec if set_diag is None else replace(self.spec, set_diag=set_diag)
        return to_squidpy(edges, spec, self._ready().facts, key_added=key_added)

    def write(self, key: str = "spatial", **options: Any) -> DerivedEntry:
        """Build the graph out of core and commit it; see `build_graphs` for the options."""
        from .building.build import write_graphs

        return write_graphs(self.store, [self], key, **options)[0]

    def explain(self) -> str:
        """Describe the plan and every block of it."""
        lines = [str(self.plan)]
        ptr = self.row_ptr
        for b, (first, stop) in enumerate(self.plan.blocks):
            lines.append(f"  block {b}: tiles {first}:{stop}, rows {ptr[b]:,}:{ptr[b + 1]:,}")
        return "\n".join(lines)

    def check(self) -> None:
        """Refuse now what would be refused at the first row: a lattice graph without a lattice.

        Raises
        ------
        InvalidArgument
        """
        if self.spec.kind == "grid":
            from .lattices.source import LatticeEdges, check_lattice

            base: Any = self.source
            while not isinstance(base, LatticeEdges):
                base = base.inner
            check_lattice(base.section, base.lattice)

    def prepare(self, run: Run = run_serially) -> SectionGraph:
        """Find out what has to be known of the whole section first (a lattice's scale)."""
        source = self._ready(run)
        plan = replace(self.plan, facts=dict(source.facts), passes=1)
        return replace(self, source=source, plan=plan)

    def _ready(self, run: Run = run_serially) -> EdgeSource:
        once = self._once
        if once.source is None:
            with once.lock:
                if once.source is None:
                    blocks = [[rows] for rows in pairwise(self.row_ptr)]
                    once.source = self.source.prepare(blocks, run)
        return once.source

    def __str__(self) -> str:
        return str(self.plan)

    def __repr__(self) -> str:
        return f"<lazy {self.plan}>"


def describe_section(
    store: AtlasStore,
    name: str,
    spec: GraphSpec,
    mask: Mask | None = None,
    where: str | None = None,
    *,
    chosen_by: Mapping[str, str] | None = None,
) -> SectionGraph:
    """Describe the graph of one section; reads its metadata and tile table alone.

    Parameters
    ----------
    store : AtlasStore
        The atlas.
    name : str
        Name of the section.
    spec : GraphSpec
        The graph wanted.
    mask : Mask, optional
        The cells that take part.
    where : str, optional
        The filter that chose them.
    chosen_by : mapping of str to str, optional
        Derived data that the filter read, and their attempts.

    Returns
    -------
    SectionGraph

    Raises
    ------
    SectionNotFound, InvalidArgument
    """
    section = store.section(name)
    # A section fits the protocol; type checkers differ on whether a cached property does.
    cells = cast("PositionSource", section)
    restricted: dict[str, ParameterValue] = {}
    if mask is not None:
        restricted = {"where": where} if where is not None else {}
        restricted["mask"] = mask.digest
    plan = plan_graph(
        name,
        section.tiles,
        spec,
        kept=None if mask is None else kept_cells(cells, mask).tiles,
        mask=restricted,
    )
    if spec.kind != "grid":
        plan = replace(plan, unit=unit_of(section.um_per_unit))
    source = make_source(cells, spec, mask)
    return SectionGraph(store, section, spec, plan, source, dict(chosen_by or {}))


def _prepared(graph: SectionGraph) -> SectionGraph:
    return graph.prepare()


def dask_rows(graph: Any, row_ptr: Sequence[int], n_columns: int) -> dask.array.Array:
    """Put the blocks of a graph one below the other; each is a csr_array, made when wanted.

    Parameters
    ----------
    graph : Delayed or lazy graph
        Prepared once it is computed.
    row_ptr : sequence of int
        Borders of the blocks.
    n_columns : int
        Cells that the columns stand for.
    """
    import dask.array as da
    import numpy as np
    from dask.delayed import delayed
    from scipy.sparse import csr_array

    meta = csr_array((0, 0), dtype=np.float64)
    blocks = [
        da.from_delayed(
            delayed(_block_rows)(graph, (start, stop), n_columns),
            shape=(stop - start, n_columns),
            dtype=np.float64,
            meta=meta,
        )
        for start, stop in pairwise(row_ptr)
    ]
    return da.concatenate(blocks, axis=0)


def _block_rows(graph: Any, rows: tuple[int, int], n_columns: int) -> scipy.sparse.csr_array:
    edges: Edges = graph.source.edges([rows])
    return edges.to_csr(n_columns)
