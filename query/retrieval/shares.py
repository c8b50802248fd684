"""Codes of the columns of which windows keep the shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..cells.fetch import read_column
from ..cells.rows import RunArray, count
from ..filters.columns import Column, Columns

if TYPE_CHECKING:
    from ...atlas.section import Section
    from ...atlas.store import AtlasStore

_MOST = 256


@dataclass(frozen=True, slots=True, eq=False)
class ShareColumn:
    """A column with all values that it takes, the same in all sections."""

    column: Column
    values: tuple[str, ...]

    @classmethod
    def of(
        cls, store: "AtlasStore", name: str, sections: Sequence[str], known: Sequence[str] | None
    ) -> "ShareColumn":
        """Resolve a column of labels; its values are read from all sections unless known.

        Raises
        ------
        ColumnNotFound
            No such column.
        InvalidArgument
            It holds numbers, one value a section, or more than 256 different ones.
        """
        column = Columns(store).resolve(name)
        if column.source == "meta" or not column.kinds <= {"categorical", "string", "boolean"}:
            raise InvalidArgument(
                f"a column of labels of cells is wanted in columns=, but got {name!r}, which is "
                f"{'of sections' if column.source == 'meta' else ' or '.join(sorted(column.kinds))}"
            )
        values = set(known or column.values or ())
        if not values:
            for section in sections:
                handle = store.section(section)
                whole = np.array([[0, handle.n_obs]], np.int64)
                found = read_column(store, handle, whole, column)
                values |= set() if found is None else set(found.dropna().astype(str).unique())
        if not 0 < len(values) <= _MOST:
            raise InvalidArgument(
                f"1 to {_MOST} different values are wanted in column {name!r}, but got "
                f"{len(values)}; leave it out of columns="
            )
        return cls(column, tuple(known or sorted(values)))

    def codes(self, store: "AtlasStore", section: "Section", runs: RunArray) -> NDArray[np.int64]:
        """Find the number of the value of each row, (m,); -1 where it has none."""
        import pandas as pd

        found = read_column(store, section, runs, self.column)
        if found is None:
            return np.full(count(runs), -1, np.int64)
        if isinstance(found.dtype, pd.CategoricalDtype):
            own = pd.Index(self.values).get_indexer(found.cat.categories.astype(str))
            return np.append(own, -1)[found.cat.codes.to_numpy()].astype(np.int64)
        text = found.astype(object).map(str, na_action="ignore")
        return np.asarray(pd.Index(self.values).get_indexer(pd.Index(text)), np.int64)
