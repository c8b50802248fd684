"""What a comparison takes in: sections with cells of a side, and the genes that they measured."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..expression.choice import UnmeasuredWarning, choose_genes
from ..telling import tell
from .groups import Comparison, labeled_parts

if TYPE_CHECKING:
    from ..cells.selection import Selection
    from ..expression.choice import GeneChoice

__all__ = ["Tested", "cells_compared", "genes_tested"]

_ROWS_AT_ONCE = 262_144
_NAMED = 5


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """The genes of a comparison."""

    choice: "GeneChoice"
    """Those that are tested."""
    shown: NDArray[np.int64] | None
    """Numbers of those that were asked for; None is all."""
    dropped: int
    """Genes left out as some section did not measure them."""


def cells_compared(selection: "Selection", comparison: Comparison) -> "Selection":
    """Keep the sections that have a cell of a side: what others measured does not matter.

    Reads the column once, in blocks of rows.
    """
    sides = [np.concatenate(comparison.sides(group)) for group in comparison.groups]
    compared = np.unique(np.concatenate(sides))
    sections: dict[str, None] = {}
    for section, _, codes in labeled_parts(selection, comparison, _ROWS_AT_ONCE):
        if np.isin(codes, compared).any():
            sections[section.name] = None
    return selection.only(list(sections))


def genes_tested(selection: "Selection", missing: str | None, *, all_genes: bool) -> Tested:
    """Find the genes that all sections with cells measured.

    Parameters
    ----------
    selection
        The cells, and the genes asked for.
    missing
        As of `diff`.
    all_genes
        Test also those that were not asked for: a normalization over genes wants all of them.

    Raises
    ------
    InvalidArgument
        The sections share no gene, or miss some that were asked for.
    """
    sections, asked = list(selection.runs), selection.question.genes
    shown = choose_genes(selection.store, sections, asked)
    own, kept = _shared(shown, sections, missing, named=asked is not None)
    if asked is None or not all_genes:
        return Tested(own, None, len(shown) - kept)
    whole = choose_genes(selection.store, sections, None)
    tested, n_shared = _shared(whole, sections, missing, named=False)
    first = tested.columns[sections[0]]
    # In one section a gene is one column of the matrix, whatever name it was asked for by.
    place = np.full(int(first.max()) + 1, -1, np.int64)
    place[first] = np.arange(len(first))
    return Tested(tested, place[own.columns[sections[0]]], len(whole) - n_shared)


def _shared(
    choice: "GeneChoice", sections: list[str], missing: str | None, *, named: bool
) -> "tuple[GeneChoice, int]":
    """Genes of a choice that all sections measured, and their number."""
    keep = np.ones(len(choice), bool)
    for name in sections:
        keep &= choice.measured[name] & (choice.columns[name] >= 0)
    dropped = int((~keep).sum())
    if not keep.any():
        shown = ", ".join(sections[:_NAMED]) + (" ..." if len(sections) > _NAMED else "")
        raise InvalidArgument(
            f"genes that all {len(sections)} sections with cells of either side measured are "
            f"wanted, but {shown} share none{' of those named' if named else ''}; ask for "
            "sections of one panel alone (section=[...]), or narrow the cells (where=, or --within "
            "of the command)"
        )
    if dropped:
        names = ", ".join(choice.name[~keep][:_NAMED].astype(str))
        told = (
            f"{dropped:,} of {len(keep):,} genes were not measured in all {len(sections)} sections "
            f"({names}{' ...' if dropped > _NAMED else ''})"
        )
        if missing == "error" or (missing is None and named):
            raise InvalidArgument(
                f"genes that all sections measured are wanted, but {told}; leave them out with "
                "missing='drop', or name sections of one panel"
            )
        if missing is None:
            tell(f"{told} and are left out", UnmeasuredWarning)
    return choice.restricted(sections, keep), len(keep) - dropped
