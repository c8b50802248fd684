"""The graph network as a model of an atlas: trained on tiles, embeds any section exactly."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, override

import numpy as np
import torch
from numpy.typing import NDArray

from ...atlas.errors import Corrupt, InvalidArgument
from ..components.pca import GramSum, principal_components
from ..components.projection import Progress
from ..lifecycle import AtlasModel
from ..rows.file import RowFile
from ..sampling.batch_plan import plan_batches
from ..sampling.graph_source import GraphSource
from ..sampling.neighborhood import GraphRows
from ..sampling.tile_batches import SectionSource, TileBatches
from .encoder import CONVS, Encoder
from .inference import BLOCK_ROWS, embed_section
from .objective import LossWeights
from .training import Scale, Schedule, deterministic, measure_scale, pick_device, train

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

__all__ = ["DomainGNN"]


class DomainGNN(AtlasModel):
    """A small inductive graph network over principal components.

    Inputs and outputs are centered on each section's own mean, so that a section it never saw needs
    nothing but its own cells. On the CPU, the same seed and snapshot give the same weights.

    Parameters
    ----------
    store, sections, graph, n_comps, n_top_genes, memory_limit, seed
        See `AtlasModel`.
    n_layers : int
        Graph layers: hops that an embedding sees.
    n_hidden : int
        Width of the hidden layers.
    conv : {"sage", "gat"}
        Neighbor means or attention.
    steps, lr, batch_cells : int, float, int
        Batches to learn from, learning rate, cells a batch.
    mask, reconstruction, prior : float
        See `LossWeights`.
    prior_hops : int
        Hops that the prior averages over.
    n_dims : int
        Directions of largest variance that the embedding keeps. The mixture after it weighs all
        directions alike, so that those of noise would count as much as those of tissue.
    device : str
        "auto", "cpu" or "cuda".
    checkpoint : Path or str, optional
        File to resume training from and to save to.
    """

    kind: ClassVar[str] = "gnn"

    def __init__(
        self,
        store: "AtlasStore",
        *,
        sections: Sequence[str] | None = None,
        graph: GraphSource | None = None,
        n_comps: int = 30,
        n_top_genes: int = 2000,
        n_layers: int = 4,
        n_hidden: int = 64,
        conv: str = "sage",
        steps: int = 300,
        lr: float = 5e-3,
        batch_cells: int = 4096,
        mask: float = 0.3,
        reconstruction: float = 1.0,
        prior: float = 0.3,
        prior_hops: int = 3,
        n_dims: int = 12,
        device: str = "auto",
        checkpoint: Path | str | None = None,
        memory_limit: str | int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            store,
            sections=sections,
            graph=graph,
            n_comps=n_comps,
            n_top_genes=n_top_genes,
            memory_limit=memory_limit,
            seed=seed,
        )
        if not 1 <= prior_hops <= n_layers or min(steps, n_dims) < 1:
            raise InvalidArgument(
                "wanted steps and n_dims >= 1 and 1 <= prior_hops <= n_layers, but got "
                f"steps={steps}, n_dims={n_dims}, prior_hops={prior_hops}, n_layers={n_layers}"
            )
        if conv not in CONVS:
            raise InvalidArgument(f"a conv of {', '.join(CONVS)} is wanted, but got {conv!r}")
        self.n_layers, self.n_hidden, self.conv = n_layers, n_hidden, conv
        self.steps, self.lr, self.batch_cells = steps, lr, batch_cells
        self.loss = LossWeights(reconstruction, prior, mask)
        self.prior_hops, self.n_dims = prior_hops, n_dims
        self.rotation: NDArray[np.float64] | None = None
        self.device = pick_device(device)
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.encoder: Encoder | None = None
        self.scale = Scale(1.0, 1.0)
        self.losses: list[float] = []

    @override
    def _fit(self, progress: Progress | None) -> None:
        _, components = self.fitted()
        with tempfile.TemporaryDirectory(prefix="tisseract-") as scratch, ExitStack() as stack:
            sources = []
            for name in self.section_names:
                section = self.store.section(name)
                table = stack.enter_context(self.scores(section, Path(scratch)))
                neighbors = self.graph.open(self.store, name)
                self.inputs.update(neighbors.inputs)
                sources.append(SectionSource(section, neighbors.graph, table))
            batches = TileBatches(
                plan_batches(
                    [source.section.tiles.ptr for source in sources],
                    batch_cells=self.batch_cells,
                    seed=self.seed,
                ),
                sources,
                hops=self.n_layers,
                prior_hops=self.prior_hops,
                cache_bytes=self.limit // 4,
            )
            self._train(batches, float(components.variance.mean()), progress)
            self.rotation = self._main_directions(sources, Path(scratch))

    def _train(self, batches: TileBatches, variance: float, progress: Progress | None) -> None:
        with deterministic(self.device):
            self.encoder = self._fresh()
            self.scale = measure_scale(batches, variance)
            self.losses = train(
                self.encoder,
                batches,
                scale=self.scale,
                weights=self.loss,
                schedule=Schedule(self.steps, self.lr, self.checkpoint),
                device=self.device,
                seed=self.seed,
                identity={"parameters": self.parameters(), "inputs": self.inputs},
                progress=progress,
            )

    def _main_directions(
        self, sources: Sequence[SectionSource], folder: Path
    ) -> NDArray[np.float64]:
        """Return the directions in which the embeddings of all sections vary most."""
        assert self.encoder is not None
        sums = GramSum(self.encoder.decoder.in_features)
        for source in sources:
            with self._through(source.graph, source.table, folder / "whole") as table:
                for block in table.blocks(BLOCK_ROWS):
                    sums.add(block)
        return principal_components(sums.scatter(), sums.n_rows, self.n_dims).loadings

    def _through(self, graph: GraphRows, table: RowFile, path: Path) -> RowFile:
        """Send the features of a section through the network."""
        assert self.encoder is not None
        with deterministic(self.device):
            return embed_section(
                self.encoder,
                graph,
                table,
                hops=self.n_layers,
                scale=self.scale,
                device=self.device,
                path=path,
                rotation=self.rotation,
            )

    def _fresh(self) -> Encoder:
        """Return an encoder with seeded weights; the global generator stays as it was."""
        _, components = self.fitted()
        width = components.loadings.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Encoder(width, self.n_hidden, width, n_layers=self.n_layers, conv=self.conv)

    @override
    def _embed(self, section: "Section", folder: Path) -> tuple[RowFile, Mapping[str, str]]:
        if self.encoder is None:
            raise InvalidArgument("a fitted network is wanted, but got one before fit()")
        neighbors = self.graph.open(self.store, section.name)
        with self.scores(section, folder) as scores:
            table = self._through(neighbors.graph, scores, folder / f"gnn-{section.attempt}")
        return table, neighbors.inputs

    @override
    def _settings(self) -> dict[str, Any]:
        return {
            "n_layers": self.n_layers,
            "n_hidden": self.n_hidden,
            "conv": self.conv,
            "steps": self.steps,
            "lr": self.lr,
            "batch_cells": self.batch_cells,
            "mask": self.loss.mask,
            "reconstruction": self.loss.reconstruction,
            "prior": self.loss.prior,
            "prior_hops": self.prior_hops,
            "n_dims": self.n_dims,
        }

    @override
    def _weights(self) -> dict[str, NDArray[Any]]:
        if self.encoder is None:
            raise InvalidArgument("a fitted network is wanted, but got one before fit()")
        weights = {
            f"encoder.{name}": value.detach().cpu().numpy()
            for name, value in self.encoder.state_dict().items()
        }
        if self.rotation is not None:
            weights["rotation"] = self.rotation
        weights["scale"] = np.asarray([self.scale.features, self.scale.prior])
        return weights

    @override
    def _restore(self, weights: Mapping[str, NDArray[Any]]) -> None:
        encoder = self._fresh()
        state = {
            name.removeprefix("encoder."): torch.from_numpy(np.asarray(value))
            for name, value in weights.items()
            if name.startswith("encoder.")
        }
        try:
            encoder.load_state_dict(state)
        except RuntimeError as error:
            raise Corrupt(f"weights of this network are wanted, but got others: {error}") from error
        self.encoder = encoder.to(self.device).eval()
        self.rotation = np.asarray(weights["rotation"], dtype=np.float64)
        self.scale = Scale(*(float(value) for value in weights["scale"]))
