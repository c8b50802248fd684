"""A graph as `squidpy.gr.spatial_neighbors_*` would have left it in an AnnData."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse
    from anndata import AnnData

    from .edges import Edges

__all__ = ["SquidpyGraph", "to_squidpy"]


@dataclass(frozen=True, slots=True)
class SquidpyGraph:
    """Two matrices and the entry of `uns` that names them.

    `connectivities` are float32 ones. `distances` are float64; as in squidpy, edges of length
    zero (between cells at one position) are in `connectivities` alone.
    """

    connectivities: scipy.sparse.csr_matrix
    """(n, n) float32, for ``obsp["<key>_connectivities"]``."""
    distances: scipy.sparse.csr_matrix
    """(n, n) float64, rings for a lattice; for ``obsp["<key>_distances"]``."""
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
    edges: Edges, kind: str, parameters: Mapping[str, Any], *, set_diag: bool, key_added: str
) -> SquidpyGraph:
    """Convert all rows of a graph.

    Parameters
    ----------
    edges : Edges
        All n rows.
    kind : str
        knn or grid.
    parameters : mapping
        Of the graph, with `n_neighs`.
    set_diag : bool
        Put ones on the diagonal of the connectivities; squidpy leaves that of the distances
        empty all the same.
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
    if set_diag:
        connectivities = csr_matrix(connectivities + eye_array(n, dtype=np.float32, format="csr"))
    lengths = edges.distances.astype(np.float64)
    distances = csr_matrix((lengths, edges.indices.copy(), edges.indptr.copy()), shape=(n, n))
    distances.eliminate_zeros()
    params: dict[str, Any] = {
        "coord_type": "grid" if kind == "grid" else "generic",
        "n_neighbors": int(parameters["n_neighs"]),
        "transform": None,
    }
    if kind == "grid":
        params |= {"n_rings": int(parameters["n_rings"]), "delaunay": False}
    uns = {
        "connectivities_key": f"{key_added}_connectivities",
        "distances_key": f"{key_added}_distances",
        "params": params,
    }
    return SquidpyGraph(connectivities, distances, uns)
