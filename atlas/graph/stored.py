"""Graphs on disk: one set of arrays per block of whole tiles, read by rows.

The layout is specified in `docs/format.md`; why it is so, in
`docs/decisions/002-graph-layout.md`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import codecs
from ..errors import Corrupt, FormatUnsupported, InvalidArgument
from ..quadtree import merge_runs
from ..section_shards import write_array, write_node
from .edges import Edges, check_runs
from .squidpy_form import to_squidpy

if TYPE_CHECKING:
    import scipy.sparse
    import zarr
    from numpy.typing import NDArray

    from ..quadtree import Runs
    from ..section import Section
    from ..snapshot import DerivedEntry
    from ..store import AtlasStore
    from .squidpy_form import SquidpyGraph

__all__ = ["GRAPH_FORMAT", "BlockReceipt", "StoredGraph", "open_graph", "seal_graph", "write_block"]

GRAPH_FORMAT = "1"
"""Version of the layout; readers refuse others."""

# Rows of one inner chunk: half a standard tile, so that a tile costs two or three chunks.
_CHUNK_ROWS = 2048
# Rows read for nothing to save a request; a run nearer than one chunk lies in it mostly anyway.
_GAP_ROWS = 1024


@dataclass(frozen=True, slots=True)
class BlockReceipt:
    """What a task says about the block it wrote."""

    block: int
    """Number of the block."""
    nnz: int
    """Edges in it."""


def write_block(folder: Path, block: int, edges: Edges) -> BlockReceipt:
    """Write the arrays of one block; tasks that write different blocks never share a file.

    Parameters
    ----------
    folder : Path
        The attempt.
    block : int
        Number of the block.
    edges : Edges
        Its rows. Distances are narrowed to float32, relative error 6e-8: positions give back the
        exact ones.
    """
    place = folder / "blocks" / str(block)
    rows, nnz = edges.indptr.size - 1, edges.indices.size
    write_node(place, _group({}))
    grid = codecs.element_grid(nnz, rows, 4, rows=_CHUNK_ROWS)
    write_array(place / "indices", edges.indices, grid)
    write_array(place / "distances", edges.distances.astype(np.float32), grid)
    write_array(place / "indptr", edges.indptr, codecs.row_grid(_CHUNK_ROWS, rows + 1, 8))
    return BlockReceipt(block, nnz)


def _group(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def seal_graph(folder: Path, attributes: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Write what is left once all blocks are there: groups, provenance, consolidated metadata."""
    write_node(folder / "blocks", _group({}))
    (folder / "provenance.json").write_text(
        json.dumps(provenance, indent=1, allow_nan=False), encoding="utf-8"
    )
    metadata = {
        path.parent.relative_to(folder).as_posix(): json.loads(path.read_bytes())
        for path in sorted(folder.rglob("zarr.json"))
    }
    root = _group({"tisseract": dict(attributes)})
    root["consolidated_metadata"] = {
        "kind": "inline",
        "must_understand": False,
        "metadata": metadata,
    }
    write_node(folder, root)


