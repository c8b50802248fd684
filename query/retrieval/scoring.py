"""How alike two descriptions are, part by part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument, near
from .arguments import numbers

type Metric = Literal["cosine", "euclidean"]
type FloatArray = NDArray[np.float64]

METRICS = ("cosine", "euclidean")
COLUMN_WEIGHT = 0.5
"""Weight of a column of shares, the mean part having 1; the spread has 0 unless asked for."""
# Scores are compared to six digits: equal windows score the same wherever they lie in a block.
_DIGITS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Description:
    """A window, or the tissue that is looked for."""

    mean: FloatArray
    """(d,) of the cells' features, centered on their section."""
    spread: FloatArray
    """(d,) standard deviation of the cells' features."""
    shares: tuple[FloatArray, ...]
    """(K,) for each column of the index."""
    n_cells: int


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """Compares windows with one description."""

    like: Description
    metric: Metric
    weights: Mapping[str, float]
    """`mean`, `spread` and each column; those of weight 0 are not read."""
    columns: tuple[str, ...]
    scale: Mapping[str, FloatArray]
    """Spread between windows of `mean` and `spread`, (d,) each."""
    level: FloatArray
    """Mean over windows of the spread part, (d,)."""

    def needs(self) -> list[str]:
        """Parts that have a weight."""
        return [name for name, weight in self.weights.items() if weight]

    def score(self, parts: Mapping[str, NDArray[np.floating]]) -> FloatArray:
        """Score m windows by their parts, (m, ...) each: higher is more alike, (m,).

        Cosine: the weighted mean over parts, of the cosine for mean and spread, and of
        sum sqrt(p q) for shares p and q: at most 1. Euclidean: minus the root of the weighted
        mean of squared distances per number, of sqrt(p) and sqrt(q) for shares: at most 0.
        """
        total: FloatArray | float = 0.0
        for name in self.needs():
            total = total + self.weights[name] * self._part(name, parts[name])
        mean = np.asarray(total, np.float64) / sum(self.weights[name] for name in self.needs())
        if self.metric == "euclidean":
            mean = -np.sqrt(np.maximum(mean, 0.0))
        return np.asarray(np.round(mean, _DIGITS) + 0.0)

    def _part(self, name: str, values: NDArray[np.floating]) -> FloatArray:
        if name in self.columns:
            asked = np.sqrt(self.like.shares[self.columns.index(name)]).astype(np.float32)
            roots = np.sqrt(values.astype(np.float32))
            if self.metric == "cosine":
                return np.asarray(roots @ asked, np.float64)
            return np.asarray(((roots - asked) ** 2).sum(axis=1), np.float64)
        scale = self.scale[name].astype(np.float32)
        asked = (self._asked(name) / self.scale[name]).astype(np.float32)
        rows = values.astype(np.float32)
        if name == "spread":
            rows = rows - self.level.astype(np.float32)
        if self.metric == "cosine":
            return _cosine(rows, asked, scale)
        inverse = (1 / scale**2).astype(np.float32)
        difference = rows - asked * scale
        return np.asarray((difference * difference) @ inverse, np.float64) / len(scale)

    def _asked(self, name: str) -> FloatArray:
        return self.like.mean if name == "mean" else self.like.spread - self.level


def _cosine(
    rows: NDArray[np.float32], asked: NDArray[np.float32], scale: NDArray[np.float32]
) -> FloatArray:
    # The scale goes into the two vectors, so that the block is gone through only twice.
    length = np.sqrt((rows * rows) @ (1 / scale**2).astype(np.float32))
    product = rows @ (asked / scale)
    norm = length * np.float32(np.linalg.norm(asked))
    return np.divide(product, norm, out=np.zeros_like(product), where=norm > 0).astype(np.float64)


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (m, d) scaled to length 1; zeros stay.

    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def part_weights(columns: Sequence[str], given: Mapping[str, float] | None) -> dict[str, float]:
    """Weight of each part: `mean` 1, `spread` 0, each column 0.5, unless given.

    >>> part_weights(["cell_type"], {"spread": 0.5})
    {'mean': 1.0, 'spread': 0.5, 'cell_type': 0.5}

    Raises
    ------
    InvalidArgument
        A part that the index does not have, a negative weight, or nothing of weight.
    """
    weights = {"mean": 1.0, "spread": 0.0} | dict.fromkeys(columns, COLUMN_WEIGHT)
    asked = {} if given is None else numbers(given, "weights=", "{'mean': 1, 'spread': 0.5}")
    for name, weight in asked.items():
        if name not in weights:
            raise InvalidArgument(
                f"a part of the index is wanted in weights=, but got {name!r}."
                f"{near(name, weights)} It has {', '.join(weights)}."
            )
        if not (np.isfinite(weight) and weight >= 0):
            raise InvalidArgument(f"weights of 0 or more are wanted, but got {name}={weight!r}")
        weights[name] = float(weight)
    if not any(weights.values()):
        raise InvalidArgument("a part of some weight is wanted, but all of weights= are 0")
    return weights
