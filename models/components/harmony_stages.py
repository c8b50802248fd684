"""A fitted Harmony correction: what decides it, its rounds, and how it treats new rows."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument

__all__ = ["Blocks", "Floats", "Harmony", "HarmonyOptions", "HarmonyStage", "shared", "unit"]

type Floats = NDArray[np.float64]
type Blocks = Callable[[], Iterable[NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class HarmonyOptions:
    """What decides a fit beside the rows.

    Attributes
    ----------
    theta : float
        Weight of the diversity penalty; 0 lets clusters be of one batch.
    sigma : float
        Width of the soft assignment; the smaller, the harder.
    ridge : float
        Penalty on batch effects, in cells.
    n_clusters : int, optional
        One per 30 rows, at most 100, without.
    max_iter : int
        Rounds of clustering and correcting at most.
    seed : int
        Of the sample and the first centers.
    """

    theta: float = 2.0
    sigma: float = 0.1
    ridge: float = 1.0
    n_clusters: int | None = None
    max_iter: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        faults = [
            f"{name} {what}, but got {value}"
            for name, what, value, good in (
                ("theta", "of at least 0", self.theta, self.theta >= 0),
                ("sigma", "over 0", self.sigma, self.sigma > 0),
                ("ridge", "over 0", self.ridge, self.ridge > 0),
                ("max_iter", "of at least 1", self.max_iter, self.max_iter >= 1),
                ("n_clusters", "of at least 1", self.n_clusters, (self.n_clusters or 1) >= 1),
            )
            if not good
        ]
        if self.n_clusters == 0:
            faults.append("n_clusters of at least 1, but got 0")
        if faults:
            raise InvalidArgument("wanted " + "; ".join(faults))

    def clusters(self, n_rows: int) -> int:
        """Return the number of clusters for so many rows."""
        return min(self.n_clusters or min(100, max(1, round(n_rows / 30))), max(n_rows, 1))


@dataclass(frozen=True, slots=True)
class HarmonyStage:
    """One round: how rows are shared among clusters, and what is subtracted.

    Attributes
    ----------
    centers : ndarray (K, d) float64
        Of length one.
    penalty : ndarray (K, B) float64
        Factor on the share of a row of each batch.
    intercept : ndarray (K, d) float64
        Where the rows of a cluster lie, whatever their batch.
    effect : ndarray (K, B, d) float64
        How far those of a batch lie from there.
    """

    centers: Floats
    penalty: Floats
    intercept: Floats
    effect: Floats

    def shares(self, rows: Floats, batch: int, sigma: float) -> Floats:
        """Share rows `(m, d)` of one batch among the clusters, `(m, K)`."""
        return shared(unit(rows) @ self.centers.T, self.penalty[:, batch], sigma)[0]


@dataclass(frozen=True, slots=True)
class Harmony:
    """A fitted correction: the rounds, in order.

    Attributes
    ----------
    batches : tuple of str
        Names, in the order of the stages' arrays.
    options : HarmonyOptions
    stages : tuple of HarmonyStage
        Memory: 8 K (B + 2) d bytes each.
    objective : tuple of float
        After each round.
    """

    batches: tuple[str, ...]
    options: HarmonyOptions
    stages: tuple[HarmonyStage, ...]
    objective: tuple[float, ...] = ()

    def correct(self, rows: NDArray[np.floating], batch: str) -> NDArray[np.float32]:
        """Remove the effect of a batch from rows `(m, d)`.

        Raises
        ------
        InvalidArgument
            The batch is unknown: `with_batch` adds one.
        """
        if batch not in self.batches:
            raise InvalidArgument(
                f"wanted a batch of {', '.join(self.batches[:12])}, but got {batch!r}; "
                "add it with `with_batch`"
            )
        return self._after(rows, self.batches.index(batch), len(self.stages)).astype(np.float32)

    def _after(self, rows: NDArray[np.floating], batch: int, n_stages: int) -> Floats:
        """Rows after some of the rounds; each subtracts from the rows as they came."""
        whole = np.asarray(rows, np.float64)
        corrected = whole
        for stage in self.stages[:n_stages]:
            shares = stage.shares(corrected, batch, self.options.sigma)
            corrected = whole - shares @ stage.effect[:, batch]
        return corrected

    def with_batch(self, name: str, blocks: Blocks) -> "Harmony":
        """Learn the effects of one more batch; clusters and other batches stay as they are.

        Its rows are shared without a penalty, and its effect in each cluster is their distance
        from the cluster's place, shrunk by the ridge: reference mapping as in Symphony (Kang et
        al., Nature Communications 12 (2021) 5890).

        Parameters
        ----------
        name : str
        blocks : callable
            Yields its rows, `(m, d)`, the same ones at every call; read once per round.

        Returns
        -------
        Harmony
        """
        found = replace(self, batches=(*self.batches, name), stages=())
        batch = len(self.batches)
        for stage in self.stages:
            k, _, d = stage.effect.shape
            wide = HarmonyStage(
                stage.centers,
                np.concatenate([stage.penalty, np.ones((k, 1))], axis=1),
                stage.intercept,
                np.concatenate([stage.effect, np.zeros((k, 1, d))], axis=1),
            )
            size, total = np.zeros(k), np.zeros((k, d))
            for block in blocks():
                rows = found._after(block, batch, len(found.stages))
                shares = wide.shares(rows, batch, self.options.sigma)
                size += shares.sum(axis=0)
                total += shares.T @ np.asarray(block, np.float64)
            away = total - size[:, None] * wide.intercept
            wide.effect[:, batch] = away / (size + self.options.ridge)[:, None]
            found = replace(found, stages=(*found.stages, wide))
        return found

    def to_weights(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of all rounds, stacked; names and options stay with the caller."""
        fields = ("centers", "penalty", "intercept", "effect")
        return {f: np.stack([getattr(s, f) for s in self.stages]) for f in fields}

    @classmethod
    def from_weights(
        cls, weights: Mapping[str, NDArray[Any]], batches: Iterable[str], options: HarmonyOptions
    ) -> "Harmony":
        """Take the arrays of `to_weights` back."""
        fields = ("centers", "penalty", "intercept", "effect")
        parts = [np.asarray(weights[f], dtype=np.float64) for f in fields]
        stages = tuple(HarmonyStage(*stage) for stage in zip(*parts, strict=True))
        return cls(tuple(batches), options, stages)


def unit(rows: Floats) -> Floats:
    """Rows of length one; a row of zeros stays."""
    length = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return np.asarray(rows / np.where(length > 0.0, length, 1.0))


def shared(cosine: Floats, penalty: Floats, sigma: float) -> tuple[Floats, float]:
    """Shares of each row and the rows' part of the objective."""
    away = 2.0 * (1.0 - cosine)
    shares = np.exp(-(away - away.min(axis=1, keepdims=True)) / sigma)
    shares *= penalty
    shares /= shares.sum(axis=1, keepdims=True)
    entropy = shares * np.log(np.where(shares > 0.0, shares, 1.0))
    return shares, float((shares * away).sum() + sigma * entropy.sum())
