"""The front door: an atlas with its verbs.

`Atlas` is the store (`atlas.store.AtlasStore`) plus one method per question or deed. Each method
loads the folder that does the work on first use, so opening an atlas stays quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .model_verbs import ModelVerbs

if TYPE_CHECKING:
    import pandas as pd

    from .atlas.catalog import Tombstone
    from .atlas.garbage import GcReport
    from .atlas.snapshot import Snapshot
    from .atlas.verify import VerifyReport
    from .ingest.report import IngestReport
    from .query.domain_view import DomainView
    from .query.gene_view import GeneView
    from .query.predicate import Predicate
    from .query.selection import Selection

__all__ = ["Atlas", "create", "open"]


class Atlas(ModelVerbs):
    """An atlas opened at one snapshot, with everything one can ask of it and do to it.

    What it shows changes only by its own writing verbs and by `refresh`. Open it with
    `tisseract.open`, make one with `tisseract.create` or `tisseract.ingest`.
    """

    # ---- ask -------------------------------------------------------------------------------

    @property
    def genes(self) -> pd.DataFrame:
        """Every gene of the atlas: identifier, symbol, organism, and in how many sections measured.

        Notes
        -----
        Reads the gene panels (one small object for each distinct panel), no counts.
        """
        from .query.listing import gene_table

        return gene_table(self)

    @property
    def obs_columns(self) -> pd.DataFrame:
        """Columns one can filter and group by, with their kind and the sections that have them."""
        from .query.listing import column_table

        return column_table(self)

    def values(self, column: str, **filters: Any) -> pd.Series:
        """Count the cells of each value of a column; see `tisseract.query.values`."""
        from .query import values

        return values(self, column, **filters)

    def query(
        self,
        obs: str | Predicate | None = None,
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

    def gene(
        self, name: str, *, sections: Sequence[str] | None = None, organism: str | None = None
    ) -> GeneView:
        """Look at one gene across the atlas, from the gene-major copy of the counts."""
        from .query import gene

        return gene(self, name, sections=sections, organism=organism)

    def domains(self, key: str | None = None) -> DomainView:
        """Look at one set of domain labels; the key may be left out where there is only one."""
        from .query import domains

        return domains(self, key)

    def history(self) -> list[Snapshot | Tombstone]:
        """List the snapshots of this atlas, newest first; what gc gave up comes as a tombstone."""
        from .atlas.catalog import history

        return list(history(self.storage))

    # ---- build -----------------------------------------------------------------------------

    def ingest(self, samples: Any, **options: Any) -> IngestReport:
        """Add the sections of a sample sheet to this atlas; see `tisseract.ingest`."""
        from .ingest.pipeline import ingest

        try:
            return ingest(samples, self, **options)
        finally:
            self.refresh()

    # ---- keep ------------------------------------------------------------------------------

    def verify(self, *, full: bool = True) -> VerifyReport:
        """Compare every object of this snapshot with its manifest."""
        from .atlas.verify import verify

        return verify(self, full=full)

    def gc(
        self, *, dry_run: bool = True, grace: str | float = "7d", keep: int | None = None
    ) -> GcReport:
        """Remove what no snapshot names any more; by default only say what that would be."""
        from .atlas.garbage import gc

        return gc(self, dry_run=dry_run, grace=grace, keep=keep)


def open(  # noqa: A001
    url: str | Path,
    *,
    version: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    read_only: bool = True,
) -> Atlas:
    """Open an atlas on a disk, in a bucket or on a web server.

    Parameters
    ----------
    url
        A folder, or `s3://`, `gs://`, `az://`, `http(s)://`.
    version
        Snapshot to show; None is the newest.
    storage_options
        Such as `{"region": "eu-west-1"}`; credentials are better left to the environment.
    read_only
        False to build graphs, find domains or add sections.

    Returns
    -------
    Atlas

    Raises
    ------
    AtlasNotFound, SnapshotNotFound, FormatUnsupported, StorageUnsupported
    """
    return Atlas.open(url, version=version, storage_options=storage_options, read_only=read_only)


def create(
    url: str | Path,
    *,
    storage_options: Mapping[str, Any] | None = None,
    single_writer: bool = False,
) -> Atlas:
    """Create an empty atlas and open it for writing.

    Raises
    ------
    AtlasExists
    StorageUnsupported
        The storage lets two writers create the same object; `single_writer=True` accepts that.
    """
    return Atlas.create(url, storage_options, single_writer=single_writer)
