"""Labels of the cells that take part, section by section."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.derived_read import DomainLabels, read_domains
from ..cells.rows import pairs_of
from .taking_part import runs_taking_part

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["cells_taking_part", "read_part"]

type Masks = dict[str, NDArray[np.bool_]] | None


def cells_taking_part(
    store: "AtlasStore",
    sections: Sequence[str],
    where: str | None,
    *,
    all_cells: bool = False,
) -> Masks:
    """Find the cells that take part, one byte each; None where every cell does.

    Raises
    ------
    QuerySyntax, ColumnNotFound, InvalidArgument
        As of a query.
    """
    chosen = runs_taking_part(store, sections, where, all_cells=all_cells)
    if chosen is None:
        return None
    masks = {name: np.zeros(store.section(name).n_obs, np.bool_) for name in sections}
    for name, runs in chosen.items():
        for start, stop in pairs_of(runs):
            masks[name][start:stop] = True
    return masks


def read_part(store: "AtlasStore", key: str, section: str, masks: Masks) -> DomainLabels:
    """Read the labels of a section; cells that take no part have none."""
    found = read_domains(store, key, section)
    if masks is None or section not in masks:
        return found
    codes = np.where(masks[section], found.codes, np.int16(-1))
    return DomainLabels(codes, found.categories, found.confidence)
