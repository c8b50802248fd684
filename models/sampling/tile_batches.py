"""Carry a batch plan out: tiles and their exact halos as `torch_geometric.data.Data`.

A batch follows the convention of PyG's `NeighborLoader`: seed cells first, then the cells of hop 1,
hop 2, ...; `edge_index` runs from neighbor to cell, sorted by the hop of the cell, so that
`trim_to_layer` drops in every layer what no seed can see any more. Unlike there, no neighbor is
left out: what is computed for the seeds equals a pass over the whole graph.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ..domains.smoothing import neighborhood_mean
from ..rows.file import RowFile
from .batch_plan import BatchPlan, TileSeeds
from .neighborhood import GraphRows, Halo, expand, without_seeds
from .pyg import Data  # pyright: ignore[reportAttributeAccessIssue]  # untyped library

if TYPE_CHECKING:
    from ...atlas.section import Section

__all__ = ["HaloCache", "SectionSource", "TileBatches", "halo_data"]


@dataclass(frozen=True, slots=True)
class SectionSource:
    """What a batch reads of one section.

    Attributes
    ----------
    section : Section
    graph : GraphRows
    table : RowFile
        Features `(n_obs, d)`.
    mask : ndarray (n_obs,) bool, optional
        Cells that take part; the graph knows no others, and no batch holds any.
    """

    section: "Section"
    graph: GraphRows
    table: RowFile
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class _Tile:
    """A tile ready for use: its halo and its prior."""

    halo: Halo
    prior: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        own = self.prior.nbytes + self.halo.n_id.nbytes
        return int(own + 12 * self.halo.adjacency.nnz)


class HaloCache:
    """Tiles used lately, up to a number of bytes; what does not fit is made again. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._tiles: OrderedDict[TileSeeds, _Tile] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._held

    def get(self, seeds: TileSeeds) -> "_Tile | None":
        """Return a tile if it is held."""
        with self._lock:
            found = self._tiles.get(seeds)
            if found is not None:
                self._tiles.move_to_end(seeds)
            return found

    def put(self, seeds: TileSeeds, tile: "_Tile") -> None:
        """Hold a tile, and let go of those used longest ago."""
        with self._lock:
            # two threads may have made the same tile at the same time
            replaced = self._tiles.pop(seeds, None)
            self._held += tile.nbytes - (0 if replaced is None else replaced.nbytes)
            self._tiles[seeds] = tile
            while self._held > self._limit and self._tiles:
                _, dropped = self._tiles.popitem(last=False)
                self._held -= dropped.nbytes


def halo_data(halos: Sequence[Halo], x: Sequence[NDArray[np.float32]]) -> Data:
    """Join halos into one batch without edges between them.

    Parameters
    ----------
    halos : sequence of Halo
        All equally many hops wide.
    x : sequence of ndarray (n_local, d) float32
        Features of the cells of each halo, in its order.

    Returns
    -------
    Data
        x, edge_index, n_id, batch_size, num_sampled_nodes, num_sampled_edges, and `halo`, the
        number of the halo that each cell belongs to.
    """
    hops = len(halos[0].hop_start) - 2
    place = [np.empty(len(halo.n_id), dtype=np.int64) for halo in halos]
    order: list[tuple[int, int, int]] = []
    nodes_per_hop = []
    at = 0
    for hop in range(hops + 1):
        before = at
        for number, halo in enumerate(halos):
            start, stop = halo.hop_start[hop], halo.hop_start[hop + 1]
            place[number][start:stop] = np.arange(at, at + stop - start)
            order.append((number, start, stop))
            at += stop - start
        nodes_per_hop.append(at - before)
    source: list[NDArray[np.int64]] = []
    target: list[NDArray[np.int64]] = []
    edges_per_hop = []
    for hop in range(hops):
        count = 0
        for number, halo in enumerate(halos):
            start, stop = halo.hop_start[hop], halo.hop_start[hop + 1]
            ptr = halo.adjacency.indptr[start : stop + 1]
            columns = halo.adjacency.indices[ptr[0] : ptr[-1]]
            source.append(place[number][columns])
            target.append(np.repeat(place[number][start:stop], np.diff(ptr)))
            count += len(columns)
        edges_per_hop.append(count)
    nothing = [np.zeros(0, dtype=np.int64)]
    edges = np.stack([np.concatenate(source or nothing), np.concatenate(target or nothing)])
    rows = np.concatenate([x[number][a:b] for number, a, b in order])
    return Data(
        x=torch.from_numpy(rows),
        edge_index=torch.from_numpy(edges),
        n_id=torch.from_numpy(np.concatenate([halos[n].n_id[a:b] for n, a, b in order])),
        halo=torch.from_numpy(np.concatenate([np.full(b - a, n) for n, a, b in order])),
        batch_size=nodes_per_hop[0],
        num_sampled_nodes=nodes_per_hop,
        num_sampled_edges=edges_per_hop,
    )


class TileBatches:
    """Batches of a plan, by step number; the same step gives the same batch anywhere. Thread-safe.

    Parameters
    ----------
    plan : BatchPlan
    sources : sequence of SectionSource
        In the order of the plan's sections.
    hops : int
        Width of the halos: the number of layers of the network.
    prior_hops : int
        Hops over which the prior averages; at most `hops`.
    cache_bytes : int
        Memory for tiles that come again.
    """

    def __init__(
        self,
        plan: BatchPlan,
        sources: Sequence[SectionSource],
        *,
        hops: int,
        prior_hops: int,
        cache_bytes: int,
    ) -> None:
        self.plan, self.sources = plan, tuple(sources)
        self.hops, self.prior_hops = hops, prior_hops
        self._cache = HaloCache(cache_bytes)

    def __iter__(self) -> Iterator[Data]:
        """Yield the batches of one epoch, as a loader does."""
        for batch in self.plan.epoch(0):
            yield self.load(batch)

    def _tile(self, seeds: TileSeeds) -> tuple[_Tile, NDArray[np.float32]]:
        """Return a tile and the features of its halo, which are read from disk every time."""
        source = self.sources[seeds.section]
        found = self._cache.get(seeds)
        if found is not None:
            return found, source.table.take(found.halo.n_id)
        halo = expand(source.graph, seeds.start, seeds.stop, self.hops)
        if source.mask is not None:
            halo = without_seeds(halo, source.mask[seeds.start : seeds.stop])
        values = source.table.take(halo.n_id)
        prior = neighborhood_mean(halo, values, self.prior_hops)
        tile = _Tile(halo, prior)
        self._cache.put(seeds, tile)
        return tile, values

    def load(self, batch: Sequence[int]) -> Data:
        """Read one batch.

        Parameters
        ----------
        batch : sequence of int
            Numbers into `plan.tiles`.

        Returns
        -------
        Data
            As `halo_data`, and input_id (section rows of the seeds), section (number of the
            section of every cell), prior (seeds, d).
        """
        seeds = [self.plan.tiles[number] for number in batch]
        read = [self._tile(one) for one in seeds]
        tiles = [tile for tile, _ in read]
        data = halo_data([tile.halo for tile in tiles], [values for _, values in read])
        section = torch.tensor([one.section for one in seeds])
        data.section = section[data.halo]
        data.input_id = data.n_id[: data.batch_size]
        data.prior = torch.from_numpy(np.concatenate([tile.prior for tile in tiles]))
        return data
