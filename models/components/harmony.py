"""Batch correction of component scores, out of core: Harmony.

Korsunsky et al., "Fast, sensitive and accurate integration of single-cell data with Harmony",
Nature Methods 16 (2019) 1289. Rows are shared among clusters by cosine similarity, with a penalty
where a cluster holds more of one batch than chance would; then each cluster's batch effects are
found by ridge regression and subtracted, and the clusters are found anew.

What differs from the published program: the twentieths of the rows that are assigned in turn are
every twentieth row instead of a random draw, so that they can lie together on disk; the regression
takes the shares that follow from a sweep's final counts, not those met on the way, so that a share
is a function of a row and its batch alone. The correction is then one too, `Harmony.correct`, and
fits rows that took no part in the fit. Shares are never stored.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..domains.mixture_start import lloyd, sample_rows, spread_seeds
from ..rows.file import RowFile

__all__ = ["Harmony", "HarmonyOptions", "HarmonyStage", "fit_harmony"]

type Floats = NDArray[np.float64]
type Blocks = Callable[[], Iterable[NDArray[np.float32]]]

N_PILES = 20
SAMPLE_ROWS = 20_000
MOST_SWEEPS, WINDOW = 20, 3
# relative changes of the objective below which sweeps, and rounds, end: the program's defaults
SWEEP_TOLERANCE, ROUND_TOLERANCE = 1e-5, 1e-4


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
        return _shares(_unit(rows) @ self.centers.T, self.penalty[:, batch], sigma)[0]


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


def fit_harmony(
    tables: Mapping[str, RowFile],
    batch_of: Mapping[str, str],
    *,
    scratch: Path,
    options: HarmonyOptions | None = None,
    block_rows: int = 4096,
) -> Harmony:
    """Find the correction that makes batches mix within clusters.

    Parameters
    ----------
    tables : mapping of str to RowFile
        Scores `(n, d)` of each section.
    batch_of : mapping of str to str
        Batch of each section.
    scratch : Path
        Folder for two more copies of the scores, removed at the end.
    options : HarmonyOptions, optional
    block_rows : int
        Rows in memory at once.

    Returns
    -------
    Harmony

    Raises
    ------
    InvalidArgument
        There are fewer than two batches, or no rows.

    Notes
    -----
    Passes over the scores: about 5 to 20 a round for the clusters, two for the effects.
    Memory: 8 (20 K B + K B d) bytes, and 40 K bytes a row of one block. The same seed gives the
    same result; block size changes it by rounding alone.
    """
    options = options or HarmonyOptions()
    batches = tuple(sorted({batch_of[name] for name in tables}))
    n_rows = sum(table.n_rows for table in tables.values())
    if len(batches) < 2 or n_rows == 0:
        raise InvalidArgument(
            f"wanted rows of at least two batches, but got {n_rows} rows of "
            f"{', '.join(batches) or 'none'}; choose another `batch_key`, or do not integrate"
        )
    code = {name: batches.index(batch_of[name]) for name in tables}
    with _Piles(scratch / "harmony-0", tables, code, block_rows) as start:
        first = _first_centers(start, n_rows, options)
        return _rounds(start, first, batches, options, scratch)


class _Piles:
    """Rows of all tables dealt into piles, every twentieth row to the same one, in one file.

    A table's rows of one pile lie together, so that a pile is read in a few pieces.
    """

    def __init__(
        self, path: Path, tables: Mapping[str, RowFile], code: Mapping[str, int], block_rows: int
    ) -> None:
        self.block_rows = block_rows
        self.pieces: list[list[tuple[int, int, int]]] = [[] for _ in range(N_PILES)]
        self.width = next(iter(tables.values())).width
        self.n_of_batch = np.zeros(max(code.values()) + 1)
        self.file = RowFile(path, sum(t.n_rows for t in tables.values()), self.width)
        place = 0
        for name, table in tables.items():
            place = self._deal(table, code[name], place)

    def _deal(self, table: RowFile, batch: int, place: int) -> int:
        """Copy one table, and return where the next one begins."""
        self.n_of_batch[batch] += table.n_rows
        starts = []
        for pile in range(N_PILES):
            size = len(range(pile, table.n_rows, N_PILES))
            self.pieces[pile].append((place, place + size, batch))
            starts.append(place)
            place += size
        # whole rounds of dealing at a time, so that every block begins with the first pile
        step = max(self.block_rows // N_PILES, 1) * N_PILES
        for turn, block in enumerate(table.blocks(step)):
            for pile in range(min(N_PILES, len(block))):
                self.file.write(starts[pile] + turn * step // N_PILES, block[pile::N_PILES])
        return place

    def __enter__(self) -> "_Piles":
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()

    def runs(self, pile: int) -> Iterator[tuple[int, int, int]]:
        """Yield (start, stop, batch) of the parts of a pile, each at most a block."""
        for first, last, batch in self.pieces[pile]:
            for start in range(first, last, self.block_rows):
                yield start, min(start + self.block_rows, last), batch

    def all_runs(self) -> Iterator[tuple[int, int, int]]:
        """Yield the parts of all piles."""
        for pile in range(N_PILES):
            yield from self.runs(pile)

    def read(self, table: RowFile, start: int, stop: int) -> Floats:
        """Read rows of a file of this order."""
        return table.read(start, stop).astype(np.float64)


def _unit(rows: Floats) -> Floats:
    """Rows of length one; a row of zeros stays."""
    length = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return np.asarray(rows / np.where(length > 0.0, length, 1.0))


def _shares(cosine: Floats, penalty: Floats, sigma: float) -> tuple[Floats, float]:
    """Shares of each row and the rows' part of the objective."""
    away = 2.0 * (1.0 - cosine)
    shares = np.exp(-(away - away.min(axis=1, keepdims=True)) / sigma)
    shares *= penalty
    shares /= shares.sum(axis=1, keepdims=True)
    entropy = shares * np.log(np.where(shares > 0.0, shares, 1.0))
    return shares, float((shares * away).sum() + sigma * entropy.sum())


