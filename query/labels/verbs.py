"""Verbs of a `DomainView` that draw, compare and edit."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from ...atlas.memory import parse_bytes

if TYPE_CHECKING:
    import pandas as pd

    from .change import DomainChange
    from .view import DomainView

__all__ = ["DomainVerbs"]


class DomainVerbs:
    """What one can do with labels; each verb loads what does the work on first use."""

    @property
    def _view(self) -> "DomainView":
        return cast("DomainView", self)

    def rename(
        self, mapping: Mapping[str, str], key_added: str | None = None, **options: Any
    ) -> "DomainView":
        """Give domains other names; those that are not named keep theirs.

        Parameters
        ----------
        mapping
            New name of each: `{"0": "white matter"}`.
        key_added
            Key of the new labels; None replaces these (older snapshots keep them), and this view
            shows the new ones from then on.
        **options
            `overwrite`, `note` (words kept with the provenance), `memory_limit`.

        Returns
        -------
        DomainView
            The new labels. Confidence stays as it was; provenance tells what was done.

        Raises
        ------
        InvalidArgument
            A domain that is not there, two of one name, or a key that is taken.
        ReadOnly
            The atlas was opened for reading.
        CommitConflict
            Others committed labels of this key since the view was made.
        """
        from .edit import renamed

        return self._edited(renamed(self._view.names, mapping), key_added, **options)

    def merge(
        self, groups: Mapping[str, Sequence[str]], key_added: str | None = None, **options: Any
    ) -> "DomainView":
        """Join domains: `{"cortex": ["0", "3"]}`; see `rename`.

        The confidence of a cell stays that of the part it was in: the joined domain is at least
        so probable.
        """
        from .edit import merged

        return self._edited(merged(self._view.names, groups), key_added, **options)

    def split(
        self, domain: str, by: str, key_added: str | None = None, **options: Any
    ) -> "DomainView":
        """Divide a domain by a column of labels, into `<domain>: <value>`; see `rename`.

        Cells of the domain without a value keep its name.
        """
        from .edit import split_domain

        return self._edited(split_domain(self._view, domain, by), key_added, **options)

    def _edited(
        self,
        edit: Any,
        key_added: str | None,
        *,
        overwrite: bool = False,
        note: str | None = None,
        memory_limit: str | int | None = None,
    ) -> "DomainView":
        from .edit import commit_edit
        from .view import domains

        view = self._view
        store = view.store if view.origin is None else view.origin
        key = commit_edit(
            view,
            store,
            edit,
            key_added,
            overwrite=overwrite,
            note=note,
            memory_limit=memory_limit,
        )
        new = domains(store, key)
        if key == view.key:
            # The one thing that changes in a view: a second edit begins where this one ended.
            object.__setattr__(view, "store", new.store)
        return new

    def boundary(
        self,
        section: str,
        *,
        where: str | None = None,
        all_cells: bool = False,
        memory_limit: str | int | None = None,
    ) -> Any:
        """Outline the domains of a section.

        The tissue is the union of the squares that hold a cell (their side as for `area_um2` of
        `table`); each point of it belongs to the domain of the nearest cell that takes part, to
        none where that cell has no label. An outline holds its cells; outlines do not overlap.

        Parameters
        ----------
        section
            Its name.
        where, all_cells
            Cells that are there at all; None is those that pass quality control.
        memory_limit
            Refuse above it: 80 bytes a cell and some MB.

        Returns
        -------
        geopandas.GeoDataFrame
            Index `domain`, without those that have no cell; columns `section`, `n_cells`, `area`
            (square micrometers, or source units where the unit is unknown) and `geometry`
            ((Multi)Polygon, in the coordinates of the section). `.to_json()` is GeoJSON.

        Raises
        ------
        SectionNotFound, StaleDerived, BudgetExceeded
        InvalidArgument
            Fewer than four positions.
        """
        import geopandas as gpd
        import numpy as np
        import pandas as pd

        from .boundary import domain_outlines
        from .masks import cells_taking_part, read_part

        view = self._view.within([section])
        masks = cells_taking_part(view.store, [section], where, all_cells=all_cells)
        found = read_part(view.store, view.key, section, masks)
        n = len(found.categories)
        shapes = domain_outlines(
            view.store.section(section),
            found.codes,
            None if masks is None else masks[section],
            n,
            limit=parse_bytes(memory_limit),
        )
        cells = np.bincount(found.codes[found.codes >= 0], minlength=n)
        frame = gpd.GeoDataFrame(
            {"section": section, "n_cells": cells, "area": [shape.area for shape in shapes]},
            geometry=shapes,
            index=pd.Index(list(found.categories), name="domain", dtype="str"),
        )
        return frame[cells > 0]

    def adjacency(
        self,
        graph: str = "spatial",
        *,
        where: str | None = None,
        all_cells: bool = False,
        memory_limit: str | int | None = None,
    ) -> "pd.DataFrame":
        """Tell which domains lie beside which, against chance.

        Parameters
        ----------
        graph
            Name of a stored graph of every section of these labels.
        where, all_cells
            Cells that take part, with the edges between them; None is those that pass quality
            control. A graph's own filter holds besides.
        memory_limit
            As of `tisseract.gr.nhood_enrichment`.

        Returns
        -------
        DataFrame
            One row a pair: `domain`, `neighbor`, `observed` (edges from a cell of one to a cell
            of the other, as in squidpy's interaction matrix), `expected` (mean of all
            rearrangements of the labels within each section, exactly), `ratio`, `zscore`.

        Raises
        ------
        DerivedNotFound, StaleDerived, BudgetExceeded
        """
        from .adjacency import adjacency_table

        return adjacency_table(
            self._view, graph, where=where, all_cells=all_cells, memory_limit=memory_limit
        )

    def change(
        self,
        over: str = "timepoint",
        *,
        replicate: str = "donor",
        where: str | None = None,
        all_cells: bool = False,
        seed: int = 0,
    ) -> "DomainChange":
        """Compare the shares of domains between timepoints or conditions.

        Parameters
        ----------
        over
            Metadata of sections whose values are compared, each pair of them.
        replicate
            Metadata that tells replicates apart; cells of one replicate and value are added up.
        where, all_cells
            Cells that take part; None is those that pass quality control.
        seed
            Of the permutations, where there are more than 10,000.

        Returns
        -------
        DomainChange
            `values`: cells, share and CLR of each replicate; `tests`: difference of mean CLR,
            two-sided `p` of an exact permutation of replicates (10,000 random ones where there
            are more), `p_adj` (Benjamini-Hochberg) and the smallest p attainable.

        Raises
        ------
        InvalidArgument
            Fewer than two values, sections without one, or replicates that have some of several
            values and not all.

        Notes
        -----
        CLR: log of a count plus half a cell, less the mean of these logs over domains (Aitchison
        1982). Where every replicate has all values, the values are exchanged within replicates.
        With one replicate a value, p is NaN.
        """
        from .change import change_of

        return change_of(self._view, over, replicate, where=where, all_cells=all_cells, seed=seed)
