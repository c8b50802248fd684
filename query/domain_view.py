"""Domains across the atlas: how cells divide among them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..atlas.errors import InvalidArgument
from .columns import Columns

if TYPE_CHECKING:
    import pandas as pd

    from ..atlas.store import AtlasStore


def domains(store: "AtlasStore", key: str | None = None) -> "DomainView":
    """Look at one set of domain labels.

    Parameters
    ----------
    store
        The atlas.
    key
        Its name; may be left out where there is only one.

    Raises
    ------
    ColumnNotFound
        No labels of this name.
    InvalidArgument
        No key was named and there are none or several.
    """
    columns = Columns(store, key)
    chosen = columns.domain()
    return DomainView(store.frozen(), chosen, tuple(store.derived_keys("domains")[chosen]))


@dataclass(frozen=True)
class DomainView:
    """The labels of one key, over the sections that have them."""

    store: "AtlasStore" = field(repr=False)
    key: str
    sections: tuple[str, ...] = field(repr=False)

    @property
    def names(self) -> list[str]:
        """Every domain, in the order of the key's categories."""
        found: dict[str, None] = {}
        for section in self.sections:
            entry = self.store.derived("domains", self.key, section)
            found |= dict.fromkeys(map(str, entry.info.get("categories", ())))
        return list(found)

    def composition(
        self, by: str | Sequence[str] = "section", groupby: str | None = None
    ) -> "pd.DataFrame":
        """How the cells of each group divide among domains.

        Parameters
        ----------
        by
            Section metadata, obs columns: each combination of values is a group.
        groupby
            A further column (such as `cell_type`) to divide each domain's cells by.

        Returns
        -------
        DataFrame
            Long form: columns `by`, `domain`, `groupby` if given, `n` (cells) and `fraction` (of
            the labeled cells of the group). Combinations without cells are left out; cells
            without a label are not counted. Sorted.

        Notes
        -----
        Reads labels and the columns named, never counts; one section at a time.
        """
        from .verbs import select

        names = [by] if isinstance(by, str) else list(by)
        if not names or "domain" in names:
            raise InvalidArgument(f"columns other than domain are wanted for by=, but got {by!r}")
        spelled = f"domains:{self.key}"
        wanted = [*names, spelled, *([groupby] if groupby else [])]
        selection = select(self.store, section=list(self.sections), domain_key=self.key)
        counts = selection.aggregate(wanted, "count")["n_obs"]
        table = counts.rename("n").reset_index().rename(columns={spelled: "domain"})
        table = table[table["domain"].notna()].reset_index(drop=True)
        total = table.groupby(names, dropna=False, sort=False)["n"].transform("sum")
        table["fraction"] = np.where(total > 0, table["n"] / total, np.nan)
        table.attrs = {"key": self.key, "units": {"n": "cells", "fraction": "of labeled cells"}}
        table.columns.name = None
        return table
