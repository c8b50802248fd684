"""Cells by their names, `{section}:{cell id}` as the index of an answer has them.

A list of names is joined, not tested one by one: it is cut by section once, and the ids of a
section are looked up in a hash table.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import InvalidArgument, SectionNotFound, near
from .predicate import Bounds, Compare, In, Leaf, Null, Same, Scalar

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore
    from ..cells.rows import RunArray

COLUMN = "cell:id"
"""Name under which a filter finds the cells' own names."""


def among_cells(store: "AtlasStore", cells: Iterable[Any]) -> In:
    """Test whether a cell is one of a list.

    Parameters
    ----------
    store
        The atlas.
    cells
        Names `{section}:{cell id}`, any number of them; repeated ones count once.

    Raises
    ------
    InvalidArgument
        One text instead of a list, or a name without a section.
    SectionNotFound
        A name of a section that this snapshot does not have.
    """
    if isinstance(cells, str):
        raise InvalidArgument(f"a list of cells is wanted for cells=, but got the text {cells!r}")
    names = tuple(dict.fromkeys(cells))
    for name in names:
        if not isinstance(name, str) or ":" not in name:
            raise InvalidArgument(
                f"names '<section>:<cell id>' are wanted for cells=, but got {name!r}; they are "
                "the index of .obs"
            )
    for section in sections_of(names):
        if not store.has_section(section):
            raise SectionNotFound(
                f"cells of a section of this snapshot are wanted, but got section {section!r}."
                f"{near(section, store.section_names)}"
            )
    return In(COLUMN, names)


def sections_of(names: tuple[Scalar, ...]) -> frozenset[str]:
    """Sections that names of cells begin with; the last few lists are kept.

    >>> sorted(sections_of(("a:1", "b:1", "a:2")))
    ['a', 'b']
    """
    return _sections(Same(names))


@lru_cache(maxsize=8)
def _sections(same: Same) -> frozenset[str]:
    return frozenset(str(name).partition(":")[0] for name in same.values)


def bound_by_name(leaf: Leaf, section: str) -> Bounds:
    """Bounds, as arrays of length 1, on a test on the names of a section's cells."""
    none = np.zeros(1, bool)
    if isinstance(leaf, Null):
        return Bounds(none, ~none, none, ~none)
    if isinstance(leaf, In) and section not in sections_of(leaf.values):
        return Bounds(none, ~none, none, ~none)
    elsewhere = isinstance(leaf, Compare) and str(leaf.value).partition(":")[0] != section
    if elsewhere and isinstance(leaf, Compare) and leaf.op == "==":
        return Bounds(none, ~none, none, ~none)
    return Bounds.unknown(1)


def read_names(section: "Section", runs: "RunArray") -> "pd.Series":
    """Names of the cells of some rows; one Arrow concatenation."""
    import pandas as pd

    from ..cells.rows import pairs_of

    ids = pd.array(section.cell_ids(pairs_of(runs)), dtype="str")
    return pd.Series(ids).radd(f"{section.name}:")
