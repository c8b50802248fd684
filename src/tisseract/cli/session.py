"""Open what a command works on: the atlas, and a Dask client if one was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .options import storage_options
from .output import Output

if TYPE_CHECKING:
    from ..handle import Atlas

__all__ = ["dask_client", "open_atlas"]


def open_atlas(
    url: str,
    storage: list[str] | None = None,
    *,
    version: int | None = None,
    read_only: bool = True,
) -> Atlas:
    """Open the atlas of a command."""
    from .. import handle

    return handle.open(
        url, version=version, storage_options=storage_options(storage), read_only=read_only
    )


@contextmanager
def dask_client(
    address: str | None, output: Output, *, n_workers: int | None = None
) -> Iterator[Any | None]:
    """Connect to a scheduler, start a local one (``local``), or give None for threads."""
    if address is None:
        yield None
        return
    from ..atlas.graph.building.workers import connect

    with connect(address, n_workers) as client:
        output.note(f"Dask dashboard: {client.dashboard_link}")
        yield client
