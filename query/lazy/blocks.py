"""Where an answer is cut, so that every part of it fits a memory: pure, from runs and tiles."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ...atlas.memory import format_bytes
from ..cells.rows import RunArray, as_runs, batches, count

if TYPE_CHECKING:
    from ..cells.selection import Selection

__all__ = ["Block", "cut", "groups", "rows_within"]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some cells of one section: what one task reads."""

    section: str
    """Name of the section."""
    runs: RunArray
    """(k, 2) row runs, all in a run of tiles."""

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return count(self.runs)


def rows_within(block_bytes: int, row_bytes: float) -> int:
    """Cells of which a block of some memory holds the values.

    Raises
    ------
    InvalidArgument
        Not even one cell fits.
    """
    rows = int(block_bytes / max(row_bytes, 1.0))
    if rows < 1:
        raise InvalidArgument(
            f"blocks of at least one cell are wanted, but got block_bytes={block_bytes} where a "
            f"cell takes {format_bytes(round(row_bytes))}; give more"
        )
    return rows


def cut(runs: RunArray, ptr: NDArray[np.int64], n_rows: int) -> Iterator[RunArray]:
    """Cut row runs at edges of tiles into parts of at most `n_rows` rows.

    A tile that alone has more is a part of its own, cut further by rows. Every row is in one part.

    >>> [part.tolist() for part in cut(as_runs([(1, 9)]), np.array([0, 4, 6, 9]), 5)]
    [[[1, 6]], [[6, 9]]]
    """
    if not len(runs):
        return
    below = _rows_below(runs, ptr)
    tile, last = 0, len(ptr) - 1
    while tile < last:
        # The furthest edge of a tile up to which the rows fit; at least one tile.
        end = int(np.searchsorted(below, below[tile] + n_rows, side="right")) - 1
        end = min(max(end, tile + 1), last)
        part = _between(runs, int(ptr[tile]), int(ptr[end]))
        if len(part):
            yield from batches(part, n_rows)
        tile = end


def _rows_below(runs: RunArray, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the runs that lie below each edge."""
    lengths = runs[:, 1] - runs[:, 0]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    run = np.searchsorted(runs[:, 0], edges, side="right") - 1
    inside = np.minimum(edges - runs[np.maximum(run, 0), 0], lengths[np.maximum(run, 0)])
    return np.where(run < 0, 0, ends[np.maximum(run, 0)] + inside)


def _between(runs: RunArray, low: int, high: int) -> RunArray:
    first = int(np.searchsorted(runs[:, 1], low, side="right"))
    last = int(np.searchsorted(runs[:, 0], high, side="left"))
    return np.clip(runs[first:last], low, high)


def groups(selection: "Selection", size: int) -> Iterator[Mapping[str, RunArray]]:
    """Consecutive cells of an answer, `size` at a time whatever sections they are of.

    The last group has what is left.
    """
    group: dict[str, RunArray] = {}
    room = size
    for name, runs in selection.runs.items():
        rest = runs
        while len(rest):
            taken = next(iter(batches(rest, room)))
            rest = _after(rest, int(taken[-1, 1]))
            group[name] = taken
            room -= count(taken)
            if not room:
                yield group
                group, room = {}, size
    if group:
        yield group


def _after(runs: RunArray, row: int) -> RunArray:
    """Leave out the rows below one."""
    first = int(np.searchsorted(runs[:, 1], row, side="right"))
    rest = runs[first:].copy()
    if len(rest):
        rest[0, 0] = max(int(rest[0, 0]), row)
    return rest if len(rest) else as_runs([])
