"""Committed graphs between sections: where they lie, and reading them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import Corrupt, InvalidArgument
from ...keys import check_name
from ..disk.stored import StoredGraph

if TYPE_CHECKING:
    from collections.abc import Mapping

    import scipy.sparse

    from ...quadtree import Runs
    from ...snapshot import DerivedEntry
    from ...store import AtlasStore
    from ..edges import Edges
    from ..row_choice import RowChoice

__all__ = ["Z_KIND", "StoredZGraph", "open_z_graph", "split_key", "stored_z_pairs", "z_key"]

Z_KIND = "zgraph"
"""Kind of derived data: `zgraph/<key>..<neighbor>/<section>`."""

# No name begins with a dot and no key ends with one, so the first two dots divide the two.
_DIVIDER = ".."


def z_key(key: str, neighbor: str) -> str:
    """Return the key under which the graph to one neighbor is kept.

    Rows belong to a section, as all derived data does; the neighbor is part of the key, so that
    every ordered pair is written, replaced and made stale by itself.

    Raises
    ------
    InvalidArgument
        A key with two dots in a row or a last dot, or both names together longer than a name.

    Examples
    --------
    >>> z_key("z", "E12_s04")
    'z..E12_s04'
    """
    check_name(key, "key")
    check_name(neighbor)
    if _DIVIDER in key or key.endswith("."):
        raise InvalidArgument(
            f"a key without two dots in a row and without a last dot is wanted, but got {key!r}"
        )
    return check_name(f"{key}{_DIVIDER}{neighbor}", "key")


def split_key(entry: DerivedEntry) -> tuple[str, str]:
    """Return the key under which a graph was built, and its neighbor: empty within a section.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> split_key(SimpleNamespace(kind="zgraph", key="z..E12_s04"))
    ('z', 'E12_s04')
    """
    if entry.kind != Z_KIND:
        return entry.key, ""
    key, _, neighbor = entry.key.partition(_DIVIDER)
    return key, neighbor


@dataclass(frozen=True, slots=True)
class StoredZGraph:
    """A committed graph from the cells of a section to those of a neighbor; thread-safe.

    Element (i, j) is the distance in space from cell i to its neighbor j, float32, micrometers;
    zero, and stored, where they share a position.
    """

    section: str
    """Name of the section with the rows."""
    neighbor: str
    """Name of the section with the columns."""
    graph: StoredGraph
    """The rows as stored."""

    @property
    def entry(self) -> DerivedEntry:
        """Its entry in the snapshot; `inputs` names the attempts of both sections."""
        return self.graph.entry

    @property
    def parameters(self) -> Mapping[str, object]:
        """Parameters as asked for, and the gap."""
        return self.graph.parameters

    @property
    def n_obs(self) -> int:
        """Number of rows."""
        return self.graph.n_obs

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return self.graph.n_columns

    @property
    def nnz(self) -> int:
        """Number of edges."""
        return self.graph.nnz

    @property
    def row_ptr(self) -> tuple[int, ...]:
        """Borders of the blocks."""
        return self.graph.row_ptr

    def edges(self, runs: Runs) -> Edges:
        """Read the edges of some rows; distances float32."""
        return self.graph.edges(runs)

    def rows(self, rows: RowChoice) -> scipy.sparse.csr_array:
        """Read the edges of some rows, (m, n_columns) float32; see `StoredGraph.rows`."""
        return self.graph.rows(rows)

    def to_csr(self) -> scipy.sparse.csr_array:
        """Read the whole graph, (n_obs, n_columns); 8 bytes an edge, twice that at the end."""
        return self.graph.to_csr()

    def __repr__(self) -> str:
        return (
            f"<stored {self.graph.kind} graph of {self.section} -> {self.neighbor}: "
            f"{self.n_obs:,} x {self.n_columns:,} cells, {self.nnz:,} edges>"
        )


def open_z_graph(store: AtlasStore, key: str, section: str, neighbor: str) -> StoredZGraph:
    """Open a committed graph between two sections.

    Parameters
    ----------
    store : AtlasStore
        The atlas.
    key : str
        Key of the build.
    section, neighbor : str
        Names of the sections with the rows and the columns.

    Returns
    -------
    StoredZGraph

    Raises
    ------
    DerivedNotFound
        No such graph.
    StaleDerived
        One of the sections was replaced since; build the graph again.
    Corrupt, FormatUnsupported
    """
    entry = store.derived(Z_KIND, z_key(key, neighbor), section)
    graph = StoredGraph(store.storage, store.section(section), entry)
    wanted = store.section(neighbor).n_obs
    if graph.n_columns != wanted:
        raise Corrupt(
            f"a graph to {wanted} cells is wanted, but got one to {graph.n_columns} in "
            f"{entry.name!r}; run verify, then build it again"
        )
    return StoredZGraph(section, neighbor, graph)


def stored_z_pairs(store: AtlasStore, key: str) -> list[tuple[str, str]]:
    """List the pairs of sections that have a graph of a key, stale ones included, sorted."""
    return sorted(
        (entry.section, neighbor)
        for entry in store.snapshot.derived.values()
        if entry.kind == Z_KIND
        for found, neighbor in [split_key(entry)]
        if found == key
    )
