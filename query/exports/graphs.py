"""The part of committed graphs that joins the cells of an answer, in squidpy's form."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ...atlas.errors import InvalidArgument
from ...atlas.graph.disk.stored import open_graph
from ...atlas.graph.edges import Edges
from ...atlas.graph.interchange.squidpy_form import to_squidpy
from ..cells.rows import RunArray, count, pairs_of, rows_of

if TYPE_CHECKING:
    from ...atlas.graph.interchange.squidpy_form import SquidpyGraph
    from ...atlas.graph.spec import GraphSpec
    from ..cells.selection import Selection

__all__ = ["graph_bytes", "selected_graph"]

# Edges as read, with new columns, and both matrices.
_EDGE_BYTES = 64


def graph_bytes(selection: "Selection", key: str) -> int:
    """Estimate the memory that `selected_graph` takes, from the catalog.

    Raises
    ------
    DerivedNotFound, StaleDerived
        Some section has no such graph.
    """
    total = 0
    for name, runs in selection.runs.items():
        entry = selection.store.derived("graph", key, name)
        share = count(runs) / max(1, int(entry.info["n_obs"]))
        total += int(share * int(entry.info["nnz"]) * _EDGE_BYTES)
    return total


def selected_graph(selection: "Selection", key: str) -> "SquidpyGraph":
    """Read the edges between the cells of an answer, section by section.

    Parameters
    ----------
    selection
        The answer.
    key
        Name of the graphs.

    Returns
    -------
    SquidpyGraph
        (n, n) matrices, rows and columns in the order of the answer; edges to other cells are
        left out. A transform is applied to what is left.

    Raises
    ------
    DerivedNotFound, StaleDerived
        Some section has no such graph, or was replaced since.
    InvalidArgument
        The sections have graphs of different kinds or parameters under this name.
    """
    parts: list[Edges] = []
    spec: GraphSpec | None = None
    facts: dict[str, Any] = {}
    before = 0
    for section, runs in selection.parts():
        graph = open_graph(selection.store, key, section.name)
        if spec is not None and graph.spec != spec:
            raise InvalidArgument(
                f"one graph for all sections is wanted, but got {key!r} as {spec} and as "
                f"{graph.spec} in section {section.name!r}; narrow the query or build it again"
            )
        spec = graph.spec
        facts = facts or dict(graph.facts)
        parts.append(_inside(graph.edges(pairs_of(runs)), runs, section.n_obs, before))
        before += count(runs)
    if spec is None:
        raise InvalidArgument(f"cells with a graph {key!r} are wanted, but the query finds no cell")
    return to_squidpy(Edges.concatenate(parts), spec, facts, key_added=key)


def _inside(edges: Edges, runs: RunArray, n_obs: int, before: int) -> Edges:
    """Keep the edges between the rows of some runs, numbered from `before`."""
    place = np.full(n_obs, -1, dtype=np.int32)
    rows = rows_of(runs)
    place[rows] = np.arange(before, before + rows.size, dtype=np.int32)
    columns = place[edges.indices]
    kept = columns >= 0
    so_far = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept, dtype=np.int64)])
    return Edges(so_far[edges.indptr], columns[kept], edges.distances[kept])