def _first_centers(piles: _Piles, n_rows: int, options: HarmonyOptions) -> Floats:
    """k-means of a sample of the directions."""

    def blocks() -> Iterator[NDArray[np.floating]]:
        for start, stop, _ in piles.all_runs():
            yield _unit(piles.read(piles.file, start, stop))

    sample = _unit(sample_rows(blocks, n_rows, SAMPLE_ROWS, options.seed).astype(np.float64))
    rng = np.random.default_rng([options.seed, 1])
    centers = spread_seeds(sample, min(options.clusters(n_rows), len(sample)), rng)
    lloyd(sample, centers)
    return _unit(centers)


def _rounds(
    start: _Piles,
    centers: Floats,
    batches: tuple[str, ...],
    options: HarmonyOptions,
    scratch: Path,
) -> Harmony:
    found = Harmony(batches, options, ())
    current = RowFile(scratch / "harmony-1", start.file.n_rows, start.width)
    try:
        for begin, stop, _ in start.all_runs():
            current.write(begin, start.file.read(begin, stop))
        counts: Floats | None = None
        for _ in range(options.max_iter):
            sweeps = _Sweeps(start, current, centers, options, counts)
            objective = sweeps.settle()
            stage = _effects(start, current, sweeps.centers, sweeps.penalty(), options)
            centers, counts = _subtract(start, current, stage, options.sigma), sweeps.counts
            found = replace(
                found,
                stages=(*found.stages, stage),
                objective=(*found.objective, objective),
            )
            if _settled(found.objective, 1, ROUND_TOLERANCE):
                break
        return found
    finally:
        current.close()


def _settled(objective: Iterable[float], window: int, tolerance: float) -> bool:
    """Tell whether the sum over the last values is no longer clearly below the sum before."""
    values = list(objective)
    if len(values) <= window:
        return False
    before, now = sum(values[-window - 1 : -1]), sum(values[-window:])
    return (before - now) / max(abs(before), 1e-300) < tolerance


