"""The cells that a filter finds, as one True or False for each cell of a section."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..cells.rows import pairs_of
from ..cells.verbs import select
from .columns import Column, Columns
from .parser import parse
from .predicate import leaves

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["derived_inputs", "derived_keys", "select_masks"]

# Sources of columns that are derived data, and the kind of it.
_KINDS = {"domains": "domains", "confidence": "domains", "annotations": "annotation"}


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


def derived_keys(columns: Iterable[Column]) -> list[str]:
    """Kind and key of the derived data that columns are read from, such as `domains/<key>`."""
    return sorted({f"{_KINDS[c.source]}/{c.key}" for c in columns if c.source in _KINDS})


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
    keys = derived_keys(columns.resolve(leaf.column) for leaf in leaves(parse(where)))
    derived = store.snapshot.derived
    return {
        section: {
            name: derived[name].attempt for key in keys if (name := f"{key}/{section}") in derived
        }
        for section in sections
    }
