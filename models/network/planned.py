"""What training and embedding by a network will need."""

from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING, override

from ..lifecycle import AtlasModel
from ..planning import CountsPlan, StagePlan
from ..sizes import OVERHEAD, HaloSize, batch_bytes, mean_degree, network_bytes
from .inference import BLOCK_ROWS

if TYPE_CHECKING:
    from ...atlas.section import Section

__all__ = ["PlannedNetwork"]


class PlannedNetwork(AtlasModel, ABC):
    """A model whose embedding is a network over halos: adds its stages to the plan."""

    n_layers: int
    n_hidden: int
    n_dims: int
    conv: str
    batch_cells: int
    max_rows: int | None
    num_workers: int

    @property
    @override
    def width(self) -> int:
        """Columns of the embedding."""
        return self.n_dims

    def _network_bytes(self, halo: HaloSize, *, backward: bool) -> int:
        ahead = (self.num_workers + 1) * batch_bytes(halo, self.n_comps)
        return ahead + network_bytes(
            halo,
            width=self.n_comps,
            hidden=self.n_hidden,
            layers=self.n_layers,
            backward=backward,
            per_edge=1 if self.conv == "sage" else 4,
        )

    def _batch(self, section: "Section", degree: float) -> HaloSize:
        """Size of a batch whose tiles are all of one section; the last tile comes on top."""
        rows = -(-section.n_obs // max(section.n_tiles, 1))
        rows = rows if self.max_rows is None else min(rows, self.max_rows)
        pieces = min(1 - (-self.batch_cells // max(rows, 1)), -(-section.n_obs // max(rows, 1)))
        return HaloSize.of(rows, hops=self.n_layers, degree=degree, most=section.n_obs).times(
            pieces
        )

    def _tiles(self, section: "Section", degree: float) -> int:
        """Bytes of all tiles of a section: halos with edges, and their priors."""
        rows = -(-section.n_obs // max(section.n_tiles, 1))
        rows = rows if self.max_rows is None else min(rows, self.max_rows)
        halo = HaloSize.of(rows, hops=self.n_layers, degree=degree, most=section.n_obs)
        tile = 4 * halo.own * self.n_comps + 8 * halo.cells + 12 * halo.edges
        return tile * -(-section.n_obs // max(rows, 1))

    @override
    def _fit_stages(self, counts: CountsPlan) -> list[StagePlan]:
        degree = mean_degree(self.graph, self.store, counts.sections)
        batches = [self._batch(section, degree) for section in counts.sections]
        largest = max(batches, key=lambda halo: halo.cells)
        # tiles that come again are kept, as far as there are any
        cached = min(self.limit // 4, sum(self._tiles(s, degree) for s in counts.sections))
        peak = OVERHEAD + cached + self._network_bytes(largest, backward=True)
        knob = "choose fewer `batch_cells`, or raise `memory_limit`"
        return [
            counts.scores(self.n_top_genes),
            StagePlan("training", 0, 0, peak, knob),
            self._network(counts),
        ]

    def _network(self, counts: CountsPlan) -> StagePlan:
        """Plan a pass of all cells through the network."""
        degree = mean_degree(self.graph, self.store, counts.sections)
        most = max(section.n_obs for section in counts.sections)
        halo = HaloSize.of(min(BLOCK_ROWS, most), hops=self.n_layers, degree=degree, most=most)
        peak = OVERHEAD + self._network_bytes(halo, backward=False)
        knob = "choose fewer layers or a graph of fewer neighbors, or raise `memory_limit`"
        return StagePlan("network", 0, 0, peak, knob)

    @override
    def _embed_stages(self, counts: CountsPlan, n_genes: int) -> list[StagePlan]:
        return [counts.scores(n_genes), self._network(counts), counts.writing(self.width)]

    @override
    def _scratch(self, n_obs: Sequence[int], *, with_fit: bool) -> int:
        every, largest = sum(n_obs), max(n_obs, default=0)
        embedding = 4 * (self.n_dims * every + self.n_comps * largest)
        return max(embedding, 4 * self.n_comps * (every + largest) if with_fit else 0)
