"""Reading committed graphs by rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import Corrupt, InvalidArgument
from ...section_arrays import RowArray
from ..edges import Edges, check_runs
from ..interchange.squidpy_form import to_squidpy
from ..row_choice import rows_of_graph
from ..spec import GraphSpec
from .layout import ARRAYS, read_layout, read_root

if TYPE_CHECKING:
    import scipy.sparse
    from numpy.typing import NDArray

    from ...quadtree import Runs
    from ...section import Section
    from ...snapshot import DerivedEntry
    from ...storage import Storage
    from ...store import AtlasStore
    from ..interchange.squidpy_form import SquidpyGraph
    from ..row_choice import RowChoice

__all__ = ["StoredGraph", "open_graph"]


class StoredGraph:
    """A committed graph of one section, opened for reading; thread-safe.

    Element (i, j) is the distance from cell i to its neighbor j, float32; zero, and stored,
    where two cells share a position.

    Attributes
    ----------
    entry : DerivedEntry
        Its entry in the snapshot.
    kind : str
        knn, radius, delaunay or grid.
    parameters : mapping
        As asked for.
    facts : mapping
        As found out.
    distance_unit : str
        micrometers, source_units or rings.
    n_obs, nnz : int
        Cells and edges.
    """

    def __init__(self, storage: Storage, section: Section, entry: DerivedEntry) -> None:
        self._storage = storage
        self._section = section
        self.entry = entry
        attributes, self._metadata = read_root(storage, entry.prefix, entry.name)
        self.kind: str = attributes["kind"]
        self.parameters: Mapping[str, Any] = attributes["parameters"]
        self.facts: Mapping[str, Any] = attributes["facts"]
        self.distance_unit: str = attributes["distance_unit"]
        self.n_obs: int = attributes["n_obs"]
        self.nnz: int = attributes["nnz"]
        # The cells of another section, where the graph leads from one to another.
        self.n_columns: int = attributes.get("n_columns", self.n_obs)
        self._row_ptr = np.asarray(attributes["row_ptr"], dtype=np.int64)
        self._arrays: dict[tuple[int, str], RowArray] = {}
        if self.n_obs != section.n_obs or self._row_ptr[-1] != self.n_obs:
            raise Corrupt(
                f"a graph of {section.n_obs} cells is wanted, but got one of {self.n_obs} in "
                f"{entry.name!r}; run verify, then build it again"
            )

    def __reduce__(self) -> tuple[object, ...]:
        return StoredGraph, (self._storage, self._section, self.entry)

    def edges(self, runs: Runs) -> Edges:
        """Read the edges of some rows; distances float32."""
        inside = self._by_block(check_runs(runs, self.n_obs))
        return Edges.concatenate([self._read_block(b, cut) for b, cut in inside])

    def links(self, runs: Runs) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Read where the edges of some rows lead, without their distances.

        Returns
        -------
        indptr : ndarray (m + 1,) int64
        indices : ndarray (e,) int32
        """
        inside = self._by_block(check_runs(runs, self.n_obs))
        parts = [self._read_links(b, cut)[:2] for b, cut in inside]
        if len(parts) == 1:
            return parts[0]
        sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(part) for part, _ in parts)])
        columns = [indices for _, indices in parts]
        return np.cumsum(sizes), np.concatenate([np.empty(0, np.int32), *columns])

    def rows(self, rows: RowChoice) -> scipy.sparse.csr_array:
        """Read the edges of some rows.

        Parameters
        ----------
        rows : slice, sequence of (int, int), array of int, or array (n_obs,) bool
            Consecutive rows; ascending, disjoint row runs; rows in any order; a mask. m rows in
            all.

        Returns
        -------
        csr_array (m, n_obs) float32
            Columns ascend within a row.

        Raises
        ------
        InvalidArgument
            Rows outside of the section, or runs out of order.
        Corrupt
            Columns outside of the section.
        """
        return rows_of_graph(self.edges, rows, self.n_obs, self.n_columns)

    def tile(self, tile: int) -> scipy.sparse.csr_array:
        """Read the edges of the cells of one tile, (cells of the tile, n_obs)."""
        tiles = self._section.tiles
        if not 0 <= tile < len(tiles):
            raise InvalidArgument(f"a tile, 0 to {len(tiles) - 1}, is wanted, but got {tile}")
        return self.rows(tiles.runs([tile]))

    def to_csr(self) -> scipy.sparse.csr_array:
        """Read the whole graph, (n_obs, n_obs); 8 bytes an edge, twice that at the end."""
        return self.rows([(0, self.n_obs)])

    def to_squidpy(
        self, *, set_diag: bool | None = None, key_added: str = "spatial"
    ) -> SquidpyGraph:
        """Read everything, in squidpy's form; see `SectionGraph.to_squidpy`.

        Distances are float64 numbers of float32 precision.
        """
        edges = self.edges([(0, self.n_obs)])
        spec = self.spec if set_diag is None else replace(self.spec, set_diag=set_diag)
        return to_squidpy(edges, spec, self.facts, key_added=key_added)

    @property
    def spec(self) -> GraphSpec:
        """What graph it is."""
        return GraphSpec.read(self.kind, self.parameters)

    @property
    def row_ptr(self) -> tuple[int, ...]:
        """Borders of the blocks: block b is rows row_ptr[b]:row_ptr[b + 1]."""
        return tuple(self._row_ptr.tolist())

    @property
    def chunk_rows(self) -> int:
        """Rows whose edges lie together: what the reading of a single row unpacks, about."""
        return self._array(0, "indptr").layout.chunk

    def _by_block(self, runs: Runs) -> list[tuple[int, list[tuple[int, int]]]]:
        """Cut runs at the borders of blocks."""
        cut: dict[int, list[tuple[int, int]]] = {}
        for start, stop in runs:
            at = start
            while at < stop:
                b = int(np.searchsorted(self._row_ptr, at, side="right")) - 1
                end = min(stop, int(self._row_ptr[b + 1]))
                cut.setdefault(b, []).append((at, end))
                at = end
        return list(cut.items())

    def _read_block(self, block: int, runs: list[tuple[int, int]]) -> Edges:
        """Read rows of one block, by three requests or as many as there are gaps."""
        indptr, indices, spans = self._read_links(block, runs)
        return Edges(indptr, indices, self._array(block, "distances").read(spans))

    def _read_links(
        self, block: int, runs: list[tuple[int, int]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], list[tuple[int, int]]]:
        """Read row pointers and columns of one block, and tell where its edges lie."""
        offset = int(self._row_ptr[block])
        pointers = self._array(block, "indptr").read(
            [(start - offset, stop - offset + 1) for start, stop in runs]
        )
        at = np.cumsum([0, *(stop - start + 1 for start, stop in runs)])
        parts = [pointers[i:j] for i, j in pairwise(at.tolist())]
        nnz = len(self._array(block, "indices"))
        counts = np.concatenate([np.diff(part) for part in parts])
        spans = [(int(part[0]), int(part[-1])) for part in parts]
        # Compiled readers trust these numbers; a damaged or hostile file must stop here.
        if (counts < 0).any() or any(not 0 <= first <= last <= nnz for first, last in spans):
            raise self._corrupt(block, f"row pointers within {nnz} edges")
        indices = self._array(block, "indices").read(spans)
        if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < self.n_columns:
            raise self._corrupt(block, f"columns within {self.n_columns} cells")
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        return indptr, indices, spans

    def _array(self, block: int, name: str) -> RowArray:
        found = self._arrays.get((block, name))
        if found is None:  # two threads may both make it; either will do
            path = f"blocks/{block}/{name}"
            label = f"{path} of {self.entry.name}"
            layout = read_layout(self._metadata.get(path), ARRAYS[name], label)
            found = RowArray(self._storage, f"{self.entry.prefix}/{path}", layout, label)
            self._arrays[block, name] = found
        return found

    def _corrupt(self, block: int, wanted: str) -> Corrupt:
        return Corrupt(
            f"{wanted} are wanted, but got others in block {block} of {self.entry.name!r}; run "
            "verify, then build the graph again"
        )

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        return (
            f"<stored {self.kind} graph {self.entry.key!r} of {self.entry.section}: {shown}, "
            f"{self.n_obs:,} cells, {self.nnz:,} edges>"
        )


def open_graph(store: AtlasStore, key: str, section: str) -> StoredGraph:
    """Open a committed graph.

    Parameters
    ----------
    store : AtlasStore
        The atlas.
    key : str
        `key_added` of the build.
    section : str
        Name of the section.

    Returns
    -------
    StoredGraph

    Raises
    ------
    DerivedNotFound
        No such graph; the message offers near names.
    StaleDerived
        The section was replaced since; build the graph again.
    Corrupt, FormatUnsupported
    """
    entry = store.derived("graph", key, section)
    return StoredGraph(store.storage, store.section(section), entry)
