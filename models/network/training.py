"""The fit loop: seeded steps that can be stopped after any and gone on with to the same bytes."""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...atlas.errors import InvalidArgument
from ..components.projection import Progress
from ..sampling.batch_plan import Partition
from ..sampling.prefetch import prefetched
from ..sampling.pyg import Data  # pyright: ignore[reportAttributeAccessIssue]  # untyped library
from ..sampling.tile_batches import TileBatches
from .checkpoint import Learning, restore, save_checkpoint
from .device import Later, Placement
from .errors import TrainingDivergedError
from .history import StepReport, StepReporter, TrainingHistory
from .ranks import Ranks
from .scale import Scale
from .schedule import Saving, Schedule, step_seed

__all__ = ["Objective", "OnStep", "Trainer"]

MOST_GROWTH = 1000.0  # of the loss, over its first value: beyond it nothing is learned any more

type Objective = Callable[[Any, Data, torch.Generator], Tensor | Mapping[str, Tensor]]
"""Called with (encoder, batch, generator): the loss, or its weighted terms by name.

One that is a `Module` is trained too. The generator is on the CPU, seeded by the batch.
"""

type OnStep = Callable[[StepReport], None]
"""Called after every step."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A step whose loss has not been looked at yet."""

    step: int
    names: tuple[str, ...]
    values: Later
    cells_at: int


