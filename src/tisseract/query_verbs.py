"""Verbs of an atlas that ask: cells, places, genes, domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .model_verbs import ModelVerbs

if TYPE_CHECKING:
    import pandas as pd

    from .query.cells.selection import Selection
    from .query.expression.summarize import SummaryReport
    from .query.expression.view import GeneView
    from .query.filters.expression import Test
    from .query.filters.predicate import Predicate
    from .query.labels.annotated import Annotated
    from .query.labels.view import DomainView
    from .query.quality.report import ReportFacts
    from .query.retrieval.hits import Hits

__all__ = ["QueryVerbs"]


class QueryVerbs(ModelVerbs):
    """An atlas with its verbs on graphs, models and queries; see `Atlas`."""

    @property
    def genes(self) -> pd.DataFrame:
        """Every gene of the atlas: identifier, symbol, organism, and in how many sections measured.

        Notes
        -----
        Reads the gene panels (one small object for each distinct panel), no counts.
        """
        from .query.tables.listing import gene_table

        return gene_table(self)

    @property
    def obs_columns(self) -> pd.DataFrame:
        """Columns one can filter and group by, with their kind and the sections that have them."""
        from .query.tables.listing import column_table

        return column_table(self)

    def values(self, column: str, **filters: Any) -> pd.Series:
        """Count the cells of each value of a column; see `tisseract.query.values`."""
        from .query import values

        return values(self, column, **filters)

    def qc(
        self, sections: str | Sequence[str] | None = None, *, read: bool = False
    ) -> pd.DataFrame:
        """Tell the quality of sections, one row each, with flags; see `docs/qc.md`.

        Parameters
        ----------
        sections
            A name or several; None is all.
        read
            Also count what sections lack that were written before quality was counted: depth,
            pointers and positions of these are read. Otherwise nothing is read but the catalog.

        Returns
        -------
        DataFrame
            Index `section`; what is not known is missing. `recorded` tells whether the figures
            were counted at ingest, `flags` names what is odd.
        """
        from .query.quality.figures import quality_table

        names = [sections] if isinstance(sections, str) else sections
        return quality_table(self, names, read=read)

    def report(
        self, path: str | Path, sections: str | Sequence[str] | None = None, **options: Any
    ) -> ReportFacts:
        """Write one HTML page about the quality of sections; it opens without a network.

        Parameters
        ----------
        path
            File to write.
        sections
            A name or several; None is all.
        **options
            `thumbnails` ("density", "image" or "none"), `overwrite`, `limits`, `progress`; see
            `tisseract.query.quality.write_report`.
        """
        from .query.quality.report import write_report

        names = [sections] if isinstance(sections, str) else sections
        return write_report(self, path, names, **options)

    def query(
        self,
        obs: str | Predicate | Test | None = None,
        genes: str | Sequence[str] | None = None,
        *,
        section: object = None,
        timepoint: object = None,
        domain: object = None,
        **columns: Any,
    ) -> Selection:
        """Ask for cells, lazily; see `tisseract.query.select`.

        Parameters
        ----------
        obs
            Filter string, such as `"cell_type in ['Neuron'] and n_counts > 200"`.
        genes
            Identifiers, symbols or aliases; None is all.
        section, timepoint, domain
            A value, a list, or `slice(first, last)` for timepoints in order of time.
        **columns
            Any further column by name, and `domain_key`.

        Returns
        -------
        Selection
            Lazy: `.n_obs`, `.nbytes`, `.explain()`, then `.to_anndata()` and its siblings.

        Raises
        ------
        QuerySyntax, ColumnNotFound, SectionNotFound, GeneNotFound
            With near matches.
        """
        from .query import select

        return select(
            self,
            obs,
            genes,
            section=section,
            timepoint=timepoint,
            domain=domain,
            **columns,
        )

    def region(
        self,
        section: str | Sequence[str] | None = None,
        *,
        bbox: Sequence[float] | None = None,
        polygon: object = None,
        circle: Sequence[float] | None = None,
        **query: Any,
    ) -> Selection:
        """Ask for the cells of a place in micrometers; see `tisseract.query.region`."""
        from .query import region

        return region(self, section, bbox=bbox, polygon=polygon, circle=circle, **query)

    @property
    def regions(self) -> pd.DataFrame:
        """Every named region: section, key, name, area in square micrometers."""
        from .query.geometry.regions import region_table

        return region_table(self)

    @property
    def frames(self) -> pd.DataFrame:
        """Every section of every common frame with its affine: x' = a x + b y + c, and so on."""
        from .query.geometry.frames import frame_table

        return frame_table(self)

    def annotate_regions(
        self,
        section: str,
        regions: object,
        *,
        name: str = "name",
        key: str = "regions",
        um_per_unit: float | None = None,
        ontology: object = None,
        overwrite: bool = False,
    ) -> int:
        """Attach named polygons to a section; see `tisseract.query.annotate_regions`.

        Parameters
        ----------
        section
            The section they lie on.
        regions
            GeoJSON (mapping, text or path), a GeoDataFrame, or a mapping of names to polygons.
        name
            Property or column that holds the name; `classification.name` in QuPath's files.
        key
            Name of this annotation, the same on all sections.
        um_per_unit
            Micrometers per unit of the polygons, for files in pixels.
        ontology
            Which region is part of which: a table, a CSV path, or a mapping child to parent.
        overwrite
            Replace regions of this section and key.

        Returns
        -------
        int
            Number of polygons.
        """
        from .query import annotate_regions

        return annotate_regions(
            self,
            section,
            regions,
            name=name,
            key=key,
            um_per_unit=um_per_unit,
            ontology=ontology,
            overwrite=overwrite,
        )

    def register(
        self, frame: str, transforms: Mapping[str, object], *, overwrite: bool = False
    ) -> None:
        """Commit affines of sections into a common frame; see `tisseract.query.register`.

        Parameters
        ----------
        frame
            Name of the frame, such as `ccf_um`.
        transforms
            Section name to an affine from its coordinates (micrometers) into those of the frame.
        overwrite
            Replace affines that are there already.
        """
        from .query import register

        register(self, frame, transforms, overwrite=overwrite)

    def build_index(self, key: str = "similar", **options: Any) -> pd.DataFrame:
        """Describe windows of the sections, for `similar`; see `tisseract.query.build_index`."""
        from .query import build_index

        return build_index(self, key, **options)

    def similar(self, like: Selection | None = None, **options: Any) -> Hits:
        """Find tissue like a region, or where `genes=` run; see `tisseract.query.similar`."""
        from .query import similar

        return similar(self, like, **options)

    def rank_cells(self, like: Selection, section: str, **options: Any) -> pd.DataFrame:
        """Score the cells of a section against an example; see `tisseract.query.rank_cells`."""
        from .query import rank_cells

        return rank_cells(self, like, section, **options)

    def gene(
        self, name: str, *, sections: Sequence[str] | None = None, organism: str | None = None
    ) -> GeneView:
        """Look at one gene across the atlas, from the gene-major copy of the counts."""
        from .query import gene

        return gene(self, name, sections=sections, organism=organism)

    def summarize(self, by: str | Sequence[str] | None = None, **options: Any) -> SummaryReport:
        """Sum every gene over groups of cells, once, for `gene(...).where()`.

        Parameters
        ----------
        by
            Columns of cells, such as `["domain", "cell_type"]`; whole sections without.
        **options
            `key_added`, `sections`, `domain_key`, `all_cells`, `overwrite`, `memory_limit`,
            `progress`; see `tisseract.query.summarize`.
        """
        from .query import summarize

        return summarize(self, by, **options)

    def domains(self, key: str | None = None) -> DomainView:
        """Look at one set of domain labels; the key may be left out where there is only one."""
        from .query import domains

        return domains(self, key)

    def annotate(
        self,
        table: pd.DataFrame | str | Path,
        key: str | None = None,
        *,
        on: str | None = None,
        columns: Sequence[str] | None = None,
        missing: Literal["error", "ok"] = "error",
        unknown: Literal["error", "drop"] = "error",
        note: str | None = None,
        overwrite: bool = False,
        memory_limit: str | int | None = None,
    ) -> Annotated:
        """Add columns to cells by their ids, from a table; see `tisseract.query.annotate`.

        Parameters
        ----------
        table
            A DataFrame or the path of a CSV, TSV or Parquet file, indexed by `{section}:{cell id}`
            or with columns `section` and `cell_id`.
        key
            Name of the new column; without, those of the table.
        on
            Column that holds the ids, or `index`.
        columns
            Columns of the table to add; without, all.
        missing
            `ok` accepts cells of the sections named that the table leaves out.
        unknown
            `drop` leaves out rows whose cell is not in the atlas.
        note
            Words kept with the provenance.
        overwrite
            Replace annotations of these names in the sections of the table.
        memory_limit
            Refuse above it.

        Returns
        -------
        Annotated
            Prints as a table: column, section, kind, cells with a value and without. `.table` is
            a DataFrame; `.entries` are the entries of the snapshot.
        """
        from .query import annotate
        from .query.labels.annotated import annotated

        entries = annotate(
            self,
            table,
            key,
            on=on,
            columns=columns,
            missing=missing,
            unknown=unknown,
            note=note,
            overwrite=overwrite,
            memory_limit=memory_limit,
        )
        return annotated(self, entries)
