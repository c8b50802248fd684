"""Which cells of a section take part in what is computed about its genes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...atlas.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

__all__ = ["FEWEST", "Cells", "cells_of", "enough", "n_kept", "require_some", "together"]

FEWEST = 3
"""Cells that a statistic of places wants; a section with fewer is left out of a table of many."""

type Cells = NDArray[np.bool_] | None
"""(n_obs,) whether a cell takes part; None is every cell."""


def cells_of(store: AtlasStore, section: str, where: str | None, *, all_cells: bool) -> Cells:
    """Mark the cells of a section that take part, by the rule of all verbs that compute.

    Parameters
    ----------
    store
        The atlas.
    section
        Name of the section.
    where
        Filter string; without, the cells that pass quality control.
    all_cells
        Every cell.

    Returns
    -------
    (n_obs,) bool or None
        None where every cell does. Memory: a byte a cell.

    Raises
    ------
    QuerySyntax, ColumnNotFound
        As of a query.
    InvalidArgument
        Both `where` and `all_cells`.
    """
    from ..labels.masks import cells_taking_part

    masks = cells_taking_part(store, [section], where, all_cells=all_cells)
    return None if masks is None else masks[section]


def together(cells: Cells, others: Cells) -> Cells:
    """Cells that both have."""
    if cells is None or others is None:
        return others if cells is None else cells
    return cells & others


def enough(cells: Cells) -> bool:
    """Tell whether as many cells take part as a statistic of places wants.

    >>> enough(None)
    True
    """
    return cells is None or int(cells.sum()) >= FEWEST


def n_kept(section: Section, cells: Cells) -> int:
    """Count the cells of a section that take part."""
    return section.n_obs if cells is None else int(cells.sum())


def require_some(used: Sequence[str], names: Sequence[str]) -> None:
    """Refuse an answer in which no section takes part.

    Raises
    ------
    InvalidArgument
    """
    if not used:
        raise InvalidArgument(
            f"sections with {FEWEST} or more cells that take part are wanted, but got none of "
            f"{len(names)}; widen where=, or pass all_cells=True"
        )
