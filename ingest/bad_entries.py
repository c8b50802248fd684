"""Entries of a matrix that may not be stored, told by cell and gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..atlas.errors import Fault, InputError
from .source import StringValues

if TYPE_CHECKING:
    from .sort_scatter import BadEntryError
    from .source import RawSection

__all__ = ["cell_name", "refusal", "refusal_apart"]


def cell_name(raw: RawSection, row: int) -> str:
    """Name a source row by its cell id."""
    ids = raw.instance_ids.read()
    name = ids.take(np.array([row])).to_list()[0] if isinstance(ids, StringValues) else None
    return f"{name!r} (row {row})"


def refusal(raw: RawSection, bad: BadEntryError) -> InputError:
    """Name the cell and the gene of an entry that may not be stored."""
    cell = cell_name(raw, bad.row)
    if not 0 <= bad.column < raw.n_vars:
        last = raw.counts.n_vars - 1
        what = f"expected a column in 0..{last}, but got {bad.column} in cell {cell}"
        return InputError(Fault("counts", f"{what}; the file is damaged"))
    if raw.values == "counts":
        wanted = "counts must be whole numbers from 0 to 4,294,967,295"
        advice = (
            "point to the raw counts, or say what the matrix holds (`values` = expected, "
            "normalized, log1p or composition)"
        )
    else:
        wanted = f"values must be finite, from 0 to {np.finfo(np.float32).max:.3g}"
        advice = "scaled or centered values are no expression values: set `layer` to unscaled ones"
    gene = raw.panel.name[bad.column]
    place = f"in cell {cell}, gene {gene!r}"
    return InputError(Fault("counts", f"{wanted}, but got {bad.value:g} {place}; {advice}"))


def refusal_apart(raw: RawSection, table: str, bad: BadEntryError) -> InputError:
    """Name the cell and the feature of an entry that may not be stored."""
    wanted = f"values must be finite, from 0 to {np.finfo(np.float32).max:.3g}"
    feature = raw.apart[table].names[bad.column]
    place = f"in cell {cell_name(raw, bad.row)}, feature {feature!r}"
    return InputError(Fault(f"apart {table!r}", f"{wanted}, but got {bad.value:g} {place}"))
