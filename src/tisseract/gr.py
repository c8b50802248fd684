"""Graphs under squidpy's names: ``ts.gr.spatial_neighbors_knn(atlas, n_neighs=10)`` and siblings.

Where squidpy works on one table in memory, these build, tile by tile, and commit the graphs of
sections of an atlas; what is there already is left alone. Statistics of committed graphs are in
`graph_statistics` and offered here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from .graph_statistics import co_occurrence, graph_stats, nhood_enrichment, spatial_autocorr

if TYPE_CHECKING:
    from .atlas.snapshot import DerivedEntry
    from .handle import Atlas

__all__ = [
    "co_occurrence",
    "graph_stats",
    "nhood_enrichment",
    "spatial_autocorr",
    "spatial_neighbors_delaunay",
    "spatial_neighbors_grid",
    "spatial_neighbors_knn",
    "spatial_neighbors_radius",
]


def __dir__() -> list[str]:
    return __all__


type _Sections = str | Sequence[str] | None
type _Radius = float | tuple[float, float]
type _Transform = Literal["spectral", "cosine"] | None


def spatial_neighbors_knn(
    atlas: Atlas,
    *,
    n_neighs: int = 6,
    radius: _Radius | None = None,
    percentile: float | None = None,
    symmetrize: bool = False,
    transform: _Transform = None,
    set_diag: bool = False,
    key_added: str = "spatial",
    sections: _Sections = None,
    where: str | None = None,
    client: Any = None,
    **options: Any,
) -> list[DerivedEntry]:
    """Build and commit the graphs of each cell's nearest others.

    Parameters
    ----------
    atlas : Atlas
        Opened for writing.
    n_neighs : int
        Neighbors of each cell.
    radius : float or (float, float), optional
        Of these, only neighbors up to this distance, or at distances of this interval.
    percentile : float, optional
        Leave out edges longer than this percentile of all edges of the section.
    symmetrize : bool
        Make both cells neighbors of each other where one chose the other.
    transform : {'spectral', 'cosine'}, optional
        What squidpy's form does to the connectivities.
    set_diag : bool
        Ones on the diagonal of the connectivities in squidpy's form.
    key_added : str
        Name of the graphs.
    sections : str or sequence of str, optional
        Names; all by default.
    where : str, optional
        Filter string: only these cells take part.
    client : distributed.Client or str, optional
        A Dask cluster, its address, or `local` for one of this machine; threads of this process
        by default.
    **options
        `mask`, `units`, `memory_limit`, `overwrite`, `progress`; see `Atlas.build_graphs`.

    Returns
    -------
    list of DerivedEntry
        One a section; `atlas.graph(section, key_added)` opens it.

    Raises
    ------
    InvalidArgument, SectionNotFound, ReadOnly, BudgetExceeded
    """
    return atlas.build_graphs(
        "knn",
        n_neighs=n_neighs,
        radius=radius,
        percentile=percentile,
        symmetrize=symmetrize,
        transform=transform,
        set_diag=set_diag,
        key_added=key_added,
        sections=sections,
        where=where,
        client=client,
        **options,
    )


def spatial_neighbors_radius(
    atlas: Atlas,
    *,
    radius: _Radius,
    percentile: float | None = None,
    transform: _Transform = None,
    set_diag: bool = False,
    key_added: str = "spatial",
    sections: _Sections = None,
    where: str | None = None,
    client: Any = None,
    **options: Any,
) -> list[DerivedEntry]:
    """Build and commit the graphs of cells within a radius of each other.

    Parameters
    ----------
    atlas, percentile, transform, set_diag, key_added, sections, where, client, **options
        See `spatial_neighbors_knn`.
    radius : float or (float, float)
        A length, or the shortest and the longest, both included; micrometers. Of sections whose
        unit is unknown, `units="source"` asks in the unit of their positions.

    Returns
    -------
    list of DerivedEntry
    """
    return atlas.build_graphs(
        "radius",
        radius=radius,
        percentile=percentile,
        transform=transform,
        set_diag=set_diag,
        key_added=key_added,
        sections=sections,
        where=where,
        client=client,
        **options,
    )


def spatial_neighbors_delaunay(
    atlas: Atlas,
    *,
    radius: _Radius | None = None,
    percentile: float | None = None,
    transform: _Transform = None,
    set_diag: bool = False,
    key_added: str = "spatial",
    sections: _Sections = None,
    where: str | None = None,
    client: Any = None,
    **options: Any,
) -> list[DerivedEntry]:
    """Build and commit the graphs of the Delaunay triangulation.

    Parameters
    ----------
    atlas, percentile, transform, set_diag, key_added, sections, where, client, **options
        See `spatial_neighbors_knn`.
    radius : float or (float, float), optional
        Keep edges up to this length, or of lengths in this interval.

    Returns
    -------
    list of DerivedEntry
    """
    return atlas.build_graphs(
        "delaunay",
        radius=radius,
        percentile=percentile,
        transform=transform,
        set_diag=set_diag,
        key_added=key_added,
        sections=sections,
        where=where,
        client=client,
        **options,
    )


def spatial_neighbors_grid(
    atlas: Atlas,
    *,
    lattice: Literal["hex", "square", "auto"] = "auto",
    n_rings: int = 1,
    symmetrize: bool = False,
    transform: _Transform = None,
    set_diag: bool = False,
    key_added: str = "spatial",
    sections: _Sections = None,
    where: str | None = None,
    client: Any = None,
    **options: Any,
) -> list[DerivedEntry]:
    """Build and commit the graphs of neighbors on a lattice of spots or bins.

    Parameters
    ----------
    atlas, symmetrize, transform, set_diag, key_added, sections, where, client, **options
        See `spatial_neighbors_knn`.
    lattice : {'hex', 'square', 'auto'}
        Six neighbors (squidpy's `n_neighs=6`), four, or told from the positions.
    n_rings : int
        Rings of neighbors.

    Returns
    -------
    list of DerivedEntry
    """
    return atlas.build_graphs(
        "grid",
        lattice=lattice,
        n_rings=n_rings,
        symmetrize=symmetrize,
        transform=transform,
        set_diag=set_diag,
        key_added=key_added,
        sections=sections,
        where=where,
        client=client,
        **options,
    )