class StoredGraph:
    """A committed graph of one section, opened for reading; thread-safe.

    Element (i, j) is the distance from cell i to its neighbor j, float32; zero, and stored,
    where two cells share a position.

    Attributes
    ----------
    entry : DerivedEntry
        Its entry in the snapshot.
    kind : str
        knn or grid.
    parameters : mapping
        As asked for.
    facts : mapping
        As found out.
    distance_unit : str
        micrometers, source_units or rings.
    n_obs, nnz : int
        Cells and edges.
    """

    def __init__(self, section: Section, entry: DerivedEntry, group: zarr.Group) -> None:
        self._section = section
        self._group = group
        self.entry = entry
        attributes = _read_attributes(group, entry.name)
        self.kind: str = attributes["kind"]
        self.parameters: Mapping[str, Any] = attributes["parameters"]
        self.facts: Mapping[str, Any] = attributes["facts"]
        self.distance_unit: str = attributes["distance_unit"]
        self.n_obs: int = attributes["n_obs"]
        self.nnz: int = attributes["nnz"]
        self._row_ptr = np.asarray(attributes["row_ptr"], dtype=np.int64)
        if self.n_obs != section.n_obs or self._row_ptr[-1] != self.n_obs:
            raise Corrupt(
                f"a graph of {section.n_obs} cells is wanted, but got one of {self.n_obs} in "
                f"{entry.name!r}; run verify, then build it again"
            )

    @cached_property
    def _blocks(self) -> zarr.Group:
        blocks: Any = self._group["blocks"]
        return blocks  # type: ignore[no-any-return]

    def edges(self, runs: Runs) -> Edges:
        """Read the edges of some rows; distances float32."""
        runs = check_runs(runs, self.n_obs)
        parts: list[Edges] = []
        for b, inside in self._by_block(runs):
            parts.append(self._read_block(b, inside))
        return Edges.concatenate(parts)

    def rows(self, runs: Runs) -> scipy.sparse.csr_array:
        """Read the edges of some rows.

        Parameters
        ----------
        runs : sequence of (int, int)
            Ascending, disjoint row runs; m rows in all.

        Returns
        -------
        csr_array (m, n_obs) float32
            Columns ascend within a row.

        Raises
        ------
        InvalidArgument
            Runs out of order or outside of the section.
        Corrupt
            Columns outside of the section.
        """
        return self.edges(runs).to_csr(self.n_obs)

    def tile(self, tile: int) -> scipy.sparse.csr_array:
        """Read the edges of the cells of one tile, (cells of the tile, n_obs)."""
        tiles = self._section.tiles
        if not 0 <= tile < len(tiles):
            raise InvalidArgument(f"a tile, 0 to {len(tiles) - 1}, is wanted, but got {tile}")
        return self.rows(tiles.runs([tile]))

    def to_csr(self) -> scipy.sparse.csr_array:
        """Read the whole graph, (n_obs, n_obs); 8 bytes an edge, twice that at the end."""
        return self.rows([(0, self.n_obs)])

    def to_squidpy(self, *, set_diag: bool = False, key_added: str = "spatial") -> SquidpyGraph:
        """Read everything, in squidpy's form; see `NeighborGraph.to_squidpy`.

        Distances are float64 numbers of float32 precision.
        """
        n_neighs = {"hex": 6, "square": 4}.get(str(self.facts.get("lattice_found")))
        parameters = {**self.parameters, **({"n_neighs": n_neighs} if n_neighs else {})}
        edges = self.edges([(0, self.n_obs)])
        return to_squidpy(edges, self.kind, parameters, set_diag=set_diag, key_added=key_added)

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
        """Read rows of one block: near runs by one request, cut apart afterwards."""
        offset = int(self._row_ptr[block])
        parts: list[Edges] = []
        for start, stop in merge_runs(runs, max_gap=_GAP_ROWS):
            wanted = [(a, b) for a, b in runs if start <= a and b <= stop]
            indptr = self._array(block, "indptr", start - offset, stop - offset + 1)
            first, last = int(indptr[0]), int(indptr[-1])
            whole = Edges(
                indptr - first,
                self._array(block, "indices", first, last),
                self._array(block, "distances", first, last),
            )
            self._check(whole, block)
            parts.extend(_slice(whole, a - start, b - start) for a, b in wanted)
        return Edges.concatenate(parts)

    def _array(self, block: int, name: str, start: int, stop: int) -> NDArray[Any]:
        array: Any = self._blocks[f"{block}/{name}"]
        return np.asarray(array[start:stop])

    def _check(self, edges: Edges, block: int) -> None:
        # Compiled readers trust these numbers; a damaged or hostile file must stop here.
        bad = edges.indices.size and not (
            edges.indices.min() >= 0 and edges.indices.max() < self.n_obs
        )
        if bad or (np.diff(edges.indptr) < 0).any() or edges.indptr[-1] != edges.indices.size:
            raise Corrupt(
                f"rows and columns within {self.n_obs} cells are wanted, but got others in block "
                f"{block} of {self.entry.name!r}; run verify, then build the graph again"
            )

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        return (
            f"<stored {self.kind} graph {self.entry.key!r} of {self.entry.section}: {shown}, "
            f"{self.n_obs:,} cells, {self.nnz:,} edges>"
        )


def _slice(edges: Edges, start: int, stop: int) -> Edges:
    first, last = int(edges.indptr[start]), int(edges.indptr[stop])
    return Edges(
        edges.indptr[start : stop + 1] - first,
        edges.indices[first:last],
        edges.distances[first:last],
    )


def _read_attributes(group: zarr.Group, name: str) -> dict[str, Any]:
    attributes: Any = dict(group.attrs).get("tisseract")
    if not isinstance(attributes, dict) or "format" not in attributes:
        raise Corrupt(f"a graph is wanted, but got something else in {name!r}; run verify")
    if attributes["format"] != GRAPH_FORMAT:
        raise FormatUnsupported(
            f"a graph of format {GRAPH_FORMAT} is wanted, but got {attributes['format']!r} in "
            f"{name!r}; upgrade tisseract"
        )
    types = {
        "kind": str,
        "parameters": dict,
        "facts": dict,
        "distance_unit": str,
        "n_obs": int,
        "nnz": int,
        "row_ptr": list,
    }
    for field, kind in types.items():
        if not isinstance(attributes.get(field), kind):
            raise Corrupt(
                f"{field!r} as {kind.__name__} is wanted, but got {attributes.get(field)!r} in "
                f"{name!r}; run verify"
            )
    ptr = attributes["row_ptr"]
    ascending = all(isinstance(value, int) for value in ptr) and ptr == sorted(ptr)
    if len(ptr) < 2 or ptr[0] != 0 or not ascending:
        raise Corrupt(f"ascending row_ptr from 0 is wanted, but got others in {name!r}; run verify")
    return attributes


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
    return StoredGraph(store.section(section), entry, store.derived_group("graph", key, section))
