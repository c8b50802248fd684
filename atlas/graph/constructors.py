"""One function for each kind of graph, describing it lazily."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .neighbor_graph import NeighborGraph, describe_graph
from .spec import GraphSpec

if TYPE_CHECKING:
    from ..store import AtlasStore
    from .spec import Lattice, Radius, Transform

__all__ = ["delaunay", "grid", "knn", "radius"]


def knn(
    store: AtlasStore,
    sections: str | Sequence[str] | None = None,
    n_neighs: int = 6,
    *,
    radius: Radius | None = None,
    percentile: float | None = None,
    symmetrize: bool = False,
    transform: Transform | None = None,
    set_diag: bool = False,
    mask: Any = None,
) -> NeighborGraph:
    """Describe the graph of each cell's k nearest others; nothing is computed yet.

    Exact: the same edges as `squidpy.gr.spatial_neighbors_knn` wherever the k-th distance is not
    tied, and a defined choice where it is: ties go to the smaller x, then y, then row. Works in
    any unit, also an unknown one. Cells at the same position are neighbors at distance zero.
    With n <= k cells, all others are neighbors (squidpy raises).

    Parameters
    ----------
    store : AtlasStore
        The atlas.
    sections : str or sequence of str, optional
        Names; all sections by default.
    n_neighs : int
        Neighbors of each cell, at least 1.
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
    mask : mapping of str to array, or array, optional
        (n_obs,) bool for each section: cells that take part.

    Returns
    -------
    NeighborGraph

    Raises
    ------
    SectionNotFound, InvalidArgument
    """
    spec = GraphSpec.knn(
        n_neighs,
        radius=radius,
        percentile=percentile,
        symmetrize=symmetrize,
        transform=transform,
        set_diag=set_diag,
    )
    return describe_graph(store, spec, sections, mask=mask)


def radius(
    store: AtlasStore,
    sections: str | Sequence[str] | None = None,
    radius: Radius | None = None,
    *,
    percentile: float | None = None,
    transform: Transform | None = None,
    set_diag: bool = False,
    mask: Any = None,
) -> NeighborGraph:
    """Describe the graph of all cells within a radius of each other; nothing is computed yet.

    The same edges as `squidpy.gr.spatial_neighbors_radius`: distances up to the radius, itself
    included, or from the smaller to the greater of two.

    Parameters
    ----------
    store, sections, percentile, transform, set_diag, mask
        See `knn`.
    radius : float or (float, float)
        In the unit of the positions: micrometers, unless the section's unit is unknown.

    Returns
    -------
    NeighborGraph

    Raises
    ------
    SectionNotFound, InvalidArgument
    """
    spec = GraphSpec.of(
        "radius", radius=radius, percentile=percentile, transform=transform, set_diag=set_diag
    )
    return describe_graph(store, spec, sections, mask=mask)


def delaunay(
    store: AtlasStore,
    sections: str | Sequence[str] | None = None,
    *,
    radius: Radius | None = None,
    percentile: float | None = None,
    transform: Transform | None = None,
    set_diag: bool = False,
    mask: Any = None,
) -> NeighborGraph:
    """Describe the graph of the Delaunay triangulation; nothing is computed yet.

    Two cells are neighbors if some disc has both on its rim and no cell inside: the same edges as
    `squidpy.gr.spatial_neighbors_delaunay` where no four cells lie on one such circle.

    Parameters
    ----------
    store, sections, percentile, transform, set_diag, mask
        See `knn`.
    radius : float or (float, float), optional
        Keep edges up to this length, or of lengths in this interval.

    Returns
    -------
    NeighborGraph

    Raises
    ------
    SectionNotFound, InvalidArgument
    """
    spec = GraphSpec.delaunay(
        radius=radius, percentile=percentile, transform=transform, set_diag=set_diag
    )
    return describe_graph(store, spec, sections, mask=mask)


def grid(
    store: AtlasStore,
    sections: str | Sequence[str] | None = None,
    lattice: Lattice = "auto",
    n_rings: int = 1,
    *,
    symmetrize: bool = False,
    transform: Transform | None = None,
    set_diag: bool = False,
    mask: Any = None,
) -> NeighborGraph:
    """Describe the graph of neighbors on a lattice of spots or bins; nothing is computed yet.

    The same edges and ring numbers as `squidpy.gr.spatial_neighbors_grid` with six neighbors
    (hex) or four (square). Distances are ring numbers, 1.0 to `n_rings`.

    Parameters
    ----------
    store, sections, symmetrize, transform, set_diag, mask
        See `knn`.
    lattice : {'hex', 'square', 'auto'}
        Hexagonal (Visium), square (Spatial Transcriptomics, Visium HD bins), or told from the
        positions.
    n_rings : int
        Rings of neighbors, at least 1.

    Returns
    -------
    NeighborGraph

    Raises
    ------
    SectionNotFound, InvalidArgument
    """
    spec = GraphSpec.grid(
        lattice, n_rings=n_rings, symmetrize=symmetrize, transform=transform, set_diag=set_diag
    )
    return describe_graph(store, spec, sections, mask=mask)
