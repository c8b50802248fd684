"""A graph as `squidpy.gr.spatial_neighbors_*` would have left it in an AnnData."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse
    from anndata import AnnData

    from ..edges import Edges
    from ..spec import GraphSpec

__all__ = ["SquidpyGraph", "to_squidpy", "uns_params"]


@dataclass(frozen=True, slots=True)
class SquidpyGraph:
    """Two matrices and the entry of `uns` that names them.

    `connectivities` are float32, ones unless transformed. As in squidpy,
    edges of length zero (between cells at one position) are in `connectivities` alone.
    """

    connectivities: scipy.sparse.csr_matrix
    """(n, n) float32, for ``obsp["<key>_connectivities"]``."""
    distances: scipy.sparse.csr_matrix
    """(n, n) float64, rings as float32 for a lattice; for ``obsp["<key>_distances"]``."""
    uns: Mapping[str, Any]
    """For ``uns["<key>_neighbors"]``."""

    def add_to(self, adata: AnnData, key_added: str = "spatial") -> None:
        """Write into an AnnData whose rows are the section's, in the section's order.

        Parameters
        ----------
        adata : AnnData
            Changed in place.
        key_added : str
            Prefix of the keys, as in squidpy.
        """
        uns = dict(self.uns)
        uns["connectivities_key"] = f"{key_added}_connectivities"
        uns["distances_key"] = f"{key_added}_distances"
        adata.obsp[uns["connectivities_key"]] = self.connectivities
        adata.obsp[uns["distances_key"]] = self.distances
        adata.uns[f"{key_added}_neighbors"] = uns


def to_squidpy(
    edges: Edges, spec: GraphSpec, facts: Mapping[str, Any], *, key_added: str
) -> SquidpyGraph:
    """Convert all rows of a graph.

    Parameters
    ----------
    edges : Edges
        All n rows.
    spec : GraphSpec
        The graph, with its `transform` and `set_diag`; squidpy leaves the diagonal of the distances
        empty all the same.
    facts : mapping
        What was found out of the graph.
    key_added : str
        Prefix of the keys.

    Returns
    -------
    SquidpyGraph
        32 bytes an edge.
    """
    from scipy.sparse import csr_matrix, eye_array

    n = edges.indptr.size - 1
    ones = np.ones(edges.indices.size, dtype=np.float32)
    connectivities = csr_matrix((ones, edges.indices, edges.indptr), shape=(n, n))
    if spec.set_diag:
        connectivities = csr_matrix(connectivities + eye_array(n, dtype=np.float32, format="csr"))
    # As squidpy's: rings are float32, lengths float64.
    lengths: Any = edges.distances.astype(np.float32 if spec.kind == "grid" else np.float64)
    distances = csr_matrix((lengths, edges.indices.copy(), edges.indptr.copy()), shape=(n, n))
    distances.eliminate_zeros()
    uns = {
        "connectivities_key": f"{key_added}_connectivities",
        "distances_key": f"{key_added}_distances",
        "params": uns_params(spec, facts),
    }
    transformed = _TRANSFORMS[spec.transform](connectivities)
    return SquidpyGraph(transformed, distances, uns)


def _spectral(adjacency: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Divide each edge by the roots of the degrees of its ends: D^-1/2 A D^-1/2.

    Degrees are column sums, as in squidpy. A cell that no cell has for a neighbor divides its own
    edges by zero there, and they become infinite; here they become zero.
    """
    from scipy.sparse import csr_matrix

    degrees = np.asarray(adjacency.sum(axis=0), dtype=np.float64).ravel()
    factor = np.zeros_like(degrees)
    np.divide(1.0, degrees, out=factor, where=degrees > 0)
    factor = np.sqrt(factor)
    row_factor = np.repeat(factor, np.diff(adjacency.indptr))
    data = (row_factor * factor[adjacency.indices] * adjacency.data).astype(np.float32)
    return csr_matrix((data, adjacency.indices, adjacency.indptr), shape=adjacency.shape)


def _cosine(adjacency: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    """Replace edges by the cosine of the angle between rows: shared over all neighbors.

    Memory: an element for each pair of cells with a neighbor in common, about the degree squared
    for each cell.
    """
    from scipy.sparse import csr_matrix

    norms = np.sqrt(np.asarray(adjacency.multiply(adjacency).sum(axis=1), np.float64)).ravel()
    norms[norms == 0] = 1.0
    data = adjacency.data / np.repeat(norms, np.diff(adjacency.indptr))
    unit = csr_matrix(
        (data.astype(np.float32), adjacency.indices, adjacency.indptr), shape=adjacency.shape
    )
    similar = csr_matrix(unit @ unit.T)
    similar.sort_indices()
    return similar


_TRANSFORMS = {None: lambda adjacency: adjacency, "spectral": _spectral, "cosine": _cosine}

_N_NEIGHS = {"hex": 6, "square": 4}


def uns_params(spec: GraphSpec, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the parameters that squidpy's builder of this graph leaves in `uns`.

    Parameters
    ----------
    spec : GraphSpec
        The graph. What squidpy has no word for (a percentile, a cap on neighbors) is left out, as
        squidpy does.
    facts : mapping, optional
        Of the graph: kind of the lattice found.

    Returns
    -------
    dict

    Examples
    --------
    >>> from tisseract.atlas.graph.spec import GraphSpec
    >>> uns_params(GraphSpec.within((10, 30)))
    {'coord_type': 'generic', 'radius': (10.0, 30.0), 'transform': None}
    """
    if spec.kind == "grid":
        found = (facts or {}).get("lattice_found", spec.lattice)
        return {
            "coord_type": "grid",
            "n_neighbors": _N_NEIGHS.get(str(found), 6),
            "n_rings": spec.n_rings,
            "delaunay": False,
            "transform": spec.transform,
        }
    chosen = {"n_neighbors": spec.n_neighs} if spec.kind == "knn" else {"radius": spec.radius}
    return {"coord_type": "generic", **chosen, "transform": spec.transform}
