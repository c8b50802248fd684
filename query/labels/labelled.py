"""Domain labels and annotations as if they were columns of a section's own table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from ...atlas.annotations import open_annotation
from ...atlas.derived_read import read_domains
from ..cells.fetch import read_annotation, read_labels
from ..cells.rows import as_runs
from ..filters.columns import Column, Columns

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

__all__ = ["labelled_sections"]


class _Labelled:
    """A section whose table has one further column: domain labels, or an annotation."""

    def __init__(self, store: "AtlasStore", section: "Section", column: Column) -> None:
        self._store, self._section = store, section
        self._name, self._key = column.name, column.key
        self._added = column.source == "annotations"
        self._names: tuple[str, ...] | None
        self._kind = "categorical"
        if self._added:
            opened = open_annotation(store, self._key, section.name)
            self._kind, self._names = str(opened.info["kind"]), opened.categories
        else:
            self._names = tuple(read_domains(store, self._key, section.name, [(0, 0)]).categories)

    @property
    def obs_columns(self) -> dict[str, Any]:
        return {**self._section.obs_columns, self._name: {"kind": self._kind}}

    def categories(self, column: str) -> tuple[str, ...] | None:
        return self._names if column == self._name else self._section.categories(column)

    def obs(
        self, runs: Sequence[tuple[int, int]], columns: Sequence[str], *, index: bool = True
    ) -> "pd.DataFrame":
        if list(columns) != [self._name]:
            return self._section.obs(runs, columns, index=index)
        read = read_annotation if self._added else read_labels
        return read(self._store, self._section.name, self._key, as_runs(runs)).to_frame(self._name)

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
        An obs column, a domain key, an annotation, or `domain` where there is one key.

    Returns
    -------
    list of Section
        As they are where the column is in the table; else with the labels as a further column of
        this name.

    Raises
    ------
    ColumnNotFound
        No such column; near names are offered.
    DerivedNotFound, StaleDerived
        A section has no such labels, or they are of a section that was replaced.
    """
    found = Columns(store).resolve(column)
    opened = [store.section(name) for name in sections]
    if found.source not in ("domains", "annotations"):
        return opened
    return [cast("Section", _Labelled(store, one, found)) for one in opened]
