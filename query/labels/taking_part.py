"""Which cells take part: those that pass quality control, unless the caller says which."""

from dataclasses import replace
from typing import TYPE_CHECKING

from ...atlas.errors import InvalidArgument
from ..cells.selection import Selection
from ..filters.parser import parse
from ..filters.predicate import Compare, In, Or, Predicate, conjunction, leaves

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["QC_COLUMN", "narrowed", "passing"]

QC_COLUMN = "qc_pass"


def passing(store: "AtlasStore") -> Predicate | None:
    """Tell what cells pass quality control by; None where no section has a boolean `qc_pass`.

    Cells of sections without the column pass; a flag that is missing is no pass.
    """
    entries = store.snapshot.sections
    having = [
        n for n, e in entries.items() if e.columns.get(QC_COLUMN, {}).get("kind") == "boolean"
    ]
    if not having:
        return None
    flag = Compare(f"obs:{QC_COLUMN}", "==", True)
    lacking = tuple(sorted(set(entries) - set(having)))
    return Or((flag, In("section", lacking))) if lacking else flag


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
    asked = selection.question.predicate
    if where is not None:
        more: Predicate | None = parse(where)
    elif all_cells or any(leaf.column.removeprefix("obs:") == QC_COLUMN for leaf in leaves(asked)):
        more = None
    else:
        more = passing(selection.store)
    if more is None:
        return selection
    both = conjunction([asked, more])
    selection.columns.check(both)
    return Selection(selection.store, replace(selection.question, predicate=both))
