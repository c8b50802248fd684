"""Which cells take part: those that pass quality control, unless the caller says which."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...atlas.errors import InvalidArgument
from ..cells.rows import RunArray
from ..cells.selection import Selection
from ..cells.verbs import select
from ..filters.parser import parse
from ..filters.predicate import Compare, In, Or, Predicate, conjunction

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["QC_COLUMN", "narrowed", "passing", "runs_taking_part"]

QC_COLUMN = "qc_pass"


def passing(store: "AtlasStore", sections: Iterable[str] | None = None) -> Predicate | None:
    """Tell what cells pass quality control by; None where no section has a boolean `qc_pass`.

    Cells of sections without the column pass; a flag that is missing is no pass. Metadata of
    sections, labels and annotations of that name say nothing of cells.

    Parameters
    ----------
    store
        The atlas.
    sections
        Those that are asked about; all without.
    """
    entries = store.snapshot.sections
    names = set(entries if sections is None else sections)
    lacking = {
        n
        for n in names
        if n not in entries or entries[n].columns.get(QC_COLUMN, {}).get("kind") != "boolean"
    }
    if lacking == names:
        return None
    flag = Compare(f"obs:{QC_COLUMN}", "==", True)
    return Or((flag, In("section", tuple(sorted(lacking))))) if lacking else flag


def narrowed(selection: Selection, where: str | None, *, all_cells: bool = False) -> Selection:
    """Keep the cells of a selection that take part.

    Parameters
    ----------
    selection
        What was asked for.
    where
        Filter string. None is: the cells that pass quality control, unless the selection's own
        filter speaks of `qc_pass`.
    all_cells
        Every cell of the selection.

    Raises
    ------
    InvalidArgument
        Both `where` and `all_cells`.
    QuerySyntax, ColumnNotFound
        As of a query.
    """
    if all_cells and where is not None:
        raise InvalidArgument(f"where= or all_cells=True is wanted, but got both: {where!r}")
    if where is not None:
        more: Predicate | None = parse(where)
    elif all_cells or _asks_for_quality(selection):
        more = None
    else:
        more = passing(selection.store)
    return selection if more is None else _both(selection, more)


def runs_taking_part(
    store: "AtlasStore", sections: Sequence[str], where: str | None, *, all_cells: bool = False
) -> Mapping[str, RunArray] | None:
    """Find the rows of some sections that take part, as runs; None where every cell does.

    Parameters
    ----------
    store
        The atlas.
    sections
        Names; one that is left out of the answer has no such cell.
    where, all_cells
        See `narrowed`.

    Raises
    ------
    InvalidArgument, QuerySyntax, ColumnNotFound, SectionNotFound
        See `narrowed`.
    """
    if all_cells or where is not None:
        if where is None or not sections:
            return None
        return narrowed(select(store, section=list(sections)), where, all_cells=all_cells).runs
    flag = passing(store, sections)
    return None if flag is None else _both(select(store, section=list(sections)), flag).runs


def _asks_for_quality(selection: Selection) -> bool:
    asked = selection.columns.check(selection.question.predicate).values()
    return any((column.source, column.key) == ("obs", QC_COLUMN) for column in asked)


def _both(selection: Selection, more: Predicate) -> Selection:
    both = conjunction([selection.question.predicate, more])
    selection.columns.check(both)
    return Selection(selection.store, replace(selection.question, predicate=both))
