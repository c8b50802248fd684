"""Domain labels as if they were a column of a section's own table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from ...atlas.derived_read import read_domains
from ..cells.fetch import read_labels
from ..cells.rows import as_runs
from ..filters.columns import Columns

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

__all__ = ["labelled_sections"]


class _Labelled:
    """A section whose table has one further column: domain labels."""

    def __init__(self, store: "AtlasStore", section: "Section", name: str, key: str) -> None:
        self._store, self._section = store, section
        self._name, self._key = name, key
        self._names = tuple(read_domains(store, key, section.name, [(0, 0)]).categories)

    @property
    def obs_columns(self) -> dict[str, Any]:
        return {**self._section.obs_columns, self._name: {"kind": "categorical"}}

    def categories(self, column: str) -> tuple[str, ...] | None:
        return self._names if column == self._name else self._section.categories(column)

    def obs(
        self, runs: Sequence[tuple[int, int]], columns: Sequence[str], *, index: bool = True
    ) -> "pd.DataFrame":
        if list(columns) != [self._name]:
            return self._section.obs(runs, columns, index=index)
        labels = read_labels(self._store, self._section.name, self._key, as_runs(runs))
        return labels.to_frame(self._name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # before there is a section to ask
            raise AttributeError(name)
        return getattr(self._section, name)


def labelled_sections(store: "AtlasStore", sections: Sequence[str], column: str) -> "list[Section]":
    """Open sections such that a column of labels can be read from their tables.

    Parameters
    ----------
    store
        The atlas.
    sections
        Names.
    column
        An obs column, a domain key, or `domain` where there is one key.

    Returns
    -------
    list of Section
        As they are where the column is in the table; else with the domain labels as a further
        categorical column of this name.

    Raises
    ------
    ColumnNotFound
        No such column; near names are offered.
    DerivedNotFound, StaleDerived
        A section has no such labels, or they are of a section that was replaced.
    """
    found = Columns(store).resolve(column)
    opened = [store.section(name) for name in sections]
    if found.source != "domains":
        return opened
    return [cast("Section", _Labelled(store, one, column, found.key)) for one in opened]
