"""Beads of Slide-seq and of Curio Seeker: where they lie, and how long their unit is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...atlas.errors import Fault, InputError
from ..missing import name_rows
from ..source import StringValues
from ..units import FoundUnit, find_unit, spacing
from .column_values import numbers_of
from .table import open_table
from .text_table import first_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..reader import ReadOptions
    from ..source import ObsColumn
    from .table import Table

__all__ = ["BEAD_RADIUS_UM", "Beads", "bead_unit", "read_beads"]

BEAD_RADIUS_UM = 5.0
"""Beads have 10 um (Rodriques et al., Science 363:1463; Stickels et al., Nat Biotechnol 39:313)."""
_APART_UM = (7.0, 25.0)  # centers of neighboring beads: packed, or with some of them lost
_FAR = 1e9
_NAMES = (
    ("barcode", "barcodes", "bead", "bead_barcode", "cell_bc", "bc", "spacemake_id"),
    ("xcoord", "x", "x_coord", "xcoordinate", "x_um", "coord_x", "sdimx", "spatial_1"),
    ("ycoord", "y", "y_coord", "ycoordinate", "y_um", "coord_y", "sdimy", "spatial_2"),
)


@dataclass(frozen=True, slots=True)
class Beads:
    """All beads of a file of positions, in its order."""

    barcodes: StringValues
    """(n,)"""
    positions: NDArray[np.float64]
    """(n, 2) x, y."""
    table: Table | None = None
    """The file, where it has further columns."""
    others: tuple[str, ...] = ()
    """Names of these."""

    def obs(self, rows: NDArray[np.int64]) -> dict[str, ObsColumn]:
        """Further columns of some beads, lazily."""
        return {} if self.table is None else self.table.columns(self.others, rows)


def read_beads(path: Path) -> Beads:
    """Read barcodes and positions, with or without a header and a column of row numbers.

    Raises
    ------
    InputError
        Columns that cannot be told apart, positions that are no numbers, barcodes that repeat.
    """
    table, (barcode, x, y) = _opened(path)
    barcodes = table.strings(barcode)
    positions = numbers_of(table, x, y)
    wrong = np.flatnonzero(~(np.abs(positions) < _FAR).all(axis=1))
    if wrong.size:
        rows = name_rows(wrong)
        got = f"expected positions of all beads, but got none, or far ones, in {rows}"
        raise InputError(Fault(str(path), got))
    if len(barcodes) == 0:
        raise InputError(Fault(str(path), "expected beads, but got none"))
    if twice := barcodes.repeated():
        raise InputError(
            Fault(str(path), f"expected every barcode once, but got {twice[0]!r} again")
        )
    others = tuple(
        name
        for name in table.names
        if name not in {barcode, x, y} and not name.startswith("column_")
    )
    return Beads(barcodes, positions, table if others else None, others)


def _opened(path: Path) -> tuple[Table, tuple[str, str, str]]:
    """Open positions, and tell which columns are barcode, x and y."""
    # Without a header the first line may have one number twice.
    first = () if path.suffix.casefold() == ".parquet" else first_words(path)
    headless = len(first) > 0 and _count_numbers(first) >= min(2, len(first) - 1)
    table = open_table(path, names=[f"column_{k}" for k in range(len(first))] if headless else None)
    folded = [name.casefold() for name in table.names]
    barcode, x, y = (next((folded.index(n) for n in one if n in folded), None) for one in _NAMES)
    if x is None or y is None:
        # Without names it is the order: barcode, x, y, and row numbers before.
        if len(folded) not in (3, 4):
            raise InputError(
                Fault(
                    str(path),
                    f"expected the columns barcodes, xcoord, ycoord, but got "
                    f"{', '.join(table.names[:8])}",
                )
            )
        x, y = len(folded) - 2, len(folded) - 1
    if barcode is None:
        others = [k for k in range(len(folded)) if k not in {x, y}]
        if not others:
            raise InputError(Fault(str(path), "expected a column of barcodes, but got none"))
        barcode = ([k for k in others if k < x] or others)[-1]
    return table, (table.names[barcode], table.names[x], table.names[y])


def _count_numbers(words: tuple[str, ...]) -> int:
    return sum(_is_number(word) for word in words)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def bead_unit(
    positions: NDArray[np.float64], options: ReadOptions, assumed: float, why: str, where: str
) -> FoundUnit:
    """Find micrometers per unit: as given, or as assumed where the spacing of the beads agrees.

    Parameters
    ----------
    positions : ndarray, (n, 2)
        All beads of the array, also those without counts.
    options : ReadOptions
        What the user says.
    assumed : float
        Micrometers per unit by convention.
    why : str
        What the convention is.
    where : str
        Place to name in messages.

    Raises
    ------
    InputError
        With the assumed unit neighboring beads, which have 10 um, would lie impossibly close or
        far apart.
    """
    place = f"{where}:um_per_unit"
    if options.um_per_unit is not None:
        return find_unit(positions, options.um_per_unit, where=place)
    apart = spacing(positions)
    if apart is not None and not _APART_UM[0] <= apart * assumed <= _APART_UM[1]:
        raise InputError(
            Fault(
                place,
                f"expected beads of 10 um side by side, but got neighbors {apart:.4g} units apart, "
                f"{apart * assumed:.3g} um at the assumed {assumed:g} ({why}); set um_per_unit, "
                f"about {10 / max(apart, 1e-9):.2g} if they are packed",
            )
        )
    return FoundUnit(
        assumed,
        f"{assumed:g} um per unit, assumed: {why}",
        (f"um_per_unit: the files do not say the unit; {assumed:g} assumed ({why})",),
    )
