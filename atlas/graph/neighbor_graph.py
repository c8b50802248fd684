"""Graphs of many sections that are not there yet: what they would cost, what is asked of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from ..errors import InvalidArgument, SectionNotFound, near
from .planning.totals import GraphPlans
from .section_graph import SectionGraph, describe_section
from .wrapped.section_masks import masks_by_section

if TYPE_CHECKING:
    import dask.array
    import scipy.sparse

    from ..quadtree import Runs
    from ..snapshot import DerivedEntry
    from ..store import AtlasStore
    from .edges import Edges
    from .interchange.squidpy_form import SquidpyGraph
    from .row_choice import RowChoice
    from .spec import GraphSpec

__all__ = ["NeighborGraph", "chosen_sections", "describe_graph"]


@dataclass(frozen=True, slots=True)
class NeighborGraph:
    """A lazy graph of some sections, each by itself; nothing is computed before it is asked for.

    Where there is one section, methods do without its name.
    """

    store: AtlasStore
    """The atlas, for `write`."""
    spec: GraphSpec
    """What graph it is."""
    graphs: Mapping[str, SectionGraph]
    """The graph of each section, in order."""

    @property
    def sections(self) -> tuple[str, ...]:
        """Names of the sections."""
        return tuple(self.graphs)

    @property
    def plan(self) -> GraphPlans:
        """What building all of it takes: tiles, tasks, bytes, memory."""
        return GraphPlans(tuple(graph.plan for graph in self.graphs.values()))

    @property
    def n_obs(self) -> int:
        """Number of cells of all sections."""
        return self.plan.n_obs

    @property
    def row_ptr(self) -> tuple[int, ...]:
        """Borders of the blocks, where there is one section."""
        return self._of(None).row_ptr

    def __getitem__(self, section: str) -> SectionGraph:
        return self._of(section)

    def __iter__(self) -> Iterator[SectionGraph]:
        return iter(self.graphs.values())

    def __len__(self) -> int:
        return len(self.graphs)

    def tile(self, section: str | int, tile: int | None = None) -> scipy.sparse.csr_array:
        """Compute the edges of the cells of one tile, (cells of the tile, n_obs)."""
        if tile is None:
            number = _given(section, "a tile")
            return self._of(None).tile(number)
        return self._of(section).tile(tile)

    def rows(
        self, section: str | RowChoice, rows: RowChoice | None = None
    ) -> scipy.sparse.csr_array:
        """Compute the edges of some rows.

        Parameters
        ----------
        section : str
            Name of the section; may be left out where there is one.
        rows : slice, sequence of (int, int), array of int, or array (n_obs,) bool
            Consecutive rows; ascending, disjoint row runs; rows in any order; a mask. m rows in
            all.

        Returns
        -------
        csr_array (m, n_obs) float64
            Columns ascend within a row.

        Raises
        ------
        InvalidArgument
            Rows out of order or outside of the section.
        """
        if rows is None:
            section, rows = None, _given(section, "rows")  # type: ignore[assignment]
        graph = self._of(section)
        return graph.rows([] if rows is None else rows)

    def edges(self, runs: Runs) -> Edges:
        """Compute the edges of some rows, where there is one section."""
        return self._of(None).edges(runs)

    def compute(self, section: str | None = None) -> scipy.sparse.csr_array:
        """Compute the whole graph of a section; see `SectionGraph.compute`."""
        return self._of(section).compute()

    def to_dask(self, section: str | None = None) -> dask.array.Array:
        """Return the graph of a section as a Dask array; see `SectionGraph.to_dask`."""
        return self._of(section).to_dask()

    def to_squidpy(self, section: str | None = None, **options: Any) -> SquidpyGraph:
        """Compute the graph of a section in squidpy's form; see `SectionGraph.to_squidpy`."""
        return self._of(section).to_squidpy(**options)

    def write(self, key: str = "spatial", **options: Any) -> list[DerivedEntry]:
        """Build the graphs out of core and commit them; see `build_graphs` for the options."""
        from .building.build import write_graphs

        return write_graphs(self.store, list(self), key, **options)

    def explain(self) -> str:
        """Describe the plan: the sum, then every section with its blocks."""
        if len(self.graphs) == 1:
            return self._of(None).explain()
        return "\n".join([str(self.plan), *(graph.explain() for graph in self)])

    def _of(self, section: object) -> SectionGraph:
        if section is None:
            if len(self.graphs) == 1:
                return next(iter(self.graphs.values()))
            raise InvalidArgument(
                f"the name of one of {len(self.graphs)} sections is wanted, but got none."
                f"{near('', self.graphs)}"
            )
        if section not in self.graphs:
            raise SectionNotFound(
                f"a section of this graph is wanted, but got {section!r}."
                f"{near(section, self.graphs)}"
            )
        return self.graphs[str(section)]

    def __str__(self) -> str:
        return str(self.plan)

    def __repr__(self) -> str:
        return f"<lazy {self.plan}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(plan.section)}</td><td>{plan.n_obs:,}</td><td>{plan.n_tiles:,}</td>"
            f"<td>{plan.n_tasks:,}</td><td>{plan.edges:,}</td></tr>"
            for plan in self.plan.sections
        )
        return (
            f"<pre>{escape(str(self))}</pre><table><thead><tr><th>section</th><th>cells</th>"
            f"<th>tiles</th><th>tasks</th><th>edges</th></tr></thead><tbody>{rows}</tbody></table>"
        )


def _given(value: Any, what: str) -> Any:
    if isinstance(value, str):
        raise InvalidArgument(f"{what} of section {value!r} is wanted, but got none; name it too")
    return value


def chosen_sections(store: AtlasStore, sections: object = None) -> list[str]:
    """Return the names asked for, each once; all sections where none are.

    Raises
    ------
    InvalidArgument
        Something that is no name, such as a radius.
    """
    if sections is None:
        return list(store.section_names)
    names = [sections] if isinstance(sections, str) else sections
    if not isinstance(names, Iterable):
        raise InvalidArgument(
            f"names of sections are wanted, but got {sections!r}; options of the graph are given "
            "by name"
        )
    return list(dict.fromkeys(map(str, names)))


def describe_graph(
    store: AtlasStore,
    spec: GraphSpec,
    sections: str | Iterable[str] | None = None,
    *,
    mask: Any = None,
    where: str | None = None,
    chosen_by: Mapping[str, Mapping[str, str]] | None = None,
) -> NeighborGraph:
    """Describe the graph of some sections lazily.

    Parameters
    ----------
    store : AtlasStore
        The atlas.
    spec : GraphSpec
        The graph wanted.
    sections : str or iterable of str, optional
        Names; all sections by default.
    mask : mapping of str to array, or array, optional
        (n_obs,) bool for each section: cells that take part. A section that is left out keeps all.
    where : str, optional
        The expression that the masks were made from, to be recorded.
    chosen_by : mapping of str to mapping, optional
        For each section, the derived data that the expression read, and their attempts: once they
        are replaced, the graph is stale.

    Returns
    -------
    NeighborGraph

    Raises
    ------
    SectionNotFound, InvalidArgument
    """
    names = chosen_sections(store, sections)
    masks = masks_by_section(mask, names)
    read = chosen_by or {}
    graphs = {
        name: describe_section(store, name, spec, masks.get(name), where, chosen_by=read.get(name))
        for name in names
    }
    return NeighborGraph(store, spec, graphs)
