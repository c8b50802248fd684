"""Which sections a filter leaves, told from the catalog alone."""

from typing import TYPE_CHECKING

from ...atlas.errors import InvalidArgument
from ..cells.pruning import bound_section
from ..filters.columns import Columns
from ..filters.parser import parse

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore


def sections_asked(store: "AtlasStore", where: str | None) -> list[str]:
    """Sections that satisfy a filter over section metadata; all without one.

    Raises
    ------
    QuerySyntax, ColumnNotFound
        The filter does not parse, or names what is not there.
    InvalidArgument
        It asks for cells, or no section satisfies it.
    """
    if where is None:
        return list(store.section_names)
    predicate = parse(where)
    columns = Columns(store).check(predicate)
    of_cells = sorted(name for name, column in columns.items() if column.source != "meta")
    if of_cells:
        raise InvalidArgument(
            "a filter over sections is wanted in where=, such as \"timepoint >= 'E10.5'\", but "
            f"got columns of cells: {', '.join(of_cells)}; ask for windows by what they hold "
            "with having={column: {value: least share}}"
        )
    entries = store.snapshot.sections
    kept = [
        name
        for name in store.section_names
        if bound_section(predicate, columns, entries[name], {}).all_yes[0]
    ]
    if not kept:
        raise InvalidArgument(
            f"a filter that leaves sections is wanted, but {where!r} leaves none of "
            f"{len(entries)}; atlas.sections shows their columns"
        )
    return kept
