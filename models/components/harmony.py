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

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..domains.mixture_start import lloyd, sample_rows, spread_seeds
from ..rows.file import RowFile
from .harmony_memory import BLOCK_ROWS, SAMPLE_ROWS
from .harmony_stages import Floats, Harmony, HarmonyOptions, HarmonyStage, shared, unit
from .harmony_sweeps import Piles, Sweeps, settled

__all__ = ["Harmony", "HarmonyOptions", "HarmonyStage", "fit_harmony"]

ROUND_TOLERANCE = 1e-4  # relative change of the objective below which rounds end: the program's


def fit_harmony(
    tables: Mapping[str, RowFile],
    batch_of: Mapping[str, str],
    *,
    scratch: Path,
    options: HarmonyOptions | None = None,
    block_rows: int = BLOCK_ROWS,
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
    Memory: as `harmony_bytes` says. The same seed gives the
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
    with Piles(scratch / "harmony-0", tables, code, block_rows) as start:
        first = _first_centers(start, n_rows, options)
        return _rounds(start, first, batches, options, scratch)


def _first_centers(piles: Piles, n_rows: int, options: HarmonyOptions) -> Floats:
    """k-means of a sample of the directions."""

    def blocks() -> Iterator[NDArray[np.floating]]:
        for start, stop, _ in piles.all_runs():
            yield unit(piles.read(piles.file, start, stop))

    sample = unit(sample_rows(blocks, n_rows, SAMPLE_ROWS, options.seed).astype(np.float64))
    rng = np.random.default_rng([options.seed, 1])
    centers = spread_seeds(sample, min(options.clusters(n_rows), len(sample)), rng)
    lloyd(sample, centers)
    return unit(centers)


def _rounds(
    start: Piles,
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
            sweeps = Sweeps(start, current, centers, options, counts)
            objective = sweeps.settle()
            stage = _effects(start, current, sweeps.centers, sweeps.penalty(), options)
            centers, counts = _subtract(start, current, stage, options.sigma), sweeps.counts
            found = replace(
                found,
                stages=(*found.stages, stage),
                objective=(*found.objective, objective),
            )
            if settled(found.objective, 1, ROUND_TOLERANCE):
                break
        return found
    finally:
        current.close()


def _effects(
    piles: Piles, table: RowFile, centers: Floats, penalty: Floats, options: HarmonyOptions
) -> HarmonyStage:
    """Ridge regression of each cluster's rows on their batches; the intercept is free."""
    (k, d), b = centers.shape, penalty.shape[1]
    size, total = np.zeros((k, b)), np.zeros((k, b, d))
    for start, stop, batch in piles.all_runs():
        rows = unit(piles.read(table, start, stop))
        shares, _ = shared(rows @ centers.T, penalty[:, batch], options.sigma)
        size[:, batch] += shares.sum(axis=0)
        total[:, batch] += shares.T @ piles.read(piles.file, start, stop)
    # the normal equations have entries in the first row, first column and diagonal alone
    loose = options.ridge / (size + options.ridge)
    weight = (size * loose).sum(axis=1)
    place = (total * loose[:, :, None]).sum(axis=1) / np.maximum(weight, 1e-12)[:, None]
    effect = (total - size[:, :, None] * place[:, None]) / (size + options.ridge)[:, :, None]
    return HarmonyStage(centers, penalty, place, effect)


def _subtract(piles: Piles, table: RowFile, stage: HarmonyStage, sigma: float) -> Floats:
    """Replace the corrected rows by those of this round; return where the clusters lie now."""
    total = np.zeros_like(stage.centers)
    for start, stop, batch in piles.all_runs():
        shares = stage.shares(piles.read(table, start, stop), batch, sigma)
        rows = piles.read(piles.file, start, stop) - shares @ stage.effect[:, batch]
        table.write(start, rows)
        total += shares.T @ unit(rows)
    return unit(total)
