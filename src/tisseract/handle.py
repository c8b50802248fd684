"""The front door: an atlas with its verbs.

`Atlas` is the store (`atlas.store.AtlasStore`) plus one method per question or deed. Each method
loads the folder that does the work on first use, so opening an atlas stays quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .query_verbs import QueryVerbs

if TYPE_CHECKING:
    from .atlas.catalog import Tombstone
    from .atlas.garbage import GcReport
    from .atlas.snapshot import Snapshot
    from .atlas.verify import VerifyReport
    from .ingest.report import IngestReport

__all__ = ["Atlas", "create", "open"]


class Atlas(QueryVerbs):
    """An atlas opened at one snapshot, with everything one can ask of it and do to it.

    What it shows changes only by its own writing verbs and by `refresh`. Open it with
    `tisseract.open`, make one with `tisseract.create` or `tisseract.ingest`.
    """

    def history(self) -> list[Snapshot | Tombstone]:
        """List the snapshots of this atlas, newest first; what gc gave up comes as a tombstone."""
        from .atlas.catalog import history

        return list(history(self.storage))

    def ingest(self, samples: Any, **options: Any) -> IngestReport:
        """Add the sections of a sample sheet to this atlas; see `tisseract.ingest`."""
        from .ingest.pipeline import ingest

        try:
            return ingest(samples, self, **options)
        finally:
            self.refresh()

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
