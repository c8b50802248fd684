"""How spatial a gene is, and which genes lie where it lies: section by section, streamed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...atlas.errors import DerivedNotFound, InvalidArgument, SectionNotFound
from ..exports.graph_cells import kept_cells
from .taking_part import cells_of, enough, n_kept, require_some, together

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ...atlas.graph import StoredGraph
    from ...atlas.section import Section
    from ...atlas.spatial_statistics import RowGraph
    from ...atlas.store import AtlasStore
    from .view import GeneView

__all__ = [
    "Normalize",
    "coexpression",
    "gene_variability",
    "graph_of",
    "measured",
    "spatially_variable",
    "with_graph",
]

METHODS = ("sparkx", "moran")

type Normalize = Literal["log1p"] | None


def graph_of(
    store: AtlasStore, section: str, key: str, radius: float | None
) -> tuple[RowGraph, NDArray[np.bool_] | None]:
    """Open the stored graph of a section, or one of all cells up to a distance; and its cells.

    Raises
    ------
    DerivedNotFound, StaleDerived, InvalidArgument
    """
    if radius is not None:
        from ...atlas.graph import radius as radius_graph

        return radius_graph(store, section, radius=radius), None
    from ...atlas.graph import open_graph

    stored: StoredGraph = open_graph(store, key, section)
    return stored, kept_cells(store, stored)


def with_graph(store: AtlasStore, names: Sequence[str], key: str) -> list[str]:
    """Sections, of some, that have a graph.

    Raises
    ------
    DerivedNotFound
        None has one.
    """
    having = set(store.derived_keys("graph").get(key, ()))
    found = [name for name in names if name in having]
    if not found:
        raise DerivedNotFound(
            f"a section with graph {key!r} is wanted, but got none; build it with "
            "`tisseract graph`, or pass radius="
        )
    return found


def gene_variability(
    view: GeneView,
    sections: str | Sequence[str] | None,
    *,
    key: str,
    radius: float | None,
    normalize: Normalize,
    where: str | None,
    all_cells: bool,
    memory_limit: str | int | None,
) -> pd.DataFrame:
    """Build the table of `GeneView.variability`."""
    import pandas as pd

    from ...atlas.spatial_statistics import spark_x, spatial_autocorrelation

    names = measured(view, sections)
    having = names if radius is not None else set(view.store.derived_keys("graph").get(key, ()))
    rows: list[dict[str, Any]] = []
    for name in names:
        section = view.store.section(name)
        own = [str(section.panel.name[view.column(name)])]
        kept = cells_of(view.store, name, where, all_cells=all_cells)
        row: dict[str, Any] = {"section": name, "n": n_kept(section, kept)}
        rows.append(row)
        if not enough(kept):
            continue
        test = spark_x(section, own, normalize=normalize, cells=kept, memory_limit=memory_limit)
        row["pval_sparkx"] = float(test.combined[0])
        if name in having:
            graph, cells = graph_of(view.store, name, key, radius)
            moran = spatial_autocorrelation(
                graph,
                section,
                own,
                cells=together(kept, cells),
                normalize=normalize,
                memory_limit=memory_limit,
            )
            row |= {"I": float(moran.statistic[0]), "pval_norm": float(moran.pval_norm[0])}
    table = pd.DataFrame(rows, columns=["section", "n", "I", "pval_norm", "pval_sparkx"])
    table = table.astype(dict.fromkeys(("I", "pval_norm", "pval_sparkx"), float))
    lacking = [name for name in names if name not in having]
    table.attrs = {
        "gene": view.gene_id,
        "snapshot": view.store.snapshot.number,
        "graph": key if radius is None else f"radius {radius:g}",
        "note": f"no graph {key!r}, so no I: {', '.join(lacking)}" if lacking else "",
    }
    return table


def measured(view: GeneView, sections: str | Sequence[str] | None) -> list[str]:
    """Sections to look at: those named, which must have measured the gene, else all that did."""
    if sections is None:
        return view.measured_in
    names = [sections] if isinstance(sections, str) else list(sections)
    for name in names:
        view.column(name)  # raises
    return names


def spatially_variable(
    store: AtlasStore,
    genes: str | Sequence[str] | None = None,
    *,
    sections: str | Sequence[str] | None = None,
    method: Literal["sparkx", "moran"] = "sparkx",
    key: str = "spatial",
    radius: float | None = None,
    normalize: Normalize = None,
    where: str | None = None,
    all_cells: bool = False,
    memory_limit: str | int | None = None,
) -> pd.DataFrame:
    """Rank genes by how much they depend on place, section by section.

    Parameters
    ----------
    store
        The atlas.
    genes
        Names; all of a section without.
    sections
        Names; all without (for `moran`: all that have the graph).
    method
        `sparkx`: dependence on the coordinates, without a graph (Zhu, Sun and Zhou 2021); `moran`:
        Moran's I over a graph, as squidpy defines it.
    key, radius
        Stored graph, or one of all cells up to a distance in micrometers; for `moran`.
    normalize
        Values as stored (as both papers have it: counts), or `log1p`.
    where
        Filter string: only these cells, and the edges between them. Default: cells that pass
        quality control (`qc_pass`, in sections that have it).
    all_cells
        Every cell.
    memory_limit
        Of one section.

    Returns
    -------
    DataFrame
        `section`, `gene` (symbol where known), `gene_id`, the columns of `SparkX.to_frame` or
        `Autocorrelation.to_frame`, and `rank` from 1 within the section; `attrs["n"]` has the
        cells that took part in each section. A section with fewer than three is left out.

    Raises
    ------
    SectionNotFound, GeneNotFound, DerivedNotFound, StaleDerived, InvalidArgument, BudgetExceeded
    """
    import pandas as pd

    from ...atlas.spatial_statistics import spark_x, spatial_autocorrelation

    if method not in METHODS:
        raise InvalidArgument(f"method= one of {', '.join(METHODS)} is wanted, but got {method!r}")
    names = store.section_names if sections is None else sections
    names = [names] if isinstance(names, str) else list(names)
    if method == "moran" and radius is None and sections is None:
        names = with_graph(store, names, key)
    parts: list[pd.DataFrame] = []
    taken: dict[str, int] = {}
    for name in names:
        section = store.section(name)
        kept = cells_of(store, name, where, all_cells=all_cells)
        if not enough(kept):
            continue
        how: dict[str, Any] = {"normalize": normalize, "memory_limit": memory_limit}
        if method == "sparkx":
            frame = spark_x(section, genes, cells=kept, **how).to_frame()
        else:
            graph, cells = graph_of(store, name, key, radius)
            kept = together(kept, cells)
            frame = spatial_autocorrelation(graph, section, genes, cells=kept, **how).to_frame()
        taken[name] = n_kept(section, kept)
        parts.append(_ranked(section, frame))
    if not names:
        raise SectionNotFound("one or more sections are wanted, but got none")
    require_some(list(taken), names)
    table = pd.concat(parts, ignore_index=True)
    table.attrs = {"snapshot": store.snapshot.number, "n": taken}
    return table


def _ranked(section: Section, frame: pd.DataFrame) -> pd.DataFrame:
    """Name the genes of a section's table, best first, by symbol and identifier."""
    panel = section.panel
    place = {str(name): number for number, name in enumerate(panel.name)}
    rows = np.array([place[name] for name in frame.index], np.int64)
    symbol = np.where(panel.symbol == "", panel.name, panel.symbol).astype(str)
    frame = frame.reset_index(drop=True)
    frame.insert(0, "section", section.name)
    frame.insert(1, "gene", symbol[rows])
    frame.insert(2, "gene_id", panel.gene_id.astype(str)[rows])
    return frame.assign(rank=np.arange(1, len(frame) + 1))


