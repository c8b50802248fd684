"""Scores of every cell on principal components: fitted over all sections, written one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.memory import format_bytes, refuse_above
from ..genes.plan import FeaturePlan, locate_genes, section_blocks
from ..rows.file import RowFile
from .pca import Components, GramSum, principal_components

if TYPE_CHECKING:
    from ...atlas.section import Section

__all__ = ["PassPlan", "Progress", "fit_components", "plan_pass", "write_scores"]

type Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total) as work goes on."""

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


def plan_pass(sections: Sequence["Section"], n_genes: int, limit: int) -> PassPlan:
    """Choose the largest block that fits the memory limit.

    Parameters
    ----------
    sections : sequence of Section
    n_genes : int
        Features, of which a Gram matrix is held.
    limit : int
        Bytes.

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
    per_row = 48.0 * densest + 16.0 * n_genes + 64.0
    fixed = 4 * 8 * n_genes**2
    rows = BLOCK_ROWS
    while rows > SMALLEST_BLOCK and fixed + rows * per_row > limit:
        rows //= 2
    peak = int(fixed + rows * per_row)
    refuse_above(
        limit,
        peak,
        f"principal components of {n_genes:,} genes",
        "choose fewer genes with `n_top_genes=`, or raise `memory_limit`",
    )
    return PassPlan(sum(s.n_obs for s in sections), n_genes, rows, peak)


def fit_components(
    sections: Sequence["Section"],
    features: FeaturePlan,
    *,
    n_comps: int,
    block_rows: int,
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
    progress : callable, optional

    Returns
    -------
    Components

    Notes
    -----
    One pass over the counts. Memory: as `plan_pass` says.
    """
    scatter = np.zeros((features.n_genes, features.n_genes))
    total, done = sum(s.n_obs for s in sections), 0
    for section in sections:
        sums = GramSum(features.n_genes)
        for _, block in section_blocks(
            section, features, locate_genes(section, features), block_rows
        ):
            sums.add(block)
            done += block.shape[0]
            if progress is not None:
                progress("components", done, total)
        scatter += sums.scatter()
    return principal_components(scatter, total, n_comps)


def write_scores(
    section: "Section",
    features: FeaturePlan,
    components: Components,
    *,
    path: Path,
    block_rows: int,
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

    Returns
    -------
    RowFile
        `(n_obs, d)`; the caller closes it.

    Notes
    -----
    One pass over the counts, one over the scores. Memory: one block.
    """
    where = locate_genes(section, features)
    table = RowFile(path, section.n_obs, components.loadings.shape[1])
    nothing = np.zeros(features.n_genes)
    total = np.zeros(table.width)
    for start, block in section_blocks(section, features, where, block_rows):
        scores = components.project(block, nothing)
        total += scores.sum(axis=0, dtype=np.float64)
        table.write(start, scores)
    center(table, total / max(section.n_obs, 1), block_rows)
    return table


def center(table: RowFile, mean: np.ndarray[tuple[int], np.dtype[np.float64]], rows: int) -> None:
    """Subtract a mean from every row, in place."""
    start = 0
    for block in table.blocks(rows):
        table.write(start, block - mean)
        start += len(block)
