"""Verbs of an atlas that describe, build and open neighborhood graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from .atlas.store import AtlasStore

if TYPE_CHECKING:
    from .atlas.graph import NeighborGraph, StoredGraph, StoredZGraph, ZNeighbors
    from .atlas.snapshot import DerivedEntry

__all__ = ["GraphVerbs"]


class GraphVerbs(AtlasStore):
    """An atlas with its verbs on graphs; see `Atlas`."""

    def knn(
        self,
        sections: str | Sequence[str] | None = None,
        n_neighs: int = 6,
        *,
        where: str | None = None,
        mask: Any = None,
        **options: Any,
    ) -> NeighborGraph:
        """Describe the graph of each cell's nearest others, lazily.

        Parameters
        ----------
        sections
            Names; None is all.
        n_neighs
            Neighbors of each cell.
        where
            Filter string, as of `query`: only these cells take part.
        mask
            The same as arrays: (n_obs,) bool by section, or one where there is one section.
        **options
            `radius`, `percentile`, `symmetrize`, `transform`, `set_diag`; see
            `tisseract.atlas.graph.knn`. `units="source"` for a radius in sections of unknown unit.

        Returns
        -------
        NeighborGraph
            Lazy: `.plan`, `.explain()`, then `.tile(...)`, `.rows(...)`, `.to_dask(...)`,
            `.compute(...)` or `.write(key=...)`.
        """
        return self._describe("knn", sections, where, mask, n_neighs=n_neighs, **options)

    def radius(
        self,
        sections: str | Sequence[str] | None = None,
        radius: float | tuple[float, float] | None = None,
        *,
        where: str | None = None,
        mask: Any = None,
        **options: Any,
    ) -> NeighborGraph:
        """Describe the graph of cells within a radius of each other, lazily; see `knn`.

        `radius` is a length, or the shortest and the longest, in micrometers; of sections whose
        unit is unknown, `units="source"` asks in the unit of their positions.
        """
        return self._describe("radius", sections, where, mask, radius=radius, **options)

    def delaunay(
        self,
        sections: str | Sequence[str] | None = None,
        *,
        where: str | None = None,
        mask: Any = None,
        **options: Any,
    ) -> NeighborGraph:
        """Describe the graph of the Delaunay triangulation, lazily; see `knn`."""
        return self._describe("delaunay", sections, where, mask, **options)

    def grid(
        self,
        sections: str | Sequence[str] | None = None,
        lattice: Literal["hex", "square", "auto"] = "auto",
        *,
        n_rings: int = 1,
        where: str | None = None,
        mask: Any = None,
        **options: Any,
    ) -> NeighborGraph:
        """Describe the lattice graph of sections of spots or bins, lazily; see `knn`."""
        return self._describe(
            "grid", sections, where, mask, lattice=lattice, n_rings=n_rings, **options
        )

    def _describe(
        self,
        kind: str,
        sections: str | Sequence[str] | None,
        where: str | None,
        mask: Any,
        **options: Any,
    ) -> NeighborGraph:
        from .atlas.graph import GraphSpec, chosen_sections, describe_graph
        from .atlas.graph.lengths import check_lengths

        units = options.pop("units", "um")
        names = chosen_sections(self, sections)
        spec = GraphSpec.of(kind, **options)
        read = None
        if where is not None:
            from .query.filters.masks import derived_inputs

            mask = self._masks(where, mask, names, named=sections is not None)
            names = list(mask)
            read = derived_inputs(self, where, names)
        check_lengths(self, spec, names, units)
        return describe_graph(self, spec, names, mask=mask, where=where, chosen_by=read)

    def _masks(self, where: str, mask: Any, names: Sequence[str], *, named: bool) -> Any:
        """Turn a filter into the masks of the sections in which it leaves cells."""
        if mask is not None:
            from .atlas.errors import InvalidArgument

            raise InvalidArgument(
                "one way to restrict the cells is wanted, but got where= and mask=; give one"
            )
        from .query.exports.graph_cells import graph_masks

        return graph_masks(self, where, names, named=named)

    def build_graphs(
        self,
        kind: str = "knn",
        *,
        key_added: str = "spatial",
        sections: str | Sequence[str] | None = None,
        where: str | None = None,
        mask: Any = None,
        client: Any = None,
        memory_limit: str | int | None = None,
        overwrite: bool = False,
        progress: Any = None,
        **options: Any,
    ) -> list[DerivedEntry]:
        """Build, tile by tile, and commit the graphs of all (or the named) sections.

        Parameters
        ----------
        kind
            `knn`, `radius`, `delaunay`, `grid`; `hex` or `square` for a grid of that lattice.
        key_added
            Name of the graphs.
        sections, where, mask
            See `knn`.
        client, memory_limit, overwrite, progress
            See `tisseract.atlas.graph.build_graphs`.
        **options
            Of the kind, under squidpy's names (`n_neighs`, `radius`, `n_rings`, `percentile`,
            `transform`, `set_diag`, `symmetrize`), and `units`.
        """
        from .atlas.keys import check_name

        check_name(key_added, "graph")
        return self._describe(kind, sections, where, mask, **options).write(
            key_added,
            client=client,
            memory_limit=memory_limit,
            overwrite=overwrite,
            progress=progress,
        )

    def graph(self, section: str, key: str = "spatial") -> StoredGraph:
        """Open a committed graph of a section."""
        from .atlas.graph import open_graph

        return open_graph(self, key, section)

    def z_neighbors(
        self, n_neighs: int | None = None, radius: float | None = None, **options: Any
    ) -> ZNeighbors:
        """Describe the neighbors between registered serial sections, lazily.

        Parameters
        ----------
        n_neighs
            Neighbors of each cell in each neighboring section; or
        radius
            the greatest distance in space, micrometers.
        **options
            `sections`, `pairs`, `max_gap_um`, `transforms`; see
            `tisseract.atlas.graph.z_neighbors`.

        Returns
        -------
        ZNeighbors
            Lazy: one graph for each ordered pair of sections; `.write(key="z")` commits them.
        """
        from .atlas.graph import z_neighbors

        return z_neighbors(self, n_neighs, radius, **options)

    def z_graph(self, section: str, neighbor: str, key: str = "z") -> StoredZGraph:
        """Open a committed graph from the cells of a section to those of a neighboring one."""
        from .atlas.graph import open_z_graph

        return open_z_graph(self, key, section, neighbor)
