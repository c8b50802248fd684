"""What building a graph will read, write and need, known from the tile table alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..memory import format_bytes
from .spec import GraphSpec, ParameterValue, describe

if TYPE_CHECKING:
    from ..quadtree import TileTable

__all__ = ["GraphPlan", "GraphPlans", "plan_blocks", "plan_graph"]

# A block is one task and one set of arrays. Up to 65,536 rows the ring of tiles around a block
# costs more reading than the block itself; above, a laptop runs out of tasks to share among its
# cores. Rows with many edges make smaller blocks, so that a task's memory does not grow with k.
_BLOCK_ROWS = 65_536
_BLOCK_ELEMENTS = 2**20

# Bytes of a task. Search: 28 a candidate, 12 an edge, 16 + 16 for positions read and sorted; then
# 8 an edge for the narrow copy that is written, 16 for encoding it in chunks.
_BYTES_PER_CANDIDATE = 28 + 12 + 8 + 16
_BYTES_PER_ROW = 64
# Grids and positions of the tiles around a block (see `nearest`): 2 x 262,144 points, 40 each.
_HALO_BYTES = 2 * 262_144 * 40
# Keys of the ring search, about six copies of 8 bytes while they are sorted and compared.
_BYTES_PER_STEP = 48
# An edge without a search: 12 as computed, 8 written, 16 for encoding.
_BYTES_PER_EDGE = 12 + 8 + 16
# Triangles, their neighbors and circles, corners and the edges made of them, for each point.
_BYTES_PER_CORNER = 220
# Keys, order and lengths while the rows that choose a row are brought together.
_BYTES_PER_UNION = 60
# Rows read for each row of the section, the tiles around the blocks included: measured on uniform
# points in tiles of 3,900 rows.
_HALO_READ = 2.3
# A plane triangulation of n points has at most 3 n - 6 edges, each stored in both directions.
_DELAUNAY_DEGREE = 6


@dataclass(frozen=True, slots=True)
class GraphPlan:
    """A graph that could be built: prints itself, and building it does exactly this.

    Examples
    --------
    >>> from tisseract.atlas.quadtree import TileTable
    >>> tiles = TileTable(np.array([0, 40_000, 80_000]), np.zeros((2, 4)))
    >>> print(plan_graph("E12_s03", tiles, GraphSpec.knn(10)))
    knn graph of E12_s03: n_neighs=10
      80,000 cells in 2 tiles -> 2 blocks, 2 tasks
      reads about 2.8 MiB, writes at most 6.7 MiB (800,000 edges)
      projected memory of a task 46.9 MiB
    """

    section: str
    """Name of the section."""
    kind: str
    """knn, radius, delaunay or grid."""
    parameters: Mapping[str, ParameterValue]
    """Parameters as stored and compared on resume."""
    n_obs: int
    """Cells of the section."""
    n_tiles: int
    """Tiles of the section."""
    blocks: tuple[tuple[int, int], ...]
    """Tile ranges (first, stop) of the blocks, in order; together all tiles once."""
    row_ptr: tuple[int, ...]
    """Block b is rows row_ptr[b]:row_ptr[b + 1]."""
    edges: int
    """Upper bound of the number of edges where `bounded`, else an estimate."""
    passes: int
    """Times all blocks are visited at most: one, and to find out something of all edges."""
    bytes_read: int
    """Estimate of the positions read, uncompressed, for one pass."""
    bytes_written: int
    """Bytes written, before compression; as sure as `edges`."""
    task_bytes: int
    """Projected peak memory of one task; does not grow with the section."""
    facts: Mapping[str, ParameterValue] = field(default_factory=dict)
    """What was found out rather than asked for, such as the kind of a lattice."""
    bounded: bool = True
    """Whether there cannot be more edges than `edges`."""
    n_kept: int | None = None
    """Cells that take part, where the cells are restricted."""

    @property
    def n_tasks(self) -> int:
        """Number of tasks, all passes together."""
        return self.passes * len(self.blocks)

    def __str__(self) -> str:
        passes = f" in {self.passes} passes" if self.passes > 1 else ""
        kept = "" if self.n_kept is None else f"{self.n_kept:,} of "
        head = describe(self.kind, self.parameters, of=f" of {self.section}")
        return (
            f"{head}\n"
            f"  {kept}{self.n_obs:,} cells in {self.n_tiles:,} tiles -> {len(self.blocks):,} "
            f"blocks, {self.n_tasks:,} tasks{passes}\n"
            f"{_costs(self, self.bytes_read * self.passes)}"
        )


@dataclass(frozen=True, slots=True)
class GraphPlans:
    """The plans of several sections, and what they come to."""

    sections: tuple[GraphPlan, ...]
    """One a section, in order."""

    @property
    def n_obs(self) -> int:
        """Cells of all sections."""
        return sum(plan.n_obs for plan in self.sections)

    @property
    def n_tiles(self) -> int:
        """Tiles of all sections."""
        return sum(plan.n_tiles for plan in self.sections)

    @property
    def n_tasks(self) -> int:
        """Tasks of all sections, all passes together."""
        return sum(plan.n_tasks for plan in self.sections)

    @property
    def edges(self) -> int:
        """Edges of all sections; see `GraphPlan.edges`."""
        return sum(plan.edges for plan in self.sections)

    @property
    def bounded(self) -> bool:
        """Whether there cannot be more edges than `edges`."""
        return all(plan.bounded for plan in self.sections)

    @property
    def bytes_read(self) -> int:
        """Estimate of the positions read in all passes, uncompressed."""
        return sum(plan.bytes_read * plan.passes for plan in self.sections)

    @property
    def bytes_written(self) -> int:
        """Bytes written, before compression; as sure as `edges`."""
        return sum(plan.bytes_written for plan in self.sections)

    @property
    def task_bytes(self) -> int:
        """Projected peak memory of the largest task."""
        return max((plan.task_bytes for plan in self.sections), default=0)

    def __str__(self) -> str:
        if len(self.sections) == 1:
            return str(self.sections[0])
        # What all sections share; a mask has another digest in each.
        parameters = {} if not self.sections else dict(self.sections[0].parameters)
        parameters.pop("mask", None)
        kind = self.sections[0].kind if self.sections else "neighborhood"
        head = describe(kind, parameters, of=f" of {len(self.sections)} sections")
        return (
            f"{head}\n"
            f"  {self.n_obs:,} cells in {self.n_tiles:,} tiles -> {self.n_tasks:,} tasks\n"
            f"{_costs(self, self.bytes_read)}"
        )


def _costs(plan: GraphPlan | GraphPlans, read: int) -> str:
    about = "at most" if plan.bounded else "about"
    return (
        f"  reads about {format_bytes(read)}, writes {about} "
        f"{format_bytes(plan.bytes_written)} ({plan.edges:,} edges)\n"
        f"  projected memory of a task {format_bytes(plan.task_bytes)}"
    )


def plan_blocks(tiles: TileTable, elements_per_row: int) -> tuple[tuple[int, int], ...]:
    """Group consecutive tiles into blocks; depends on the tiles and the graph's degree only.

    Parameters
    ----------
    tiles : TileTable
    elements_per_row : int
        Numbers that a task holds for each of its rows.

    Returns
    -------
    tuple of (int, int)
        Tile ranges; none has more rows than the target unless it is a single tile.

    Examples
    --------
    >>> from tisseract.atlas.quadtree import TileTable
    >>> tiles = TileTable(np.array([0, 30_000, 60_000, 90_000]), np.zeros((3, 4)))
    >>> plan_blocks(tiles, 6)
    ((0, 2), (2, 3))
    """
    rows = max(1, min(_BLOCK_ROWS, _BLOCK_ELEMENTS // max(1, elements_per_row)))
    ptr = tiles.ptr
    blocks: list[tuple[int, int]] = []
    first = 0
    while first < len(tiles):
        stop = int(np.searchsorted(ptr, ptr[first] + rows, side="right")) - 1
        stop = max(stop, first + 1)
        blocks.append((first, stop))
        first = stop
    return tuple(blocks)


def plan_graph(
    section: str,
    tiles: TileTable,
    spec: GraphSpec,
    *,
    kept: TileTable | None = None,
    mask: Mapping[str, ParameterValue] | None = None,
) -> GraphPlan:
    """Plan a graph of one section from its tile table; reads nothing.

    Parameters
    ----------
    section : str
        Name of the section.
    tiles : TileTable
        All its tiles.
    spec : GraphSpec
        The graph wanted.
    kept : TileTable, optional
        Tiles of the cells that take part, where the cells are restricted.
    mask : mapping, optional
        Parameters that say how they are.

    Returns
    -------
    GraphPlan
        Time and memory: those of the tile table.
    """
    parameters = {**spec.parameters(), **(mask or {})}
    need = _NEEDS[spec.kind](tiles if kept is None else kept, spec)
    n_obs = int(tiles.ptr[-1])
    n_kept = n_obs if kept is None else int(kept.ptr[-1])
    row_bytes, degree = need.row_bytes, need.degree
    if spec.symmetrize:
        # A row may be chosen by many others, but all rows together at most double.
        row_bytes, degree = row_bytes + 2 * degree * _BYTES_PER_UNION, 2 * degree
    blocks = plan_blocks(tiles, max(1, math.ceil(max(degree, need.elements))))
    rows = max((int(tiles.ptr[stop] - tiles.ptr[first]) for first, stop in blocks), default=0)
    edges = math.ceil(n_kept * degree)
    halo = _HALO_READ if len(blocks) > 1 else 1.0
    return GraphPlan(
        section=section,
        kind=spec.kind,
        parameters=parameters,
        n_obs=n_obs,
        n_tiles=len(tiles),
        blocks=blocks,
        row_ptr=(*(int(tiles.ptr[first]) for first, _ in blocks), n_obs),
        edges=edges,
        passes=_passes(spec, n_kept),
        bytes_read=int(halo * 16 * n_obs),
        bytes_written=8 * edges + 8 * (n_obs + len(blocks)),
        task_bytes=int(rows * row_bytes) + _HALO_BYTES,
        bounded=need.bounded,
        n_kept=None if kept is None else n_kept,
    )


@dataclass(frozen=True, slots=True)
class _Need:
    """What a kind of graph needs of a row."""

    degree: float
    """Edges, in the mean of all rows."""
    elements: float
    """Numbers that a task holds at once."""
    row_bytes: float
    """Bytes that a task holds."""
    bounded: bool = True
    """Whether the degree is a bound."""


def _need_knn(tiles: TileTable, spec: GraphSpec) -> _Need:
    k = min(spec.n_neighs or 0, max(0, int(tiles.ptr[-1]) - 1))
    return _Need(k, k, _BYTES_PER_ROW + k * _BYTES_PER_CANDIDATE)


def _need_radius(tiles: TileTable, spec: GraphSpec) -> _Need:
    degree = _expected_degree(tiles, spec.interval[1])
    shortest, longest = spec.interval
    kept = degree * (1 - (shortest / longest) ** 2)
    return _Need(kept, degree, _BYTES_PER_ROW + degree * _BYTES_PER_EDGE, bounded=False)


def _need_delaunay(tiles: TileTable, spec: GraphSpec) -> _Need:
    del spec
    degree = min(_DELAUNAY_DEGREE, max(0, int(tiles.ptr[-1]) - 1))
    # A band of cells around a block is triangulated with it, about as many again at its smallest.
    row_bytes = _BYTES_PER_ROW + 2 * _BYTES_PER_CORNER + degree * _BYTES_PER_EDGE
    return _Need(degree, 2 * degree, row_bytes)


def _need_grid(tiles: TileTable, spec: GraphSpec) -> _Need:
    # A ring search step visits at most 6 neighbors of each of the 6 r cells of ring r.
    n_rings = spec.n_rings or 1
    steps = 36 * n_rings if n_rings > 1 else 6
    sides = 2 if spec.lattice == "square" else 3
    degree = min(sides * n_rings * (n_rings + 1), max(0, int(tiles.ptr[-1]) - 1))
    row_bytes = _BYTES_PER_ROW + 6 * _BYTES_PER_CANDIDATE + steps * _BYTES_PER_STEP
    return _Need(degree, steps, row_bytes)


_NEEDS = {
    "knn": _need_knn,
    "radius": _need_radius,
    "delaunay": _need_delaunay,
    "grid": _need_grid,
}


def _passes(spec: GraphSpec, n_obs: int) -> int:
    """Count the times all blocks are visited, at most."""
    # Two passes select a number from all edges; one will do where lengths repeat.
    median = 2 if spec.kind == "grid" and n_obs > 1 else 0
    percentile = 2 if spec.percentile is not None else 0
    return 1 + median + (spec.lattice == "auto") + percentile + spec.symmetrize


def _expected_degree(tiles: TileTable, longest: float) -> float:
    """Return the neighbors within a radius, were the cells uniform in their tile's box."""
    sizes = tiles.bounds[:, 2:] - tiles.bounds[:, :2]
    cells = tiles.n_cells.astype(np.float64)
    # A disc reaches beyond its tile: the tile and a margin, at the density of the tile.
    area = np.maximum(sizes[:, 0] * sizes[:, 1], np.finfo(np.float64).tiny)
    found = np.minimum(cells / area * np.pi * longest**2, float(tiles.ptr[-1]))
    total = cells.sum()
    return float((found * cells).sum() / total) if total else 0.0
