"""Which domains lie beside which: edges of a stored graph between labels, against chance."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...atlas.errors import InvalidArgument
from ...atlas.graph import open_graph
from ...atlas.spatial_statistics import neighborhood_enrichment
from ..filters.columns import Columns
from ..filters.masks import select_masks
from .labelled import labelled_sections
from .masks import cells_taking_part

if TYPE_CHECKING:
    import pandas as pd

    from ...atlas.graph.disk.stored import StoredGraph
    from .view import DomainView

__all__ = ["adjacency_table"]


def adjacency_table(
    view: "DomainView",
    graph: str,
    *,
    where: str | None,
    all_cells: bool,
    memory_limit: str | int | None,
) -> "pd.DataFrame":
    """Count edges between domains; see `DomainView.adjacency`."""
    store = view.store
    masks = cells_taking_part(store, view.sections, where, all_cells=all_cells)
    graphs = [open_graph(store, graph, name) for name in view.sections]
    cells = [
        _both(_kept(view, one), None if masks is None else masks[name])
        for one, name in zip(graphs, view.sections, strict=True)
    ]
    spelled = f"domains:{view.key}"
    Columns(store).resolve(spelled)
    found = neighborhood_enrichment(
        graphs,
        labelled_sections(store, list(view.sections), spelled),
        spelled,
        n_perms=None,
        cells=cells,
        memory_limit=memory_limit,
    )
    table = found.to_frame().rename(columns={"label": "domain", "count": "observed"})
    table["ratio"] = np.divide(
        table["observed"],
        table["expected"],
        out=np.full(len(table), np.nan),
        where=table["expected"].to_numpy() > 0,
    )
    out = table[["domain", "neighbor", "observed", "expected", "ratio", "zscore"]]
    out.attrs = {
        "key": view.key,
        "graph": graph,
        "n_obs": found.n_obs,
        "where": where,
        "snapshot": store.snapshot.number,
        "units": {"observed": "directed edges", "expected": "mean over all shuffles in sections"},
    }
    return out


def _both(
    one: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None
) -> NDArray[np.bool_] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _kept(view: "DomainView", graph: "StoredGraph") -> "NDArray[np.bool_] | None":
    """Find the cells that a graph was restricted to; None where it was not."""
    parameters: Any = graph.parameters
    if parameters.get("mask") is None:
        return None
    name = graph.entry.section
    if parameters.get("where") is None:
        raise InvalidArgument(
            f"a graph whose cells are known is wanted, but {graph.entry.key!r} of section {name!r} "
            "was restricted by a mask without a filter; build it again with where="
        )
    return select_masks(view.store, str(parameters["where"]), [name])[name]
