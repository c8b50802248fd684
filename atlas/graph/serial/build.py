"""Building graphs between sections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...memory import parse_bytes
from ..building.execute import write_orders
from ..building.order import order_pair
from ..building.replacing import unbuilt_orders

if TYPE_CHECKING:
    from distributed import Client

    from ...snapshot import DerivedEntry
    from ...store import AtlasStore
    from ..building.execute import GraphProgress
    from .graph import ZGraph

__all__ = ["unbuilt_pairs", "write_z_graphs"]


def write_z_graphs(
    store: AtlasStore,
    graphs: Sequence[ZGraph],
    key: str = "z",
    *,
    client: Client | str | None = None,
    memory_limit: str | int | None = None,
    overwrite: bool = False,
    progress: GraphProgress | None = None,
) -> list[DerivedEntry]:
    """Build and commit graphs between sections, out of core.

    Pairs whose graph is there already, with the same parameters and computed from both sections as
    they are now, are left alone; of the others, finished blocks of a build that was cut off are
    used again, as `write_graphs` does.

    Parameters
    ----------
    store : AtlasStore
        Opened for writing.
    graphs : sequence of ZGraph
        See `z_neighbors`.
    key : str
        Name of the graphs.
    client, memory_limit, progress
        See `build_graphs`.
    overwrite : bool
        Replace graphs of the same name that were built otherwise.

    Returns
    -------
    list of DerivedEntry
        One a pair, in order; those found done included.

    Raises
    ------
    InvalidArgument
        A name that a graph with other parameters has; nothing is built then.
    ReadOnly, BudgetExceeded
    """
    store.require_writing("a graph")

    def message(count: int) -> str:
        return f"graph {key!r} between {count} pair{'s' if count > 1 else ''} of sections"

    return write_orders(
        [order_pair(store, graph, key) for graph in graphs],
        message,
        client=client,
        limit=parse_bytes(memory_limit),
        overwrite=overwrite,
        progress=progress,
    )


def unbuilt_pairs(
    store: AtlasStore, graphs: Sequence[ZGraph], key: str, *, overwrite: bool = False
) -> list[ZGraph]:
    """Return the pairs whose graph is not there yet; see `unbuilt`.

    Raises
    ------
    InvalidArgument
        Not a name, or a graph with other parameters is there.
    """
    orders = [order_pair(store, graph, key) for graph in graphs]
    missing = {order.name for order in unbuilt_orders(orders, overwrite=overwrite)}
    return [graph for graph, order in zip(graphs, orders, strict=True) if order.name in missing]
