"""Which cells are compared with which: a column's values, one number each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument, near_or_all
from ..cells.fetch import read_column
from ..cells.rows import RunArray, batches, count
from ..filters.columns import Column
from ..labels.table import MOST_GROUPS
from ..tables.value_kinds import codes_among, label_of, text_of

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ..cells.selection import Selection

__all__ = ["Comparison", "compared", "labeled_parts"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The values of a column that are compared."""

    column: Column
    labels: tuple[str, ...]
    """All values, in order; cells carry their number."""
    groups: tuple[str, ...]
    """Each of them is compared with the reference."""
    reference: tuple[str, ...]
    """Taken together; empty stands for the rest of the cells with a value."""

    @property
    def against(self) -> str:
        """The reference in a word."""
        return " + ".join(self.reference) if self.reference else "rest"

    def sides(self, group: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of the labels of a group, and of what it is compared with."""
        own = np.array([self.labels.index(group)], np.int64)
        if not self.reference:
            return own, np.setdiff1d(np.arange(len(self.labels)), own)
        return own, np.array([self.labels.index(name) for name in self.reference], np.int64)


def compared(
    selection: "Selection",
    groupby: str,
    groups: str | Sequence[str] | None,
    reference: str | Sequence[str] | None,
) -> Comparison:
    """Find the values of a column and see that those asked for are among them.

    They are the groups of `aggregate`, as text: "" is one, a missing value none.

    Raises
    ------
    ColumnNotFound
        No such column.
    InvalidArgument
        Fewer than two values, more than 256, or one that no cell has; a group that is its own
        reference.
    """
    column = selection.columns.resolve(groupby)
    found = selection.aggregate([groupby], "count").index
    values = [value for value in found.tolist() if not _is_missing(value)]
    labels = tuple(map(text_of, values))
    if len(labels) > MOST_GROUPS:
        raise InvalidArgument(
            f"a column of at most {MOST_GROUPS} labels is wanted for groupby=, but got "
            f"{groupby!r}, which has {len(labels):,}"
        )
    if len(labels) < 2:
        raise InvalidArgument(
            f"a column with two or more values is wanted for groupby=, but got {groupby!r}, which "
            f"has {', '.join(map(repr, labels)) or 'none'} in these cells"
        )
    against = _named(reference, labels, groupby, "reference")
    wanted = _named(groups, labels, groupby, "groups")
    wanted = wanted or tuple(name for name in labels if name not in against)
    if both := sorted(set(wanted) & set(against)):
        raise InvalidArgument(
            f"groups other than their reference are wanted, but got {', '.join(both)} as both"
        )
    return Comparison(column, labels, wanted, against)


def _named(
    asked: str | Sequence[str] | None, labels: Sequence[str], groupby: str, what: str
) -> tuple[str, ...]:
    if asked is None:
        return ()
    names = [asked] if isinstance(asked, str) or not isinstance(asked, Sequence) else list(asked)
    found = [label_of(name, labels) for name in names]
    for name, label in zip(names, found, strict=True):
        if label not in labels:
            raise InvalidArgument(
                f"a value of {groupby!r} that these cells have is wanted for {what}=, but got "
                f"{name!r}.{near_or_all(str(name), labels)}"
            )
    return tuple(dict.fromkeys(found))


def labeled_parts(
    selection: "Selection", comparison: Comparison, n_rows: int
) -> "Iterator[tuple[Section, RunArray, NDArray[np.int64]]]":
    """Go through the cells, some rows at a time, each with the numbers of their labels.

    Yields
    ------
    section, runs, codes
        (m,) int64; -1 for cells without a value.
    """
    for section, runs in selection.parts():
        for part in batches(runs, n_rows):
            values = read_column(selection.store, section, part, comparison.column)
            if values is None:
                yield section, part, np.full(count(part), -1, np.int64)
            else:
                yield section, part, codes_among(values, comparison.labels)


def _is_missing(value: Any) -> bool:
    return value is None or bool(value != value)  # noqa: PLR0124 - NaN is missing
