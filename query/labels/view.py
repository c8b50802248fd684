"""Domains across the atlas: how large they are, how cells divide among them, what marks them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import InvalidArgument, SectionNotFound, near
from ...atlas.manifest import parse_json
from ..filters.columns import Columns
from .verbs import DomainVerbs

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.store import AtlasStore

_PROVENANCE_BYTES = 16 * 2**20


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
    return DomainView(store.frozen(), chosen, tuple(store.derived_keys("domains")[chosen]), store)


@dataclass(frozen=True, repr=False)
class DomainView(DomainVerbs):
    """The labels of one key, over the sections that have them."""

    store: "AtlasStore" = field(repr=False)
    key: str
    sections: tuple[str, ...] = field(repr=False)
    origin: "AtlasStore | None" = field(default=None, repr=False, compare=False)
    """The handle that was asked, which edits commit by."""

    def __repr__(self) -> str:
        entries = self.store.snapshot.sections
        n_cells = sum(entries[name].n_obs for name in self.sections)
        n, several = len(self.names), "" if len(self.sections) == 1 else "s"
        return (
            f"DomainView(key={self.key!r}: {n:,} domain{'' if n == 1 else 's'} of {n_cells:,} "
            f"cells in {len(self.sections):,} section{several})"
        )

    @property
    def names(self) -> list[str]:
        """Every domain, in the order of the key's categories."""
        found: dict[str, None] = {}
        for section in self.sections:
            entry = self.store.derived("domains", self.key, section)
            found |= dict.fromkeys(map(str, entry.info.get("categories", ())))
        return list(found)

    @property
    def provenance(self) -> "dict[str, Any]":
        """What the labels were made by: `parameters` (the `graph` among them), `run`, `seed`.

        One object is read, of the first section: all sections of a key share one run.
        """
        entry = self.store.derived("domains", self.key, self.sections[0])
        where = f"{entry.prefix}/provenance.json"
        return dict(parse_json(self.store.storage.get(where, max_bytes=_PROVENANCE_BYTES), where))

    def within(self, sections: Sequence[str]) -> "DomainView":
        """Look at these sections alone.

        Raises
        ------
        SectionNotFound
            One of them has no labels of this key.
        InvalidArgument
            None is named.
        """
        chosen = tuple(dict.fromkeys(sections))
        if not chosen:
            raise InvalidArgument("sections with labels are wanted, but got none")
        for name in chosen:
            if name not in self.sections:
                raise SectionNotFound(
                    f"a section with labels {self.key!r} is wanted, but got {name!r}."
                    f"{near(name, self.sections)}"
                )
        return replace(self, sections=chosen)

    def table(
        self,
        by: str | None = None,
        *,
        markers: int = 5,
        replicate: str | None = None,
        sections: Sequence[str] | None = None,
        where: str | None = None,
        all_cells: bool = False,
        memory_limit: str | int | None = None,
    ) -> "pd.DataFrame":
        """Tell of each domain how large it is, where it occurs, and what is in it.

        Parameters
        ----------
        by
            A column of labels (`cell_type`, `timepoint`) or of at most 64 whole numbers: one more
            column for each value, `cell_type: Neuron`, the share of the domain's cells with it.
        markers
            Genes named in the column `markers`, best first; 0 leaves it out and reads no counts.
        replicate
            See `markers`.
        sections
            Tell of these alone, in shares and markers too; None is all that have labels.
        where, all_cells
            Cells that take part; None is those that pass quality control.
        memory_limit
            Refuse above it.

        Returns
        -------
        DataFrame
            One row a domain, in the order of `names`, with `n_cells`, `fraction` (of the labeled
            cells), `area_um2`, `n_sections`, `sections` (their names, with commas between),
            `mean_confidence`, the columns of `by`, `markers`. `attrs["markers_of_one_unit"]` names
            the markers of each domain that a single replicate can tell.

        Raises
        ------
        ColumnNotFound, InvalidArgument
            `by` is no column, or one of numbers that are no labels.
        SectionNotFound
            One of `sections` has no labels of this key.
        StaleDerived
            A section was replaced after its cells were labeled.
        BudgetExceeded
            The largest section does not fit the limit: 80 bytes a cell, and 72 bytes for each gene
            and domain where there are markers.

        Notes
        -----
        `area_um2` is an estimate from positions alone: a section is divided into squares, the
        smallest that hold four positions on average where there are any; each of them counts for
        the domains of its cells in equal shares. It is area of the plane: cells at several heights
        above one place divide it. NaN where the unit of a section that the domain occurs in is
        unknown, or where it has fewer than four positions. Computed anew with every call, one
        section at a time; nothing is stored.
        """
        from .masks import cells_taking_part
        from .table import check_labels, domain_table, group_fractions

        if sections is not None:
            within = self.within(sections)
            return within.table(
                by,
                markers=markers,
                replicate=replicate,
                where=where,
                all_cells=all_cells,
                memory_limit=memory_limit,
            )
        if by is not None:
            check_labels(Columns(self.store), by)
        names = self.names
        masks = cells_taking_part(self.store, self.sections, where, all_cells=all_cells)
        table = domain_table(
            self.store, self.key, self.sections, names, masks=masks, memory_limit=memory_limit
        )
        if by is not None:
            shares = self.composition(by, where=where, all_cells=all_cells)
            table = table.join(group_fractions(shares, by, names))
        single: dict[Any, list[Any]] = {}
        if markers:
            found = self.markers(
                markers,
                replicate=replicate,
                where=where,
                all_cells=all_cells,
                memory_limit=memory_limit,
            )
            genes = found.groupby("domain", sort=False)["gene"].agg(", ".join)
            table["markers"] = genes.reindex(names).fillna("").to_numpy(dtype=object)
            of_one = found[found["n_units"] == 1]
            single = of_one.groupby("domain", sort=False)["gene"].agg(list).to_dict()
        table.attrs = {
            "key": self.key,
            "markers_of_one_unit": single,
            "snapshot": self.store.snapshot.number,
            "units": {"n_cells": "cells", "fraction": "of labeled cells", "area_um2": "um2"},
        }
        return table

    def markers(
        self,
        n: int = 5,
        *,
        groups: Sequence[str] | None = None,
        replicate: str | None = None,
        where: str | None = None,
        all_cells: bool = False,
        memory_limit: str | int | None = None,
    ) -> "pd.DataFrame":
        """Rank the genes that are higher in a domain than in the rest of the same sections.

        In each section the cells of a domain, and all other labeled cells, are two pseudobulks;
        their log2 fold is averaged over the sections of a replicate, then over replicates. Cells
        are never taken for replicates.

        Parameters
        ----------
        n
            Genes of each domain.
        groups
            These domains alone; each is still compared with all other labeled cells.
        replicate
            What a replicate is: "section", or a column of the sections' metadata; None is `donor`
            where every section has one, else `section`.
        where, all_cells
            Cells that take part; None is those that pass quality control.
        memory_limit
            Rows are read in blocks that stay below it.

        Returns
        -------
        DataFrame
            One row a domain and gene, largest fold first: `domain`, `gene` (symbol where known),
            `gene_id`, `log2_fold` (mean over replicates), `se` (its standard error over
            replicates, NaN with one), `n_units` (replicates that can tell), `n_up` (those in
            which it is up). Genes up in no more than half of the replicates are left out.

        Raises
        ------
        InvalidArgument
            A section has no value of `replicate`.
        StaleDerived, BudgetExceeded

        Notes
        -----
        Means are counts per 10,000 counts of the pseudobulk (plus one before the logarithm); of
        normalized values and compositions means of cells (plus 1 and 0.01); of log1p values the
        difference of means. A section takes part with 10 cells inside and 10 outside the domain,
        in the genes it measured. Reads all counts once.
        """
        from .markers import marker_table
        from .masks import cells_taking_part

        if n < 1:
            raise InvalidArgument(f"at least one gene is wanted, but got n={n}")
        table = marker_table(
            self.store,
            self.key,
            self.sections,
            self.names,
            n=n,
            replicate=replicate,
            masks=cells_taking_part(self.store, self.sections, where, all_cells=all_cells),
            memory_limit=memory_limit,
        )
        if groups is not None:
            table = table[table["domain"].isin(self._among(groups))].reset_index(drop=True)
        table.attrs = {"key": self.key, "snapshot": self.store.snapshot.number}
        return table

    def _among(self, groups: Sequence[str]) -> list[str]:
        """Check names of domains."""
        wanted = [groups] if isinstance(groups, str) else list(groups)
        for name in wanted:
            if name not in self.names:
                raise InvalidArgument(
                    f"a domain of these labels is wanted, but got {name!r}.{near(name, self.names)}"
                )
        return wanted

    def composition(
        self,
        by: str | Sequence[str] = "section",
        groupby: str | None = None,
        *,
        where: str | None = None,
        all_cells: bool = False,
    ) -> "pd.DataFrame":
        """How the cells of each group divide among domains.

        Parameters
        ----------
        by
            Section metadata, obs columns: each combination of values is a group.
        groupby
            A further column (such as `cell_type`) to divide each domain's cells by.
        where, all_cells
            Cells that take part; None is those that pass quality control.

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
        from ..cells.verbs import select
        from .taking_part import narrowed

        names = [by] if isinstance(by, str) else list(by)
        if not names or "domain" in names:
            raise InvalidArgument(f"columns other than domain are wanted for by=, but got {by!r}")
        spelled = f"domains:{self.key}"
        wanted = [*names, spelled, *([groupby] if groupby else [])]
        labeled = select(self.store, section=list(self.sections), domain_key=self.key)
        selection = narrowed(labeled, where, all_cells=all_cells)
        counts = selection.aggregate(wanted, "count")["n_obs"]
        table = counts.rename("n").reset_index().rename(columns={spelled: "domain"})
        table = table[table["domain"].notna()].reset_index(drop=True)
        total = table.groupby(names, dropna=False, sort=False)["n"].transform("sum")
        table["fraction"] = np.where(total > 0, table["n"] / total, np.nan)
        table.attrs = {"key": self.key, "units": {"n": "cells", "fraction": "of labeled cells"}}
        table.columns.name = None
        return table
