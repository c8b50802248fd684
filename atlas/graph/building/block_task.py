"""One block of a graph as a task."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ...parts import PartReceipt, place_part
from ..disk.layout import write_pieces
from ..edges import stream_edges

if TYPE_CHECKING:
    from collections.abc import Collection

    from ...attempt import Attempt
    from ..edges import EdgeSource
    from .order import Order

__all__ = ["BlockTask", "block_tasks", "part_name"]

# Edges held at a time where a source can hand them out in pieces: twice what blocks are planned
# for, so that only blocks far off the plan are cut.
_MOST_EDGES = 2 * 2**20


@dataclass(frozen=True, slots=True)
class BlockTask:
    """One block to build, as a value: opened on arrival, returns a receipt.

    May run twice, also at the same time: a worker that was given up may still be alive. The block
    is written aside and renamed into place; the second finds the place taken.
    """

    source: EdgeSource
    """Prepared."""
    folder: str
    """The attempt."""
    parts: str
    """Where the block is made; on the same file system."""
    section: str
    """Name of the section, or of the pair."""
    block: int
    """Number of the block."""
    rows: tuple[int, int]
    """Its first row and the one after its last."""

    def __call__(self) -> tuple[str, PartReceipt]:
        """Build the block; returns the section's name and the receipt, with `nnz`."""
        try:
            part = part_name(self.block)
            return self.section, place_part(Path(self.folder), Path(self.parts), part, self._write)
        except Exception as error:
            error.add_note(f"while building block {self.block} of section {self.section!r}")
            raise

    def _write(self, place: Path) -> dict[str, int]:
        # Dense nests can hold far more edges than planned; some sources know how many in time.
        indptr, pieces = stream_edges(self.source, [self.rows], _MOST_EDGES)
        return {"nnz": write_pieces(place, self.block, indptr, pieces).nnz}


def part_name(block: int) -> str:
    """Folder of a block, relative to the attempt."""
    return f"blocks/{block}"


def block_tasks(order: Order, attempt: Attempt, finished: Collection[str] = ()) -> list[BlockTask]:
    """Make the tasks of a prepared graph, without those whose parts are finished."""
    # Renaming a block into place makes no folders: a task that outlives its attempt must not.
    (attempt.path / "blocks").mkdir(exist_ok=True)
    graph = order.graph
    return [
        BlockTask(graph.source, str(attempt.path), str(attempt.parts), order.label, block, rows)
        for block, rows in enumerate(pairwise(graph.plan.row_ptr))
        if part_name(block) not in finished
    ]
