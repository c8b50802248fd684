"""How long and how fast to learn, and how often to save."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...atlas.errors import InvalidArgument

__all__ = ["Saving", "Schedule", "step_seed"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn.

    Attributes
    ----------
    steps : int
        Batches to learn from, over as many epochs as that takes.
    lr : float
        Learning rate at the start; it falls to zero along a cosine.
    """

    steps: int = 300
    lr: float = 5e-3

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.lr < float("inf"):
            raise InvalidArgument(
                f"wanted steps >= 1 and lr > 0, but got steps={self.steps}, lr={self.lr}"
            )

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return 0.5 * self.lr * (1.0 + float(np.cos(np.pi * step / self.steps)))


@dataclass(frozen=True, slots=True)
class Saving:
    """Where a training is kept, so that it can go on after it was killed.

    Attributes
    ----------
    path : Path or None
        File of the checkpoint; nothing is saved without.
    every : int
        Steps between two saves; the last step is always saved.
    resume : bool
        Whether a file that is there is gone on with; otherwise it is overwritten.
    """

    path: Path | None = None
    every: int = 50
    resume: bool = False

    def __post_init__(self) -> None:
        if self.path is not None and self.path.is_dir():
            raise InvalidArgument(
                f"a checkpoint file is wanted, but got the folder {self.path}; name a file in it, "
                f"such as {self.path / 'gnn.safetensors'}"
            )
        if self.every < 1:
            raise InvalidArgument(f"wanted a save every step or more, but got every={self.every}")
        if self.path is not None and not self.path.parent.is_dir():
            raise InvalidArgument(
                f"a checkpoint in a folder that exists is wanted, but got {self.path}; make the "
                "folder first"
            )

    def is_due(self, done: int, steps: int) -> bool:
        """Tell whether to save after `done` steps."""
        return self.path is not None and (done % self.every == 0 or done == steps)


def step_seed(seed: int, number: int) -> int:
    """Return a seed for one batch that does not depend on how training got there.

    Examples
    --------
    >>> step_seed(0, 1) == step_seed(0, 1) != step_seed(0, 2)
    True
    """
    # 63 bits: torch takes seeds as signed
    state = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