class Trainer:
    """Trains an encoder in place.

    Parameters
    ----------
    encoder : Module
        Freshly made; a checkpoint overwrites its weights.
    objective : callable
        See `Objective`.
    batches : TileBatches
        Its plan's partition is that of `ranks`.
    scale : Scale
    schedule : Schedule
    placement : Placement
    seed : int
        Decides everything random in each step.
    identity : mapping
        JSON facts that a checkpoint must share with this training.
    saving : Saving, optional
    ranks : Ranks, optional
    num_workers : int
        Threads that make batches ahead; the result does not depend on it.

    Notes
    -----
    Memory: `num_workers + 1` batches, weights thrice, and what the backward pass keeps of one
    batch on the device.
    """

    def __init__(
        self,
        encoder: nn.Module,
        objective: Objective,
        batches: TileBatches,
        *,
        scale: Scale,
        schedule: Schedule,
        placement: Placement,
        seed: int,
        identity: Mapping[str, Any],
        saving: Saving | None = None,
        ranks: Ranks | None = None,
        num_workers: int = 1,
    ) -> None:
        self.encoder, self.objective, self.batches = encoder, objective, batches
        self.scale, self.schedule, self.placement = scale, schedule, placement
        self.seed, self.num_workers = seed, num_workers
        self.saving, self.ranks = saving or Saving(), ranks or Ranks()
        if batches.plan.partition != self.ranks.partition:
            raise InvalidArgument(
                f"batches of {self.ranks} are wanted, but got those of {batches.plan.partition}"
            )
        modules = {"encoder": encoder}
        if isinstance(objective, nn.Module):
            modules["objective"] = objective
        for module in modules.values():
            module.to(placement.device)
        parameters = [p for module in modules.values() for p in module.parameters()]
        # one parameter after another: the fused sums of `foreach` differ between machines
        optimizer = torch.optim.Adam(parameters, lr=schedule.lr, foreach=False)
        facts = {"steps": schedule.steps, "lr": schedule.lr, "ranks": self.ranks.world_size}
        self.learning = Learning(
            modules, optimizer, {**identity, **facts, "precision": placement.precision}
        )
        self._parameters = parameters

    def run(
        self, *, progress: Progress | None = None, on_step: OnStep | None = None
    ) -> TrainingHistory:
        """Train to the end of the schedule, from the checkpoint where there is one.

        Parameters
        ----------
        progress : callable, optional
            Called with ("train", step, steps).
        on_step : callable, optional
            Called with a `StepReport` after every step.

        Returns
        -------
        TrainingHistory
            Every step, those before a resume included.

        Raises
        ------
        TrainingDivergedError
            The loss is no longer finite, or a thousand times its first value; the last checkpoint
            is kept.
        DeviceMemoryError
            A batch does not fit the device.
        InvalidArgument
            The checkpoint belongs to another training, or there are fewer batches than ranks.
        Corrupt
            The checkpoint is damaged.
        """
        before = self._resumed()
        reporter = StepReporter(before, self.schedule.steps)
        modules = self.learning.modules.values()
        cuda = [self.placement.device] if self.placement.device.type == "cuda" else []
        for module in modules:
            module.train()
        with torch.random.fork_rng(devices=cuda), self.placement.compiled(self.encoder):
            self._learn(reporter, progress, on_step)
        for module in modules:
            module.eval()
        return reporter.history()

    def _learn(
        self, reporter: StepReporter, progress: Progress | None, on_step: OnStep | None
    ) -> None:
        began = time.perf_counter()
        steps = self.schedule.steps

        def settle(made: _Made) -> None:
            terms, cells = self._read(made)
            report = reporter.add(terms, cells, time.perf_counter() - began)
            if reporter.growth > MOST_GROWTH:
                raise TrainingDivergedError(self._grown(made.step, reporter))
            if progress is not None:
                progress("train", report.done, steps)
            if on_step is not None:
                on_step(report)

        waiting: _Made | None = None
        with closing(self._data(reporter.first)) as stream:
            for step, data in enumerate(stream, start=reporter.first):
                made = self._step(step, data)
                # looked at one step late, so that the device never waits for it
                if waiting is not None:
                    settle(waiting)
                waiting = made
                if self.saving.is_due(step + 1, steps):
                    settle(waiting)
                    waiting = None
                    self._save(reporter.history())
        if waiting is not None:
            settle(waiting)

    def _data(self, first: int) -> Generator[Data]:
        """Hand out the batches of all steps left, made ahead, still on the CPU."""
        todo = self.batches.plan.steps(first, self.schedule.steps)
        return prefetched(
            lambda batch: self.placement.pinned(self.batches.load(batch)),
            todo,
            threads=self.num_workers,
            depth=self.num_workers,
        )

    def _step(self, step: int, data: Data) -> _Made:
        """Make one step of the optimizer."""
        number = step * self.ranks.world_size + self.ranks.rank
        cells, reached = int(data.batch_size), len(data.n_id)
        with self.placement.memory_explained(
            f"a batch of {cells:,} cells and the {reached - cells:,} around them",
            "make `batch_cells` or `n_hidden` smaller, or use precision='bf16'",
        ):
            data = self.scale.apply(self.placement.move(data))
            optimizer = self.learning.optimizer
            for group in optimizer.param_groups:
                group["lr"] = self.schedule.rate(step)
            # dropout and the like draw from the global generator, which `run` gives back
            torch.manual_seed(step_seed(self.seed, number))
            generator = torch.Generator().manual_seed(step_seed(self.seed, number))
            with self.placement.autocast():
                found = self.objective(self.encoder, data, generator)
            terms = found if isinstance(found, Mapping) else {"loss": found}
            optimizer.zero_grad(set_to_none=True)
            total = torch.stack([term.float() for term in terms.values()]).sum()
            total.backward()  # type: ignore[no-untyped-call]  # torch ships it without types
            self.ranks.average_gradients(self._parameters)
            optimizer.step()
            self.ranks.share(self.learning.buffers())
        told = [term.detach().float() for term in terms.values()]
        # filled there: a number copied to the device would wait for all that is queued
        told.append(torch.full((), float(cells), device=told[0].device))
        joint = self.ranks.mean(torch.stack(told))
        return _Made(step, tuple(terms), Later(list(joint)), len(terms))

    def _read(self, made: _Made) -> tuple[dict[str, float], int]:
        """Return the terms of a step and the cells of all ranks.

        Raises
        ------
        TrainingDivergedError
            The loss is not finite.
        """
        values = made.values.read()
        terms = dict(zip(made.names, values[: made.cells_at], strict=True))
        if not np.isfinite(sum(terms.values())):
            raise TrainingDivergedError(self._diverged(made.step, terms))
        return terms, round(values[made.cells_at] * self.ranks.world_size)

    def _diverged(self, step: int, terms: Mapping[str, float]) -> str:
        plan, world = self.batches.plan, self.ranks.world_size
        numbers = [
            number
            for rank in range(world)
            for batch in replace(plan, partition=Partition(rank, world)).steps(step, step + 1)
            for number in batch
        ]
        tiles = [plan.tiles[number] for number in numbers]
        rows = ", ".join(
            f"{self.batches.sources[t.section].section.name} rows {t.start}:{t.stop}" for t in tiles
        )
        return (
            f"a finite loss is wanted, but got {sum(terms.values())} ({dict(terms)}) at step "
            f"{step} of {self.schedule.steps}, in {len(tiles)} tiles: {rows}; {self._kept()}; look "
            "at these cells, or lower `lr`"
        )

    def _grown(self, step: int, reporter: StepReporter) -> str:
        return (
            f"a loss that falls is wanted, but it grew from {reporter.loss[0]:.4g} to "
            f"{reporter.loss[-1]:.4g} by step {step} of {self.schedule.steps}; {self._kept()}; "
            f"lower `lr` (it is {self.schedule.lr:g}) and train anew"
        )

    def _kept(self) -> str:
        """Tell what is left of a training that diverged."""
        path = self.saving.path
        if path is not None and path.exists():
            return f"the last checkpoint before it is {path}"
        return "no checkpoint was saved before it"

    def _resumed(self) -> TrainingHistory:
        """Take the state of the checkpoint where there is one; all ranks take that of rank 0."""
        path = self.saving.path
        data = None
        if self.ranks.is_first and path is not None and self.saving.resume and path.exists():
            data = path.read_bytes()
        data = self.ranks.share_bytes(data)
        if data is not None:
            return restore(data, str(path), self.learning)
        with torch.no_grad():
            self.ranks.share([*(p.data for p in self._parameters), *self.learning.buffers()])
        return TrainingHistory()

    def _save(self, history: TrainingHistory) -> None:
        path = self.saving.path
        if path is not None and self.ranks.is_first:
            save_checkpoint(path, self.learning, history)
