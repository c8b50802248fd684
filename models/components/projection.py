"""Scores of every cell on principal components: fitted over all sections, written one by one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.memory import format_bytes, refuse_above
from ..genes.plan import FeaturePlan, locate_genes, section_blocks
from ..rows.file import RowFile
from .pca import Components, GramSum, principal_components

if TYPE_CHECKING:
    from ...atlas.section import Section

__all__ = [
    "CellsDone",
    "PassPlan",
    "Progress",
    "cells_counted",
    "fit_components",
    "plan_pass",
    "write_scores",
]

type Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total) as work goes on."""

type CellsDone = Callable[[int], None]
"""Called with the cells of each block, once they are done."""

BLOCK_ROWS = 8192  # above this a block gains nothing in speed
SMALLEST_BLOCK = 256


@dataclass(frozen=True, slots=True)
class PassPlan:
    """How a pass over the counts will go: prints itself.

    Attributes
    ----------
    n_obs : int
        Cells of all sections.
    n_genes : int
        Features.
    block_rows : int
        Rows in memory at once.
    peak_bytes : int
        Projected peak above the libraries: Gram matrices and one block, sparse and dense.
    """

    n_obs: int
    n_genes: int
    block_rows: int
    peak_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.n_obs:,} cells x {self.n_genes:,} genes in blocks of {self.block_rows:,} rows; "
            f"projected memory {format_bytes(self.peak_bytes)}"
        )


def cells_counted(progress: Progress | None, stage: str, total: int, passes: int = 1) -> CellsDone:
    """Return what adds up the cells of blocks and reports them as one stage.

    Parameters
    ----------
    progress : callable or None
        Nothing is reported without.
    stage : str
    total : int
        Cells.
    passes : int
        How often each cell is counted before it is done.

    Examples
    --------
    >>> done = cells_counted(print, "embed", 8, passes=2)
    >>> done(6)
    embed 3 8
    """
    counted = 0

    def add(cells: int) -> None:
        nonlocal counted
        counted += cells
        if progress is not None:
            progress(stage, counted // passes, total)

    return add


def plan_pass(
    sections: Sequence["Section"], n_genes: int, limit: int, *, gram: bool = True
) -> PassPlan:
    """Choose the largest block that fits the memory limit.

    Parameters
    ----------
    sections : sequence of Section
    n_genes : int
        Features.
    limit : int
        Bytes.
    gram : bool
        Whether Gram matrices are held; a projection needs none.

    Returns
    -------
    PassPlan

    Raises
    ------
    BudgetExceeded
        When even a small block does not fit.
    """
    densest = max((s.entry.nnz / max(s.n_obs, 1) for s in sections), default=1.0)
    # four sparse copies of 12 bytes a non-zero live at once (read, cast, normalized, chosen),
    # then one dense block and its transpose's buffer
    per_row = 48.0 * densest + 16.0 * (n_genes if gram else min(n_genes, 64)) + 64.0
    fixed = 4 * 8 * n_genes**2 if gram else 0
    rows = min(BLOCK_ROWS, max((s.n_obs for s in sections), default=1))
    while rows > SMALLEST_BLOCK and fixed + rows * per_row > limit:
        rows //= 2
    peak = int(fixed + rows * per_row)
    refuse_above(
        limit,
        peak,
        f"{'principal components of' if gram else 'a pass over'} {n_genes:,} genes",
        "choose fewer genes, or raise `memory_limit`",
    )
    return PassPlan(sum(s.n_obs for s in sections), n_genes, rows, peak)


def fit_components(
    sections: Sequence["Section"],
    features: FeaturePlan,
    *,
    n_comps: int,
    block_rows: int,
    masks: Mapping[str, NDArray[np.bool_]] | None = None,
    progress: Progress | None = None,
) -> Components:
    """Find the principal components of the within-section variation of all sections together.

    Parameters
    ----------
    sections : sequence of Section
    features : FeaturePlan
    n_comps : int
        Components wanted.
    block_rows : int
        Rows read at once.
    masks : mapping of str to ndarray, optional
        Cells that take part, (n_obs,) bool by section; all cells of sections not named.
    progress : callable, optional

    Returns
    -------
    Components

    Notes
    -----
    One pass over the counts. Memory: as `plan_pass` says.
    """
    scatter = np.zeros((features.n_genes, features.n_genes))
    total, done, n_rows = sum(s.n_obs for s in sections), 0, 0
    for section in sections:
        sums = GramSum(features.n_genes)
        mask = (masks or {}).get(section.name)
        for start, block in section_blocks(
            section, features, locate_genes(section, features), block_rows
        ):
            sums.add(block if mask is None else block[mask[start : start + block.shape[0]]])
            done += block.shape[0]
            if progress is not None:
                progress("components", done, total)
        scatter += sums.scatter()
        n_rows += sums.n_rows
    return principal_components(scatter, n_rows, n_comps)


def write_scores(
    section: "Section",
    features: FeaturePlan,
    components: Components,
    *,
    path: Path,
    block_rows: int,
    mask: NDArray[np.bool_] | None = None,
    done: CellsDone | None = None,
) -> RowFile:
    """Write the scores of all cells of a section, centered on the section's own mean.

    Parameters
    ----------
    section : Section
        One of those the model was fitted on, or another.
    features, components
        What to project on.
    path : Path
        Scratch file to create.
    block_rows : int
        Rows read at once.
    mask : ndarray (n_obs,) bool, optional
        Cells that the mean is taken over; all without.
    done : callable, optional
        Called with the cells of each block.

    Returns
    -------
    RowFile
        `(n_obs, d)`; the caller closes it.

    Notes
    -----
    One pass over the counts. Memory: one block.
    """
    where = locate_genes(section, features)
    table = RowFile(path, section.n_obs, components.loadings.shape[1])
    nothing = np.zeros(features.n_genes)
    blocks = section_blocks(section, features, where, block_rows)
    return table.fill_centered(
        (components.project(block, nothing) for _, block in blocks), mask, done
    )
