"""Where a model's neighbors come from: a stored graph by its key, or a lazy one made on the way."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ..rows.sparse import as_csr, csr_of
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
class _KeptRows:
    """A graph without the cells that take no part: neither as rows nor as neighbors."""

    graph: GraphRows
    mask: NDArray[np.bool_]

    def rows(self, runs: Sequence[tuple[int, int]], /) -> Any:
        """Return the rows of the runs, stacked; those of cells left out are empty."""
        matrix = as_csr(self.graph.rows(runs))
        rows = np.concatenate([self.mask[a:b] for a, b in runs])
        kept = self.mask[matrix.indices] & np.repeat(rows, np.diff(matrix.indptr))
        before = np.concatenate([[0], np.cumsum(kept)])
        indptr = before[matrix.indptr].astype(matrix.indptr.dtype)
        return csr_of(matrix.data[kept], matrix.indices[kept], indptr, matrix.shape)


@dataclass(frozen=True, slots=True)
class GraphSource:
    """Which graph to use for every section.

    Attributes
    ----------
    key : str or None
        Key of a stored graph; None builds the `n_neighs` nearest neighbors tile by tile.
    n_neighs : int
        Neighbors per cell of the lazy graph.
    masks : mapping of str to ndarray, optional
        Cells that take part, (n_obs,) bool by section; all cells of sections not named. Others
        have no neighbors and are nobody's.
    where : str or None
        What the masks were made from, in words that provenance keeps.
    """

    key: str | None = None
    n_neighs: int = 6
    masks: Mapping[str, NDArray[np.bool_]] | None = field(default=None, repr=False, compare=False)
    where: str | None = None

    def __post_init__(self) -> None:
        if self.n_neighs < 1:
            raise InvalidArgument(f"wanted at least one neighbor, but got n_neighs={self.n_neighs}")

    def keeping(
        self,
        store: "AtlasStore",
        sections: Sequence[str],
        mask: Mapping[str, NDArray[np.bool_]] | None = None,
        where: str | None = None,
    ) -> "GraphSource":
        """Return the same graph among the cells that take part, as `chosen_cells` finds them.

        Parameters
        ----------
        store : AtlasStore
        sections : sequence of str
            Those worked on.
        mask : mapping of str to ndarray, optional
            Cells that take part; without, those that pass quality control.
        where : str, optional
            The expression that the masks were made from.

        Raises
        ------
        InvalidArgument
            A mask that does not fit its section, or leaves it no cell.
        """
        from ..domains.cells import chosen_cells

        masks, told = chosen_cells(store, sections, mask, where)
        return replace(self, masks=masks, where=told)

    def mask_of(self, section: str) -> NDArray[np.bool_] | None:
        """Return which cells of a section take part; None for all."""
        return (self.masks or {}).get(section)

    def digests(self, sections: Sequence[str]) -> dict[str, str]:
        """Return a digest of the mask of each section that has one."""
        found = {name: self.mask_of(name) for name in sections}
        return {
            name: hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:16]
            for name, mask in found.items()
            if mask is not None
        }

    def open(self, store: "AtlasStore", section: str) -> Neighbors:
        """Open the graph of a section.

        Raises
        ------
        DerivedNotFound, StaleDerived
            No stored graph of this key, or one of a section that was replaced since.
        """
        from ...atlas.graph import knn, open_graph

        mask = self.mask_of(section)
        if self.key is None:
            return Neighbors(knn(store, section, n_neighs=self.n_neighs, mask=mask), {})
        entry = store.derived("graph", self.key, section)
        stored: GraphRows = open_graph(store, self.key, section)
        graph = stored if mask is None else _KeptRows(stored, mask)
        return Neighbors(graph, {entry.name: entry.attempt})

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
