"""What adding columns to cells gives back: a table of what was joined."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.snapshot import DerivedEntry
    from ...atlas.store import AtlasStore

__all__ = ["Annotated", "annotated"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Annotated:
    """Columns that were added; prints as the table of what cells have a value."""

    entries: "tuple[DerivedEntry, ...]"
    """One a section and column, as they were committed."""
    n_obs: Mapping[str, int]
    """Cells of each section."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One mapping a column and section: `column`, `section`, `kind`, `n_cells`, `n_missing`."""
        return [_row(entry, self.n_obs[entry.section]) for entry in self.entries]

    @property
    def table(self) -> "pd.DataFrame":
        """The rows as a table: cells that got a value, and cells that have none."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> "Iterator[DerivedEntry]":
        return iter(self.entries)

    def __repr__(self) -> str:
        return str(self.table.to_string(index=False))

    def _repr_html_(self) -> str:
        return str(self.table.to_html(index=False))


def annotated(store: "AtlasStore", entries: "Sequence[DerivedEntry]") -> Annotated:
    """Tell of columns that were just committed."""
    sections = store.snapshot.sections
    return Annotated(tuple(entries), {e.section: sections[e.section].n_obs for e in entries})


def _row(entry: "DerivedEntry", n_obs: int) -> dict[str, Any]:
    missing = int(entry.info["nulls"])
    return {
        "column": entry.key,
        "section": entry.section,
        "kind": entry.info["kind"],
        "n_cells": n_obs - missing,
        "n_missing": missing,
    }
