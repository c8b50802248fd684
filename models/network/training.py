"""The fit loop: seeded steps, checkpoints that resume to the same bytes on the CPU."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument, TisseractError
from ..components.projection import Progress
from ..sampling.pyg import Data  # pyright: ignore[reportAttributeAccessIssue]  # untyped library
from ..sampling.tile_batches import TileBatches
from .encoder import Encoder
from .objective import LossWeights, masked_loss
from .weights import pack_weights, unpack_weights

__all__ = ["Scale", "Schedule", "TrainingDivergedError", "deterministic", "pick_device", "train"]

SCALE_BATCHES = 16  # batches that the spread of the prior is measured on


class TrainingDivergedError(TisseractError, FloatingPointError):
    """The loss became nan or infinite; the message names the batch."""

    kind = "training-diverged"


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn.

    Attributes
    ----------
    steps : int
        Batches to learn from, over as many epochs as that takes.
    lr : float
        Learning rate at the start; it falls to zero along a cosine.
    checkpoint : Path or None
        File to resume from and to save to.
    every : int
        Steps between two saves.
    """

    steps: int = 300
    lr: float = 5e-3
    checkpoint: Path | None = None
    every: int = 50

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return 0.5 * self.lr * (1.0 + float(np.cos(np.pi * step / self.steps)))


@dataclass(frozen=True, slots=True)
class Scale:
    """Divisors that bring features and prior to about unit variance, the same for all sections.

    Attributes
    ----------
    features, prior : float
    """

    features: float
    prior: float

    def apply(self, data: Data, device: torch.device) -> Data:
        """Move a batch to the device and standardize it there."""
        data = data.to(device, non_blocking=True)
        data.x = data.x / self.features
        if "prior" in data:
            data.prior = data.prior / self.prior
        return data


def pick_device(name: str) -> torch.device:
    """Return the device for a name; "auto" takes CUDA where there is one.

    Raises
    ------
    InvalidArgument
        CUDA is asked for and there is none, or the name means nothing.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidArgument(
            f"a device 'auto', 'cpu' or 'cuda' is wanted, but got {name!r}"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidArgument(f"no CUDA device is there, but got device={name!r}; use 'auto'")
    return device


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Ask torch for repeatable kernels on the CPU; the process's own setting comes back afterwards.

    CUDA wants an environment variable set before the process starts, so nothing is promised there.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(mode=device.type == "cpu", warn_only=False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


def measure_scale(batches: TileBatches, feature_variance: float) -> Scale:
    """Measure the spread of the prior on the first batches of the plan."""
    square, count = 0.0, 0
    for batch in batches.plan.epoch(0)[:SCALE_BATCHES]:
        prior = batches.load(batch).prior.double()
        square += float(prior.square().sum())
        count += prior.numel()
    # a tissue without any structure has nothing to divide by
    return Scale(float(np.sqrt(feature_variance)) or 1.0, float(np.sqrt(square / count)) or 1.0)


def train(
    encoder: Encoder,
    batches: TileBatches,
    *,
    scale: Scale,
    weights: LossWeights,
    schedule: Schedule,
    device: torch.device,
    seed: int,
    identity: Mapping[str, Any],
    progress: Progress | None = None,
) -> list[float]:
    """Train an encoder in place.

    Parameters
    ----------
    encoder : Encoder
        Freshly made; a checkpoint overwrites its weights.
    batches : TileBatches
    scale : Scale
    weights : LossWeights
    schedule : Schedule
    device : torch.device
    seed : int
        Decides which cells are hidden in each step.
    identity : mapping
        JSON facts that a checkpoint must share with this training.
    progress : callable, optional
        Called with ("train", step, steps).

    Returns
    -------
    list of float
        Loss of each step made here.

    Raises
    ------
    TrainingDivergedError
        The loss is no longer finite; the last checkpoint is kept.
    InvalidArgument
        The checkpoint belongs to another training.
    """
    encoder.to(device).train()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=schedule.lr, foreach=False)
    mark = _mark({**identity, "steps": schedule.steps, "lr": schedule.lr})
    first = _resume(schedule.checkpoint, encoder, optimizer, mark)
    losses: list[float] = []
    for step, batch in enumerate(batches.plan.steps(first, schedule.steps), start=first):
        data = scale.apply(batches.load(batch), device)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        generator = torch.Generator().manual_seed(_step_seed(seed, step))
        loss = masked_loss(encoder, data, weights, generator)
        value = float(loss.detach())
        if not np.isfinite(value):
            tiles = [batches.plan.tiles[number] for number in batch]
            raise TrainingDivergedError(
                f"a finite loss is wanted, but got {value} at step {step} in tiles {tiles}; "
                "look at these cells, or lower `lr`"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships it without types
        optimizer.step()
        losses.append(value)
        done = step + 1
        if schedule.checkpoint and (done % schedule.every == 0 or done == schedule.steps):
            _save(schedule.checkpoint, encoder, optimizer, mark, done)
        if progress is not None:
            progress("train", done, schedule.steps)
    encoder.eval()
    return losses


def _step_seed(seed: int, step: int) -> int:
    """Return a seed of a step that does not depend on how training got there."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _mark(identity: Mapping[str, Any]) -> NDArray[np.uint8]:
    digest = hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).digest()
    return np.frombuffer(digest, dtype=np.uint8)


def _save(
    path: Path, encoder: Encoder, optimizer: torch.optim.Adam, mark: NDArray[np.uint8], step: int
) -> None:
    arrays: dict[str, NDArray[Any]] = {"mark": mark, "step": np.asarray([step], dtype=np.int64)}
    for name, parameter in encoder.named_parameters():
        arrays[f"weight.{name}"] = parameter.detach().cpu().numpy()
        state = optimizer.state[parameter]
        for part in ("exp_avg", "exp_avg_sq"):
            arrays[f"{part}.{name}"] = state[part].cpu().numpy()
    fresh = path.with_name(path.name + ".part")
    with fresh.open("wb") as file:
        file.write(pack_weights(arrays))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _resume(
    path: Path | None, encoder: Encoder, optimizer: torch.optim.Adam, mark: NDArray[np.uint8]
) -> int:
    """Load a checkpoint where there is one; return the steps it has made."""
    if path is None or not path.exists():
        return 0
    arrays = unpack_weights(path.read_bytes(), str(path))
    if not np.array_equal(arrays.get("mark", np.zeros(0)), mark):
        raise InvalidArgument(
            f"a checkpoint of this training is wanted, but got one of other sections, parameters "
            f"or seed at {path}; remove it, or name another file"
        )
    step = int(arrays["step"][0])
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            parameter.copy_(torch.from_numpy(arrays[f"weight.{name}"]))
            optimizer.state[parameter] = {
                "step": torch.tensor(float(step)),
                "exp_avg": torch.from_numpy(arrays[f"exp_avg.{name}"]).to(parameter.device),
                "exp_avg_sq": torch.from_numpy(arrays[f"exp_avg_sq.{name}"]).to(parameter.device),
            }
    return step
