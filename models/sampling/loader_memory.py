"""What a loader of sampled neighborhoods will take, planned before anything is read."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...atlas.memory import format_bytes, refuse_above

__all__ = ["LoaderMemory", "Sizes", "lanes_want", "plan_loader"]

_EDGE = 160  # bytes of an edge while it is sampled: six arrays, the same joined, half a hash table
_NODE = 72  # of a node apart from its features: its id, section and number, and what finds it
_CELL = 8  # of a cell of the atlas: seeds of two buffers, pages that find nodes
_BLOCK = 160  # of a block of the plan of seeds, while an epoch is ordered
_READ_ROWS = 8192  # read at once: compressed, decoded, and as they are kept
_READ_EDGE, _READ_VALUE = 32, 40
_SLACK = 32 * 2**20  # decoding threads, an allocator's slack
# around the block that a lane is at, so that an epoch reads at most about twice what is stored
# (docs/decisions/005-tile-loader.md)
_LANE_ROWS = 12_288


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a plan of memory hangs on.

    Attributes
    ----------
    n_nodes : int
        Cells of all sections.
    degree, entries : float
        Edges a cell, and stored values a cell, in the mean.
    width : int
        Columns of the features.
    edges_full, features_full : int
        Bytes that hold all edges, all features.
    """

    n_nodes: int
    degree: float
    entries: float
    width: int
    edges_full: int
    features_full: int


@dataclass(frozen=True, slots=True)
class LoaderMemory:
    """Bytes of each part of a loader of neighborhoods, in each process that makes batches.

    Attributes
    ----------
    edges, features : int
        What is kept in memory of them, at most.
    edges_full, features_full : int
        What all of them would take: with as much, an epoch reads everything once.
    batch : int
        The largest batch there can be; the usual one is smaller, because neighbors are shared.
    in_flight : int
        Batches at once: being made, waiting, and with the user.
    reading : int
        One read of edges and one of features, and what stays of the plan.
    wanted : int
        What has to be kept for an epoch to read at most about twice what is stored: the
        surroundings of the block that each lane is at.
    """

    edges: int
    features: int
    edges_full: int
    features_full: int
    batch: int
    in_flight: int
    reading: int
    wanted: int = 0

    @property
    def reads_again(self) -> bool:
        """Whether less is kept than what lanes want."""
        return self.edges + self.features < self.wanted

    @property
    def total(self) -> int:
        """Everything together."""
        return self.edges + self.features + self.batch * self.in_flight + self.reading

    def __str__(self) -> str:
        return (
            f"memory {format_bytes(self.total)}: edges {_part(self.edges, self.edges_full)}, "
            f"features {_part(self.features, self.features_full)}, {self.in_flight} batches of at "
            f"most {format_bytes(self.batch)}, reading {format_bytes(self.reading)}"
        )


def plan_loader(
    sizes: Sizes,
    *,
    batch_size: int,
    fanouts: Sequence[int],
    in_flight: int,
    cache_bytes: int,
    memory_limit: int | None = None,
    lanes: int = 0,
    n_blocks: int = 0,
) -> LoaderMemory:
    """Divide memory among the parts of a loader.

    Parameters
    ----------
    sizes : Sizes
    batch_size : int
    fanouts : sequence of int
    in_flight : int
        Batches at once.
    cache_bytes : int
        For edges and features together.
    memory_limit : int, optional
        For everything; leaves to edges and features what the rest does not take, at most
        `cache_bytes`.
    lanes : int
        Blocks of the plan of seeds that a batch mixes.
    n_blocks : int
        Blocks of that plan.

    Returns
    -------
    LoaderMemory

    Raises
    ------
    BudgetExceeded
        The batches alone do not fit `memory_limit`.

    Examples
    --------
    >>> sizes = Sizes(10**6, 6.0, 60.0, 300, 2**26, 2**28)
    >>> plan = plan_loader(sizes, batch_size=64, fanouts=[4], in_flight=2, cache_bytes=2**28)
    >>> str(plan).partition(", features")[0]
    'memory 316.7 MiB: edges 64.0 MiB (all)'
    """
    nodes, edges, frontier = float(batch_size), 0.0, float(batch_size)
    for fanout in fanouts:
        frontier *= sizes.degree if fanout < 0 else fanout
        # every cell is at most once new
        frontier = min(frontier, sizes.n_nodes * max(sizes.degree, 1.0))
        edges += frontier
        frontier = min(frontier, float(sizes.n_nodes))
        nodes += frontier
    nodes = min(nodes, float(sizes.n_nodes + batch_size))
    batch = int(edges * _EDGE + nodes * (_NODE + 4 * sizes.width))
    rows = min(_READ_ROWS, sizes.n_nodes)
    reading = int(rows * (sizes.degree * _READ_EDGE + sizes.entries * _READ_VALUE))
    reading += _CELL * sizes.n_nodes + _BLOCK * n_blocks + _SLACK
    if memory_limit is not None:
        refuse_above(
            memory_limit,
            batch * in_flight + reading,
            f"{in_flight} batches of {batch_size:,} seeds with fan-outs {list(fanouts)}",
            "choose a smaller `batch_size`, smaller fan-outs, fewer genes or fewer threads, or "
            "raise `memory_limit`",
        )
        cache_bytes = min(cache_bytes, memory_limit - batch * in_flight - reading)
    kept = _divide(cache_bytes, sizes.edges_full, sizes.features_full)
    full = sizes.edges_full, sizes.features_full
    wanted = lanes_want(sum(full), sizes.n_nodes, lanes)
    return LoaderMemory(*kept, *full, batch, in_flight, reading, wanted)


def lanes_want(full: int, n_nodes: int, lanes: int) -> int:
    """Return what some lanes want kept of what all cells take.

    Parameters
    ----------
    full : int
        Bytes of all edges and features.
    n_nodes : int
        Cells.
    lanes : int

    Returns
    -------
    int
        Bytes.

    Examples
    --------
    >>> [lanes_want(10**6, 500_000, lanes) for lanes in (64, 32)]
    [1000000, 786432]
    """
    return full * min(lanes * _LANE_ROWS, n_nodes) // max(n_nodes, 1)


def _divide(limit: int, edges: int, features: int) -> tuple[int, int]:
    """Give each what it needs, and both the half where that is less."""
    if edges + features <= limit:
        return edges, features
    if edges <= limit // 2:
        return edges, limit - edges
    if features <= limit // 2:
        return limit - features, features
    return limit - limit // 2, limit // 2


def _part(kept: int, full: int) -> str:
    if kept >= full:
        return f"{format_bytes(full)} (all)"
    return f"{format_bytes(kept)} of {format_bytes(full)}"
