"""The cells that a filter finds, as one True or False for each cell of a section."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..cells.rows import pairs_of
from ..cells.verbs import select
from .columns import Columns
from .parser import parse
from .predicate import leaves

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["derived_inputs", "select_masks"]


def select_masks(
    store: "AtlasStore", where: str, sections: Sequence[str]
) -> dict[str, NDArray[np.bool_]]:
    """Find the cells of some sections that satisfy a filter.

    Parameters
    ----------
    store
        The atlas.
    where
        A filter string, as of a query: `"qc_pass and cell_type == 'B'"`.
    sections
        Names.

    Returns
    -------
    dict of str to array
        (n_obs,) bool for every one of the sections, one byte a cell; all False in sections that
        have no such cell.

    Raises
    ------
    QuerySyntax, ColumnNotFound, SectionNotFound
        As of a query.
    """
    found = select(store, where, section=list(sections)).runs
    masks = {}
    for name in sections:
        mask = np.zeros(store.section(name).n_obs, dtype=np.bool_)
        for start, stop in pairs_of(found[name]) if name in found else []:
            mask[start:stop] = True
        masks[name] = mask
    return masks


def derived_inputs(
    store: "AtlasStore", where: str, sections: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Name the derived data that a filter reads, so that what it chose can be seen to be stale.

    Parameters
    ----------
    store, where, sections
        See `select_masks`.

    Returns
    -------
    dict of str to dict
        For every section, names of derived data, such as `domains/<key>/<section>`, and their
        attempts; empty where the filter asks for columns of the section alone.
    """
    columns = Columns(store)
    found = [columns.resolve(leaf.column) for leaf in leaves(parse(where))]
    kinds = {"domains": "domains", "confidence": "domains", "annotations": "annotation"}
    keys = sorted({f"{kinds[c.source]}/{c.key}" for c in found if c.source in kinds})
    derived = store.snapshot.derived
    return {
        section: {
            name: derived[name].attempt for key in keys if (name := f"{key}/{section}") in derived
        }
        for section in sections
    }
