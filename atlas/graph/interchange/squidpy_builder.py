"""Our graphs from within squidpy: a builder for `squidpy.gr.spatial_neighbors_from_builder`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from ...errors import InvalidArgument
from ..spec import GraphSpec
from .points import points_graph
from .squidpy_form import to_squidpy, uns_params

if TYPE_CHECKING:
    import scipy.sparse

__all__ = ["squidpy_builder"]


def squidpy_builder(spec: GraphSpec | None = None, *, threads: int | None = None) -> Any:
    """Make a graph builder of squidpy that runs this engine on the points it is given.

    ``sq.gr.spatial_neighbors_from_builder(adata, squidpy_builder(GraphSpec.knn(10)))`` leaves in
    `adata` what squidpy would, but faster, and defined where squidpy is not: see docs/graphs.md.
    `library_key` works: each library is a graph of its own.

    Parameters
    ----------
    spec : GraphSpec, optional
        The graph wanted: `GraphSpec.knn(10)`, `.within(30)`, `.delaunay()`, `.grid()`; six nearest
        neighbors by default.
    threads : int, optional
        One a core by default; makes no difference to the result.

    Returns
    -------
    squidpy.gr.neighbors.GraphBuilderCSR

    Raises
    ------
    InvalidArgument
        Not a `GraphSpec`.
    ModuleNotFoundError
        squidpy is not installed, or older than 1.7.
    """
    if not isinstance(spec, GraphSpec | None):
        raise InvalidArgument(
            f"a GraphSpec is wanted, but got {spec!r}; make one with GraphSpec.knn(10), "
            "GraphSpec.within(30), GraphSpec.delaunay() or GraphSpec.grid()"
        )
    return _builder_class()(GraphSpec.knn() if spec is None else spec, threads)


@cache
def _builder_class() -> Any:
    """Derive the class where squidpy is at hand; importing it takes seconds."""
    from squidpy.gr.neighbors import GraphBuilderCSR

    class TisseractBuilder(GraphBuilderCSR):  # type: ignore[misc]
        """Graphs of tisseract, whose options have done what postprocessors would do."""

        def __init__(self, spec: GraphSpec, threads: int | None) -> None:
            super().__init__(
                transform=spec.transform, set_diag=spec.set_diag, percentile=spec.percentile
            )
            self.spec = spec
            self.threads = threads
            self._facts: dict[str, Any] = {}

        def build_graph(
            self, coords: Any
        ) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
            edges, facts = points_graph(coords, self.spec, self.threads)
            self._facts = dict(facts)
            form = to_squidpy(edges, self.spec, facts, key_added="spatial")
            return form.connectivities, form.distances

        def uns_params(self) -> dict[str, Any]:
            """Parameters for `uns`; the kind of lattice that was told from the points included."""
            return uns_params(self.spec, self._facts)

        def __reduce__(self) -> tuple[Any, ...]:
            return _remake, (self.spec, self.threads)

    return TisseractBuilder


def _remake(spec: GraphSpec, threads: int | None) -> Any:
    return squidpy_builder(spec, threads=threads)
