"""What a training went through: its losses as a value, and one step as it is reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from ...atlas.errors import Corrupt

__all__ = ["StepReport", "StepReporter", "TrainingHistory"]

MOST_POINTS = 1000  # a run keeps its curve; nobody sees more points than a screen has columns
DIGITS = 6
RECENT = 5  # a single bad batch is no divergence
LEAST_FIRST = 1.0  # a loss that begins near zero may grow a thousandfold and mean nothing


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step, told to whoever watches.

    Attributes
    ----------
    done, total : int
        Steps made, also before a resume, and wanted.
    loss : float
        Sum of the terms.
    terms : mapping of str to float
        Weighted terms of the loss, by name.
    cells : int
        Cells that this step learned from, on all ranks.
    n_cells : int
        Cells since training began in this process.
    seconds : float
        Time since then.
    """

    done: int
    total: int
    loss: float
    terms: Mapping[str, float]
    cells: int
    n_cells: int
    seconds: float
    first: int = 0

    @property
    def cells_per_second(self) -> float:
        """Cells a second since training began in this process."""
        return self.n_cells / self.seconds if self.seconds > 0 else 0.0

    @property
    def eta_seconds(self) -> float:
        """Time that the steps left will take at this pace."""
        made = self.done - self.first
        return self.seconds / made * (self.total - self.done) if made else float("inf")


@dataclass(frozen=True, slots=True)
class TrainingHistory:
    """Every step of a training, those before a resume included.

    Attributes
    ----------
    loss : tuple of float
        Sum of the terms of each step.
    terms : mapping of str to tuple of float
        Weighted terms of each step; nan where a step lacks one.
    cells : tuple of int
        Cells that each step learned from, on all ranks.
    seconds : tuple of float
        Time that each step took; empty where the history comes from a stored run, which keeps
        nothing that would differ between equal trainings.
    """

    loss: tuple[float, ...] = ()
    terms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    cells: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()

    @property
    def n_steps(self) -> int:
        """Number of steps (of a long stored run: number of stretches of steps)."""
        return len(self.loss)

    @property
    def cells_per_second(self) -> float:
        """Cells a second over all steps; 0 where the times are not known."""
        total = sum(self.seconds)
        return sum(self.cells) / total if total > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return what is the same for equal trainings, as JSON.

        More than 1,000 steps become means over equal stretches of them. Six digits are kept.

        Examples
        --------
        >>> TrainingHistory((2.0, 1.0), {"prior": (2.0, 1.0)}, (8, 8), (0.1, 0.1)).to_dict()
        {'stride': 1, 'loss': [2.0, 1.0], 'terms': {'prior': [2.0, 1.0]}, 'cells': [8, 8]}
        """
        stride = -(-self.n_steps // MOST_POINTS) or 1
        return {
            "stride": stride,
            "loss": _thinned(self.loss, stride),
            "terms": {name: _thinned(values, stride) for name, values in self.terms.items()},
            "cells": [sum(self.cells[i : i + stride]) for i in range(0, self.n_steps, stride)],
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Take the result of `to_dict` back.

        Raises
        ------
        Corrupt
            It is something else.
        """
        try:
            return cls(
                tuple(_number(value) for value in facts["loss"]),
                {
                    str(name): tuple(_number(value) for value in values)
                    for name, values in facts["terms"].items()
                },
                tuple(int(value) for value in facts["cells"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Corrupt(f"the losses of a run are wanted, but got {error!r}") from error


class StepReporter:
    """Collects steps into a history."""

    def __init__(self, before: TrainingHistory, total: int) -> None:
        self.total, self.first = total, before.n_steps
        self.loss, self.cells = list(before.loss), list(before.cells)
        self.seconds = list(before.seconds)
        self.terms = {name: list(values) for name, values in before.terms.items()}
        self._n_cells = 0
        self._elapsed = 0.0

    def add(self, terms: Mapping[str, float], cells: int, elapsed: float) -> StepReport:
        """Take in one step that ended `elapsed` seconds after training began here."""
        made = len(self.loss)
        loss = float(sum(terms.values()))
        for name in {**self.terms, **terms}:
            values = self.terms.setdefault(name, [float("nan")] * made)
            values.append(terms.get(name, float("nan")))
        self.loss.append(loss)
        self.cells.append(cells)
        self.seconds.append(elapsed - self._elapsed)
        self._elapsed = elapsed
        self._n_cells += cells
        return StepReport(
            made + 1, self.total, loss, dict(terms), cells, self._n_cells, elapsed, self.first
        )

    @property
    def growth(self) -> float:
        """Median loss of the last five steps, in units of the first loss (or of 1, if below)."""
        if not self.loss:
            return 0.0
        return float(np.median(self.loss[-RECENT:])) / max(abs(self.loss[0]), LEAST_FIRST)

    def history(self) -> TrainingHistory:
        """Return all steps so far."""
        return TrainingHistory(
            tuple(self.loss),
            {name: tuple(values) for name, values in self.terms.items()},
            tuple(self.cells),
            tuple(self.seconds),
        )


def _thinned(values: Sequence[float], stride: int) -> list[float | None]:
    """Means over stretches, as JSON: nan becomes null."""
    means = [float(np.mean(values[i : i + stride])) for i in range(0, len(values), stride)]
    return [float(f"{m:.{DIGITS}g}") if np.isfinite(m) else None for m in means]


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
