"""The verb: graphs of many sections, built and committed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..neighbor_graph import describe_graph
from ..spec import GraphSpec
from .build import write_graphs

if TYPE_CHECKING:
    from distributed import Client

    from ...snapshot import DerivedEntry
    from ...store import AtlasStore
    from .execute import GraphProgress

__all__ = ["build_graphs"]


def build_graphs(
    store: AtlasStore,
    *,
    kind: str = "knn",
    sections: str | Iterable[str] | None = None,
    key_added: str = "spatial",
    mask: Any = None,
    where: str | None = None,
    client: Client | str | None = None,
    memory_limit: str | int | None = None,
    overwrite: bool = False,
    progress: GraphProgress | None = None,
    **options: Any,
) -> list[DerivedEntry]:
    """Build and commit the graphs of many sections, out of core.

    Sections whose graph is there already, with the same parameters and computed from the section
    as it is now, are left alone: a build that was cut off is resumed by running it again.

    Parameters
    ----------
    store : AtlasStore
        Opened for writing.
    kind : {'knn', 'radius', 'delaunay', 'grid', 'hex', 'square'}
        Nearest neighbors; all within a radius; the triangulation; a lattice told from the
        positions, hexagonal, square.
    sections : str or iterable of str, optional
        Names; all sections by default.
    key_added : str
        Name of the graph.
    mask : mapping of str to array, or array, optional
        (n_obs,) bool for each section: cells that take part.
    where : str, optional
        The expression that the masks were made from, to be recorded.
    client : distributed.Client or str, optional
        A Dask cluster, the address of its scheduler, or `local` for one of this machine; threads
        of this process by default.
    memory_limit : str or int, optional
        For this process, or for each worker of a cluster; sets how many tasks run at once.
    overwrite : bool
        Replace a graph of the same name that was built otherwise; what was computed from it
        becomes stale. A graph of a section that was itself replaced is rebuilt without asking,
        with other parameters too unless other sections hold graphs as it was.
    progress : callable, optional
        Told what is done.
    **options
        Of the kind, under squidpy's names: `n_neighs`, `radius`, `percentile`, `n_rings`,
        `lattice`, `symmetrize`, `transform`, `set_diag`; see `GraphSpec`.

    Returns
    -------
    list of DerivedEntry
        One a section, in the order asked for; those found done included.

    Raises
    ------
    InvalidArgument, SectionNotFound, ReadOnly
        Also for a name that a graph with other parameters has, and for a lattice that some
        section does not lie on; nothing is built then.
    BudgetExceeded
        A single task would not fit.
    """
    spec = GraphSpec.of(kind, **options)
    graph = describe_graph(store, spec, sections, mask=mask, where=where)
    return write_graphs(
        store,
        list(graph),
        key_added,
        client=client,
        memory_limit=memory_limit,
        overwrite=overwrite,
        progress=progress,
    )
