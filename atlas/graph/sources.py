"""From what is wanted to what computes it: sources, each wrapped around the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .edges import EdgeSource, PositionSource
    from .spec import GraphSpec
    from .wrapped.mask import Mask

__all__ = ["kept_cells", "make_source"]


def kept_cells(section: PositionSource, mask: Mask | None) -> PositionSource:
    """Return the section as if it had the cells of a mask alone.

    Raises
    ------
    InvalidArgument
        The mask has not one value for each cell.
    """
    if mask is None:
        return section
    from .wrapped.masked import MaskedSection

    return MaskedSection(section, mask)


def make_source(section: PositionSource, spec: GraphSpec, mask: Mask | None = None) -> EdgeSource:
    """Put together what computes the edges of a graph; nothing is read.

    The base graph of the cells that take part, then pruned by length, then made symmetric, then
    spread over the rows of the whole section.

    Parameters
    ----------
    section : PositionSource
        The whole section.
    spec : GraphSpec
        The graph wanted.
    mask : Mask, optional
        The cells that take part.

    Returns
    -------
    EdgeSource
        Of all rows of the section.
    """
    cells = kept_cells(section, mask)
    source = _base(cells, spec)
    if spec.prunes:
        from .wrapped.pruned import PrunedEdges

        shortest, longest = spec.interval
        source = PrunedEdges(source, shortest, longest, spec.percentile)
    if spec.symmetrize:
        from .wrapped.symmetric import SymmetricEdges

        source = SymmetricEdges(source, cells)
    if mask is not None:
        from .wrapped.masked import MaskedEdges

        source = MaskedEdges(source, mask)
    return source


def _base(section: PositionSource, spec: GraphSpec) -> EdgeSource:
    """Return the source of the kind, before its edges are chosen or changed."""
    if spec.kind == "radius":
        from .search.radius_source import RadiusEdges

        return RadiusEdges(section, *spec.interval)
    if spec.kind == "delaunay":
        from .triangulation.source import DelaunayEdges

        return DelaunayEdges(section)
    if spec.kind == "grid":
        from .lattices.source import LatticeEdges

        return LatticeEdges(section, spec.lattice or "auto", spec.n_rings or 1)
    from .search.knn_source import KnnEdges

    return KnnEdges(section, spec.n_neighs or 1)
