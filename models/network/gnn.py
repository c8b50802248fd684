"""The graph network as a model of an atlas: trained on tiles, embeds any section exactly."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, override

import numpy as np
import torch
from numpy.typing import NDArray

from ...atlas.errors import Corrupt, InvalidArgument
from ..components.projection import CellsDone, Progress, cells_counted
from ..numbers import refuse_wrong
from ..rows.file import RowFile, kept_blocks
from ..runs import Run
from ..sampling.batch_plan import plan_batches
from ..sampling.graph_source import GraphSource
from ..sampling.tile_batches import SectionSource, TileBatches
from .checkpoint import discard_checkpoint
from .device import Placement, deterministic, pick_device, pick_precision
from .directions import main_directions
from .encoder import CONVS, Encoder
from .history import TrainingHistory
from .inference import BLOCK_ROWS, embed_section
from .objective import LossWeights, masked_loss, wrong_together
from .planned import PlannedNetwork
from .ranks import Ranks, this_rank
from .scale import Scale, measure_scale
from .schedule import Saving, Schedule
from .training import Objective, OnStep, Trainer
from .weights import pack_weights, unpack_weights

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ...atlas.snapshot import DerivedEntry
    from ...atlas.store import AtlasStore

__all__ = ["DomainGNN"]


class DomainGNN(PlannedNetwork):
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
    max_rows : int, optional
        Tiles are cut into runs of at most this many cells, see `plan_batches`.
    mask_rate, reconstruction, prior : float
        See `LossWeights`.
    prior_hops : int
        Hops that the prior averages over.
    n_dims : int
        Directions that the embedding keeps: those in which the guess of the decoder varies most.
        The mixture after it weighs all directions alike, so that those of noise would count as
        much as those of tissue.
    device : str
        "auto", "cpu" or "cuda".
    precision : {"auto", "float32", "bf16"}
        Of the forward pass of training; "auto" is float32 on the CPU, bf16 on a CUDA device that
        has it. Embedding is always float32.
    compile : bool
        Send training through `torch.compile`; its last bits differ then.
    num_workers : int
        Threads that read batches ahead; every number of them gives the same weights.
    checkpoint : Path or str, optional
        File to save to every `every` steps and after the last one.
    every : int
    resume : bool
        Go on with a checkpoint that is there; otherwise overwrite it, as is the default.

    Attributes
    ----------
    history : TrainingHistory
        Loss, terms, cells and seconds of every step.

    Notes
    -----
    Under `torchrun` the processes train together: every step averages the gradients of one batch
    per process. Each of them fits the components, rank 0 writes checkpoints, embeds and commits.
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
        steps: int = 150,
        lr: float = 5e-3,
        batch_cells: int = 4096,
        mask_rate: float = 0.5,
        reconstruction: float = 1.0,
        prior: float = 0.3,
        prior_hops: int = 3,
        n_dims: int = 20,
        max_rows: int | None = None,
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,  # noqa: A002 - the name that torch gave it
        num_workers: int = 1,
        checkpoint: Path | str | None = None,
        every: int = 50,
        resume: bool = False,
        memory_limit: str | int | None = None,
        seed: int = 0,
    ) -> None:
        refuse_wrong(locals(), wrong_together(n_layers, prior_hops, reconstruction, prior))
        super().__init__(
            store,
            sections=sections,
            graph=graph,
            n_comps=n_comps,
            n_top_genes=n_top_genes,
            memory_limit=memory_limit,
            seed=seed,
        )
        if conv not in CONVS:
            raise InvalidArgument(f"a conv of {', '.join(CONVS)} is wanted, but got {conv!r}")
        self.n_layers, self.n_hidden, self.conv = n_layers, n_hidden, conv
        self.schedule = Schedule(steps, lr)
        self.batch_cells, self.max_rows = batch_cells, max_rows
        self.loss = LossWeights(reconstruction, prior, mask_rate)
        self.prior_hops, self.n_dims = prior_hops, n_dims
        self.rotation: NDArray[np.float64] | None = None
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.compile, self.num_workers = compile, num_workers
        self.saving = Saving(None if checkpoint is None else Path(checkpoint), every, resume)
        self.encoder: Encoder | None = None
        self.scale: Scale | None = None
        self.history = TrainingHistory()
        self._on_step: OnStep | None = None

    @property
    def losses(self) -> list[float]:
        """Loss of every step."""
        return list(self.history.loss)

    @override
    def fit(self, *, progress: Progress | None = None, on_step: OnStep | None = None) -> Self:
        """Fit on the chosen sections.

        Parameters
        ----------
        progress : callable, optional
            Called with (stage, done, total).
        on_step : callable, optional
            Called with a `StepReport` after every step of training.

        Returns
        -------
        The model itself.

        Raises
        ------
        DerivedNotFound, StaleDerived
            A section has no graph of this key, or one of a section that was replaced since.
        TrainingDivergedError, DeviceMemoryError, InvalidArgument, Corrupt
            See `Trainer.run` and `AtlasModel.fit`.
        BudgetExceeded, StorageFull
            See `AtlasModel.fit`.
        """
        if self.graph.key is not None:  # before hours of work rather than after
            for name in self.section_names:
                self.store.derived("graph", self.graph.key, name)
        self._on_step = on_step
        return super().fit(progress=progress)

    @override
    def _fit(self, progress: Progress | None) -> None:
        _, components = self.fitted()
        ranks = Ranks.joined(self.device)
        with tempfile.TemporaryDirectory(prefix="tisseract-") as scratch, ExitStack() as stack:
            sources = []
            total = sum(self.store.section(name).n_obs for name in self.section_names)
            done = cells_counted(progress, "scores", total)
            for name in self.section_names:
                section = self.store.section(name)
                table = stack.enter_context(self.scores(section, Path(scratch), done))
                neighbors = self.graph.open(self.store, name)
                self.inputs.update(neighbors.inputs)
                mask = self.graph.mask_of(name)
                sources.append(SectionSource(section, neighbors.graph, table, mask))
            batches = TileBatches(
                plan_batches(
                    [source.section.tiles.ptr for source in sources],
                    batch_cells=self.batch_cells,
                    max_rows=self.max_rows,
                    seed=self.seed,
                    partition=ranks.partition,
                    masks=[source.mask for source in sources],
                ),
                sources,
                hops=self.n_layers,
                prior_hops=self.prior_hops,
                cache_bytes=self.limit // 4,
            )
            self._train(batches, components.variance, ranks, progress)
            done = cells_counted(progress, "directions", total)
            self.rotation = self._main_directions(sources, Path(scratch), ranks, done)

    def _objective(self) -> Objective:
        """Return what the encoder is trained for."""
        return lambda encoder, data, generator: masked_loss(encoder, data, self.loss, generator)

    def _train(
        self,
        batches: TileBatches,
        variance: NDArray[np.float64],
        ranks: Ranks,
        progress: Progress | None,
    ) -> None:
        encoder = self._fresh()
        cells = self.graph.digests(self.section_names)  # of other cells: another training
        with deterministic(self.device):
            self.scale = measure_scale(batches, variance, progress=progress)
            trainer = Trainer(
                encoder,
                self._objective(),
                batches,
                scale=self.scale,
                schedule=self.schedule,
                placement=Placement(self.device, self.precision, self.compile),
                seed=self.seed,
                identity={"parameters": self.parameters(), "inputs": self.inputs, "cells": cells},
                saving=self.saving,
                ranks=ranks,
                num_workers=self.num_workers,
            )
            self.history = trainer.run(progress=progress, on_step=self._on_step)
        self.encoder = encoder

    def discard_checkpoint(self) -> None:
        """Remove the checkpoint, once the model is saved elsewhere."""
        if self.saving.path is not None and Ranks(*this_rank()).is_first:
            discard_checkpoint(self.saving.path)

    def _main_directions(
        self, sources: Sequence[SectionSource], folder: Path, ranks: Ranks, done: CellsDone
    ) -> NDArray[np.float64]:
        """Return the directions in which the guesses of all sections vary most, as rank 0 does."""
        assert self.encoder is not None

        def blocks() -> Iterator[NDArray[np.float32]]:
            for source in sources:
                with self._through(source, folder / "whole", done) as table:
                    yield from kept_blocks(table, source.mask, BLOCK_ROWS)

        first = ranks.is_first
        found = main_directions(self.encoder, blocks(), self.n_dims) if first else None
        data = ranks.share_bytes(None if found is None else pack_weights({"r": found}))
        assert data is not None
        return np.asarray(unpack_weights(data)["r"], dtype=np.float64) if found is None else found

    def _through(self, source: SectionSource, path: Path, done: CellsDone | None = None) -> RowFile:
        """Send the features of a section through the network."""
        assert self.encoder is not None
        assert self.scale is not None
        with deterministic(self.device):
            return embed_section(
                self.encoder,
                source.graph,
                source.table,
                hops=self.n_layers,
                scale=self.scale,
                device=self.device,
                path=path,
                rotation=self.rotation,
                mask=source.mask,
                num_workers=self.num_workers,
                progress=done,
            )

    def _fresh(self) -> Encoder:
        """Return an encoder with seeded weights; the global generator stays as it was."""
        _, components = self.fitted()
        width = components.loadings.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Encoder(width, self.n_hidden, width, n_layers=self.n_layers, conv=self.conv)

    @override
    def _embed(
        self, section: "Section", folder: Path, done: CellsDone
    ) -> tuple[RowFile, Mapping[str, str]]:
        if self.encoder is None:
            raise InvalidArgument("a fitted network is wanted, but got one before fit()")
        neighbors = self.graph.open(self.store, section.name)
        with self.scores(section, folder, done) as scores:
            mask = self.graph.mask_of(section.name)
            source = SectionSource(section, neighbors.graph, scores, mask)
            table = self._through(source, folder / f"gnn-{section.attempt}", done)
        return table, neighbors.inputs

    @override
    def embed(
        self,
        key_added: str,
        *,
        sections: Sequence[str] | None = None,
        run: str | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> "tuple[DerivedEntry, ...]":
        """Embed and commit as `AtlasModel.embed`; under `torchrun` rank 0 does, others nothing."""
        if not Ranks(*this_rank()).is_first:
            return ()
        return super().embed(
            key_added, sections=sections, run=run, overwrite=overwrite, progress=progress
        )

    @override
    def to_run(self) -> Run:
        """Return the fitted model as a value, its losses included."""
        run = super().to_run()
        return replace(run, config={**run.config, "history": self.history.to_dict()})

    @classmethod
    @override
    def from_run(
        cls, store: "AtlasStore", saved: Run, *, memory_limit: str | int | None, **options: Any
    ) -> Self:
        """Make a model of a loaded run."""
        model = super().from_run(store, saved, memory_limit=memory_limit, **options)
        if "history" in saved.config:  # earlier versions kept none
            model.history = TrainingHistory.from_dict(saved.config["history"])
        return model

    @override
    def _settings(self) -> dict[str, Any]:
        return {
            "n_layers": self.n_layers,
            "n_hidden": self.n_hidden,
            "conv": self.conv,
            "steps": self.schedule.steps,
            "lr": self.schedule.lr,
            "batch_cells": self.batch_cells,
            "max_rows": self.max_rows,
            "precision": self.precision,
            "mask_rate": self.loss.mask_rate,
            "reconstruction": self.loss.reconstruction,
            "prior": self.loss.prior,
            "prior_hops": self.prior_hops,
            "n_dims": self.n_dims,
        }

    @override
    def _weights(self) -> dict[str, NDArray[Any]]:
        if self.encoder is None or self.scale is None:
            raise InvalidArgument("a fitted network is wanted, but got one before fit()")
        weights = self.encoder.to_weights()
        if self.rotation is not None:
            weights["rotation"] = self.rotation
        return weights | self.scale.to_weights()

    @override
    def _restore(self, weights: Mapping[str, NDArray[Any]]) -> None:
        encoder = self._fresh()
        try:
            encoder.load_weights(weights)
            self.rotation = np.asarray(weights["rotation"], dtype=np.float64)
            self.scale = Scale.from_weights(weights)
        except (RuntimeError, KeyError) as error:
            raise Corrupt(f"weights of this network are wanted, but got others: {error}") from error
        self.encoder = encoder.to(self.device).eval()
