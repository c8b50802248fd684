"""Reading a section's gene panel from the atlas: sized, decoded and compared before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import Corrupt, MissingKey
from .keys import panel_key
from .panel import Panel

if TYPE_CHECKING:
    from .storage import Storage

__all__ = ["read_panel"]

_LARGEST_PANEL = 256 * 2**20


def read_panel(storage: Storage, digest: str, n_vars: int) -> Panel:
    """Read a panel and check that it is the one that was committed.

    Parameters
    ----------
    storage : Storage
        Root of the atlas.
    digest : str
        Digest of its contents, as the section's entry names it.
    n_vars : int
        Genes of the section.

    Raises
    ------
    Corrupt
        Missing, unreadable, of other contents, or of another number of genes.
    """
    key = panel_key(digest)
    try:
        data = storage.get(key, max_bytes=_LARGEST_PANEL)
        _check_rows(data, n_vars)
        panel = Panel.from_parquet(data)
        found = panel.digest
    except MissingKey as error:
        raise _corrupt(key, str(error)) from error
    # Arrow raises whatever its decoders stumble over: plain OSError and ValueError among them.
    except (ValueError, OSError, KeyError, TypeError, OverflowError) as error:
        raise _corrupt(key, f"but it is not readable: {str(error)[:200]}") from error
    if found != digest:
        raise _corrupt(key, f"but got the contents of {found[:12]}")
    if len(panel) != n_vars:
        raise _corrupt(key, f"but got {len(panel)} genes")
    return panel


def _check_rows(data: bytes, n_vars: int) -> None:
    """Refuse a file that would unpack to more than a panel of this length, before unpacking it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = pq.read_metadata(pa.BufferReader(data))
    unpacked = sum(facts.row_group(k).total_byte_size for k in range(facts.num_row_groups))
    if facts.num_rows != n_vars or unpacked > _LARGEST_PANEL:
        raise ValueError(f"{facts.num_rows} genes, {unpacked} bytes where {n_vars} are wanted")


def _corrupt(key: str, why: str) -> Corrupt:
    return Corrupt(
        f"the gene panel {key} of a section is wanted, {why}; run `tisseract verify`, and ingest "
        "one of the sections that use it again"
    )
