"""Rows of a matrix of Space Ranger that are kept: those with a place, or those in the tissue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ..split import MaskedCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..reader import ReadOptions
    from ..source import StringValues
    from ..tenx import FeatureMatrix
    from .spot_positions import Spots
    from .vendor import Survey

__all__ = ["placed_rows", "spot_rows", "take_rows"]

_SHOWN = 3


def placed_rows(  # noqa: PLR0917 - read one after the other
    placed: NDArray[np.bool_],
    names: StringValues,
    options: ReadOptions,
    path: Path,
    what: str,
    place: str = "position",
) -> tuple[NDArray[np.int64], list[str]]:
    """Rows that have a place; all of them, unless `unplaced` says to drop the others.

    Parameters
    ----------
    placed : (n,) bool
        Whether a row has one.
    names : StringValues, (n,)
        Barcodes of the matrix.
    options : ReadOptions
        With `unplaced`, `refuse` or `drop`.
    path : Path
        File of the places, for messages.
    what, place : str
        What the rows are (spots, bins or cells), and what gives them a place.

    Returns
    -------
    rows : (k,) int64
        Ascending.
    notes : list of str
        What was left out.

    Raises
    ------
    InputError
        Rows without a place, an option of no meaning, or no row left.
    """
    unplaced = options.reader_kwargs.get("unplaced", "refuse")
    if unplaced not in ("refuse", "drop"):
        raise InputError(Fault("unplaced", f"expected refuse or drop, but got {unplaced!r}"))
    lost = np.flatnonzero(~placed)
    if lost.size == len(names) or (lost.size and unplaced == "refuse"):
        listed = ", ".join(map(str, names.take(lost[:_SHOWN]).to_list()))
        way = "" if lost.size == len(names) else '; or give {"unplaced": "drop"} to leave them out'
        raise InputError(
            Fault(
                str(path),
                f"expected a {place} for each of {len(names)} {what} of the matrix, but got none "
                f"for {lost.size} ({listed}); matrix and {place}s are of different samples: copy "
                f"both from one run{way}",
            )
        )
    notes = [f"{lost.size} {what} without a {place} left out"] if lost.size else []
    return np.flatnonzero(placed), notes


def spot_rows(
    spots: Spots,
    names: StringValues,
    options: ReadOptions,
    path: Path,
    *,
    what: str,
    tissue_only: bool,
) -> tuple[NDArray[np.int64], list[str]]:
    """Rows of spots or bins that are kept.

    Parameters
    ----------
    spots : Spots
        Where the barcodes lie.
    names : StringValues, (n,)
        The barcodes.
    options : ReadOptions
        With `unplaced` and `in_tissue_only`.
    path : Path
        Position file, for messages.
    what : str
        `spots` or `bins`.
    tissue_only : bool
        Whether those beside the tissue are left out where `in_tissue_only` does not say.

    Returns
    -------
    rows : (k,) int64
        Ascending.
    notes : list of str
        What was left out, and why.

    Raises
    ------
    InputError
        As `placed_rows`; or none lies in the tissue.
    """
    rows, notes = placed_rows(spots.placed, names, options, path, what)
    only = options.reader_kwargs.get("in_tissue_only", tissue_only)
    if not isinstance(only, bool):
        raise InputError(Fault("in_tissue_only", f"expected true or false, but got {only!r}"))
    inside = rows[spots.in_tissue[rows]]
    if inside.size < rows.size:
        how = "left out" if only else "by the position file"
        notes.append(f"{rows.size - inside.size} {what} outside the tissue, {how}")
    kept = inside if only else rows
    if not kept.size:
        raise InputError(Fault(str(path), f"expected {what} in the tissue, but got none"))
    return kept, notes


def take_rows(survey: Survey, matrix: FeatureMatrix, rows: NDArray[np.int64]) -> StringValues:
    """Fill in ids and counts of the rows kept, ascending; returns the ids."""
    every = rows.size == len(matrix.barcodes)
    survey.ids = ids = matrix.barcodes if every else matrix.barcodes.take(rows)
    survey.counts = matrix.counts if every else MaskedCounts(matrix.counts, rows)
    return ids
