"""What building a graph will read, write and need, known from the tile table alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...memory import format_bytes
from ..spec import GraphSpec, ParameterValue, describe
from .needs import BYTES_PER_SPREAD, need_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...quadtree import TileTable
    from .totals import GraphPlans

__all__ = ["GraphPlan", "describe_costs", "plan_blocks", "plan_graph"]

# A block is one task and one set of arrays. Up to 65,536 rows the ring of tiles around a block
# costs more reading than the block itself; above, a laptop runs out of tasks to share among its
# cores. Rows with many edges make smaller blocks, so that a task's memory does not grow with k.
_BLOCK_ROWS = 65_536
_BLOCK_ELEMENTS = 2**20
# Tasks of a section, all passes together: what a scheduler holds at ease.
_MOST_TASKS = 45_000

# Grids and positions of the tiles around a block (`search.nearest`): 2 x 262,144 points, 40 each.
_HALO_BYTES = 2 * 262_144 * 40
# Rows read for each row of the section, the tiles around the blocks included: measured on uniform
# points in tiles of 3,900 rows.
_HALO_READ = 2.3


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
    unit: str = ""
    """Of lengths: micrometers or source_units; empty where not known, or where rings count."""

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
            f"blocks, {self.n_tasks:,} tasks{passes}{name_unit(self.unit)}\n"
            f"{describe_costs(self, self.bytes_read * self.passes)}"
        )


def describe_costs(plan: GraphPlan | GraphPlans, read: int) -> str:
    """Say in two lines what is read, written and needed."""
    about = "at most" if plan.bounded else "about"
    return (
        f"  reads about {format_bytes(read)}, writes {about} "
        f"{format_bytes(plan.bytes_written)} ({plan.edges:,} edges)\n"
        f"  projected memory of a task {format_bytes(plan.task_bytes)}"
    )


def name_unit(unit: str) -> str:
    """Say in which unit lengths are, as the end of a line.

    Examples
    --------
    >>> name_unit("source_units"), name_unit("")
    ('; lengths in source units', '')
    """
    return f"; lengths in {unit.replace('_', ' ')}" if unit else ""


def plan_blocks(
    tiles: TileTable, elements: float | NDArray[np.float64], passes: int = 1
) -> tuple[tuple[int, int], ...]:
    """Group consecutive tiles into blocks; depends on the tiles and the graph alone.

    Parameters
    ----------
    tiles : TileTable
        T tiles.
    elements : float or array (T,) float64
        Numbers that a task holds for each row (of a tile).
    passes : int
        Times that all blocks are visited.

    Returns
    -------
    tuple of (int, int)
        Tile ranges; none has more rows or numbers than the target unless it is a single tile, or
        one of a few where single tiles would make too many tasks (from 30 million cells).

    Examples
    --------
    >>> from tisseract.atlas.quadtree import TileTable
    >>> tiles = TileTable(np.array([0, 30_000, 60_000, 90_000]), np.zeros((3, 4)))
    >>> plan_blocks(tiles, 6)
    ((0, 2), (2, 3))
    """
    rows = tiles.ptr
    held = np.concatenate([[0.0], np.cumsum(tiles.n_cells * np.maximum(elements, 1.0))])
    least = max(1, -(-len(tiles) * passes // _MOST_TASKS))
    blocks: list[tuple[int, int]] = []
    first = 0
    while first < len(tiles):
        by_rows = np.searchsorted(rows, rows[first] + _BLOCK_ROWS, side="right")
        by_elements = np.searchsorted(held, held[first] + _BLOCK_ELEMENTS, side="right")
        stop = min(max(int(min(by_rows, by_elements)) - 1, first + least), len(tiles))
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
    n_obs = int(tiles.ptr[-1])
    n_kept = n_obs if kept is None else int(kept.ptr[-1])
    need = need_of(spec, tiles if kept is None else kept)
    elements, row_bytes = need.elements, need.row_bytes
    if kept is not None:
        # The blocks are those of all cells: a tile's need is that of its densest part.
        elements = np.full(len(tiles), elements.max(initial=0.0))
        row_bytes = row_bytes + BYTES_PER_SPREAD * need.elements
        row_bytes = np.full(len(tiles), row_bytes.max(initial=0.0))
    passes = _passes(spec, n_kept)
    blocks = plan_blocks(tiles, elements, passes)
    held = np.concatenate([[0.0], np.cumsum(tiles.n_cells * row_bytes)])
    largest = max((float(held[stop] - held[first]) for first, stop in blocks), default=0.0)
    return GraphPlan(
        section=section,
        kind=spec.kind,
        parameters={**spec.parameters(), **(mask or {})},
        n_obs=n_obs,
        n_tiles=len(tiles),
        blocks=blocks,
        row_ptr=(*(int(tiles.ptr[first]) for first, _ in blocks), n_obs),
        edges=need.edges,
        passes=passes,
        bytes_read=int((_HALO_READ if len(blocks) > 1 else 1.0) * 16 * n_obs),
        bytes_written=8 * need.edges + 8 * (n_obs + len(blocks)),
        task_bytes=int(largest) + _HALO_BYTES,
        bounded=need.bounded,
        n_kept=None if kept is None else n_kept,
    )


def _passes(spec: GraphSpec, n_obs: int) -> int:
    """Count the times all blocks are visited, at most."""
    # Two passes select a number from all edges; one will do where lengths repeat.
    median = 2 if spec.kind == "grid" and n_obs > 1 else 0
    percentile = 2 if spec.percentile is not None else 0
    return 1 + median + (spec.lattice == "auto") + percentile + spec.symmetrize
