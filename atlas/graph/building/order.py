"""One graph to be built and committed, as a value: what it is called, what it is, how it is sealed.

Graphs within sections and between them differ in the name under which they lie, in the unit of
their lengths and in what an entry says further; everything else is the same for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from ...keys import check_name
from ...snapshot import DerivedEntry, derived_name
from ..disk.layout import GRAPH_FORMAT, seal_graph
from ..lengths import unit_of
from ..order_statistic import run_serially
from ..serial.stored import Z_KIND, z_key

if TYPE_CHECKING:
    from ...attempt import Attempt
    from ...parts import PartReceipt
    from ...store import AtlasStore
    from ..edges import EdgeSource
    from ..order_statistic import Run
    from ..planning.plan import GraphPlan
    from ..section_graph import SectionGraph
    from ..serial.graph import ZGraph

__all__ = ["LazyGraph", "Order", "order_pair", "order_section"]


class LazyGraph(Protocol):
    """A graph that can be built block by block."""

    @property
    def plan(self) -> GraphPlan:
        """What building all of it takes."""
        ...

    @property
    def source(self) -> EdgeSource:
        """What computes the edges."""
        ...

    @property
    def inputs(self) -> Mapping[str, str]:
        """All that it is computed from, by name, and the attempts of these."""
        ...

    def check(self) -> None:
        """Refuse now what would be refused at the first row."""
        ...

    def prepare(self, run: Run = ...) -> LazyGraph:
        """Find out what has to be known of the whole graph first."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """A graph, where it will lie, and what is said of it."""

    store: AtlasStore
    """The atlas."""
    graph: LazyGraph
    """The graph."""
    kind: str
    """Kind of derived data."""
    key: str
    """Name of the graph, the same for all of one build."""
    entry_key: str
    """Key under which it lies; the neighbor may be part of it."""
    section: str
    """The section with the rows."""
    unit: str
    """Unit of the stored distances."""
    extra: Mapping[str, str | int] = field(default_factory=dict)
    """What its entry says further."""

    @property
    def name(self) -> str:
        """Name in the snapshot."""
        return derived_name(self.kind, self.entry_key, self.section)

    @property
    def parent(self) -> str:
        """Folder of its attempts."""
        return f"derived/{self.name}"

    @property
    def label(self) -> str:
        """The section, or the pair, in words."""
        return self.graph.plan.section

    def prepare(self, run: Run = run_serially) -> Order:
        """Return the order of the prepared graph."""
        return replace(self, graph=self.graph.prepare(run))

    def found(self) -> DerivedEntry | None:
        """Entry of the graph that has the name now, stale or otherwise built perhaps."""
        return self.store.snapshot.derived.get(self.name)

    def committed(self) -> DerivedEntry | None:
        """Entry of a graph that is there already and equal to the one wanted."""
        entry, plan = self.found(), self.graph.plan
        if entry is None or dict(entry.inputs) != dict(self.graph.inputs):
            return None
        same = (
            entry.info.get("kind") == plan.kind and entry.info.get("parameters") == plan.parameters
        )
        return entry if same else None

    def build_plan(self) -> Mapping[str, Any]:
        """Say all that decides what the blocks of a prepared graph hold, as JSON.

        Equal plans give equal blocks, byte for byte; the passes over the whole section are in it
        by what they found. The version of the tool is part of it, since a newer one may compute or
        encode otherwise.
        """
        from importlib.metadata import version

        plan = self.graph.plan
        return {
            "what": self.kind,
            "format": GRAPH_FORMAT,
            "version": version("tisseract"),
            "section": plan.section,
            "inputs": dict(self.graph.inputs),
            "kind": plan.kind,
            "parameters": dict(plan.parameters),
            "facts": dict(plan.facts),
            "n_obs": plan.n_obs,
            "row_ptr": list(plan.row_ptr),
        }

    def seal(self, attempt: Attempt, blocks: Iterable[PartReceipt]) -> DerivedEntry:
        """Write attributes and provenance, seal the attempt and describe it for the snapshot."""
        from importlib.metadata import version

        plan = self.graph.plan
        info = {
            "kind": plan.kind,
            "parameters": dict(plan.parameters),
            "facts": dict(plan.facts),
            "n_obs": plan.n_obs,
            **self.extra,
            "nnz": sum(block.facts["nnz"] for block in blocks),
        }
        attributes = {
            "format": GRAPH_FORMAT,
            **info,
            "distance_unit": self.unit,
            "row_ptr": list(plan.row_ptr),
        }
        provenance = {
            "tool": "tisseract",
            "version": version("tisseract"),
            "snapshot": self.store.version,
            "inputs": dict(self.graph.inputs),
            "kind": self.kind,
            "parameters": {"kind": plan.kind, **plan.parameters},
            "seed": None,
            "run": None,
        }
        seal_graph(attempt.path, attributes, provenance)
        receipt = attempt.seal()
        return DerivedEntry(
            kind=self.kind,
            key=self.entry_key,
            section=self.section,
            attempt=receipt.attempt,
            digest=receipt.digest,
            nbytes=receipt.nbytes,
            inputs=dict(self.graph.inputs),
            info=info,
        )


def order_section(store: AtlasStore, graph: SectionGraph, key: str) -> Order:
    """Order the graph of a section.

    Raises
    ------
    InvalidArgument
        Not a name.
    """
    check_name(key, "graph")
    unit = "rings" if graph.plan.kind == "grid" else unit_of(graph.section.um_per_unit)
    return Order(store, graph, "graph", key, key, graph.plan.section, unit)


def order_pair(store: AtlasStore, graph: ZGraph, key: str) -> Order:
    """Order the graph between two sections.

    Raises
    ------
    InvalidArgument
        Not a name.
    """
    check_name(key, "graph")
    pair = graph.pair
    extra: dict[str, str | int] = {"neighbor": pair.neighbor, "n_columns": graph.n_columns}
    entry_key = z_key(key, pair.neighbor)
    return Order(store, graph, Z_KIND, key, entry_key, pair.section, "micrometers", extra)
