"""Building the graphs of sections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...memory import parse_bytes
from .execute import write_orders
from .order import order_section
from .replacing import unbuilt_orders

if TYPE_CHECKING:
    from distributed import Client

    from ...snapshot import DerivedEntry
    from ...store import AtlasStore
    from ..section_graph import SectionGraph
    from .execute import GraphProgress

__all__ = ["unbuilt", "write_graphs"]


def write_graphs(
    store: AtlasStore,
    graphs: Sequence[SectionGraph],
    key: str,
    *,
    client: Client | str | None = None,
    memory_limit: str | int | None = None,
    overwrite: bool = False,
    progress: GraphProgress | None = None,
) -> list[DerivedEntry]:
    """Build and commit lazy graphs; see `build_graphs` for the options.

    Nothing is visible to readers before a commit, one for a group of sections. A build that was
    cut off, by an error, by Ctrl-C or by the death of the process, is resumed by running it again:
    sections that were committed are left alone, and of the others, on a disk, the blocks that
    were finished are used, after a comparison with the digests taken when they were written.
    Passes over the whole section (a lattice's scale, percentiles) are made again. Only blocks of
    an equal build are used: the same attempt of the section, parameters, findings, block borders
    and version of this package. A build refused for its parameters leaves nothing; what any other
    leaves is found by gc once it is older than the grace period. Of a build for a bucket nothing
    but committed sections is used again.

    Two builds of one graph at the same time never share an attempt: both are completed, and the
    later commit stands.
    """
    store.require_writing("a graph")
    return write_orders(
        [order_section(store, graph, key) for graph in graphs],
        lambda count: f"graph {key!r} of {count} section{'s' if count > 1 else ''}",
        client=client,
        limit=parse_bytes(memory_limit),
        overwrite=overwrite,
        progress=progress,
    )


def unbuilt(
    store: AtlasStore, graphs: Sequence[SectionGraph], key: str, *, overwrite: bool = False
) -> list[SectionGraph]:
    """Return the graphs that are not there yet, having refused what building would refuse.

    Parameters
    ----------
    store : AtlasStore
        The atlas.
    graphs : sequence of SectionGraph
        The graphs wanted.
    key : str
        Their name.
    overwrite : bool
        Whether graphs of that name that were built otherwise may be replaced.

    Returns
    -------
    list of SectionGraph

    Raises
    ------
    InvalidArgument
        Not a name, such a graph is there, or a section lies on no lattice.
    """
    orders = [order_section(store, graph, key) for graph in graphs]
    missing = {order.name for order in unbuilt_orders(orders, overwrite=overwrite)}
    return [graph for graph, order in zip(graphs, orders, strict=True) if order.name in missing]
