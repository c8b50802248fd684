"""Where a model's neighbors come from: a stored graph by its key, or a lazy one made on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...atlas.errors import InvalidArgument
from .neighborhood import GraphRows

if TYPE_CHECKING:
    from ...atlas.store import AtlasStore

__all__ = ["GraphSource", "Neighbors"]


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The graph of one section, with what it was computed from.

    Attributes
    ----------
    graph : GraphRows
    inputs : mapping of str to str
        Provenance: `graph/<key>/<section>` -> attempt; empty for a lazy graph, which hangs on the
        section alone.
    """

    graph: GraphRows
    inputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class GraphSource:
    """Which graph to use for every section.

    Attributes
    ----------
    key : str or None
        Key of a stored graph; None builds the `n_neighs` nearest neighbors tile by tile.
    n_neighs : int
        Neighbors per cell of the lazy graph.
    """

    key: str | None = None
    n_neighs: int = 6

    def __post_init__(self) -> None:
        if self.n_neighs < 1:
            raise InvalidArgument(f"wanted at least one neighbor, but got n_neighs={self.n_neighs}")

    def open(self, store: "AtlasStore", section: str) -> Neighbors:
        """Open the graph of a section.

        Raises
        ------
        DerivedNotFound, StaleDerived
            No stored graph of this key, or one of a section that was replaced since.
        """
        from ...atlas.graph import knn, open_graph

        if self.key is None:
            return Neighbors(knn(store, section, n_neighs=self.n_neighs), {})
        entry = store.derived("graph", self.key, section)
        return Neighbors(open_graph(store, self.key, section), {entry.name: entry.attempt})

    def facts(self, store: "AtlasStore", sections: Sequence[str]) -> dict[str, Any]:
        """Tell which graph this is, as provenance keeps it.

        Parameters
        ----------
        store : AtlasStore
        sections : sequence of str
            Those that it is used in.

        Returns
        -------
        dict
            `stored`: whether it was committed; `key`: its name, if so; `kind` and `parameters`
            (and `where`, if restricted). Of stored graphs that differ between sections, these are
            under `sections` by name.
        """
        if self.key is None:
            return {
                "stored": False,
                "key": None,
                "kind": "knn",
                "parameters": {"n_neighs": self.n_neighs},
            }
        told: dict[str, dict[str, Any]] = {}
        for section in sections:
            entry = store.snapshot.derived.get(f"graph/{self.key}/{section}")
            # a run may outlive the graphs it was trained on
            if entry is not None:
                wanted = ("kind", "parameters", "where")
                told[section] = {name: entry.info[name] for name in wanted if name in entry.info}
        same = next(iter(told.values()), {})
        alike = all(facts == same for facts in told.values())
        return {"stored": True, "key": self.key, **(same if alike else {"sections": told})}
