"""One gene across the atlas, from summaries and the gene-major copy: no row of X is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from ...atlas.errors import GeneNotFound, InvalidArgument
from ...atlas.gene_names import organism_of, strip_version
from ..telling import tell
from .apart import telling_apart
from .choice import GeneChoice, UnmeasuredWarning, choose_genes, find_gene, unmatched_warning
from .spatial_verbs import SpatialVerbs
from .summary_read import find_summary

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ...atlas.genes import GeneUnion
    from ...atlas.store import AtlasStore
    from ..plots.verbs import GenePlots

__all__ = ["GeneView", "gene"]

_NAMED = 8
_RANKS = ("mean_log1p", "fraction", "n_nonzero")


def gene(
    store: AtlasStore,
    name: str,
    *,
    sections: Sequence[str] | None = None,
    organism: str | None = None,
) -> GeneView:
    """Find a gene by identifier, symbol or alias.

    An exact name is taken first, then the same letters whatever their case, then an alias; each
    only where it fits one gene. `GeneView.note` tells when it was not exact.

    Parameters
    ----------
    store
        The atlas.
    name
        The gene.
    sections
        Look at these alone.
    organism
        Whose gene, where several have one of this name; `human:ERBB2` as a name says the same.

    Warns
    -----
    UnmeasuredWarning
        Sections that list identifiers without symbols, where a symbol could not be looked up.

    Raises
    ------
    GeneNotFound, GeneAmbiguous
        No section lists such a gene, or the name fits several.

    Notes
    -----
    Where a summary covers all sections, names are looked up in it: one request a segment, instead
    of one for each distinct gene panel.
    """
    sections = [sections] if isinstance(sections, str) else sections
    names = tuple(store.section_names if sections is None else sections)
    for section in names:
        store.section(section)  # raises, with near names
    asked = f"{organism}:{name}" if organism else name
    frozen = store.frozen()
    summary = find_summary(store, store.section_names)
    if (
        summary is not None
        and len(summary.sections) == len(store.section_names)
        and not summary.nameless
    ):
        genes = summary.open(store.storage).genes
        with telling_apart(store, names, asked):
            return _view(frozen, asked, names, genes, find_gene(genes, asked))
    choice = choose_genes(store, names, [asked])
    unmatched = unmatched_warning(choice)
    if unmatched:
        tell(unmatched, UnmeasuredWarning)
    facts = (choice.gene_id, choice.symbol, choice.organism, choice.feature_type)
    return GeneView(frozen, asked, names, *(str(one[0]) for one in facts))


def _view(
    store: AtlasStore, asked: str, sections: tuple[str, ...], genes: GeneUnion, row: int
) -> GeneView:
    facts = (genes.gene_id, genes.symbol, genes.organism, genes.feature_type)
    return GeneView(store, asked, sections, *(str(one[row]) for one in facts))


@dataclass(frozen=True)
class GeneView(SpatialVerbs):
    """One gene: where it was measured, and what was seen."""

    store: AtlasStore = field(repr=False)
    name: str
    """The name asked for."""
    sections: tuple[str, ...] = field(repr=False)
    """Sections that are looked at."""
    gene_id: str
    """Identifier without version, or the symbol where none is known."""
    symbol: str
    """Symbol, empty where unknown."""
    organism: str
    """Whose gene, empty where unknown."""
    feature_type: str = "Gene Expression"
    """Gene Expression, Antibody Capture and so on."""

    @cached_property
    def choice(self) -> GeneChoice:
        """Its matrix column in each section; reads each distinct gene panel once."""
        return choose_genes(self.store, self.sections, [self.name])

    @property
    def pl(self) -> GenePlots:
        """Figures of the gene: `.pl.spatial()`, `.pl.dotplot(groupby)`; see `tisseract.pl`."""
        from ..plots.verbs import GenePlots

        return GenePlots(self)

    @property
    def note(self) -> str:
        """Say so when the gene does not bear the very name that was asked for, else nothing."""
        prefix, _, rest = self.name.rpartition(":")
        bare = rest if organism_of(prefix) == self.organism else self.name
        if {bare, strip_version(bare)} & {self.gene_id, self.symbol}:
            return ""
        found = self.symbol or self.gene_id
        how = "whatever the case" if bare.casefold() == found.casefold() else "as an alias"
        return f"{bare!r} was taken {how} for {found} ({self.gene_id})"

    @property
    def measured_in(self) -> list[str]:
        """Sections that measured it."""
        return [name for name in self.sections if self.is_measured(name)]

    def __repr__(self) -> str:
        note = f"; {self.note}" if self.note else ""
        return (
            f"Gene {self.name} ({self.gene_id}), measured in {len(self.measured_in)} of "
            f"{len(self.sections)} sections{note}"
        )

    def is_measured(self, section: str) -> bool:
        """Whether a section measured it; False for one that is not looked at."""
        found = self.choice.measured.get(section)
        return found is not None and bool(found[0])

    def column(self, section: str) -> int:
        """Column of the gene in the matrix of a section.

        Raises
        ------
        SectionNotFound
        GeneNotFound
            The section did not measure it; the message names sections that did.
        """
        self.store.section(section)
        if not self.is_measured(section):
            shown = ", ".join(self.measured_in[:_NAMED])
            raise GeneNotFound(
                f"a section that measured {self.name!r} is wanted, but got {section!r}; "
                f"{len(self.measured_in)} did: {shown}"
            )
        return int(self.choice.columns[section][0])

    def vector(self, section: str) -> NDArray[np.float32]:
        """Read the stored values in a section, one a cell in row order: (n_obs,) float32.

        Every cell has its value, also those that fail quality control. Reads the gene's own
        stretch of the gene-major copy: 8 bytes a non-zero value in memory,
        and 4 a cell of the answer.

        Raises
        ------
        GeneNotFound
            The section did not measure it; the message names sections that did.
        """
        column = self.store.section(section).gene_columns([self.column(section)])
        return np.asarray(column.toarray(), np.float32).ravel()

    def values(self, section: str) -> NDArray[np.float32]:
        """Read the stored values in a section; another name of `vector`."""
        return self.vector(section)

    def where(
        self,
        by: str | Sequence[str] = "section",
        *,
        missing: Literal["nan", "drop", "error"] = "nan",
        domain_key: str | None = None,
        where: str | None = None,
        all_cells: bool = False,
    ) -> pd.DataFrame:
        """Tell where the gene is seen, by any columns of sections and cells.

        Parameters
        ----------
        by
            Section metadata (`section`, `timepoint`, `donor` ...), obs columns, domain keys and
            annotations, in the order wanted.
        missing
            Sections that did not measure the gene: `nan` counts their cells in `n_unmeasured`
            and leaves them out of every mean; `drop` leaves them out altogether; `error` raises.
        domain_key
            Which labels `domain` means; needed where there are several.
        where
            Filter string: only these cells; no summary answers then. Default: cells that pass
            quality control (`qc_pass`, in sections that have it).
        all_cells
            Every cell.

        Returns
        -------
        DataFrame
            One row a group, sorted (timepoints in time): the columns of `by`, `n_sections`, `n`,
            `n_unmeasured`, `n_nonzero`, `fraction`, `mean_<values>` (mean of stored values, for
            each kind of matrix), `mean_log1p`. `attrs["units"]` names units, `attrs["summary"]`
            the summary that answered, `attrs["computed"]` sections it did not cover, and
            `attrs["note"]` says so.

        Raises
        ------
        ColumnNotFound, InvalidArgument, StaleDerived
        GeneNotFound
            Under `missing="error"`.

        Notes
        -----
        A committed summary (`Atlas.summarize`) over these columns, or finer, makes it two requests
        a segment, at most three segments. Other sections are read one after the other: the
        gene's vector, the depth and the columns of their cells.
        """
        from .where import where_table

        return where_table(
            self,
            by,
            missing=missing,
            domain_key=domain_key,
            where=where,
            all_cells=all_cells,
        )

    def per_section(
        self, by: str | Sequence[str] | None = None, *, domain_key: str | None = None
    ) -> pd.DataFrame:
        """Summary of the gene in each section, or in each group of its cells.

        Parameters
        ----------
        by
            Columns: obs columns, domain keys, section metadata. Default sections as a whole.
        domain_key
            Which labels `domain` means; needed where there are several.

        Returns
        -------
        DataFrame
            Columns `section`, those of `by`, `n` (cells), `n_nonzero`, `fraction`,
            the mean of stored values named by their kind (`mean_counts`, `mean_normalized`,
            `mean_composition`; NaN in sections of another kind), `mean_log1p` (log1p of cells
            scaled to 10,000), `values`. A section that did not measure the gene has its one row,
            with NaN: not zero.

        Notes
        -----
        Every cell takes part, also those that fail quality control: this describes what the
        sections hold. `where("section")` computes over the cells that pass, and takes filters.
        """
        from .where import per_section_table

        return per_section_table(self, by, domain_key)

    def best_sections(
        self,
        n: int = 10,
        *,
        rank: Literal["mean_log1p", "fraction", "n_nonzero"] = "mean_log1p",
        where: str | None = None,
        all_cells: bool = False,
    ) -> pd.DataFrame:
        """Rank the sections that measured the gene, the highest first.

        Parameters
        ----------
        n
            How many.
        rank
            Mean log-normalized value, share of cells that have any, or number of such cells.
        where, all_cells
            Which cells take part, as for `where`: those that pass quality control without.
        """
        if rank not in _RANKS or n < 1:
            raise InvalidArgument(
                f"n of at least 1 and rank= one of {', '.join(_RANKS)} are wanted, but got "
                f"n={n!r}, rank={rank!r}"
            )
        table = self.where("section", missing="drop", where=where, all_cells=all_cells)
        attrs = dict(table.attrs)
        table = table.sort_values(rank, ascending=False, kind="stable").head(n)
        table = table.drop(columns=["n_sections", "n_unmeasured"]).reset_index(drop=True)
        table.attrs = attrs
        return table
