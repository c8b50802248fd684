"""How many domains: the number whose labels one more domain hardly changes, again and again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..components.projection import Progress
from ..metrics.agreement import ari
from .mixture import Covariance
from .mixture_fit import RIDGE, fit_mixture
from .mixture_start import Blocks, Matrix, sample_rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NUMBERS", "DomainNumber", "choose_number", "stable_peaks"]

NUMBERS = (2, 20)
SAMPLE_ROWS = 10_000
ROWS_EACH = 10  # sampled rows for each domain that is tried: fewer describe nothing
STARTS = 6  # of each fit; a fit that depends on its only start says little about the number
FEWEST_RUNS = 3
MOST_RUNS = 10
SETTLED = 0.01  # mean change of the curve by one more run
NEAR_BEST = 0.05  # a local maximum this far below the highest one still counts as stable

type Codes = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class DomainNumber:
    """A number of domains and what speaks for it.

    Attributes
    ----------
    n_domains : int
        The choice.
    candidates : tuple of int
        Numbers about as stable as the choice (see `stable_peaks`), the choice among them.
        Several of them say that there are parts at several scales, or that nothing is clear.
    numbers : tuple of int
        What was tried.
    stability, spread : tuple of float
        Mean adjusted Rand index of labels of each number in one run and of one more in another,
        and its standard deviation over pairs of runs.
    same : tuple of float
        Mean adjusted Rand index of labels of that very number in two runs.
    n_runs : int
    settled : bool
        Whether the curve stood still before the runs were used up.
    n_rows : int
        Rows looked at; each run was fitted to half of them.
    seed : int
    """

    n_domains: int
    candidates: tuple[int, ...]
    numbers: tuple[int, ...]
    stability: tuple[float, ...]
    spread: tuple[float, ...]
    same: tuple[float, ...]
    n_runs: int
    settled: bool
    n_rows: int
    seed: int

    def table(self) -> "pd.DataFrame":
        """Return the curve as a table: `stability`, `spread`, `same`, `chosen` by number."""
        import pandas as pd

        index = pd.Index(self.numbers, name="n_domains")
        columns = {"stability": self.stability, "spread": self.spread, "same": self.same}
        frame = pd.DataFrame(columns, index=index)
        frame["chosen"] = index == self.n_domains
        return frame

    def facts(self) -> dict[str, Any]:
        """Return what provenance keeps, ready for JSON."""
        return {
            "candidates": list(self.candidates),
            "numbers": list(self.numbers),
            "stability": [round(value, 6) for value in self.stability],
            "spread": [round(value, 6) for value in self.spread],
            "same": [round(value, 6) for value in self.same],
            "n_runs": self.n_runs,
            "settled": self.settled,
            "n_rows": self.n_rows,
            "seed": self.seed,
            "near_best": NEAR_BEST,
        }


def choose_number(
    blocks: Blocks,
    *,
    n_rows: int,
    numbers: tuple[int, int] = NUMBERS,
    covariance: Covariance = "tied",
    ridge: float = RIDGE,
    sample: int = SAMPLE_ROWS,
    most_runs: int = MOST_RUNS,
    seed: int = 0,
    progress: Progress | None = None,
) -> DomainNumber:
    """Choose the number of domains by the stability of their labels.

    Parameters
    ----------
    blocks : callable
        Yields `(m, d)` float blocks, the same ones at every call; read once.
    n_rows : int
        Rows of all blocks together.
    numbers : (int, int)
        Least and most domains to try; fewer than the most where the rows do not suffice.
    covariance : {"tied", "full"}
        Shape of the mixture.
    ridge : float
        See `fit_mixture`.
    sample : int
        Rows looked at, drawn with `seed`.
    most_runs : int
        Runs, at most; three at least.
    seed : int
    progress : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    DomainNumber

    Raises
    ------
    InvalidArgument
        Bad numbers or runs, or too few rows to try two numbers.

    Notes
    -----
    After AutoK of CellCharter (Varrone et al., Nature Genetics 56, 2024), which compares labels of
    k with those of k - 1 and k + 1 between runs by the Fowlkes-Mallows index. Here every run fits
    each number to another half of the sample and labels all of it, and the stability of k is the
    mean over ordered pairs of runs of the adjusted Rand index of k in the one and k + 1 in the
    other: a domain too many breaks a few cells off where k is right, and moves borders where it is
    not. The index is adjusted for chance, so that few domains are not favored. On 48 planted
    mixtures (3 to 10 components, three distances) it found the number in 44 and was off by one in
    3; (k, k) too found 39, all three pairs 5 (off by one in 38), and the Fowlkes-Mallows index of
    all three 14 (26). Runs stop when one more changes the curve by less than 0.01 on average.
    Time: runs x numbers fits of `fit_mixture` on half the sample. Memory: 8 n d for a sample of n
    rows, as much again for a fit, and 2 n bytes a run and number.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(4)
    >>> x = rng.normal(size=(4, 6))[rng.integers(0, 4, 400)] * 3.0 + rng.normal(size=(400, 6))
    >>> choose_number(lambda: [x], n_rows=400, numbers=(2, 7)).n_domains
    4
    """
    tried, rows = _candidates(
        blocks, n_rows, numbers=numbers, sample=sample, most_runs=most_runs, seed=seed
    )
    fit = partial(_one_run, rows, range(tried[0], tried[-1] + 2), covariance, ridge)
    runs: list[Mapping[int, Codes]] = []
    indices: dict[int, list[tuple[float, float]]] = {k: [] for k in tried}
    curve, settled = np.zeros(len(tried)), False
    for stream in np.random.SeedSequence([seed, tried[-1]]).spawn(most_runs):
        runs.append(fit(stream, told=_each(progress, len(runs), most_runs)))
        _compare(runs, indices)
        if len(runs) == 1:
            continue
        before, curve = curve, np.array([np.mean([s for s, _ in indices[k]]) for k in tried])
        still = float(np.mean(np.abs(curve - before))) if len(runs) > 2 else np.inf
        if len(runs) >= FEWEST_RUNS and still < SETTLED:
            settled = True
            break
    return _told(tried, curve, indices, n_runs=len(runs), settled=settled, shape=(len(rows), seed))


def _candidates(
    blocks: Blocks,
    n_rows: int,
    *,
    numbers: tuple[int, int],
    sample: int,
    most_runs: int,
    seed: int,
) -> tuple[tuple[int, ...], Matrix]:
    """Return the numbers to try and the rows to try them on.

    Raises
    ------
    InvalidArgument
    """
    low, high = numbers
    if not 2 <= low < high:
        raise InvalidArgument(f"wanted numbers of domains (2 or more, larger), but got {numbers}")
    if most_runs < FEWEST_RUNS:
        raise InvalidArgument(f"wanted {FEWEST_RUNS} runs or more, but got most_runs={most_runs}")
    rows = sample_rows(blocks, n_rows, sample, seed).astype(np.float64)
    high = min(high, len(rows) // ROWS_EACH - 1)  # one more is fitted, to compare with
    if high <= low:
        raise InvalidArgument(
            f"wanted {ROWS_EACH * (low + 2)} cells or more to choose a number of domains from "
            f"{low}, but got {len(rows)}; name the number"
        )
    return tuple(range(low, high + 1)), rows


def _told(
    tried: tuple[int, ...],
    curve: NDArray[np.float64],
    indices: Mapping[int, list[tuple[float, float]]],
    *,
    n_runs: int,
    settled: bool,
    shape: tuple[int, int],
) -> DomainNumber:
    """Choose by the curve; `shape` is the number of rows and the seed."""
    return DomainNumber(
        n_domains=tried[int(curve.argmax())],
        candidates=tuple(tried[i] for i in stable_peaks(curve)),
        numbers=tried,
        stability=tuple(curve.tolist()),
        spread=tuple(float(np.std([s for s, _ in indices[k]])) for k in tried),
        same=tuple(float(np.mean([same for _, same in indices[k]])) for k in tried),
        n_runs=n_runs,
        settled=settled,
        n_rows=shape[0],
        seed=shape[1],
    )


def stable_peaks(curve: NDArray[np.float64]) -> list[int]:
    """Return the local maxima that are almost as high as the highest point.

    Parameters
    ----------
    curve : ndarray (m,) float64
        Stabilities of ascending numbers.

    Returns
    -------
    list of int
        Positions, ascending, of points no lower than their neighbors (an end has but one) and at
        most 0.05 below the highest.

    Examples
    --------
    >>> import numpy as np
    >>> stable_peaks(np.array([0.90, 0.80, 0.88, 0.70, 0.75]))
    [0, 2]
    """
    padded = np.concatenate([[-np.inf], curve, [-np.inf]])
    peak = (curve >= padded[:-2]) & (curve >= padded[2:]) & (curve >= curve.max() - NEAR_BEST)
    return [int(i) for i in np.flatnonzero(peak)]


def _each(progress: Progress | None, run: int, runs: int) -> Callable[[int, int, int], None]:
    """Return what tells of one number tried, the `i`-th of `n` in a run."""

    def told(k: int, i: int, n: int) -> None:
        if progress is not None:
            stage = f"choosing the number of domains: {k} in run {run + 1} of at most {runs}"
            progress(stage, run * n + i, runs * n)

    return told


def _one_run(
    rows: Matrix,
    numbers: range,
    covariance: Covariance,
    ridge: float,
    stream: np.random.SeedSequence,
    *,
    told: Callable[[int, int, int], None],
) -> dict[int, Codes]:
    """Fit every number to a half of the rows, label all of them."""
    rng = np.random.default_rng(stream)
    half = rows[np.sort(rng.choice(len(rows), size=len(rows) // 2, replace=False))]
    start = int(rng.integers(2**31))
    labels = {}
    for k in numbers:
        mixture = fit_mixture(
            lambda: [half],
            k,
            n_rows=len(half),
            covariance=covariance,
            ridge=ridge,
            n_init=STARTS,
            seed=start,
        )
        labels[k] = mixture.assign(rows)[0]
        told(k, k - numbers.start + 1, len(numbers))
    return labels


def _compare(
    runs: list[Mapping[int, Codes]], indices: Mapping[int, list[tuple[float, float]]]
) -> None:
    """Add the last run's comparisons with all before it: (one more, the same number)."""
    new = len(runs) - 1
    for i, j in permutations(range(len(runs)), 2):
        if new not in (i, j):
            continue
        for k, found in indices.items():
            labels = runs[i][k]
            found.append((ari(labels, runs[j][k + 1]), ari(labels, runs[j][k])))