def coexpression(
    selection: Any,
    genes: Sequence[str],
    *,
    key: str = "spatial",
    radius: float | None = None,
    normalize: Normalize = "log1p",
    where: str | None = None,
    all_cells: bool = False,
    memory_limit: str | int | None = None,
) -> pd.DataFrame:
    """Compare where some genes lie, all pairs of them, over the cells of a selection.

    Parameters
    ----------
    selection
        Cells, such as `atlas.query(domain="CA1")`; edges to others are left out.
    genes
        Two names or more.
    key, radius
        Stored graph, or one of all cells up to a distance in micrometers.
    normalize
        `log1p`, or None for values as stored.
    where
        Filter string: only these cells of the selection. Default: those that pass quality control
        (`qc_pass`, in sections that have it), unless the selection's own filter speaks of it.
    all_cells
        Every cell of the selection.
    memory_limit
        Refuse above it; 24 bytes a cell of a section and gene.

    Returns
    -------
    DataFrame
        One row a section and ordered pair: `section`, `gene`, `neighbor`, `L` (Lee's), `I`
        (bivariate Moran's: gene of a cell with the other of its neighbors), `r` (Pearson), `n`
        (cells). Sections that did not measure both have no row.

    Raises
    ------
    GeneNotFound, DerivedNotFound, StaleDerived, InvalidArgument, BudgetExceeded
    """
    import pandas as pd

    from ...atlas.spatial_statistics import pair_statistics
    from ..cells.rows import rows_of
    from ..labels.taking_part import narrowed
    from .choice import choose_genes

    asked = [genes] if isinstance(genes, str) else list(genes)
    if len(asked) < 2:
        raise InvalidArgument(f"two genes or more are wanted, but got {len(asked)}")
    store = selection.store
    selection = narrowed(selection, where, all_cells=all_cells)
    choice = choose_genes(store, list(selection.runs), asked)
    records: list[pd.DataFrame] = []
    for section, runs in selection.parts():
        known = np.flatnonzero(choice.measured[section.name])
        if known.size < 2:
            continue
        graph, cells = graph_of(store, section.name, key, radius)
        kept = np.zeros(section.n_obs, bool)
        kept[rows_of(runs)] = True
        found = pair_statistics(
            graph,
            section,
            choice.columns[section.name][known],
            normalize=normalize,
            cells=kept if cells is None else kept & cells,
            memory_limit=memory_limit,
        )
        records.append(_pairs(section, choice.name[known].astype(str), found))
    columns = ["section", "gene", "neighbor", "L", "I", "r", "n"]
    return pd.concat(records, ignore_index=True) if records else pd.DataFrame(columns=columns)


def _pairs(section: Section, names: NDArray[np.str_], found: Any) -> pd.DataFrame:
    import pandas as pd

    a, b = np.nonzero(~np.eye(len(names), dtype=bool))
    return pd.DataFrame(
        {
            "section": section.name,
            "gene": names[a],
            "neighbor": names[b],
            "L": found.lee[a, b],
            "I": found.moran[a, b],
            "r": found.pearson[a, b],
            "n": found.n_obs,
        }
    )
