"""How much memory the parts of a model take: halos, smoothing, training, writing.

Halos are estimated for tissue: cells spread over an area, blocks of rows that follow a Morton
curve. A graph whose edges reach across the section (far longer than its number of neighbors says)
needs more than that.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..atlas.section import Section
    from ..atlas.store import AtlasStore
    from .sampling.graph_source import GraphSource

__all__ = [
    "LEFT_BEHIND",
    "OVERHEAD",
    "HaloSize",
    "batch_bytes",
    "largest_block",
    "mean_degree",
    "network_bytes",
    "smoothing_bytes",
    "writing_bytes",
]

# What a process keeps once it has worked: compiled code, buffers of linear algebra and of decoding
# threads, memory that the allocator does not give back.
OVERHEAD = 128 * 2**20
# What passes before leave behind with the allocator, at most: too broken up to be given back, of
# no use to a stage that works in other sizes or other threads. 59 MiB at 10 M cells.
LEFT_BEHIND = 64 * 2**20
SMALLEST_BLOCK = 256
_SHARD_ROWS, _SHARD_BYTES = 262_144, 16 * 2**20  # of a derived array


@dataclass(frozen=True, slots=True)
class HaloSize:
    """Cells and edges of a block of rows with everything some hops around it.

    Attributes
    ----------
    own, cells, edges : int
        The block's cells; all cells; edges of all but those of the last hop.

    Examples
    --------
    >>> HaloSize.of(1000, hops=2, degree=6.0)
    HaloSize(own=1000, cells=1784, edges=8308)
    """

    own: int
    cells: int
    edges: int

    @classmethod
    def of(cls, own: int, *, hops: int, degree: float, most: int = 2**62) -> "HaloSize":
        """Bound the halo of a block of a section of `most` cells.

        The block's border is taken as twice that of a square.
        """
        inner = min(_reached(own, max(hops - 1, 0), degree), most)
        edges = math.ceil(degree * inner) if hops else 0
        return cls(own, math.ceil(min(_reached(own, hops, degree), most)), edges)

    def times(self, pieces: int) -> "HaloSize":
        """Return the size of several such blocks together."""
        return HaloSize(self.own * pieces, self.cells * pieces, self.edges * pieces)

    @property
    def nbytes(self) -> int:
        """Bytes while it is collected: edges read, numbered by a hash table, joined."""
        return 40 * self.cells + 110 * self.edges


def _reached(own: int, hops: int, degree: float) -> float:
    far = hops * math.sqrt((degree + 1.0) / math.pi)
    return own + 8.0 * math.sqrt(own) * far + math.pi * far**2


def mean_degree(graph: "GraphSource", store: "AtlasStore", sections: Sequence["Section"]) -> float:
    """Neighbors per cell, of the section where they are most.

    Raises
    ------
    DerivedNotFound, StaleDerived
        A section has no graph of this key, or one of a section that was replaced since.
    """
    if graph.key is None:
        return float(graph.n_neighs)
    entries = [store.derived("graph", graph.key, section.name) for section in sections]
    return max((entry.info["nnz"] / max(entry.info["n_obs"], 1) for entry in entries), default=0.0)


def smoothing_bytes(halo: HaloSize, width: int, hops: int) -> int:
    """Bytes of a block that is smoothed: halo, its features read and ordered, the result twice."""
    return halo.nbytes + 12 * halo.cells * width + 12 * halo.own * width * hops


def writing_bytes(sections: Sequence["Section"], width: int) -> int:
    """Bytes of writing an embedding: a shard's rows twice, its chunks and itself compressed."""
    rows = max((min(section.n_obs, _SHARD_ROWS) for section in sections), default=0)
    return 5 * min(4 * rows * width, _SHARD_BYTES)


def largest_block(rows: int, limit: int, need: Callable[[int], int]) -> int:
    """Halve a block until what it needs fits the limit, or it is small.

    Examples
    --------
    >>> largest_block(8192, 1000, lambda rows: rows)
    512
    """
    while rows > SMALLEST_BLOCK and need(rows) > limit:
        rows //= 2
    return rows


def network_bytes(
    halo: HaloSize, *, width: int, hidden: int, layers: int, backward: bool, per_edge: int = 1
) -> int:
    """Bytes of a batch in a network: what each layer makes of cells and edges.

    Parameters
    ----------
    halo : HaloSize
    width, hidden, layers : int
        Of the features and the network.
    backward : bool
        Whether all layers are kept for the gradients, or one at a time.
    per_edge : int
        Rows that a layer keeps for an edge: 1 for means, more for attention.
    """
    widest = max(width, hidden)
    layer = 4 * widest * (3 * halo.cells + per_edge * halo.edges)
    kept = (layers + 2) * layer if backward else 2 * layer
    return kept + batch_bytes(halo, width)


def batch_bytes(halo: HaloSize, width: int) -> int:
    """Bytes of a batch that waits: features, edges, what its halo was made of."""
    return halo.nbytes // 2 + halo.cells * (8 * width + 40)
