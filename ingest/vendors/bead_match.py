"""Matrices of beads matched with their positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ..split import MaskedCounts
from .beads import BEAD_RADIUS_UM
from .mtx_beads import open_bead_mtx
from .panel_option import completeness
from .vendor import features_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..reader import ReadOptions
    from ..source import StringValues
    from .beads import Beads
    from .mtx_beads import MtxParts
    from .vendor import Survey

__all__ = ["fill_genes", "fill_mtx", "fill_radius", "match_beads"]

_SHOWN = 3


def match_beads(
    survey: Survey, beads: Beads, cells: StringValues, where: str
) -> tuple[NDArray[np.int64], int]:
    """Match columns of a matrix with beads; fills ids, positions and obs of the survey.

    Returns
    -------
    rows : (columns,) int64
        Row of the section for each column, -1 where the bead has no position.
    n : int
        Rows.

    Raises
    ------
    InputError
        None matches, or a column occurs twice.
    """
    if twice := cells.repeated():
        raise InputError(Fault(where, f"expected every bead once, but got {twice[0]!r} again"))
    at = cells.find_in(beads.barcodes)
    kept = np.flatnonzero(at >= 0)
    if kept.size == 0:
        ours, theirs = (
            v.take(np.arange(min(_SHOWN, len(v)))).to_list() for v in (cells, beads.barcodes)
        )
        raise InputError(
            Fault(
                where,
                f"expected beads with positions, but got none of {len(cells)} in common: matrix "
                f"{ours}, positions {theirs}",
            )
        )
    if kept.size < at.size:
        survey.notes.append(f"{at.size - kept.size} beads of the matrix have no position: left out")
    if kept.size < len(beads.barcodes):
        survey.notes.append(f"{len(beads.barcodes) - kept.size} beads have no counts: left out")
    survey.ids, survey.positions = cells.take(kept), beads.positions[at[kept]]
    survey.obs = beads.obs(at[kept])
    rows = np.full(at.size, -1, np.int64)
    rows[kept] = np.arange(kept.size)
    return rows, int(kept.size)


def fill_mtx(survey: Survey, parts: MtxParts, beads: Beads | None, options: ReadOptions) -> None:
    """Fill what an mtx with its lists holds; without positions, genes alone.

    Raises
    ------
    InputError
        A file cannot be read, they disagree, or name other beads than the positions.
    """
    matrix = open_bead_mtx(parts)
    where = str(parts.matrix)
    if beads is not None:
        rows, n = match_beads(survey, beads, matrix.barcodes, where)
        kept = np.flatnonzero(rows >= 0)
        survey.counts = matrix.counts if n == rows.size else MaskedCounts(matrix.counts, kept)
    fill_genes(survey, matrix.genes, matrix.ids, options, where)


def fill_genes(
    survey: Survey,
    names: Sequence[str],
    ids: Sequence[str] | None,
    options: ReadOptions,
    where: str,
) -> None:
    """Fill the panel: all features are genes, and files list those that were seen.

    Raises
    ------
    InputError
        Genes that repeat, or an option of no meaning.
    """
    survey.panel = features_of(
        names,
        [""] * len(names),
        options=options,
        where=where,
        gene_ids=ids,
        completeness=completeness(options, str(survey.path), "partial"),
    ).panel


def fill_radius(survey: Survey) -> None:
    """Give beads their 10 um, where the unit is known."""
    unit = survey.unit.um_per_unit
    survey.radius = None if unit is None else BEAD_RADIUS_UM / unit
