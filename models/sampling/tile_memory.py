"""How the tile loader divides its memory, planned before anything is read."""

from dataclasses import dataclass

import numpy as np

from ...atlas.errors import BudgetExceeded, InvalidArgument
from ...atlas.memory import format_bytes

__all__ = ["TileMemory", "plan_memory"]

_CELL = 48  # bytes of a cell of a batch apart from its counts
_COLUMN = 4
_EDGE = 48  # with what numbering edges takes on the way
_POINTER = 8
_PAGES = 3  # of edges, for each block of a batch
_PAGE_POWERS = (9, 14)  # of two, rows of a page
# blocks of a space-filling order are no squares: their rim is longer
_RIM = 1.5


@dataclass(frozen=True, slots=True)
class TileMemory:
    """Bytes of each part of a tile loader.

    Attributes
    ----------
    limit : int
        All parts together.
    batch : int
        One batch, estimated.
    in_flight : int
        Batches at once: being made, waiting, and with the user.
    pointers, entries, edges : int
        Caches of row pointers, of counts, of edges.
    page_rows : int
        Rows whose edges are read at once.
    """

    limit: int
    batch: int
    in_flight: int
    pointers: int
    entries: int
    edges: int
    page_rows: int

    def __str__(self) -> str:
        return (
            f"{format_bytes(self.limit)}: {self.in_flight} batches of about "
            f"{format_bytes(self.batch)}, caches of {format_bytes(self.entries)} counts, "
            f"{format_bytes(self.edges)} edges, {format_bytes(self.pointers)} row pointers"
        )


def plan_memory(
    limit: int,
    *,
    blocks: int,
    block_rows: int,
    hops: int,
    degree: float,
    entries: float,
    entry_bytes: int,
    in_flight: int,
    value_bytes: int = 4,
) -> TileMemory:
    """Divide memory among batches on their way and caches.

    Parameters
    ----------
    limit : int
        Bytes.
    blocks, block_rows : int
        Of a batch.
    hops : int
    degree, entries : float
        Edges and counts of a cell, in the mean.
    entry_bytes : int
        Of an entry as it is stored.
    in_flight : int
        Batches at once.
    value_bytes : int
        Of a value as it is handed out.

    Returns
    -------
    TileMemory

    Raises
    ------
    BudgetExceeded
        The batches on their way would take more than three quarters.
    InvalidArgument
        A negative number of hops.

    Examples
    --------
    >>> print(plan_memory(2**29, blocks=32, block_rows=256, hops=1, degree=10, entries=60,
    ...                   entry_bytes=5, in_flight=6))
    512.0 MiB: 6 batches of about 12.9 MiB, caches of 329.1 MiB counts, 96.5 MiB edges, 8.8 MiB \
row pointers
    """
    if hops < 0:
        raise InvalidArgument(f"wanted hops of 0 or more, but got {hops}")
    side = np.sqrt(block_rows)
    reach = hops * (np.sqrt(degree / np.pi) + 1.0)
    rim = ((side + 2 * reach) ** 2 - block_rows) * _RIM
    nodes = blocks * (block_rows + rim)
    with_edges = blocks * block_rows if hops < 2 else nodes
    batch = int(nodes * (entries * (_COLUMN + value_bytes) + _CELL) + with_edges * degree * _EDGE)
    rest = limit - in_flight * batch
    if 4 * rest < limit:
        raise BudgetExceeded(
            f"wanted {in_flight} batches of about {format_bytes(batch)} within three quarters of "
            f"the memory limit, but got {format_bytes(limit)}; raise `memory_limit`, or ask for "
            "fewer `lanes`, smaller `block_rows`, fewer `threads`"
        )
    share = np.array([_POINTER, entries * entry_bytes, degree * 8 + _POINTER])
    pointers, counts, edges = (int(part) for part in share / share.sum() * rest)
    # as large as a few for each block leave room for: every page reads its border chunks again
    fitting = edges / (_PAGES * blocks * (degree * 8 + _POINTER))
    page_rows = 2 ** int(np.clip(np.log2(max(fitting, 1.0)), *_PAGE_POWERS))
    return TileMemory(limit, batch, in_flight, pointers, counts, edges, page_rows)
