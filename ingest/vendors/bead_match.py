"""Matrices of beads matched with their positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..split import MaskedCounts
from .beads import BEAD_RADIUS_UM
from .listed_genes import fill_genes
from .mtx_beads import open_bead_mtx
from .placed import placed_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..reader import ReadOptions
    from ..source import StringValues
    from .beads import Beads
    from .mtx_beads import MtxParts
    from .vendor import Survey

__all__ = ["fill_mtx", "fill_radius", "match_beads"]


def match_beads(survey: Survey, beads: Beads, cells: StringValues, where: str) -> NDArray[np.int64]:
    """Fill ids, positions and obs of the beads of a matrix; returns those that have a position.

    Raises
    ------
    InputError
        None has one, or a bead occurs twice.
    """
    kept, at = placed_rows(cells, beads.barcodes, survey.notes, where, "beads")
    survey.ids, survey.positions = cells.take(kept), beads.positions[at]
    survey.obs = beads.obs(at)
    return kept


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
        kept = match_beads(survey, beads, matrix.barcodes, where)
        whole = kept.size == len(matrix.barcodes)
        survey.counts = matrix.counts if whole else MaskedCounts(matrix.counts, kept)
    fill_genes(survey, matrix.genes, matrix.ids, options, where)


def fill_radius(survey: Survey) -> None:
    """Give beads their 10 um, where the unit is known."""
    unit = survey.unit.um_per_unit
    survey.radius = None if unit is None else BEAD_RADIUS_UM / unit
