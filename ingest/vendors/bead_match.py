"""Matrices of beads matched with their positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ..split import MaskedCounts
from .beads import BEAD_RADIUS_UM

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..source import CountsSource, StringValues
    from .beads import Beads
    from .vendor import Survey

__all__ = ["fill_radius", "kept_rows", "match_beads"]

_SHOWN = 3


def match_beads(
    survey: Survey, beads: Beads, cells: StringValues, where: str
) -> tuple[NDArray[np.int64], int]:
    """Match columns of a matrix with beads; fills ids and positions of the survey.

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
    rows = np.full(at.size, -1, np.int64)
    rows[kept] = np.arange(kept.size)
    return rows, int(kept.size)


def kept_rows(counts: CountsSource, rows: NDArray[np.int64], n: int) -> CountsSource:
    """Leave out the rows of a matrix that are -1 in `rows`; `n` others stay."""
    return counts if n == rows.size else MaskedCounts(counts, np.flatnonzero(rows >= 0))


def fill_radius(survey: Survey) -> None:
    """Give beads their 10 um, where the unit is known."""
    unit = survey.unit.um_per_unit
    survey.radius = None if unit is None else BEAD_RADIUS_UM / unit
