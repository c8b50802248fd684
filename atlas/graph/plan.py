"""What building a graph will read, write and need, known from the tile table alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..memory import format_bytes

if TYPE_CHECKING:
    from ..quadtree import TileTable

__all__ = ["GraphPlan", "ParameterValue", "plan_blocks", "plan_grid", "plan_knn"]

type ParameterValue = str | int | float | bool | None

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
    >>> print(plan_knn("E12_s03", tiles, n_neighs=10))
    knn graph of E12_s03: n_neighs=10
      80,000 cells in 2 tiles -> 2 blocks, 2 tasks
      reads about 2.8 MiB, writes at most 6.7 MiB (800,000 edges)
      projected memory of a task 46.9 MiB
    """

    section: str
    """Name of the section."""
    kind: str
    """knn or grid."""
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
    max_edges: int
    """Upper bound of the number of edges."""
    passes: int
    """Times all blocks are visited: one, and those that find the scale of a lattice."""
    bytes_read: int
    """Estimate of the positions read, uncompressed, for one pass."""
    bytes_written: int
    """Upper bound of the bytes written, before compression."""
    task_bytes: int
    """Projected peak memory of one task; does not grow with the section."""
    facts: Mapping[str, ParameterValue] = field(default_factory=dict)
    """What was found out rather than asked for, such as the kind of a lattice."""

    @property
    def n_tasks(self) -> int:
        """Number of tasks, all passes together."""
        return self.passes * len(self.blocks)

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        passes = f" in {self.passes} passes" if self.passes > 1 else ""
        return (
            f"{self.kind} graph of {self.section}: {shown}\n"
            f"  {self.n_obs:,} cells in {self.n_tiles:,} tiles -> {len(self.blocks):,} blocks, "
            f"{self.n_tasks:,} tasks{passes}\n"
            f"  reads about {format_bytes(self.bytes_read * self.passes)}, writes at most "
            f"{format_bytes(self.bytes_written)} ({self.max_edges:,} edges)\n"
            f"  projected memory of a task {format_bytes(self.task_bytes)}"
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


def plan_knn(section: str, tiles: TileTable, *, n_neighs: int) -> GraphPlan:
    """Plan a kNN graph; memory and time are those of the tile table."""
    n_obs = int(tiles.ptr[-1])
    k = min(n_neighs, n_obs - 1)
    rows = _largest(tiles, blocks := plan_blocks(tiles, k))
    return _plan(
        section,
        "knn",
        {"n_neighs": n_neighs},
        tiles,
        blocks,
        max_edges=n_obs * k,
        passes=1,
        task_bytes=rows * (_BYTES_PER_ROW + k * _BYTES_PER_CANDIDATE) + _HALO_BYTES,
    )


def plan_grid(section: str, tiles: TileTable, *, lattice: str, n_rings: int) -> GraphPlan:
    """Plan a lattice graph; memory and time are those of the tile table.

    `lattice` is hex, square or auto; a ring search step visits at most 6 neighbors of each of
    the 6 r cells of ring r.
    """
    n_obs = int(tiles.ptr[-1])
    steps = 36 * n_rings
    degree = 3 * n_rings * (n_rings + 1) if lattice != "square" else 2 * n_rings * (n_rings + 1)
    degree = min(degree, max(0, n_obs - 1))
    rows = _largest(tiles, blocks := plan_blocks(tiles, steps if n_rings > 1 else 6))
    ring_bytes = steps * _BYTES_PER_STEP if n_rings > 1 else 6 * _BYTES_PER_STEP
    return _plan(
        section,
        "grid",
        {"lattice": lattice, "n_rings": n_rings},
        tiles,
        blocks,
        max_edges=n_obs * degree,
        # Four passes select the median distance, one more tells hexagons from squares.
        passes=1 + (4 if n_obs > 1 else 0) + (lattice == "auto"),
        task_bytes=rows * (_BYTES_PER_ROW + 6 * _BYTES_PER_CANDIDATE + ring_bytes) + _HALO_BYTES,
    )


def _largest(tiles: TileTable, blocks: tuple[tuple[int, int], ...]) -> int:
    return max((int(tiles.ptr[stop] - tiles.ptr[first]) for first, stop in blocks), default=0)


def _plan(
    section: str,
    kind: str,
    parameters: Mapping[str, ParameterValue],
    tiles: TileTable,
    blocks: tuple[tuple[int, int], ...],
    *,
    max_edges: int,
    passes: int,
    task_bytes: int,
) -> GraphPlan:
    n_obs = int(tiles.ptr[-1])
    halo = _HALO_READ if len(blocks) > 1 else 1.0
    return GraphPlan(
        section=section,
        kind=kind,
        parameters=parameters,
        n_obs=n_obs,
        n_tiles=len(tiles),
        blocks=blocks,
        row_ptr=(*(int(tiles.ptr[first]) for first, _ in blocks), n_obs),
        max_edges=max_edges,
        passes=passes,
        bytes_read=int(halo * 16 * n_obs),
        bytes_written=8 * max_edges + 8 * (n_obs + len(blocks)),
        task_bytes=task_bytes,
    )