class _Sweeps:
    """The soft clustering of one round: counts `(K, B)` of every pile, and centers."""

    def __init__(
        self,
        piles: _Piles,
        table: RowFile,
        centers: Floats,
        options: HarmonyOptions,
        counts: Floats | None,
    ) -> None:
        self.piles, self.table, self.options = piles, table, options
        self.centers = centers
        self.expected = piles.n_of_batch / piles.n_of_batch.sum()
        self.counts = np.zeros((N_PILES, len(centers), len(self.expected)))
        if counts is None:
            self._sweep(plain=True)
        else:
            self.counts = counts

    def penalty(self, without: Floats | float = 0.0) -> Floats:
        """Return the factor of each cluster and batch, some counts left out."""
        observed = self.counts.sum(axis=0) - without
        expected = observed.sum(axis=1, keepdims=True) * self.expected
        return np.asarray(
            ((expected + 1.0) / (np.maximum(observed, 0.0) + 1.0)) ** self.options.theta
        )

    def settle(self) -> float:
        """Sweep until the objective stays; return it."""
        values: list[float] = []
        for _ in range(MOST_SWEEPS):
            values.append(self._sweep())
            if _settled(values, WINDOW, SWEEP_TOLERANCE):
                break
        return values[-1]

    def _sweep(self, *, plain: bool = False) -> float:
        """Assign every pile once, its own counts left out; then move the centers."""
        total, objective = np.zeros_like(self.centers), 0.0
        for pile in range(N_PILES):
            ones = np.ones(self.counts.shape[1:])
            penalty = ones if plain else self.penalty(self.counts[pile])
            fresh = np.zeros_like(self.counts[pile])
            for start, stop, batch in self.piles.runs(pile):
                rows = _unit(self.piles.read(self.table, start, stop))
                shares, part = _shares(rows @ self.centers.T, penalty[:, batch], self.options.sigma)
                fresh[:, batch] += shares.sum(axis=0)
                total += shares.T @ rows
                objective += part
            self.counts[pile] = fresh
        self.centers = _unit(total)
        observed = self.counts.sum(axis=0)
        expected = observed.sum(axis=1, keepdims=True) * self.expected
        mixing = observed * np.log((observed + 1.0) / (expected + 1.0))
        return objective + self.options.sigma * self.options.theta * float(mixing.sum())


def _effects(
    piles: _Piles, table: RowFile, centers: Floats, penalty: Floats, options: HarmonyOptions
) -> HarmonyStage:
    """Ridge regression of each cluster's rows on their batches; the intercept is free."""
    (k, d), b = centers.shape, penalty.shape[1]
    size, total = np.zeros((k, b)), np.zeros((k, b, d))
    for start, stop, batch in piles.all_runs():
        rows = _unit(piles.read(table, start, stop))
        shares, _ = _shares(rows @ centers.T, penalty[:, batch], options.sigma)
        size[:, batch] += shares.sum(axis=0)
        total[:, batch] += shares.T @ piles.read(piles.file, start, stop)
    # the normal equations have entries in the first row, first column and diagonal alone
    loose = options.ridge / (size + options.ridge)
    weight = (size * loose).sum(axis=1)
    place = (total * loose[:, :, None]).sum(axis=1) / np.maximum(weight, 1e-12)[:, None]
    effect = (total - size[:, :, None] * place[:, None]) / (size + options.ridge)[:, :, None]
    return HarmonyStage(centers, penalty, place, effect)


def _subtract(piles: _Piles, table: RowFile, stage: HarmonyStage, sigma: float) -> Floats:
    """Replace the corrected rows by those of this round; return where the clusters lie now."""
    total = np.zeros_like(stage.centers)
    for start, stop, batch in piles.all_runs():
        shares = stage.shares(piles.read(table, start, stop), batch, sigma)
        rows = piles.read(piles.file, start, stop) - shares @ stage.effect[:, batch]
        table.write(start, rows)
        total += shares.T @ _unit(rows)
    return _unit(total)
