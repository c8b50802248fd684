"""The cells that a filter leaves for graphs; sections without one are refused or left out."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..filters.columns import Columns
from ..filters.masks import select_masks
from ..filters.parser import parse
from ..filters.predicate import leaves
from ..telling import tell

if TYPE_CHECKING:
    from ...atlas.graph import StoredGraph
    from ...atlas.store import AtlasStore

__all__ = ["SkippedSectionsWarning", "graph_masks", "kept_cells", "tell_skipped"]

_SHOWN = 5


class SkippedSectionsWarning(UserWarning):
    """Sections that were not asked for by name are left out, and why."""


def graph_masks(
    store: "AtlasStore", where: str, sections: Sequence[str], *, named: bool
) -> dict[str, NDArray[np.bool_]]:
    """Find the cells of some sections that satisfy a filter, for a graph of these alone.

    Parameters
    ----------
    store
        The atlas.
    where
        A filter string, as of a query.
    sections
        Names.
    named
        Whether they were asked for by name.

    Returns
    -------
    dict of str to array
        (n_obs,) bool for every section in which cells are left, one byte a cell.

    Raises
    ------
    InvalidArgument
        No cell is left in any section, or in one that was named.
    QuerySyntax, ColumnNotFound, SectionNotFound
        As of a query.

    Warns
    -----
    SkippedSectionsWarning
        No cell is left in sections that were not named.
    """
    masks = select_masks(store, where, sections)
    kept = {name: mask for name, mask in masks.items() if mask.any()}
    empty = {name: _why(store, where, name) for name in masks if name not in kept}
    if empty and (named or not kept):
        raise InvalidArgument(
            f"cells that satisfy {where!r} are wanted, but got none in {_listed(empty)}; "
            "change the filter, or name other sections"
        )
    if empty:
        tell_skipped(empty, f"no graph without cells that satisfy {where!r}")
    return kept


def tell_skipped(skipped: Mapping[str, str], what: str) -> None:
    """Warn that sections are left out, with the reason of each."""
    if skipped:
        count = f"{len(skipped)} section{'s' if len(skipped) > 1 else ''}"
        tell(
            f"{count} left out ({what}): {_listed(skipped)}",
            SkippedSectionsWarning,
        )


def _why(store: "AtlasStore", where: str, section: str) -> str:
    """Name the columns of the filter that a section lacks."""
    columns = Columns(store)
    known = store.snapshot.sections[section].columns
    used = {leaf.column: columns.resolve(leaf.column) for leaf in leaves(parse(where))}
    lacking = [
        name for name, found in used.items() if found.source == "obs" and found.key not in known
    ]
    return f"it has no column {' or '.join(map(repr, lacking))}" if lacking else ""


def _listed(sections: Mapping[str, str]) -> str:
    """Names with reasons, a few of them."""
    shown = [
        f"{name!r} ({why})" if why else repr(name) for name, why in list(sections.items())[:_SHOWN]
    ]
    more = len(sections) - len(shown)
    return ", ".join(shown) + (f" and {more} others" if more else "")


def kept_cells(store: "AtlasStore", graph: "StoredGraph") -> NDArray[np.bool_] | None:
    """Find again the cells that a graph was restricted to; None where it was not.

    Raises
    ------
    InvalidArgument
        The filter finds other cells than when the graph was built, or a mask without a filter was
        given then.
    """
    digest = graph.parameters.get("mask")
    if digest is None:
        return None
    from ...atlas.graph.wrapped.mask import Mask

    where, name = graph.parameters.get("where"), graph.entry.section
    found = None if where is None else select_masks(store, str(where), [name])[name]
    if found is None or Mask.of(found).digest != digest:
        why = "a mask without a filter" if found is None else f"{where!r}, which now finds others"
        raise InvalidArgument(
            f"the cells of graph {graph.entry.key!r} of section {name!r} are wanted, but it was "
            f"restricted by {why}; build the graph again"
            + (" with where=" if found is None else "")
        )
    return found
